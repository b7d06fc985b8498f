//! The chores: `cargo xtask test|ci|servers|tidy|api|demo|dist|bench|sql|mutants|fuzz`. Plain Rust, so that a fresh machine needs nothing else.
#![allow(clippy::print_stdout)] // a command-line program

mod api;
mod bench;
mod ci;
mod compare;
mod demo;
mod dist;
mod measure;
mod mutants;
mod process;
mod proof;
mod ready;
mod servers;
mod sql;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask COMMAND

  test             sets up what the tests need and runs all of them
  ci               format, clippy, tidy, docs, then `test`; what .ci/run calls
  api              a real host under schemathesis and an OpenFeature provider (Python from 3.10)
  servers install|check [NAME…]
                   the real servers that tests use: kafka, mariadb, maxwell, redis; all of them without a name
  tidy             house rules that no compiler knows: file docs, sizes, import direction
  demo [FILE…]     makes a stream of changes (or takes your Maxwell files), runs the host, checks the result
  demo --kafka     MariaDB, Maxwell, Kafka, the host and Redis on this machine: type SQL, see labels change
  dist             a tarball in target/dist: the release with Kafka and TLS, completions, manual pages, systemd unit, Dockerfile
  bench [--events N] [--users N] [--runs N] [--seed N] [--bar RATIO]
                   the whole host and the hand-written program on one stream, side by side
  bench swaps [--swaps N] [--rounds N] [--kills N] [--rate N] [--keys N] [--dev] …
                   rules swapped and killed under a steady stream, everything held against the model
  bench reads [--reads N] [--seconds N] [--rate N] [--keys N] [--bar-ms N] [--dev] …
                   labels read in an open loop beside the stream
  bench kafka [--events N] [--users N] [--runs N] [--seed N]
                   one stream from files, then from topics, the broker on the same machine
  bench redis [--keys N] [--seconds N] [--dev] …
                   a whole state into Redis, and from a message to its label there beside the stream
  bench topic [--keys N] [--seconds N] [--dev] …
                   from a message to its label on a topic of Kafka, with and without transactions
  bench rules [--rules N] [--restarts N] [--bar-s S] [--dev]
                   what many rules add to a restart
  sql [--rounds N] [--seconds N] [--changes N] [--seed N]
                   random statements through a database, Maxwell and Kafka, everything killed now and then; sums, labels in
                   Redis and on topics held against what the database says
  mutants [NAME…]  applies one known fault at a time: each must turn a test red
  fuzz [N]         N mutations of real messages (default 1,000,000) through both decoders";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((command, rest)) = arguments.split_first() else { bail!("{USAGE}") };
    match command.as_str() {
        "test" => test::run(),
        "ci" => ci::run(),
        "servers" => servers::run(rest),
        "tidy" => tidy::run(),
        "api" => api::run(),
        "demo" => demo::run(rest),
        "bench" => match rest.split_first() {
            Some((name, rest)) if name == "kafka" => bench::kafka::run(rest),
            Some((name, rest)) if !name.starts_with("--") => proof::run(name, rest),
            _ => bench::run(rest),
        },
        "dist" => dist::run(rest),
        "sql" => sql::run(rest),
        "mutants" => mutants::run(rest),
        "fuzz" => test::fuzz(rest),
        other => bail!("unknown command `{other}`\n{USAGE}"),
    }
}
