//! Refused images: what is kept of them, who may see it, and how many are kept.

use crate::harness::{Ended, Folder};
use crate::message::{order, user};
use serde_json::Value;

fn ask(folder: &Folder, args: &[&str]) -> Ended {
    folder.retag(&[&["quarantine"], args, &["--config", "retag.toml"]].concat())
}

fn json(ended: Ended) -> Value {
    serde_json::from_str(&ended.assert_ok().out).expect("JSON")
}

/// Ids as `ls` lists them.
fn ids(folder: &Folder, args: &[&str]) -> Vec<String> {
    let listed = json(ask(folder, &[&["ls", "-o", "json"], args].concat()));
    let entries = listed["entries"].as_array().expect("entries").clone();
    entries.iter().map(|entry| entry["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn an_entry_says_where_and_why_and_shows_values_only_when_asked() {
    let folder = Folder::new();
    let first = order(1, (1, 42), "2000.00");
    folder.write("o.p0.json", first.clone() + &order(2, (2, 42), "\"much\""));
    folder.write("o.p1.json", user(3, 42));
    folder.run().assert_ok();
    let found = ids(&folder, &[]);
    assert_eq!(found.len(), 1);
    let status = folder.retag(&["status", "--config", "retag.toml", "-o", "json"]);
    assert_eq!(json(status)["rules"][0]["data_state"], "approximate", "an image is missing in its sums");
    let shown = ask(&folder, &["show", &found[0]]).assert_ok().out;
    let position = first.len().to_string();
    for piece in [
        "payer",
        "shop.orders",
        &position,
        "after (sign +)",
        "column-wrong-shape",
        "`amount`",
        "<text>",
        "<number>",
    ] {
        assert!(shown.contains(piece), "{piece} is not in\n{shown}");
    }
    assert!(!shown.contains("much") && shown.contains("--values"), "{shown}");
    let shown = ask(&folder, &["show", &found[0], "--values"]).assert_ok().out;
    assert!(shown.contains("\"much\"") && !shown.contains("--values"), "{shown}");
    let entry = json(ask(&folder, &["show", &found[0], "--values", "-o", "json"]));
    // What the rule declares, as the message has it, and nothing else of the row.
    let expect = serde_json::json!({"user_id": "42", "merchant_id": "7", "state": "1", "amount": "\"much\""});
    assert_eq!((&entry["values"], &entry["columns_left_out"]), (&expect, &0.into()));
    assert_eq!((&entry["position"], &entry["sign"]), (&first.len().into(), &1.into()));
}

#[test]
fn the_newest_come_first_and_the_oldest_are_dropped_and_counted() {
    let folder = Folder::new();
    folder.configure("[state]", "[state]\nquarantine_entries_max = 3");
    folder.write("o.p1.json", user(100, 42));
    let (mut all, mut n) = (Vec::new(), 0);
    // One a commit, then more than are kept in one commit.
    for bad in [1, 1, 1, 1, 5] {
        for _ in 0..bad {
            n += 1;
            folder.append("o.p0.json", order(n, (n, 42), "\"much\""));
        }
        folder.run().assert_ok();
        let listed = ids(&folder, &["--oldest-first"]);
        all.extend(listed.iter().filter(|id| !all.contains(*id)).cloned().collect::<Vec<_>>());
        assert!(listed.len() <= 3);
        assert_eq!(listed, all[all.len() - listed.len()..]);
        let newest: Vec<String> = listed.into_iter().rev().collect();
        assert_eq!(ids(&folder, &[]), newest);
        assert_eq!(ids(&folder, &["--after", &newest[0]]), newest[1..]);
    }
    let listed = json(ask(&folder, &["ls", "-o", "json"]));
    assert_eq!((&listed["bad_images"], &listed["dropped"]), (&9.into(), &6.into()));
    let told = ask(&folder, &["ls"]).assert_ok().out;
    assert!(told.contains("9 images refused") && told.contains("6 older entries were dropped"), "{told}");
    // The last three orders are those that are kept.
    let orders = folder.read("o.p0.json");
    let ends: Vec<usize> = orders.match_indices('\n').map(|(at, _)| at + 1).collect();
    let positions: Vec<Value> = listed["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| entry["position"].clone())
        .collect();
    assert_eq!(positions, [ends[7], ends[6], ends[5]]);
}
