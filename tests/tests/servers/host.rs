//! A host that reads topics: its folder, messages for it, and what must come out.

use super::client::{self, Message};
use crate::following::status;
use crate::harness::{self, Folder, Host};
use retag_host::label::outbox::Place;
use retag_host::sink::message::parse_id;
use retag_host::state::{FjallStore, StateWriter};
use retag_servers::Kafka;
use retag_tests::shop::{Config, Generator};
use retag_tests::simulation::{Outcome, assert_exact};
use serde_json::Value;
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// A folder whose host reads `topics` of the broker; `more` stands in its section of the configuration.
pub(crate) fn folder(kafka: &Kafka, topics: &[&str], more: &str) -> Folder {
    ready();
    let folder = Folder::new();
    folder.configure("type = \"files\"", "type = \"kafka\"");
    let topics = format!("bootstrap_servers = \"{}\"\ntopics = {topics:?}\n{more}", kafka.bootstrap());
    folder.configure("paths = [\"o.p0.json\", \"o.p1.json\"]", &topics);
    folder
}

/// The binary has Kafka.
pub(crate) fn ready() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(with_kafka);
}

/// A binary that was built for itself lacks Kafka; then it is built again.
fn with_kafka() {
    let folder = Folder::new();
    folder.configure("type = \"files\"", "type = \"kafka\"");
    let no_such_setting =
        "bootstrap_servers = \"127.0.0.1:1\"\ntopics = [\"t\"]\nlibrdkafka = { no_such = 1 }";
    folder.configure("paths = [\"o.p0.json\", \"o.p1.json\"]", no_such_setting);
    let lacks_kafka = || folder.retag(&["config", "check"]).err.contains("kafka-not-built");
    if lacks_kafka() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-q", "-p", "retag-host", "--bin", "retag", "--features", "kafka"]);
        if harness::binary().parent().is_some_and(|profile| profile.ends_with("release")) {
            build.arg("--release");
        }
        let built = build.current_dir(harness::root()).status().expect("cargo starts");
        assert!(built.success() && !lacks_kafka(), "no binary with Kafka");
    }
}

/// The stream of a shop that grows.
pub(crate) struct Stream {
    generator: Generator,
    /// All that was written.
    pub(crate) messages: Vec<Vec<u8>>,
}

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        let config = Config { seed, events: 10_000_000, users: 300, resend_percent: 20, ..Config::default() };
        Self { generator: Generator::new(config), messages: Vec::new() }
    }

    /// The next messages of the stream, in `partitions` partitions.
    pub(crate) fn next(&mut self, count: usize, partitions: i32) -> Vec<Message> {
        let mut next = Vec::new();
        for message in self.generator.by_ref().take(count) {
            self.messages.push(message.json.clone());
            let payload = Some(String::from_utf8(message.json).unwrap());
            let partition = i32::try_from(message.partition).unwrap() % partitions;
            next.push(Message { partition, key: None, payload });
        }
        next
    }

    /// Writes the next messages to a topic of two partitions.
    pub(crate) fn write(&mut self, kafka: &Kafka, topic: &str, count: usize) {
        let next = self.next(count, 2);
        client::produce(&kafka.bootstrap(), topic, "lz4", &next);
    }
}

/// Sums, labels, members and what was told are what the model says of these messages; no host runs.
pub(crate) fn assert_model(folder: &Folder, messages: &[Vec<u8>], rules: &[&str]) {
    let store = FjallStore::open(&folder.path("data/store")).unwrap();
    let view = StateWriter::open(Arc::new(store)).unwrap().1;
    let text = folder.read("labels.ndjson");
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let read = |line: &str| -> (Place, Value) {
        let message: Value = serde_json::from_str(line).unwrap();
        (parse_id(message["id"].as_str().unwrap()).unwrap().1, message)
    };
    let delivered = whole.lines().map(read).collect();
    let messages = messages.to_vec();
    assert_exact(Outcome { view, messages, delivered, forgetful: false }, rules);
}

/// The partitions of its source.
pub(crate) fn partitions(status: &Value) -> Vec<Value> {
    status["sources"][0]["partitions"].as_array().cloned().unwrap_or_default()
}

/// Waits until the host has read everything up to these offsets, by partition in the order of the state.
pub(crate) fn read_up_to(host: &mut Host, folder: &Folder, ends: &[u64]) {
    host.until(&format!("everything up to {ends:?} is read"), || {
        let partitions = partitions(&status(folder)?);
        let reached = |(p, end): (&Value, &u64)| p["position"].as_u64().is_some_and(|at| at >= *end);
        (partitions.len() >= ends.len() && partitions.iter().zip(ends).all(reached)).then_some(())
    });
}

/// Where the partitions of a topic end.
pub(crate) fn ends(kafka: &Kafka, topic: &str, partitions: i32) -> Vec<u64> {
    client::ends(&kafka.bootstrap(), topic, partitions)
}

/// Waits until no sink waits for anything or is being filled.
pub(crate) fn served(host: &mut Host, folder: &Folder) {
    host.until("all sinks to be served", || {
        let status = status(folder)?;
        let served = |sink: &Value| {
            let now = &sink["now"];
            now["waits_for"].is_null() && now["doing"] == "delivering" && now["whole"] != false
        };
        status["sinks"].as_array()?.iter().all(served).then_some(())
    });
}
