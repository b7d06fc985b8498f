//! `retag rule …`: what an author of rules does on a machine of his own: init, build, test, inspect.
//!
//! These commands need cargo and a rule crate, no host that runs.

pub mod build;
pub mod init;
pub mod inspect;
pub mod test;

mod crate_info;
mod panic_location;
mod vendor;

use clap::Subcommand;

/// Writing, building and looking at rules.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new, working rule crate.
    Init(init::Args),
    /// Build a rule crate to a `.wasm` file.
    Build(build::Args),
    /// Run a rule's native tests, then its scenarios through Wasm.
    Test(test::Args),
    /// Show what a rule file is: manifest, identities, imports, exports, cost.
    Inspect(inspect::Args),
}

/// Runs a subcommand.
///
/// # Errors
/// What went wrong, for people.
pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(args),
        Command::Build(args) => build::run(args),
        Command::Test(args) => test::run(args),
        Command::Inspect(args) => inspect::run(args),
    }
}
