//! The command line: what was typed, and a file per command. Exit codes: 0, 1 error, 2 a plan that changes something
//! (where asked for), 64 usage, 75 not finished (docs/exit-codes.md).

mod apply;
mod ask;
mod completions;
mod config;
mod context;
mod dead;
mod dev;
mod export;
mod get;
mod interrupt;
mod man;
mod members;
mod place;
mod print;
mod quarantine;
mod remote;
pub mod rule;
mod run;
mod sink;
mod status;
mod token;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Real-time labels from a database's change log; rules are WebAssembly plug-ins.
#[derive(Debug, Parser)]
#[command(name = "retag", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Command.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the sources, run the rules, deliver the labels.
    Run(run::Args),
    /// Print the labels and aggregates of a key: `retag get user/42`.
    Get(get::Args),
    /// Print who carries a label.
    Members(members::Args),
    /// Print the sums of all keys of a rule.
    Export(export::Args),
    /// Say where the host stands, the worst problem first.
    Status(status::Args),
    /// Look at row images that rules refused.
    Quarantine(quarantine::Args),
    /// Look at sinks, and make those right that hold label sets.
    Sink(sink::Args),
    /// Test, build, push and activate a rule crate at every save, on a host of this machine.
    Dev(dev::Args),
    /// Make the host run what the configuration says of rules.
    Apply(apply::Args),
    /// Look at the configuration.
    Config(config::Args),
    /// Make, list and revoke tokens: who may ask the host over the network.
    Token(token::Args),
    /// Name hosts on the network.
    Context(context::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// Write manual pages into a folder.
    Man(man::Args),
    /// Write, build, test and inspect rules.
    #[command(subcommand)]
    Rule(rule::Command),
}

/// Where the configuration is.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArg {
    /// Configuration file.
    #[arg(long, env = "RETAG_CONFIG", default_value = "retag.toml", value_name = "FILE")]
    pub config: PathBuf,
}

/// Exit code of wrong usage.
const USAGE: u8 = 64;
/// Exit code of a job that was told to stop and goes on at the next start (`EX_TEMPFAIL` of sysexits).
const UNFINISHED: u8 = 75;

/// Runs the command line.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // nowhere to tell that it cannot be told
            return if error.use_stderr() { USAGE.into() } else { 0.into() };
        }
    };
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Members(args) => members::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Quarantine(args) => quarantine::run(&args),
        Command::Sink(args) => sink::run(&args),
        Command::Dev(args) => dev::run(&args),
        Command::Apply(args) => apply::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Context(args) => context::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Rule(command) => rule::run(&command),
    };
    match done {
        Ok(()) => 0.into(),
        Err(error) if error.is::<print::Closed>() => 0.into(),
        Err(error) if error.is::<rule::look::Changes>() => 2.into(),
        Err(error) => {
            eprintln!("retag: {}", whole(&error));
            if error.is::<run::Unfinished>() { UNFINISHED.into() } else { 1.into() }
        }
    }
}

/// An error with its causes, without those whose words stand in what was said before them.
fn whole(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        known if known.contains(&cause) => said,
        known => format!("{known}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    #[test]
    fn an_error_says_nothing_twice() {
        let full = || std::io::Error::from_raw_os_error(28);
        let store = crate::state::StoreError::Io { doing: "write", path: "data".into(), source: full() };
        let failure = crate::pipeline::failure::Failure::from(store);
        let said = super::whole(&anyhow::Error::from(failure));
        assert_eq!(said.matches("No space left").count(), 1, "{said}");
        let said = super::whole(&Err::<(), _>(full()).context("cannot read x").unwrap_err());
        assert_eq!(said, format!("cannot read x: {}", full()));
    }
}
