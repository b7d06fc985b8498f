//! The events topic: what a reader of committed messages sees is what the file beside it holds, each message once, whatever
//! happens to the host and to the broker. The file is held against the model.

use super::client;
use super::host::{self, Stream, assert_model};
use super::topic::{Full, Read, alter, commit, forget_group, read_all};
use crate::following::{cpu_ms, end, follow};
use crate::harness::{Folder, Host};
use retag_host::clock::moment;
use retag_servers::{Kafka, Service as _};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SMALL: &str = "[engine]\ncycle_bytes_max = 20000\nblock_bytes = 4000";
const TOPIC: &str = "labels";
const PARTITIONS: i32 = 3;

/// A folder whose host writes to the topic, beside its file; `more` stands in the sink's section.
pub(crate) fn folder(kafka: &Kafka, more: &str) -> Folder {
    host::ready();
    let folder = Folder::new();
    folder.configure("[engine]", SMALL);
    let bootstrap = kafka.bootstrap();
    let sink = format!(
        "[sinks.topic]\ntype = \"kafka\"\nbootstrap_servers = \"{bootstrap}\"\ntopic = \"{TOPIC}\"\n{more}\n"
    );
    folder.append("retag.toml", sink);
    for name in ["o.p0.json", "o.p1.json"] {
        folder.append(name, "");
    }
    folder
}

/// Writes the next messages of a stream into files.
pub(crate) fn write(stream: &mut Stream, folders: &[&Folder], count: usize) {
    let mut texts = [String::new(), String::new()];
    for message in stream.next(count, 2) {
        let text = &mut texts[usize::try_from(message.partition).unwrap()];
        text.push_str(message.payload.unwrap().trim_end());
        text.push('\n');
    }
    for folder in folders {
        folder.append("o.p0.json", &texts[0]);
        folder.append("o.p1.json", &texts[1]);
    }
}

/// What the file has, by id.
fn told(folder: &Folder) -> BTreeMap<String, Value> {
    let text = folder.read("labels.ndjson");
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let read = |line: &str| -> (String, Value) {
        let message: Value = serde_json::from_str(line).unwrap();
        (message["id"].as_str().unwrap().to_owned(), message)
    };
    whole.lines().map(read).collect()
}

/// Commit and index in an id.
fn place(id: &str) -> (u64, u64) {
    let mut numbers = id.rsplit('-').map(|number| number.parse().unwrap());
    let index = numbers.next().unwrap();
    (numbers.next().unwrap(), index)
}

/// The messages are those, each once; those of a partition, and so of a key, in order.
#[track_caller]
fn assert_once(messages: &[Full], told: &BTreeMap<String, Value>) {
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
    for message in messages {
        let (json, id) = (message.json(), &message.headers["id"]);
        assert!(seen.insert(id.clone()), "{id} was told twice");
        assert_eq!(told.get(id), Some(&json), "{id}");
        assert_eq!((json["id"].as_str(), json["key"].as_str()), (Some(id.as_str()), message.key.as_deref()));
        for name in ["rule", "cause"] {
            assert_eq!(json[name].as_str().unwrap(), message.headers[name]);
        }
        for name in ["revision", "commit"] {
            assert_eq!(json[name].to_string(), message.headers[name]);
        }
        let before = last.insert(message.partition, place(id));
        assert!(before.is_none_or(|before| before < place(id)), "{id} comes behind {before:?}");
    }
    let missing: Vec<&String> = told.keys().filter(|id| !seen.contains(*id)).collect();
    assert!(missing.is_empty(), "not told: {missing:?}");
}

/// The topic has what the file has, and that is what the model says.
#[track_caller]
fn assert_exact(kafka: &Kafka, folder: &Folder, stream: &Stream) {
    assert_model(folder, &stream.messages, &["payer"]);
    assert_once(&read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Committed), &told(folder));
}

pub(crate) fn killed_at(folder: &Folder, step: &str) {
    let killed = folder.start(&["run", "--until-end"], &[("RETAG_FAILPOINT", step)]).wait();
    assert!(killed.status.code().is_none(), "{step}: it was over before it could be killed: {}", killed.err);
}

/// Waits until the topic has all that the file has, `least` messages or more.
fn until_told(host: &mut Host, kafka: &Kafka, folder: &Folder, least: usize) {
    host.until("all messages on the topic", || {
        let (there, wanted) =
            (read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Committed).len(), told(folder).len());
        (there >= least && there >= wanted).then_some(())
    });
}

fn start() -> Kafka {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    kafka
}

