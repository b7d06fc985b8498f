//! The state topic: what a reader of it has at its end are the labels of the state, whatever happens to the host, to the topic
//! and to the group; and the sink by itself, asked what it holds.

use super::client::{self, Message, grow};
use super::host::{Stream, assert_model};
use super::sink_kafka::{folder, group, killed_at, write};
use super::topic::{Read, compacted, forget_group, read_all};
use crate::following::{end, follow};
use crate::harness::Folder;
use retag_host::config::Config;
use retag_host::sink::opened::{Opened, open_sinks};
use retag_host::sink::{LabelSet, Labels, Owner, Sink, SinkError, StateSink, Version};
use retag_servers::Kafka;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const TOPIC: &str = "labels";
const PARTITIONS: i32 = 3;
const STATE: &str = "form = \"state\"";
const COMPACT: (&str, &str) = ("cleanup.policy", "compact");

fn start() -> Kafka {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic(TOPIC, PARTITIONS, &[COMPACT]).unwrap();
    kafka
}

/// The labels of all keys that have some, as the messages of the file leave them.
fn labels(folder: &Folder) -> BTreeMap<String, Map<String, Value>> {
    let mut labels: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for line in folder.read("labels.ndjson").lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| message[name].as_str().unwrap().to_owned();
        let of_key = labels.entry(format!("{}/{}", text("entity"), text("key"))).or_default();
        if text("op") == "unset" {
            of_key.remove(&text("label"));
        } else {
            let value = message["value"].as_str().map_or(json!(true), |value| json!(value));
            of_key.insert(text("label"), value);
        }
    }
    labels.retain(|_, of_key| !of_key.is_empty());
    labels
}

/// The topic holds the labels of the state, and those are what the model says.
#[track_caller]
fn assert_holds(kafka: &Kafka, folder: &Folder, stream: &Stream) {
    assert_model(folder, &stream.messages, &["payer"]);
    let there = compacted(&kafka.bootstrap(), TOPIC, PARTITIONS);
    let read = |(name, value): (&String, &String)| {
        let value: Value = serde_json::from_str(value).unwrap();
        let whole_name = format!("{}/{}", value["entity"].as_str().unwrap(), value["key"].as_str().unwrap());
        assert_eq!(whole_name, *name);
        assert!(value["epoch"].is_u64() && value["commit"].is_u64(), "{value}");
        (name.clone(), value["labels"].as_object().unwrap().clone())
    };
    let there: BTreeMap<_, _> = there.iter().map(read).collect();
    assert_eq!(there, labels(folder));
}

pub(crate) fn the_topic_holds_the_labels_wherever_the_host_is_killed() {
    let kafka = start();
    let folder = folder(&kafka, STATE);
    let mut stream = Stream::new(31);
    for step in ["produce:2", "transaction:3", "delivery:5", "produce:4", "transaction:1", "fsync:3"] {
        write(&mut stream, &[&folder], 1_500);
        killed_at(&folder, step);
    }
    folder.run().assert_ok();
    assert_holds(&kafka, &folder, &stream);
    let all = read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Committed);
    assert!(all.iter().any(|message| message.value.is_none()), "no label was taken away");
    // What is there is known: nothing is written again.
    folder.run().assert_ok();
    assert_eq!(read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Committed).len(), all.len());
}

pub(crate) fn a_topic_or_group_that_was_lost_is_filled_again() {
    let kafka = start();
    let bootstrap = kafka.bootstrap();
    let folder = folder(&kafka, STATE);
    let mut stream = Stream::new(32);
    write(&mut stream, &[&folder], 2_000);
    folder.run().assert_ok();
    assert_holds(&kafka, &folder, &stream);
    // The group is gone, a key has what it must not have, another has lost what it had.
    let first = labels(&folder).into_keys().next().unwrap();
    let put = |key: &str, payload: Option<&str>| Message {
        partition: -1,
        key: Some(key.to_owned()),
        payload: payload.map(str::to_owned),
    };
    let wrong =
        [put(&first, Some("{}")), put("user/999999", Some("hello")), put("nobody's", Some("left alone"))];
    client::produce(&bootstrap, TOPIC, "none", &wrong);
    forget_group(&bootstrap, &group(&folder));
    folder.run().assert_ok();
    client::produce(&bootstrap, TOPIC, "none", &[put("nobody's", None)]);
    assert_holds(&kafka, &folder, &stream);
    // The topic is made anew while the host is away, and while it runs.
    let anew = || {
        kafka.delete_topic(TOPIC).unwrap();
        kafka.create_topic(TOPIC, PARTITIONS, &[COMPACT]).unwrap();
    };
    anew();
    folder.run().assert_ok();
    assert_holds(&kafka, &folder, &stream);
    let mut host = follow(&folder);
    write(&mut stream, &[&folder], 500);
    anew();
    host.until("a topic that is filled", || {
        // What changes is what makes it look.
        write(&mut stream, &[&folder], 20);
        std::thread::sleep(std::time::Duration::from_millis(200));
        let there = compacted(&bootstrap, TOPIC, PARTITIONS).len();
        (there + 20 > labels(&folder).len()).then_some(())
    });
    end(host);
    folder.run().assert_ok();
    assert_holds(&kafka, &folder, &stream);
}

