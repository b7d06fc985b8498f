//! Revisions on a host that runs and in a stopped directory: pushed, planned, prepared, previewed, activated, rolled back.

use crate::harness::{Folder, Host};
use crate::message::{order, state, told, user};
use crate::rules::change_rule;
use crate::socket::ask;
use serde_json::Value;

/// Users 1 and 2; 1 has spent 3000.00.
fn shop() -> Folder {
    let folder = Folder::new();
    folder.write("o.p0.json", order(1, (1, 1), "3000.00"));
    folder.write("o.p1.json", user(2, 1) + &user(3, 2));
    folder
}

const FIRST: [&str; 2] = ["1 tier=silver", "2 never_paid"];

/// A host that has told the first labels.
fn running(folder: &Folder) -> Host {
    let mut host = folder.start(&["run"], &[]);
    host.until("the first labels", || (told(folder).len() == 2).then_some(()));
    host
}

/// `retag rule ARGS`, which must go well: what it printed.
#[track_caller]
pub(super) fn rule(folder: &Folder, args: &[&str]) -> String {
    folder.retag(&[&["rule"], args].concat()).assert_ok().out
}

#[track_caller]
pub(super) fn json(folder: &Folder, args: &[&str]) -> Value {
    serde_json::from_str(&rule(folder, &[args, &["-o", "json"]].concat())).expect("JSON")
}

#[track_caller]
pub(super) fn refused(folder: &Folder, args: &[&str], said: &[&str]) {
    folder.retag(&[&["rule"], args].concat()).assert_error(1, said);
}

fn last_cause(folder: &Folder) -> (String, u64) {
    let text = folder.read("labels.ndjson");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("a message");
    (last["cause"].as_str().expect("a cause").to_owned(), last["revision"].as_u64().expect("a number"))
}

#[test]
fn parameters_are_changed_previewed_activated_and_taken_back_while_it_runs() {
    let folder = shop();
    let mut host = running(&folder);
    let as_it_is = rule(&folder, &["params", "set", "payer", "big_spender_min=5000.00"]);
    assert!(as_it_is.contains("payer@1 is live already: nothing to do"), "{as_it_is}");
    let out = rule(&folder, &["params", "set", "payer", "big_spender_min=3000.00", "--reason", "spring"]);
    assert!(out.contains("payer@2 is ready, 2 keys evaluated"), "{out}");
    assert_eq!(told(&folder), FIRST, "something was told before it is live");
    let preview = json(&folder, &["preview", "payer@2"]);
    assert_eq!((preview["changed_keys"].as_u64(), preview["against"].as_u64()), (Some(1), Some(1)));
    let sample = &preview["samples"][0]["entered"][0];
    assert_eq!(
        (sample["key"].as_str(), sample["aggregates"]["spent"].as_str()),
        (Some("1"), Some("3000.00"))
    );
    assert_eq!(sample["after"]["big_spender"], true);
    let id = preview["id"].as_str().expect("an id");
    // The preview does not hold any more: user 2 would be a big spender too.
    folder.append("o.p0.json", order(4, (2, 2), "4000.00"));
    let now = ["1 tier=silver", "2 never_paid", "2 -never_paid", "2 tier=silver"];
    host.until("the order", || (told(&folder) == now).then_some(()));
    let bounded = ["activate", "payer@2", "--preview", id, "--max-change", "1%"];
    refused(&folder, &bounded, &["preview-moved", "100.00 %", "retag rule preview"]);
    let again = json(&folder, &["preview", "payer@2"]);
    let id = again["id"].as_str().expect("an id");
    rule(&folder, &["activate", "payer@2", "--preview", id, "--max-change", "0%", "--reason", "spring"]);
    let spring = [&now[..], &["1 big_spender", "2 big_spender"]].concat();
    host.until("the switch", || (told(&folder) == spring).then_some(()));
    assert_eq!(last_cause(&folder), ("params".into(), 2));
    // Both sides see what comes now; the way back is as fresh as if it had never left.
    folder.append("o.p0.json", state(5, (2, 2), "4000.00", 4));
    let later = [&spring[..], &["2 -big_spender", "2 -tier", "2 never_paid"]].concat();
    host.until("the change", || (told(&folder).len() == later.len()).then_some(()));
    let out = rule(&folder, &["rollback", "payer", "--reason", "too many"]);
    assert!(out.contains("payer@1 is live"), "{out}");
    host.until("the way back", || (told(&folder).len() == later.len() + 1).then_some(()));
    assert_eq!(told(&folder).last().expect("a line"), "1 -big_spender");
    assert_eq!(last_cause(&folder), ("rollback".into(), 1));
    let history = json(&folder, &["history", "payer"]);
    let lines = history["lines"].as_array().expect("lines");
    let line = |l: &Value| (l["command"].as_str().unwrap().to_owned(), l["why"].as_str().unwrap().to_owned());
    let told: Vec<_> = lines.iter().map(line).filter(|(command, _)| command != "preview").collect();
    let expect =
        [("configure", ""), ("params set", "spring"), ("activate", "spring"), ("rollback", "too many")];
    assert_eq!(told, expect.map(|(a, b)| (a.to_owned(), b.to_owned())));
    host.signal("INT");
    host.wait().assert_ok();
}

