//! What is wrong with the host or its data, worst first, each with the next command.

use super::lag;
use super::reader::Reader;
use super::rules::{DataState, RuleAnswer};
use super::sinks::Sink;
use super::status::Source;
use crate::aggregate::SET_ENTRIES_MAX;
use crate::config::Manage;
use crate::pipeline::rebuild::unfinished;
use crate::pipeline::rows::Totals;
use crate::sink::progress::Doing;
use crate::source::Unit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Labels are wrong or stand still.
    Error,
    /// Some labels are, or may be.
    Warning,
    /// Worth knowing.
    Info,
}

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub next: String,
}

/// All problems, worst first.
pub(super) fn all(
    reader: &Reader,
    (sources, sinks): (&[Source], &[Sink]),
    rules: &[RuleAnswer],
    totals: &Totals,
    outbox_rows: u64,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    sources.iter().for_each(|source| of_source(source, &mut problems));
    sinks.iter().for_each(|sink| of_sink(sink, &mut problems));
    rules.iter().for_each(|rule| of_rule(rule, &mut problems));
    if totals.bad_images > 0 {
        problems.push(problem(
            Severity::Warning,
            "bad-images",
            format!("{} row images were refused by rules and count nothing", totals.bad_images),
            "retag quarantine ls",
        ));
    }
    if totals.aside > 0 {
        problems.push(problem(
            Severity::Warning,
            "messages-aside",
            format!("{} messages were put aside: what reads their tables lacks them", totals.aside),
            "retag quarantine ls",
        ));
    }
    begun(reader, &mut problems);
    let next = match reader.about.drift.manage() {
        Manage::State => "retag rule ls",
        Manage::Config => "retag apply --dry-run",
    };
    // Only a start reads the rule files of the configuration.
    let drift = if reader.about.running { reader.about.drift.of(&reader.registry) } else { Vec::new() };
    problems.extend(drift.into_iter().map(|drift| problem(Severity::Info, "drift", drift, next)));
    for (source, waiting) in lag::behind(reader) {
        let (name, most) = (&source.name, source.lag_max);
        let unit = match source.unit {
            Unit::Bytes => "bytes",
            Unit::Messages => "messages",
        };
        problems.push(problem(
            Severity::Warning,
            "lagging",
            format!(
                "{waiting} {unit} of source {name} wait, more than lag_{unit}_max = {most}: labels are late"
            ),
            "retag status",
        ));
    }
    if let Some(rebuild) = &reader.about.rebuild {
        let message = format!("{}; the stream waits, and answers are those of before", rebuild.progress());
        problems.push(problem(Severity::Info, "rebuilding", message, "retag status"));
    }
    if !reader.about.running {
        if let Some(rule) = unfinished(&reader.view) {
            let message = format!("reading the history of rule {rule} anew was stopped before its end");
            let next = format!("retag run --rebuild {rule}");
            problems.push(problem(Severity::Warning, "rebuilding", message, &next));
        }
        let lag: u64 = sources.iter().flat_map(|s| &s.partitions).filter_map(|p| p.lag_bytes).sum();
        let waiting = if outbox_rows > 0 { ", and transitions wait for their sinks" } else { "" };
        let severity = if lag > 0 || outbox_rows > 0 { Severity::Warning } else { Severity::Info };
        let message = format!("no host runs on this state; {lag} bytes wait to be read{waiting}");
        problems.push(problem(severity, "stopped", message, "retag run"));
    }
    problems.sort_by_key(|problem| problem.severity); // stable: in the order above where equally bad
    problems
}

/// Sources that say now that they hold their whole history, and did not when they were first read.
fn begun(reader: &Reader, problems: &mut Vec<Problem>) {
    for source in reader.about.sources.iter().filter(|source| source.complete) {
        let name = &source.name;
        if !reader.positions.incomplete.contains(name) {
            continue;
        }
        let how = match source.unit {
            Unit::Bytes => "was first read with history = \"none\"",
            Unit::Messages => "did not hold its whole history when it was first read",
        };
        problems.push(problem(
            Severity::Warning,
            "approximate",
            format!("source {name} {how}: sums lack rows that lived before for good"),
            "read the whole history into a new state directory with history = \"complete\"",
        ));
    }
}

