//! `GET /v1/transitions`: a consumer that follows through changes, switches, a kill and a slow day ends with exactly the
//! label sets that `members` lists.

use crate::harness::{Folder, Host};
use crate::message::{order, shop, state, user};
use crate::socket::{ask, ask_with, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const LABELS: [&str; 4] = ["never_paid", "tier", "big_spender", "refunder"];

/// One event.
#[derive(Clone, Debug)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

/// A stream of events.
struct Events<S> {
    stream: S,
    bytes: Vec<u8>,
}

impl<S: Read + Write> Events<S> {
    /// Asks, by a protocol without chunks.
    fn open(mut stream: S, query: &str, last: Option<&str>) -> Self {
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let head = format!("GET /v1/transitions{query} HTTP/1.0\r\nhost: localhost\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).expect("a request");
        let mut events = Self { stream, bytes: Vec::new() };
        let head = events.block("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.0 200"), "{head}");
        assert!(head.to_lowercase().contains("content-type: text/event-stream"), "{head}");
        events
    }

    /// The text before `end`; none = the stream has ended.
    fn block(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|w| w == end.as_bytes()) {
                let rest = self.bytes.split_off(at + end.len());
                let block = std::mem::replace(&mut self.bytes, rest);
                return Some(String::from_utf8(block[..at].to_vec()).expect("text"));
            }
            let mut piece = [0; 64 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.bytes.extend_from_slice(&piece[..n]),
            }
        }
    }

    fn next(&mut self) -> Option<Event> {
        let block = self.block("\n\n")?;
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {block}")).to_owned()
        };
        let data = serde_json::from_str(&field("data: ")).expect("JSON");
        Some(Event { id: field("id: "), name: field("event: "), data })
    }
}

fn over_socket(folder: &Folder, query: &str, last: Option<&str>) -> Events<UnixStream> {
    let stream = UnixStream::connect(folder.path("data/retag.sock")).expect("the socket");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    Events::open(stream, query, last)
}

/// What a consumer makes of the events: who carries each label, with its value.
#[derive(Default)]
struct Consumer {
    carried: BTreeMap<String, BTreeMap<String, Option<String>>>,
    ids: BTreeSet<String>,
    places: Vec<(u64, u64)>,
    causes: BTreeSet<String>,
    last: Option<String>,
    commit: u64,
}

impl Consumer {
    fn take(&mut self, event: &Event) {
        self.last = Some(event.id.clone());
        let number = |name: &str| event.data[name].as_u64().expect("a number");
        if event.name == "commit" {
            self.commit = number("commit");
            return;
        }
        assert!(self.ids.insert(event.id.clone()), "told twice: {event:?}");
        assert_eq!(event.data["id"], event.id.as_str());
        let place = (number("commit"), number("index"));
        assert!(self.places.last().is_none_or(|last| *last < place), "out of order: {event:?}");
        self.places.push(place);
        let text = |name: &str| event.data[name].as_str().expect("text").to_owned();
        self.causes.insert(text("cause"));
        if event.name == "switch" {
            return;
        }
        let of_label = self.carried.entry(text("label")).or_default();
        match text("op").as_str() {
            "set" => of_label.insert(text("key"), event.data["value"].as_str().map(str::to_owned)),
            _ => of_label.remove(&text("key")),
        };
    }

    /// Reads on until commit `until` is whole.
    fn follow<S: Read + Write>(&mut self, events: &mut Events<S>, until: u64) {
        while self.commit < until {
            let event = events.next().expect("the stream goes on");
            self.take(&event);
        }
    }

    fn assert_is_members(&self, folder: &Folder) {
        for label in LABELS {
            let (status, page) = ask(folder, &format!("GET /v1/labels/{label}/members?limit=10000"), b"");
            assert_eq!(status, 200, "{label}: {page}");
            assert!(page["commit"].as_u64().expect("a commit") >= self.commit);
            let member = |m: &Value| {
                let key = m["key"].as_str().expect("a key").to_owned();
                (key, m["value"].as_str().map(str::to_owned))
            };
            let members: BTreeMap<_, _> =
                page["members"].as_array().expect("members").iter().map(member).collect();
            assert_eq!(self.carried.get(label).cloned().unwrap_or_default(), members, "{label}");
        }
    }
}

