//! A rule stands still on a host that runs, and catches up with exactly what it missed.

use crate::backfill::{answers, assert_all, caught_up, expected, export, last_operation};
use crate::harness::Folder;
use crate::message::{order, shop as small_shop, told, user};
use crate::release::{refused, rule};
use crate::run::shop;
use retag_tests::model::MapSide;
use serde_json::Value;

/// Status of the label `never_paid` of a user.
fn label_status(folder: &Folder, key: &str) -> String {
    let out = folder.retag(&["get", key, "-o", "json"]).assert_ok().out;
    let answer: Value = serde_json::from_str(&out).unwrap();
    answer["metadata"]["never_paid"]["status"].as_str().unwrap_or_default().to_owned()
}

/// The rest of the log comes while the rule stands still; the host is killed inside the lane of the resume.
#[test]
fn a_rule_catches_up_with_what_it_missed_through_kill_9() {
    for killed_by in ["signal", "lane:25", "block-write:30"] {
        let folder = Folder::new();
        let messages = shop(&folder, 12_000);
        let whole = ["o.p0.json", "o.p1.json"].map(|name| (name, folder.read(name)));
        let parts = whole.map(|(name, text)| {
            let cut = |at: usize| text[..at].rfind('\n').expect("a line") + 1;
            let (first, second) = (cut(text.len() / 3), cut(2 * text.len() / 3));
            folder.write(name, &text[..first]);
            (name, text[first..second].to_owned(), text[second..].to_owned())
        });
        folder.configure("[engine]", "[engine]\ncycle_bytes_max = 20000\nblock_bytes = 4000");
        let mut host = folder.start(&["run"], &[]);
        caught_up(&mut host, &folder);
        let out = rule(&folder, &["pause", "payer", "--reason", "codes change"]);
        assert!(out.contains("payer stands still since commit"), "{out}");
        let before = export(&folder);
        for (name, second, _) in &parts {
            folder.append(name, second);
        }
        caught_up(&mut host, &folder);
        assert_eq!(export(&folder), before, "nothing feeds it");
        let status = folder.retag(&["status"]).out;
        assert!(status.starts_with("error: rule payer stands still"), "{status}");
        assert!(status.contains("codes change") && status.contains("retag rule resume payer"), "{status}");
        let shown = rule(&folder, &["ls", "payer"]);
        assert!(shown.contains("stopped") && shown.contains("stale"), "{shown}");
        host.signal("INT");
        host.wait().assert_ok();

        let environment = [("RETAG_FAILPOINT", killed_by)];
        let by_signal = killed_by == "signal";
        let mut host = folder.start(&["run"], if by_signal { &[] } else { &environment });
        answers(&mut host, &folder);
        let asked = folder.retag(&["rule", "resume", "payer", "--no-wait"]);
        assert!(asked.status.success() || !by_signal, "{}", asked.err);
        for (name, _, third) in &parts {
            folder.append(name, third);
        }
        if by_signal {
            host.until("a lane that has begun", || {
                let history = &last_operation(&folder)["history"];
                history["rows"].as_u64().filter(|rows| *rows > 0)
            });
            host.signal("KILL");
        }
        assert!(!host.wait().status.success(), "{killed_by}: it was not killed");

        let mut host = folder.start(&["run"], &[]);
        answers(&mut host, &folder);
        let out = rule(&folder, &["resume", "payer"]);
        assert!(out.contains("has caught up") || out.contains("is not paused"), "{out}");
        caught_up(&mut host, &folder);
        assert_eq!(export(&folder), expected(&messages, MapSide::States), "{killed_by}");
        let operation = last_operation(&folder);
        assert_eq!(
            (&operation["kind"], &operation["state"]),
            (&"resume".into(), &"done".into()),
            "{operation}"
        );
        host.signal("INT");
        host.wait().assert_ok();
        assert_all(&folder, &messages);
    }
}

