//! The generator is deterministic, and its streams hold what they promise.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Config, Generator, Live, write_files};

fn stream(config: &Config) -> Vec<(u32, Value)> {
    Generator::new(config.clone()).map(|m| (m.partition, serde_json::from_slice(&m.json).unwrap())).collect()
}

#[test]
fn equal_configs_give_equal_streams_and_fewer_events_a_prefix() {
    let long: Vec<_> = Generator::new(Config { events: 4_000, ..Config::default() }).collect();
    let again: Vec<_> = Generator::new(Config { events: 4_000, ..Config::default() }).collect();
    assert_eq!(long, again);
    let short: Vec<_> = Generator::new(Config { events: 1_001, ..Config::default() }).collect();
    assert_eq!(short[..1_000], long[..1_000], "only the very last message may differ: it commits");
    let other: Vec<_> = Generator::new(Config { events: 4_000, seed: 2, ..Config::default() }).collect();
    assert_ne!(long, other);
}

#[test]
fn files_hold_the_stream_by_partition() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { events: 3_000, partitions: 3, ..Config::default() };
    let paths = write_files(dir.path(), &config).unwrap();
    assert_eq!(paths.len(), 3);
    for (partition, path) in paths.iter().enumerate() {
        let mut expected = Vec::new();
        for message in Generator::new(config.clone()).filter(|m| m.partition as usize == partition) {
            expected.extend_from_slice(&message.json);
            expected.push(b'\n');
        }
        assert!(!expected.is_empty());
        assert_eq!(std::fs::read(path).unwrap(), expected);
    }
}

/// What makes a stream hard, counted.
#[derive(Default)]
struct Found {
    kinds: HashSet<(String, String)>,
    key_changes: u64,
    primary_key_changes: u64,
    unread_updates: u64,
    to_null: u64,
    from_null: u64,
    shared_positions: u64,
    resent_here: u64,
    resent_elsewhere: u64,
    returning_users: u64,
    huge_ids: u64,
}

fn look(config: &Config) -> Found {
    let mut found = Found::default();
    let mut sent: HashMap<String, u32> = HashMap::new();
    let mut positions: HashMap<String, u64> = HashMap::new();
    let mut deleted_users = HashSet::new();
    for (partition, message) in stream(config) {
        let id = format!("{} {} {}", message["position"], message["xoffset"], message["commit"]);
        if let Some(first) = sent.get(&id) {
            if *first == partition {
                found.resent_here += 1
            } else {
                found.resent_elsewhere += 1
            }
            continue;
        }
        sent.insert(id, partition);
        *positions.entry(message["position"].to_string()).or_default() += 1;
        let (table, kind) = (message["table"].as_str().unwrap(), message["type"].as_str().unwrap());
        found.kinds.insert((table.to_owned(), kind.to_owned()));
        let data = message["data"].as_object().unwrap();
        if table == "users" {
            let user = data["user_id"].as_u64().unwrap();
            found.huge_ids += u64::from(user > 1 << 63);
            match kind {
                "delete" => {
                    deleted_users.insert(user);
                }
                "insert" => found.returning_users += u64::from(deleted_users.contains(&user)),
                _ => {}
            }
        }
        let Some(old) = message["old"].as_object() else { continue };
        assert!(!old.is_empty(), "an update changes something: {message}");
        for (column, before) in old {
            assert_ne!(before, &data[column], "old lists changed columns only: {message}");
        }
        found.key_changes += u64::from(table == "orders" && old.contains_key("user_id"));
        found.primary_key_changes += u64::from(table == "orders" && old.contains_key("order_id"));
        found.unread_updates += u64::from(table == "orders" && old.contains_key("remark"));
        found.from_null += u64::from(old.values().any(Value::is_null));
        found.to_null += u64::from(old.keys().any(|column| data[column].is_null()));
    }
    found.shared_positions = positions.values().filter(|rows| **rows > 1).count() as u64;
    found
}

