//! What must be there before anything runs: the wasm32 target and the example rules as `.wasm` files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{binary, cargo, output, root, run};

/// The target that rules are built for.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Installs the wasm32 target unless it is there.
///
/// # Errors
/// It is not there and `rustup` cannot bring it.
pub(crate) fn wasm_target() -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libraries = output(Command::new(rustc).args(["--print", "target-libdir", "--target", WASM_TARGET]));
    if libraries.is_ok_and(|dir| std::path::Path::new(dir.trim()).is_dir()) {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", WASM_TARGET])).with_context(|| {
        format!("rules need Rust's {WASM_TARGET} target: install it with rustup or your system's packages")
    })
}

/// Folders of the example rules, in order of their names.
///
/// # Errors
/// There is none.
pub(crate) fn rule_dirs() -> Result<Vec<PathBuf>> {
    let dir = root().join("rules");
    let mut rules = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            rules.push(path);
        }
    }
    rules.sort();
    if rules.is_empty() {
        bail!("no rules in {}", dir.display());
    }
    Ok(rules)
}

/// Builds each example rule to `rules/NAME/NAME.wasm` with the host of the dev profile, which is built first.
///
/// # Errors
/// A build failed, or left no file.
pub(crate) fn rules() -> Result<()> {
    run(&mut cargo(["build", "--quiet", "-p", "retag-host"]))?;
    rules_by(&binary("debug", "retag"))
}

/// The same with a host that is there.
///
/// # Errors
/// As of [`rules`].
pub(crate) fn rules_by(retag: &Path) -> Result<()> {
    for dir in rule_dirs()? {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new(retag);
        run(command.args(["rule", "build"]).arg(format!("rules/{name}")).current_dir(root()))?;
        let file = dir.join(format!("{name}.wasm"));
        if !file.is_file() {
            bail!("`rule build` left no {}", file.display());
        }
    }
    Ok(())
}
