//! Reads of a state against what went into it: labels, members, export, status, quarantine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod api_fixture;

use api_fixture::{
    ERROR_USER, NEWEST_S, OVERFLOW_USER, PENDING_USER, SHOPS, TIME_US, USERS, User, WAKE_US, WAKING_USER,
    bad_image, fill, user,
};
use retag_host::api::aggregates::{Export, Format};
use retag_host::api::labels::{LabelStatus, labels_of};
use retag_host::api::members::{self, Page};
use retag_host::api::problem::Severity;
use retag_host::api::quarantine::{Order, Question};
use retag_host::api::rules::DataState;
use retag_host::api::{About, ApiError, Reader, SourceAbout, quarantine, rules, status};
use retag_host::clock::rfc3339;
use retag_host::config::{FilesConfig, History, OnRefusal, SourceConfig};
use retag_host::source::Unit;
use retag_host::state::MemStore;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn about(complete: bool) -> About {
    About {
        state_id: "0123456789abcdef".into(),
        epoch: 1,
        sources: vec![SourceAbout {
            name: "orders".into(),
            producer: "orders".into(),
            complete,
            config: SourceConfig::Files(FilesConfig {
                format: retag_host::decode::Format::Maxwell,
                paths: Vec::new(),
                history: History::Complete,
                producer: None,
                hidden_columns: Vec::new(),
                on_refusal: OnRefusal::default(),
                lag_bytes_max: 64 << 20,
            }),
            unit: Unit::Bytes,
            lag_max: 64 << 20,
        }],
        sinks: [("out".to_owned(), "ndjson".to_owned())].into(),
        running: true,
        ..About::default()
    }
}

fn reader() -> Reader {
    Reader::new(fill(Arc::new(MemStore::new()), 0).1, Arc::new(about(true))).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, ApiError>) -> &'static str {
    result.unwrap_err().kind().1
}

fn money(n: i128) -> String {
    format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, n.abs() / 100, n.abs() % 100)
}

fn date(days: i64) -> String {
    rfc3339(days * 86_400_000_000)[..10].to_owned()
}

fn timestamp(us: i64) -> String {
    rfc3339(us).replace('T', " ").trim_end_matches('Z').to_owned()
}

/// The fields of a user in the order of the manifest, as CSV has them.
fn fields(user: &User) -> Vec<String> {
    vec![
        user.paid_orders.to_string(),
        money(user.spent),
        user.merchants.to_string(),
        u8::from(user.registered).to_string(),
        user.first_paid.map_or_else(String::new, timestamp),
        user.biggest.map_or_else(String::new, |n| money(n.into())),
        user.born.map_or_else(String::new, date),
    ]
}

#[test]
fn a_key_reads_as_what_went_in() {
    let reader = reader();
    for id in (1..=USERS).step_by(7).chain([WAKING_USER]) {
        let expect = user(id);
        let answer = labels_of(&reader, "user", &id.to_string(), true).unwrap();
        let mut labels = BTreeMap::new();
        if expect.never_paid {
            labels.insert("never_paid".to_owned(), json!(true));
        }
        if let Some(tier) = expect.tier {
            labels.insert("tier".to_owned(), json!(tier));
        }
        assert_eq!(answer.labels, labels, "{id}");
        let payer = &answer.aggregates.unwrap()["payer"];
        assert_eq!(payer["paid_orders"], json!(expect.paid_orders));
        assert_eq!(payer["spent"], json!(money(expect.spent)));
        assert_eq!(payer["registered"], json!(expect.registered));
        assert_eq!(payer["first_paid"], expect.first_paid.map_or(Value::Null, |us| timestamp(us).into()));
        assert_eq!(payer["born"], expect.born.map_or(Value::Null, |days| date(days).into()));
        assert_eq!((answer.commit, answer.time), (2, rfc3339(TIME_US)));
        assert_eq!(answer.watermark, Some(rfc3339(NEWEST_S * 1_000_000)));
    }
    let plain = labels_of(&reader, "user", "5", false).unwrap();
    assert_eq!((plain.metadata, plain.aggregates, plain.watermark), (None, None, None));
}