#[test]
fn streams_hold_everything_that_makes_them_hard() {
    let found = look(&Config { events: 20_000, users: 3_000, ..Config::default() });
    for table in ["users", "orders", "red_packets"] {
        for kind in ["insert", "update", "delete"] {
            assert!(found.kinds.contains(&(table.to_owned(), kind.to_owned())), "{table} {kind}");
        }
    }
    let counts = [
        found.key_changes,
        found.primary_key_changes,
        found.unread_updates,
        found.to_null,
        found.from_null,
        found.shared_positions,
        found.resent_here,
        found.resent_elsewhere,
        found.returning_users,
        found.huge_ids,
    ];
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// Property tests run on streams of a few hundred changes: those must be hard too.
#[test]
fn short_streams_are_hard_too() {
    let mut all = [0u64; 6];
    for seed in 0..50 {
        let found = look(&Config { seed, events: 300, users: 20, resend_percent: 10, ..Config::default() });
        assert!(found.kinds.len() >= 7, "seed {seed}: {:?}", found.kinds);
        let counts = [
            found.key_changes,
            found.primary_key_changes,
            found.to_null + found.from_null,
            found.shared_positions,
            found.resent_here + found.resent_elsewhere,
            found.returning_users,
        ];
        for (sum, count) in all.iter_mut().zip(counts) {
            *sum += u64::from(count > 0);
        }
    }
    assert!(all.iter().all(|streams| *streams >= 25), "streams of 50 that have each: {all:?}");
}

#[test]
fn resends_are_about_as_many_as_asked_for() {
    let found = look(&Config { events: 100_000, resend_percent: 10, ..Config::default() });
    let resent = found.resent_here + found.resent_elsewhere;
    assert!((5_000..20_000).contains(&resent), "{resent}");
    let none = look(&Config { events: 10_000, resend_percent: 0, ..Config::default() });
    assert_eq!(none.resent_here + none.resent_elsewhere, 0);
}

#[test]
fn identity_is_printed_as_asked_for() {
    let message = |config| stream(&config).remove(0).1;
    let both = message(Config { gtid: true, ..Config::default() });
    assert!(both["gtid"].is_string() && both["position"].is_string() && both["server_id"].is_u64());
    let position = message(Config::default());
    assert!(position["gtid"].is_null() && position["position"].is_string());
    let none = message(Config { ids: false, ..Config::default() });
    assert!(none["position"].is_null() && none["server_id"].is_null());
}

#[test]
fn transactions_number_their_rows_and_end_with_commit() {
    let mut next = 0;
    let config = Config { events: 5_001, resend_percent: 0, ..Config::default() };
    for (_, message) in stream(&config) {
        if message["commit"].is_null() {
            assert_eq!(message["xoffset"].as_u64(), Some(next), "{message}");
            next += 1;
        } else {
            assert_eq!(message["commit"], true);
            assert!(message["xoffset"].is_null());
            next = 0;
        }
    }
    assert_eq!(next, 0, "the stream ends with a commit");
}

#[test]
fn a_stream_begins_with_the_registrations_that_were_asked_for() {
    let config =
        Config { events: 2_000, users: 400, register_first: 400, resend_percent: 0, ..Config::default() };
    let messages = stream(&config);
    let is_registration = |m: &Value| m["table"] == "users" && m["type"] == "insert";
    let ids: HashSet<u64> = messages[..400]
        .iter()
        .filter_map(|(_, m)| m["data"]["user_id"].as_u64().filter(|_| is_registration(m)))
        .collect();
    assert_eq!(ids.len(), 400);
    assert!(messages[400..].iter().any(|(_, m)| m["table"] == "orders"));
}

#[test]
fn a_stream_that_grows_is_the_same_shop_with_old_messages_between() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { events: u64::MAX, resend_percent: 0, ..Config::default() };
    let mut live = Live::create(dir.path(), config.clone(), Some(50)).unwrap();
    for messages in [1, 4_999, 0, 5_000] {
        live.append(messages).unwrap();
    }
    assert_eq!(live.written(), 10_000);
    let mut model = crate::model::Model::new();
    let (mut resent_elsewhere, mut sent) = (0, HashMap::new());
    for path in live.paths() {
        model.apply_file(path).unwrap();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let other = sent.insert(line.to_owned(), path.clone());
            resent_elsewhere += u64::from(other.is_some_and(|other| other != *path));
        }
    }
    model.settled().unwrap();
    assert!((100..400).contains(&model.duplicates()), "{}", model.duplicates());
    assert!(resent_elsewhere > 20, "{resent_elsewhere}");
    let plain: HashSet<Vec<u8>> = Generator::new(config).take(10_000).map(|m| m.json).collect();
    assert!(sent.keys().all(|line| plain.contains(line.as_bytes())));
}
