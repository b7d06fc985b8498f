//! `dist`: one tarball with everything that a machine needs to run Retag, made from a release build with Kafka and TLS.
//!
//! `dist/` holds what is not made here: the systemd unit, the configuration to begin with, `Dockerfile` and `compose.yaml`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{binary, cargo, output, root, run as run_command, target_dir};
use crate::ready;

/// Files as they lie in the repository → in the tarball.
const COPIED: [(&str, &str); 9] = [
    ("dist/Dockerfile", "Dockerfile"),
    ("dist/compose.yaml", "compose.yaml"),
    ("dist/retag.toml", "share/retag/retag.toml"),
    ("dist/retag.service", "lib/systemd/system/retag.service"),
    ("README.md", "share/doc/retag/README.md"),
    ("CHANGELOG.md", "share/doc/retag/CHANGELOG.md"),
    ("LICENSE", "share/doc/retag/LICENSE"),
    ("guest-sdk/ABI.md", "share/doc/retag/guest-sdk/ABI.md"),
    ("ARCHITECTURE.md", "share/doc/retag/ARCHITECTURE.md"),
];
/// Shells, and where each looks for a completion script.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/retag"),
    ("zsh", "share/zsh/site-functions/_retag"),
    ("fish", "share/fish/vendor_completions.d/retag.fish"),
];
const USAGE: &str = "usage: cargo xtask dist [--dev]";

/// Builds and packs. `--dev` packs the binary of the dev profile, to try the packing.
///
/// # Errors
/// It does not build, or a file cannot be written.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let is_dev = match arguments {
        [] => false,
        [option] if option == "--dev" => true,
        _ => bail!("{USAGE}"),
    };
    ready::wasm_target()?;
    if !is_dev {
        run_command(&mut cargo(["build", "--release", "-p", "retag-host", "--features", "kafka-tls"]))?;
    }
    let retag = binary(if is_dev { "debug" } else { "release" }, "retag");
    let name = format!("retag-{}-{}", env!("CARGO_PKG_VERSION"), host_target()?);
    let dist = target_dir().join("dist");
    let folder = dist.join(&name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    assemble(&retag, &folder, is_dev)?;
    let archive = dist.join(format!("{name}.tar.gz"));
    // The same files give the same archive.
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]);
    tar.args(["-I", "gzip -n", "-cf"]).arg(&archive).arg("-C").arg(&dist).arg(&name);
    run_command(&mut tar)?;
    let sum =
        output(Command::new("sha256sum").arg(archive.file_name().unwrap_or_default()).current_dir(&dist))?;
    std::fs::write(archive.with_extension("gz.sha256"), &sum)?;
    let size = archive.metadata()?.len();
    println!(
        "\n{}: {:.1} MB, sha256 {}\n
as a service:
  sudo tar xzf {name}.tar.gz -C /usr/local --strip-components=1
  sudo install -D /usr/local/share/retag/retag.toml /etc/retag/retag.toml    # the first time; then edit it
  sudo systemctl enable --now /usr/local/lib/systemd/system/retag.service
as an image:
  docker build -t retag {}",
        archive.display(),
        size as f64 / 1e6,
        sum.split_whitespace().next().unwrap_or_default(),
        folder.display()
    );
    Ok(())
}

fn assemble(retag: &Path, folder: &Path, is_dev: bool) -> Result<()> {
    let program = place(folder, "bin/retag")?;
    copy(retag, &program)?;
    if !is_dev {
        run_command(Command::new("strip").arg("--strip-debug").arg(&program))?;
    }
    for (from, to) in COPIED {
        copy(&root().join(from), &place(folder, to)?)?;
    }
    for pages in ["docs", "docs/decisions"] {
        for page in std::fs::read_dir(root().join(pages))? {
            let page = page?.path();
            let name = page.file_name().unwrap_or_default().to_string_lossy();
            if page.is_file() {
                copy(&page, &place(folder, &format!("share/doc/retag/{pages}/{name}"))?)?;
            }
        }
    }
    for (shell, to) in COMPLETIONS {
        let script = output(Command::new(&program).args(["completions", shell]))?;
        std::fs::write(place(folder, to)?, script)?;
    }
    run_command(Command::new(&program).arg("man").arg(folder.join("share/man/man1")))?;
    for dir in ready::rule_dirs()? {
        let rule = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let to = place(folder, &format!("share/retag/rules/{rule}.wasm"))?;
        run_command(Command::new(&program).args(["rule", "build"]).arg(&dir).arg("-o").arg(to))?;
    }
    Ok(())
}

/// A path in the folder, whose own folder is there.
fn place(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    Ok(path)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(drop).with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

/// What the compiler builds for, as `x86_64-unknown-linux-gnu`.
fn host_target() -> Result<String> {
    let told = output(Command::new("rustc").arg("-vV"))?;
    let line = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc does not say for what it builds")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{COPIED, run};
    use crate::process::root;

    #[test]
    fn what_is_packed_is_there() {
        for (from, _) in COPIED {
            assert!(root().join(from).is_file(), "{from}");
        }
        assert!(run(&["--fast".to_owned()]).unwrap_err().to_string().starts_with("usage:"));
    }
}
