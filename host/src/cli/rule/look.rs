//! `retag rule plan|preview|ls|show|history`: what there is, and what would change.

use super::release::{RevisionArg, Session};
use crate::api::operation::Operations;
use crate::api::release::{AuditAnswer, PreviewAnswer, RevisionAnswer, label_name};
use crate::cli::ask::segment;
use crate::cli::place::Common;
use crate::cli::print::{Form, Out, Table, cell};
use crate::registry::Compared;
use crate::registry::diff::{Changed, Diff};
use crate::registry::plan::{Difference, Plan, PlanKind};
use crate::registry::revision::{Estimate, Release};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The plan changes something: exit code 2, where it is asked for.
#[derive(Debug, thiserror::Error)]
#[error("the plan changes something")]
pub struct Changes;

/// Arguments of commands on one revision.
#[derive(Debug, clap::Args)]
pub struct OneArgs {
    /// Which revision: `payer@2`.
    revision: RevisionArg,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `preview`.
#[derive(Debug, clap::Args)]
pub struct PreviewArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Estimate it from about so many keys, before anything is prepared. For revisions that count what the live one counts.
    #[arg(long, value_name = "KEYS", num_args = 0..=1, default_missing_value = "10000")]
    sample: Option<u32>,
}

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Exit with 2 when something would change.
    #[arg(long)]
    detailed_exitcode: bool,
}

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// One revision: `payer@1`.
    before: RevisionArg,
    /// Another one of the same rule: `payer@2`.
    after: RevisionArg,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `ls` and `history`.
#[derive(Debug, clap::Args)]
pub struct RuleArgs {
    /// Only this rule.
    rule: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `operations`.
#[derive(Debug, clap::Args)]
pub struct OperationsArgs {
    #[command(flatten)]
    common: Common,
}

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// A revision (`payer@2`), or a rule for its newest one.
    revision: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize, Deserialize)]
pub(in crate::cli) struct Revisions {
    pub(in crate::cli) revisions: Vec<RevisionAnswer>,
}

#[derive(Deserialize)]
struct Rules {
    rules: Vec<Named>,
    #[serde(default)]
    others: Vec<String>,
}

#[derive(Deserialize)]
struct Named {
    rule: String,
}

#[derive(Serialize, Deserialize)]
struct Lines {
    lines: Vec<AuditAnswer>,
    #[serde(skip_serializing)]
    next: Option<u64>,
}

/// A revision in a line.
pub(super) fn revision_line(revision: &RevisionAnswer) -> String {
    let text = |value: Value| cell(&value);
    format!(
        "{}@{}: {}, {}, {}",
        revision.rule,
        revision.revision,
        text(serde_json::json!(revision.release)),
        text(serde_json::json!(revision.run_state)),
        text(serde_json::json!(revision.data_state)),
    )
}

/// Says what a revision changes.
///
/// # Errors
/// There is no such revision; [`Changes`] where that is asked for.
pub fn plan(args: &PlanArgs) -> anyhow::Result<()> {
    let session = Session::reading(&args.one.common)?;
    let plan: Plan = session.asker.post(&args.one.revision.path("/plan"), Vec::new())?;
    let mut out = Out::new();
    match args.one.common.output {
        Form::Table => {
            out.line(&plan.words)?;
            let parts =
                [("aggregate", &plan.aggregates), ("label", &plan.labels), ("parameter", &plan.params)];
            for (name, difference) in parts {
                differences(name, difference, &mut out)?;
            }
            for obstacle in &plan.obstacles {
                out.line(&format!("would be refused: {obstacle}"))?;
            }
        }
        form => out.json(&plan, form)?,
    }
    out.flush()?;
    if args.detailed_exitcode && plan.kind != PlanKind::Nothing { Err(Changes.into()) } else { Ok(()) }
}