pub(crate) fn each_message_is_told_once_wherever_the_host_is_killed() {
    let kafka = start();
    let folder = folder(&kafka, "");
    let mut stream = Stream::new(21);
    for step in
        ["produce:3", "transaction:2", "delivery:5", "fsync:4", "produce:1", "transaction:1", "signal"]
    {
        write(&mut stream, &[&folder], 1_500);
        if step == "signal" {
            let before = read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Everything).len();
            let mut host = folder.start(&["run"], &[]);
            host.until("something on the topic", || {
                let now = read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Everything).len();
                (now > before).then_some(())
            });
            host.signal("KILL");
            assert!(!host.wait().status.success());
            continue;
        }
        killed_at(&folder, step);
    }
    folder.run().assert_ok();
    assert_exact(&kafka, &folder, &stream);
    let committed = read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Committed).len();
    let everything = read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Everything).len();
    println!("{committed} messages, {} more of transactions that were taken back", everything - committed);
    assert!(everything > committed, "no kill fell into an open transaction");
}

pub(crate) fn what_the_brokers_refuse_is_taken_back_and_told_once_it_may_be() {
    let kafka = start();
    let folder = folder(&kafka, "");
    let mut stream = Stream::new(22);
    write(&mut stream, &[&folder], 1_000);
    folder.run().assert_ok();
    alter(&kafka.bootstrap(), TOPIC, "max.message.bytes", "100");
    write(&mut stream, &[&folder], 1_000);
    // Killed while it takes the transaction back.
    killed_at(&folder, "abort:1");
    // Then it goes on trying, and everything else goes on.
    let mut host = follow(&folder);
    let begin = told(&folder).len();
    write(&mut stream, &[&folder], 1_000);
    host.until("the file going on", || (told(&folder).len() > begin + 20).then_some(()));
    alter(&kafka.bootstrap(), TOPIC, "max.message.bytes", "1000000");
    until_told(&mut host, &kafka, &folder, begin + 20);
    end(host);
    folder.run().assert_ok();
    assert_exact(&kafka, &folder, &stream);
}

pub(crate) fn a_broker_that_is_away_or_killed_is_waited_for() {
    let mut kafka = start();
    let folder = folder(&kafka, "");
    let mut stream = Stream::new(23);
    write(&mut stream, &[&folder], 2_000);
    let mut host = follow(&folder);
    until_told(&mut host, &kafka, &folder, 50);
    for kill in [true, false] {
        let before = told(&folder).len();
        // It falls into deliveries.
        write(&mut stream, &[&folder], 3_000);
        if kill { kafka.kill() } else { kafka.stop() }.unwrap();
        write(&mut stream, &[&folder], 1_000);
        host.until("the file going on", || (told(&folder).len() > before + 50).then_some(()));
        let begin = cpu_ms(host.pid());
        std::thread::sleep(Duration::from_secs(4)); // the event is the time itself
        let used = cpu_ms(host.pid()) - begin;
        assert!(used < 400, "{used} ms of processor time in 4 s of waiting");
        kafka.restart().unwrap();
        let back = moment();
        until_told(&mut host, &kafka, &folder, before + 50);
        println!(
            "{used} ms of processor time in 4 s of waiting; all was told {:?} after the return",
            back.elapsed()
        );
    }
    // A stop is not held up by a broker that is away, nor is a start.
    kafka.kill().unwrap();
    write(&mut stream, &[&folder], 500);
    std::thread::sleep(Duration::from_millis(500)); // so that a delivery is under way
    let begin = moment();
    end(host);
    assert!(begin.elapsed() < Duration::from_secs(11), "ended after {:?}", begin.elapsed());
    let begin = moment();
    end(follow(&folder));
    assert!(begin.elapsed() < Duration::from_secs(11), "started and ended after {:?}", begin.elapsed());
    kafka.restart().unwrap();
    folder.run().assert_ok();
    assert_exact(&kafka, &folder, &stream);
}

/// Id of a folder's state.
pub(crate) fn group(folder: &Folder) -> String {
    let text = folder.read("labels.ndjson");
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let id = first["id"].as_str().unwrap().rsplitn(4, '-').last().unwrap().to_owned();
    format!("retag-{id}-topic")
}

