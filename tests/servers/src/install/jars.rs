//! Jars from Maven's central repository, by Maven itself, each held against its checksum.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use super::need;
use crate::process::output;

const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// What a pom asks for, and what must come of it.
pub(super) struct Jars {
    pub(super) pom: &'static str,
    /// Lines of `sha256sum`.
    pub(super) sums: &'static str,
}

impl Jars {
    /// Brings all jars into `folder`.
    pub(super) fn fetch(&self, folder: &Path) -> Result<()> {
        need(Path::new("mvn"), "--version", "Maven 3 (`mvn`)")?;
        let project = tempfile::tempdir()?;
        std::fs::write(project.path().join("pom.xml"), self.pom)?;
        let mut maven = Command::new("mvn");
        maven.current_dir(project.path()).args(["-q", "-B", COPY, "-DincludeScope=runtime"]);
        maven.arg(format!("-DoutputDirectory={}", folder.display()));
        output(&mut maven).context("fetch jars")?;
        self.check(folder)
    }

    /// Holds the files of `folder` against the list: no other, no fewer, no byte changed.
    pub(super) fn check(&self, folder: &Path) -> Result<()> {
        let listed: BTreeMap<&str, &str> = self
            .sums
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(sum, name)| (name, sum))
            .collect();
        let mut found = 0;
        for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(wanted) = listed.get(&*name) else { bail!("{name} is not on the list of jars") };
            let sum = sha256(&path)?;
            if sum != *wanted {
                bail!("{name} has checksum {sum}, not {wanted}");
            }
            found += 1;
        }
        if found < listed.len() {
            bail!("{found} of {} jars are there", listed.len());
        }
        Ok(())
    }
}

fn sha256(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::Jars;

    #[test]
    fn a_changed_a_missing_and_a_further_file_are_told_of() {
        let sums = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a.jar\n\
            e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b.jar\n";
        let jars = Jars { pom: "", sums };
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let error = || jars.check(folder.path()).unwrap_err().to_string();
        write("a.jar", "abc");
        assert_eq!(error(), "1 of 2 jars are there");
        write("b.jar", "");
        jars.check(folder.path()).unwrap();
        write("b.jar", "x");
        assert!(error().starts_with("b.jar has checksum 2d711642"), "{}", error());
        write("b.jar", "");
        write("c.jar", "");
        assert_eq!(error(), "c.jar is not on the list of jars");
    }
}
