//! A small state built by commits, without an engine: users with every kind of aggregate and label, shops with awkward
//! text keys, part of it folded into pages and part in later blocks. [`Fixture::users`] says what it must read as.
#![allow(dead_code)] // each test binary uses its part

use retag_host::aggregate::value::comparable;
use retag_host::label::outbox::{Place, encode};
use retag_host::label::{Cause, Transition};
use retag_host::pipeline::rows::{CURSORS, Cursors, POSITIONS, Positions, TOTALS, Totals};
use retag_host::registry::{
    ERROR, Generation, GenerationState, KeyType, LabelNames, META_KEY, Namespace, OVERFLOW, PENDING,
    Registry, STATUS_INDEX, WAKE_INDEX,
};
use retag_host::rule::manifest::{Aggregate, ValueType};
use retag_host::source::{Partition, Unit};
use retag_host::state::{
    BlockWriter, Change, Commit, Life, Limits, Slot, StateWriter, Store, Table, View, entity_key, key_hash,
    shard_of, u64_key,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace and generation of rule `payer` on users, then of rule `shopper` on shops.
pub(crate) const PAYER: (u32, u32) = (1, 2);
pub(crate) const SHOPPER: (u32, u32) = (3, 4);
/// Users 1..=USERS are in the state.
pub(crate) const USERS: u64 = 3000;
/// Labels of this user are held because a count is negative.
pub(crate) const PENDING_USER: u64 = 77;
/// The rule failed on this user.
pub(crate) const ERROR_USER: u64 = 78;
/// A counted set of this user overflowed.
pub(crate) const OVERFLOW_USER: u64 = 79;
/// Labels of this user change by time.
pub(crate) const WAKING_USER: u64 = 42;
pub(crate) const WAKE_US: i64 = 1_709_251_199_000_000;
/// Commit time of the newest change, in seconds.
pub(crate) const NEWEST_S: i64 = 1_699_999_998;
/// Engine time of the last commit.
pub(crate) const TIME_US: i64 = 1_700_000_000_000_000;
/// Text keys of shops: a separator, a quote with a comma, nothing at all, and a percent sign.
pub(crate) const SHOPS: [&str; 5] = ["a/b", "quo\"te, comma", "", "100%", "ü"];
const MONEY: ValueType = ValueType::Decimal { scale: 2, digits: 18 };

/// What a user must read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) paid_orders: i64,
    pub(crate) spent: i128,
    pub(crate) merchants: u64,
    pub(crate) registered: bool,
    pub(crate) first_paid: Option<i64>,
    pub(crate) biggest: Option<i64>,
    pub(crate) born: Option<i64>,
    pub(crate) never_paid: bool,
    pub(crate) tier: Option<&'static str>,
}

/// The model: everything about user `id` follows from its number.
pub(crate) fn user(id: u64) -> User {
    let n = i64::try_from(id).unwrap();
    let paid_orders = if id == PENDING_USER { -1 } else { n % 5 };
    let paid = n % 5 != 0;
    User {
        paid_orders,
        spent: i128::from(n % 7 * 1005 - 1000),
        merchants: if paid { id % 3 + 1 } else { 0 },
        registered: !id.is_multiple_of(4),
        first_paid: paid.then_some(n * 1_000_001),
        biggest: paid.then_some(n * 10 + 5),
        born: paid.then_some(n),
        never_paid: !paid,
        tier: [None, Some("silver"), Some("gold")][(id % 3) as usize],
    }
}

