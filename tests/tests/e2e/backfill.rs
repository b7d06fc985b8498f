//! Revisions with new aggregates on a host that runs: their history is read beside the stream.

use crate::harness::{Folder, Host};
use crate::message::{SHOP_TOLD, order, packet, shop as small_shop, told, update_without_old, user};
use crate::release::{json, refused, rule};
use crate::run::shop;
use retag_host::label::outbox::Place;
use retag_host::sink::message::parse_id;
use retag_host::state::{FjallStore, StateWriter};
use retag_tests::model::{MapSide, Model};
use retag_tests::rule_file::{baskets, changed};
use retag_tests::simulation::{MapSides, Outcome, assert_kept, registry};
use serde_json::Value;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Pushes rule payer with the map side "baskets" as payer@2.
fn push_baskets(folder: &Folder) -> String {
    let payer = std::fs::read(folder.path("payer.wasm")).unwrap();
    folder.write("baskets.wasm", baskets(&payer));
    rule(folder, &["push", "baskets.wasm"])
}

pub(crate) fn last_operation(folder: &Folder) -> Value {
    let all = json(folder, &["operations"]);
    all["operations"].as_array().expect("a list").last().cloned().unwrap_or_default()
}

/// The host holds the directory and answers; asked before, the directory would be held by who asks.
pub(crate) fn answers(host: &mut Host, folder: &Folder) {
    let pid = host.pid().to_string();
    host.until("its lock", || folder.read("data/lock").contains(&pid).then_some(()));
    host.until("the socket", || folder.retag(&["status"]).status.success().then_some(()));
}

/// Everything that was written has been read.
pub(crate) fn caught_up(host: &mut Host, folder: &Folder) {
    answers(host, folder);
    host.until("the end of the files", || {
        let status = folder.retag(&["status", "-o", "json"]);
        let status: Value = serde_json::from_str(&status.out).ok()?;
        let sources = status["sources"].as_array()?;
        let mut partitions = sources.iter().flat_map(|s| s["partitions"].as_array().into_iter().flatten());
        partitions.all(|p| p["lag_bytes"] == 0).then_some(())
    });
}

/// Sums and labels of every revision that is kept, and the sink, are what the model says.
pub(crate) fn assert_all(folder: &Folder, messages: &[Vec<u8>]) {
    let store = FjallStore::open(&folder.path("data/store")).unwrap();
    let view = StateWriter::open(Arc::new(store)).unwrap().1;
    let read = |line: &str| -> (Place, Value) {
        let message: Value = serde_json::from_str(line).unwrap();
        (parse_id(message["id"].as_str().unwrap()).unwrap().1, message)
    };
    let delivered = folder.read("labels.ndjson").lines().map(read).collect();
    let side = |number| if number == 1 { MapSide::States } else { MapSide::Baskets };
    let registry = registry(&view);
    let sides: MapSides =
        registry.revisions.iter().map(|r| (r.namespace_id.clone(), side(r.number))).collect();
    let outcome = Outcome { view, messages: messages.to_vec(), delivered, forgetful: false };
    assert_kept(&outcome, true, &sides, &[]);
}