fn commit(folder: &Folder) -> u64 {
    ask(folder, "GET /v1/status", b"").1["commit"].as_u64().expect("a commit")
}

/// Waits until this many messages are applied.
fn applied(folder: &Folder, host: &mut Host, changes: u64) {
    host.until("the changes", || {
        (ask(folder, "GET /v1/status", b"").1["totals"]["changes"].as_u64()? >= changes).then_some(())
    });
}

fn settle(folder: &Folder, host: &mut Host, (status, answer): (u16, Value)) {
    assert!(status < 300, "{answer}");
    let Some(id) = answer["operation"].as_u64() else { return };
    let operation = format!("GET /v1/operations/{id}");
    host.until("the operation", || (ask(folder, &operation, b"").1["state"] == "done").then_some(()));
}

fn started(folder: &Folder) -> Host {
    let mut host = folder.start(&["run"], &[]);
    host.until("the socket", || UnixStream::connect(folder.path("data/retag.sock")).ok());
    host
}

#[test]
fn a_consumer_that_follows_through_swap_rollback_and_kill_ends_with_the_members() {
    let folder = shop();
    let mut host = started(&folder);
    let mut consumer = Consumer::default();
    let mut events = over_socket(&folder, "?after=0&deliver=all", None);
    applied(&folder, &mut host, 3);
    folder.append("o.p1.json", user(9, 9) + &order(10, (9, 2), "4000.00"));
    applied(&folder, &mut host, 5);
    let params = br#"{"params":{"big_spender_min":"3000.00"}}"#;
    settle(&folder, &mut host, ask(&folder, "POST /v1/rules/payer/params", params));
    settle(&folder, &mut host, ask(&folder, "POST /v1/rules/payer/revisions/2/activate", b""));
    folder.append("o.p0.json", order(11, (11, 9), "3500.00"));
    applied(&folder, &mut host, 6);
    consumer.follow(&mut events, commit(&folder));
    consumer.assert_is_members(&folder);
    assert_eq!(consumer.carried["big_spender"].len(), 3);
    // Killed in the middle; what the consumer does not know yet is told after its last event.
    settle(&folder, &mut host, ask(&folder, "POST /v1/rules/payer/rollback", b""));
    host.signal("KILL");
    host.wait();
    drop(events);
    folder.append("o.p0.json", state(12, (11, 9), "3500.00", 4));
    let mut host = started(&folder);
    applied(&folder, &mut host, 7);
    let mut events = over_socket(&folder, "?after=0&deliver=all", consumer.last.as_deref());
    consumer.follow(&mut events, commit(&folder));
    consumer.assert_is_members(&folder);
    for cause in ["params", "rollback"] {
        assert!(consumer.causes.contains(cause), "{cause}: {:?}", consumer.causes);
    }
    // The same from the beginning, in one go.
    let mut whole = Consumer::default();
    let mut again = over_socket(&folder, "?after=0&deliver=all&follow=false", None);
    while let Some(event) = again.next() {
        whole.take(&event);
    }
    assert_eq!((&whole.carried, &whole.ids), (&consumer.carried, &consumer.ids));
    // From the members of a commit on nothing is missing and nothing told again.
    let (_, page) = ask(&folder, "GET /v1/labels/never_paid/members", b"");
    let at = page["commit"].as_u64().expect("a commit");
    let mut events = over_socket(&folder, &format!("?after={at}"), None);
    folder.append("o.p1.json", user(20, 20));
    let first = events.next().expect("an event");
    let first = if first.name == "commit" { events.next().expect("an event") } else { first };
    assert_eq!((first.data["key"].as_str(), first.data["label"].as_str()), (Some("20"), Some("never_paid")));
    // A stopping host ends the stream between two events.
    host.signal("TERM");
    while events.next().is_some() {}
    assert!(events.bytes.is_empty());
    assert!(!host.wait().assert_ok().err.contains("stop_timeout"));
}

