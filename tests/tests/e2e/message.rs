//! Messages written by hand: one Maxwell line each, with ids.

use crate::harness::Folder;
use serde_json::{Value, json};

/// A line; `n` makes its id: equal numbers are one change sent twice.
fn line(n: u64, table: &str, kind: &str, data: &Value, old: Option<&Value>) -> String {
    let mut message = json!({
        "database": "shop", "table": table, "type": kind, "ts": 1_772_323_200 + n, "xid": 8_000_000 + n, "commit": true,
        "position": format!("binlog.000012:{}", 1_000 + n), "server_id": 223_344, "data": data,
    });
    if let Some(old) = old {
        message["old"] = old.clone();
    }
    format!("{message}\n")
}

/// A user registers.
pub(crate) fn user(n: u64, user: u64) -> String {
    line(n, "users", "insert", &json!({"user_id": user}), None)
}

/// An order as it is.
fn image(order: u64, user: u64, state: i64, amount: &str) -> Value {
    let amount: Value = serde_json::from_str(amount).expect("a number");
    json!({
        "order_id": order, "user_id": user, "merchant_id": 7, "merchant_ix": 8, "state": state, "amount": amount,
        "quantity": 9,
    })
}

/// A user buys: (order, user), amount; the order is paid.
pub(crate) fn order(n: u64, (order, user): (u64, u64), amount: &str) -> String {
    line(n, "orders", "insert", &image(order, user, 1, amount), None)
}

/// The order goes from state 1 to another one.
pub(crate) fn state(n: u64, (order, user): (u64, u64), amount: &str, state: i64) -> String {
    line(n, "orders", "update", &image(order, user, state, amount), Some(&json!({"state": 1})))
}

/// An update whose row before is not told: it cannot be applied exactly.
pub(crate) fn update_without_old(n: u64, (order, user): (u64, u64), amount: &str) -> String {
    line(n, "orders", "update", &image(order, user, 3, amount), None)
}

/// User 1 sends user 2 a red packet of 10.00.
pub(crate) fn packet(n: u64) -> String {
    let amount: Value = serde_json::from_str("10.00").expect("a number");
    let image =
        json!({"packet_id": n, "sender_id": 1, "receiver_id": 2, "amount": amount, "state": "OPENED"});
    line(n, "red_packets", "insert", &image, None)
}

/// A folder with a user who bought and one who did not, still to be read.
pub(crate) fn shop() -> Folder {
    let folder = Folder::new();
    folder.write("o.p0.json", order(1, (1, 1), "3000.00"));
    folder.write("o.p1.json", user(2, 1) + &user(3, 2));
    folder
}

/// What the sink gets of [`shop`].
pub(crate) const SHOP_TOLD: [&str; 2] = ["1 tier=silver", "2 never_paid"];

/// What the sink got, as `[-]label[=value]` behind the key: commits in order, the keys of one commit ascending.
pub(crate) fn told(folder: &Folder) -> Vec<String> {
    let read = |line: &str| -> Value { serde_json::from_str(line).expect("a line is a message") };
    let mut messages: Vec<Value> = folder.read("labels.ndjson").lines().map(read).collect();
    let key = |message: &Value| message["key"].as_str().and_then(|key| key.parse::<u64>().ok());
    messages.sort_by_key(|message| (message["commit"].as_u64(), key(message)));
    let one = |message: &Value| {
        let sign = if message["op"] == "unset" { "-" } else { "" };
        let value = message["value"].as_str().map(|value| format!("={value}")).unwrap_or_default();
        let text = |field: &str| message[field].as_str().expect("text").to_owned();
        format!("{} {sign}{}{value}", text("key"), text("label"))
    };
    messages.iter().map(one).collect()
}
