//! Refused messages and rules that do not fit, on a host that goes on: the rules concerned stand still, by name, all others
//! do not notice.

use crate::backfill::{answers, caught_up};
use crate::harness::{Folder, Host};
use crate::message::{order, packet, shop, told, update_without_old, user};
use crate::release::rule;
use crate::rules::change_rule;
use retag_tests::rule_file::{baskets, changed};

/// The shop with rule red_packet beside payer.
fn both() -> Folder {
    let folder = shop();
    folder.configure("[sinks.out]", "[rules.red_packet]\npath = \"red_packet.wasm\"\n[sinks.out]");
    folder.configure("[rules.payer]", "on_refusal = \"pause\"\n[rules.payer]");
    folder
}

/// What payer labels of everything that was read.
fn labels_of_payer(folder: &Folder) -> Vec<String> {
    let of = |label: &str| folder.retag(&["members", label, "--limit", "10000"]).assert_ok().out;
    ["never_paid", "tier", "big_spender", "refunder"].map(of).to_vec()
}

fn only_takes(host: &mut Host, folder: &Folder) {
    host.until("a label of the other rule", || {
        told(folder).contains(&"2 only_takes".to_owned()).then_some(())
    });
}

#[test]
fn a_refused_message_pauses_the_rules_that_read_its_table_and_no_others() {
    let folder = both();
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    let before = folder.read("o.p0.json").len();
    folder.append("o.p0.json", order(10, (10, 2), "2500.00") + &update_without_old(11, (1, 1), "3000.00"));
    folder.append("o.p0.json", order(12, (12, 2), "9000.00") + &packet(13));
    only_takes(&mut host, &folder);
    caught_up(&mut host, &folder);
    // What stood before the message counts, what stands behind it does not.
    let got = folder.retag(&["get", "user/2", "-o", "json"]).assert_ok().out;
    assert!(got.contains("silver") && got.contains("STALE"), "{got}");
    let status = folder.retag(&["status"]).assert_ok().out;
    let place = format!("o.p0.json at byte {}", before + order(10, (10, 2), "2500.00").len());
    for piece in
        ["error: rule payer stands still", "update-without-old", &place, "shop.orders", "rule resume payer"]
    {
        assert!(status.contains(piece), "`{piece}` is not in\n{status}");
    }
    let history = rule(&folder, &["history", "payer"]);
    assert!(history.contains("pause") && history.contains("retag"), "{history}");
    // Resumed before the cause is mended it stops at the same message.
    let out = folder.retag(&["rule", "resume", "payer"]);
    assert!(!out.status.success() && out.err.contains("update-without-old"), "{}{}", out.out, out.err);
    host.signal("INT");
    let said = host.wait().assert_ok().err;
    assert!(said.contains("rule payer stands still: update-without-old"), "{said}");

    folder.configure("on_refusal", "hidden_columns = [\"shop.orders\"]\non_refusal");
    let mut host = folder.start(&["run"], &[]);
    answers(&mut host, &folder);
    let out = rule(&folder, &["resume", "payer"]);
    assert!(out.contains("has caught up"), "{out}");
    let got = folder.retag(&["get", "user/2", "-o", "json"]).assert_ok().out;
    assert!(got.contains("gold") && !got.contains("STALE"), "{got}");
    host.signal("INT");
    host.wait().assert_ok();
}

/// The host passes it over on the way, and on the way back to it counts it as one that the stream puts aside.
#[test]
fn a_message_that_a_resume_puts_aside_is_counted() {
    let folder = both();
    folder.append("o.p0.json", update_without_old(11, (1, 1), "3000.00") + &packet(13));
    folder.run().assert_error(1, &["rule-paused", "payer", "update-without-old"]);
    let said = folder.retag(&["rule", "resume", "payer"]);
    said.assert_ok();
    folder.run().assert_error(1, &["on_refusal = \"quarantine\"", "the rule lacks it"]);
    folder.configure("on_refusal = \"pause\"", "on_refusal = \"quarantine\"");
    rule(&folder, &["resume", "payer"]);
    folder.run().assert_ok();
    let listed = folder.retag(&["quarantine", "ls"]).assert_ok().out;
    assert!(listed.contains("1 messages put aside since the state was made"), "{listed}");
    let status = folder.retag(&["status"]).assert_ok().out;
    assert!(status.contains("1 messages were put aside"), "{status}");
    let shown = rule(&folder, &["show", "payer@1", "-o", "json"]);
    assert!(shown.contains("\"lacks\":1") || shown.contains("\"lacks\": 1"), "{shown}");
}

