//! `retag rule push|prepare|activate|rollback|cancel|params set`: what changes a rule's releases. On a running host the
//! stream goes on meanwhile; on a stopped directory the next start does the work.

use super::look::{lacking, revision_line};
use crate::api::operation::{OperationAnswer, Operations};
use crate::api::release::{Pushed, RevisionAnswer, Revisions};
use crate::cli::ask::{Asker, segment};
use crate::cli::interrupt::Noted;
use crate::cli::place::{Changing, Common};
use crate::cli::print::{Form, Out};
use crate::registry::command::Done;
use crate::registry::revision::{OperationState, Release};
use crate::rule::RuleFile;
use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Between two looks at an operation.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks between two lines on how far it is, where nobody watches a terminal: 10 s.
const LOOKS_PER_LINE: u32 = 100;

/// `RULE@N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionArg {
    /// Rule.
    pub rule: String,
    /// Revision.
    pub revision: u32,
}

impl FromStr for RevisionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').filter(|(rule, _)| !rule.is_empty());
        let found = parts.and_then(|(rule, n)| n.parse().ok().map(|n| (rule.to_owned(), n)));
        let (rule, revision) = found.ok_or("a revision is written as in payer@2")?;
        Ok(Self { rule, revision })
    }
}

impl RevisionArg {
    /// Its route, with `what` behind it.
    #[must_use]
    pub fn path(&self, what: &str) -> String {
        format!("{}/{}{what}", revisions(&self.rule), self.revision)
    }
}

/// The route of a rule's revisions.
pub(in crate::cli) fn revisions(rule: &str) -> String {
    format!("/v1/rules/{}/revisions", segment(rule))
}

/// Arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    /// The rule file.
    file: PathBuf,
    #[command(flatten)]
    changing: Changing,
}

/// Arguments of `prepare`.
#[derive(Debug, clap::Args)]
pub struct PrepareArgs {
    /// Which revision: `payer@2`.
    revision: RevisionArg,
    /// Return as soon as it has begun.
    #[arg(long)]
    no_wait: bool,
    /// Keep the live revision's sums if both files' `map` count the same: for a rule that was only recompiled. Admins only;
    /// needs --reason.
    #[arg(long, requires = "reason")]
    adopt_aggregates: bool,
    #[command(flatten)]
    changing: Changing,
}

/// Arguments of `activate`.
#[derive(Debug, clap::Args)]
pub struct ActivateArgs {
    /// Which revision: `payer@2`.
    revision: RevisionArg,
    /// Only if it changes the keys that this preview said, label by label.
    #[arg(long, requires = "max_change", value_name = "ID")]
    preview: Option<String>,
    /// How many may be others: `1%` of the keys that the preview said would enter or leave.
    #[arg(long, requires = "preview", value_name = "PERCENT", value_parser = percent)]
    max_change: Option<f64>,
    /// Tell each key also to sinks with `deliver = "changes"`, which otherwise hear one summary: think of who gets mail.
    #[arg(long)]
    announce: bool,
    /// First keep the live revision's sums, if both files' `map` count the same, and evaluate its labels: for a rule that was
    /// only recompiled. Admins only; needs --reason.
    #[arg(long, requires = "reason", conflicts_with = "preview")]
    adopt_aggregates: bool,
    #[command(flatten)]
    changing: Changing,
}

/// Arguments of `rollback`.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// Rule.
    rule: String,
    /// Tell each key also to sinks with `deliver = "changes"`, which otherwise hear one summary: think of who gets mail.
    #[arg(long)]
    announce: bool,
    #[command(flatten)]
    changing: Changing,
}

/// Arguments of `cancel`.
#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    /// Which revision: `payer@2`.
    revision: RevisionArg,
    #[command(flatten)]
    changing: Changing,
}

/// `params …`.
#[derive(Debug, clap::Subcommand)]
pub enum ParamsCommand {
    /// Make a revision of the live file with other parameters, and prepare it.
    Set(ParamsArgs),
}

