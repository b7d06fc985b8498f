//! Rules that cannot run, that do not fit, and that change between two starts.

use crate::harness::Folder;
use crate::message::{order, packet, told, user};
use crate::run;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A folder with `users` users and an order of 3000.00 for the first one.
fn shop(users: u64) -> Folder {
    let folder = Folder::new();
    folder.write("o.p0.json", order(1, (1, 1), "3000.00"));
    folder.write("o.p1.json", (1..=users).map(|n| user(n + 1, n)).collect::<String>());
    folder
}

/// Puts a changed payer.wasm into the folder: each `from` becomes `to` of the same length, in its manifest.
pub(crate) fn change_rule(folder: &Folder, changes: &[(&str, &str)]) {
    let mut bytes = std::fs::read(folder.path("payer.wasm")).unwrap();
    for (from, to) in changes {
        assert_eq!(from.len(), to.len());
        let mut found = false;
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(from.as_bytes()) {
                bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
                found = true;
            }
        }
        assert!(found, "no {from} in the rule file");
    }
    folder.write("payer.wasm", bytes);
}

#[test]
fn a_missing_rule_file_is_named() {
    let folder = shop(1);
    folder.configure("payer.wasm", "buyer.wasm");
    folder.run().assert_error(1, &["payer", "buyer.wasm", "retag rule build"]);
    folder.configure("buyer.wasm", "payer.wasm");
    folder.run().assert_ok();
    assert_eq!(told(&folder), ["1 tier=silver"]);
}

#[test]
fn a_file_that_is_no_wasm_is_named() {
    for bytes in [&b"hello"[..], b"", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"] {
        let folder = shop(1);
        folder.write("payer.wasm", bytes);
        folder.run().assert_error(1, &["payer", "payer.wasm", "rule file"]);
    }
    let folder = shop(1);
    let rule = std::fs::read(folder.path("payer.wasm")).unwrap();
    folder.write("payer.wasm", &rule[..rule.len() / 2]);
    folder.run().assert_error(1, &["payer", "payer.wasm", "rule file"]);
}

#[test]
fn a_rule_under_another_name_is_refused() {
    let folder = shop(1);
    folder.configure("[rules.payer]", "[rules.buyer]");
    folder.run().assert_error(1, &["buyer", "payer.wasm", "[rules.payer]"]);
}

#[test]
fn a_parameter_that_the_rule_does_not_have_is_named() {
    let folder = shop(1);
    folder.configure("big_spender_min =", "big_spender_mim =");
    folder.run().assert_error(1, &["payer", "big_spender_mim", "big_spender_min"]);
    folder.configure("big_spender_mim = \"5000.00\"", "big_spender_min = \"much\"");
    folder.run().assert_error(1, &["payer", "big_spender_min", "much"]);
}

#[test]
fn a_column_that_the_table_does_not_have_stops_before_anything_is_committed() {
    let folder = shop(1);
    let orders: String = (0..200).map(|n| order(1_000 + n, (100 + n, 1), "1.00")).collect();
    folder.append("o.p0.json", orders);
    let good = std::fs::read(folder.path("payer.wasm")).unwrap();
    change_rule(&folder, &[("\"amount\"", "\"amuont\"")]);
    folder.run().assert_error(1, &["rule-does-not-fit", "payer", "shop.orders", "amuont"]);
    assert!(told(&folder).is_empty());
    folder.write("payer.wasm", good);
    folder.run().assert_ok();
    assert_eq!(told(&folder), ["1 tier=silver"]);
}

#[test]
fn a_column_that_the_table_does_not_have_is_an_error_however_few_rows_there_are() {
    for small in [false, true] {
        let folder = shop(1);
        if small {
            folder.configure("workers = 2", "workers = 2\ncycle_bytes_max = 64\nblock_bytes = 64");
        }
        change_rule(&folder, &[("\"amount\"", "\"amuont\"")]);
        folder.run().assert_error(1, &["rule-does-not-fit", "payer", "shop.orders", "amuont"]);
    }
}

