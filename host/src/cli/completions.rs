//! `retag completions bash|zsh|fish`: a script for the shell, from the command line's own description.

use super::Cli;
use super::print::Out;
use clap::CommandFactory;
use clap_complete::Shell;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell.
    #[arg(value_parser = clap::builder::EnumValueParser::<Shell>::new())]
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "retag", &mut script);
    let mut out = Out::new();
    out.write(&script)?;
    out.flush()
}