/// Says what two revisions differ in.
///
/// # Errors
/// There is no such revision, or they are of two rules.
pub fn diff(args: &DiffArgs) -> anyhow::Result<()> {
    let (before, after) = (&args.before, &args.after);
    if before.rule != after.rule {
        anyhow::bail!("{} and {} are two rules; a diff is of two revisions of one", before.rule, after.rule);
    }
    let session = Session::reading(&args.common)?;
    let diff: Diff = session.asker.read(&before.path(&format!("/diff?to={}", after.revision)))?;
    let mut out = Out::new();
    match args.common.output {
        Form::Table => {
            out.line(&diff.words)?;
            let parts = [
                ("manifest", &diff.manifest),
                ("aggregate", &diff.aggregates),
                ("label", &diff.labels),
                ("parameter", &diff.params),
            ];
            for (what, changes) in parts {
                changes.iter().try_for_each(|change| out.line(&changed(what, change)))?;
            }
        }
        form => out.json(&diff, form)?,
    }
    out.flush()
}

pub(in crate::cli) fn changed(what: &str, of: &Changed) -> String {
    let name = &of.name;
    match (&of.before, &of.after) {
        (Value::Null, after) => format!("  + {what} {name}: {after}"),
        (before, Value::Null) => format!("  - {what} {name}: {before}"),
        (before, after) => format!("  ~ {what} {name}: {before} -> {after}"),
    }
}

pub(in crate::cli) fn differences(what: &str, of: &Difference, out: &mut Out) -> anyhow::Result<()> {
    for (sign, names) in [("+", &of.added), ("~", &of.changed), ("-", &of.removed)] {
        for name in names {
            out.line(&format!("  {sign} {what} {name}"))?;
        }
    }
    for name in &of.perhaps {
        out.line(&format!(
            "  ? {what} {name} (declared alike, by other code or parameters: the preview counts keys)"
        ))?;
    }
    Ok(())
}

/// Says which keys activating a revision would change.
///
/// # Errors
/// It is not prepared.
pub fn preview(args: &PreviewArgs) -> anyhow::Result<()> {
    let PreviewArgs { one: OneArgs { revision, common }, sample } = args;
    let session = Session::reading(common)?;
    let answer: PreviewAnswer = match sample {
        None => session.asker.post(&revision.path("/preview"), Vec::new())?,
        Some(keys) => {
            let body = serde_json::to_vec(&serde_json::json!({ "keys": keys }))?;
            session.asker.post(&revision.path("/preview/sample"), body)?
        }
    };
    let mut out = Out::new();
    match common.output {
        Form::Table => preview_table(&answer, &mut out)?,
        form => out.json(&answer, form)?,
    }
    out.flush()
}

fn preview_table(answer: &PreviewAnswer, out: &mut Out) -> anyhow::Result<()> {
    let (preview, name) = (&answer.preview, format!("{}@{}", answer.rule, answer.revision));
    let against = match preview.against {
        0 => "no labels".to_owned(), // the rule is new
        live => format!("{}@{live}", answer.rule),
    };
    let (keys, commit) = (preview.changed_keys, preview.commit);
    let mut table = Table::new(["LABEL", "ENTERED", "LEFT", "KEPT"]);
    match &preview.sampled {
        None => {
            out.line(&format!("{name} against {against}: {keys} keys change; exact at commit {commit}\n"))?;
            for label in &preview.labels {
                let [entered, left, kept] = [label.entered, label.left, label.kept].map(|n| n.to_string());
                table.row([label_name(label), entered, left, kept]);
            }
        }
        Some(of) => {
            let text = |n: &Estimate| format!("{} ({}..{})", n.about, n.from, n.to);
            let changed = text(&of.changed);
            out.line(&format!("{name} against {against}: about {changed} keys change at commit {commit}"))?;
            out.line(&format!("estimated from {} of {} keys; in brackets 95 %\n", of.keys, of.of))?;
            for (label, span) in preview.labels.iter().zip(&of.labels) {
                table.row([label_name(label), text(&span.entered), text(&span.left), text(&span.kept)]);
            }
        }
    }
    table.print(out)?;
    for words in preview.held.words().into_iter().chain(lacking(answer.lacks, &answer.rule)) {
        out.line(&format!("\n{words}"))?;
    }
    let mut samples = Table::new(["KEY", "LABEL", "BEFORE", "AFTER"]);
    for of in answer.samples.iter().filter(|s| s.value.is_none()) {
        for sample in of.entered.iter().chain(&of.left).take(5) {
            let labels = |labels: &std::collections::BTreeMap<String, Value>| -> String {
                let one = |(name, value): (&String, &Value)| match value {
                    Value::String(value) => format!("{name}={value}"),
                    _ => name.clone(),
                };
                labels.iter().map(one).collect::<Vec<_>>().join(" ")
            };
            samples.row([
                sample.key.clone(),
                of.label.clone(),
                labels(&sample.before),
                labels(&sample.after),
            ]);
        }
    }
    if !samples.is_empty() {
        out.line("")?;
        samples.print(out)?;
    }
    let next = match &preview.sampled {
        None => format!("activate {name} --preview {} --max-change 1%", preview.id),
        Some(_) => format!("prepare {name}"), // what is estimated binds nothing
    };
    if preview.against == answer.revision {
        return Ok(()); // it is live
    }
    out.line(&format!("\nnext: retag rule {next}"))
}