#[test]
fn a_status_says_what_an_answer_means() {
    let reader = reader();
    let check = |entity: &str, key: &str, label: &str, expect: LabelStatus| {
        let answer = labels_of(&reader, entity, key, true).unwrap();
        assert_eq!(answer.metadata.unwrap()[label].status, expect, "{entity}/{key} {label}");
    };
    check("user", "5", "never_paid", LabelStatus::Present);
    check("user", "6", "never_paid", LabelStatus::Absent);
    check("user", "999999", "never_paid", LabelStatus::UnknownKey);
    check("user", &PENDING_USER.to_string(), "tier", LabelStatus::Pending);
    check("user", &ERROR_USER.to_string(), "tier", LabelStatus::Error);
    check("user", &OVERFLOW_USER.to_string(), "tier", LabelStatus::Error);
    check("shop", "a/b", "busy", LabelStatus::Present);
    check("shop", "", "busy", LabelStatus::Present);
    let waking = labels_of(&reader, "user", &WAKING_USER.to_string(), true).unwrap().metadata.unwrap();
    assert_eq!(waking["tier"].valid_until.as_deref(), Some(rfc3339(WAKE_US).as_str()));
    assert_eq!((waking["tier"].rule.as_str(), waking["tier"].revision), ("payer", 2));

    let warming = Reader { about: Arc::new(about(false)), ..reader };
    let answer = labels_of(&warming, "user", "5", true).unwrap().metadata.unwrap();
    assert_eq!(answer["never_paid"].status, LabelStatus::Warming);
    let all = rules::all(&warming).unwrap();
    assert!(all.iter().all(|rule| rule.data_state == DataState::Approximate));
}

#[test]
fn wrong_questions_are_named() {
    let reader = reader();
    assert_eq!(code(labels_of(&reader, "usr", "5", false)), "unknown-entity");
    assert_eq!(code(labels_of(&reader, "user", "five", false)), "bad-key");
    assert_eq!(code(labels_of(&reader, "shop", &"x".repeat(256), false)), "bad-key");
    assert_eq!(code(members::count(&reader, "never_payed", None)), "unknown-label");
    assert_eq!(code(members::count(&reader, "never_paid", Some("gold"))), "unknown-value");
    assert_eq!(code(members::count(&reader, "tier", Some("bronze"))), "unknown-value");
    assert_eq!(code(Export::new(&reader, "buyer", Format::Csv).map(|_| ())), "unknown-rule");
    assert_eq!(code(quarantine::show(&reader, "1-9", false)), "unknown-entry");
    assert_eq!(code(quarantine::list(&reader, &question(Order::Newest, None, 5, Some("x")))), "bad-cursor");
    assert_eq!(code(members::held(&reader, "payer", "late", &Page::default())), "bad-request");
    // Nonsense, a cursor of another label, a shard too many, a value that is not asked for, one number too many.
    for cursor in ["", "x", "2-0-1-0-0", "2-1-1-64-0", "2-1-2-0-0", "2-1-1-0-0-0", "2-1-1-0--1"] {
        let page = Page { value: Some("silver".into()), limit: 5, cursor: Some(cursor.into()) };
        assert_eq!(code(members::list(&reader, "tier", &page)), "bad-cursor", "{cursor}");
    }
    let error = members::count(&reader, "nope", None).unwrap_err();
    assert_eq!(error.to_string(), "no live rule gives the label `nope`; known: busy, never_paid, tier");
}

fn expected(value: Option<&str>) -> BTreeSet<(String, Option<String>)> {
    let carries = |id: &u64| user(*id).tier.filter(|tier| value.is_none_or(|value| value == *tier));
    (1..=USERS).filter_map(|id| Some((id.to_string(), Some(carries(&id)?.to_owned())))).collect()
}

#[test]
fn members_are_counted_listed_in_pages_and_sampled() {
    let reader = reader();
    for value in [None, Some("silver"), Some("gold")] {
        let expect = expected(value);
        let count = members::count(&reader, "tier", value).unwrap();
        assert_eq!(count.count, expect.len() as u64);
        assert_eq!(count.values.values().sum::<u64>(), count.count);
        for limit in [1, 97, 10_000] {
            let mut page = Page { value: value.map(str::to_owned), limit, cursor: None };
            let mut found = Vec::new();
            loop {
                let answer = members::list(&reader, "tier", &page).unwrap();
                assert!(answer.members.len() <= limit && answer.count == count.count);
                found.extend(answer.members.into_iter().map(|m| (m.key, m.value)));
                page.cursor = answer.next;
                if page.cursor.is_none() || (limit == 1 && found.len() > 200) {
                    break;
                }
            }
            let set: BTreeSet<_> = found.iter().cloned().collect();
            assert_eq!(set.len(), found.len(), "nobody twice");
            assert!(if limit == 1 { set.is_subset(&expect) } else { set == expect });
        }
        let sample = |seed| members::sample(&reader, "tier", value, 50, seed).unwrap().members;
        let keys: BTreeSet<_> = sample(1).into_iter().map(|m| (m.key, m.value)).collect();
        assert!(keys.len() == 50 && keys.is_subset(&expect));
        assert_eq!(sample(1), sample(1));
        assert_ne!(sample(1), sample(2));
    }
    let all = members::sample(&reader, "busy", None, 50, 3).unwrap().members;
    let shops: BTreeSet<_> = all.iter().map(|m| m.key.as_str()).collect();
    assert_eq!(shops, SHOPS.into());
    assert_eq!(members::count(&reader, "never_paid", None).unwrap().count, USERS / 5);
}