#[test]
fn a_preview_has_moved_when_other_keys_would_change_be_they_as_many() {
    let folder = shop();
    let mut host = running(&folder);
    rule(&folder, &["params", "set", "payer", "big_spender_min=3000.00"]);
    let then = json(&folder, &["preview", "payer@2"]);
    folder.append("o.p0.json", order(4, (2, 2), "3000.00") + &state(5, (1, 1), "3000.00", 4));
    host.until("both orders", || (told(&folder).len() == 6).then_some(()));
    let now = json(&folder, &["preview", "payer@2"]);
    assert_eq!(then["labels"], now["labels"], "the counts are the same");
    assert_ne!(then["samples"][0]["entered"][0]["key"], now["samples"][0]["entered"][0]["key"]);
    let id = then["id"].as_str().expect("an id");
    let bounded = ["activate", "payer@2", "--preview", id, "--max-change", "199%"];
    refused(&folder, &bounded, &["preview-moved", "200.00 %"]);
    rule(&folder, &["activate", "payer@2", "--preview", id, "--max-change", "200%"]);
    host.signal("INT");
    host.wait().assert_ok();
}

#[test]
fn a_pushed_file_runs_from_the_state_when_the_configured_one_is_gone() {
    let folder = shop();
    let mut host = running(&folder);
    let first = std::fs::read(folder.path("payer.wasm")).unwrap();
    change_rule(&folder, &[("\"never_paid\"", "\"never_paix\"")]);
    std::fs::rename(folder.path("payer.wasm"), folder.path("new.wasm")).unwrap();
    let pushed = json(&folder, &["push", "new.wasm"]);
    assert_eq!((&pushed["created"], &pushed["plan"]["kind"]), (&Value::Bool(true), &Value::from("labels")));
    assert_eq!(json(&folder, &["push", "new.wasm"])["created"], false);
    let plan = folder.retag(&["rule", "plan", "payer@2", "--detailed-exitcode"]);
    assert_eq!(plan.status.code(), Some(2));
    assert!(plan.out.contains("labels only") && plan.out.contains("+ label never_paix"), "{}", plan.out);
    let diff = rule(&folder, &["diff", "payer@1", "payer@2"]);
    assert!(diff.contains("labels differ; the sums are the same"), "{diff}");
    assert!(diff.contains("  - label never_paid: {") && diff.contains("  + label never_paix: {"), "{diff}");
    let back = json(&folder, &["diff", "payer@2", "payer@1"]);
    assert_eq!((&back["kind"], back["labels"][0]["name"].as_str()), (&"labels".into(), Some("never_paid")));
    assert!(back["labels"][0]["before"].is_null() && back["labels"][0]["after"].is_object());
    assert_eq!((&back["aggregates"], &back["params"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert!(rule(&folder, &["diff", "payer@2", "payer@2"]).contains("they label alike"));
    rule(&folder, &["params", "set", "payer", "big_spender_min=3000.00"]);
    let diff = rule(&folder, &["diff", "payer@1", "payer@3"]);
    assert!(diff.contains("  ~ parameter big_spender_min: \"5000.00\" -> \"3000.00\""), "{diff}");
    rule(&folder, &["cancel", "payer@3"]);
    refused(&folder, &["diff", "payer@1", "payer@9"], &["unknown-revision"]);
    refused(&folder, &["diff", "payer@1", "buyer@2"], &["two rules"]);
    let same = folder.retag(&["rule", "plan", "payer@1", "--detailed-exitcode"]).assert_ok();
    assert!(same.out.contains("nothing to do"), "{}", same.out);
    refused(&folder, &["activate", "payer@2"], &["not-ready", "retag rule prepare payer@2"]);
    rule(&folder, &["prepare", "payer@2"]);
    rule(&folder, &["activate", "payer@2"]);
    let swapped = [&FIRST[..], &["2 -never_paid", "2 never_paix"]].concat();
    host.until("the switch", || (told(&folder).len() == 4).then_some(()));
    let mut both = told(&folder);
    both.sort();
    let mut expect = swapped.clone();
    expect.sort_unstable();
    assert_eq!(both, expect);
    host.signal("INT");
    host.wait().assert_ok();
    // No file of the configuration is there any more.
    folder.append("o.p1.json", user(9, 9));
    folder.run().assert_ok();
    assert_eq!(told(&folder).last().expect("a line"), "9 never_paix");
    // One that is there but is not what runs is only reported.
    folder.write("payer.wasm", first);
    folder.append("o.p1.json", user(10, 10));
    let said = folder.run().assert_ok().err;
    assert!(said.contains("drift: rule payer has another file"), "{said}");
    assert_eq!(told(&folder).last().expect("a line"), "10 never_paix");
    let shown = rule(&folder, &["ls", "payer"]);
    assert!(shown.contains("payer@1   retained") && shown.contains("payer@2   live"), "{shown}");
}

#[test]
fn a_stopped_directory_takes_commands_and_the_next_start_does_the_work() {
    let folder = shop();
    folder.run().assert_ok();
    let out = rule(&folder, &["params", "set", "payer", "big_spender_min=3000.00"]);
    assert!(out.contains("payer@2 will be prepared by the next"), "{out}");
    refused(&folder, &["activate", "payer@2"], &["not-ready", "being prepared"]);
    folder.run().assert_ok();
    assert_eq!(told(&folder), FIRST);
    rule(&folder, &["activate", "payer@2"]);
    let got = folder.retag(&["get", "user/1"]).assert_ok();
    assert!(got.out.contains("big_spender"), "all keys flip in the commit: {}", got.out);
    folder.run().assert_ok();
    let swapped = [&FIRST[..], &["1 big_spender"]].concat();
    assert_eq!(told(&folder), swapped);
    folder.run().assert_ok();
    assert_eq!(told(&folder), swapped);
    rule(&folder, &["rollback", "payer"]);
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&swapped[..], &["1 -big_spender"]].concat());
}

#[test]
fn what_cannot_go_live_is_refused_by_name() {
    let folder = shop();
    folder.run().assert_ok();
    refused(&folder, &["rollback", "payer"], &["nothing-before", "payer"]);
    refused(&folder, &["prepare", "payer@7"], &["unknown-revision", "payer"]);
    refused(&folder, &["rollback", "buyer"], &["unknown-rule", "buyer"]);
    refused(&folder, &["params", "set", "payer", "big_spender_mim=1"], &["rule-refused", "big_spender_min"]);
    folder.write("no.wasm", "no rule");
    refused(&folder, &["push", "no.wasm"], &["WebAssembly"]);
    folder.configure("[state]", "[registry]\nmanage = \"config\"\n[state]");
    refused(&folder, &["push", "payer.wasm"], &["managed-by-config"]);
    refused(&folder, &["params", "set", "payer", "big_spender_min=1.00"], &["managed-by-config"]);
}

#[test]
fn a_rule_is_given_back_to_the_configuration() {
    let folder = shop();
    folder.run().assert_ok();
    rule(&folder, &["params", "set", "payer", "big_spender_min=3000.00"]);
    folder.run().assert_ok();
    rule(&folder, &["activate", "payer@2"]);
    folder.configure("[state]", "[registry]\nmanage = \"config\"\n[state]");
    folder.run().assert_error(1, &["payer", "still being told"]);
    folder.configure("manage = \"config\"", "manage = \"state\"");
    folder.run().assert_ok();
    let swapped = [&FIRST[..], &["1 big_spender"]].concat();
    assert_eq!(told(&folder), swapped);
    folder.configure("manage = \"state\"", "manage = \"config\"");
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&swapped[..], &["1 -big_spender"]].concat());
}