pub(crate) fn a_group_that_was_forgotten_is_made_up_for_by_the_messages() {
    let kafka = start();
    let bootstrap = kafka.bootstrap();
    let folder = folder(&kafka, "");
    let mut stream = Stream::new(24);
    write(&mut stream, &[&folder], 2_000);
    folder.run().assert_ok();
    // The state does not know of the last delivery, and neither does the group.
    write(&mut stream, &[&folder], 2_000);
    killed_at(&folder, "transaction:1");
    forget_group(&bootstrap, &group(&folder));
    write(&mut stream, &[&folder], 500);
    folder.run().assert_ok();
    assert_exact(&kafka, &folder, &stream);
    // Others write to the topic too: it is looked further back.
    let foreign = vec![client::message("other", "{}"); 3_000];
    client::produce(&bootstrap, TOPIC, "none", &foreign);
    forget_group(&bootstrap, &group(&folder));
    write(&mut stream, &[&folder], 500);
    folder.run().assert_ok();
    let ours = |all: Vec<Full>| -> Vec<Full> {
        all.into_iter().filter(|m| m.key.as_deref() != Some("other")).collect()
    };
    let messages = ours(read_all(&bootstrap, TOPIC, PARTITIONS, Read::Committed));
    assert_once(&messages, &told(&folder));
    // Nothing says what was delivered.
    for (partition, end) in (0..).zip(client::ends(&bootstrap, TOPIC, PARTITIONS)) {
        client::delete_before(&bootstrap, TOPIC, partition, i64::try_from(end).unwrap());
    }
    forget_group(&bootstrap, &group(&folder));
    let before = told(&folder);
    write(&mut stream, &[&folder], 500);
    let way_out = ["sink-offset-gone", "sink topic", "topic labels", "make the topic anew"];
    folder.run().assert_error(1, &way_out);
    kafka.delete_topic(TOPIC).unwrap();
    kafka.create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    folder.run().assert_ok();
    let mut rest = told(&folder);
    rest.retain(|id, _| !before.contains_key(id));
    assert!(!rest.is_empty());
    assert_once(&read_all(&bootstrap, TOPIC, PARTITIONS, Read::Committed), &rest);
}

/// A host that has run, a copy of it with what it has told, and the stream that both have read.
fn with_a_copy(kafka: &Kafka, seed: u64) -> (Folder, Folder, Stream) {
    let (ours, copy) = (folder(kafka, ""), folder(kafka, ""));
    let mut stream = Stream::new(seed);
    write(&mut stream, &[&ours, &copy], 1_000);
    ours.run().assert_ok();
    for name in ["data", "labels.ndjson"] {
        let from = ours.path(name);
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(copy.path(name)).status();
        assert!(done.unwrap().success());
    }
    (ours, copy, stream)
}

pub(crate) fn of_two_hosts_on_copies_of_a_state_one_is_shut_out() {
    let kafka = start();
    let (ours, copy, mut stream) = with_a_copy(&kafka, 25);
    let mut host = follow(&ours);
    let mut other = follow(&copy); // it came last, and has nothing to tell yet
    let before = told(&ours).len();
    write(&mut stream, &[&ours], 1_000);
    host.until("more in the file", || (told(&ours).len() > before + 20).then_some(()));
    until_told(&mut host, &kafka, &ours, before + 20);
    // Now the copy reads the same, and must not tell it again.
    let sizes = ["o.p0.json", "o.p1.json"].map(|name| {
        let (whole, there) = (ours.read(name), copy.read(name).len());
        copy.append(name, &whole[there..]);
        u64::try_from(whole.len()).unwrap()
    });
    host::read_up_to(&mut other, &copy, &sizes);
    write(&mut stream, &[&ours], 500);
    std::thread::sleep(Duration::from_secs(3)); // for the copy to try
    end(other);
    end(host);
    ours.run().assert_ok();
    assert_exact(&kafka, &ours, &stream);
}

pub(crate) fn who_is_started_again_behind_a_copy_is_refused() {
    let kafka = start();
    let (ours, copy, mut stream) = with_a_copy(&kafka, 28);
    // Both go on, each with changes of its own; the copy tells the topic of its.
    write(&mut Stream::new(29), &[&ours], 1_000);
    write(&mut stream, &[&copy], 1_000);
    copy.run().assert_ok();
    for _ in 0..2 {
        ours.run().assert_error(1, &["sink-fenced", "go on with that copy"]);
    }
    assert_exact(&kafka, &copy, &stream);
    // Having been refused has shut nobody out.
    write(&mut stream, &[&copy], 500);
    copy.run().assert_ok();
    assert_exact(&kafka, &copy, &stream);
}

