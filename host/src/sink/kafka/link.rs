//! A producer and a consumer of one topic, and one transaction: messages and the marker of how far they go, or neither.

use super::heard::Heard;
use super::marker::Marker;
use super::target::{ANSWER, Deadline, Target};
use crate::failpoint::{self, Step};
use crate::sink::{Owner, SinkError};
use crate::source::kafka::{hear, metadata, topic_ids};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use std::time::Duration;

/// How long an abort may take; what is not aborted is so when the next producer comes.
const ABORT: Duration = Duration::from_secs(2);
/// How long a full queue of the producer is waited for at once.
const PAUSE: Duration = Duration::from_millis(20);

/// A message to be.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) key: Option<String>,
    /// None = what the key had is gone.
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Option<OwnedHeaders>,
}

/// Clients of the topic.
pub(super) struct Link {
    heard: Heard,
    producer: BaseProducer<Heard>,
    consumer: BaseConsumer<Heard>,
    /// Where the consumer reads on: partition and offset.
    at: Option<(i32, i64)>,
}

/// What one reading found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Offset at which it goes on.
    pub(super) next: i64,
    /// The partition ends there.
    pub(super) at_end: bool,
}

impl Link {
    /// Connects; nothing is asked yet.
    pub(super) fn open(target: &Target, owner: &Owner) -> Result<Self, SinkError> {
        let heard = Heard::default();
        let producer = target.connect(&target.producer(owner), &heard)?;
        let consumer = target.connect(&target.consumer(owner), &heard)?;
        Ok(Self { heard, producer, consumer, at: None })
    }

    pub(super) fn means(&self, target: &Target, error: &KafkaError) -> SinkError {
        target.means(error, &self.heard)
    }

    /// Number of partitions of the topic; nothing makes it by asking.
    pub(super) fn partitions(&self, target: &Target, deadline: Deadline) -> Result<i32, SinkError> {
        let metadata = self.consumer.fetch_metadata(Some(&target.topic), deadline.left(ANSWER));
        // What is said of brokers that are gone is said while it is waited for.
        hear(&self.consumer);
        let metadata = metadata.map_err(|error| self.means(target, &error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == target.topic);
        let topic = topic.ok_or_else(|| target.missing())?;
        if let Some(error) = topic.error() {
            return Err(self.means(target, &KafkaError::MetadataFetch(error.into())));
        }
        match i32::try_from(topic.partitions().len()) {
            Ok(0) | Err(_) => Err(target.missing()),
            Ok(partitions) => Ok(partitions),
        }
    }

    /// Id of the topic, where the brokers tell it: one that is removed and made again has another.
    pub(super) fn topic_id(&self, target: &Target, patience: Duration) -> Result<Option<String>, SinkError> {
        let topics = [target.topic.clone()];
        let ids = topic_ids(&self.consumer, &topics, patience);
        let mut ids =
            ids.ok_or_else(|| target.away("the brokers do not tell the id of the topic in time"))?;
        Ok(ids.remove(&target.topic))
    }

    /// Shuts out every older producer of this sink, and ends what it left open.
    pub(super) fn take_over(&self, deadline: Deadline) -> Result<(), KafkaError> {
        loop {
            match self.producer.init_transactions(deadline.rest()) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && !deadline.is_over() => {}
                done => break done,
            }
        }
    }

