//! Revisions of rules, what is being done with them, and who did what: the registry's rows for people.
//!
//! A revision is a file with parameters under a number that is never used again (`payer@2`). How far it is follows from
//! its label generation; nothing is stored twice.

use super::{Adopted, ERROR, Generation, GenerationState, OVERFLOW, PENDING, Registry, STATUS_INDEX};
use crate::label::Cause;
use crate::rule::Manifest;
use crate::state::View;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Keys of the files' bytes in the `Meta` table begin with this; behind it stands the file's sha256 in hex.
pub const FILE_PREFIX: &[u8] = b"rule-file/";
/// Keys of the audit's rows in the `Meta` table begin with this; behind it stands the commit, big-endian, and the number of
/// the row where a commit has several.
pub const AUDIT_PREFIX: &[u8] = b"audit/";
/// Switches that are remembered.
pub const SWITCHES_MAX: usize = 100;
/// Operations that ended and are still listed.
pub const ENDED_OPERATIONS_MAX: usize = 100;

/// One file with parameters, under a number of the rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Rule that it belongs to.
    pub rule: String,
    /// Its number, counted from 1.
    pub number: u32,
    /// sha256 of the file, in hex.
    pub file: String,
    /// Length of the file.
    pub bytes: u64,
    /// Hash of the map module.
    pub map_id: String,
    /// Everything that gives `map` its meaning, hashed.
    pub namespace_id: String,
    /// Hash of the label side.
    pub label_id: String,
    /// What the file says of itself.
    pub manifest: Manifest,
    /// Parameters as they were given; the rule's defaults stand for the others.
    pub given: BTreeMap<String, Value>,
    /// All parameters in canonical form: what decides whether two revisions label alike.
    pub params: BTreeMap<String, Value>,
    /// Engine time at which it came, µs.
    pub uploaded_us: i64,
    /// Who brought it.
    pub by: String,
    /// Why, as they said.
    pub why: String,
    /// What the check found.
    pub report: Report,
    /// What activating it would have changed, by the time it was asked; the last few.
    #[serde(default)]
    pub previews: Vec<Preview>,
    /// It labels by sums that another file's `map` counts.
    #[serde(default)]
    pub adopted: Option<Adopted>,
    /// Why its last preparation was given up; empty = it was not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

/// What the check of a file found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// What was looked at and found good.
    pub checks: Vec<String>,
    /// Fuel that `map` takes per row of made-up images.
    pub fuel_per_row: u64,
    /// Memory that a guest may take.
    pub memory_bytes_max: u64,
    /// 1: each change of the file is a new namespace; 2: labels change alone.
    pub modules: u8,
}

/// How far a revision is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// It came and passed the check; nothing else.
    Checked,
    /// Its history is being read, or its labels are being evaluated for all keys.
    Preparing,
    /// It can go live at once.
    Ready,
    /// Its labels are the rule's.
    Live,
    /// The same, and the rule stands still: its labels are those of the pause.
    Paused,
    /// It was live, and is kept up to date for a way back.
    Retained,
    /// It was live once.
    Retired,
    /// What was prepared for it was given up; it goes on as one that only came.
    Failed,
}

/// What a preview says of one label, or of one value of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelPreview {
    /// Label.
    pub label: String,
    /// Value; null = the label with whatever value.
    pub value: Option<String>,
    /// Keys that would get it.
    pub entered: u64,
    /// Keys that would lose it.
    pub left: u64,
    /// Keys that carry it before and after.
    pub kept: u64,
}

/// What activating a revision would change, as of one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preview {
    /// Its id: revision and commit.
    pub id: String,
    /// The commit that it is exact at.
    pub commit: u64,
    /// The revision that was live then.
    pub against: u32,
    /// Keys of which any label would change.
    pub changed_keys: u64,
    /// By label and value.
    pub labels: Vec<LabelPreview>,
    /// Keys that keep what they have because the revision cannot say.
    #[serde(default)]
    pub held: HeldKeys,
    /// All of this is estimated from some of the keys; null = it is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Sampling>,
}

