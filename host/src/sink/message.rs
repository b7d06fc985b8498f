//! The one schema of outgoing messages, for all sinks (docs/message.schema.json).

use crate::label::Transition;
use crate::label::outbox::Place;
use crate::registry::revision::LabelPreview;
use crate::registry::{Registry, Switch};
use serde::Serialize;

/// One outgoing message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message<'a> {
    /// `STATE-EPOCH-COMMIT-INDEX`, the same however often it is sent.
    pub id: String,
    /// What the key identifies.
    pub entity: &'a str,
    /// The key as text.
    pub key: String,
    /// Name of the label.
    pub label: &'a str,
    /// `set` or `unset`.
    pub op: &'static str,
    /// Name of the value now; null for a flag and when unset.
    pub value: Option<&'a str>,
    /// Name of the value before; null for a flag and when there was none.
    pub previous: Option<&'a str>,
    /// Why it changed.
    pub cause: &'static str,
    /// Name of the rule.
    pub rule: &'a str,
    /// Revision of the rule.
    pub revision: u32,
    /// Epoch of the state.
    pub epoch: u64,
    /// Commit.
    pub commit: u64,
    /// Index in the commit.
    pub index: u32,
    /// Engine time of the commit, RFC 3339.
    pub time: &'a str,
}

/// What all messages of one state and commit share.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Random id of the state.
    pub state_id: &'a str,
    /// Its epoch.
    pub epoch: u64,
    /// Engine time of the commit, RFC 3339.
    pub time: &'a str,
}

impl<'a> Message<'a> {
    /// The message of a transition; `None` where the registry does not know its generation any more.
    #[must_use]
    pub fn of(registry: &'a Registry, origin: Origin<'a>, place: Place, t: &Transition) -> Option<Self> {
        let generation = registry.generation(t.generation)?;
        let entity = registry.entities.get(usize::from(t.entity))?;
        let label = generation.labels.get(usize::from(t.label))?;
        Some(Self {
            id: format!("{}-{}-{}-{}", origin.state_id, origin.epoch, place.commit, place.index),
            entity: &entity.name,
            key: entity.key.text(&t.key),
            label: &label.name,
            op: if t.to == 0 { "unset" } else { "set" },
            value: generation.value_name(t.label, t.to),
            previous: generation.value_name(t.label, t.from),
            cause: t.cause.name(),
            rule: &generation.rule,
            revision: generation.revision,
            epoch: origin.epoch,
            commit: place.commit,
            index: place.index,
            time: origin.time,
        })
    }
}

/// A switch of a rule's revisions as one message (docs/summary.schema.json), for sinks with `deliver = "changes"`: who
/// needs the keys reads the members again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary<'a> {
    /// As of a [`Message`].
    pub id: String,
    /// What the rule's keys identify.
    pub entity: &'a str,
    /// `switch`.
    pub op: &'static str,
    /// `swap`, `params`, `rollback`, or `backfill` for a rule that is new.
    pub cause: &'static str,
    /// Name of the rule.
    pub rule: &'a str,
    /// Revision that is live since.
    pub revision: u32,
    /// Keys of which any label changed; null where it is no longer known.
    pub changed_keys: Option<u64>,
    /// By label and value: how many entered, left, stayed.
    pub labels: &'a [LabelPreview],
    /// Epoch of the state.
    pub epoch: u64,
    /// Commit.
    pub commit: u64,
    /// Index in the commit.
    pub index: u32,
    /// Engine time of the commit, RFC 3339.
    pub time: &'a str,
}

impl<'a> Summary<'a> {
    /// The summary of a switch; `None` where the registry does not know its generation any more.
    #[must_use]
    pub fn of(registry: &'a Registry, origin: Origin<'a>, place: Place, t: &Transition) -> Option<Self> {
        let generation = registry.generation(t.generation)?;
        let of = |s: &&Switch| s.commit == place.commit && s.generation == t.generation;
        let switch = registry.switches.iter().find(of);
        Some(Self {
            id: format!("{}-{}-{}-{}", origin.state_id, origin.epoch, place.commit, place.index),
            entity: &registry.entities.get(usize::from(t.entity))?.name,
            op: "switch",
            cause: t.cause.name(),
            rule: &generation.rule,
            revision: generation.revision,
            changed_keys: switch.map(|s| s.changed_keys),
            labels: switch.map_or(&[], |s| &s.labels),
            epoch: origin.epoch,
            commit: place.commit,
            index: place.index,
            time: origin.time,
        })
    }
}

/// State id and place in a message's id.
#[must_use]
pub fn parse_id(id: &str) -> Option<(&str, Place)> {
    let mut parts = id.rsplitn(4, '-');
    let index = parts.next()?.parse().ok()?;
    let commit = parts.next()?.parse().ok()?;
    let _epoch: u64 = parts.next()?.parse().ok()?;
    Some((parts.next()?, Place { commit, index }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back() {
        assert_eq!(parse_id("a1b2-1-77-3"), Some(("a1b2", Place { commit: 77, index: 3 })));
        assert_eq!(parse_id("77-3"), None);
    }
}
