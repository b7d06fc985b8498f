//! `retag status`: the worst problem first with its next command, then everything else.

use super::ask::Asker;
use super::place::Common;
use super::print::{Form, Out, Table, cell, or_dash};
use super::sink::doing;
use crate::api::status::StatusAnswer;
use crate::source::Unit;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
}

/// Prints the status.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let asker = Asker::open(&args.common.place)?;
    let answer: StatusAnswer = asker.read("/v1/status")?;
    let mut out = Out::new();
    match args.common.output {
        Form::Table => text(&answer, &mut out)?,
        form => out.json(&answer, form)?,
    }
    out.flush()
}

fn text(answer: &StatusAnswer, out: &mut Out) -> anyhow::Result<()> {
    if answer.problems.is_empty() {
        out.line("all is well")?;
    }
    for problem in &answer.problems {
        let severity = cell(&serde_json::to_value(problem.severity)?);
        out.line(&format!("{severity}: {} ({})\n  next: {}", problem.message, problem.code, problem.next))?;
    }
    let running = if answer.running { "running" } else { "stopped" };
    out.line(&format!(
        "\nstate {} epoch {} in {}: {running}, commit {} of {}\n",
        answer.state_id, answer.epoch, answer.dir, answer.commit, answer.time
    ))?;
    sources(answer, out)?;
    rules(answer, out)?;
    totals(answer, out)
}

fn sources(answer: &StatusAnswer, out: &mut Out) -> anyhow::Result<()> {
    let mut table =
        Table::new(["SOURCE", "PARTITION", "POSITION", "END", "LAG", "HISTORY", "IDS", "GUARANTEE"]);
    for source in &answer.sources {
        let history = match source.complete {
            Some(true) => "complete",
            Some(false) => "none",
            None => "not configured",
        };
        for partition in &source.partitions {
            let unknown = if partition.unit == Unit::Bytes { "gone" } else { "not known" };
            let number = |n: Option<u64>| n.map_or_else(|| unknown.to_owned(), |n| n.to_string());
            let seconds = partition.lag_seconds.filter(|seconds| *seconds > 0);
            let seconds = seconds.map_or_else(String::new, |seconds| format!(" ({seconds} s)"));
            table.row([
                source.source.clone(),
                partition.partition.clone(),
                partition.position.to_string(),
                number(partition.bytes.or(partition.end_offset)),
                number(partition.lag_bytes.or(partition.lag_messages)) + &seconds,
                history.to_owned(),
                or_dash(source.id_form.as_deref()),
                source.guarantee.clone(),
            ]);
        }
    }
    table.print(out)?;
    out.line("")
}

fn rules(answer: &StatusAnswer, out: &mut Out) -> anyhow::Result<()> {
    let mut table = Table::new([
        "RULE",
        "ENTITY",
        "RUN",
        "DATA",
        "GENERATION",
        "NAMESPACE",
        "PENDING",
        "ERROR",
        "OVERFLOW",
    ]);
    let mut labels = Table::new(["LABEL", "KEYS", "RULE"]);
    for rule in &answer.rules {
        table.row([
            format!("{}@{}", rule.rule, rule.revision),
            rule.entity.clone(),
            cell(&serde_json::to_value(rule.run_state)?),
            cell(&serde_json::to_value(rule.data_state)?),
            format!("{} {}", rule.generation, cell(&serde_json::to_value(rule.labels_state)?)),
            rule.namespace_id.chars().take(12).collect(),
            rule.pending_keys.to_string(),
            rule.error_keys.to_string(),
            rule.overflow_keys.to_string(),
        ]);
        for label in &rule.labels {
            labels.row([label.label.clone(), label.count.to_string(), rule.rule.clone()]);
            for (value, count) in &label.values {
                labels.row([format!("{}={value}", label.label), count.to_string(), rule.rule.clone()]);
            }
        }
    }
    table.print(out)?;
    out.line("")?;
    labels.print(out)?;
    out.line("")
}

fn totals(answer: &StatusAnswer, out: &mut Out) -> anyhow::Result<()> {
    let totals = &answer.totals;
    out.line(&format!(
        "{} changes applied, {} came again, {} images, {} refused, {} rows with a NULL key, {} transitions",
        totals.changes, totals.resent, totals.images, totals.bad_images, totals.null_keys, totals.transitions
    ))?;
    for (reason, n) in &totals.skipped {
        out.line(&format!("skipped: {n} messages, {reason}"))?;
    }
    for (table, n) in &totals.tables {
        out.line(&format!("table {table}: {n} changes"))?;
    }
    for sink in &answer.sinks {
        let at = sink.next.map_or_else(
            || "nothing delivered yet".to_owned(),
            |place| format!("next is commit {} index {}", place.commit, place.index),
        );
        let gone = if sink.configured { "" } else { ", not configured" };
        let now = sink.now.as_ref().map_or_else(String::new, |now| format!(", {}", doing(now)));
        out.line(&format!("sink {}: {at}{gone}{now}", sink.sink))?;
    }
    out.line(&format!("outbox: {} rows wait", answer.outbox_rows))
}
