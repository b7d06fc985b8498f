//! Puts the sources of the guest SDK into the binary, so that `retag rule init` works on any machine.
//!
//! Writes a table (path, text) of `guest-sdk`, without its tests, and the workspace's manifest and lock file.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let var = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name));
    let host = var("CARGO_MANIFEST_DIR")?;
    let root = host.parent().ok_or_else(|| io::Error::other("the host crate has no parent folder"))?;
    let sdk = root.join("guest-sdk");
    println!("cargo:rerun-if-changed={}", sdk.display());
    let mut files = vec![root.join("Cargo.toml"), root.join("Cargo.lock")];
    collect(&sdk, &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
        let name = file.strip_prefix(root).unwrap_or(&file);
        let name = name.to_string_lossy().replace('\\', "/");
        writeln!(table, "    ({name:?}, include_str!({:?})),", file.display().to_string())
            .map_err(io::Error::other)?;
    }
    table.push_str("]\n");
    fs::write(var("OUT_DIR")?.join("sdk_sources.rs"), table)
}

/// Sources and manifests below `folder`; no tests, no build results.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let wanted = path.extension().is_some_and(|ext| ext == "rs" || ext == "toml" || ext == "md");
        if path.is_dir() && !matches!(name, "tests" | "target" | ".git") {
            collect(&path, files)?;
        } else if path.is_file() && wanted {
            files.push(path);
        }
    }
    Ok(())
}
