//! A producer, a reader and an owner of topics, as small as they can be.

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use retag_host::clock::moment;
use std::time::Duration;

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

type Admin = AdminClient<DefaultClientContext>;

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
    if messages.is_empty() {
        return;
    }
    let mut config = settings(bootstrap);
    config.set("acks", "all").set("compression.type", compression).set("linger.ms", "5");
    config.set("partitioner", "murmur2_random"); // for partition -1, as Java clients have it
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

/// Where the partitions of a topic end.
pub(crate) fn ends(bootstrap: &str, topic: &str, partitions: i32) -> Vec<u64> {
    let consumer: BaseConsumer = settings(bootstrap).create().unwrap();
    let end = |n| consumer.fetch_watermarks(topic, n, LIMIT).unwrap().1.try_into().unwrap();
    (0..partitions).map(end).collect()
}

/// Writes messages in one transaction, which is then committed or aborted.
pub(crate) fn produce_transaction(bootstrap: &str, topic: &str, commits: bool, messages: &[Message]) {
    let mut config = settings(bootstrap);
    config.set("transactional.id", "shop").set("compression.type", "lz4");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    for message in messages {
        let mut record = BaseRecord::<str, str>::to(topic).partition(message.partition);
        record.payload = message.payload.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(LIMIT).unwrap();
    match commits {
        true => producer.commit_transaction(LIMIT).unwrap(),
        false => producer.abort_transaction(LIMIT).unwrap(),
    }
}

/// Changes something of a topic, as its owner does.
pub(crate) fn change<T>(bootstrap: &str, change: impl AsyncFnOnce(&Admin) -> T) -> T {
    let admin: Admin = settings(bootstrap).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(change(&admin))
}

/// Removes what lies before an offset of a partition, as retention does.
pub(crate) fn delete_before(bootstrap: &str, topic: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    let options = AdminOptions::new();
    let done = change(bootstrap, async |admin| admin.delete_records(&list, &options).await.unwrap());
    let deleted = done.elements_for_topic(topic);
    assert_eq!(deleted[0].offset(), Offset::Offset(offset), "{done:?}");
}

/// Gives a topic more partitions.
pub(crate) fn grow(bootstrap: &str, topic: &str, partitions: usize) {
    let wanted = NewPartitions::new(topic, partitions);
    let options = AdminOptions::new();
    let done = change(bootstrap, async |admin| admin.create_partitions([&wanted], &options).await.unwrap());
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

/// The offset that a group has committed for a partition; none where it has none.
pub(crate) fn committed(bootstrap: &str, group: &str, topic: &str, partition: i32) -> Option<i64> {
    let mut config = settings(bootstrap);
    config.set("group.id", group).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let committed = consumer.committed_offsets(list, LIMIT).unwrap();
    match committed.elements_for_topic(topic)[0].offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
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