#[test]
fn held_keys_are_listed() {
    let reader = reader();
    for (status, id) in [("pending", PENDING_USER), ("error", ERROR_USER), ("overflow", OVERFLOW_USER)] {
        let held = members::held(&reader, "payer", status, &Page { limit: 5, ..Page::default() }).unwrap();
        assert_eq!((held.count, held.members.len(), held.next), (1, 1, None));
        assert_eq!(held.members[0].key, id.to_string());
    }
}

fn export(reader: &Reader, rule: &str, format: Format) -> (Vec<u8>, usize) {
    let mut export = Export::new(reader, rule, format).unwrap();
    let (mut all, mut pieces) = (Vec::new(), 0);
    while let Some(piece) = export.next_piece().unwrap() {
        assert!(piece.len() < 256 << 10, "pieces are bounded");
        all.extend_from_slice(&piece);
        pieces += 1;
    }
    (all, pieces)
}

#[test]
fn an_export_has_every_key_with_aggregates_once() {
    let reader = reader();
    let (csv, pieces) = export(&reader, "payer", Format::Csv);
    assert!(pieces > 1);
    let text = String::from_utf8(csv).unwrap();
    let mut lines = text.lines();
    let heading = "user_id,paid_orders,spent,merchants,registered,first_paid,biggest,born";
    assert_eq!(lines.next(), Some(heading));
    let mut found = BTreeMap::new();
    for line in lines {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        let id: u64 = cells.remove(0).parse().unwrap();
        assert!(found.insert(id, cells).is_none(), "{id} twice");
    }
    let expect: BTreeMap<_, _> = (1..=USERS).map(|id| (id, fields(&user(id)))).collect();
    assert_eq!(found, expect);

    let (ndjson, _) = export(&reader, "payer", Format::Ndjson);
    let rows: Vec<Value> = ndjson
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(rows.len() as u64, USERS);
    for row in rows {
        let expect = user(row["user_id"].as_str().unwrap().parse().unwrap());
        assert_eq!(row["spent"], json!(money(expect.spent)));
        assert_eq!(row["merchants"], json!(expect.merchants));
        assert_eq!(row["registered"], json!(expect.registered));
    }
}

#[test]
fn awkward_text_keys_are_quoted_and_other_entities_stay_out() {
    let (csv, _) = export(&reader(), "shopper", Format::Csv);
    let mut reader = csv::Reader::from_reader(&csv[..]);
    assert_eq!(reader.headers().unwrap(), vec!["shop", "orders"]);
    let rows: BTreeMap<String, String> =
        reader.records().map(|r| r.unwrap()).map(|r| (r[0].to_owned(), r[1].to_owned())).collect();
    let expect = (1..).zip(SHOPS).map(|(n, shop)| (shop.to_owned(), n.to_string())).collect();
    assert_eq!(rows, expect);
    assert!(String::from_utf8(csv).unwrap().contains("\"quo\"\"te, comma\",2\n"));
}