#[test]
fn a_column_that_one_table_does_not_have_is_an_error_whatever_another_table_ends_with() {
    for small in [false, true] {
        let folder = shop(1);
        if small {
            folder.configure("workers = 2", "workers = 1\ncycle_bytes_max = 64\nblock_bytes = 64");
        }
        change_rule(&folder, &[("\"amount\"", "\"amuont\"")]);
        folder.append("o.p1.json", user(2, 2).replace("\"user_id\":2", "\"user_id\":-2"));
        folder.run().assert_error(1, &["rule-does-not-fit", "payer", "shop.orders", "amuont"]);
    }
}

#[test]
fn a_rule_none_of_whose_tables_was_seen_fails_at_the_end_after_the_commit() {
    let folder = shop(3);
    change_rule(&folder, &[("shop.orders", "shop.ordres"), ("shop.users", "shop.usres")]);
    folder.run().assert_error(1, &["payer", "shop.ordres", "shop.usres"]);
    // It is committed: the state knows the rule now, and another map side needs history.
    change_rule(&folder, &[("shop.usres", "shop.users")]);
    folder.run().assert_error(1, &["needs-history"]);
}

#[test]
fn a_rule_one_of_whose_tables_was_seen_is_fine() {
    let folder = shop(3);
    change_rule(&folder, &[("shop.orders", "shop.ordres")]);
    folder.run().assert_ok();
    assert_eq!(told(&folder), ["1 never_paid", "2 never_paid", "3 never_paid"]);
}

#[test]
fn another_map_side_needs_history_and_the_earlier_file_goes_on() {
    let folder = shop(2);
    folder.run().assert_ok();
    let good = std::fs::read(folder.path("payer.wasm")).unwrap();
    change_rule(&folder, &[("\"merchant_id\"", "\"merchant_ix\"")]);
    folder.run().assert_error(1, &["needs-history", "payer", "namespace in the state"]);
    folder.write("payer.wasm", good);
    folder.append("o.p1.json", user(50, 50));
    folder.run().assert_ok();
    assert_eq!(told(&folder), ["1 tier=silver", "2 never_paid", "50 never_paid"]);
}

#[test]
fn a_rule_new_to_a_state_that_was_read_into_needs_history() {
    let folder = shop(2);
    folder.run().assert_ok();
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    folder.run().assert_error(1, &["needs-history", "red_packet", "--rebuild red_packet", "retag rule push"]);
}

const RED_PACKET: &str = "[rules.red_packet]\npath = \"red_packet.wasm\"\n";

#[test]
fn a_rebuild_reads_the_history_of_a_new_rule_and_goes_on_with_both() {
    let folder = Folder::new();
    let messages = run::shop(&folder, 3_000);
    folder.run().assert_ok();
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    folder.run_with(&["--rebuild", "red_packet"]).assert_ok();
    run::assert_rules(&folder, messages.clone(), &["payer", "red_packet"]);
    let before = told(&folder);
    folder.run_with(&["--rebuild", "red_packet"]).assert_ok();
    folder.run().assert_ok();
    assert_eq!(told(&folder), before, "a rebuild that is done is not done again");
    run::assert_rules(&folder, messages, &["payer", "red_packet"]);
}

#[test]
fn a_rebuild_of_another_map_side_changes_the_sums_and_tells_no_label_again() {
    let folder = shop(2);
    folder.run().assert_ok();
    let before = told(&folder);
    change_rule(&folder, &[("\"merchant_id\"", "\"merchant_ix\"")]);
    folder.run().assert_error(1, &["needs-history", "--rebuild payer"]);
    folder.run_with(&["--rebuild", "payer"]).assert_ok();
    assert_eq!(told(&folder), before);
    folder.append("o.p0.json", order(40, (40, 2), "9000.00"));
    folder.run().assert_ok();
    assert_eq!(told(&folder)[before.len()..], ["2 -never_paid", "2 big_spender", "2 tier=silver"]);
}

