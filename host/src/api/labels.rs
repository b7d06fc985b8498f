//! The labels of a key: what it carries, and on demand why that may be trusted, and its aggregates.

use super::error::ApiError;
use super::reader::Reader;
use super::value::Columns;
use crate::clock;
use crate::label::readings::exists;
use crate::registry::{ERROR, Generation, Namespace, OVERFLOW, PENDING, STATUS_INDEX, WAKE_INDEX};
use crate::state::{Record, Slot};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the answer on one label of a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LabelStatus {
    /// The key carries it.
    Present,
    /// The key does not carry it.
    Absent,
    /// The rule has not seen its whole history: both answers may be wrong.
    Warming,
    /// The rule has never met the key, or everything of it was taken back.
    UnknownKey,
    /// The rule is paused, or has not caught up since: labels are as of then.
    Stale,
    /// A count is negative, so changes are missing: labels stay as they were.
    Pending,
    /// The rule failed on the key: labels stay as they were.
    Error,
}

/// The labels of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyLabels {
    /// What the key identifies.
    pub entity: String,
    /// The key as text.
    pub key: String,
    /// Commit of the answer.
    pub commit: u64,
    /// Engine time of the commit, RFC 3339.
    pub time: String,
    /// Carried labels: `true` for a flag, else the value's name.
    pub labels: BTreeMap<String, Value>,
    /// Commit time, as the database says, of the newest change that the answer counts, RFC 3339; with `metadata`, once there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// Of every label of the entity, where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, Metadata>>,
    /// Of every rule of the entity, where asked for: aggregates by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregates: Option<BTreeMap<String, Map<String, Value>>>,
}

/// How far the answer on one label may be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// What the answer means.
    pub status: LabelStatus,
    /// Rule that gives the label.
    pub rule: String,
    /// Its revision.
    pub revision: u32,
    /// Moment at which the rule's labels of this key may change by time alone, RFC 3339.
    pub valid_until: Option<String>,
}

/// The labels of a key given as text; with metadata and aggregates where asked for.
///
/// # Errors
/// An unknown entity, text that is no key, what the store says.
pub fn labels_of(reader: &Reader, entity: &str, key: &str, metadata: bool) -> Result<KeyLabels, ApiError> {
    let (number, found) = reader.entity(entity)?;
    let record = reader.record(number, found, key)?;
    let mut answer = KeyLabels {
        entity: entity.to_owned(),
        key: key.to_owned(),
        commit: reader.commit(),
        time: reader.time(),
        labels: BTreeMap::new(),
        watermark: None,
        metadata: metadata.then(BTreeMap::new),
        aggregates: None,
    };
    let of_entity =
        |g: &&Generation| reader.registry.entity_of(g.namespace).is_some_and(|(n, _)| n == number);
    for generation in reader.live().filter(of_entity) {
        for (index, label) in (0u16..).zip(&generation.labels) {
            let mark = record.as_ref().map_or(0, |r| r.mark(Slot { space: generation.space, index }));
            if mark != 0 {
                let value = generation.value_name(index, mark).map_or(Value::Bool(true), Value::from);
                answer.labels.insert(label.name.clone(), value);
            }
            if let Some(all) = &mut answer.metadata {
                let about = Metadata {
                    status: status(reader, generation, record.as_ref(), mark),
                    rule: generation.rule.clone(),
                    revision: generation.revision,
                    valid_until: record.as_ref().and_then(|r| wake(r, generation)).map(clock::rfc3339),
                };
                all.insert(label.name.clone(), about);
            }
        }
    }
    if metadata {
        let newest = reader.totals()?.newest;
        answer.watermark = newest.map(|seconds| clock::rfc3339(seconds.saturating_mul(1_000_000)));
        let mut aggregates = BTreeMap::new();
        let registry = &reader.registry;
        let is_live = |n: &&Namespace| registry.namespace(&n.rule).is_some_and(|live| live.space == n.space);
        for namespace in registry.namespaces.iter().filter(|n| n.entity == number).filter(is_live) {
            aggregates.insert(namespace.rule.clone(), Columns::of(namespace)?.object(record.as_ref()));
        }
        answer.aggregates = Some(aggregates);
    }
    Ok(answer)
}

fn status(reader: &Reader, generation: &Generation, record: Option<&Record>, mark: u16) -> LabelStatus {
    let held = record.map_or(0, |r| r.mark(Slot { space: generation.space, index: STATUS_INDEX }));
    match held {
        ERROR | OVERFLOW => LabelStatus::Error,
        PENDING => LabelStatus::Pending,
        _ if reader.registry.pauses.contains_key(&generation.rule) => LabelStatus::Stale,
        _ if reader.warming() => LabelStatus::Warming,
        _ if !record.is_some_and(|r| exists(r, generation.namespace)) => LabelStatus::UnknownKey,
        _ if mark == 0 => LabelStatus::Absent,
        _ => LabelStatus::Present,
    }
}

fn wake(record: &Record, generation: &Generation) -> Option<i64> {
    let register = record.register(Slot { space: generation.space, index: WAKE_INDEX });
    register.first_chunk().map(|bytes| i64::from_le_bytes(*bytes)).filter(|moment| *moment != i64::MAX)
}