/// Arguments of `params set`.
#[derive(Debug, clap::Args)]
pub struct ParamsArgs {
    /// Rule.
    rule: String,
    /// `NAME=VALUE`; decimals as they are written, text as it is.
    #[arg(required = true, value_parser = assignment)]
    values: Vec<(String, Value)>,
    /// Make it live as soon as it is ready.
    #[arg(long)]
    activate: bool,
    #[command(flatten)]
    changing: Changing,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok();
    number.filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(|| "a percentage is written as in 1%".to_owned())
}

/// Numbers and truth values as such where they stand alone, everything else, decimals too, as text.
fn assignment(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a parameter is written as in big_spender_min=3000.00")?;
    let plain =
        serde_json::from_str(value).ok().filter(|v: &Value| v.is_i64() || v.is_u64() || v.is_boolean());
    Ok((name.to_owned(), plain.unwrap_or_else(|| Value::from(value))))
}

/// A connection, and how to print what comes back.
pub(in crate::cli) struct Session {
    pub(in crate::cli) asker: Asker,
    pub(in crate::cli) form: Form,
    reason: String,
    /// It brings in what the configuration says.
    applies: bool,
}

impl Session {
    /// A session that changes something.
    pub(super) fn open(Changing { reason, common }: &Changing) -> anyhow::Result<Self> {
        Ok(Self { reason: reason.clone(), ..Self::reading(common)? })
    }

    /// A session that changes nothing.
    pub(super) fn reading(common: &Common) -> anyhow::Result<Self> {
        let asker = Asker::open(&common.place)?;
        Ok(Self { asker, form: common.output, reason: String::new(), applies: false })
    }

    /// A session for people, with a reason for the audit.
    pub(in crate::cli) fn of(asker: Asker, reason: &str) -> Self {
        Self { asker, form: Form::Table, reason: reason.to_owned(), applies: false }
    }

    /// A session of `retag apply`.
    pub(in crate::cli) fn applying(asker: Asker, form: Form, reason: &str) -> Self {
        Self { asker, form, reason: reason.to_owned(), applies: true }
    }

