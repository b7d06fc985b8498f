//! A rule that was only recompiled keeps the sums that are there; one that counts other things on one image in ten thousand
//! is found.

use crate::backfill::caught_up;
use crate::builds::BUILDS;
use crate::harness::Folder;
use crate::message::{order, shop, state, told, user};
use crate::release::{json, refused, rule};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Rule payer with edits of its source, built once for all tests, by name.
pub(super) fn built() -> &'static BTreeMap<&'static str, Vec<u8>> {
    static BUILT: OnceLock<BTreeMap<&'static str, Vec<u8>>> = OnceLock::new();
    BUILT.get_or_init(|| crate::builds::build(&BUILDS.map(|(name, _)| name)))
}

/// A shop with the built files.
fn shop_with_builds() -> Folder {
    let folder = shop();
    built().iter().for_each(|(name, wasm)| folder.write(&format!("{name}.wasm"), wasm));
    folder
}

const ADOPT: [&str; 2] = ["--adopt-aggregates", "--reason"];

#[test]
fn a_rule_that_was_only_recompiled_keeps_the_sums_that_are_there() {
    let folder = shop_with_builds();
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    let pushed = json(&folder, &["push", "again.wasm"]);
    assert_eq!(pushed["plan"]["kind"], "aggregates", "the edit leaves the map module as it was");
    folder.retag(&["rule", "activate", "payer@2", "--adopt-aggregates"]).assert_error(64, &["--reason"]);
    let args = [&["activate", "payer@2"], &ADOPT[..], &["compiler update"]].concat();
    let out = rule(&folder, &args);
    assert!(out.contains("payer@2 is live"), "{out}");
    let (first, second) = (json(&folder, &["show", "payer@1"]), json(&folder, &["show", "payer@2"]));
    assert_ne!(first["namespace_id"], second["namespace_id"]);
    assert_eq!(second["adopted"]["namespace_id"], first["namespace_id"]);
    assert_eq!((&second["adopted"]["recorded"], &first["adopted"]), (&3.into(), &().into()));
    assert!(second["adopted"]["made_up"].as_u64() >= Some(100_000), "{second}");
    assert!(rule(&folder, &["show", "payer@2"]).contains("adopted"));
    let history = json(&folder, &["history", "payer"]);
    let adopted = history["lines"].as_array().unwrap().iter().find(|line| line["command"] == "adopt");
    assert_eq!(adopted.expect("a line of the audit")["why"], "compiler update");
    // Both revisions read the same sums: what comes now is told once, and the way back needs nothing.
    folder.append("o.p0.json", order(9, (9, 3), "1500.00"));
    host.until("the order", || told(&folder).contains(&"3 tier=silver".to_owned()).then_some(()));
    rule(&folder, &["rollback", "payer"]);
    host.until("the way back", || told(&folder).contains(&"3 -tier".to_owned()).then_some(()));
    rule(&folder, &["activate", "payer@2"]);
    host.signal("KILL");
    host.wait();
    // After a restart the first file's `map` still feeds them, and takes back what it added.
    folder.append("o.p0.json", state(10, (9, 3), "1500.00", 4) + &order(11, (11, 4), "1100.00"));
    folder.append("o.p1.json", user(12, 3));
    folder.run().assert_ok();
    let told = told(&folder);
    assert_eq!(told.iter().filter(|line| *line == "3 tier=silver").count(), 2, "{told:?}");
    let last = |of: &[&str]| told.iter().rev().find(|line| of.contains(&line.as_str())).cloned();
    assert_eq!(last(&["3 tier=silver", "3 -tier"]).as_deref(), Some("3 -tier"), "{told:?}");
    assert!(
        told.contains(&"3 never_paid".to_owned()) && told.contains(&"4 tier=silver".to_owned()),
        "{told:?}"
    );
    // Labels alone of the recompiled file are labels alone again; the file that feeds the sums is not forgotten.
    assert_eq!(json(&folder, &["push", "third.wasm"])["plan"]["kind"], "labels");
}

#[test]
fn one_image_in_ten_thousand_that_is_counted_otherwise_is_found() {
    let folder = shop_with_builds();
    let orders: String = (1..=20_000_u64)
        .map(|n| {
            order(n, (n, n), "10.00")
                .replace("\"merchant_id\":7,", &format!("\"merchant_id\":{},", n % 10_000))
        })
        .collect();
    folder.write("o.p0.json", orders);
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    json(&folder, &["push", "other.wasm"]);
    let adopt = |revision| [&["prepare", revision], &ADOPT[..], &["compiler update"]].concat();
    let said = ["not-adoptable", "shop.orders in o.p0.json at", "merchants, paid_orders, spent"];
    refused(&folder, &adopt("payer@2"), &said);
    assert_eq!(json(&folder, &["show", "payer@2"])["release"], "checked");
    json(&folder, &["push", "more.wasm"]);
    refused(&folder, &adopt("payer@3"), &["not-adoptable", "other tables, columns, keys or aggregates"]);
    // What cannot be kept is read again.
    rule(&folder, &["prepare", "payer@2"]);
    host.signal("INT");
    host.wait().assert_ok();
}
