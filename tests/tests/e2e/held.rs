//! Keys whose labels are held: counts below zero, since changes are missing. A switch does not touch what they carry.

use crate::adopt::built;
use crate::harness::{Folder, Host};
use crate::message::{order, state, told, user};
use crate::release::{json, rule};
use serde_json::Value;

/// User 1 has spent 3000.00; user 2 has not.
const FIRST: [&str; 2] = ["1 tier=silver", "2 never_paid"];

/// Two orders of user 1 are no longer paid that never were: the count of paid ones is -1, what was spent 2980.00.
fn shop_with_a_pending_key() -> Folder {
    let folder = Folder::new();
    folder.write("o.p0.json", order(1, (1, 1), "3000.00"));
    folder.write("o.p1.json", user(2, 1) + &user(3, 2));
    folder.run().assert_ok();
    folder.append("o.p0.json", state(4, (8, 1), "10.00", 4) + &state(5, (9, 1), "10.00", 4));
    folder.run().assert_ok();
    assert_eq!(told(&folder), FIRST);
    assert_eq!(status(&folder)["rules"][0]["pending_keys"], 1);
    folder
}

fn status(folder: &Folder) -> Value {
    serde_json::from_str(&folder.retag(&["status", "-o", "json"]).assert_ok().out).expect("JSON")
}

/// The orders come after all: user 1 has paid one and spent 3000.00.
fn complete(folder: &Folder) {
    folder.append("o.p0.json", order(6, (8, 1), "10.00") + &order(7, (9, 1), "10.00"));
}

#[test]
fn a_switch_of_revisions_leaves_the_labels_of_a_pending_key() {
    let folder = shop_with_a_pending_key();
    let mut host = folder.start(&["run"], &[]);
    host.until("the socket", || folder.path("data/retag.sock").exists().then_some(()));
    rule(&folder, &["params", "set", "payer", "big_spender_min=2990.00"]);
    assert_eq!(json(&folder, &["preview", "payer@2"])["changed_keys"], 0);
    rule(&folder, &["activate", "payer@2"]);
    folder.append("o.p1.json", user(10, 10));
    host.until("what comes next", || (told(&folder).len() > 2).then_some(()));
    assert_eq!(told(&folder), [&FIRST[..], &["10 never_paid"]].concat());
    let held: Value =
        serde_json::from_str(&folder.retag(&["get", "user/1", "-o", "json"]).out).expect("JSON");
    let tier = &held["metadata"]["tier"];
    assert_eq!((&tier["status"], &tier["revision"]), (&"PENDING".into(), &2.into()));
    assert_eq!(held["labels"], serde_json::json!({"tier": "silver"}));
    assert_eq!(held["watermark"], "2026-03-01T00:00:10.000000Z", "the last message's");
    complete(&folder);
    let resolved = [&FIRST[..], &["10 never_paid", "1 big_spender"]].concat();
    host.until("the rest", || (told(&folder) == resolved).then_some(()));
    // Held by the new revision until it was complete, evaluated by the earlier one as well.
    rule(&folder, &["rollback", "payer"]);
    let back = [&resolved[..], &["1 -big_spender"]].concat();
    host.until("the way back", || (told(&folder) == back).then_some(()));
    host.signal("INT");
    host.wait().assert_ok();
}

/// A host, and `picky.wasm`, whose `label` fails on keys that spent 4000.00: users 1 (silver) and 3.
fn shop_with_a_picky_revision() -> (Folder, Host) {
    let folder = Folder::new();
    folder.write("picky.wasm", &built()["picky"]);
    folder.write(
        "o.p0.json",
        order(1, (1, 1), "3000.00") + &order(2, (2, 1), "1000.00") + &order(3, (3, 3), "4000.00"),
    );
    folder.write("o.p1.json", user(4, 2));
    let mut host = folder.start(&["run"], &[]);
    host.until("the first labels", || (told(&folder).len() == 3).then_some(()));
    (folder, host)
}

