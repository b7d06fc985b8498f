//! A producer and a reader of topics, as small as they can be.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use retag_host::clock::moment;
use std::time::Duration;

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

/// One message as it lies in the topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Message {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) payload: Option<String>,
}

/// A message with a key in partition 0.
pub(crate) fn message(key: &str, payload: &str) -> Message {
    Message { partition: 0, key: Some(key.to_owned()), payload: Some(payload.to_owned()) }
}

/// Settings of a client of that broker.
pub(crate) fn settings(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("fetch.queue.backoff.ms", "2");
    config
}

/// Writes messages, compressed, and waits until the broker has them all.
pub(crate) fn produce(bootstrap: &str, topic: &str, compression: &str, messages: &[Message]) {
    let mut config = settings(bootstrap);
    config.set("acks", "all").set("compression.type", compression).set("linger.ms", "5");
    let producer: BaseProducer = config.create().unwrap();
    for message in messages {
        let mut record = BaseRecord::<str, str>::to(topic).partition(message.partition);
        record.key = message.key.as_deref();
        record.payload = message.payload.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(LIMIT).unwrap();
    assert_eq!(producer.in_flight_count(), 0);
}

/// Reads all partitions from the start until `is_enough` of what has come, in order of each partition.
pub(crate) fn read_until(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    is_enough: impl Fn(&[Message]) -> bool,
) -> Vec<Message> {
    let mut config = settings(bootstrap);
    // Never used, but asked for where partitions are assigned.
    config.set("group.id", "none").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (begin, mut read) = (moment(), Vec::new());
    while !is_enough(&read) {
        assert!(begin.elapsed() < LIMIT, "after {LIMIT:?} the topic held {read:#?}");
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(message)) => read.push(Message {
                partition: message.partition(),
                key: message.key_view::<str>().map(|key| key.unwrap().to_owned()),
                payload: message.payload_view::<str>().map(|payload| payload.unwrap().to_owned()),
            }),
            // A broker that is just coming back: librdkafka tries again by itself.
            Some(Err(KafkaError::MessageConsumption(code))) => eprintln!("{topic}: {code}"),
            Some(Err(error)) => panic!("{topic}: {error}"),
        }
    }
    read
}
