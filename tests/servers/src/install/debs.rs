//! Packages of Debian and Ubuntu, fetched by `apt-get` and unpacked into a folder: nothing is installed into the system.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::need;
use crate::cache;
use crate::process::output;

/// Where unpacked programs find their libraries.
pub(crate) fn libraries(root: &Path) -> PathBuf {
    root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH))
}

/// Fetches packages and unpacks them into `root`. A name may have alternatives, `a|b`: the first that the system knows.
pub(super) fn fetch(packages: &[&str], root: &Path) -> Result<()> {
    need(Path::new("apt-get"), "--version", "`apt-get`, as Debian and Ubuntu have it")?;
    need(Path::new("dpkg"), "--version", "`dpkg`, as Debian and Ubuntu have it")?;
    let folder = tempfile::tempdir()?;
    if download(packages, folder.path(), &[]).is_err() {
        // The system's lists are old or empty, and may not be ours to renew: lists of our own, then.
        let lists = cache::root()?.join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(lists.join(part))?;
        }
        let own = [
            format!("-oDir::State::lists={}", lists.join("lists").display()),
            format!("-oDir::Cache={}", lists.join("cache").display()),
        ];
        output(Command::new("apt-get").args(&own).args(["-q", "update"]))
            .context("update lists of packages")?;
        download(packages, folder.path(), &own)?;
    }
    let mut unpacked = 0;
    for entry in std::fs::read_dir(folder.path())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg").arg("-x").arg(&path).arg(root))?;
            unpacked += 1;
        }
    }
    ensure!(unpacked >= packages.len(), "{unpacked} of {} packages came", packages.len());
    Ok(())
}

fn download(packages: &[&str], folder: &Path, own: &[String]) -> Result<()> {
    for package in packages {
        let mut errors = Vec::new();
        let came = package.split('|').any(|name| {
            let mut command = Command::new("apt-get");
            command.args(own).args(["-q", "download", name]).current_dir(folder);
            output(&mut command).map_err(|error| errors.push(format!("{error:#}"))).is_ok()
        });
        if !came {
            bail!("package {package} cannot be had: {}", errors.join("; "));
        }
    }
    Ok(())
}