#[test]
fn a_switch_leaves_the_labels_that_a_key_has_got_since_the_new_revision_failed_on_it() {
    let (folder, mut host) = shop_with_a_picky_revision();
    json(&folder, &["push", "picky.wasm"]);
    let out = rule(&folder, &["prepare", "payer@2"]);
    assert!(out.contains("payer@2 is ready") && out.contains("2 where `label` fails"), "{out}");
    let preview = json(&folder, &["preview", "payer@2"]);
    let held = serde_json::json!({"pending": 0, "error": 2, "overflow": 0});
    assert_eq!((&preview["changed_keys"], &preview["held"]), (&0.into(), &held));
    assert!(rule(&folder, &["preview", "payer@2"]).contains("2 where `label` fails"));
    assert!(rule(&folder, &["show", "payer@2"]).contains("2 where `label` fails"));
    assert_eq!(json(&folder, &["preview", "payer@1", "--sample", "100"])["held"]["error"], 0);
    // A refund of user 1, beside which the new revision goes on to fail on the key.
    folder.append("o.p0.json", order(10, (10, 1), "5000.00") + &state(11, (10, 1), "5000.00", 6));
    host.until("the refund", || told(&folder).contains(&"1 refunder".to_owned()).then_some(()));
    let before = told(&folder);
    assert_eq!(json(&folder, &["preview", "payer@2"])["changed_keys"], 0);
    rule(&folder, &["activate", "payer@2"]);
    folder.append("o.p1.json", user(20, 20));
    host.until("what comes next", || (told(&folder).len() > before.len()).then_some(()));
    assert_eq!(told(&folder), [&before[..], &["20 never_paid".to_owned()]].concat());
    let got = json_of(&folder, &["get", "user/1", "-o", "json"]);
    assert_eq!(got["labels"], serde_json::json!({"tier": "silver", "refunder": true}));
    assert_eq!(
        (&got["metadata"]["tier"]["status"], &got["metadata"]["tier"]["revision"]),
        (&"ERROR".into(), &2.into())
    );
    // The way back is as if it had never left.
    rule(&folder, &["rollback", "payer"]);
    folder.append("o.p1.json", user(21, 21));
    host.until("what comes last", || told(&folder).contains(&"21 never_paid".to_owned()).then_some(()));
    assert_eq!(told(&folder).len(), before.len() + 2);
    host.signal("INT");
    host.wait().assert_ok();
}

#[test]
fn a_revision_that_waits_goes_over_its_keys_again_when_another_one_goes_live() {
    let (folder, mut host) = shop_with_a_picky_revision();
    json(&folder, &["push", "picky.wasm"]);
    rule(&folder, &["prepare", "payer@2"]);
    rule(&folder, &["params", "set", "payer", "big_spender_min=4000.00", "--activate"]);
    let spring: Vec<String> =
        [&told(&folder)[..3], &["1 big_spender".to_owned(), "3 big_spender".to_owned()]].concat();
    host.until("the switch", || (told(&folder) == spring).then_some(()));
    // What is under way for it, if anything still is.
    rule(&folder, &["prepare", "payer@2"]);
    let preview = json(&folder, &["preview", "payer@2"]);
    assert_eq!((&preview["against"], &preview["changed_keys"]), (&3.into(), &0.into()));
    rule(&folder, &["activate", "payer@2"]);
    folder.append("o.p1.json", user(20, 20));
    host.until("what comes next", || told(&folder).contains(&"20 never_paid".to_owned()).then_some(()));
    assert_eq!(told(&folder).len(), spring.len() + 1);
    host.signal("INT");
    host.wait().assert_ok();
}

fn json_of(folder: &Folder, args: &[&str]) -> Value {
    serde_json::from_str(&folder.retag(args).assert_ok().out).expect("JSON")
}

#[test]
fn changed_parameters_in_the_configuration_leave_the_labels_of_a_pending_key() {
    let folder = shop_with_a_pending_key();
    folder.configure("5000.00", "2990.00");
    folder.run().assert_ok();
    assert_eq!(told(&folder), FIRST);
    assert_eq!(status(&folder)["rules"][0]["pending_keys"], 1);
    complete(&folder);
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&FIRST[..], &["1 big_spender"]].concat());
}
