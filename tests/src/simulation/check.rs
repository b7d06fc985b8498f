//! What must be true at the end of any run, simulated or real: the state's sums and labels, its members, its digests,
//! and what was delivered all say what the model says.

use super::world::World;
use crate::model::{MapSide, Model, Params, PayerRow};
use retag_host::config::Deliver;
use retag_host::label::outbox::Place;
use retag_host::registry::revision::{AuditEntry, audit_key};
use retag_host::registry::{Generation, META_KEY, Registry, STATUS_INDEX, TOLD_INDEX};
use retag_host::state::{Record, SHARDS, Slot, Table, View, digest_of, split_entity_key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a run left behind.
pub struct Outcome {
    /// The durable view.
    pub view: Arc<View>,
    /// Every line of every log.
    pub messages: Vec<Vec<u8>>,
    /// What the sink has, in order: (place, whole message).
    pub delivered: Vec<(Place, serde_json::Value)>,
    /// The sink may have been told again what it had.
    pub forgetful: bool,
}

impl From<&World> for Outcome {
    fn from(world: &World) -> Self {
        Self {
            view: world.view(),
            messages: world.messages().map(<[u8]>::to_vec).collect(),
            delivered: world.delivered.lock().expect("no panic").clone(),
            forgetful: world.forgetful,
        }
    }
}

impl Outcome {
    /// A model that has seen all messages.
    ///
    /// # Panics
    /// On a message that the model does not read.
    #[must_use]
    pub fn model(&self) -> Model {
        let mut model = Model::new();
        for message in &self.messages {
            model.apply(message).expect("a message that the model reads");
        }
        model
    }
}

/// Labels by key, with the names of their values.
pub type Labels = BTreeMap<u64, BTreeMap<String, Option<String>>>;

/// Labels with the names of their values, by entity and key as text.
pub type LabelSets = BTreeMap<(String, String), BTreeMap<String, Option<String>>>;

/// The registry in a view.
///
/// # Panics
/// When it does not read.
#[must_use]
pub fn registry(view: &View) -> Registry {
    let stored = view.row(Table::Meta, META_KEY).expect("a readable row");
    Registry::read(stored.as_deref()).expect("a registry")
}

fn records(view: &View) -> Vec<(usize, u64, Record)> {
    let mut all = Vec::new();
    for shard in 0..SHARDS {
        for (key, record) in view.scan(shard, None, usize::MAX).expect("a readable shard") {
            all.push((shard, u64::from_be_bytes(key[2..].try_into().expect("a u64 key")), record));
        }
    }
    all
}

/// What each namespace of rule payer counts, by its id.
pub type MapSides = BTreeMap<String, MapSide>;

fn payer(view: &View, space: u32) -> BTreeMap<u64, PayerRow> {
    let slot = |index| Slot { space, index };
    let mut rows = BTreeMap::new();
    for (_, key, record) in records(view) {
        if !record.cells().any(|(slot, _)| slot.space == space) {
            continue;
        }
        let row = PayerRow {
            paid_orders: i64::try_from(record.sum(slot(0))).expect("a small count"),
            spent: record.sum(slot(1)),
            refunded: i64::try_from(record.sum(slot(2))).expect("a small count"),
            merchants: record.set(slot(3)).map_or(0, |set| set.positive() as u64),
            registered: record.sum(slot(4)) > 0,
        };
        rows.insert(key, row);
    }
    rows
}

/// Labels of a rule as the records carry them; checked against the members on the way.
///
/// # Panics
/// When members and marks differ.
#[must_use]
pub fn labels_in(view: &View, rule: &str) -> Labels {
    let registry = registry(view);
    labels_of(view, registry.live(rule).expect("a live generation"))
}

/// Labels of one generation as the records carry them; checked against the members on the way.
///
/// # Panics
/// When members and marks differ.
#[must_use]
pub(super) fn labels_of(view: &View, generation: &Generation) -> Labels {
    let mut labels = Labels::new();
    let mut counts: BTreeMap<(u16, u16), u64> = BTreeMap::new();
    for (shard, key, record) in records(view) {
        let listed = view.key_of(shard, record.ordinal).expect("a readable dictionary");
        let listed = listed.and_then(|bytes| Some(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)));
        assert_eq!(listed, Some(key), "the key with the ordinal of {key}");
        for (n, label) in (0u16..).zip(&generation.labels) {
            let mark = record.mark(Slot { space: generation.space, index: n });
            if mark == 0 {
                continue;
            }
            *counts.entry((n, mark)).or_default() += 1;
            let members = view.members(shard, generation.space, n, mark).expect("members");
            assert!(members.contains(record.ordinal), "{key} carries {} but is no member", label.name);
            let value = generation.value_name(n, mark).map(str::to_owned);
            labels.entry(key).or_default().insert(label.name.clone(), value);
        }
        let status = record.mark(Slot { space: generation.space, index: STATUS_INDEX });
        assert_eq!(status, 0, "key {key} is pending or in error at the end");
        let told = record.mark(Slot { space: generation.space, index: TOLD_INDEX });
        assert_eq!(told, 0, "key {key} is still marked as told");
    }
    for (n, label) in (0u16..).zip(&generation.labels) {
        for mark in 1..=u16::try_from(label.values.len().max(1)).expect("few values") {
            let expect = counts.get(&(n, mark)).copied().unwrap_or(0);
            assert_eq!(view.count(generation.space, n, mark), expect, "members of {}", label.name);
        }
    }
    labels
}