fn aggregate(id: u16, name: &str, kind: &str, value: Option<ValueType>) -> Aggregate {
    Aggregate { id, name: name.into(), kind: kind.into(), value, window: None }
}

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.entity("user", KeyType::U64);
    registry.entity("shop", KeyType::Text);
    registry.last_space = 4;
    let label = |name: &str, values: &[&str]| LabelNames {
        name: name.into(),
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    registry.namespaces = vec![
        Namespace {
            space: PAYER.0,
            rule: "payer".into(),
            namespace_id: "aa".repeat(32),
            entity: 0,
            aggregates: vec![
                aggregate(0, "paid_orders", "count", None),
                aggregate(1, "spent", "sum", Some(MONEY)),
                aggregate(2, "merchants", "distinct", Some(ValueType::I64)),
                aggregate(3, "registered", "any", None),
                aggregate(4, "first_paid", "min", Some(ValueType::Timestamp)),
                aggregate(5, "biggest", "max", Some(MONEY)),
                aggregate(6, "born", "max", Some(ValueType::Date)),
            ],
            key_column: "user_id".into(),
            fence: Vec::new(),
            filling: false,
            file: String::new(),
            adopted: Vec::new(),
        },
        Namespace {
            space: SHOPPER.0,
            rule: "shopper".into(),
            namespace_id: "bb".repeat(32),
            entity: 1,
            aggregates: vec![aggregate(0, "orders", "count", None)],
            key_column: "shop".into(),
            fence: Vec::new(),
            filling: false,
            file: String::new(),
            adopted: Vec::new(),
        },
    ];
    let generation = |space, rule: &str, namespace, labels| Generation {
        space,
        rule: rule.into(),
        namespace,
        revision: 2,
        label_id: "cc".into(),
        params: BTreeMap::from([("big_spender_min".to_owned(), json!("5000.00"))]),
        labels,
        state: GenerationState::Ready,
        file: String::new(),
        given: BTreeMap::new(),
        retained: None,
    };
    registry.generations = vec![
        generation(
            PAYER.1,
            "payer",
            PAYER.0,
            vec![label("never_paid", &[]), label("tier", &["silver", "gold"])],
        ),
        generation(SHOPPER.1, "shopper", SHOPPER.0, vec![label("busy", &[])]),
    ];
    registry.live = BTreeMap::from([("payer".to_owned(), PAYER.1), ("shopper".to_owned(), SHOPPER.1)]);
    registry
}

/// Owned changes of one key.
enum Owned {
    Add(Slot, i128),
    Count(Slot, Vec<u8>),
    Mark(Slot, u16),
    Put(Slot, Vec<u8>),
}

fn changes_of(id: u64) -> Vec<Owned> {
    let of = |index| Slot { space: PAYER.0, index };
    let label = |index| Slot { space: PAYER.1, index };
    let entry = |value, inline| {
        let mut bytes = Vec::new();
        comparable(value, inline, &[], &mut bytes);
        bytes
    };
    let user = user(id);
    let mut changes = vec![Owned::Add(of(0), i128::from(user.paid_orders)), Owned::Add(of(1), user.spent)];
    for merchant in 0..user.merchants {
        changes.push(Owned::Count(of(2), entry(ValueType::I64, i64::try_from(merchant).unwrap() - 1)));
    }
    changes.push(Owned::Add(of(3), i128::from(user.registered)));
    for (index, value, is) in [
        (4, user.first_paid, ValueType::Timestamp),
        (5, user.biggest, MONEY),
        (6, user.born, ValueType::Date),
    ] {
        if let Some(value) = value {
            changes.push(Owned::Count(of(index), entry(is, value)));
            // A second, less extreme one, which must not show.
            changes.push(Owned::Count(of(index), entry(is, if index == 4 { value + 1 } else { value - 1 })));
        }
    }
    changes.push(Owned::Mark(label(0), u16::from(user.never_paid)));
    changes.push(Owned::Mark(
        label(1),
        match user.tier {
            None => 0,
            Some("silver") => 1,
            _ => 2,
        },
    ));
    match id {
        PENDING_USER => changes.push(Owned::Mark(label(STATUS_INDEX), PENDING)),
        ERROR_USER => changes.push(Owned::Mark(label(STATUS_INDEX), ERROR)),
        OVERFLOW_USER => changes.push(Owned::Mark(label(STATUS_INDEX), OVERFLOW)),
        WAKING_USER => changes.push(Owned::Put(label(WAKE_INDEX), WAKE_US.to_le_bytes().to_vec())),
        _ => {}
    }
    changes
}

/// Changes by shard and state key, the key's ordinal being its rank in the order of arrival.
type Shards = BTreeMap<usize, BTreeMap<Vec<u8>, Vec<Owned>>>;

fn add(shards: &mut Shards, entity: (u16, &str), key: &[u8], changes: Vec<Owned>) {
    let shard = shard_of(key_hash(entity.1, key));
    shards.entry(shard).or_default().insert(entity_key(entity.0, key), changes);
}

fn commit(writer: &mut StateWriter, shards: &Shards, rows: Vec<retag_host::state::Row>) -> Arc<View> {
    let view = writer.view().clone();
    let id = view.commit() + 1;
    let mut blocks = Vec::new();
    for (shard, keys) in shards {
        let mut block = BlockWriter::new(id);
        for (ordinal, (key, changes)) in (view.next_ordinal(*shard)..).zip(keys) {
            block.key(key, ordinal, Life::New);
            for change in changes {
                match change {
                    Owned::Add(_, 0) | Owned::Mark(_, 0) => {}
                    Owned::Add(slot, n) => block.add(*slot, *n),
                    Owned::Count(slot, value) => block.change(&Change::Count(*slot, value, 1)),
                    Owned::Mark(slot, to) => block.mark(*slot, 0, *to),
                    Owned::Put(slot, bytes) => block.put(*slot, bytes),
                }
            }
        }
        blocks.push(block.finish(u8::try_from(*shard).unwrap()));
    }
    let commit = Commit { id, engine_time_us: TIME_US, shards: blocks, rows, drop_spaces: Vec::new() };
    writer.commit(commit).unwrap()
}

