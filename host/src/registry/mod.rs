//! What the state knows of rules: entities, namespaces, label generations and which generation is live.
//!
//! One JSON value in the state's `Meta` table, changed only inside a commit. Numbers ("spaces") name namespaces and
//! generations inside records; they come from one counter and are never used twice.

pub mod key;

pub use key::KeyType;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Key of the registry in the `Meta` table.
pub const META_KEY: &[u8] = b"registry";
/// Index of the register that holds the moment at which a key's labels change by time alone (i64 µs, little-endian).
pub const WAKE_INDEX: u16 = u16::MAX;
/// Index of the mark that says why a key's labels are held: [`PENDING`] or [`ERROR`].
pub const STATUS_INDEX: u16 = u16::MAX - 1;
/// A count or counted entry of the key is negative.
pub const PENDING: u16 = 1;
/// The rule's `label` failed on the key.
pub const ERROR: u16 = 2;

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
}

/// How far a label generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GenerationState {
    /// Its labels are being evaluated for all keys.
    Sweeping,
    /// Its labels are those of every key.
    Ready,
    /// It was replaced: the differences are being told, its labels removed.
    Retiring,
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

    /// The namespace of a rule.
    #[must_use]
    pub fn namespace(&self, rule: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|n| n.rule == rule)
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
        let found = self.namespaces.iter().find(|n| n.space == namespace)?;
        Some((found.entity, self.entities.get(usize::from(found.entity))?))
    }
}

impl Generation {
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
}
