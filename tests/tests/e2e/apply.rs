//! `retag apply`: a host that runs comes to run what the configuration says, once; what cannot be leaves everything as it was.

use crate::backfill::{answers, caught_up};
use crate::harness::{Ended, Folder, Host};
use crate::message::{SHOP_TOLD, order, packet, shop, told};
use crate::release::{json, rule};
use crate::rules::change_rule;
use retag_tests::rule_file::{baskets, changed};
use serde_json::Value;

pub(crate) const PAYER: &str =
    "[rules.payer]\npath = \"payer.wasm\"\nparams = { big_spender_min = \"5000.00\" }\n";
pub(crate) const RED_PACKET: &str = "[rules.red_packet]\npath = \"red_packet.wasm\"\n";

pub(crate) fn apply(folder: &Folder, args: &[&str]) -> Ended {
    folder.retag(&[&["apply"], args].concat())
}

/// It must go well: what it printed.
#[track_caller]
pub(crate) fn applied(folder: &Folder, args: &[&str]) -> String {
    apply(folder, args).assert_ok().out
}

#[track_caller]
pub(crate) fn nothing_to_do(folder: &Folder) {
    let out = applied(folder, &[]);
    assert!(out.contains("nothing to do"), "{out}");
    apply(folder, &["--dry-run", "--detailed-exitcode"]).assert_ok();
}

/// It says so, with the exit code for changes, and changes nothing.
#[track_caller]
pub(crate) fn planned(folder: &Folder, args: &[&str], said: &[&str]) {
    let before = folder.retag(&["rule", "ls", "-o", "json"]).out;
    let dry = apply(folder, &[&["--dry-run", "--detailed-exitcode"], args].concat());
    assert_eq!(dry.status.code(), Some(2), "{}{}", dry.out, dry.err);
    for piece in said {
        assert!(dry.out.contains(piece), "`{piece}` is not in\n{}", dry.out);
    }
    assert_eq!(folder.retag(&["rule", "ls", "-o", "json"]).out, before, "a dry run changed something");
}

pub(crate) fn running(folder: &Folder) -> Host {
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, folder);
    host
}

pub(crate) fn stop(host: Host) {
    host.signal("INT");
    host.wait().assert_ok();
}

fn commands(folder: &Folder, of_rule: &str) -> Vec<String> {
    let history = json(folder, &["history", of_rule]);
    let lines = history["lines"].as_array().expect("lines").iter();
    lines.map(|line| line["command"].as_str().expect("a command").to_owned()).collect()
}

#[test]
fn an_empty_host_gets_its_rules_and_a_second_time_there_is_nothing_to_do() {
    let folder = shop();
    folder.append("o.p0.json", packet(13));
    folder.configure(PAYER, "");
    let host = running(&folder);
    nothing_to_do(&folder);
    folder.configure("[sinks.out]", &format!("{PAYER}{RED_PACKET}[sinks.out]"));
    let said =
        ["payer: add", "new to this state", "bytes of orders", "+ label tier", "2 to add, 0 to change"];
    planned(&folder, &[], &said);
    let out = applied(&folder, &["--reason", "merge 1f3a2b"]);
    for piece in ["payer@1 is ready", "payer@1 is live since commit", "red_packet@1 is live since commit"] {
        assert!(out.contains(piece), "`{piece}` is not in\n{out}");
    }
    assert!(
        out.find("red_packet@1 is ready") < out.find("payer@1 is live"),
        "all are prepared before: {out}"
    );
    assert_eq!(told(&folder).iter().filter(|one| SHOP_TOLD.contains(&one.as_str())).count(), 2);
    nothing_to_do(&folder);
    assert_eq!(commands(&folder, "payer"), ["apply push", "apply prepare", "apply activate"]);
    let history = rule(&folder, &["history", "payer"]);
    assert!(history.contains("merge 1f3a2b"), "{history}");
    stop(host);
    folder.run().assert_ok();
    let got = folder.retag(&["get", "user/1"]).assert_ok().out;
    assert!(got.contains("silver") && got.contains("only_takes") | got.contains("generous"), "{got}");
}

