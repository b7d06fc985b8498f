//! `retag rule test`: a crate's native tests, then each of its scenario files through Wasm, in every order.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, bail};
use retag_scenario::{Scenario, Step, Transitions, difference};

use super::build;
use super::crate_info::{CrateInfo, cargo};
use crate::rule::scenario::{self, Feed, ScenarioRun};
use crate::rule::{CompiledRule, Limits, RuleEngine};

/// Arguments of `retag rule test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the rule crate.
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Rewrite the scenario files with what the rule gives.
    #[arg(long)]
    pub bless: bool,
}

/// Runs cargo and passes its lines on as they come; false when it fails. They go through `println!`, so that a test of
/// this command keeps them to itself.
fn run_through(command: &mut Command) -> anyhow::Result<bool> {
    let started = command.stdout(Stdio::piped()).spawn();
    let mut child = started.context("cargo cannot be started: install Rust from https://rustup.rs")?;
    if let Some(lines) = child.stdout.take() {
        for line in BufReader::new(lines).lines() {
            println!("{}", line.context("cargo's output cannot be read")?);
        }
    }
    Ok(child.wait()?.success())
}

/// Runs the command.
///
/// # Errors
/// A test fails, the crate does not build, a scenario differs.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let info = CrateInfo::of(&args.path)?;
    let mut native = cargo();
    native.arg("test").arg("--manifest-path").arg(info.folder.join("Cargo.toml"));
    if args.bless {
        native.env("RETAG_BLESS", "1");
    }
    if !run_through(&mut native)? {
        bail!("the native tests of {} fail: see above", info.name);
    }
    let built = build::build(&args.path, None)?;
    let rule = RuleEngine::new()?.compile(built.file, Limits::default())?;
    let files = scenario_files(&info.folder.join("scenarios"))?;
    if files.is_empty() {
        bail!(
            "{} has no scenarios/*.scenario: write one, rows in and `=> KEY label` out",
            info.folder.display()
        );
    }
    let mut failed = 0;
    for file in &files {
        match check_file(&rule, file, args.bless) {
            Ok(said) => println!("ok      {}  {said}", file.display()),
            Err(error) => {
                failed += 1;
                println!("FAILED  {}\n{error:#}", file.display());
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} scenarios fail through Wasm. `--bless` rewrites them", files.len());
    }
    println!("{} scenarios through Wasm, each in {} orders: ok", files.len(), Feed::ALL.len());
    Ok(())
}

/// The scenario files of a folder, by name.
///
/// # Errors
/// The folder cannot be read (a missing one has none).
pub fn scenario_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|ext| ext == "scenario"));
    files.sort();
    Ok(files)
}

/// Runs one file in every order; with `bless` writes what all of them gave.
///
/// # Errors
/// The file does not parse, differs, or orders differ among themselves.
pub fn check_file(rule: &Arc<CompiledRule>, path: &Path, bless: bool) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let scenario = retag_scenario::parse(&text)?;
    check_tables(rule, &scenario)?;
    let mut first: Option<ScenarioRun> = None;
    for feed in Feed::ALL {
        let run = scenario::run(rule, &scenario, feed)?;
        match &first {
            None => first = Some(run),
            Some(other) => agree(other, &run, feed)?,
        }
    }
    let run = first.unwrap_or_default();
    if bless {
        let blocks: Vec<Transitions> = run.blocks.into_iter().map(|(_, transitions)| transitions).collect();
        let blessed = retag_scenario::bless(&text, &blocks);
        if blessed != text {
            std::fs::write(path, blessed).with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(format!("{} blocks, blessed", blocks.len()));
    }
    compare(&scenario, &run)?;
    let notes: String = run.notes.iter().map(|note| format!("\n        {note}")).collect();
    Ok(format!("{} blocks, {} images{notes}", run.blocks.len(), run.images))
}

/// A table that the rule does not read would make any expectation of nothing come true.
fn check_tables(rule: &CompiledRule, scenario: &Scenario) -> anyhow::Result<()> {
    let known: Vec<&str> = rule.manifest.tables.iter().map(|t| t.table.as_str()).collect();
    for step in &scenario.steps {
        if let Step::Change { line, table, .. } = step
            && !known.contains(&table.as_str())
        {
            bail!("line {line}: the rule reads no table {table}; it reads {}", known.join(", "));
        }
    }
    Ok(())
}

fn compare(scenario: &Scenario, run: &ScenarioRun) -> anyhow::Result<()> {
    let expected = scenario.steps.iter().filter_map(|step| match step {
        Step::Expect { line, transitions } => Some((line, transitions)),
        _ => None,
    });
    for ((line, expected), (_, found)) in expected.zip(&run.blocks) {
        if let Some(difference) = difference(expected, found) {
            let notes: String = run.notes.iter().map(|note| format!("  note: {note}\n")).collect();
            bail!("line {line}: {difference}{notes}");
        }
    }
    Ok(())
}

fn agree(first: &ScenarioRun, other: &ScenarioRun, feed: Feed) -> anyhow::Result<()> {
    for ((line, a), (_, b)) in first.blocks.iter().zip(&other.blocks) {
        if let Some(difference) = difference(a, b) {
            bail!("line {line}: {:?} and {feed:?} give other transitions: {difference}", Feed::OneByOne);
        }
    }
    Ok(())
}
