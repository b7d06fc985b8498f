//! All tests, counted: none at all, or one skipped without a named reason, is a failure too.

use anyhow::{Context, Result, bail};

use crate::process::{cargo, watch};
use crate::{ready, servers};

/// What ran, by kind, as read from the test harness' own lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) unit: u64,
    pub(crate) integration: u64,
    pub(crate) doc: u64,
    pub(crate) failed: u64,
    /// Skipped with a reason.
    pub(crate) skipped: Vec<String>,
    /// Skipped without one.
    pub(crate) unexplained: Vec<String>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Unit,
    Integration,
    Doc,
}

impl Tally {
    /// Tests that passed.
    pub(crate) fn passed(&self) -> u64 {
        self.unit + self.integration + self.doc
    }

    /// Takes one line of `cargo test`'s output.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with("Running unittests") {
            self.kind = Kind::Unit;
        } else if line.starts_with("Running ") {
            self.kind = Kind::Integration;
        } else if line.starts_with("Doc-tests ") {
            self.kind = Kind::Doc;
        } else if let Some(test) = line.strip_prefix("test ") {
            // The second form is that of tests which only see at run time that a server is not there.
            let at_run_time = test.strip_suffix(')').and_then(|test| test.split_once(" ... ignored ("));
            if let Some((name, reason)) = test.split_once(" ... ignored, ").or(at_run_time) {
                self.skipped.push(format!("{} ({reason})", name.trim_end()));
            } else if let Some(name) = test.strip_suffix(" ... ignored") {
                self.unexplained.push(name.to_owned());
            }
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let count = |what: &str| -> u64 {
            let part = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        match self.kind {
            Kind::Unit => self.unit += count(" passed"),
            Kind::Integration => self.integration += count(" passed"),
            Kind::Doc => self.doc += count(" passed"),
        }
        self.failed += count(" failed");
    }
}

/// Sets up what the tests need and runs all of them, doc tests too.
///
/// # Errors
/// A test failed, none ran, or one was skipped without a reason.
pub(crate) fn run() -> Result<()> {
    ready::wasm_target()?;
    ready::rules()?;
    servers::ready();
    let mut tally = Tally::default();
    let green = watch(&mut cargo(["test", "--workspace", "--no-fail-fast"]), true, |line| tally.line(line))?;
    println!(
        "tests: {} passed ({} unit, {} integration, {} doc), {} failed, {} skipped",
        tally.passed(),
        tally.unit,
        tally.integration,
        tally.doc,
        tally.failed,
        tally.skipped.len() + tally.unexplained.len()
    );
    for skipped in &tally.skipped {
        println!("  skipped: {skipped}");
    }
    if !tally.unexplained.is_empty() {
        bail!("skipped without a reason (write #[ignore = \"…\"]): {}", tally.unexplained.join(", "));
    }
    if !green || tally.failed > 0 {
        bail!("{} tests failed, see above", tally.failed);
    }
    if tally.passed() == 0 {
        bail!("0 tests ran");
    }
    Ok(())
}

/// Runs mutated real messages through both readers of Maxwell, as many as asked for.
///
/// # Errors
/// A test failed, or none ran.
pub(crate) fn fuzz(arguments: &[String]) -> Result<()> {
    let executions: u64 = match arguments {
        [] => 1_000_000,
        [number] => number.parse().context("usage: cargo xtask fuzz [NUMBER OF EXECUTIONS]")?,
        _ => bail!("usage: cargo xtask fuzz [NUMBER OF EXECUTIONS]"),
    };
    let mut tally = Tally::default();
    let test = ["--test", "decode_maxwell", "fuzz", "--", "--nocapture"];
    let mut command = cargo(["test", "--release", "-p", "retag-host"].iter().chain(&test));
    command.env("RETAG_FUZZ_EXECUTIONS", executions.to_string());
    let green = watch(&mut command, true, |line| tally.line(line))?;
    if !green {
        bail!("a mutation broke a decoder: the test's output above names its seed");
    }
    if tally.passed() == 0 {
        bail!("0 tests ran: decode_maxwell has no module `fuzz` any more");
    }
    println!("fuzz: {executions} executions asked of {} tests, all green", tally.passed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn counts_by_kind_and_finds_what_was_skipped() {
        let mut tally = Tally::default();
        let lines = "     Running unittests src/lib.rs (target/debug/deps/a)\n\
            test a::b ... ok\n\
            test a::c ... ignored\n\
            test a::d ... ignored, needs a server\n\
            test a::e  ... ignored (kafka is not installed (no Java))\n\
            test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                 Running tests/e2e.rs (target/debug/deps/b)\n\
            test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n\
               Doc-tests retag_host\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        lines.lines().for_each(|line| tally.line(line));
        assert_eq!((tally.unit, tally.integration, tally.doc, tally.failed), (3, 2, 1, 1));
        assert_eq!(tally.skipped, ["a::d (needs a server)", "a::e (kafka is not installed (no Java))"]);
        assert_eq!(tally.unexplained, ["a::c"]);
    }
}
