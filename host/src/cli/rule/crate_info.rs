//! What cargo says of a rule crate: name, folders, where results go. Calls cargo; says what to install where that fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// Target that rules are built for.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// A rule crate.
pub(super) struct CrateInfo {
    pub(super) name: String,
    /// Folder of its Cargo.toml.
    pub(super) folder: PathBuf,
    pub(super) workspace_root: PathBuf,
    pub(super) target_dir: PathBuf,
    /// Name with version, and folder, of this package and all that it may need; outer folders first.
    pub(super) packages: Vec<(String, PathBuf)>,
}

impl CrateInfo {
    /// Asks cargo for the crate in `folder`.
    pub(super) fn of(folder: &Path) -> anyhow::Result<Self> {
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            bail!(
                "{} is no rule crate: it has no Cargo.toml. `retag rule init NAME` writes one",
                folder.display()
            );
        }
        let manifest = manifest.canonicalize()?;
        let output = cargo()
            .current_dir(manifest.parent().unwrap_or(folder))
            .args(["metadata", "--format-version", "1", "--filter-platform", TARGET, "--manifest-path"])
            .arg(&manifest)
            .output()
            .context(CARGO_MISSING)?;
        if !output.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let packages = metadata.get("packages").and_then(Value::as_array);
        let of_manifest = |package: &&Value| {
            package
                .get("manifest_path")
                .and_then(Value::as_str)
                .is_some_and(|path| Path::new(path) == manifest)
        };
        let package = packages.and_then(|all| all.iter().find(of_manifest));
        let name = package.and_then(|package| package.get("name")).and_then(text);
        let path = |key: &str| metadata.get(key).and_then(text).map(PathBuf::from);
        let (Some(name), Some(workspace_root), Some(target_dir), Some(folder)) =
            (name, path("workspace_root"), path("target_directory"), manifest.parent())
        else {
            bail!("{} is a workspace, not a rule crate: name the rule's own folder", manifest.display());
        };
        let named = |package: &Value| {
            let place = Path::new(package.get("manifest_path")?.as_str()?).parent()?;
            let of = |key: &str| package.get(key).and_then(text);
            Some((format!("{}-{}", of("name")?, of("version")?), place.to_owned()))
        };
        let mut packages: Vec<_> = packages.into_iter().flatten().filter_map(named).collect();
        packages.sort_by_key(|(_, place)| place.components().count());
        Ok(Self { name, folder: folder.to_owned(), workspace_root, target_dir, packages })
    }
}

const CARGO_MISSING: &str = "cargo cannot be started: install Rust from https://rustup.rs, then try again";

/// A call of cargo without the flags of whoever called us.
pub(super) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        command.env_remove(name);
    }
    command
}

/// What rustc prints for `--print what`.
pub(super) fn rustc_print(what: &str) -> anyhow::Result<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", what, "--target", TARGET])
        .output()
        .context("rustc cannot be started: install Rust from https://rustup.rs, then try again")?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Refuses where the Wasm target is not installed.
pub(super) fn require_target() -> anyhow::Result<()> {
    if rustc_print("target-libdir")?.is_dir() {
        return Ok(());
    }
    bail!("the target {TARGET} is not installed: run `rustup target add {TARGET}`, then try again")
}