#[test]
fn changes_alone_hear_one_summary_of_a_switch() {
    let folder = shop();
    let mut host = started(&folder);
    applied(&folder, &mut host, 3);
    host.until("the end of the history", || {
        let (_, revision) = ask(&folder, "GET /v1/rules/payer/revisions/1", b"");
        (revision["data_state"] == "exact").then_some(())
    });
    let mut events = over_socket(&folder, "", None);
    assert_eq!(events.next().expect("where it begins").name, "commit");
    let params = br#"{"params":{"big_spender_min":"3000.00"}}"#;
    settle(&folder, &mut host, ask(&folder, "POST /v1/rules/payer/params", params));
    settle(&folder, &mut host, ask(&folder, "POST /v1/rules/payer/revisions/2/activate", b""));
    folder.append("o.p1.json", user(9, 9));
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = events.next().expect("the stream goes on");
        if event.name != "commit" {
            told.push(event);
        }
    }
    assert_eq!((told[0].name.as_str(), &told[0].data["cause"]), ("switch", &"params".into()));
    assert_eq!(told[0].data["changed_keys"], 1);
    assert_eq!((told[1].name.as_str(), &told[1].data["key"]), ("transition", &"9".into()));
    host.signal("TERM");
    host.wait().assert_ok();
}

#[test]
fn what_is_no_longer_kept_is_gone_with_the_oldest_commit() {
    let folder = shop();
    folder.configure("[state]", "[state]\ntransitions_bytes_max = 700");
    let mut host = started(&folder);
    for n in 30..36 {
        folder.append("o.p1.json", user(n, n));
        applied(&folder, &mut host, n - 26);
    }
    let gone = host.until("a drop", || {
        let gone = ask_with(&folder, "GET /v1/transitions?after=0&follow=false", &[], b"");
        (gone.status == 410).then_some(gone)
    });
    assert_eq!(gone.refusal(), (410, "transitions-gone"));
    let oldest = gone.body["oldest_commit"].as_u64().expect("a commit");
    assert!(oldest > 0 && oldest < commit(&folder));
    let mut consumer = Consumer::default();
    let mut events = over_socket(&folder, &format!("?after={oldest}&deliver=all&follow=false"), None);
    while let Some(event) = events.next() {
        consumer.take(&event);
    }
    assert!(!consumer.ids.is_empty() && consumer.places.iter().all(|(commit, _)| *commit > oldest));
    let id = consumer.last.expect("an id");
    for (id, expect) in [
        (id.clone(), (200, "")),
        (format!("0{id}"), (410, "transitions-gone")),
        (id.replace("-1-", "-2-"), (410, "transitions-gone")),
        ("nonsense".to_owned(), (400, "bad-request")),
    ] {
        let path = "GET /v1/transitions?follow=false";
        assert_eq!(ask_with(&folder, path, &[("last-event-id", &id)], b"").refusal(), expect, "{id}");
    }
    let future = format!("GET /v1/transitions?follow=false&after={}", commit(&folder) + 100);
    assert_eq!(ask_with(&folder, &future, &[], b"").refusal(), (410, "transitions-gone"));
    host.signal("TERM");
    host.wait().assert_ok();
}

#[test]
fn a_reader_that_takes_nothing_is_cut_off_and_holds_nobody_back() {
    const USERS: u64 = 60_000;
    let folder = shop();
    let http = "listen = \"127.0.0.1:0\"\nauth = \"off\"\nidle_timeout_ms = 500";
    folder.configure("listen = \"off\"", http);
    let mut host = started(&folder);
    applied(&folder, &mut host, 3);
    let address = folder.read("data/http.url").trim().trim_start_matches("http://").to_owned();
    let mut events = Events::open(TcpStream::connect(address).unwrap(), "?after=0&deliver=all", None);
    folder.append("o.p1.json", (100..100 + USERS).map(|n| user(n, n)).collect::<String>());
    applied(&folder, &mut host, 3 + USERS);
    let cut = "retag_http_limited_total{limit=\"idle_timeout_ms\"} ";
    host.until("the cut", || {
        let metrics = text(&folder, "GET /metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(cut)).expect("the counter");
        (line.trim() != "0").then_some(())
    });
    let mut consumer = Consumer::default();
    while let Some(event) = events.next() {
        consumer.take(&event);
    }
    assert!((consumer.ids.len() as u64) < USERS, "it was not cut off");
    let mut rest = over_socket(&folder, "?deliver=all&follow=false", consumer.last.as_deref());
    while let Some(event) = rest.next() {
        consumer.take(&event);
    }
    assert_eq!(consumer.carried["never_paid"].len() as u64, USERS + 1);
    host.signal("TERM");
    host.wait().assert_ok();
}
