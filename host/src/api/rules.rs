//! The rules of the state: what runs, what it is made of, how far it is, and how many carry its labels.

use super::error::ApiError;
use super::lag;
use super::reader::Reader;
use super::release::RunState;
use crate::clock;
use crate::pipeline::rows::Totals;
use crate::registry::{
    ERROR, Generation, GenerationState, Namespace, OVERFLOW, PENDING, Pause, STATUS_INDEX,
};
use crate::rule::in_words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How good the sums of a rule are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataState {
    /// They are those of the tables.
    Exact,
    /// Its sources have not yet been read to their first end.
    CatchingUp,
    /// Row images are missing for good: those of rows that lived before a source begins, or those that the rule refused.
    Approximate,
    /// The rule is paused, or has not yet caught up with what it missed.
    Stale,
    /// Nothing is counted for the revision yet.
    None,
}

/// A rule of the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleAnswer {
    /// Its name.
    pub rule: String,
    /// What its keys identify.
    pub entity: String,
    /// Live revision.
    pub revision: u32,
    /// Number of the live label generation.
    pub generation: u32,
    /// How far that generation is: `ready`, or `sweeping` while it is evaluated for all keys.
    pub labels_state: GenerationState,
    /// How the host works on it.
    pub run_state: RunState,
    /// How good its sums are.
    pub data_state: DataState,
    /// Why it stands still, or is behind.
    pub pause: Option<PauseAnswer>,
    /// Everything that gives its `map` meaning, hashed.
    pub namespace_id: String,
    /// Digest of its sums at the commit of the answer, 16 hexadecimal digits.
    pub digest: String,
    /// Column that is the key.
    pub key_column: String,
    /// Its aggregates: name and kind, in order.
    pub aggregates: Vec<AggregateAnswer>,
    /// Its parameters as they were given; defaults for the others.
    pub params: BTreeMap<String, Value>,
    /// Its labels with the number of members.
    pub labels: Vec<LabelAnswer>,
    /// Keys whose labels are held because a count is negative.
    pub pending_keys: u64,
    /// Keys whose labels are held because the rule failed on them.
    pub error_keys: u64,
    /// Keys whose labels are held because a counted set of theirs overflowed.
    pub overflow_keys: u64,
}

/// A rule that stands still, or catches up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PauseAnswer {
    /// Since when, RFC 3339.
    pub since: String,
    /// The commit that paused it.
    pub commit: u64,
    /// Who paused it; `retag` = the host itself.
    pub by: String,
    /// Why.
    pub why: String,
    /// The operation that catches up; null = it stands still.
    pub operation: Option<u64>,
}

/// An aggregate of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AggregateAnswer {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
}

/// A label of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelAnswer {
    /// Its name.
    pub label: String,
    /// Keys that carry it.
    pub count: u64,
    /// The same by value; empty for a flag.
    pub values: BTreeMap<String, u64>,
}

/// All rules, by name.
///
/// # Errors
/// A registry that contradicts itself.
pub fn all(reader: &Reader) -> Result<Vec<RuleAnswer>, ApiError> {
    let (totals, lagging) = (reader.totals()?, !lag::behind(reader).is_empty());
    let mut rules = Vec::new();
    for generation in reader.live() {
        let namespace = reader.registry.namespaces.iter().find(|n| n.space == generation.namespace);
        let namespace = namespace.ok_or(ApiError::Damaged("the namespace of a live rule"))?;
        rules.push(one(reader, (generation, namespace), &totals, lagging));
    }
    Ok(rules)
}

/// Names of rules that have revisions and are not live: pushed and not activated yet, or gone.
pub(super) fn not_live(reader: &Reader) -> Vec<String> {
    let registry = &reader.registry;
    let names = registry.revisions.iter().map(|r| &r.rule).filter(|rule| !registry.live.contains_key(*rule));
    let names: BTreeSet<&String> = names.collect();
    names.into_iter().cloned().collect()
}

fn one(
    reader: &Reader,
    (generation, namespace): (&Generation, &Namespace),
    totals: &Totals,
    lagging: bool,
) -> RuleAnswer {
    let entity = reader.registry.entities.get(usize::from(namespace.entity));
    let held = |mark| reader.view.count(generation.space, STATUS_INDEX, mark);
    let pause = reader.registry.pauses.get(&generation.rule);
    let (behind, refused) = (reader.positions.catching_up, totals.refused.contains_key(&namespace.space));
    let (run_state, data_state) = states(reader, pause, Standing { behind, lagging, refused });
    RuleAnswer {
        rule: generation.rule.clone(),
        entity: entity.map_or_else(String::new, |e| e.name.clone()),
        revision: generation.revision,
        generation: generation.space,
        labels_state: generation.state,
        run_state,
        data_state,
        pause: pause.map(|pause| PauseAnswer {
            since: clock::rfc3339(pause.since_us),
            commit: pause.commit,
            by: pause.by.clone(),
            why: pause.why.clone(),
            operation: pause.operation,
        }),
        namespace_id: namespace.namespace_id.clone(),
        digest: format!("{:016x}", reader.view.digest(namespace.space)),
        key_column: namespace.key_column.clone(),
        aggregates: namespace
            .aggregates
            .iter()
            .map(|a| AggregateAnswer { name: a.name.clone(), kind: a.kind.clone() })
            .collect(),
        params: params(reader, generation),
        labels: labels(reader, generation),
        pending_keys: held(PENDING),
        error_keys: held(ERROR),
        overflow_keys: held(OVERFLOW),
    }
}

fn params(reader: &Reader, generation: &Generation) -> BTreeMap<String, Value> {
    let revision = reader.registry.revision(&generation.rule, generation.revision);
    revision.map_or_else(|| generation.given.clone(), |r| in_words(&r.manifest, &generation.given))
}

/// How a rule stands beside its pauses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Its sums lack what the host still reads.
    pub(super) behind: bool,
    /// The host follows, and more waits than may.
    pub(super) lagging: bool,
    /// The rule refused images.
    pub(super) refused: bool,
}

/// How the host works on a rule, and how good its sums are.
pub(super) fn states(
    reader: &Reader,
    pause: Option<&Pause>,
    Standing { behind, lagging, refused }: Standing,
) -> (RunState, DataState) {
    let about = &reader.about;
    let run_state = match pause {
        _ if !about.running => RunState::Stopped,
        Some(Pause { operation: None, .. }) => RunState::Stopped,
        Some(_) => RunState::CatchingUp,
        None if behind => RunState::CatchingUp,
        None if lagging => RunState::Lagging,
        None => RunState::Running,
    };
    let data_state = match pause {
        Some(_) => DataState::Stale,
        None if !reader.complete() || refused => DataState::Approximate,
        None if behind => DataState::CatchingUp,
        None => DataState::Exact,
    };
    (run_state, data_state)
}

fn labels(reader: &Reader, generation: &Generation) -> Vec<LabelAnswer> {
    let count = |index, mark| reader.view.count(generation.space, index, mark);
    let answer = |(index, label): (u16, &crate::registry::LabelNames)| {
        let numbered = (1u16..).zip(&label.values);
        let values: BTreeMap<_, _> =
            numbered.map(|(mark, value)| (value.clone(), count(index, mark))).collect();
        let all = if label.values.is_empty() { count(index, 1) } else { values.values().sum() };
        LabelAnswer { label: label.name.clone(), count: all, values }
    };
    (0u16..).zip(&generation.labels).map(answer).collect()
}