pub(crate) fn what_cannot_be_is_refused_by_name() {
    let kafka = start();
    let bootstrap = kafka.bootstrap();
    let refused = |folder: &Folder, said: &[&str]| {
        folder.run().assert_error(1, said);
    };
    let of = |from: &str, to: &str, said: &[&str]| {
        let folder = folder(&kafka, "");
        folder.append("o.p0.json", crate::message::user(1, 42));
        folder.configure(from, to);
        refused(&folder, said);
    };
    of(
        "topic = \"labels\"",
        "topic = \"nowhere\"",
        &["topic-missing", "sink topic", "topic nowhere", "make it"],
    );
    assert_eq!(kafka.partitions("nowhere").unwrap(), 0, "the topic was made");
    let setting = "topic = \"labels\"\nlibrdkafka = { \"no.such\" = 1 }";
    of("topic = \"labels\"", setting, &["kafka-setting", "no.such"]);
    let secret = "topic = \"labels\"\nlibrdkafka = { \"sasl.password\" = { env = \"RETAG_TEST_NOT_SET\" } }";
    of("topic = \"labels\"", secret, &["kafka-setting", "sasl.password", "RETAG_TEST_NOT_SET"]);
    let twice = format!(
        "[sinks.other]\ntype = \"kafka\"\nbootstrap_servers = \"{bootstrap}\"\ntopic = \"{TOPIC}\"\n[sinks.topic]"
    );
    of("[sinks.topic]", &twice, &["sinks other and topic", "a topic of its own"]);
    kafka.create_topic("compacted", 1, &[("cleanup.policy", "compact")]).unwrap();
    let compacted = ["topic-compacted", "sink topic", "cleanup.policy=compact", "form = \"state\""];
    of("topic = \"labels\"", "topic = \"compacted\"", &compacted);
    // A group that knows more than the state, of a later epoch or commit.
    let folder = folder(&kafka, "");
    let mut stream = Stream::new(26);
    write(&mut stream, &[&folder], 500);
    folder.run().assert_ok();
    commit(&bootstrap, &group(&folder), TOPIC, "7:1:0:elsewhere");
    refused(&folder, &["sink-newer", "epoch 7", "restored elsewhere"]);
    let hosts = folder.read("data/hosts");
    let ours = hosts.lines().next().unwrap();
    commit(&bootstrap, &group(&folder), TOPIC, &format!("1:999999:0:{ours}"));
    refused(&folder, &["sink topic holds commit 999999", "older copy of the state"]);
    commit(&bootstrap, &group(&folder), TOPIC, "1:1:0:elsewhere");
    refused(&folder, &["sink-fenced", "copy of this state"]);
    // What is no marker is as none: the messages say it.
    commit(&bootstrap, &group(&folder), TOPIC, "reset by hand");
    write(&mut stream, &[&folder], 500);
    folder.run().assert_ok();
    assert_exact(&kafka, &folder, &stream);
}

pub(crate) fn without_rights_the_sink_says_so() {
    let kafka = Kafka::start_with(&[
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
    ])
    .unwrap();
    kafka.create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    let folder = folder(&kafka, "");
    folder.append("o.p0.json", crate::message::user(1, 42));
    let acl = [
        "--add",
        "--deny-principal",
        "User:ANONYMOUS",
        "--operation",
        "Write",
        "--transactional-id",
        "retag-",
    ];
    let acl = [&acl[..], &["--resource-pattern-type", "prefixed", "--force"]].concat();
    kafka.tool("org.apache.kafka.tools.AclCommand", &acl, "").unwrap();
    folder.run().assert_error(1, &["kafka-auth", "sink topic", "Rights"]);
}

pub(crate) fn at_least_once_tells_again_under_the_same_ids() {
    let kafka = start();
    let folder = folder(&kafka, "transactional = false");
    let mut stream = Stream::new(27);
    for step in ["produce:2", "delivery:3", "fsync:3"] {
        write(&mut stream, &[&folder], 1_500);
        killed_at(&folder, step);
    }
    folder.run().assert_ok();
    assert_model(&folder, &stream.messages, &["payer"]);
    let all = read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Committed);
    let mut seen = BTreeSet::new();
    let firsts: Vec<Full> = all.iter().filter(|m| seen.insert(m.headers["id"].clone())).cloned().collect();
    assert!(all.len() > firsts.len(), "nothing was told twice: no kill fell between the two");
    assert_once(&firsts, &told(&folder));
}

pub(crate) fn a_switch_is_one_message_without_a_key() {
    let kafka = start();
    let folder = folder(&kafka, "deliver = \"changes\"");
    folder.configure("path = \"labels.ndjson\"", "path = \"labels.ndjson\"\ndeliver = \"changes\"");
    let mut stream = Stream::new(28);
    write(&mut stream, &[&folder], 1_000);
    folder.run().assert_ok();
    folder.configure("\"5000.00\"", "\"100.00\"");
    write(&mut stream, &[&folder], 1_000);
    folder.run().assert_ok();
    let told = told(&folder);
    let all = read_all(&kafka.bootstrap(), TOPIC, PARTITIONS, Read::Committed);
    let (summaries, rest): (Vec<Full>, Vec<Full>) = all.into_iter().partition(|m| m.key.is_none());
    assert!(!summaries.is_empty());
    for summary in summaries {
        let json = summary.json();
        assert_eq!((json["op"].as_str(), told.get(&summary.headers["id"])), (Some("switch"), Some(&json)));
        assert_eq!(summary.headers["cause"], json["cause"].as_str().unwrap());
    }
    let of_keys = told.into_iter().filter(|(_, json)| json["op"] != "switch").collect();
    assert_once(&rest, &of_keys);
}