#[test]
fn status_leads_with_the_worst_problem() {
    let folder = tempfile::tempdir().unwrap();
    let view = fill(Arc::new(MemStore::new()), 4).1;
    let about = |about: About| Arc::new(About { folder: folder.path().to_owned(), ..about });
    let reader = Reader::new(view, about(about_complete())).unwrap();
    let codes = |reader: &Reader| {
        let problems = status::of(reader).unwrap().problems;
        assert!(problems.is_sorted_by_key(|p| p.severity));
        assert!(problems.iter().all(|p| !p.next.is_empty()));
        problems.into_iter().map(|p| (p.severity, p.code)).collect::<Vec<_>>()
    };
    let said = |found: &[(Severity, String)], code: &str| found.iter().any(|(_, c)| c == code);
    let gone = codes(&reader);
    assert_eq!(gone[0], (Severity::Error, "file-gone".to_owned()));
    assert!(said(&gone, "error-keys") && said(&gone, "pending-keys") && said(&gone, "overflow-keys"));
    assert!(said(&gone, "bad-images"));
    assert!(!said(&gone, "stopped"));

    std::fs::write(folder.path().join("orders.json"), b"123").unwrap();
    assert_eq!(codes(&reader)[0].1, "file-replaced");
    std::fs::write(folder.path().join("orders.json"), b"1234567890").unwrap();
    assert_eq!(codes(&reader)[0].1, "error-keys");
    let answer = status::of(&reader).unwrap();
    assert_eq!(answer.sources[0].partitions[0].lag_bytes, Some(6));
    assert_eq!(answer.sources[0].id_form.as_deref(), Some("position"));
    assert_eq!((answer.outbox_rows, answer.totals.changes), (1, 9000));
    let payer = &answer.rules[0];
    assert_eq!((payer.pending_keys, payer.error_keys, payer.overflow_keys), (1, 1, 1));
    assert_eq!(payer.data_state, DataState::Exact);
    assert_eq!((payer.labels[0].label.as_str(), payer.labels[0].count), ("never_paid", USERS / 5));

    let stopped = Reader { about: about(About { running: false, ..about_complete() }), ..reader };
    assert!(said(&codes(&stopped), "stopped"));
}

fn about_complete() -> About {
    about(true)
}

#[test]
fn messages_without_ids_are_said_to_be_at_least_once() {
    let reader = reader();
    let mut positions = (*reader.positions).clone();
    positions.id_forms.insert("orders".into(), "none".into());
    positions.catching_up = true;
    let reader = Reader { positions: Arc::new(positions), ..reader };
    let answer = status::of(&reader).unwrap();
    assert_eq!(answer.sources[0].guarantee, "at-least-once from the producer");
    assert_eq!(answer.rules[0].data_state, DataState::CatchingUp);
    for code in ["no-change-ids", "catching-up"] {
        assert!(answer.problems.iter().any(|p| p.code == code), "{code}");
    }
}

#[test]
fn quarantine_is_listed_by_rule_and_page_and_shown() {
    let reader = reader();
    let check = |order, rule: Option<&str>, limit, cursor: Option<&str>, ids: &[&str], next: Option<&str>| {
        let answer = quarantine::list(&reader, &question(order, rule, limit, cursor)).unwrap();
        assert_eq!((answer.bad_images, answer.commit, answer.dropped), (3, 2, 0));
        let found: Vec<&str> = answer.entries.iter().map(|e| e.id.as_str()).collect();
        assert_eq!((&found[..], answer.next.as_deref()), (ids, next));
    };
    check(Order::Newest, None, 10, None, &["1-2", "1-1", "1-0"], None);
    check(Order::Newest, None, 2, None, &["1-2", "1-1"], Some("1-1"));
    check(Order::Newest, None, 2, Some("1-1"), &["1-0"], None);
    check(Order::Newest, None, 2, Some("1-0"), &[], None);
    check(Order::Newest, None, 2, Some("0-0"), &[], None);
    check(Order::Oldest, None, 10, None, &["1-0", "1-1", "1-2"], None);
    check(Order::Oldest, None, 2, None, &["1-0", "1-1"], Some("1-1"));
    check(Order::Oldest, None, 2, Some("1-1"), &["1-2"], None);
    check(Order::Newest, Some("payer"), 10, None, &["1-2", "1-0"], None);
}

#[test]
fn values_in_quarantine_are_masked_unless_asked_for_and_old_entries_have_none() {
    let reader = reader();
    let shown = |id, values| Value::Object(quarantine::show(&reader, id, values).unwrap().image);
    let mut old = bad_image("shopper", 1);
    old["sign"] = json!(1);
    assert_eq!((shown("1-1", true), shown("1-1", false)), (old.clone(), old));
    let mut entry = bad_image("payer", 2);
    entry["sign"] = json!(-1);
    assert_eq!(shown("1-2", true), entry);
    entry["values"] = json!({"amount": "<text>", "state": "<number>", "note": "<null>", "gone": null});
    assert_eq!(shown("1-2", false), entry);
    let mut asked = question(Order::Newest, None, 1, None);
    let listed = quarantine::list(&reader, &asked).unwrap();
    assert_eq!(listed.entries[0].image["values"], entry["values"]);
    asked.values = true;
    let listed = quarantine::list(&reader, &asked).unwrap();
    assert_eq!(listed.entries[0].image["values"]["amount"], "\"much\"");
}

fn question(order: Order, rule: Option<&str>, limit: usize, cursor: Option<&str>) -> Question {
    let (rule, cursor) = (rule.map(str::to_owned), cursor.map(str::to_owned));
    Question { rule, order, limit, cursor, values: false }
}