    /// The marker, once no transaction is open that may change it.
    pub(super) fn committed(
        &self,
        target: &Target,
        deadline: Deadline,
    ) -> Result<Option<Marker>, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&target.topic, 0);
        let list = self.consumer.committed_offsets(list, deadline.rest())?;
        for element in list.elements() {
            element.error()?;
        }
        Ok(metadata(&list).first().and_then(|text| Marker::read(text)))
    }

    /// Messages and their marker, for good; `group` is the sink's.
    pub(super) fn transact<'o>(
        &self,
        target: &Target,
        (messages, marker): (impl Iterator<Item = &'o Outgoing>, &Marker),
        deadline: Deadline,
    ) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        self.produce(target, messages, deadline)?;
        failpoint::hit(Step::Produce);
        let mut list = TopicPartitionList::new();
        let mut place = list.add_partition(&target.topic, 0);
        place.set_offset(Offset::Offset(i64::try_from(marker.commit).unwrap_or(i64::MAX)))?;
        place.set_metadata(marker.text());
        let group = self.consumer.group_metadata();
        let group = group.ok_or(KafkaError::OffsetFetch(Code::UnknownGroup))?;
        again(deadline, || self.producer.send_offsets_to_transaction(&list, &group, deadline.rest()))?;
        again(deadline, || self.producer.commit_transaction(deadline.rest()))?;
        failpoint::hit(Step::Transaction);
        Ok(())
    }

    /// Messages, at least once.
    pub(super) fn produce<'o>(
        &self,
        target: &Target,
        messages: impl Iterator<Item = &'o Outgoing>,
        deadline: Deadline,
    ) -> Result<(), KafkaError> {
        self.heard.take_failed(); // of a delivery before
        for message in messages {
            let mut record = BaseRecord::<str, [u8]>::to(&target.topic);
            (record.key, record.payload) = (message.key.as_deref(), message.value.as_deref());
            record.headers.clone_from(&message.headers);
            while let Err((error, back)) = self.producer.send(record) {
                if error.rdkafka_error_code() != Some(Code::QueueFull) || deadline.is_over() {
                    return Err(error);
                }
                self.producer.poll(PAUSE);
                record = back;
            }
        }
        let flushed = self.producer.flush(deadline.rest());
        self.heard.take_failed().map_or(flushed, Err)
    }

    /// Another producer has this one's place. A message that fails then says only that it failed.
    pub(super) fn is_shut_out(&self, error: &KafkaError) -> bool {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let is_meant =
            |code: Code| matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch);
        [fatal, error.rdkafka_error_code()].into_iter().flatten().any(is_meant)
    }

    /// Takes back what is open, as far as that can be done at once: readers need not wait for it then.
    pub(super) fn abort(&self) {
        failpoint::hit(Step::Abort);
        let _ = self.producer.abort_transaction(ABORT); // the next producer does it too
    }

    /// Reads on in a partition from an offset, until `each` wants no more, the partition or the time ends.
    pub(super) fn read(
        &mut self,
        target: &Target,
        (partition, offset): (i32, i64),
        deadline: Deadline,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> bool,
    ) -> Result<Read, SinkError> {
        if self.at.take() != Some((partition, offset)) {
            let mut list = TopicPartitionList::new();
            let added = list.add_partition_offset(&target.topic, partition, Offset::Offset(offset));
            let assigned = added.and_then(|()| self.consumer.assign(&list));
            assigned.map_err(|error| target.means(&error, &self.heard))?;
        }
        let mut read = Read { next: offset, at_end: false };
        loop {
            match self.consumer.poll(deadline.left(Duration::from_secs(1))) {
                Some(Ok(message)) => {
                    read.next = message.offset() + 1;
                    if !each(&message) {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    read.at_end = true;
                    break;
                }
                Some(Err(error)) if deadline.is_over() => return Err(self.means(target, &error)),
                Some(Err(_)) | None if deadline.is_over() => break,
                // librdkafka tries again by itself.
                Some(Err(_)) | None => {}
            }
            if deadline.is_over() {
                break;
            }
        }
        self.at = Some((partition, read.next));
        Ok(read)
    }

    /// First and next offset of a partition.
    pub(super) fn ends(
        &self,
        target: &Target,
        partition: i32,
        deadline: Deadline,
    ) -> Result<(i64, i64), SinkError> {
        let ends = self.consumer.fetch_watermarks(&target.topic, partition, deadline.left(ANSWER));
        ends.map_err(|error| self.means(target, &error))
    }
}

/// Does something again that librdkafka says can be.
fn again(deadline: Deadline, mut act: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match act() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && !deadline.is_over() => {}
            done => return done,
        }
    }
}