/// How many keys keep the labels they have, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldKeys {
    /// A count is negative: messages are still to come.
    pub pending: u64,
    /// `label` fails on them.
    pub error: u64,
    /// A counted set overflowed.
    pub overflow: u64,
}

impl HeldKeys {
    /// Those of label generation `space`.
    #[must_use]
    pub fn of(view: &View, space: u32) -> Self {
        let count = |mark| view.count(space, STATUS_INDEX, mark);
        Self { pending: count(PENDING), error: count(ERROR), overflow: count(OVERFLOW) }
    }

    /// What people should know of it; `None` = nothing.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let all = [
            (self.error, "`label` fails"),
            (self.pending, "a count is negative"),
            (self.overflow, "a counted set overflowed"),
        ];
        let some: Vec<String> =
            all.iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!("{n} where {why}")).collect();
        (!some.is_empty()).then(|| format!("keys that keep the labels they have: {}", some.join(", ")))
    }
}

/// An estimated number, and bounds that hold the truth in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The number.
    pub about: u64,
    /// At least so many.
    pub from: u64,
    /// At most so many.
    pub to: u64,
}

/// What a sampled preview was made from, and how sure it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sampling {
    /// Places of keys that were looked at.
    pub keys: u64,
    /// All places; those of keys that are gone hold nothing.
    pub of: u64,
    /// Keys of which any label would change.
    pub changed: Estimate,
    /// By label and value.
    pub labels: Vec<LabelSpan>,
}

/// How sure a sampled preview is of one label, or of one value of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelSpan {
    /// Label.
    pub label: String,
    /// Value; null = the label with whatever value.
    pub value: Option<String>,
    /// Keys that would get it.
    pub entered: Estimate,
    /// Keys that would lose it.
    pub left: Estimate,
    /// Keys that carry it before and after.
    pub kept: Estimate,
}

/// A switch of label generations, for those who hear of it as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The commit that made it.
    pub commit: u64,
    /// Generation that is live since.
    pub generation: u32,
    /// Keys of which any label changed.
    pub changed_keys: u64,
    /// By label and value.
    pub labels: Vec<LabelPreview>,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// Reads the history of new aggregates, where there are any, and evaluates all keys for a label generation.
    Prepare,
    /// Reads what a paused rule missed, and evaluates all keys for its labels again.
    Resume,
    /// Tells the sinks what a switch of generations changed.
    Tell,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// Under way; it goes on after a restart.
    Running,
    /// Done.
    Done,
    /// Given up on request.
    Cancelled,
    /// Given up because it could not go on.
    Failed,
}

/// Work that takes many commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub kind: OperationKind,
    /// For which rule.
    pub rule: String,
    /// For which revision of it.
    pub revision: u32,
    /// The generation that was live when it began.
    pub old: u32,
    /// The generation that it is about.
    pub new: u32,
    /// Cause of the transitions that it tells.
    pub cause: Cause,
    /// How far it is.
    pub state: OperationState,
    /// The commit with which it began.
    pub commit: u64,
    /// Engine time of that, µs.
    pub began_us: i64,
    /// Engine time of its end, µs.
    pub ended_us: Option<i64>,
    /// Keys that it went over, once it has ended.
    pub keys: u64,
    /// What it read of the sources, where it read them.
    #[serde(default)]
    pub read: Option<HistoryRead>,
    /// What it tells is for those too who hear of changes alone.
    #[serde(default)]
    pub announced: bool,
    /// Another generation went live meanwhile: it goes over all keys once more.
    #[serde(default)]
    pub again: bool,
    /// Why it could not go on.
    #[serde(default)]
    pub failure: String,
}

/// What was read of the sources for new aggregates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRead {
    /// Changes.
    pub rows: u64,
    /// Bytes, those of messages that the rule does not read too.
    pub bytes: u64,
    /// Bytes that the time is of: it is not known across a restart.
    pub timed_bytes: u64,
    /// µs that those took beside the stream.
    pub time_us: u64,
}