    pub(in crate::cli) fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<T> {
        let mut path = path.to_owned();
        let mut say = |what: String| {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&what);
        };
        if !self.reason.is_empty() {
            say(format!("reason={}", segment(&self.reason)));
        }
        if self.applies {
            say("apply=true".to_owned());
        }
        self.asker.post(&path, body)
    }

    pub(in crate::cli) fn print<T: Serialize>(&self, answer: &T, lines: &[String]) -> anyhow::Result<()> {
        let mut out = Out::new();
        match self.form {
            Form::Table => lines.iter().try_for_each(|line| out.line(line))?,
            form => out.json(answer, form)?,
        }
        out.flush()
    }

    /// Waits until an operation has ended.
    pub(in crate::cli) fn wait(&self, id: u64) -> anyhow::Result<OperationAnswer> {
        let terminal = std::io::stderr().is_terminal();
        let interrupt = Noted::begin()?;
        for look in 1_u32.. {
            let operation: OperationAnswer = self.asker.read(&format!("/v1/operations/{id}"))?;
            if terminal {
                eprint!("\r\x1b[K{}", operation.words());
            } else if look % LOOKS_PER_LINE == 0 {
                eprintln!("{}", operation.words());
            }
            if operation.state != OperationState::Running {
                if terminal {
                    eprintln!();
                }
                return Ok(operation);
            }
            if interrupt.is_seen() {
                let OperationAnswer { rule, revision, .. } = operation;
                eprintln!(
                    "interrupted: the host goes on with operation {id}; `retag rule show {rule}@{revision}` says how far it is, \
                     `retag rule cancel {rule}@{revision}` gives up what is being prepared"
                );
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        drop(interrupt); // ends the program
        bail!("operation {id} goes on without this command")
    }
}

impl Session {
    /// Waits until `name` is prepared.
    ///
    /// # Errors
    /// It was cancelled or given up.
    pub(in crate::cli) fn wait_until_ready(&self, id: u64, name: &str) -> anyhow::Result<OperationAnswer> {
        let operation = self.wait(id)?;
        match operation.state {
            OperationState::Cancelled => bail!("{name}: operation {id} was cancelled"),
            OperationState::Failed => bail!("{name} was given up: {}", operation.failure),
            _ => Ok(operation),
        }
    }
}

impl Session {
    /// Waits until nothing is under way for a rule: the telling of its last switch, say.
    pub(in crate::cli) fn wait_until_settled(&self, rule: &str) -> anyhow::Result<()> {
        let all: Operations = self.asker.read("/v1/operations")?;
        let of_rule = all.operations.iter().filter(|o| o.rule == rule);
        for operation in of_rule.filter(|o| o.state == OperationState::Running) {
            self.wait(operation.id)?;
        }
        Ok(())
    }
}

/// Uploads a file.
///
/// # Errors
/// The file cannot be read, or is refused.
pub fn push(args: &PushArgs) -> anyhow::Result<()> {
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let rule = RuleFile::read(&bytes)?.manifest.name;
    let session = Session::open(&args.changing)?;
    let pushed: Pushed = session.post(&revisions(&rule), bytes)?;
    let new = if pushed.created { "" } else { " (the same file is there already)" };
    let lines = [
        format!("{}{new}", revision_line(&pushed.revision)),
        format!(
            "checked: {}; {} fuel a row, memory up to {} bytes; {} bytes, namespace {}",
            pushed.revision.report.checks.join(", "),
            pushed.revision.report.fuel_per_row,
            pushed.revision.report.memory_bytes_max,
            pushed.revision.bytes,
            pushed.revision.namespace_id
        ),
        format!("plan: {}", pushed.plan.words),
    ];
    session.print(&pushed, &lines)
}

/// Reads the history of new aggregates, and evaluates all keys for a revision.
///
/// # Errors
/// It is refused, or was cancelled meanwhile.
pub fn prepare(args: &PrepareArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.changing)?;
    let how = if args.adopt_aggregates { "/adopt" } else { "/prepare" };
    let done: Done = session.post(&args.revision.path(how), Vec::new())?;
    let name = format!("{}@{}", done.rule, done.revision);
    prepared(&session, &done, &name, !args.no_wait)
}

fn prepared(session: &Session, done: &Done, name: &str, wait: bool) -> anyhow::Result<()> {
    let next = format!("`retag rule preview {name}`, `retag rule activate {name}`");
    let revision = || -> anyhow::Result<RevisionAnswer> {
        session.asker.read(&RevisionArg { rule: done.rule.clone(), revision: done.revision }.path(""))
    };
    let known = |revision: RevisionAnswer| -> Vec<String> {
        revision.held.words().into_iter().chain(lacking(revision.lacks, &done.rule)).collect()
    };
    match done.operation {
        None => {
            let revision = revision()?;
            let ready = match revision.release {
                Release::Live | Release::Paused => format!("{name} is live already: nothing to do"),
                _ => format!("{name} is ready; {next}"),
            };
            session.print(done, &[vec![ready], known(revision)].concat())
        }
        Some(id) if wait && session.asker.is_running() => {
            let operation = session.wait_until_ready(id, name)?;
            let ready = format!("{name} is ready, {} keys evaluated; {next}", operation.keys);
            session.print(&operation, &[vec![ready], known(revision()?)].concat())
        }
        Some(id) if session.asker.is_running() => {
            session.print(done, &[format!("{name} is being prepared: operation {id}")])
        }
        Some(_) => session.print(done, &[format!("{name} will be prepared by the next `retag run`")]),
    }
}

