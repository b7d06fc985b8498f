//! What the state knows of rules: entities, namespaces, label generations and which generation is live.
//!
//! One JSON value in the state's `Meta` table, changed only inside a commit; beside it rows for the files' bytes and the
//! audit. Numbers ("spaces") name namespaces and generations inside records; they come from one counter and are never
//! used twice. `command` is the only way in which people change it.

mod adopt;
mod audit;
pub mod command;
pub mod diff;
pub mod key;
pub mod pause;
pub mod plan;
mod manage;
pub mod moves;
mod prepare;
pub mod preview;
mod refusal;
mod remove;
pub mod revision;
pub mod sampling;

pub use adopt::{Adopted, Compared};
pub use key::KeyType;
pub use pause::{Gap, Pause};
pub use prepare::GENERATIONS_MAX;
pub use refusal::Refusal;
pub use revision::{Operation, Revision, Switch};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Key of the registry in the `Meta` table.
pub const META_KEY: &[u8] = b"registry";
/// Number of the generation that a rule without labels comes from or goes to; nothing has it.
pub const NO_SPACE: u32 = 0;
/// Index of the register that holds the moment at which a key's labels change by time alone (i64 µs, little-endian).
pub const WAKE_INDEX: u16 = u16::MAX;
/// Index of the mark that says why a key's labels are held: [`PENDING`], [`ERROR`] or [`OVERFLOW`].
pub const STATUS_INDEX: u16 = u16::MAX - 1;
/// Index of the mark that says: the switch to this generation has been told for the key already.
pub const TOLD_INDEX: u16 = u16::MAX - 2;
/// A count or counted entry of the key is negative.
pub const PENDING: u16 = 1;
/// The rule's `label` failed on the key.
pub const ERROR: u16 = 2;
/// A counted set of the key overflowed.
pub const OVERFLOW: u16 = 3;

/// An entity: what keys identify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Its name; its number is its index.
    pub name: String,
    /// Type of its keys.
    pub key: KeyType,
}

/// One private set of aggregates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its number in records.
    pub space: u32,
    /// Rule that it belongs to.
    pub rule: String,
    /// Everything that gives `map` its meaning, hashed.
    pub namespace_id: String,
    /// Number of its entity.
    pub entity: u16,
    /// The manifest's aggregates, for readers.
    pub aggregates: Vec<crate::rule::manifest::Aggregate>,
    /// Name of the key column of the rule's first table, for exports.
    pub key_column: String,
    /// Where the stream feeds it from, per partition; what lies before comes from the lane. A partition that is not listed
    /// lies wholly behind it.
    #[serde(default)]
    pub fence: Vec<u64>,
    /// What lies before the fence is still being read.
    #[serde(default)]
    pub filling: bool,
    /// sha256 of the file whose `map` feeds it, in hex; empty in states from before adoption, where it is that of any of its
    /// label generations.
    #[serde(default)]
    pub file: String,
    /// Namespace ids of other files whose `map` was found to count the same.
    #[serde(default)]
    pub adopted: Vec<String>,
}

/// How far a label generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GenerationState {
    /// Its namespace still reads its history; nothing is evaluated yet.
    Filling,
    /// Its labels are being evaluated for all keys.
    Sweeping,
    /// Its labels are those of every key.
    Ready,
    /// It was replaced: the differences are being told, its labels removed.
    Retiring,
    /// It was replaced, and is kept up to date for a way back.
    Retained,
    /// Its labels are gone; its names stay for messages that still wait.
    Retired,
}

impl GenerationState {
    /// Its labels are kept up to date.
    #[must_use]
    pub const fn is_evaluated(self) -> bool {
        matches!(self, Self::Sweeping | Self::Ready | Self::Retained)
    }

    /// It is kept up to date, or will be.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        self.is_evaluated() || matches!(self, Self::Filling)
    }
}

/// How long a replaced generation is kept for a way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// Engine time at which it was replaced, µs.
    pub since_us: i64,
    /// Engine time from which it may go, µs.
    pub until_us: i64,
}

