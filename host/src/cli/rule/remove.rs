//! `retag rule rm`: a rule goes with its labels, or a revision is forgotten.

use super::release::{RevisionArg, Session};
use crate::cli::ask::segment;
use crate::cli::place::Changing;
use crate::registry::command::Done;
use anyhow::bail;
use std::io::{BufRead, IsTerminal, Write};

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A rule (`payer`), or a revision of it (`payer@2`) that is not live, kept or being prepared.
    what: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    changing: Changing,
}

/// Takes a rule out, or forgets a revision.
///
/// # Errors
/// It is refused, or nobody said yes.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let what = &args.what;
    let revision = what.parse::<RevisionArg>().ok();
    let question = match revision {
        Some(_) => format!("{what} is forgotten for good."),
        None => {
            format!("Rule {what} goes: every sink is told that its labels are unset, then its sums are gone.")
        }
    };
    if !args.yes && !is_sure(&question)? {
        bail!("nothing was changed");
    }
    let session = Session::open(&args.changing)?;
    let path = match &revision {
        Some(revision) => revision.path("/remove"),
        None => format!("/v1/rules/{}/remove", segment(what)),
    };
    let done: Done = session.post(&path, Vec::new())?;
    let line = match (&revision, done.operation) {
        (Some(_), _) => format!("{what} is forgotten"),
        (None, Some(id)) => {
            format!("{what} is gone since commit {}; operation {id} tells the sinks", done.commit)
        }
        (None, None) => format!("{what} is gone since commit {}", done.commit),
    };
    session.print(&done, &[line])
}

fn is_sure(question: &str) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("{question} Say --yes");
    }
    eprint!("{question} Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