pub(crate) fn export(folder: &Folder) -> Vec<String> {
    let out = folder.retag(&["export", "aggregates", "payer", "-o", "csv"]).assert_ok().out;
    let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

pub(crate) fn expected(messages: &[Vec<u8>], side: MapSide) -> Vec<String> {
    let mut model = Model::new();
    messages.iter().for_each(|message| model.apply(message).expect("a message that the model reads"));
    let csv = retag_tests::model::PayerRow::to_csv(&model.payer_side(side));
    let mut lines: Vec<String> = csv.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Takes the second half of each file of the shop's log out, for who writes it later.
pub(crate) fn second_halves(folder: &Folder) -> [(&'static str, String); 2] {
    let whole = ["o.p0.json", "o.p1.json"].map(|name| (name, folder.read(name)));
    whole.map(|(name, text)| {
        let at = text[..text.len() / 2].rfind('\n').expect("a line") + 1;
        folder.write(name, &text[..at]);
        (name, text[at..].to_owned())
    })
}

/// A writer appends all the while, the host is killed inside the lane, and everything comes out as recomputed.
#[test]
fn new_aggregates_are_prepared_beside_the_stream_through_kill_9() {
    for killed_by in ["signal", "lane:40", "block-write:30"] {
        let folder = Folder::new();
        let messages = shop(&folder, 12_000);
        // Half is there at the start, the rest comes while the lane reads.
        let halves = second_halves(&folder);
        folder.configure("[engine]", "[engine]\ncycle_bytes_max = 20000\nblock_bytes = 4000");
        let mut host = folder.start(&["run"], &[]);
        caught_up(&mut host, &folder);
        let pushed = push_baskets(&folder);
        assert!(
            pushed.contains("read again beside the stream") && pushed.contains("time unknown"),
            "{pushed}"
        );
        host.signal("INT");
        host.wait().assert_ok();
        let environment = [("RETAG_FAILPOINT", killed_by)];
        let by_signal = killed_by == "signal";
        let mut host = folder.start(&["run"], if by_signal { &[] } else { &environment });
        answers(&mut host, &folder);
        // Where the kill comes early, even the answer may be lost.
        let asked = folder.retag(&["rule", "prepare", "payer@2", "--no-wait"]);
        assert!(asked.status.success() || !by_signal, "{}", asked.err);
        let writer = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for (name, text) in &halves {
                    let path = folder.path(name);
                    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
                    for lines in text.as_bytes().chunks(1_500) {
                        file.write_all(lines).unwrap();
                    }
                }
            });
            if by_signal {
                host.until("a lane that has begun", || {
                    let history = &last_operation(&folder)["history"];
                    history["rows"].as_u64().filter(|rows| *rows > 0)
                });
                host.signal("KILL");
            }
            writer.join()
        });
        writer.unwrap();
        assert!(!host.wait().status.success(), "{killed_by}: it was not killed");
        let mut host = folder.start(&["run"], &[]);
        answers(&mut host, &folder);
        let out = rule(&folder, &["prepare", "payer@2"]);
        assert!(out.contains("payer@2 is ready"), "{out}");
        let operation = last_operation(&folder);
        let history = &operation["history"];
        assert_eq!(history["bytes"], history["bytes_total"], "{operation}");
        assert!(history["rows"].as_u64().is_some_and(|rows| rows > 0), "{operation}");
        let preview = json(&folder, &["preview", "payer@2"]);
        let out = rule(&folder, &["activate", "payer@2"]);
        assert!(out.contains("payer@2 is live"), "{out}");
        assert!(preview["changed_keys"].as_u64().is_some_and(|keys| keys > 0), "{preview}");
        caught_up(&mut host, &folder);
        assert_eq!(export(&folder), expected(&messages, MapSide::Baskets));
        host.signal("INT");
        host.wait().assert_ok();
        folder.run().assert_ok();
        assert_all(&folder, &messages);
        rule(&folder, &["rollback", "payer"]);
        assert_eq!(export(&folder), expected(&messages, MapSide::States));
        folder.run().assert_ok();
        assert_all(&folder, &messages);
    }
}

/// A pause waits for no preparation that somebody else began, if it is told so.
#[test]
fn a_forced_pause_gives_up_what_is_being_prepared() {
    let folder = small_shop();
    folder.run().assert_ok();
    push_baskets(&folder);
    rule(&folder, &["prepare", "payer@2"]);
    refused(&folder, &["pause", "payer"], &["operation-under-way", "pause RULE --force"]);
    rule(&folder, &["pause", "payer", "--force", "--reason", "wrong codes"]);
    let shown = rule(&folder, &["ls", "payer"]);
    assert!(shown.contains("payer@1   paused") && shown.contains("payer@2   failed"), "{shown}");
    let history = json(&folder, &["history", "payer"]);
    let last = history["lines"].as_array().and_then(|lines| lines.last()).expect("a line");
    assert_eq!((last["command"].as_str(), last["with"].as_str()), (Some("pause"), Some("--force")));
    folder.append("o.p0.json", user(9, 9));
    rule(&folder, &["resume", "payer"]);
    folder.run().assert_ok();
    assert_eq!(told(&folder).last().unwrap(), "9 never_paid");
}