/// The labels of one (label side, parameters).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number in records.
    pub space: u32,
    /// Rule that it belongs to.
    pub rule: String,
    /// Number of the namespace that it reads.
    pub namespace: u32,
    /// Revision of the rule, counted from 1.
    pub revision: u32,
    /// Hash of the label module.
    pub label_id: String,
    /// Its parameters, all of them, by name.
    pub params: BTreeMap<String, Value>,
    /// Its labels with the names of their values.
    pub labels: Vec<LabelNames>,
    /// How far it is.
    pub state: GenerationState,
    /// sha256 of the file that evaluates it, in hex; empty in states from before revisions.
    #[serde(default)]
    pub file: String,
    /// Its parameters as they were given.
    #[serde(default)]
    pub given: BTreeMap<String, Value>,
    /// Since when and until when it is kept after it was replaced.
    #[serde(default)]
    pub retained: Option<Retained>,
}

/// A label's name and the names of its values (none for a flag).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelNames {
    /// Its name.
    pub name: String,
    /// Names of its values; mark m stands for `values[m - 1]`.
    pub values: Vec<String>,
}

/// The registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// The last number given out.
    pub last_space: u32,
    /// All entities.
    pub entities: Vec<Entity>,
    /// Attached namespaces.
    pub namespaces: Vec<Namespace>,
    /// Generations that records may still hold.
    pub generations: Vec<Generation>,
    /// Live generation of each rule.
    pub live: BTreeMap<String, u32>,
    /// Revisions of all rules, oldest first.
    #[serde(default)]
    pub revisions: Vec<Revision>,
    /// Operations under way, and the last ones that ended; oldest first.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// The last number of an operation.
    #[serde(default)]
    pub last_operation: u64,
    /// The last switches, where a sink hears of them as a whole.
    #[serde(default)]
    pub switches: Vec<Switch>,
    /// Rules that commands have taken over: their configured files are compared, no longer applied.
    #[serde(default)]
    pub taken_over: BTreeSet<String>,
    /// Rules that `manage = "config"` takes as they are, although commands decided on them: the commands were those of
    /// `retag apply`, or people let a rule stand still that ran as configured.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub applied: BTreeSet<String>,
    /// Rules that stand still, or catch up with what they missed.
    #[serde(default)]
    pub pauses: BTreeMap<String, Pause>,
    /// Rules that have gone and whose labels are being told unset.
    #[serde(default)]
    pub leaving: BTreeSet<String>,
    /// The last number of a rule whose revisions are forgotten in part.
    #[serde(default)]
    pub last_revisions: BTreeMap<String, u32>,
}

impl Registry {
    /// Reads a stored registry; none is an empty one.
    ///
    /// # Errors
    /// Bytes that are not a registry.
    pub fn read(stored: Option<&[u8]>) -> Result<Self, serde_json::Error> {
        stored.map_or_else(|| Ok(Self::default()), serde_json::from_slice)
    }

    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A number that was never used.
    pub fn new_space(&mut self) -> u32 {
        self.last_space += 1;
        self.last_space
    }

    /// Number of the entity, made if it is new; `None` when it exists with another key type.
    pub fn entity(&mut self, name: &str, key: KeyType) -> Option<u16> {
        if let Some(found) = self.entities.iter().position(|e| e.name == name) {
            let same = self.entities.get(found).is_some_and(|e| e.key == key);
            return u16::try_from(found).ok().filter(|_| same);
        }
        self.entities.push(Entity { name: name.to_owned(), key });
        u16::try_from(self.entities.len() - 1).ok()
    }

    /// The namespace that the live labels of a rule are read from; before there are any, its first.
    #[must_use]
    pub fn namespace(&self, rule: &str) -> Option<&Namespace> {
        let live = self.live(rule).and_then(|g| self.namespace_of(g.namespace));
        live.or_else(|| self.namespaces.iter().find(|n| n.rule == rule))
    }

    /// A namespace by its number.
    #[must_use]
    pub fn namespace_of(&self, space: u32) -> Option<&Namespace> {
        self.namespaces.iter().find(|n| n.space == space)
    }

    /// A generation by its number.
    #[must_use]
    pub fn generation(&self, space: u32) -> Option<&Generation> {
        self.generations.iter().find(|g| g.space == space)
    }

    /// The live generation of a rule.
    #[must_use]
    pub fn live(&self, rule: &str) -> Option<&Generation> {
        self.live.get(rule).and_then(|space| self.generation(*space))
    }