#[test]
fn a_rebuild_without_a_partition_that_it_needs_is_refused_and_changes_nothing() {
    let folder = shop(2);
    folder.run().assert_ok();
    let (before, config) = (told(&folder), folder.read("retag.toml"));
    std::fs::rename(folder.path("o.p0.json"), folder.path("away")).unwrap();
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    folder.run_with(&["--rebuild", "red_packet"]).assert_error(1, &["orders", "o.p0.json"]);
    folder.write("retag.toml", config);
    std::fs::rename(folder.path("away"), folder.path("o.p0.json")).unwrap();
    folder.run().assert_ok();
    assert_eq!(told(&folder), before);
}

#[test]
fn a_rebuild_that_is_stopped_ends_with_a_code_of_its_own_and_goes_on() {
    let folder = Folder::new();
    let messages = run::shop(&folder, 20_000);
    folder.run().assert_ok();
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    folder.configure("[engine]", "[engine]\ncycle_bytes_max = 4000\nblock_bytes = 2000");
    let mut host = folder.start(&["run", "--config", "retag.toml", "--rebuild", "red_packet"], &[]);
    let pid = host.pid().to_string();
    host.until("its lock", || folder.read("data/lock").contains(&pid).then_some(()));
    host.signal("INT");
    host.wait().assert_error(75, &["red_packet", "--rebuild red_packet", "goes on where this one was"]);
    let status = folder.retag(&["status", "--config", "retag.toml"]).assert_ok().out;
    assert!(
        status.contains("rule red_packet anew was stopped") && status.contains("--rebuild red_packet"),
        "{status}"
    );
    folder.configure("cycle_bytes_max = 4000", "cycle_bytes_max = 1000000");
    folder.run_with(&["--rebuild", "red_packet"]).assert_ok();
    run::assert_rules(&folder, messages, &["payer", "red_packet"]);
}

#[test]
fn a_rebuild_ends_at_the_fence_inside_a_file_that_went_on_behind_an_open_last_line() {
    let folder = shop(2);
    let packets = |numbers: std::ops::Range<u64>| numbers.map(packet).collect::<String>();
    folder.append("o.p1.json", packets(100..105).trim_end());
    folder.run().assert_ok();
    // What is read too far would count twice: here, and when the stream goes on.
    folder.append("o.p1.json", "\n".to_owned() + &packets(105..111));
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    folder.run_with(&["--rebuild", "red_packet"]).assert_ok();
    let export = ["export", "aggregates", "red_packet", "-o", "csv", "--config", "retag.toml"];
    let sums = folder.retag(&export).assert_ok().out;
    let mut sums: Vec<&str> = sums.lines().skip(1).collect();
    sums.sort_unstable();
    assert_eq!(sums, ["1,110.00,0.00,11,0", "2,0.00,110.00,0,11"]);
}

#[test]
fn a_rebuild_of_a_rule_that_is_not_configured_is_refused() {
    let folder = shop(2);
    folder.run().assert_ok();
    folder.run_with(&["--rebuild", "buyer"]).assert_error(1, &["buyer"]);
    folder.run().assert_ok();
}

#[test]
fn a_changed_parameter_is_swept_over_all_keys_and_told_once() {
    let folder = shop(2);
    folder.run().assert_ok();
    folder.configure("5000.00", "3000.00");
    folder.run().assert_ok();
    let expect = ["1 tier=silver", "2 never_paid", "1 big_spender"];
    assert_eq!(told(&folder), expect);
    assert!(folder.read("labels.ndjson").lines().last().unwrap().contains(r#""cause":"params""#));
    folder.run().assert_ok();
    assert_eq!(told(&folder), expect);
    folder.configure("3000.00", "3000.01");
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&expect[..], &["1 -big_spender"]].concat());
}