/// The way back is as fresh as if it had never left; what nobody goes back to any more goes after its grace.
#[test]
fn both_sides_are_fed_until_the_grace_is_over() {
    let folder = small_shop();
    folder.run().assert_ok();
    push_baskets(&folder);
    let out = rule(&folder, &["prepare", "payer@2"]);
    assert!(out.contains("will be prepared by the next `retag run`"), "{out}");
    folder.append("o.p0.json", user(9, 9));
    folder.run().assert_ok();
    assert_eq!(told(&folder).last().unwrap(), "9 never_paid");
    let shown = rule(&folder, &["ls", "payer"]);
    assert!(shown.contains("payer@2   ready"), "{shown}");
    rule(&folder, &["activate", "payer@2"]);
    // Hand-written orders are of nine pieces, which the new side does not take as paid.
    let got = folder.retag(&["get", "user/1"]).assert_ok().out;
    assert!(!got.contains("silver"), "{got}");
    folder.append("o.p0.json", order(10, (10, 9), "2500.00"));
    folder.run().assert_ok();
    rule(&folder, &["rollback", "payer"]);
    let got = folder.retag(&["get", "user/9"]).assert_ok().out;
    assert!(got.contains("silver"), "{got}");
    folder.configure("[state]", "[registry]\ngrace_s = 0\n[state]");
    rule(&folder, &["activate", "payer@2"]);
    folder.run().assert_ok();
    let mut host = folder.start(&["run"], &[]);
    answers(&mut host, &folder);
    host.until("the end of the grace", || {
        rule(&folder, &["ls", "payer"]).contains("payer@1   retired").then_some(())
    });
    refused(&folder, &["rollback", "payer"], &["nothing-before"]);
    host.signal("INT");
    host.wait().assert_ok();
    let store = FjallStore::open(&folder.path("data/store")).unwrap();
    let view = StateWriter::open(Arc::new(store)).unwrap().1;
    assert_eq!(registry(&view).namespaces.len(), 1);
}

/// What is read too far would count twice, for the stream feeds what lies behind the fence.
#[test]
fn a_lane_ends_at_the_fence_inside_a_file_that_went_on_behind_an_open_last_line() {
    for stopped in [true, false] {
        let folder = small_shop();
        let orders =
            |numbers: std::ops::Range<u64>| numbers.map(|n| order(n, (n, 2), "1.00")).collect::<String>();
        folder.append("o.p1.json", orders(100..105).trim_end());
        folder.run().assert_ok();
        folder.write(
            "next.wasm",
            changed(&std::fs::read(folder.path("payer.wasm")).unwrap(), |manifest| {
                manifest["aggregates"][3]["name"] = "sellers".into();
            }),
        );
        rule(&folder, &["push", "next.wasm"]);
        if stopped {
            folder.append("o.p1.json", "\n".to_owned() + &orders(105..111));
            rule(&folder, &["prepare", "payer@2"]);
            folder.run().assert_ok();
        } else {
            // A host that follows would wait for the end of that line; the lane must not.
            let mut host = folder.start(&["run"], &[]);
            answers(&mut host, &folder);
            rule(&folder, &["prepare", "payer@2"]);
            folder.append("o.p1.json", "\n".to_owned() + &orders(105..111));
            caught_up(&mut host, &folder);
            host.signal("INT");
            host.wait().assert_ok();
        }
        let sums = export(&folder);
        rule(&folder, &["activate", "payer@2"]);
        let mut new = export(&folder);
        assert!(new.pop().is_some_and(|heading| heading.contains("sellers")));
        assert_eq!(new, sums[..sums.len() - 1]);
        assert!(new.contains(&"2,11,11.00,0,1,1".to_owned()), "{new:?}");
    }
}

/// A revision that is not live never stops the stream: what it cannot take ends it, by name.
#[test]
fn what_a_prepared_revision_cannot_take_gives_it_up_and_nothing_else() {
    let folder = small_shop();
    let orders: String = (100..220).map(|n| order(n, (n, n), "1.00")).collect();
    folder.append("o.p0.json", orders);
    folder.append("o.p1.json", packet(400));
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    let payer = std::fs::read(folder.path("payer.wasm")).unwrap();
    // A column that no order has.
    folder.write(
        "next.wasm",
        changed(&payer, |manifest| {
            manifest["tables"][1]["columns"][1]["name"] = "merchant_no".into();
        }),
    );
    rule(&folder, &["push", "next.wasm"]);
    refused(&folder, &["prepare", "payer@2"], &["given up", "rule-does-not-fit", "shop.orders"]);
    assert_eq!(last_operation(&folder)["state"], "failed");
    assert!(rule(&folder, &["ls", "payer"]).contains("payer@2   failed"));
    let shown = rule(&folder, &["show", "payer@2"]);
    assert!(shown.contains("given up") && shown.contains("rule-does-not-fit"), "{shown}");
    // A table with a message that cannot be applied exactly, which the live revision does not read.
    folder.write(
        "next.wasm",
        changed(&payer, |manifest| {
            manifest["tables"][0]["table"] = "shop.packets".into();
        }),
    );
    rule(&folder, &["push", "next.wasm"]);
    let bad = update_without_old(401, (1, 1), "1.00").replace("\"orders\"", "\"packets\"");
    folder.append("o.p1.json", &bad);
    caught_up(&mut host, &folder);
    refused(&folder, &["prepare", "payer@3"], &["given up", "update-without-old"]);
    // The same once it is ready.
    folder.write(
        "next.wasm",
        changed(&payer, |manifest| {
            manifest["tables"][0]["table"] = "shop.gifts".into();
        }),
    );
    rule(&folder, &["push", "next.wasm"]);
    rule(&folder, &["prepare", "payer@4"]);
    folder.append("o.p1.json", bad.replace("\"packets\"", "\"gifts\"") + &user(500, 500));
    host.until("the user behind it", || {
        (told(&folder).last().map(String::as_str) == Some("500 never_paid")).then_some(())
    });
    refused(&folder, &["activate", "payer@4"], &["not-ready"]);
    let history = rule(&folder, &["history", "payer"]);
    assert!(history.contains("give up") && history.contains("shop.gifts"), "{history}");
    let given_up = json(&folder, &["show", "payer@4"]);
    assert_eq!(given_up["release"], "failed");
    assert!(given_up["failure"].as_str().is_some_and(|why| why.contains("update-without-old")), "{given_up}");
    host.signal("INT");
    let said = host.wait().assert_ok().err;
    assert!(said.contains("payer@2 was given up: rule-does-not-fit") && said.contains("payer@4"), "{said}");
}