/// What people should know of sums that lack something.
pub(super) fn lacking(lacks: u64, rule: &str) -> Option<String> {
    (lacks > 0).then(|| {
        format!("its sums lack {lacks} row images or messages, so labels are approximate: `retag quarantine ls --rule {rule}`")
    })
}

/// Lists revisions.
///
/// # Errors
/// There is no such rule.
pub fn ls(args: &RuleArgs) -> anyhow::Result<()> {
    let session = Session::reading(&args.common)?;
    let names = match &args.rule {
        Some(rule) => vec![rule.clone()],
        None => {
            let rules: Rules = session.asker.read("/v1/rules")?;
            let mut names: Vec<String> = rules.rules.into_iter().map(|r| r.rule).collect();
            names.extend(rules.others);
            names.sort_unstable();
            names
        }
    };
    let mut all = Revisions { revisions: Vec::new() };
    for name in names {
        let mut of: Revisions = session.asker.read(&format!("/v1/rules/{}/revisions", segment(&name)))?;
        all.revisions.append(&mut of.revisions);
    }
    let mut out = Out::new();
    match args.common.output {
        Form::Table => {
            let mut table =
                Table::new(["REVISION", "RELEASE", "RUN", "DATA", "VERSION", "UPLOADED", "BY", "PARAMS"]);
            for r in &all.revisions {
                let text = |value: Value| cell(&value);
                table.row([
                    format!("{}@{}", r.rule, r.revision),
                    release(r),
                    text(serde_json::json!(r.run_state)),
                    text(serde_json::json!(r.data_state)),
                    r.version.clone(),
                    r.uploaded.clone(),
                    r.by.clone(),
                    params(r),
                ]);
            }
            table.print(&mut out)?;
        }
        form => out.json(&all, form)?,
    }
    out.flush()
}

/// How far a revision is, with the percentage of what is done now.
fn release(revision: &RevisionAnswer) -> String {
    let name = cell(&serde_json::json!(revision.release));
    let under_way = revision.operation.as_ref().filter(|_| revision.release == Release::Preparing);
    under_way.map_or(name.clone(), |o| format!("{name} {} %", o.percent))
}

/// Lists what is under way, and what ended last.
///
/// # Errors
/// The state does not read.
pub fn operations(args: &OperationsArgs) -> anyhow::Result<()> {
    let session = Session::reading(&args.common)?;
    let all: Operations = session.asker.read("/v1/operations")?;
    let mut out = Out::new();
    match args.common.output {
        Form::Table => {
            let mut table = Table::new(["ID", "KIND", "REVISION", "STATE", "BEGAN", "PROGRESS"]);
            for o in &all.operations {
                let text = |value: Value| cell(&value);
                let progress = if o.failure.is_empty() { o.words() } else { o.failure.clone() };
                table.row([
                    o.id.to_string(),
                    text(serde_json::json!(o.kind)),
                    format!("{}@{}", o.rule, o.revision),
                    text(serde_json::json!(o.state)),
                    o.began.clone(),
                    progress,
                ]);
            }
            table.print(&mut out)?;
        }
        form => out.json(&all, form)?,
    }
    out.flush()
}