#[test]
fn a_stopped_directory_takes_a_pause_and_reads_say_stale() {
    let folder = small_shop();
    folder.run().assert_ok();
    let before = label_status(&folder, "user/1");
    rule(&folder, &["pause", "payer"]);
    assert_eq!(label_status(&folder, "user/1"), "STALE");
    refused(&folder, &["params", "set", "payer", "big_spender_min=1.00"], &["rule-paused"]);
    let heard = told(&folder).len();
    folder.append("o.p0.json", user(9, 9) + &order(10, (10, 9), "2500.00"));
    folder.run().assert_ok();
    assert_eq!(told(&folder).len(), heard, "its labels stay");
    // What it missed is not there any more: a start refuses that before the resume is asked.
    let out = rule(&folder, &["resume", "payer"]);
    assert!(out.contains("catches up with the next `retag run`"), "{out}");
    folder.run().assert_ok();
    assert_eq!(label_status(&folder, "user/1"), before);
    let got = folder.retag(&["get", "user/9"]).assert_ok().out;
    assert!(got.contains("silver"), "{got}");
    assert!(told(&folder).len() > heard);
    let causes = folder.read("labels.ndjson");
    assert!(causes.lines().skip(heard).all(|line| line.contains("\"catchup\"")), "{causes}");
    // `manage = "config"` cannot decide on a rule that stands still.
    rule(&folder, &["pause", "payer"]);
    folder.configure("[state]", "[registry]\nmanage = \"config\"\n[state]");
    let said = folder.run();
    assert!(!said.status.success() && said.err.contains("rule payer is paused"), "{}", said.err);
}

#[test]
fn a_rule_that_is_taken_out_is_told_unset_and_does_not_come_back() {
    let folder = small_shop();
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    let before = folder.read("labels.ndjson").lines().count();
    refused(&folder, &["rm", "payer"], &["--yes"]);
    refused(&folder, &["rm", "payer@1", "--yes"], &["revision-in-use"]);
    let out = rule(&folder, &["rm", "payer", "--yes", "--reason", "not wanted"]);
    assert!(out.contains("payer is gone since commit"), "{out}");
    let out = folder.retag(&["get", "user/1"]).out;
    assert!(!out.contains("silver"), "{out}");
    host.until("the end of the telling", || (last_operation(&folder)["state"] == "done").then_some(()));
    host.signal("INT");
    host.wait().assert_ok();
    let told = folder.read("labels.ndjson");
    let mut held = std::collections::BTreeSet::new();
    for line in told.lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let name = format!("{} {}", message["key"], message["label"]);
        if message["op"] == "set" {
            held.insert(name)
        } else {
            held.remove(&name)
        };
    }
    assert!(held.is_empty() && told.lines().count() > before, "{told}");
    folder.append("o.p0.json", order(10, (10, 1), "2500.00"));
    folder.run().assert_ok();
    assert_eq!(folder.read("labels.ndjson"), told);
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    let status = folder.retag(&["status"]).out;
    assert!(status.contains("drift") && status.contains("rule payer is in the configuration"), "{status}");
    host.signal("INT");
    host.wait().assert_ok();
    let history = rule(&folder, &["history", "payer"]);
    assert!(history.contains("not wanted"), "{history}");
    assert!(rule(&folder, &["ls", "payer"]).contains("payer@1   retired"));
    let out = rule(&folder, &["push", "payer.wasm"]);
    assert!(out.contains("payer@1"), "{out}");
    rule(&folder, &["rm", "payer@1", "--yes"]);
    let out = rule(&folder, &["push", "payer.wasm"]);
    assert!(out.contains("payer@2"), "{out}");
    // The way back.
    folder.retag(&["run", "--until-end", "--rebuild", "payer"]).assert_ok();
    let got = folder.retag(&["get", "user/1"]).assert_ok().out;
    assert!(got.contains("5500.00") && got.contains("big_spender"), "{got}");
}

#[test]
fn who_hears_of_changes_alone_is_told_when_a_rule_has_caught_up() {
    let folder = small_shop();
    folder.configure("path = \"labels.ndjson\"", "path = \"labels.ndjson\"\ndeliver = \"changes\"");
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    // That the history is read is told as a whole too.
    let told = || folder.read("labels.ndjson").lines().map(str::to_owned).collect::<Vec<_>>();
    host.until("the history", || (told().len() == 1).then_some(()));
    rule(&folder, &["pause", "payer"]);
    folder.append("o.p1.json", user(9, 9));
    caught_up(&mut host, &folder);
    assert_eq!(told().len(), 1, "nothing is told of a rule that stands still");
    rule(&folder, &["resume", "payer"]);
    let line = host.until("the summary", || told().get(1).cloned());
    let summary: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&summary["op"], &summary["cause"]), (&"switch".into(), &"catchup".into()));
    assert_eq!((&summary["revision"], &summary["changed_keys"]), (&1.into(), &Value::Null));
    let members = folder.retag(&["members", "never_paid"]).assert_ok().out;
    assert!(members.contains("user/9"), "{members}");
    // What comes later is told key by key.
    folder.append("o.p1.json", user(10, 10));
    host.until("a change", || (folder.read("labels.ndjson").lines().count() == 2).then_some(()));
    host.signal("INT");
    host.wait().assert_ok();
}