/// Makes a revision live.
///
/// # Errors
/// It is refused.
pub fn activate(args: &ActivateArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.changing)?;
    if args.adopt_aggregates {
        let done: Done = session.post(&args.revision.path("/adopt"), Vec::new())?;
        if let Some(id) = done.operation.filter(|_| session.asker.is_running()) {
            session.wait_until_ready(id, &format!("{}@{}", done.rule, done.revision))?;
        }
    }
    let body = match (&args.preview, args.max_change) {
        (Some(preview), Some(max)) => {
            json!({ "preview": preview, "max_change_percent": max, "announce": args.announce })
        }
        _ => json!({ "announce": args.announce }),
    };
    let done: Done = session.post(&args.revision.path("/activate"), serde_json::to_vec(&body)?)?;
    switched(&session, &done)
}

fn switched(session: &Session, done: &Done) -> anyhow::Result<()> {
    let name = format!("{}@{}", done.rule, done.revision);
    if !done.changed {
        return session.print(done, &[format!("{name} is live already")]);
    }
    // It is done; that more cannot be said of it is no error.
    let of_rule: Vec<RevisionAnswer> =
        session.asker.read::<Revisions>(&revisions(&done.rule)).map(|all| all.revisions).unwrap_or_default();
    let has_way_back = of_rule.iter().any(|r| r.release == Release::Retained);
    let back = has_way_back.then(|| format!("; back with `retag rule rollback {}`", done.rule));
    let line = format!("{name} is live since commit {}{}", done.commit, back.unwrap_or_default());
    let live = of_rule.iter().find(|r| r.revision == done.revision);
    let lacks = live.and_then(|r| lacking(r.lacks, &done.rule));
    session.print(done, &[line].into_iter().chain(lacks).collect::<Vec<_>>())
}

/// Makes the revision live that was live before.
///
/// # Errors
/// It is refused.
pub fn rollback(args: &RollbackArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.changing)?;
    let body = serde_json::to_vec(&json!({ "announce": args.announce }))?;
    let done: Done = session.post(&format!("/v1/rules/{}/rollback", segment(&args.rule)), body)?;
    switched(&session, &done)
}

/// Drops a revision's labels that never were live.
///
/// # Errors
/// It is refused.
pub fn cancel(args: &CancelArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.changing)?;
    let done: Done = session.post(&args.revision.path("/cancel"), Vec::new())?;
    session.print(&done, &[format!("{}@{} is no longer prepared", done.rule, done.revision)])
}

/// Sets parameters.
///
/// # Errors
/// It is refused.
pub fn params(command: &ParamsCommand) -> anyhow::Result<()> {
    let ParamsCommand::Set(args) = command;
    let session = Session::open(&args.changing)?;
    let given: Map<String, Value> = args.values.iter().cloned().collect();
    let body = serde_json::to_vec(&json!({ "params": given }))?;
    let done: Done = session.post(&format!("/v1/rules/{}/params", segment(&args.rule)), body)?;
    let name = format!("{}@{}", done.rule, done.revision);
    if !args.activate {
        return prepared(&session, &done, &name, true);
    }
    if !session.asker.is_running() {
        bail!("--activate needs a running host: {name} will be prepared by the next `retag run`");
    }
    if let Some(id) = done.operation {
        session.wait(id)?;
    }
    let revision = RevisionArg { rule: done.rule, revision: done.revision };
    let done: Done = session.post(&revision.path("/activate"), b"{}".to_vec())?;
    switched(&session, &done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_they_are_written() {
        let revision = RevisionArg { rule: "payer".into(), revision: 2 };
        assert_eq!("payer@2".parse(), Ok(revision));
        for bad in ["payer", "@2", "payer@", "payer@x"] {
            assert!(bad.parse::<RevisionArg>().is_err(), "{bad}");
        }
        assert_eq!(assignment("min=3000.00"), Ok(("min".into(), json!("3000.00"))));
        assert_eq!(assignment("days=7"), Ok(("days".into(), json!(7))));
        assert_eq!(assignment("who=a=b"), Ok(("who".into(), json!("a=b"))));
        assert!(assignment("min").is_err());
        assert_eq!((percent("1%"), percent("0.5")), (Ok(1.0), Ok(0.5)));
        assert!(percent("-1").is_err() && percent("much").is_err());
    }
}