/// No revision is kept to go back to: a mended file reads everything anew, beside the labels that there are.
#[test]
fn a_rule_that_stands_still_with_nothing_before_it_is_rebuilt_from_a_mended_file() {
    let folder = both();
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    let bad: String = (0..150).map(|n| order(1_000 + n, (100 + n, 1), "\"x\"")).collect();
    folder.append("o.p0.json", bad + &packet(2_000));
    only_takes(&mut host, &folder);
    let way = ["nothing-before", "start once with --rebuild RULE"];
    folder.retag(&["rule", "rollback", "payer"]).assert_error(1, &way);
    host.signal("INT");
    host.wait().assert_ok();
    let payer = std::fs::read(folder.path("payer.wasm")).unwrap();
    // Without what it cannot read: a mended one.
    let mended = changed(&payer, |manifest| {
        let tables = manifest["tables"].as_array_mut().expect("tables").iter_mut();
        let orders = tables.filter(|table| table["table"] == "shop.orders");
        orders.for_each(|table| table["table"] = "shop.gifts".into());
    });
    folder.write("mended.wasm", mended);
    folder.configure("payer.wasm", "mended.wasm");
    folder.append("o.p1.json", user(3_000, 77));
    folder.run_with(&["--rebuild", "payer"]).assert_ok();
    assert!(rule(&folder, &["ls", "payer"]).contains("live"), "it stands still");
    let told = told(&folder);
    for told_of in ["1 -tier", "1 never_paid", "77 never_paid"] {
        assert!(told.contains(&told_of.to_owned()), "{told_of}: {told:?}");
    }
    folder.run().assert_ok();
}

#[test]
fn a_job_that_ends_with_the_files_fails_when_a_rule_stood_still() {
    let folder = both();
    folder.append("o.p0.json", update_without_old(11, (1, 1), "3000.00") + &packet(13));
    let said =
        ["rule-paused", "payer", "update-without-old", "everything else is committed", "rule resume payer"];
    folder.run().assert_error(1, &said);
    assert!(told(&folder).contains(&"2 only_takes".to_owned()));
    // Nobody has mended anything, but it is known now.
    folder.run().assert_ok();
    // Told to go on all the same, it stands still in front of the same message, and the job fails again.
    rule(&folder, &["resume", "payer"]);
    folder.run().assert_error(1, &["rule-paused", "payer", "update-without-old"]);
}

#[test]
fn what_is_wrong_for_every_rule_stops_the_host_all_the_same() {
    let folder = both();
    folder.append("o.p0.json", "{\"database\":\n".to_owned() + &packet(13));
    for _ in 0..2 {
        folder.run().assert_error(1, &["not-json", "o.p0.json", "at byte"]);
    }
    assert!(!told(&folder).contains(&"2 only_takes".to_owned()));
}