/// The same while the switch away from it is being told: the stream waits for that, and goes on without the revision.
#[test]
fn what_the_revision_before_cannot_take_waits_until_the_way_back_is_told() {
    const USERS: u64 = 130_000; // more than one slice tells
    let folder = small_shop();
    let users: String = (0..USERS).map(|n| user(10_000 + n, 1_000_000 + n)).collect();
    folder.append("o.p0.json", users);
    folder.run().assert_ok();
    let payer = std::fs::read(folder.path("payer.wasm")).unwrap();
    let gifts = changed(&payer, |manifest| manifest["tables"][0]["table"] = "shop.gifts".into());
    folder.write("next.wasm", gifts);
    rule(&folder, &["push", "next.wasm"]);
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    rule(&folder, &["prepare", "payer@2"]);
    rule(&folder, &["activate", "payer@2"]);
    host.until("the end of the telling", || (last_operation(&folder)["state"] == "done").then_some(()));
    host.signal("INT");
    host.wait().assert_ok();
    rule(&folder, &["rollback", "payer"]);
    let bad = update_without_old(500_001, (1, 1), "1.00").replace("\"orders\"", "\"gifts\"");
    folder.append("o.p1.json", bad + &user(500_002, 500));
    let said = folder.run().assert_ok().err;
    assert!(said.contains("payer@2 was given up: update-without-old"), "{said}");
    assert_eq!(last_operation(&folder)["state"], "done");
    let told = folder.read("labels.ndjson");
    let of = |op: &str| told.lines().filter(|l| l.contains("never_paid") && l.contains(op)).count() as u64;
    let (set, unset) = (of("\"op\":\"set\""), of("\"op\":\"unset\""));
    assert!(unset >= USERS && set > unset, "{set} set, {unset} unset");
    assert_eq!(json(&folder, &["show", "payer@1"])["release"], "live");
}

#[test]
fn a_history_that_is_not_there_is_refused_by_name() {
    let folder = small_shop();
    let mut host = folder.start(&["run"], &[]);
    host.until("the first labels", || (told(&folder).len() == SHOP_TOLD.len()).then_some(()));
    push_baskets(&folder);
    // The beginning is overwritten in place: no start has looked at it since.
    let file = std::fs::OpenOptions::new().write(true).open(folder.path("o.p0.json")).unwrap();
    file.write_all_at(b" ", 0).unwrap();
    refused(&folder, &["prepare", "payer@2"], &["history-gone", "file-replaced", "o.p0.json"]);
    let planned = rule(&folder, &["plan", "payer@2"]);
    assert!(planned.contains("would be refused") && planned.contains("file-replaced"), "{planned}");
    file.write_all_at(b"{", 0).unwrap();
    rule(&folder, &["prepare", "payer@2"]);
    rule(&folder, &["cancel", "payer@2"]);
    host.signal("INT");
    host.wait().assert_ok();
    assert_eq!(told(&folder), SHOP_TOLD);
    folder.configure("history = \"complete\"", "history = \"none\"");
    refused(&folder, &["prepare", "payer@2"], &["no-history", "orders", "history = \"complete\""]);
    let plan = rule(&folder, &["plan", "payer@2"]);
    assert!(plan.contains("history = \"none\""), "{plan}");
}