pub(crate) fn a_comparison_tells_what_others_have_changed_and_a_resync_mends_it() {
    let kafka = start();
    let folder = folder(&kafka, STATE);
    let mut stream = Stream::new(34);
    write(&mut stream, &[&folder], 2_000);
    folder.run().assert_ok();
    let mut host = follow(&folder);
    let verify = || -> [u64; 4] {
        let asked = folder.retag(&["sink", "verify", "topic", "-o", "json"]);
        let answer: Value = serde_json::from_str(&asked.out).unwrap();
        let verified = &answer["now"]["verified"];
        ["compared", "missing", "differing", "extra"].map(|what| verified[what].as_u64().unwrap())
    };
    let there = u64::try_from(labels(&folder).len()).unwrap();
    assert_eq!(verify(), [there, 0, 0, 0]);
    let mut keys = labels(&folder).into_keys();
    let mut put = |payload: Option<&str>, key: Option<&str>| Message {
        partition: -1,
        key: Some(key.map_or_else(|| keys.next().unwrap(), str::to_owned)),
        payload: payload.map(str::to_owned),
    };
    let other = r#"{"entity":"user","key":"1","labels":{"nothing":true},"epoch":1,"commit":1}"#;
    let wrong = [put(None, None), put(Some(other), None), put(Some(other), Some("user/999999"))];
    client::produce(&kafka.bootstrap(), TOPIC, "none", &wrong);
    assert_eq!(verify(), [there, 1, 1, 1]);
    folder.retag(&["sink", "resync", "topic"]).assert_ok();
    assert_eq!(verify(), [there, 0, 0, 0]);
    // While it goes on.
    write(&mut stream, &[&folder], 1_000);
    host.until("no difference", || (verify()[1..] == [0, 0, 0]).then_some(()));
    end(host);
    folder.run().assert_ok();
    assert_holds(&kafka, &folder, &stream);
}

pub(crate) fn topics_that_do_not_fit_are_refused_by_name() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic(TOPIC, 1, &[]).unwrap();
    let folder = folder(&kafka, STATE);
    let mut stream = Stream::new(33);
    write(&mut stream, &[&folder], 500);
    folder.run().assert_error(1, &["topic-not-compacted", "sink topic", "cleanup.policy=delete"]);
    super::topic::alter(&kafka.bootstrap(), TOPIC, COMPACT.0, COMPACT.1);
    folder.run().assert_ok();
    grow(&kafka.bootstrap(), TOPIC, 2);
    folder
        .run()
        .assert_error(1, &["partitions-changed", "has 2 partitions and had 1", "make the topic anew"]);
    let hosts = folder.read("data/hosts");
    let ahead = format!("1:999999:whole:{}", hosts.lines().next().unwrap());
    super::topic::commit(&kafka.bootstrap(), &group(&folder), TOPIC, &ahead);
    folder.run().assert_error(1, &["sink-ahead", "older copy"]);
    super::topic::commit(&kafka.bootstrap(), &group(&folder), TOPIC, "1:1:whole:elsewhere");
    folder.run().assert_error(1, &["sink-fenced", "copy of this state"]);
    super::topic::commit(&kafka.bootstrap(), &group(&folder), TOPIC, "9:1:whole:elsewhere");
    folder.run().assert_error(1, &["sink-newer", "epoch 9"]);
}

/// The sink of a folder's configuration.
fn opened(folder: &Folder) -> Opened {
    let config = Config::read(&folder.path("retag.toml")).unwrap();
    let sinks = open_sinks(&config).unwrap();
    sinks.into_iter().find(|sink| sink.name == "topic").unwrap().opened
}

fn state_sink(folder: &Folder) -> Box<dyn StateSink> {
    match opened(folder) {
        Opened::State(sink) => sink,
        Opened::Events { .. } | Opened::Batches { .. } => panic!("no state sink"),
    }
}

fn set(key: u64, commit: u64, labels: &[(&'static str, Option<&'static str>)]) -> LabelSet<'static> {
    let labels: Labels<'static> = labels.iter().copied().collect();
    LabelSet { entity: "user", key: key.to_string(), labels, version: Version { epoch: 1, commit } }
}

/// Everything that it lists.
fn listed(sink: &mut dyn StateSink) -> BTreeMap<String, u64> {
    let (mut all, mut first) = (BTreeMap::new(), true);
    while let Some(some) = sink.list(std::mem::take(&mut first), false).unwrap() {
        for stored in some {
            let before = all.insert(format!("{}/{}", stored.entity, stored.key), stored.version.commit);
            assert_eq!(before, None, "{} is listed twice", stored.key);
        }
    }
    all
}