#[test]
fn a_rule_that_does_not_fit_stands_still_and_the_others_go_on() {
    let folder = both();
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    let heard = told(&folder).len();
    let bad: String = (0..150).map(|n| order(1_000 + n, (100 + n, 1), "\"x\"")).collect();
    folder.append("o.p0.json", bad + &packet(2_000));
    only_takes(&mut host, &folder);
    let status = folder.retag(&["status"]).assert_ok().out;
    for piece in ["error: rule payer stands still", "rule-does-not-fit", "shop.orders", "column-wrong-shape"]
    {
        assert!(status.contains(piece), "`{piece}` is not in\n{status}");
    }
    folder.append("o.p1.json", user(3_000, 77));
    caught_up(&mut host, &folder);
    assert!(told(&folder)[heard..].iter().all(|one| !one.starts_with("77 ")), "its labels are frozen");
    // Told to go on though nothing is mended, it stands still again, and nothing else does; so it does after a start.
    for start in [false, true] {
        if start {
            host.signal("INT");
            host.wait().assert_ok();
            rule(&folder, &["resume", "payer"]);
            host = folder.start(&["run"], &[]);
            answers(&mut host, &folder);
        } else {
            let resumed = folder.retag(&["rule", "resume", "payer"]);
            resumed.assert_error(1, &["payer stands still again", "rule-does-not-fit"]);
        }
        host.until("a rule that stands still again", || {
            let said = folder.retag(&["status"]).out;
            (said.contains("rule payer stands still") && !said.contains("catches up")).then_some(())
        });
        folder.append("o.p0.json", packet(2_001 + u64::from(start)));
        caught_up(&mut host, &folder);
    }
    host.signal("INT");
    host.wait().assert_ok();
    rule(&folder, &["resume", "payer"]);
    // A job says so at its end, and has done everything else.
    folder
        .run()
        .assert_error(1, &["rule-paused", "payer", "rule-does-not-fit", "everything else is committed"]);
    // Where the end of the files is the end of the job, it is an error as before.
    let folder = both();
    folder.append("o.p0.json", packet(13));
    change_rule(&folder, &[("\"amount\"", "\"amuont\"")]);
    folder.run().assert_error(1, &["rule-does-not-fit", "payer"]);
}

/// The revision that does not fit is left behind, in whatever state its rule is.
#[test]
fn a_rule_that_stands_still_goes_back_to_the_revision_before_and_catches_up() {
    for bad in ["images", "message"] {
        let folder = both();
        let mut host = folder.start(&["run"], &[]);
        caught_up(&mut host, &folder);
        let payer = std::fs::read(folder.path("payer.wasm")).unwrap();
        let next = match bad {
            "images" => baskets(&payer), // reads `quantity`
            _ => changed(&payer, |manifest| manifest["tables"][0]["table"] = "shop.gifts".into()),
        };
        folder.write("next.wasm", next);
        rule(&folder, &["push", "next.wasm"]);
        rule(&folder, &["prepare", "payer@2"]);
        rule(&folder, &["activate", "payer@2"]);
        let text = match bad {
            "images" => {
                let orders = (0..150).map(|n| order(1_000 + n, (100 + n, 1), "1.00"));
                orders.map(|order| order.replace("\"quantity\":9", "\"quantity\":null")).collect()
            }
            _ => update_without_old(1_000, (1, 1), "1.00").replace("\"orders\"", "\"gifts\""),
        };
        folder.append("o.p0.json", text + &packet(2_000));
        only_takes(&mut host, &folder);
        host.until("a rule that stands still", || {
            folder.retag(&["status"]).out.contains("rule payer stands still").then_some(())
        });
        folder.append("o.p1.json", user(3_000, 77) + &order(3_001, (500, 2), "3000.00"));
        caught_up(&mut host, &folder);
        rule(&folder, &["rollback", "payer"]);
        rule(&folder, &["resume", "payer"]);
        let shown = rule(&folder, &["ls", "payer"]);
        assert!(shown.contains("payer@1   live") && !shown.contains("payer@2   retained"), "{bad}: {shown}");
        let got = labels_of_payer(&folder);
        host.signal("INT");
        host.wait().assert_ok();
        // A host that has never had the other one.
        let fresh = both();
        fresh.write("o.p0.json", folder.read("o.p0.json"));
        fresh.write("o.p1.json", folder.read("o.p1.json"));
        fresh.run().assert_ok();
        assert_eq!(got, labels_of_payer(&fresh), "{bad}");
        assert!(got[0].contains("77"), "{got:?}");
    }
}