    /// Labels of a revision that is not live are evaluated, on sums that are there, or became ready since `since_us`: a switch to
    /// it may be asked for at any moment.
    #[must_use]
    pub fn awaits_switch(&self, since_us: i64) -> bool {
        let ended =
            |space: u32| self.operations.iter().rev().find(|o| o.new == space).and_then(|o| o.ended_us);
        let is_ahead = |g: &&Generation| match g.state {
            GenerationState::Sweeping => !self.namespace_of(g.namespace).is_some_and(|n| n.filling),
            GenerationState::Ready => ended(g.space).is_some_and(|at| at >= since_us),
            _ => false,
        };
        self.generations.iter().filter(is_ahead).any(|g| self.live.get(&g.rule) != Some(&g.space))
    }

    /// What `new` would replace or has replaced: the live generation of its rule, or no labels at all.
    #[must_use]
    pub fn live_before(&self, new: &Generation) -> Generation {
        let live = self.live(&new.rule).cloned();
        live.unwrap_or_else(|| Generation::nothing(&new.rule, new.namespace))
    }

    /// The generation is evaluated and never was live.
    #[must_use]
    pub fn is_to_go_live(&self, generation: &Generation) -> bool {
        let is_new = matches!(generation.state, GenerationState::Sweeping | GenerationState::Ready);
        is_new && self.live.get(&generation.rule) != Some(&generation.space)
    }

    /// Live labels of that name: (generation, index of the label). A name belongs to one entity and one live rule.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<(&Generation, u16)> {
        self.live.values().filter_map(|space| self.generation(*space)).find_map(|g| {
            let index = g.labels.iter().position(|l| l.name == name)?;
            Some((g, u16::try_from(index).ok()?))
        })
    }

    /// The entity of a namespace's number.
    #[must_use]
    pub fn entity_of(&self, namespace: u32) -> Option<(u16, &Entity)> {
        let found = self.namespace_of(namespace)?;
        Some((found.entity, self.entities.get(usize::from(found.entity))?))
    }
}

impl Generation {
    /// What a rule without labels has: no labels under a number that nothing has.
    #[must_use]
    pub fn nothing(rule: &str, namespace: u32) -> Self {
        Self {
            space: NO_SPACE,
            rule: rule.to_owned(),
            namespace,
            revision: 0,
            label_id: String::new(),
            params: BTreeMap::new(),
            labels: Vec::new(),
            state: GenerationState::Retiring,
            file: String::new(),
            given: BTreeMap::new(),
            retained: None,
        }
    }

    /// Name of mark `mark` of label `label`: `None` where it is a flag or the mark is 0.
    #[must_use]
    pub fn value_name(&self, label: u16, mark: u16) -> Option<&str> {
        let values = &self.labels.get(usize::from(label))?.values;
        values.get(usize::from(mark).checked_sub(1)?).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_has_one_key_type() {
        let mut registry = Registry::default();
        assert_eq!(registry.entity("user", KeyType::U64), Some(0));
        assert_eq!(registry.entity("user", KeyType::U64), Some(0));
        assert_eq!(registry.entity("user", KeyType::Text), None);
        assert_eq!(registry.entity("shop", KeyType::Text), Some(1));
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let mut registry = Registry::default();
        registry.entity("user", KeyType::U64);
        registry.new_space();
        assert_eq!(Registry::read(Some(&registry.to_bytes())).unwrap(), registry);
        assert_eq!(Registry::read(None).unwrap(), Registry::default());
        assert!(Registry::read(Some(b"{")).is_err());
    }

    #[test]
    fn a_registry_from_before_revisions_opens() {
        let old = br#"{"last_space":2,"entities":[{"name":"user","key":"u64"}],"namespaces":[{"space":1,"rule":"payer",
            "namespace_id":"ab","entity":0,"aggregates":[],"key_column":"user_id"}],"generations":[{"space":2,
            "rule":"payer","namespace":1,"revision":1,"label_id":"cd","params":{"p":"1"},"labels":[],"state":"ready"}],
            "live":{"payer":2}}"#;
        let registry = Registry::read(Some(old)).unwrap();
        assert_eq!(registry.live("payer").unwrap().revision, 1);
        assert_eq!(registry.next_revision("payer"), 2);
        assert!(registry.taken_over.is_empty() && registry.revisions.is_empty());
    }
}
