//! Installs servers into the cache and checks what is there. The system itself is left as it is; nothing needs its
//! administrator.
//!
//! What comes from Maven is held against checksums that are written down here. What comes from the system's own packages is
//! checked by its package manager against the signed index of its archive, and moves with the archive.

pub(crate) mod debs;
mod jars;
mod recipes;

use std::path::Path;

use anyhow::{Context, Result};

use crate::cache::{self, Server};
use crate::kafka::Kafka;

/// What an installation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    Present,
    /// It was installed just now.
    Installed,
}

/// Installs a server unless it is there. Several processes may ask for the same one at once.
///
/// # Errors
/// A tool that is needed is not there, a package cannot be had, a checksum differs, or what was installed does not start.
pub fn install(server: Server) -> Result<Outcome> {
    let folder = server.folder()?;
    if folder.is_dir() {
        return Ok(Outcome::Present);
    }
    let root = cache::root()?;
    std::fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
    // One at a time; the one that waited finds it done.
    let lock = std::fs::File::create(root.join(format!("{}.lock", server.name())))?;
    lock.lock().with_context(|| format!("lock the installation of {}", server.name()))?;
    if folder.is_dir() {
        return Ok(Outcome::Present);
    }
    // What a broken-off installation left: whoever made it does not hold the lock any more.
    let prefix = format!("staging-{}-", server.name());
    for entry in std::fs::read_dir(&root)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    let staging = tempfile::Builder::new().prefix(&prefix).tempdir_in(&root)?;
    // Its folder has to be readable as any other, which a temporary one is not.
    let content = staging.path().join("content");
    std::fs::create_dir(&content)?;
    recipes::fill(server, &content)?;
    recipes::check(server, &content).with_context(|| format!("what was installed of {}", server.name()))?;
    std::fs::rename(&content, &folder).with_context(|| format!("move into {}", folder.display()))?;
    if server == Server::Kafka {
        // In its place, since the archive holds paths. Without it brokers only start more slowly.
        let _ = Kafka::archive_classes(&folder);
    }
    Ok(Outcome::Installed)
}

/// Checks what is installed; the version that it says it has.
///
/// # Errors
/// It is not installed, a checksum differs, or a program does not start.
pub fn check(server: Server) -> Result<String> {
    let folder = server.installed()?;
    let checked = recipes::check(server, &folder);
    checked.with_context(|| {
        format!("{} is broken: remove {} and install it again", server.name(), folder.display())
    })
}

/// Whether a program can be run.
fn need(program: &Path, argument: &str, what: &str) -> Result<()> {
    let mut command = std::process::Command::new(program);
    crate::process::output(command.arg(argument)).with_context(|| format!("needed: {what}"))?;
    Ok(())
}