/// Label sets of all keys that have labels, by entity and key, as a view has them; of all live rules.
///
/// # Panics
/// When the view does not read.
#[must_use]
pub fn label_sets(registry: &Registry, view: &View) -> LabelSets {
    let mut sets = LabelSets::new();
    for shard in 0..SHARDS {
        for (key, record) in view.scan(shard, None, usize::MAX).expect("a view that reads") {
            let (number, bytes) = split_entity_key(&key).expect("a key of an entity");
            let entity = &registry.entities[usize::from(number)];
            for space in registry.live.values() {
                let generation = registry.generation(*space).expect("a live generation");
                for (n, label) in (0u16..).zip(&generation.labels) {
                    let mark = record.mark(Slot { space: *space, index: n });
                    if mark != 0 {
                        let value = generation.value_name(n, mark).map(str::to_owned);
                        let place = (entity.name.clone(), entity.key.text(bytes));
                        sets.entry(place).or_default().insert(label.name.clone(), value);
                    }
                }
            }
        }
    }
    sets
}

fn named(labels: &crate::model::Labels) -> Labels {
    let owned = |of_key: &BTreeMap<&'static str, Option<&'static str>>| {
        of_key.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
    };
    labels.iter().map(|(key, of_key)| (*key, owned(of_key))).collect()
}

/// What a consumer holds who followed the messages from the start; each id counts once, and they come in order.
///
/// # Panics
/// When a message comes out of order, or again although the sink knew it, or says what was said already.
#[must_use]
pub fn delivered_labels(outcome: &Outcome, rule: &str) -> Labels {
    let mut labels = Labels::new();
    let mut seen: BTreeSet<Place> = BTreeSet::new();
    for (place, message) in &outcome.delivered {
        if !seen.insert(*place) {
            assert!(outcome.forgetful, "{place:?} was delivered twice");
            continue;
        }
        assert_eq!(seen.last(), Some(place), "out of order");
        if message["rule"] != rule {
            continue;
        }
        let key: u64 = message["key"].as_str().and_then(|k| k.parse().ok()).expect("a key");
        let name = message["label"].as_str().expect("a label").to_owned();
        let of_key = labels.entry(key).or_default();
        if message["op"] == "set" {
            let value = message["value"].as_str().map(str::to_owned);
            let before = of_key.insert(name.clone(), value.clone());
            assert_ne!(before, Some(value), "{name} of {key} was set twice");
        } else {
            assert!(of_key.remove(&name).is_some(), "{name} of {key} was unset twice");
        }
    }
    labels.retain(|_, of_key| !of_key.is_empty());
    labels
}

/// The labels of one rule, in the state and as delivered, equal the model's under `params`.
///
/// # Panics
/// On the first difference.
pub fn assert_labels(outcome: impl Into<Outcome>, rule: &str, params: &Params) {
    let outcome = outcome.into();
    assert_model_labels(&outcome, &outcome.model(), rule, params);
}

/// Every label generation of rule payer that is kept up to date carries what the model says under its parameters, and a
/// consumer who followed all messages holds the live one's; every namespace that has its history holds what the model says
/// of its map side. Labels that a script renamed come back under `renamed`.
///
/// # Panics
/// On the first difference.
pub fn assert_generations(world: &World, sides: &MapSides, renamed: &[(&str, &str)]) {
    assert_kept(&Outcome::from(world), world.deliver == Deliver::All, sides, renamed);
}

