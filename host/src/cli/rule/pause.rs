//! `retag rule pause|resume`: a rule stands still at one place, and catches up with what it missed.

use super::release::Session;
use crate::cli::ask::segment;
use crate::cli::place::Changing;
use crate::registry::command::Done;
use crate::registry::revision::OperationState;
use anyhow::bail;
use serde_json::json;

/// Arguments of `pause`.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// Rule.
    rule: String,
    /// Give up what is being prepared; without it the pause is refused meanwhile.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    changing: Changing,
}

/// Arguments of `resume`.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// Rule.
    rule: String,
    /// Return as soon as it has begun.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    changing: Changing,
}

/// Stops feeding a rule.
///
/// # Errors
/// It is refused.
pub fn pause(args: &PauseArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.changing)?;
    let body = json!({ "force": args.force }).to_string().into_bytes();
    let done: Done = session.post(&format!("/v1/rules/{}/pause", segment(&args.rule)), body)?;
    let rule = &done.rule;
    let line = if done.changed {
        format!(
            "{rule} stands still since commit {}; its labels stay; on with `retag rule resume {rule}`",
            done.commit
        )
    } else {
        format!("{rule} is paused already")
    };
    session.print(&done, &[line])
}

/// Feeds it again, and waits until it has caught up.
///
/// # Errors
/// It is refused, or could not catch up.
pub fn resume(args: &ResumeArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.changing)?;
    let done: Done = session.post(&format!("/v1/rules/{}/resume", segment(&args.rule)), Vec::new())?;
    let rule = &done.rule;
    match done.operation {
        None => session.print(&done, &[format!("{rule} is not paused")]),
        Some(id) if !session.asker.is_running() => {
            session.print(&done, &[format!("{rule} catches up with the next `retag run`: operation {id}")])
        }
        Some(id) if args.no_wait => session.print(&done, &[format!("{rule} catches up: operation {id}")]),
        Some(id) => {
            let operation = session.wait(id)?;
            match operation.state {
                OperationState::Failed => bail!("{rule} stands still again: {}", operation.failure),
                OperationState::Cancelled => bail!("{rule} was paused again"),
                _ => {
                    let keys = operation.keys;
                    session.print(&operation, &[format!("{rule} has caught up, {keys} keys evaluated")])
                }
            }
        }
    }
}