#[test]
fn a_sink_that_hears_changes_only_gets_one_summary_of_a_switch() {
    let folder = shop();
    folder.configure("path = \"labels.ndjson\"", "path = \"labels.ndjson\"\ndeliver = \"changes\"");
    let mut host = folder.start(&["run"], &[]);
    let lines = || folder.read("labels.ndjson").lines().count();
    // The first reading of history is told as a whole; what comes afterwards is not.
    host.until("the history", || (rule_is_exact(&folder) && lines() == 1).then_some(()));
    let first: Value = serde_json::from_str(&folder.read("labels.ndjson")).expect("JSON");
    assert_eq!(
        (&first["op"], &first["cause"], &first["changed_keys"]),
        (&"switch".into(), &"catchup".into(), &Value::Null)
    );
    folder.append("o.p1.json", user(9, 9));
    host.until("a change", || (lines() == 2).then_some(()));
    rule(&folder, &["params", "set", "payer", "big_spender_min=3000.00", "--activate"]);
    host.until("the summary", || (lines() == 3).then_some(()));
    folder.append("o.p1.json", user(10, 10));
    host.until("another change", || (lines() == 4).then_some(()));
    let text = folder.read("labels.ndjson");
    let read: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!((&read[1]["cause"], &read[3]["cause"]), (&"change".into(), &"change".into()));
    let summary = &read[2];
    assert_eq!((&summary["op"], &summary["cause"]), (&"switch".into(), &"params".into()));
    assert_eq!((summary["revision"].as_u64(), summary["changed_keys"].as_u64()), (Some(2), Some(1)));
    let label = summary["labels"].as_array().expect("labels").iter().find(|l| l["label"] == "big_spender");
    assert_eq!(label.expect("the label")["entered"], 1);
    host.signal("INT");
    host.wait().assert_ok();
    folder.run().assert_ok();
    assert_eq!(lines(), 4);
}