impl HistoryRead {
    /// Seconds that `bytes` more take; `None` before anything was timed.
    #[must_use]
    pub fn seconds_for(&self, bytes: u64) -> Option<u64> {
        let us = u128::from(bytes) * u128::from(self.time_us);
        let seconds = us.checked_div(u128::from(self.timed_bytes))? / 1_000_000;
        u64::try_from(seconds).ok()
    }

    /// `n` of what was read by what it took, per second; `None` before anything was timed.
    #[must_use]
    pub fn per_second(&self, n: u64) -> Option<u64> {
        let timed = u128::from(n) * u128::from(self.timed_bytes);
        let timed = timed.checked_div(u128::from(self.bytes))? * 1_000_000;
        u64::try_from(timed.checked_div(u128::from(self.time_us))?).ok()
    }
}

/// One line of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// The commit that carries the change.
    pub commit: u64,
    /// Its engine time, µs.
    pub time_us: i64,
    /// Who.
    pub by: String,
    /// Why, as they said.
    pub why: String,
    /// Name of the command.
    pub command: String,
    /// What it was given, as on the command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub with: String,
    /// Rule; empty where it is about a sink.
    pub rule: String,
    /// Revision, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// SHA-256 of the revision's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Sink, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// The rule's releases before.
    #[schemars(with = "Releases")]
    pub before: Value,
    /// The rule's releases after.
    #[schemars(with = "Releases")]
    pub after: Value,
}

/// The releases of a rule, as the audit keeps them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Releases {
    /// The live revision.
    pub live: Option<u32>,
    /// Its parameters as they were given.
    pub params: Option<BTreeMap<String, Value>>,
    /// How far each revision is, by its number.
    pub releases: BTreeMap<String, Release>,
}

/// Key of a file's bytes in the `Meta` table.
#[must_use]
pub fn file_key(file: &str) -> Vec<u8> {
    [FILE_PREFIX, file.as_bytes()].concat()
}

/// Key of a line of the audit in the `Meta` table.
#[must_use]
pub fn audit_key(commit: u64) -> Vec<u8> {
    [AUDIT_PREFIX, &commit.to_be_bytes()].concat()
}

/// What a configuration, or a switch that it asked for, has made of the releases of rules: rows of the audit.
#[must_use]
pub fn audit_configured(
    (before, after): (&Registry, &Registry),
    command: &str,
    (commit, time_us): (u64, i64),
) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let of = before.revisions.iter().chain(&after.revisions).map(|r| &r.rule);
    let rules: BTreeSet<&String> = of.chain(before.live.keys()).collect();
    let changed = rules.into_iter().map(|rule| (rule, before.summary(rule), after.summary(rule)));
    let changed = changed.filter(|(_, before, after)| before != after);
    let row = |(n, (rule, before, after)): (u16, (&String, Value, Value))| {
        let entry = AuditEntry {
            commit,
            time_us,
            by: "configuration".to_owned(),
            why: String::new(),
            command: command.to_owned(),
            with: String::new(),
            rule: rule.clone(),
            revision: None,
            file: None,
            sink: None,
            before,
            after,
        };
        ([audit_key(commit), n.to_be_bytes().to_vec()].concat(), serde_json::to_vec(&entry).ok())
    };
    (0u16..).zip(changed).map(row).collect()
}

impl Registry {
    /// A revision by its number.
    #[must_use]
    pub fn revision(&self, rule: &str, number: u32) -> Option<&Revision> {
        self.revisions.iter().find(|r| r.rule == rule && r.number == number)
    }

    /// The revisions of a rule, oldest first.
    pub fn revisions_of(&self, rule: &str) -> impl Iterator<Item = &Revision> {
        self.revisions.iter().filter(move |r| r.rule == rule)
    }

    /// The last revision of the same rule with the same file and parameters.
    #[must_use]
    pub fn same_revision(&self, new: &Revision) -> Option<&Revision> {
        self.revisions_of(&new.rule).filter(|r| r.file == new.file && r.params == new.params).last()
    }

