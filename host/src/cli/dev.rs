//! `retag dev`: an author's loop on a host of this machine. Each time the crate is saved it is tested, built, pushed, prepared
//! and made live; what fails is printed, and the next save tries again.

use super::ask::Asker;
use super::place::PlaceArgs;
use super::rule::release::{RevisionArg, Session, revisions};
use super::rule::{build, test};
use crate::api::release::{PreviewAnswer, Pushed, label_name};
use crate::clock;
use crate::registry::command::Done;
use crate::registry::plan::PlanKind;
use crate::registry::revision::Release;
use crate::rule::RuleFile;
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Between two looks at the crate.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Folders of a crate in which nobody writes by hand.
const NOT_WATCHED: [&str; 3] = ["target", "vendor", ".git"];
/// Most files that are watched.
const FILES_MAX: usize = 10_000;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the rule crate.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Do it once and return.
    #[arg(long)]
    once: bool,
    /// Leave the crate's native tests and scenarios out.
    #[arg(long)]
    skip_tests: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// The files that make a rule, with the times of their last change.
type Saved = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Runs the command: until Ctrl-C, or once.
///
/// # Errors
/// No host of this machine answers, the folder cannot be read; with `--once` also what failed.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let asker = Asker::open(&args.place)?;
    ensure!(
        asker.is_local(),
        "retag dev changes labels at every save: it is for a host of this machine alone"
    );
    ensure!(asker.is_running(), "no host runs here: start `retag run` beside this, then again");
    let session = Session::of(asker, "retag dev");
    loop {
        let saved = settled(&args.path)?;
        match round(args, &session) {
            Err(error) if !args.once => println!("failed: {error:#}"),
            done if args.once => return done,
            _ => {}
        }
        println!("waiting for the next save in {} (Ctrl-C ends)", args.path.display());
        while look(&args.path)? == saved {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The crate as it is once nobody writes in it: editors write several files, one after the other.
fn settled(folder: &Path) -> anyhow::Result<Saved> {
    let mut saved = look(folder)?;
    loop {
        std::thread::sleep(LOOK_EVERY);
        let now = look(folder)?;
        if now == saved {
            return Ok(now);
        }
        saved = now;
    }
}

/// Sources, scenarios and manifests of the crate.
fn look(folder: &Path) -> anyhow::Result<Saved> {
    ensure!(
        folder.join("Cargo.toml").is_file(),
        "no Cargo.toml in {}: `retag rule init` writes a rule crate",
        folder.display()
    );
    let mut saved = Saved::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(meta) = entry.metadata() else { continue }; // it was there a moment ago
            if meta.is_dir() {
                if !NOT_WATCHED.iter().any(|other| name == *other) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs" || e == "toml" || e == "scenario") {
                saved.insert(path, (meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len()));
            }
        }
        ensure!(
            saved.len() <= FILES_MAX,
            "more than {FILES_MAX} files: is this the folder of one rule crate?"
        );
    }
    Ok(saved)
}

/// From the sources to live labels.
fn round(args: &Args, session: &Session) -> anyhow::Result<()> {
    let begin = clock::moment();
    if !args.skip_tests {
        test::run(&test::Args { path: args.path.clone(), bless: false })?;
    }
    let built = build::build(&args.path, None)?;
    let bytes =
        std::fs::read(&built.output).with_context(|| format!("cannot read {}", built.output.display()))?;
    let rule = RuleFile::read(&bytes)?.manifest.name.clone();
    session.wait_until_settled(&rule)?;
    let pushed: Pushed = session.post(&revisions(&rule), bytes)?;
    let revision = RevisionArg { rule, revision: pushed.revision.revision };
    let name = format!("{}@{}", revision.rule, revision.revision);
    println!("{name}: {}", pushed.plan.words);
    if pushed.revision.release == Release::Live || pushed.plan.kind == PlanKind::Nothing {
        println!("{name}: nothing to change");
        return Ok(());
    }
    let done: Done = session.post(&revision.path("/prepare"), Vec::new())?;
    if let Some(id) = done.operation {
        session.wait_until_ready(id, &name)?;
    }
    let answer: PreviewAnswer = session.post(&revision.path("/preview"), Vec::new())?;
    let moved = answer.preview.labels.iter().filter(|label| label.entered + label.left > 0);
    for label in moved {
        println!("  {}: {} keys get it, {} lose it", label_name(label), label.entered, label.left);
    }
    let done: Done = session.post(&revision.path("/activate"), b"{}".to_vec())?;
    println!(
        "{name} is live since commit {}, {:.1} s after the save",
        done.commit,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_writes_is_watched_and_what_a_build_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        };
        assert!(look(folder.path()).unwrap_err().to_string().contains("Cargo.toml"));
        for name in ["Cargo.toml", "src/lib.rs", "src/deep/er.rs", "scenarios/a.scenario"] {
            write(name);
        }
        let before = look(folder.path()).unwrap();
        assert_eq!(before.len(), 4);
        for name in ["target/x.rs", "vendor/sdk/src/lib.rs", "rule.wasm", "Cargo.lock", "src/lib.rs~"] {
            write(name);
        }
        assert_eq!(look(folder.path()).unwrap(), before);
        std::fs::write(folder.path().join("src/lib.rs"), "xy").unwrap();
        assert_ne!(look(folder.path()).unwrap(), before);
    }
}
