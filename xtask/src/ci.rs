//! The definition of done, cheapest check first.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Result;

use crate::process::{self, cargo};
use crate::{api, ready, test, tidy};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("format", format),
    ("tidy", tidy::run),
    ("clippy", clippy),
    ("clippy for wasm32", clippy_rules),
    ("docs", docs),
    ("dependency audit", audit),
    ("test", test::run),
    ("api", api::run),
];

/// Runs all steps and prints how long each took.
///
/// # Errors
/// That of the first step that fails.
pub(crate) fn run() -> Result<()> {
    ready::wasm_target()?;
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        #[allow(clippy::disallowed_methods)] // a chore measures itself
        let start = Instant::now();
        step()?;
        times.push(format!("{name} {:.0} s", start.elapsed().as_secs_f64()));
    }
    println!("ci: all green ({})", times.join(", "));
    Ok(())
}

fn format() -> Result<()> {
    process::run(&mut cargo(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    process::run(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn clippy_rules() -> Result<()> {
    let mut command = cargo(["clippy", "--target", ready::WASM_TARGET]);
    for dir in ready::rule_dirs()? {
        command.arg("-p").arg(dir.file_name().unwrap_or_default());
    }
    process::run(command.args(["--", "-D", "warnings"]))
}

fn docs() -> Result<()> {
    process::run(cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn audit() -> Result<()> {
    let installed = Command::new("cargo-deny")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !installed {
        println!("cargo-deny is not installed: dependency audit left out");
        return Ok(());
    }
    process::run(&mut cargo(["deny", "check"]))
}
