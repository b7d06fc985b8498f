//! `retag apply`: a host comes to run what the configuration says of rules.
//!
//! `plan` compares, `carry_out` does what differs: everything is pushed and prepared before anything goes live. Applied again it
//! finds nothing to do; broken off anywhere, the next one goes on.

mod carry_out;
mod plan;

use super::ask::Asker;
use super::place::PlaceArgs;
use super::print::{Form, Out};
use super::rule::look::{Changes, changed, differences};
use super::rule::release::Session;
use crate::config::Config;
use anyhow::ensure;
use plan::{Action, Step};
use serde::Serialize;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Exit with 2 when something would change.
    #[arg(long, requires = "dry_run")]
    detailed_exitcode: bool,
    /// Take out rules that the configuration does not name, with their labels.
    #[arg(long)]
    prune: bool,
    /// Tell each key also to sinks with `deliver = "changes"`, which otherwise hear one summary: think of who gets mail.
    #[arg(long)]
    announce: bool,
    /// Why, for the audit: the commit that is brought in, say.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// Bring it to the host at this URL, or that of a context. Default: the host of the configuration, if --config is given;
    /// then RETAG_URL, RETAG_CONFIG, the context in use, retag.toml.
    #[arg(long, value_name = "URL|CONTEXT")]
    url: Option<String>,
    /// Configuration whose rules are brought in. Default: RETAG_CONFIG, then retag.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What was found, and done.
#[derive(Debug, Serialize)]
struct Applied<'a> {
    dry_run: bool,
    /// Rules that differ.
    changes: usize,
    /// All of them, by name; last those that the configuration does not name.
    rules: &'a [Step],
}

/// Brings the configured rules in.
///
/// # Errors
/// A file that is not there or refused: then nothing was changed. Whatever stands in a rule's way. [`Changes`] where that is
/// asked for.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let from_environment = std::env::var_os("RETAG_CONFIG").filter(|path| !path.is_empty());
    let path = args.config.clone().or_else(|| from_environment.map(PathBuf::from));
    let config = Config::read(&path.unwrap_or_else(|| "retag.toml".into()))?;
    let asker = Asker::open(&PlaceArgs::of(args.url.clone(), args.config.clone()))?;
    let session = Session::applying(asker, args.output, &args.reason);
    let mut steps = plan::steps(&session, &config, args.prune)?;
    let changes = steps.iter().filter(|step| step.action.changes()).count();
    if args.output == Form::Table {
        print(&steps, changes)?;
    }
    if changes > 0 && !args.dry_run {
        ensure!(
            session.asker.is_running(),
            "no host runs here, and what is new is read beside the stream: start `retag run`, then apply again"
        );
        carry_out::all(&session, &mut steps, args.announce)?;
    }
    if args.output != Form::Table {
        let mut out = Out::new();
        out.json(&Applied { dry_run: args.dry_run, changes, rules: &steps }, args.output)?;
        out.flush()?;
    }
    if args.detailed_exitcode && changes > 0 { Err(Changes.into()) } else { Ok(()) }
}

fn print(steps: &[Step], changes: usize) -> anyhow::Result<()> {
    let mut out = Out::new();
    for step in steps.iter().filter(|step| step.action != Action::Nothing) {
        out.line(&format!("{}: {}", step.rule, step.words()))?;
        match (&step.diff, &step.plan) {
            (Some(diff), _) => {
                let parts =
                    [("aggregate", &diff.aggregates), ("label", &diff.labels), ("parameter", &diff.params)];
                for (what, changes) in parts {
                    changes.iter().try_for_each(|change| out.line(&changed(what, change)))?;
                }
            }
            (None, Some(plan)) => {
                differences("aggregate", &plan.aggregates, &mut out)?;
                differences("label", &plan.labels, &mut out)?;
            }
            (None, None) => {}
        }
    }
    if changes == 0 {
        out.line("nothing to do: what runs is what is configured")?;
    } else {
        let count = |of: Action| steps.iter().filter(|step| step.action == of).count();
        let (add, change, remove) = (count(Action::Add), count(Action::Change), count(Action::Remove));
        let cancel = match count(Action::Cancel) {
            0 => String::new(),
            n => format!(", {n} to cancel"),
        };
        out.line(&format!("{add} to add, {change} to change, {remove} to remove{cancel}"))?;
    }
    out.flush()
}