fn params(revision: &RevisionAnswer) -> String {
    let one = |(name, value): (&String, &Value)| format!("{name}={}", cell(value));
    revision.params.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Shows one revision.
///
/// # Errors
/// There is none.
pub fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let session = Session::reading(&args.common)?;
    let found: RevisionAnswer = match args.revision.parse::<RevisionArg>() {
        Ok(revision) => session.asker.read(&revision.path(""))?,
        Err(_) => {
            let path = format!("/v1/rules/{}/revisions", segment(&args.revision));
            let mut all: Revisions = session.asker.read(&path)?;
            let newest = all.revisions.pop();
            newest.ok_or_else(|| anyhow::anyhow!("rule {} has no revision yet", args.revision))?
        }
    };
    let mut out = Out::new();
    match args.common.output {
        Form::Table => {
            out.line(&revision_line(&found))?;
            let mut table = Table::new(["", ""]);
            let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
            row("version", found.version.clone());
            row("file", format!("{} ({} bytes)", found.file, found.bytes));
            row("namespace", found.namespace_id.clone());
            if let Some(adopted) = &found.adopted {
                let Compared { recorded, made_up } = adopted.compared;
                let of = format!("{recorded} recorded and {made_up} made-up images");
                row("adopted", format!("the sums of {}: alike on {of}", adopted.namespace_id));
            }
            row("label side", found.label_id.clone());
            row("parameters", params(&found));
            row("labels", found.labels.join(", "));
            row("uploaded", format!("{} by {} {}", found.uploaded, found.by, found.why));
            row("fuel a row", found.report.fuel_per_row.to_string());
            if let Some(until) = &found.retained_until {
                row("kept until", until.clone());
            }
            if let Some(words) = found.held.words() {
                row("held", words);
            }
            if !found.failure.is_empty() {
                row("given up", found.failure.clone());
            }
            if let Some(o) = &found.operation {
                row("operation", format!("{}: {}", o.id, o.words()));
            }
            for preview in &found.previews {
                row("preview", format!("{}: {} keys change", preview.id, preview.changed_keys));
            }
            table.print(&mut out)?;
        }
        form => out.json(&found, form)?,
    }
    out.flush()
}

/// Prints the audit.
///
/// # Errors
/// The state does not read.
pub fn history(args: &RuleArgs) -> anyhow::Result<()> {
    let session = Session::reading(&args.common)?;
    let of_rule = args.rule.as_ref().map_or_else(String::new, |rule| format!("&rule={}", segment(rule)));
    let mut lines = Lines { lines: Vec::new(), next: Some(0) };
    while let Some(after) = lines.next {
        let path = format!("/v1/audit?limit=1000&after={after}{of_rule}");
        let mut page: Lines = session.asker.read(&path)?;
        lines.lines.append(&mut page.lines);
        lines.next = page.next;
    }
    let mut out = Out::new();
    match args.common.output {
        Form::Table => {
            let mut table = Table::new(["TIME", "COMMIT", "RULE", "COMMAND", "BY", "LIVE", "WHY"]);
            for AuditAnswer { time, entry } in &lines.lines {
                let live = |side: &Value| cell(side.get("live").unwrap_or(&Value::Null));
                let (before, after) = (live(&entry.before), live(&entry.after));
                let moved = if before == after { after } else { format!("{before} -> {after}") };
                let of_sink = entry.sink.as_ref().map(|sink| format!("(sink {sink})"));
                table.row([
                    time.clone(),
                    entry.commit.to_string(),
                    of_sink.unwrap_or_else(|| match entry.revision {
                        Some(number) => format!("{}@{number}", entry.rule),
                        None => entry.rule.clone(),
                    }),
                    format!("{} {}", entry.command, entry.with).trim_end().to_owned(),
                    entry.by.clone(),
                    moved,
                    entry.why.clone(),
                ]);
            }
            table.print(&mut out)?;
        }
        form => out.json(&lines, form)?,
    }
    out.flush()
}
