//! Folders of servers: temporary ones, and copies of what an installation holds ready.

use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A folder for the data of one server, removed with its value.
pub(crate) fn temporary(name: &str) -> Result<TempDir> {
    tempfile::Builder::new().prefix(&format!("retag-{name}-")).tempdir().context("make a temporary folder")
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).with_context(|| format!("copy {}", target.display()))?;
        }
    }
    Ok(())
}
