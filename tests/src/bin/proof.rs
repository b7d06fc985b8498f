//! The measured proofs on the command line; `cargo xtask bench swaps`, `bench reads`, `bench redis`, `bench topic` and `bench
//! rules` build what they need and call it.

#![allow(clippy::print_stderr)] // a command-line program

use std::process::ExitCode;

use anyhow::{Result, bail};
use retag_tests::proof::{many_rules, reads, redis, swaps, topic};

const USAGE: &str = "usage: proof swaps|reads|redis|topic|rules --retag BINARY --dir DIR [--NAME VALUE]…";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proof: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((name, rest)) if name == "swaps" => swaps::run(rest),
        Some((name, rest)) if name == "reads" => reads::run(rest),
        Some((name, rest)) if name == "redis" => redis::run(rest),
        Some((name, rest)) if name == "topic" => topic::run(rest),
        Some((name, rest)) if name == "rules" => many_rules::run(rest),
        _ => bail!("{USAGE}"),
    }
}
