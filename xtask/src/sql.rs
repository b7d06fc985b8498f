//! `sql`: long rounds of random SQL statements through a database, Maxwell, Kafka and the host into Redis and topics, while
//! all of them are killed; at the end of each everything is what the database says. What a round is stands in
//! `tests/tests/servers/database.rs`; the tests run a short one.

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run as run_command};
use crate::{ready, servers};

const USAGE: &str = "usage: cargo xtask sql [--rounds N] [--seconds N] [--changes N] [--seed N]";
const TEST: &str = "database::sums_and_labels_are_those_of_the_database";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    rounds: u64,
    seconds: u64,
    changes: u64,
    seed: u64,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { rounds: 1, seconds: 300, changes: 200_000, seed: 1 };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} without a number\n{USAGE}"))?;
            let number = value.parse().with_context(|| format!("{name}: `{value}` is no number\n{USAGE}"))?;
            match name.as_str() {
                "--rounds" => options.rounds = number,
                "--seconds" => options.seconds = number,
                "--changes" => options.changes = number,
                "--seed" => options.seed = number,
                other => bail!("unknown option {other}\n{USAGE}"),
            }
        }
        Ok(options)
    }
}

/// Runs the rounds, one seed after the other.
///
/// # Errors
/// A server is not installed, or a round failed; which seed it was is told.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    ready::wasm_target()?;
    ready::rules()?;
    servers::run(&["install".to_owned()])?;
    for seed in options.seed..options.seed + options.rounds {
        let mut round = cargo(["test", "--quiet", "--workspace", "--test", "servers", "--"]);
        round.args(["--exact", TEST, "--nocapture"]);
        for (name, number) in [("SECONDS", options.seconds), ("CHANGES", options.changes), ("SEED", seed)] {
            round.env(format!("RETAG_SQL_{name}"), number.to_string());
        }
        run_command(&mut round).with_context(|| format!("the round with seed {seed}"))?;
    }
    println!("sql: {} rounds, each as the database says", options.rounds);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn options_are_numbers() {
        let parse =
            |words: &[&str]| Options::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&["--rounds", "20"]).unwrap().rounds, 20);
        for wrong in [&["--rounds"][..], &["--rounds", "x"], &["--round", "1"]] {
            assert!(parse(wrong).unwrap_err().to_string().contains("usage:"), "{wrong:?}");
        }
    }
}
