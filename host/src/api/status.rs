//! Where the host stands: the worst problem first, then state, sources, rules, totals and sinks.

use super::about::SourceAbout;
use super::error::ApiError;
use super::lag;
use super::problem::{self, Problem};
use super::reader::Reader;
use super::rebuild::RebuildProgress;
use super::rules::{self, RuleAnswer};
use super::sinks::{self, Sink};
use crate::clock;
use crate::pipeline::rows::Totals;
use crate::source::Unit;
use crate::state::Table;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most rows of the outbox that are counted.
const OUTBOX_ROWS_COUNTED: u64 = 10_000;

/// Where the host stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusAnswer {
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// A host runs on the state.
    pub running: bool,
    /// State directory.
    pub dir: String,
    /// Random id of the state.
    pub state_id: String,
    /// Its epoch.
    pub epoch: u64,
    /// The rebuild under way, if there is one.
    pub rebuild: Option<RebuildProgress>,
    /// Commit of the answer.
    pub commit: u64,
    /// Engine time of the commit, RFC 3339.
    pub time: String,
    /// Sources, in the order of their names; last those of the state that are not configured.
    pub sources: Vec<Source>,
    /// Rules, by name.
    pub rules: Vec<RuleAnswer>,
    /// Counters since the state was made.
    pub totals: Totals,
    /// Sinks, by name.
    pub sinks: Vec<Sink>,
    /// Rows of transitions that not every sink has (of at most 1,000 each); counted up to 10,000.
    pub outbox_rows: u64,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Its name.
    pub source: String,
    /// It holds its whole history; none where it is not configured.
    pub complete: Option<bool>,
    /// Producer of its change ids.
    pub producer: String,
    /// Form of its change ids: `gtid`, `position` or `none`; null before the first change.
    pub id_form: Option<String>,
    /// What that means for changes that come again.
    pub guarantee: String,
    /// What it waits for, where its brokers do not answer; null where they do, and for files.
    pub waits_for: Option<String>,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

/// A partition of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    /// Path as seen from the configuration's folder; of Kafka `topic/partition`.
    pub partition: String,
    /// What positions count: `bytes` of a file, `messages` of a topic.
    pub unit: Unit,
    /// Applied up to this byte, or to this offset.
    pub position: u64,
    /// Size of the file now; null where it is not there, and for Kafka.
    pub bytes: Option<u64>,
    /// Bytes that wait to be read; null for Kafka.
    pub lag_bytes: Option<u64>,
    /// Offset behind the last message that may be read; null where it is not known, and for files.
    pub end_offset: Option<u64>,
    /// Messages that wait to be read, counted by their offsets; null where it is not known, and for files.
    pub lag_messages: Option<u64>,
    /// Age of the oldest message that is not applied, 0 where none waits; null where it is not known, and for files.
    pub lag_seconds: Option<u64>,
}

/// The status.
///
/// # Errors
/// Facts that do not read, what the store says.
pub fn of(reader: &Reader) -> Result<StatusAnswer, ApiError> {
    let about = &reader.about;
    let totals = reader.totals()?;
    let sources = sources(reader);
    let rules = rules::all(reader)?;
    let sinks = sinks::all(reader)?;
    let outbox_rows = outbox_rows(reader, &sinks)?;
    let problems = problem::all(reader, (&sources, &sinks), &rules, &totals, outbox_rows);
    Ok(StatusAnswer {
        problems,
        running: about.running,
        dir: about.dir.display().to_string(),
        state_id: about.state_id.clone(),
        epoch: about.epoch,
        rebuild: about.rebuild.as_ref().map(|rebuild| rebuild.progress()),
        commit: reader.commit(),
        time: reader.time(),
        sources,
        rules,
        totals,
        sinks,
        outbox_rows,
    })
}

fn sources(reader: &Reader) -> Vec<Source> {
    let mut sources: Vec<Source> =
        reader.about.sources.iter().map(|s| source(reader, &s.name, Some(s))).collect();
    for (partition, _) in &reader.positions.partitions {
        if !sources.iter().any(|s| s.source == partition.source) {
            sources.push(source(reader, &partition.source, None));
        }
    }
    sources
}

fn source(reader: &Reader, name: &str, about: Option<&SourceAbout>) -> Source {
    let producer = about.map_or(name, |about| &about.producer).to_owned();
    let id_form = reader.positions.id_forms.get(&producer).cloned();
    let guarantee = match id_form.as_deref() {
        Some("none") => "at-least-once from the producer",
        Some(_) => "each change once",
        None => "not known before the first change",
    };
    let partitions = reader.positions.partitions.iter().enumerate();
    let of_source = partitions.filter(|(_, (p, _))| p.source == name);
    let now_us = clock::wall_us();
    let partition = |(number, known): (usize, &(crate::source::Partition, u64))| {
        let (partition, position) = known;
        let (observed, waiting) = (lag::observed(reader, partition), lag::waiting(reader, number, known));
        Partition {
            partition: partition.name.clone(),
            unit: partition.unit,
            position: *position,
            bytes: lag::size(reader, partition),
            lag_bytes: waiting.filter(|_| partition.unit == Unit::Bytes),
            end_offset: observed.and_then(|observed| observed.end(number)),
            lag_messages: waiting.filter(|_| partition.unit == Unit::Messages),
            lag_seconds: observed.and_then(|observed| observed.lag_seconds(number, *position, now_us)),
        }
    };
    Source {
        source: name.to_owned(),
        complete: about.map(|about| about.complete),
        producer,
        id_form,
        guarantee: guarantee.to_owned(),
        waits_for: reader.about.observed.get(name).and_then(|observed| observed.waits_for()),
        partitions: of_source.map(partition).collect(),
    }
}

/// Rows that the slowest configured sink has not got.
fn outbox_rows(reader: &Reader, sinks: &[Sink]) -> Result<u64, ApiError> {
    let of_configured = sinks.iter().filter(|sink| sink.configured);
    let Some(from) = of_configured.filter_map(|sink| sink.next).min() else { return Ok(0) };
    let mut rows = 0;
    reader.view.rows(Table::Outbox, &from.key(), None, &mut |_, _| {
        rows += 1;
        rows < OUTBOX_ROWS_COUNTED
    })?;
    Ok(rows)
}
