//! `retag man FOLDER`: a manual page for every command, from the command line's own description.

use super::Cli;
use anyhow::Context;
use clap::CommandFactory;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder to write them into; `man -l FOLDER/retag.1` shows the first.
    folder: PathBuf,
}

/// Writes the pages.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("cannot write manual pages into {}", folder.display()))
}
