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
