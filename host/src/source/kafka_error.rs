//! What a Kafka source cannot do, by name: each says what, where, and what to do next.
//!
//! It stands outside of the source itself, which is not in every binary.

use super::Position;

/// A Kafka source that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // what the fields hold stands in the messages
pub enum KafkaError {
    #[error(
        "kafka-not-built: source {source_name}: this binary was built without Kafka; build it with \
         `cargo build --release -p retag-host --features kafka`"
    )]
    NotBuilt { source_name: String },
    #[error("kafka-setting: source {source_name}: {why}")]
    Setting { source_name: String, why: String },
    #[error(
        "kafka-unreachable: source {source_name}: no broker of {servers} answers ({why}); look at bootstrap_servers, the \
         network and the brokers; nothing is lost, start again when they answer"
    )]
    Unreachable { source_name: String, servers: String, why: String },
    #[error(
        "topic-missing: source {source_name}: topic {topic}: {why}; make the topic, mend its name in the configuration, \
         or give the source's user the right to describe and read it"
    )]
    TopicMissing { source_name: String, topic: String, why: String },
    #[error(
        "topic-compacted: source {source_name}: topic {topic} has cleanup.policy={policy}, so that changes between the \
         first and the last of a row vanish and sums drift; set cleanup.policy=delete, and read the whole history anew \
         into a new state directory if it was compacted before"
    )]
    TopicCompacted { source_name: String, topic: String, policy: String },
    #[error(
        "topic-replaced: source {source_name}: topic {topic} is not the one that was read: it has id {now}, and had \
         {before}; its offsets say nothing of the old one: put the old topic back, or start with a new state directory"
    )]
    TopicReplaced { source_name: String, topic: String, before: String, now: String },
    #[error(
        "partitions-changed: source {source_name}: topic {topic} has {now} partitions and had {before}; {way_out}"
    )]
    PartitionsChanged { source_name: String, topic: String, before: usize, now: usize, way_out: &'static str },
    #[error(
        "offset-out-of-range: source {source_name}: {partition} was read up to offset {position}, and the broker has \
         nothing there ({why}): messages that were not read are gone, or the topic is another one; read the whole \
         history anew into a new state directory, and let the topic keep its messages longer"
    )]
    OutOfRange { source_name: String, partition: String, position: Position, why: String },
    #[error(
        "history-gone: source {source_name}: {partition} was read from offset {position} on, and the broker has nothing \
         there any more ({why}); let the topic keep its messages longer"
    )]
    HistoryGone { source_name: String, partition: String, position: Position, why: String },
    #[error(
        "start-offset-missing: source {source_name}: `start.offsets` names {named} and the topics have {found}; name an \
         offset for each of these and no other, as \"topic/partition\" = offset"
    )]
    StartOffsets { source_name: String, named: String, found: String },
    #[error(
        "group-in-use: source {source_name}: another host ({owner}) said {age_s} s ago that it reads with group {group}: is this \
         a copy of its state, whose sinks would hear everything twice? Stop it, give this source another `group`, or start \
         with `--take-over {source_name}` if it is gone"
    )]
    InUse { source_name: String, group: String, owner: String, age_s: u64 },
    #[error(
        "kafka-error: source {source_name}: {partition} at offset {position}: {why}; everything before it is committed, \
         and reading goes on there at the next start"
    )]
    Other { source_name: String, partition: String, position: Position, why: String },
}
