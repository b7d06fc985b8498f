//! What librdkafka offers and its safe wrapper does not: a queue for each partition that gives many messages at once, where
//! a log ends as of the last fetch, and the ids of topics.
//!
//! Messages stay librdkafka's until [`Batch::clear`]; a queue holds its consumer, so it never outlives it.
#![allow(unsafe_code)] // each block says why it is sound

use super::client::Client;
use crate::source::Position;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{IsError as _, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// The queue of one partition.
pub(super) struct Queue {
    queue: NonNull<rd::rd_kafka_queue_t>,
    /// Owns what the queue is a part of.
    _client: Arc<Client>,
}

// SAFETY: librdkafka's queues are locked inside and may be used from any thread.
unsafe impl Send for Queue {}

impl Queue {
    /// The queue of a partition, cut off from the consumer's common one. To be made before the partition is assigned, so that
    /// no message takes the other way.
    pub(super) fn of(client: &Arc<Client>, topic: &CStr, partition: i32) -> Option<Self> {
        // SAFETY: the client lives, the topic is a C string; the result is ours to destroy.
        let queue = unsafe {
            rd::rd_kafka_queue_get_partition(client.client().native_ptr(), topic.as_ptr(), partition)
        };
        let queue = NonNull::new(queue)?;
        // SAFETY: the queue was just made; no target cuts it off.
        unsafe { rd::rd_kafka_queue_forward(queue.as_ptr(), std::ptr::null_mut()) };
        Some(Self { queue, _client: client.clone() })
    }

    /// Takes at most `most` messages that are there; where there are none, waits for the first one up to `wait`.
    pub(super) fn take(&self, batch: &mut Batch, most: usize, wait: Duration) {
        batch.clear();
        let most = if wait.is_zero() { most.max(1) } else { 1 };
        batch.0.reserve(most);
        let timeout_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue lives, and there is room for `most` pointers; as many as it says are then written.
        let taken = unsafe {
            rd::rd_kafka_consume_batch_queue(self.queue.as_ptr(), timeout_ms, batch.0.as_mut_ptr(), most)
        };
        let taken = usize::try_from(taken).unwrap_or(0).min(most); // -1 says that there is none
        // SAFETY: `taken` pointers were written, and there is room for them.
        unsafe { batch.0.set_len(taken) };
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it is ours, and destroyed once; the client that it is of still lives.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// Messages that were taken together.
#[derive(Default)]
pub(super) struct Batch(Vec<*mut rd::rd_kafka_message_t>);

// SAFETY: messages may be read and destroyed by any thread.
unsafe impl Send for Batch {}

impl Batch {
    /// The messages, in order.
    pub(super) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: librdkafka gave valid pointers, which are only destroyed by `clear`, which needs this borrow to have ended.
        self.0.iter().map(|message| Message(unsafe { &**message }))
    }

    /// Gives all messages back.
    pub(super) fn clear(&mut self) {
        for message in self.0.drain(..) {
            // SAFETY: each pointer is ours and destroyed once.
            unsafe { rd::rd_kafka_message_destroy(message) };
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One message, or something that is said of the partition in its place.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(&'a rd::rd_kafka_message_t);

impl<'a> Message<'a> {
    /// What is said of the partition, if this is no message.
    pub(super) fn error(self) -> Option<RDKafkaErrorCode> {
        self.0.err.is_error().then(|| self.0.err.into())
    }

    /// Its offset; of an end the offset that the next message will have or exceed.
    pub(super) fn offset(self) -> Option<Position> {
        u64::try_from(self.0.offset).ok()
    }

    /// Its value; none of a tombstone. Of an error what is said.
    pub(super) fn value(self) -> Option<&'a [u8]> {
        if self.0.payload.is_null() {
            return None;
        }
        // SAFETY: librdkafka says where the value stands and how long it is; it stays as long as the message.
        Some(unsafe { std::slice::from_raw_parts(self.0.payload.cast::<u8>(), self.0.len) })
    }

    /// When it was written, in ms since 1970.
    pub(super) fn written_ms(self) -> Option<i64> {
        // SAFETY: the message is valid; the kind of time is not asked for.
        let ms = unsafe { rd::rd_kafka_message_timestamp(self.0, std::ptr::null_mut()) };
        (ms >= 0).then_some(ms)
    }
}

/// First and last offset of a partition as of the last fetch.
pub(super) fn seen_ends(client: &Client, topic: &CStr, partition: i32) -> Option<(Position, Position)> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives, the topic is a C string, both numbers are written to.
    let error = unsafe {
        let client = client.client().native_ptr();
        rd::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    if error.is_error() {
        return None;
    }
    Some((u64::try_from(low).ok()?, u64::try_from(high).ok()?))
}

/// What was committed beside the offsets of a list.
pub(crate) fn metadata(list: &TopicPartitionList) -> Vec<String> {
    // SAFETY: the list is valid while it is borrowed, and says how many elements it has.
    let elements = unsafe {
        let list = &*list.ptr();
        match usize::try_from(list.cnt) {
            Ok(length) if !list.elems.is_null() => std::slice::from_raw_parts(list.elems, length),
            _ => &[],
        }
    };
    let with_some = elements.iter().filter(|element| !element.metadata.is_null());
    let text = |element: &rd::rd_kafka_topic_partition_t| {
        // SAFETY: an element says how long its metadata is; others write there what they like, so it may be no text.
        let bytes =
            unsafe { std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) };
        String::from_utf8_lossy(bytes).into_owned()
    };
    with_some.map(text).collect()
}

/// The ids of topics, as far as the broker tells them: a topic that is removed and made again has another one.
///
/// None = no answer in this time, which is to be short: while such a request is open and the brokers are away, librdkafka
/// connects again and again without a pause, with most of a processor.
pub(crate) fn topic_ids<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topics: &[String],
    timeout: Duration,
) -> Option<BTreeMap<String, String>> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(topic.as_str()).ok()).collect();
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let mut ids = BTreeMap::new();
    let mut answered = false;
    // SAFETY: the names live longer than the collection; what is made here is destroyed here; what the event owns is read
    // before it is destroyed.
    unsafe {
        let client = client.client().native_ptr();
        let queue = rd::rd_kafka_queue_new(client);
        let options =
            rd::rd_kafka_AdminOptions_new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        // A time out of its bounds is refused: then it has the client's own.
        rd::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, std::ptr::null_mut(), 0);
        let wanted = rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        rd::rd_kafka_DescribeTopics(client, wanted, options, queue);
        let event = rd::rd_kafka_queue_poll(queue, timeout_ms);
        let result =
            if event.is_null() { std::ptr::null() } else { rd::rd_kafka_event_DescribeTopics_result(event) };
        if !result.is_null() {
            let mut length = 0;
            let described = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut length);
            for number in 0..length {
                let topic = *described.add(number);
                let failed = rd::rd_kafka_TopicDescription_error(topic);
                if !failed.is_null() && rd::rd_kafka_error_code(failed).is_error() {
                    continue;
                }
                let name = CStr::from_ptr(rd::rd_kafka_TopicDescription_name(topic));
                let id = rd::rd_kafka_TopicDescription_topic_id(topic);
                let text = if id.is_null() { std::ptr::null() } else { rd::rd_kafka_Uuid_base64str(id) };
                if !text.is_null() {
                    let id = CStr::from_ptr(text).to_string_lossy().into_owned();
                    ids.insert(name.to_string_lossy().into_owned(), id);
                }
            }
        }
        if !event.is_null() {
            answered = rd::rd_kafka_event_error(event) != RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT;
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_TopicCollection_destroy(wanted);
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_queue_destroy(queue);
    }
    // Brokers that know no ids give zeros.
    ids.retain(|_, id| id.bytes().any(|byte| byte != b'A'));
    answered.then_some(ids)
}
