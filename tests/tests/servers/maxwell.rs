//! From a statement in the database to a message on the topic.

use super::client::{Message, read_until};
use retag_servers::{Kafka, MariaDb, Maxwell, Service as _};
use serde_json::{Value, json};

const TOPIC: &str = "shop";

/// Fields of a message, in order.
fn fields(message: &Value) -> Vec<&str> {
    message.as_object().unwrap().keys().map(String::as_str).collect()
}

/// What the database decides by itself, taken out.
fn settled(message: &Value) -> Value {
    let mut message = message.clone();
    for field in ["ts", "xid", "position"] {
        let taken = message.as_object_mut().unwrap().shift_remove(field);
        assert!(taken.is_some(), "no `{field}` in {message}");
    }
    message
}

fn payloads(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|m| serde_json::from_str(m.payload.as_deref().unwrap()).unwrap()).collect()
}

pub(crate) fn changes_of_the_database_arrive_on_the_topic() {
    let database = MariaDb::start().unwrap();
    let kafka = Kafka::start().unwrap();
    kafka.create_topic(TOPIC, 1, &[]).unwrap();
    let table = "CREATE TABLE shop.orders (id BIGINT UNSIGNED PRIMARY KEY, state INT, amount DECIMAL(12,2), note VARCHAR(20))";
    database.sql(&format!("CREATE DATABASE shop; {table}")).unwrap();
    let mut maxwell = Maxwell::start(&database, &kafka, TOPIC, &[]).unwrap();

    database.sql("INSERT INTO shop.orders VALUES (1, 0, 10.50, 'café'), (2, 1, 3, NULL)").unwrap();
    database.sql("UPDATE shop.orders SET state = 1, amount = 11 WHERE id = 1").unwrap();
    database
        .sql("BEGIN; DELETE FROM shop.orders WHERE id = 1; ROLLBACK; DELETE FROM shop.orders WHERE id = 2")
        .unwrap();
    let read = read_until(&kafka.bootstrap(), TOPIC, 1, |read| read.len() >= 4);
    let keys: Vec<_> = read.iter().map(|message| message.key.clone().unwrap()).collect();
    let key = |id: i64| json!({"database": "shop", "table": "orders", "pk.id": id}).to_string();
    assert_eq!(keys, [key(1), key(2), key(1), key(2)]);

    let messages = payloads(&read);
    let before = ["database", "table", "type", "ts", "xid"];
    let ids = ["position", "server_id", "primary_key", "data"];
    let shape = |middle: &[&'static str], end: &[&'static str]| [&before, middle, &ids, end].concat();
    assert_eq!(fields(&messages[0]), shape(&["xoffset"], &[]));
    assert_eq!(fields(&messages[1]), shape(&["commit"], &[]));
    assert_eq!(fields(&messages[2]), shape(&["commit"], &["old"]));
    assert_eq!(fields(&messages[3]), shape(&["commit"], &[]));
    assert_eq!(messages[0]["xid"], messages[1]["xid"]);
    let position = messages[0]["position"].as_str().unwrap();
    assert!(position.starts_with("bin.0"), "{position}");

    let settled: Vec<Value> = messages.iter().map(settled).collect();
    let first = json!({"id": 1, "state": 0, "amount": 10.50, "note": "café"});
    let second = json!({"id": 2, "state": 1, "amount": 3.00, "note": null});
    let rest = |kind: &str| json!({"database": "shop", "table": "orders", "type": kind, "server_id": 1});
    let expected = |kind: &str, more: Value| {
        let mut message = rest(kind);
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    assert_eq!(settled[0], expected("insert", json!({"xoffset": 0, "primary_key": [1], "data": first})));
    assert_eq!(settled[1], expected("insert", json!({"commit": true, "primary_key": [2], "data": second})));
    let changed = json!({"id": 1, "state": 1, "amount": 11.00, "note": "café"});
    let old = json!({"state": 0, "amount": 10.50});
    let update = json!({"commit": true, "primary_key": [1], "data": changed, "old": old});
    assert_eq!(settled[2], expected("update", update));
    assert_eq!(settled[3], expected("delete", json!({"commit": true, "primary_key": [2], "data": second})));

    // What happens while it is dead is not lost.
    maxwell.kill().unwrap();
    database.sql("UPDATE shop.orders SET note = 'while it was dead' WHERE id = 1").unwrap();
    maxwell.restart().unwrap();
    let is_last =
        |message: &Message| message.payload.as_deref().is_some_and(|p| p.contains("while it was dead"));
    let read = read_until(&kafka.bootstrap(), TOPIC, 1, |read| read.iter().any(is_last));
    assert_eq!(payloads(&read).last().unwrap()["old"], json!({"note": "café"}));
}