#[test]
fn a_rule_that_is_taken_out_is_refused_until_it_may_be_dropped() {
    let folder = shop(2);
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    folder.append("o.p0.json", PACKET);
    folder.run().assert_ok();
    let before = told(&folder);
    let with_rule = folder.read("retag.toml");
    folder.configure(RED_PACKET, "");
    folder.run().assert_error(1, &["red_packet", "--remove red_packet"]);
    assert_eq!(told(&folder), before);
    folder.run_with(&["--remove", "red_packet"]).assert_ok();
    let again = folder.run_with(&["--remove", "red_packet"]).assert_ok();
    assert!(again.err.contains("the state has no rule red_packet"), "{}", again.err);
    folder.append("o.p1.json", user(60, 60));
    folder.run().assert_ok();
    assert_eq!(told(&folder).last().unwrap(), "60 never_paid");
    folder.write("retag.toml", with_rule);
    folder.run().assert_error(1, &["needs-history", "red_packet"]);
}

#[test]
fn a_rule_that_is_still_configured_is_not_removed() {
    let folder = shop(2);
    folder.run().assert_ok();
    let before = told(&folder);
    folder.run_with(&["--remove", "payer"]).assert_error(1, &["--remove payer", "take [rules.payer] out"]);
    folder.append("o.p1.json", user(60, 60));
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&before[..], &["60 never_paid".to_owned()]].concat());
}

const PACKET: &str = "{\"database\":\"shop\",\"table\":\"red_packets\",\"type\":\"insert\",\"ts\":1772323200,\"xid\":1,\
\"commit\":true,\"position\":\"binlog.000012:9000\",\"server_id\":223344,\"data\":{\"packet_id\":1,\"sender_id\":1,\
\"receiver_id\":2,\"amount\":\"500.00\",\"state\":1}}\n";

/// What the cache of compiled code holds, by name.
fn cached(folder: &Folder) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder.path("data/cache")).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn compiled_rules_are_kept_and_damaged_ones_are_compiled_again() {
    let folder = shop(1);
    folder.run().assert_ok();
    let good = cached(&folder);
    assert_eq!(good.len(), 3, "a module for map, one for label, what the check found");
    assert_eq!(folder.path("data/cache").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for n in 2..5 {
        for (path, bytes) in &good {
            let mut damaged = bytes.clone();
            match n {
                2 => damaged[bytes.len() / 2] ^= 1,
                3 => damaged.truncate(bytes.len() / 3),
                _ => damaged.clear(),
            }
            std::fs::write(path, damaged).unwrap();
        }
        folder.append("o.p1.json", user(n + 10, n));
        folder.run().assert_ok();
        assert_eq!(told(&folder).last().unwrap(), &format!("{n} never_paid"));
        assert!(cached(&folder) == good, "the entries are written anew");
    }
    // A folder that cannot be one is no error either.
    std::fs::remove_dir_all(folder.path("data/cache")).unwrap();
    folder.write("data/cache", "no folder");
    folder.append("o.p1.json", user(20, 9));
    folder.run().assert_ok();
    assert_eq!(told(&folder).last().unwrap(), "9 never_paid");
}

#[test]
fn a_rule_that_does_not_fit_says_why_also_where_the_last_rows_are_good() {
    let folder = shop(1);
    folder.configure("workers = 2", "workers = 1\ncycle_bytes_max = 64\nblock_bytes = 64");
    let bad: String = (0..98).map(|n| order(1_000 + n, (100 + n, 1), "\"x\"")).collect();
    let good: String = (0..9).map(|n| order(2_000 + n, (300 + n, 1), "1.00")).collect();
    folder.append("o.p0.json", bad + &good);
    folder.run().assert_error(1, &["rule-does-not-fit", "payer", "column-wrong-shape", "amount"]);
}