fn of_sink(sink: &Sink, problems: &mut Vec<Problem>) {
    let name = &sink.sink;
    if sink.dropped > 0 {
        let message = format!(
            "sink {name} never got {} messages: it was away for too long, and when_full = \"drop-oldest\"",
            sink.dropped
        );
        problems.push(problem(Severity::Warning, "sink-dropped", message, "retag sink ls"));
    }
    if sink.dead_letters > 0 {
        let message = format!(
            "the receiver of sink {name} refused {} messages, which are kept; what came behind them was delivered",
            sink.dead_letters
        );
        let next = format!("retag sink dead ls {name}");
        problems.push(problem(Severity::Warning, "sink-dead-letters", message, &next));
    }
    let Some(now) = &sink.now else { return };
    if let Some(what) = &now.waits_for {
        let message = format!("sink {name} waits for {what}; nothing is lost, and consumers get labels late");
        problems.push(problem(Severity::Error, "sink-waits", message, "look at the server and the network"));
    } else if now.whole == Some(false) {
        let message = match now.doing {
            Doing::Resyncing => {
                format!("sink {name} is resynced, {} keys so far; until then it lacks labels", now.keys)
            }
            _ => format!("sink {name} needs a resync; it begins by itself"),
        };
        problems.push(problem(Severity::Warning, "sink-resync", message, "retag sink ls"));
    }
}

fn of_source(source: &Source, problems: &mut Vec<Problem>) {
    if let Some(what) = &source.waits_for {
        let message =
            format!("source {} waits for {what}; nothing is lost, and labels stand still", source.source);
        problems.push(problem(
            Severity::Error,
            "source-waits",
            message,
            "look at the brokers and the network",
        ));
    }
    for partition in source.partitions.iter().filter(|partition| partition.unit == Unit::Bytes) {
        let name = format!("source {}: {}", source.source, partition.partition);
        match partition.bytes {
            None => problems.push(problem(
                Severity::Error,
                "file-gone",
                format!("{name}, read up to byte {}, is not there", partition.position),
                "put the file back, then retag run",
            )),
            Some(bytes) if bytes < partition.position => problems.push(problem(
                Severity::Error,
                "file-replaced",
                format!("{name} has {bytes} bytes but was read up to byte {}", partition.position),
                "put the old file back, then retag run",
            )),
            Some(_) => {}
        }
    }
    if source.complete == Some(false) {
        problems.push(problem(
            Severity::Warning,
            "approximate",
            format!("source {} has history = \"none\": sums lack rows that lived before", source.source),
            "read the whole history into a new state directory with history = \"complete\"",
        ));
    }
    if source.id_form.as_deref() == Some("none") {
        problems.push(problem(
            Severity::Warning,
            "no-change-ids",
            format!(
                "messages of source {} carry no change ids: at-least-once from the producer, a re-sent change counts \
                 twice",
                source.source
            ),
            "let the producer write gtid or binlog positions (Maxwell: output_binlog_position, output_xoffset)",
        ));
    }
}

fn of_rule(rule: &RuleAnswer, problems: &mut Vec<Problem>) {
    let name = &rule.rule;
    if rule.error_keys > 0 {
        problems.push(problem(
            Severity::Error,
            "error-keys",
            format!("rule {name} failed on {} keys; their labels stand still", rule.error_keys),
            &format!("retag members --held error {name}"),
        ));
    }
    if rule.overflow_keys > 0 {
        problems.push(problem(
            Severity::Error,
            "overflow-keys",
            format!(
                "{} keys of rule {name} have more than {SET_ENTRIES_MAX} different values in min, max or distinct; \
                 their labels stand still until a coarser rule is built anew",
                rule.overflow_keys
            ),
            &format!("retag members --held overflow {name}"),
        ));
    }
    if rule.pending_keys > 0 {
        problems.push(problem(
            Severity::Warning,
            "pending-keys",
            format!("{} keys of rule {name} have a negative count; changes are missing", rule.pending_keys),
            &format!("retag members --held pending {name}"),
        ));
    }
    match &rule.pause {
        Some(pause) if pause.operation.is_none() => problems.push(problem(
            Severity::Error,
            "rule-paused",
            format!(
                "rule {name} stands still since {}, paused by {}{}; its labels read STALE",
                pause.since,
                pause.by,
                if pause.why.is_empty() { String::new() } else { format!(" ({})", pause.why) }
            ),
            &format!("retag rule resume {name}"),
        )),
        Some(_) => problems.push(problem(
            Severity::Info,
            "resuming",
            format!("rule {name} catches up with what it missed; its labels read STALE until then"),
            "retag rule operations",
        )),
        None => {}
    }
    if rule.data_state == DataState::CatchingUp {
        problems.push(problem(
            Severity::Info,
            "catching-up",
            format!("rule {name} still reads its history; labels read WARMING until then"),
            "retag status",
        ));
    }
}

fn problem(severity: Severity, code: &str, message: String, next: &str) -> Problem {
    Problem { severity, code: code.to_owned(), message, next: next.to_owned() }
}