#[test]
fn changed_parameters_labels_and_aggregates_go_live_and_come_back() {
    let folder = shop();
    let mut host = running(&folder);
    nothing_to_do(&folder);
    let first = std::fs::read(folder.path("payer.wasm")).expect("the rule");
    // Parameters.
    folder.configure("5000.00", "3000.00");
    let said = ["parameters only", "~ parameter big_spender_min: \"5000.00\" -> \"3000.00\"", "1 to change"];
    planned(&folder, &[], &said);
    let answer: Value = serde_json::from_str(&applied(&folder, &["-o", "json"])).expect("JSON");
    let step = &answer["rules"][0];
    assert_eq!(
        (&step["action"], &step["revision"], &answer["changes"]),
        (&"change".into(), &2.into(), &1.into())
    );
    assert!(step["commit"].as_u64() > Some(0) && step["plan"]["kind"] == "parameters", "{answer}");
    nothing_to_do(&folder);
    // What is not written takes the rule's default, whatever runs.
    folder.configure("params = { big_spender_min = \"3000.00\" }\n", "");
    planned(&folder, &[], &["~ parameter big_spender_min: \"3000.00\" -> \"5000.00\""]);
    applied(&folder, &[]);
    host.until("the way back", || (told(&folder).last()? == "1 -big_spender").then_some(()));
    let ls = rule(&folder, &["ls", "payer"]);
    assert!(ls.contains("payer@1   live"), "the same file and values are the same revision: {ls}");
    // Labels.
    change_rule(&folder, &[("\"never_paid\"", "\"never_paix\"")]);
    planned(&folder, &[], &["labels only", "- label never_paid", "+ label never_paix"]);
    applied(&folder, &[]);
    assert!(folder.retag(&["get", "user/2"]).assert_ok().out.contains("never_paix"));
    nothing_to_do(&folder);
    // Aggregates: orders written by hand are of nine pieces, which the other map side does not take as paid.
    folder.write("payer.wasm", baskets(&first));
    let said = ["new aggregates, of the same names", "their history is read again beside the stream"];
    planned(&folder, &[], &said);
    let out = applied(&folder, &[]);
    assert!(out.contains("payer@4 is live"), "{out}");
    assert!(!folder.retag(&["get", "user/1"]).assert_ok().out.contains("silver"));
    nothing_to_do(&folder);
    // The way back is to configure what was there before; it is still kept.
    folder.write("payer.wasm", first);
    let out = applied(&folder, &[]);
    assert!(out.contains("payer@1 is live") && !out.contains("is ready"), "{out}");
    assert!(folder.retag(&["get", "user/1"]).assert_ok().out.contains("silver"));
    stop(host);
    folder.run().assert_ok();
}

#[test]
fn a_host_that_was_killed_in_the_middle_starts_with_the_new_configuration() {
    let folder = shop();
    let host = running(&folder);
    let first = std::fs::read(folder.path("payer.wasm")).expect("the rule");
    // What an apply does first, and no more: another map side of one rule, and one that is new.
    folder.append("o.p0.json", packet(13));
    folder.write("payer.wasm", baskets(&first));
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    rule(&folder, &["push", "payer.wasm"]);
    rule(&folder, &["push", "red_packet.wasm"]);
    host.signal("KILL");
    drop(host);
    folder.run().assert_error(1, &["needs-history"]);
    let host = running(&folder);
    assert!(folder.retag(&["status"]).assert_ok().out.contains("(drift)"));
    let out = applied(&folder, &[]);
    assert!(out.contains("payer@2 is live") && out.contains("red_packet@1 is live"), "{out}");
    nothing_to_do(&folder);
    stop(host);
    folder.run().assert_ok();
}

#[test]
fn a_rule_that_is_not_configured_stays_until_it_is_pruned() {
    let folder = shop();
    folder.append("o.p0.json", packet(13));
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    let host = running(&folder);
    folder.configure(RED_PACKET, "");
    let out = applied(&folder, &[]);
    assert!(out.contains("red_packet: is not in the configuration, and stays"), "{out}");
    nothing_to_do(&folder);
    folder.retag(&["members", "only_takes"]).assert_ok();
    planned(&folder, &["--prune"], &["red_packet: remove", "0 to add, 0 to change, 1 to remove"]);
    let out = applied(&folder, &["--prune"]);
    assert!(out.contains("red_packet is gone since commit"), "{out}");
    folder.retag(&["members", "only_takes"]).assert_error(1, &["unknown-label"]);
    assert_eq!(commands(&folder, "red_packet")[..2], ["configure", "apply rm"]);
    let out = applied(&folder, &["--prune"]);
    assert!(out.contains("nothing to do"), "{out}");
    // It comes back as a rule that is new.
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    let out = applied(&folder, &[]);
    assert!(out.contains("red_packet@1 is live"), "{out}");
    folder.retag(&["members", "only_takes"]).assert_ok();
    stop(host);
}

#[test]
fn a_wrong_file_leaves_everything_as_it_was() {
    let folder = shop();
    let host = running(&folder);
    let before = rule(&folder, &["ls", "-o", "json"]);
    folder.configure("5000.00", "3000.00");
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    let good = std::fs::read(folder.path("red_packet.wasm")).expect("the rule");
    for (bytes, said) in [
        (&b"no rule"[..], &["[rules.red_packet]", "red_packet.wasm", "rule-refused"][..]),
        (&std::fs::read(folder.path("payer.wasm")).expect("the rule"), &["holds the rule `payer`"]),
    ] {
        folder.write("red_packet.wasm", bytes);
        apply(&folder, &[]).assert_error(1, said);
    }
    std::fs::remove_file(folder.path("red_packet.wasm")).expect("the file");
    apply(&folder, &[])
        .assert_error(1, &["[rules.red_packet]", "cannot read", "red_packet.wasm", "rule build"]);
    folder.write("red_packet.wasm", good);
    folder.configure("big_spender_min", "big_spender_mim");
    apply(&folder, &[]).assert_error(1, &["[rules.payer]", "big_spender_mim", "big_spender_min"]);
    assert_eq!(rule(&folder, &["ls", "-o", "json"]), before);
    assert_eq!(told(&folder), SHOP_TOLD);
    stop(host);
}