#[test]
fn what_a_start_switches_is_in_the_audit_and_told_as_a_whole() {
    let folder = shop();
    folder.configure("path = \"labels.ndjson\"", "path = \"labels.ndjson\"\ndeliver = \"changes\"");
    folder.run().assert_ok();
    let switches = || -> Vec<(String, u64)> {
        let text = folder.read("labels.ndjson");
        let read = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let of = |m: Value| {
            (m["cause"].as_str().unwrap_or_default().to_owned(), m["revision"].as_u64().unwrap_or(0))
        };
        read.filter(|m| m["op"] == "switch").map(of).collect()
    };
    assert_eq!(switches(), [("catchup".to_owned(), 1)]);
    folder.configure("5000.00", "3000.00");
    folder.run().assert_ok();
    assert_eq!(switches().last().expect("a switch"), &("params".to_owned(), 2));
    folder.run().assert_ok();
    assert_eq!(switches().len(), 2, "told once");
    let name = folder.read("retag.toml");
    let (from, to) =
        (name.find("[rules.payer]").expect("the rule"), name.find("[sinks.out]").expect("the sink"));
    folder.configure(&name[from..to], "");
    folder.run_with(&["--remove", "payer"]).assert_ok();
    assert_eq!(switches().last().expect("a switch"), &("swap".to_owned(), 2));
    let history = json(&folder, &["history", "payer"]);
    let lines = history["lines"].as_array().expect("lines").iter();
    let said: Vec<_> =
        lines.map(|l| (l["by"].clone(), l["before"]["live"].clone(), l["after"]["live"].clone())).collect();
    let by = || Value::from("configuration");
    let expect = [
        (by(), Value::Null, 1.into()),
        (by(), 1.into(), 1.into()), // payer@2 comes in
        (by(), 1.into(), 2.into()),
        (by(), 2.into(), Value::Null),
    ];
    assert_eq!(said, expect);
}

