//! `retag rule …`: what an author of rules does on a machine of his own (init, build, test, inspect: these need cargo and
//! a rule crate, no host), and what is done with revisions on a host or in its stopped directory (all others).

pub mod build;
pub mod init;
pub mod inspect;
pub mod look;
pub mod pause;
pub mod release;
pub mod remove;
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
    /// Upload a rule file as a revision; nothing that consumers read changes.
    Push(release::PushArgs),
    /// Say what a revision changes and what it needs.
    Plan(look::PlanArgs),
    /// Read the history of new aggregates and evaluate all keys for a revision, while the stream flows.
    Prepare(release::PrepareArgs),
    /// Say which keys would get and lose labels.
    Preview(look::PreviewArgs),
    /// Make a prepared revision live, for all keys at once.
    Activate(release::ActivateArgs),
    /// Make the revision live again that was live before.
    Rollback(release::RollbackArgs),
    /// Drop a prepared revision that never was live.
    Cancel(release::CancelArgs),
    /// Let a rule stand still at one place: its labels stay, others go on.
    Pause(pause::PauseArgs),
    /// Let a paused rule go on: it reads what it missed beside the stream.
    Resume(pause::ResumeArgs),
    /// Take a rule out with its labels, or forget a revision.
    Rm(remove::Args),
    /// Change parameters.
    #[command(subcommand)]
    Params(release::ParamsCommand),
    /// List revisions and how far they are.
    Ls(look::RuleArgs),
    /// Show one revision.
    Show(look::ShowArgs),
    /// List what is being prepared or told, how far it is, and what ended last.
    Operations(look::OperationsArgs),
    /// Say what two revisions of a rule differ in.
    Diff(look::DiffArgs),
    /// Print who changed what, when and why.
    History(look::RuleArgs),
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
        Command::Push(args) => release::push(args),
        Command::Plan(args) => look::plan(args),
        Command::Prepare(args) => release::prepare(args),
        Command::Preview(args) => look::preview(args),
        Command::Activate(args) => release::activate(args),
        Command::Rollback(args) => release::rollback(args),
        Command::Cancel(args) => release::cancel(args),
        Command::Pause(args) => pause::pause(args),
        Command::Resume(args) => pause::resume(args),
        Command::Rm(args) => remove::run(args),
        Command::Params(command) => release::params(command),
        Command::Ls(args) => look::ls(args),
        Command::Show(args) => look::show(args),
        Command::Operations(args) => look::operations(args),
        Command::Diff(args) => look::diff(args),
        Command::History(args) => look::history(args),
    }
}
