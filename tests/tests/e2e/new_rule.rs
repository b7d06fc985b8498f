//! A rule that the state does not know comes to a host that runs: its history is read beside the stream.

use crate::backfill::{answers, caught_up, last_operation, second_halves};
use crate::harness::Folder;
use crate::message::{shop as small_shop, told};
use crate::release::{json, refused, rule};
use crate::run::shop;
use serde_json::Value;
use std::collections::BTreeSet;

const CONFIGURED: &str = "[rules.red_packet]\npath = \"red_packet.wasm\"\n[sinks.out]";

/// Sums of rule red_packet, and who carries its labels.
fn all(folder: &Folder) -> Vec<BTreeSet<String>> {
    let mut reads = vec![vec!["export", "aggregates", "red_packet", "-o", "csv"]];
    reads.extend(["generous", "only_takes"].map(|label| vec!["members", label, "--limit", "1000"]));
    let lines = |read: &Vec<&str>| {
        folder
            .retag(read)
            .assert_ok()
            .out
            .lines()
            .filter(|l| !l.contains("commit"))
            .map(str::to_owned)
            .collect()
    };
    reads.iter().map(lines).collect()
}

/// It comes while the log grows, the host is killed inside the lane; at the end it is as if it had been configured from the
/// start.
#[test]
fn a_new_rule_reads_its_history_beside_the_stream_through_kill_9() {
    let expect = {
        let folder = Folder::new();
        shop(&folder, 8_000);
        folder.configure("[sinks.out]", CONFIGURED);
        folder.run().assert_ok();
        all(&folder)
    };
    assert!(expect.iter().all(|lines| lines.len() > 10), "{expect:?}");
    for killed_by in ["lane:20", "block-write:30"] {
        let folder = Folder::new();
        shop(&folder, 8_000);
        let halves = second_halves(&folder);
        folder.configure("[engine]", "[engine]\ncycle_bytes_max = 20000\nblock_bytes = 4000");
        folder.run().assert_ok();
        let pushed = rule(&folder, &["push", "red_packet.wasm"]);
        assert!(pushed.contains("new to this state") && pushed.contains("prepare red_packet@1"), "{pushed}");
        let mut host = folder.start(&["run"], &[("RETAG_FAILPOINT", killed_by)]);
        answers(&mut host, &folder);
        drop(folder.retag(&["rule", "prepare", "red_packet@1", "--no-wait"]));
        halves.iter().for_each(|(name, text)| folder.append(name, text));
        assert!(!host.wait().status.success(), "{killed_by}: it was not killed");
        let before = told(&folder).len();
        let mut host = folder.start(&["run"], &[]);
        answers(&mut host, &folder);
        let out = rule(&folder, &["prepare", "red_packet@1"]);
        assert!(out.contains("red_packet@1 is ready"), "{out}");
        let history = &last_operation(&folder)["history"];
        assert!(history["rows"].as_u64().is_some_and(|rows| rows > 0), "{history}");
        caught_up(&mut host, &folder);
        folder.retag(&["members", "generous"]).assert_error(1, &["unknown-label"]);
        let shown = rule(&folder, &["preview", "red_packet@1"]);
        assert!(shown.contains("red_packet@1 against no labels"), "{shown}");
        let preview = json(&folder, &["preview", "red_packet@1"]);
        let out = rule(&folder, &["activate", "red_packet@1"]);
        assert!(out.contains("red_packet@1 is live") && !out.contains("rollback"), "{out}");
        assert_eq!(all(&folder), expect, "{killed_by}");
        refused(&folder, &["rollback", "red_packet"], &["nothing-before"]);
        host.signal("INT");
        host.wait().assert_ok();
        folder.run().assert_ok();
        assert!(told(&folder).len() > before);
        let lines = folder.read("labels.ndjson");
        let lines = lines.lines().filter(|line| line.contains("\"rule\":\"red_packet\""));
        let messages: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: BTreeSet<_> =
            messages.iter().map(|m| (m["key"].to_string(), m["label"].to_string())).collect();
        assert_eq!(told.len(), messages.len(), "a key was told twice");
        let keys: BTreeSet<_> = told.iter().map(|(key, _)| key).collect();
        assert_eq!(Some(keys.len() as u64), preview["changed_keys"].as_u64(), "each key is told");
    }
}

/// On a stopped directory the next start does the work; a state that has no rule at all takes its first one.
#[test]
fn the_first_rule_of_a_state_may_come_by_command() {
    let folder = small_shop();
    let configured = folder.read("retag.toml");
    let (before, rest) = configured.split_once("[rules.payer]").expect("the rule");
    let rest = &rest[rest.find("\n[").expect("what is behind it")..];
    folder.write("retag.toml", format!("{before}{rest}"));
    folder.run().assert_ok();
    rule(&folder, &["push", "payer.wasm"]);
    rule(&folder, &["prepare", "payer@1"]);
    folder.run().assert_ok();
    rule(&folder, &["activate", "payer@1"]);
    folder.run().assert_ok();
    let got = folder.retag(&["get", "user/1"]).assert_ok().out;
    assert!(got.contains("payer"), "{got}");
    assert!(folder.read("labels.ndjson").contains("\"cause\":\"backfill\""));
}