/// One rule fits, the other does not: nothing goes live, and the rule reads why.
#[test]
fn what_cannot_be_prepared_keeps_all_others_back() {
    let folder = shop();
    let orders: String = (100..220).map(|n| order(n, (n, n), "1.00")).collect();
    folder.append("o.p0.json", orders + &packet(13));
    folder.configure(PAYER, RED_PACKET);
    let host = running(&folder);
    let before = told(&folder);
    let payer = std::fs::read(folder.path("payer.wasm")).expect("the rule");
    folder.write(
        "payer.wasm",
        changed(&payer, |m| m["tables"][1]["columns"][1]["name"] = "merchant_no".into()),
    );
    folder.write("new.wasm", red_packet(&folder, "\"only_takes\"", "\"only_taker\""));
    folder.configure("path = \"red_packet.wasm\"", "path = \"new.wasm\"");
    folder.configure("[sinks.out]", &format!("{PAYER}[sinks.out]"));
    apply(&folder, &[]).assert_error(1, &["payer@1 was given up: rule-does-not-fit", "shop.orders"]);
    let shown = json(&folder, &["show", "payer@1"]);
    assert_eq!(shown["release"], "failed");
    assert!(shown["failure"].as_str().is_some_and(|why| why.contains("rule-does-not-fit")), "{shown}");
    assert_eq!(told(&folder), before);
    folder.retag(&["members", "only_takes"]).assert_ok();
    folder.write("payer.wasm", payer);
    let out = applied(&folder, &[]);
    assert!(out.contains("payer@2 is live") && out.contains("red_packet@2 is live"), "{out}");
    nothing_to_do(&folder);
    stop(host);
}

fn red_packet(folder: &Folder, from: &str, to: &str) -> Vec<u8> {
    let file = std::fs::read(folder.path("red_packet.wasm")).expect("the rule");
    changed(&file, |manifest| {
        let text = serde_json::to_string(manifest).expect("JSON");
        assert!(text.contains(from), "{text}");
        *manifest = serde_json::from_str(&text.replace(from, to)).expect("JSON");
    })
}

#[test]
fn a_label_goes_from_one_rule_to_another() {
    let folder = shop();
    folder.append("o.p0.json", packet(13));
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    let host = running(&folder);
    // `payer` comes first by name and wants what `red_packet` still has.
    change_rule(&folder, &[("\"never_paid\"", "\"only_takes\"")]);
    folder.write("red_packet.wasm", red_packet(&folder, "\"only_takes\"", "\"only_taker\""));
    applied(&folder, &[]);
    let label = |name: &str| folder.retag(&["members", name]).assert_ok().out;
    assert!(label("only_takes").contains("2") && label("only_taker").contains("2"));
    nothing_to_do(&folder);
    // Two that want one label cannot be.
    change_rule(&folder, &[("\"only_takes\"", "\"only_taker\"")]);
    apply(&folder, &[]).assert_error(1, &["label-taken", "only_taker", "red_packet"]);
    // A rule that goes gives its labels up.
    folder.configure(RED_PACKET, "");
    let out = applied(&folder, &["--prune"]);
    assert!(out.contains("red_packet is gone") && out.contains("payer@3 is live"), "{out}");
    stop(host);
}

#[test]
fn a_stopped_directory_is_compared_and_a_paused_rule_is_resumed_first() {
    let folder = shop();
    folder.run().assert_ok();
    nothing_to_do(&folder);
    folder.configure("5000.00", "3000.00");
    planned(&folder, &[], &["~ parameter big_spender_min"]);
    apply(&folder, &[]).assert_error(1, &["no host runs", "retag run"]);
    folder.configure("3000.00", "5000.00");
    let mut host = folder.start(&["run"], &[]);
    answers(&mut host, &folder);
    rule(&folder, &["pause", "payer"]);
    let ls = rule(&folder, &["ls", "payer"]);
    assert!(ls.contains("payer@1   paused   stopped"), "{ls}");
    nothing_to_do(&folder);
    folder.configure("5000.00", "3000.00");
    apply(&folder, &[]).assert_error(1, &["payer is paused", "rule resume payer"]);
    rule(&folder, &["resume", "payer"]);
    applied(&folder, &[]);
    nothing_to_do(&folder);
    stop(host);
}

#[test]
fn a_label_that_another_rule_keeps_is_told_before_anything_changes() {
    let folder = shop();
    let host = running(&folder);
    let file = std::fs::read(folder.path("red_packet.wasm")).expect("the rule");
    folder.write("red_packet.wasm", changed(&file, |rule| rule["labels"][0]["name"] = "refunder".into()));
    folder.configure("5000.00", "3000.00");
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    let before = json(&folder, &["ls"]);
    for args in [&["--dry-run"][..], &[]] {
        apply(&folder, args)
            .assert_error(1, &["[rules.red_packet]", "`refunder`", "rule payer, which keeps it"]);
    }
    assert_eq!(json(&folder, &["ls"]), before, "something was brought in");
    stop(host);
}