pub(crate) fn bad_image(rule: &str, n: u32) -> serde_json::Value {
    let mut bad = json!({
        "rule": rule, "code": "null-column", "message": format!("column `amount` is NULL, row {n}"),
        "table": "shop.orders", "source": "orders", "partition": 0, "position": 100 + n, "image": "after",
    });
    // The others are as earlier versions wrote them.
    if n == 2 {
        bad["image"] = json!("before");
        bad["values"] = json!({"amount": "\"much\"", "state": "7", "note": "null", "gone": null});
        bad["columns_left_out"] = json!(0);
    }
    bad
}

fn facts(position: u64) -> Vec<retag_host::state::Row> {
    let partition = Partition {
        source: "orders".into(),
        name: "orders.json".into(),
        fingerprint: "00".into(),
        fingerprint_len: 0,
        first_size: 10,
        begins: 0,
        unit: Unit::Bytes,
    };
    let positions = Positions {
        partitions: vec![(partition, position)],
        id_forms: BTreeMap::from([("orders".to_owned(), "position".to_owned())]),
        catching_up: false,
        incomplete: Default::default(),
    };
    let totals = Totals {
        changes: 9000,
        newest: Some(NEWEST_S),
        resent: 12,
        images: 12_000,
        bad_images: 3,
        aside: 2,
        refused: BTreeMap::new(),
        carried: BTreeMap::new(),
        quarantine_dropped: 0,
        null_keys: 4,
        skipped: BTreeMap::from([("ddl".to_owned(), 2)]),
        tables: BTreeMap::from([("shop.orders".to_owned(), 8000)]),
        transitions: 5,
    };
    let cursors: Cursors = BTreeMap::from([("out".to_owned(), Place { commit: 2, index: 0 })]);
    let json = |key: &[u8], value: serde_json::Value| {
        (Table::Meta, key.to_vec(), Some(serde_json::to_vec(&value).unwrap()))
    };
    let mut rows = vec![
        json(POSITIONS, serde_json::to_value(positions).unwrap()),
        json(TOTALS, serde_json::to_value(totals).unwrap()),
        json(CURSORS, serde_json::to_value(cursors).unwrap()),
        (Table::Meta, META_KEY.to_vec(), Some(registry().to_bytes())),
    ];
    for (n, rule) in [(0, "payer"), (1, "shopper"), (2, "payer")] {
        let key = Place { commit: 1, index: n }.key().to_vec();
        rows.push((Table::Quarantine, key, Some(serde_json::to_vec(&bad_image(rule, n)).unwrap())));
    }
    rows
}

/// Fills an empty store: two thirds of the users and the shops in commit 1, folded; the rest in commit 2, not folded.
pub(crate) fn fill(store: Arc<dyn Store>, position: u64) -> (StateWriter, Arc<View>) {
    let limits =
        Limits { overlay_commits: 1, page_bytes: 2 << 10, page_bytes_max: 4 << 10, ..Limits::default() };
    let (mut writer, _) = StateWriter::open_with(store, limits).unwrap();
    let mut first = Shards::new();
    for id in (1..=USERS).filter(|id| id % 3 != 1) {
        add(&mut first, (0, "user"), &u64_key(id), changes_of(id));
    }
    for (n, shop) in (1..).zip(SHOPS) {
        let slot = Slot { space: SHOPPER.0, index: 0 };
        let busy = Slot { space: SHOPPER.1, index: 0 };
        add(&mut first, (1, "shop"), shop.as_bytes(), vec![Owned::Add(slot, n), Owned::Mark(busy, 1)]);
    }
    commit(&mut writer, &first, facts(position));
    while writer.fold_step().unwrap().is_some() {}
    let mut second = Shards::new();
    for id in (1..=USERS).filter(|id| id % 3 == 1) {
        add(&mut second, (0, "user"), &u64_key(id), changes_of(id));
    }
    let transition = Transition {
        generation: PAYER.1,
        label: 0,
        from: 0,
        to: 1,
        cause: Cause::Change,
        announced: false,
        entity: 0,
        key: u64_key(1).into(),
    };
    let outbox = encode(2, TIME_US, &[transition]);
    let rows = outbox.into_iter().map(|(key, row)| (Table::Outbox, key, Some(row))).collect();
    let view = commit(&mut writer, &second, rows);
    (writer, view)
}