/// As [`assert_generations`], of any run; the sink `follows` every transition or not.
///
/// # Panics
/// On the first difference.
pub fn assert_kept(outcome: &Outcome, follows: bool, sides: &MapSides, renamed: &[(&str, &str)]) {
    let (model, registry) = (outcome.model(), registry(&outcome.view));
    let mut kept = 0;
    for generation in registry.generations.iter().filter(|g| g.rule == "payer" && g.state.is_evaluated()) {
        let given = generation.given.get("big_spender_min").and_then(|v| v.as_str());
        let params = given.map_or_else(Params::default, |text| Params {
            big_spender_min: text.replace('.', "").parse().expect("a decimal"),
            ..Params::default()
        });
        let namespace = registry.namespace_of(generation.namespace).expect("the namespace of a generation");
        let side = sides[&namespace.namespace_id];
        let mut expect = named(&model.payer_side_labels(side, &params));
        for (from, to) in renamed.iter().filter(|(_, to)| generation.labels.iter().any(|l| l.name == *to)) {
            for of_key in expect.values_mut() {
                if let Some(value) = of_key.remove(*from) {
                    of_key.insert((*to).to_owned(), value);
                }
            }
        }
        let revision = generation.revision;
        assert_eq!(labels_of(&outcome.view, generation), expect, "labels of payer@{revision}");
        if follows && registry.live["payer"] == generation.space {
            assert_eq!(delivered_labels(outcome, "payer"), expect, "delivered labels of payer@{revision}");
        }
        kept += 1;
    }
    assert!(kept > 0, "no generation is kept");
    for namespace in registry.namespaces.iter().filter(|n| n.rule == "payer" && !n.filling) {
        let (sums, side) = (payer(&outcome.view, namespace.space), sides[&namespace.namespace_id]);
        assert_eq!(sums, model.payer_side(side), "sums of {side:?}");
    }
    assert_digests(&outcome.view);
    let mut lanes = 0;
    let count = &mut |_: &[u8], _: &[u8]| {
        lanes += 1;
        true
    };
    outcome.view.rows(Table::Ledger, b"lane/", Some(b"lane0"), count).expect("readable rows");
    let reading = registry.namespaces.iter().any(|n| n.filling) || !registry.pauses.is_empty();
    assert!(reading || lanes == 0, "{lanes} rows of ids that nobody needs");
}

/// A sink that hears changes only got nothing else, and each switch and each end of a reading as one message.
///
/// # Panics
/// On the first difference.
pub fn assert_summaries(world: &World) {
    let mut heard = BTreeSet::new();
    for (place, message) in world.delivered.lock().expect("no panic").iter() {
        if message["cause"] == "catchup" {
            // The end of a reading, or of what a rule missed: as a whole, and nobody asked for a switch.
            assert!(message["op"] == "switch" && message["changed_keys"].is_null(), "{message}");
        } else if message["op"] == "switch" {
            assert!(message["changed_keys"].is_u64(), "{message}");
            heard.insert(place.commit);
        } else {
            assert!(message["cause"] == "change" || message["cause"] == "time", "{message}");
        }
    }
    let mut switched = BTreeSet::new();
    let from = audit_key(0);
    world
        .view()
        .rows(Table::Meta, &from, Some(b"audit0"), &mut |_, row| {
            let entry: AuditEntry = serde_json::from_slice(row).expect("a line of the audit");
            if ["activate", "rollback"].contains(&entry.command.as_str()) {
                switched.insert(entry.commit);
            }
            true
        })
        .expect("readable rows");
    assert_eq!(heard, switched);
}

fn assert_model_labels(outcome: &Outcome, model: &Model, rule: &str, params: &Params) {
    let view = &outcome.view;
    let expect = match rule {
        "payer" => model.payer_labels(params),
        "red_packet" => model.red_packet_labels(params),
        _ => model.senior_labels(view.engine_time()),
    };
    let expect = named(&expect);
    assert_eq!(labels_in(view, rule), expect, "labels of {rule}");
    assert_eq!(delivered_labels(outcome, rule), expect, "delivered labels of {rule}");
}

/// Everything of the rules payer, red_packet and senior (those that run) equals the model.
///
/// # Panics
/// On the first difference.
pub fn assert_exact(outcome: impl Into<Outcome>, rules: &[&str]) {
    let outcome = outcome.into();
    let model = outcome.model();
    model.settled().expect("a complete log");
    let view = &outcome.view;
    let registry = registry(view);
    for rule in rules {
        if *rule == "payer" {
            let namespace = registry.namespace("payer").expect("rule payer");
            assert_eq!(payer(view, namespace.space), model.payer());
        }
        assert_model_labels(&outcome, &model, rule, &Params::default());
    }
    assert_digests(view);
}

/// The digest of every namespace equals the one recomputed from the records.
///
/// # Panics
/// On the first difference.
pub fn assert_digests(view: &View) {
    let registry = registry(view);
    let mut digests: BTreeMap<u32, u64> = BTreeMap::new();
    for shard in 0..SHARDS {
        for (key, record) in view.scan(shard, None, usize::MAX).expect("a readable shard") {
            for (space, part) in digest_of(&key, &record) {
                let digest = digests.entry(space).or_default();
                *digest = digest.wrapping_add(part);
            }
        }
    }
    for namespace in &registry.namespaces {
        let expect = digests.get(&namespace.space).copied().unwrap_or(0);
        assert_eq!(view.digest(namespace.space), expect, "digest of {}", namespace.rule);
    }
}