pub(crate) fn the_sink_says_what_it_holds() {
    let kafka = start();
    let folder = folder(&kafka, STATE);
    let owner = Owner { state_id: "00112233aabbccdd".into(), epoch: 1, ..Owner::default() };
    let mut sink = state_sink(&folder);
    sink.resume(&owner, None, 100).unwrap();
    assert!(!sink.is_whole());
    sink.begin_fill(true).unwrap();
    assert!(sink.lacks("user", "1") && !sink.is_whole());
    for commit in 1..=3 {
        let sets: Vec<_> = (0..2_500).map(|key| set(key, commit, &[("payer", None)])).collect();
        sink.put(&sets, true).unwrap();
    }
    sink.end_fill().unwrap();
    assert!(sink.is_whole() && !sink.lacks("user", "1"));
    let gold = [("payer", None), ("tier", Some("gold"))];
    sink.put(&[set(1, 4, &gold), set(2, 4, &[]), set(9_999, 4, &[])], false).unwrap();
    let all = listed(&mut *sink);
    assert_eq!((all.len(), all["user/0"], all["user/1"]), (2_499, 3, 4));
    // What is put while it compares is known at once.
    let found = sink.get(&[("user", "0"), ("user", "1"), ("user", "2"), ("user", "9999")]).unwrap();
    assert!(set(0, 3, &[("payer", None)]).is(found[0].as_ref()) && set(1, 4, &gold).is(found[1].as_ref()));
    assert_eq!((&found[2], &found[3]), (&None, &None));
    sink.put(&[set(2, 5, &gold), set(1, 5, &[])], false).unwrap();
    let found = sink.get(&[("user", "1"), ("user", "2")]).unwrap();
    assert!(found[0].is_none() && set(2, 5, &gold).is(found[1].as_ref()));
    // Another process finds it whole, and an empty state does not believe what it remembers no more.
    let memory = sink.memory();
    let mut other = state_sink(&folder);
    other.resume(&owner, Some(&memory), 100).unwrap();
    assert!(other.is_whole());
    assert_eq!(listed(&mut *other).len(), 2_499);
    let later = Owner { epoch: 2, ..owner.clone() };
    let mut restored = state_sink(&folder);
    restored.resume(&later, None, 3).unwrap();
    assert!(!restored.is_whole(), "labels of an earlier epoch are not those of this one");
    // A marker that is older than what is remembered: something was lost.
    let mut lost = state_sink(&folder);
    let mut remembers_more = memory;
    remembers_more["commit"] = json!(77);
    lost.resume(&owner, Some(&remembers_more), 100).unwrap();
    assert!(!lost.is_whole());
    // The group is forgotten, and it is looked at.
    other.look(100).unwrap();
    assert!(other.is_whole());
    forget_group(&kafka.bootstrap(), "retag-00112233aabbccdd-topic");
    other.look(100).unwrap();
    assert!(!other.is_whole());
}

fn event_sink(folder: &Folder) -> Box<dyn Sink> {
    match opened(folder) {
        Opened::Events { sink, .. } => sink,
        Opened::State(_) | Opened::Batches { .. } => panic!("no event sink"),
    }
}

fn event(commit: u64) -> retag_host::sink::message::Message<'static> {
    retag_host::sink::message::Message {
        id: format!("00112233aabbccdd-1-{commit}-0"),
        entity: "user",
        key: "42".into(),
        label: "payer",
        op: "set",
        value: None,
        previous: None,
        cause: "change",
        rule: "payer",
        revision: 1,
        epoch: 1,
        commit,
        index: 0,
        time: "1970-01-01T00:00:00.000000Z",
    }
}

pub(crate) fn who_was_shut_out_by_a_host_that_wrote_stays_out() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    let folder = folder(&kafka, "");
    let owner = Owner { state_id: "00112233aabbccdd".into(), epoch: 1, ..Owner::default() };
    let (mut ours, mut other) = (event_sink(&folder), event_sink(&folder));
    assert_eq!(ours.resume(&owner).unwrap(), None);
    ours.deliver(&mut std::iter::once(event(1))).unwrap();
    // The other one takes over and writes nothing: nobody knows that it is there, and the first one goes on.
    assert_eq!(other.resume(&owner).unwrap().map(|place| place.commit), Some(1));
    assert!(matches!(ours.deliver(&mut std::iter::once(event(2))), Err(SinkError::Away { .. })));
    assert_eq!(ours.resume(&owner).unwrap().map(|place| place.commit), Some(1));
    ours.deliver(&mut std::iter::once(event(2))).unwrap();
    // That shuts the other one out, for good.
    assert!(matches!(other.deliver(&mut std::iter::once(event(2))), Err(SinkError::Away { .. })));
    for _ in 0..2 {
        let refused = other.resume(&owner).unwrap_err().to_string();
        assert!(refused.contains("sink-fenced") && refused.contains("00112233aabbccdd"), "{refused}");
    }
    ours.deliver(&mut std::iter::once(event(3))).unwrap();
    let all = read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Committed);
    let commits: Vec<&str> = all.iter().map(|message| message.headers["commit"].as_str()).collect();
    assert_eq!(commits, ["1", "2", "3"]);
}
