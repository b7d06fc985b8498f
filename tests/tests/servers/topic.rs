//! What lies on a topic, read whole with headers; and what its owner does to topics and groups.

use super::client::{change, settings};
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Headers as _;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use retag_host::clock::moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest that a topic may take to be read.
const LIMIT: Duration = Duration::from_secs(30);

/// One message with everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Full {
    /// The value as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.value.as_deref().unwrap()).unwrap()
    }
}

/// Whose messages are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Committed,
    /// Those of transactions that were taken back too.
    Everything,
}

/// All messages up to the ends of the partitions, in order of each partition.
pub(crate) fn read_all(bootstrap: &str, topic: &str, partitions: i32, read: Read) -> Vec<Full> {
    let level = if read == Read::Committed { "read_committed" } else { "read_uncommitted" };
    let mut config = settings(bootstrap);
    config.set("group.id", "none").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    config.set("isolation.level", level);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (begin, mut read, mut ended) = (moment(), Vec::new(), BTreeSet::new());
    while ended.len() < usize::try_from(partitions).unwrap() {
        assert!(begin.elapsed() < LIMIT, "after {LIMIT:?} {ended:?} of {partitions} partitions were read");
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(message)) => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                read.push(Full {
                    partition: message.partition(),
                    key: message.key().map(text),
                    value: message.payload().map(text),
                    headers: headers.map(|h| (h.key.to_owned(), text(h.value.unwrap()))).collect(),
                });
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            // A broker that is just coming back: librdkafka tries again by itself.
            Some(Err(KafkaError::MessageConsumption(code))) => eprintln!("{topic}: {code}"),
            Some(Err(error)) => panic!("{topic}: {error}"),
        }
    }
    read
}

/// What a reader of a compacted topic has at its end, by message key.
pub(crate) fn compacted(bootstrap: &str, topic: &str, partitions: i32) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    for message in read_all(bootstrap, topic, partitions, Read::Committed) {
        match message.value {
            Some(value) => last.insert(message.key.unwrap(), value),
            None => last.remove(&message.key.unwrap()),
        };
    }
    last
}

/// Changes a setting of a topic.
pub(crate) fn alter(bootstrap: &str, topic: &str, setting: &str, value: &str) {
    let altered = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(setting, value);
    let options = AdminOptions::new();
    let done = change(bootstrap, async |admin| admin.alter_configs([&altered], &options).await.unwrap());
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

/// Takes away what a group has committed, as time does.
pub(crate) fn forget_group(bootstrap: &str, group: &str) {
    let options = AdminOptions::new();
    let done = change(bootstrap, async |admin| admin.delete_groups(&[group], &options).await.unwrap());
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

/// Commits an offset with metadata, as the sink of another host would.
pub(crate) fn commit(bootstrap: &str, group: &str, topic: &str, metadata: &str) {
    let mut config = settings(bootstrap);
    config.set("group.id", group).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    let mut place = list.add_partition(topic, 0);
    place.set_offset(Offset::Offset(1)).unwrap();
    place.set_metadata(metadata);
    consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).unwrap();
}
