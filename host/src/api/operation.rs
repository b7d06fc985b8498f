//! Answers on operations: how far a prepare is, or the telling of a switch.

use super::error::ApiError;
use super::reader::Reader;
use crate::clock;
use crate::pipeline::lane::Backfill;
use crate::pipeline::sweep::{Work, work_key};
use crate::registry::Gap;
use crate::registry::revision::{HistoryRead, OperationKind, OperationState};
use crate::registry::{Operation, Registry};
use crate::state::SHARDS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationAnswer {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub kind: OperationKind,
    /// Rule.
    pub rule: String,
    /// Revision.
    pub revision: u32,
    /// How far it is.
    pub state: OperationState,
    /// What it does now, or did last.
    pub stage: Stage,
    /// The commit with which it began.
    pub commit: u64,
    /// When that was, RFC 3339.
    pub began: String,
    /// When it ended, RFC 3339.
    pub ended: Option<String>,
    /// Keys done.
    pub keys: u64,
    /// Done of the stage, in percent: bytes of the history, or keys.
    pub percent: u8,
    /// Seconds that the rest of the stage takes at the rate so far; null before anything of it is done, and at the end.
    pub seconds_left: Option<u64>,
    /// How far the history of new aggregates is read; null where none is needed.
    pub history: Option<HistoryAnswer>,
    /// Why it could not go on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

/// Operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operations {
    /// The commit of this answer.
    pub commit: u64,
    /// Those under way and the last ones that ended, the oldest first.
    pub operations: Vec<OperationAnswer>,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It reads history.
    History,
    /// It goes over the keys.
    Keys,
}

/// How far a history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryAnswer {
    /// Changes read.
    pub rows: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes to read in all.
    pub bytes_total: u64,
    /// Changes per second; null before it is measured.
    pub rows_per_second: Option<u64>,
    /// Seconds that the rest takes at this rate.
    pub seconds_left: Option<u64>,
}

impl OperationAnswer {
    /// How far it is, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { percent, keys, .. } = self;
        let left = self.seconds_left.map(|seconds| format!(", about {seconds} s left")).unwrap_or_default();
        match (self.stage, self.history) {
            (Stage::History, Some(history)) => format!("{percent} % of the history, {history}"),
            (_, Some(HistoryAnswer { rows, .. })) => {
                format!("{rows} rows of history, {percent} % of the keys, {keys} done{left}")
            }
            (_, None) => format!("{percent} % of the keys, {keys} done{left}"),
        }
    }
}

impl std::fmt::Display for HistoryAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, bytes, bytes_total, .. } = self;
        write!(f, "{rows} rows, {bytes} of {bytes_total} bytes")?;
        if let Some(rate) = self.rows_per_second {
            write!(f, ", {rate} rows/s")?;
        }
        match self.seconds_left {
            Some(seconds) => write!(f, ", about {seconds} s left"),
            None => write!(f, ", time left not known yet"),
        }
    }
}

/// An operation by its number.
pub(super) fn by_number(reader: &Reader, id: u64) -> Result<OperationAnswer, ApiError> {
    let found = reader.registry.operations.iter().find(|o| o.id == id);
    one(reader, found.ok_or(ApiError::UnknownOperation(id))?)
}

/// Operations under way, and the last ones that ended; the oldest first.
pub(super) fn all(reader: &Reader) -> Result<Vec<OperationAnswer>, ApiError> {
    reader.registry.operations.iter().map(|operation| one(reader, operation)).collect()
}

/// An operation.
pub(super) fn one(reader: &Reader, operation: &Operation) -> Result<OperationAnswer, ApiError> {
    let work: Option<Work> = match operation.state {
        OperationState::Running => reader.fact(&work_key(operation.id), "the row of an operation")?,
        _ => None,
    };
    let backfill = work.as_ref().and_then(|w| w.backfill.as_ref());
    let total = match operation.kind {
        OperationKind::Resume => missed_bytes(&reader.registry, operation, backfill),
        _ => history_bytes(&reader.registry, operation),
    };
    let is_filling =
        operation.state == OperationState::Running && operation.read.is_none() && total.is_some();
    let read = operation.read.or_else(|| backfill.map(|b| b.read)).or(is_filling.then(HistoryRead::default));
    let history = total.zip(read).map(|(bytes_total, read)| HistoryAnswer {
        rows: read.rows,
        bytes: read.bytes,
        bytes_total,
        rows_per_second: read.per_second(read.rows),
        seconds_left: read.seconds_for(bytes_total.saturating_sub(read.bytes)),
    });
    let stage = match (history, is_filling) {
        (Some(_), true) => Stage::History,
        _ => Stage::Keys,
    };
    let (done, seconds_left) = match (history.filter(|_| stage == Stage::History), &work) {
        _ if operation.state == OperationState::Done => (100, None),
        (Some(history), _) => {
            ((history.bytes * 100).checked_div(history.bytes_total).unwrap_or(100), history.seconds_left)
        }
        (None, work) => {
            let keys: u64 = (0..SHARDS).map(|shard| u64::from(reader.view.next_ordinal(shard))).sum();
            let done = work.as_ref().map_or(0, |work| work.keys);
            let took_us = reader.view.engine_time().saturating_sub(operation.began_us);
            let took_us = took_us.max(0).cast_unsigned().saturating_sub(read.map_or(0, |read| read.time_us));
            let left_us = u128::from(took_us) * u128::from(keys.saturating_sub(done));
            let left =
                left_us.checked_div(u128::from(done)).and_then(|us| u64::try_from(us / 1_000_000).ok());
            let is_running = operation.state == OperationState::Running;
            ((done * 100).checked_div(keys).unwrap_or(0).min(99), left.filter(|_| is_running))
        }
    };
    Ok(OperationAnswer {
        id: operation.id,
        kind: operation.kind,
        rule: operation.rule.clone(),
        revision: operation.revision,
        state: operation.state,
        stage,
        commit: operation.commit,
        began: clock::rfc3339(operation.began_us),
        ended: operation.ended_us.map(clock::rfc3339),
        keys: work.as_ref().map_or(operation.keys, |w| w.keys),
        percent: u8::try_from(done).unwrap_or(100),
        seconds_left,
        history,
        failure: operation.failure.clone(),
    })
}

/// Bytes that a paused rule missed, those that are read by now too.
fn missed_bytes(registry: &Registry, operation: &Operation, reading: Option<&Backfill>) -> Option<u64> {
    if let Some(read) = operation.read {
        return Some(read.bytes);
    }
    let pause = registry.pauses.get(&operation.rule).filter(|p| p.operation == Some(operation.id))?;
    let length = |gap: &Gap| gap.stretches().map(|(from, until)| until.saturating_sub(from)).sum::<u64>();
    let (first, rest) = pause.gaps.split_first()?;
    let first = reading.map_or(length(first), |reading| {
        let until = first.until.iter().flatten();
        let left: u64 = until.zip(&reading.done).map(|(until, done)| until.saturating_sub(*done)).sum();
        reading.read.bytes + left
    });
    Some(first + rest.iter().map(length).sum::<u64>())
}

/// Bytes before the fence of the namespace that an operation reads history for.
fn history_bytes(registry: &Registry, operation: &Operation) -> Option<u64> {
    if operation.kind != OperationKind::Prepare {
        return None;
    }
    let namespace = registry.generation(operation.new).and_then(|g| registry.namespace_of(g.namespace))?;
    (namespace.filling || operation.read.is_some()).then(|| namespace.fence.iter().sum())
}
