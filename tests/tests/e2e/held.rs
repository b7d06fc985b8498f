//! Keys whose labels are held: counts below zero, since changes are missing. A switch does not touch what they carry.

use crate::harness::Folder;
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