    /// The label generation of a revision that is kept up to date, or will be.
    #[must_use]
    pub fn generation_of(&self, rule: &str, number: u32) -> Option<&Generation> {
        let of = |g: &&Generation| g.rule == rule && g.revision == number && g.state.is_kept();
        self.generations.iter().find(of)
    }

    /// How far a revision is.
    #[must_use]
    pub fn release(&self, rule: &str, number: u32) -> Release {
        let found = self.generations.iter().rev().find(|g| g.rule == rule && g.revision == number);
        let is_live = |g: &Generation| self.live.get(rule) == Some(&g.space);
        let has_failed = || self.revision(rule, number).is_some_and(|r| !r.failure.is_empty());
        match found {
            Some(g) if is_live(g) && self.is_stopped(rule) => Release::Paused,
            Some(g) if is_live(g) => Release::Live,
            Some(Generation { state: GenerationState::Filling | GenerationState::Sweeping, .. }) => {
                Release::Preparing
            }
            Some(Generation { state: GenerationState::Ready, .. }) => Release::Ready,
            Some(Generation { state: GenerationState::Retained, .. }) => Release::Retained,
            _ if has_failed() => Release::Failed,
            Some(_) => Release::Retired,
            None => Release::Checked,
        }
    }

    /// The number that the next revision of a rule gets.
    #[must_use]
    pub fn next_revision(&self, rule: &str) -> u32 {
        let of_revisions = self.revisions_of(rule).map(|r| r.number);
        let of_generations = self.generations.iter().filter(|g| g.rule == rule).map(|g| g.revision);
        let forgotten = self.last_revisions.get(rule).copied();
        of_revisions.chain(of_generations).chain(forgotten).max().unwrap_or(0) + 1
    }

    /// Operations under way, oldest first: the order in which they are worked on.
    pub fn running(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|o| o.state == OperationState::Running)
    }

    /// Ends an operation and forgets the oldest ones that ended.
    pub fn end_operation(&mut self, id: u64, state: OperationState, (now, keys): (i64, u64)) {
        if let Some(operation) = self.operations.iter_mut().find(|o| o.id == id) {
            (operation.state, operation.ended_us, operation.keys) = (state, Some(now), keys);
        }
        let ended = self.operations.iter().filter(|o| o.state != OperationState::Running).count();
        for _ in ENDED_OPERATIONS_MAX..ended {
            if let Some(first) = self.operations.iter().position(|o| o.state != OperationState::Running) {
                self.operations.remove(first);
            }
        }
    }

    /// The entity tag of a rule: another one whenever what is live, kept or prepared changes. How far a prepare is does
    /// not count, nor do previews. None = there is no such rule.
    #[must_use]
    pub fn tag(&self, rule: &str) -> Option<String> {
        let revisions: Vec<u32> = self.revisions_of(rule).map(|r| r.number).collect();
        if revisions.is_empty() && self.namespace(rule).is_none() {
            return None;
        }
        let of_rule = self.generations.iter().filter(|g| g.rule == rule);
        let kept: Vec<_> = of_rule.map(|g| (g.space, g.retained.map(|r| r.since_us))).collect();
        let mut facts = json!([rule, self.live.get(rule), revisions, kept]).to_string();
        facts.extend(self.pauses.get(rule).map(|pause| format!(" {} {:?}", pause.commit, pause.operation)));
        let hash = Sha256::digest(facts.as_bytes());
        let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Some(format!("\"{hex}\""))
    }

    /// The releases of a rule, for the audit.
    #[must_use]
    pub fn summary(&self, rule: &str) -> Value {
        let live = self.live(rule);
        let release = |r: &Revision| (r.number.to_string(), self.release(rule, r.number));
        json!(Releases {
            live: live.map(|g| g.revision),
            params: live.map(|g| g.given.clone()),
            releases: self.revisions_of(rule).map(release).collect(),
        })
    }
}