#[test]
fn an_announced_switch_tells_such_a_sink_each_key() {
    let folder = shop();
    folder.configure("path = \"labels.ndjson\"", "path = \"labels.ndjson\"\ndeliver = \"changes\"");
    let mut host = folder.start(&["run"], &[]);
    let lines = || folder.read("labels.ndjson").lines().count();
    host.until("the history", || (rule_is_exact(&folder) && lines() == 1).then_some(()));
    rule(&folder, &["params", "set", "payer", "big_spender_min=3000.00"]);
    rule(&folder, &["activate", "payer@2", "--announce"]);
    host.until("the key", || (lines() == 2).then_some(()));
    let last = || {
        let text = folder.read("labels.ndjson");
        let message: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        ["key", "label", "op", "cause"].map(|name| message[name].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(last(), ["1", "big_spender", "set", "params"]);
    rule(&folder, &["rollback", "payer", "--announce"]);
    host.until("the way back", || (lines() == 3).then_some(()));
    assert_eq!(last(), ["1", "big_spender", "unset", "rollback"]);
    host.signal("INT");
    host.wait().assert_ok();
    folder.run().assert_ok();
    assert_eq!(lines(), 3);
}

#[test]
fn a_sampled_preview_comes_before_anything_is_prepared_and_binds_nothing() {
    let folder = shop();
    let host = running(&folder);
    change_rule(&folder, &[("\"never_paid\"", "\"never_paix\"")]);
    rule(&folder, &["push", "payer.wasm"]);
    refused(&folder, &["preview", "payer@2"], &["not-ready", "rule prepare payer@2"]);
    let said = rule(&folder, &["preview", "payer@2", "--sample"]);
    for piece in ["payer@2 against payer@1: about 1 (1..1) keys change", "in brackets 95 %", "never_paix"] {
        assert!(said.contains(piece), "`{piece}` is not in\n{said}");
    }
    let answer = json(&folder, &["preview", "payer@2", "--sample", "5"]);
    let id = answer["id"].as_str().expect("an id");
    assert!(id.ends_with("-sampled") && answer["sampled"]["of"].as_u64() >= Some(2), "{answer}");
    rule(&folder, &["prepare", "payer@2"]);
    let bound = ["activate", "payer@2", "--preview", id, "--max-change", "100%"];
    refused(&folder, &bound, &["unknown-preview"]);
    // What counts other things has no sums to look at yet.
    std::fs::copy(crate::harness::root().join("rules/payer/payer.wasm"), folder.path("payer.wasm")).unwrap();
    let other = retag_tests::rule_file::baskets(&std::fs::read(folder.path("payer.wasm")).unwrap());
    folder.write("payer.wasm", other);
    rule(&folder, &["push", "payer.wasm"]);
    refused(&folder, &["preview", "payer@3", "--sample"], &["not-ready", "counts other things"]);
    refused(&folder, &["preview", "payer@2", "--sample", "0"], &["keys: 1 to"]);
    drop(host);
}

/// The history has been read.
#[test]
fn a_rule_that_was_only_pushed_is_listed() {
    let folder = shop();
    let host = running(&folder);
    rule(&folder, &["push", "red_packet.wasm"]);
    let listed = rule(&folder, &["ls"]);
    assert!(listed.contains("payer@1") && listed.contains("red_packet@1"), "{listed}");
    // A refusal of a file has its own code and no path.
    folder.write("no.wasm", "abc");
    refused(&folder, &["push", "no.wasm"], &["not a WebAssembly module"]);
    let out = folder.retag(&["rule", "params", "set", "payer", "big_spender_min=much"]);
    out.assert_error(1, &["rule-refused", "parameter `big_spender_min`", "[bad-param]"]);
    host.signal("INT");
    host.wait().assert_ok();
}

#[test]
fn before_anything_is_read_no_sum_is_exact() {
    let folder = shop();
    let killed = folder.start(&["run"], &[("RETAG_FAILPOINT", "decode:1")]).wait();
    assert!(!killed.status.success());
    let shown = json(&folder, &["show", "payer@1"]);
    assert_eq!(shown["data_state"], "catching-up", "{shown}");
    folder.run().assert_ok();
    assert_eq!(json(&folder, &["show", "payer@1"])["data_state"], "exact");
}

fn rule_is_exact(folder: &Folder) -> bool {
    let shown = folder.retag(&["rule", "show", "payer@1"]);
    shown.status.success() && shown.out.contains("exact")
}

#[test]
fn the_routes_answer_with_status_codes_of_their_own() {
    let folder = shop();
    let host = running(&folder);
    change_rule(&folder, &[("\"never_paid\"", "\"never_paix\"")]);
    let file = std::fs::read(folder.path("payer.wasm")).unwrap();
    let push = "POST /v1/rules/payer/revisions?reason=a%20test";
    let (status, pushed) = ask(&folder, push, &file);
    assert_eq!((status, pushed["revision"]["release"].as_str()), (201, Some("checked")), "{pushed}");
    assert_eq!(ask(&folder, push, &file).0, 200);
    let code = |(status, problem): (u16, Value)| (status, problem["code"].as_str().unwrap_or("").to_owned());
    assert_eq!(code(ask(&folder, push, b"no rule")), (422, "rule-refused".into()));
    assert_eq!(code(ask(&folder, push, &vec![0; 17 << 20])), (413, "too-large".into()));
    assert_eq!(code(ask(&folder, "GET /v1/rules/payer/revisions/9", b"")), (404, "unknown-revision".into()));
    assert_eq!(code(ask(&folder, "GET /v1/rules/buyer/revisions", b"")), (404, "unknown-rule".into()));
    assert_eq!(code(ask(&folder, "GET /v1/operations/9", b"")), (404, "unknown-operation".into()));
    let activate = "POST /v1/rules/payer/revisions/2/activate";
    assert_eq!(code(ask(&folder, activate, b"")), (409, "not-ready".into()));
    assert_eq!(code(ask(&folder, activate, br#"{"preview":"2-1"}"#)), (400, "bad-request".into()));
    let (status, null) = ask(&folder, activate, b"null");
    assert!(status == 400 && null.to_string().contains("expected an object"), "{null}");
    let (status, prepared) = ask(&folder, "POST /v1/rules/payer/revisions/2/prepare", b"");
    assert_eq!(status, 202);
    let operation = format!("GET /v1/operations/{}", prepared["operation"]);
    let mut host = host;
    host.until("the end of the operation", || {
        (ask(&folder, &operation, b"").1["state"] == "done").then_some(())
    });
    assert_eq!(ask(&folder, "POST /v1/rules/payer/revisions/2/prepare", b"").0, 200);
    assert_eq!(ask(&folder, activate, b"").0, 202);
    let (_, first) = ask(&folder, "GET /v1/audit?limit=1", b"");
    assert_eq!(first["lines"][0]["by"], "configuration");
    let next = format!("GET /v1/audit?limit=1&after={}", first["next"]);
    let (_, audit) = ask(&folder, &next, b"");
    assert_eq!(
        (&audit["lines"][0]["command"], &audit["lines"][0]["why"]),
        (&"push".into(), &"a test".into())
    );
    assert!(audit["next"].is_u64());
    host.signal("INT");
    host.wait().assert_ok();
}

#[test]
fn what_a_command_changes_is_drift_at_once() {
    let folder = shop();
    let host = running(&folder);
    let status = || folder.retag(&["status"]).assert_ok().out;
    assert!(!status().contains("drift"));
    rule(&folder, &["params", "set", "payer", "big_spender_min=3000.00", "--activate"]);
    let said = status();
    assert!(said.contains("(drift)") && said.contains("payer has other parameters"), "{said}");
    rule(&folder, &["rollback", "payer"]);
    assert!(!status().contains("drift"), "{}", status());
    host.signal("INT");
    host.wait().assert_ok();
}
