//! Blocks from partitions that are read side by side through one consumer, each from a place of its own.
//!
//! Each partition has a queue of its own in librdkafka, which goes on filling it in the background up to a bound; so a partition
//! that nobody asks for costs that bound and holds no other one up. Messages are copied once, one behind the other with a
//! line's end each, for decoders work on whole blocks of lines (decision 14).
//!
//! The position of a partition is what librdkafka says it is: behind the last message, or where it says that the log ends,
//! which leads over what no reader sees (marks of transactions, aborted messages, compacted ones).

use super::client::{Client, Heard, passes};
use super::native::{Batch, Message, Queue, seen_ends};
use crate::source::{Index, KafkaError, Position};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

/// How long an empty queue is waited at while its log is known to go on.
const WAIT: Duration = Duration::from_millis(20);
/// Most messages that are taken at once: few enough that they are in the cache still when they are given back.
const TAKEN_MAX: usize = 64;
/// Bytes that a message is taken to have before one is seen.
const BYTES_FIRST: usize = 512;
/// How long a step back or forth in a partition may take; it asks no broker.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the broker may take to say who leads a topic.
const LEADER_TIMEOUT: Duration = Duration::from_millis(500);

/// Partitions that are read through one consumer.
pub(super) struct Feed {
    source_name: String,
    /// By partition number of the state; none where it is of another source.
    slots: Vec<Option<Slot>>,
    batch: Batch,
    /// Topics whose leaders were asked for; none any more where no broker answers.
    asked: Option<BTreeSet<CString>>,
    /// Where a text may be cut so that no transaction is parted.
    boundary: fn(&[u8]) -> Option<usize>,
    client: Arc<Client>,
}

/// One partition.
struct Slot {
    /// `topic/partition`
    name: String,
    topic: CString,
    partition: i32,
    /// None before it is read for the first time.
    queue: Option<Queue>,
    /// Position of what is given next.
    next: Position,
    /// Nothing stood behind `next` when the broker said so last.
    ended: bool,
    /// Read and not given yet: the begin of a transaction that was not there whole.
    kept: (Vec<u8>, Index),
    /// Bytes of a message, about.
    bytes_each: usize,
    /// What stands in the way behind what was given.
    failed: Option<KafkaError>,
}

/// What is to be filled.
pub(super) struct Wanted {
    /// Partition of the state.
    pub(super) partition: usize,
    /// From here on.
    pub(super) start: Position,
    /// About this many bytes.
    pub(super) bytes_max: usize,
    /// Nothing that stands here or behind it.
    pub(super) until: Position,
    /// The end is what the broker says, not what is there just now.
    pub(super) to_the_end: bool,
}

/// What a partition is read with.
struct Reader<'a> {
    source_name: &'a str,
    client: &'a Client,
    batch: &'a mut Batch,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filled {
    /// Nothing stands behind it.
    pub(super) at_end: bool,
    /// When its last message was written, ms since 1970.
    pub(super) written_ms: Option<i64>,
    /// Where the log begins and ends, as far as it is known.
    pub(super) log_start: Option<Position>,
    pub(super) log_end: Option<Position>,
    /// The broker has spoken: messages came, or the end.
    pub(super) heard: bool,
}

impl Feed {
    /// A feed of the partitions `topic/partition` by their number in the state; none is read before it is asked for.
    pub(super) fn new(
        source_name: &str,
        client: Client,
        partitions: &[Option<String>],
        boundary: fn(&[u8]) -> Option<usize>,
    ) -> Self {
        let slots = partitions.iter().map(|name| name.as_deref().and_then(Slot::new)).collect();
        let (source_name, client) = (source_name.to_owned(), Arc::new(client));
        let (batch, asked) = (Batch::default(), Some(BTreeSet::new()));
        Self { source_name, slots, batch, asked, boundary, client }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Hears what is said beside messages; each is told to the client's context.
    pub(super) fn hear(&self) -> Result<(), KafkaError> {
        let mut heard = Heard::default();
        loop {
            let said = self.client.poll(Duration::ZERO);
            let goes_on = heard.goes_on(said.is_some());
            match said {
                None => {}
                Some(Ok(message)) => {
                    use rdkafka::Message as _;
                    // Never: queues are cut off before their partitions are read. A message lost here would be lost for good.
                    let partition = format!("{}/{}", message.topic(), message.partition());
                    let position = u64::try_from(message.offset()).unwrap_or(0);
                    let why = "a message came through the common queue".to_owned();
                    return Err(self.other(partition, position, why));
                }
                Some(Err(rdkafka::error::KafkaError::MessageConsumptionFatal(code))) => {
                    return Err(self.other("all partitions".into(), 0, code.to_string()));
                }
                Some(Err(_)) => {}
            }
            if !goes_on {
                return Ok(());
            }
        }
    }

    fn other(&self, partition: String, position: Position, why: String) -> KafkaError {
        KafkaError::Other { source_name: self.source_name.clone(), partition, position, why }
    }

    /// Fills `bytes` and `index` with whole messages.
    pub(super) fn fill(
        &mut self,
        wanted: &Wanted,
        (bytes, index): (&mut Vec<u8>, &mut Index),
    ) -> Result<Filled, KafkaError> {
        bytes.clear();
        index.restart(wanted.start);
        let Self { source_name, slots, batch, asked, boundary, client } = self;
        let Some(Some(slot)) = slots.get_mut(wanted.partition) else {
            return Ok(Filled { at_end: true, ..Filled::default() });
        };
        let is_new = slot.queue.is_none();
        if !slot.stand_at(wanted.start, client).map_err(|why| KafkaError::Other {
            source_name: source_name.clone(),
            partition: slot.name.clone(),
            position: wanted.start,
            why,
        })? {
            return Ok(Filled { at_end: !wanted.to_the_end, ..Filled::default() });
        }
        if is_new {
            slot.ask_for_leader(client, asked);
        }
        let mut filled = Filled::default();
        slot.unpack(bytes, index);
        if slot.failed.is_none() {
            let reader = Reader { source_name, client, batch };
            slot.take(wanted, reader, (bytes, index), &mut filled);
        }
        if index.is_empty()
            && let Some(error) = slot.failed.clone()
        {
            return Err(error);
        }
        let seen = slot.seen_ends(client);
        filled.log_start = seen.map(|(low, _)| low);
        let seen = seen.map(|(_, high)| high);
        filled.log_end = if slot.ended { Some(slot.next) } else { seen };
        let goes_on = seen.is_some_and(|high| slot.next < high);
        // The broker says that the log ends up to half a second after its last message; that nothing was behind that at the last
        // fetch is as good.
        let is_through = slot.ended || seen.is_some_and(|high| slot.next >= high);
        filled.at_end = is_through || (!wanted.to_the_end && (!goes_on || index.is_empty()));
        let more = !filled.at_end && slot.failed.is_none() && slot.next < wanted.until;
        if !(more && slot.keep_begun(*boundary, bytes, index)) {
            index.reach(slot.next.min(wanted.until));
        }
        Ok(filled)
    }
}

impl Slot {
    fn new(name: &str) -> Option<Self> {
        let (topic, partition) = name.rsplit_once('/')?;
        Some(Self {
            name: name.to_owned(),
            topic: CString::new(topic).ok()?,
            partition: partition.parse().ok()?,
            queue: None,
            next: 0,
            ended: false,
            kept: Default::default(),
            bytes_each: BYTES_FIRST,
            failed: None,
        })
    }

    /// Goes to `start` where it does not stand there. False = not now.
    fn stand_at(&mut self, start: Position, client: &Arc<Client>) -> Result<bool, String> {
        if self.queue.is_some() && self.kept.1.first().unwrap_or(self.next) == start {
            return Ok(true);
        }
        let offset = i64::try_from(start).map_err(|_| format!("{start} is no offset"))?;
        let topic = self.topic.to_str().unwrap_or_default();
        if self.queue.is_none() {
            let queue = Queue::of(client, &self.topic, self.partition);
            let queue = queue.ok_or("there is no queue for it")?;
            let mut list = TopicPartitionList::with_capacity(1);
            let added = list.add_partition_offset(topic, self.partition, Offset::Offset(offset));
            added.and_then(|()| client.incremental_assign(&list)).map_err(|error| error.to_string())?;
            self.queue = Some(queue);
        } else if client.seek(topic, self.partition, Offset::Offset(offset), SEEK_TIMEOUT).is_err() {
            return Ok(false); // it is just beginning, or its leader changes
        }
        (self.next, self.ended, self.failed) = (start, false, None);
        self.kept.0.clear();
        self.kept.1.restart(start);
        Ok(true)
    }

    /// Asks who leads the topic, once: librdkafka would look after it by itself within a second.
    fn ask_for_leader(&self, client: &Client, asked: &mut Option<BTreeSet<CString>>) {
        if asked.as_mut().is_some_and(|topics| topics.insert(self.topic.clone())) {
            let topic = self.topic.to_str().unwrap_or_default();
            if client.fetch_metadata(Some(topic), LEADER_TIMEOUT).is_err() {
                *asked = None;
            }
        }
    }

    /// Puts what was kept at the front.
    fn unpack(&mut self, bytes: &mut Vec<u8>, index: &mut Index) {
        if !self.kept.1.is_empty() {
            std::mem::swap(bytes, &mut self.kept.0);
            std::mem::swap(index, &mut self.kept.1);
            self.kept.0.clear();
            self.kept.1.restart(self.next);
        }
    }

    /// Where the log began and ended at the last fetch.
    fn seen_ends(&self, client: &Client) -> Option<(Position, Position)> {
        seen_ends(client, &self.topic, self.partition)
    }

    /// Takes what is there, up to what is wanted.
    fn take(
        &mut self,
        wanted: &Wanted,
        reader: Reader<'_>,
        (bytes, index): (&mut Vec<u8>, &mut Index),
        filled: &mut Filled,
    ) {
        let Reader { source_name, client, batch } = reader;
        let mut may_wait = true;
        while bytes.len() < wanted.bytes_max && self.failed.is_none() && self.next < wanted.until {
            let Some(queue) = &self.queue else { return };
            let most = (wanted.bytes_max - bytes.len()).div_ceil(self.bytes_each);
            queue.take(batch, most.min(TAKEN_MAX), Duration::ZERO);
            if batch.is_empty() {
                let goes_on =
                    wanted.to_the_end || self.seen_ends(client).is_none_or(|(_, end)| self.next < end);
                if !may_wait || self.ended || !goes_on || !index.is_empty() {
                    return;
                }
                may_wait = false;
                queue.take(batch, 1, WAIT);
            }
            let mut written = None;
            for message in batch.messages() {
                match message.error() {
                    None if self.push(message, wanted.until, (bytes, index)) => written = Some(message),
                    None => {}
                    Some(code) => filled.heard |= self.hear(code, message, source_name),
                }
            }
            filled.heard |= written.is_some();
            if !index.is_empty() {
                self.bytes_each = (bytes.len() / index.len()).max(1);
            }
            filled.written_ms = written.and_then(Message::written_ms).or(filled.written_ms);
            batch.clear();
        }
    }

    /// Copies a message; false where it stands outside of what is wanted.
    fn push(
        &mut self,
        message: Message<'_>,
        until: Position,
        (bytes, index): (&mut Vec<u8>, &mut Index),
    ) -> bool {
        let Some(offset) = message.offset().filter(|offset| *offset >= self.next) else { return false };
        self.next = offset + 1;
        self.ended = false;
        if offset >= until {
            return false;
        }
        let at = bytes.len();
        index.push(at, offset);
        if let Some(value) = message.value() {
            bytes.extend_from_slice(value);
            one_line(bytes, at);
        }
        bytes.push(b'\n');
        true
    }

    /// Takes what is said of the partition; true where it is that the log ends.
    fn hear(&mut self, code: RDKafkaErrorCode, message: Message<'_>, source_name: &str) -> bool {
        if code == RDKafkaErrorCode::PartitionEOF {
            // The end leads over what no reader sees.
            self.next = message.offset().unwrap_or(self.next).max(self.next);
            self.ended = true;
            return true;
        }
        if passes(code) || self.failed.is_some() {
            return false;
        }
        let said = message.value().map(String::from_utf8_lossy).unwrap_or_default();
        let why = if said.is_empty() { code.to_string() } else { said.into_owned() };
        let (source_name, partition, position) = (source_name.to_owned(), self.name.clone(), self.next);
        self.failed = Some(match code {
            RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::LogTruncation => {
                KafkaError::OutOfRange { source_name, partition, position, why }
            }
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicId
            | RDKafkaErrorCode::TopicAuthorizationFailed => {
                let topic = self.topic.to_string_lossy().into_owned();
                KafkaError::TopicMissing { source_name, topic, why }
            }
            _ => KafkaError::Other { source_name, partition, position, why },
        });
        false
    }

    /// Keeps the begin of a transaction back that is not there whole, against labels that flicker; true where there is one.
    fn keep_begun(
        &mut self,
        boundary: fn(&[u8]) -> Option<usize>,
        bytes: &mut Vec<u8>,
        index: &mut Index,
    ) -> bool {
        let Some(cut) = boundary(bytes).filter(|cut| *cut < bytes.len()) else { return false };
        let number = index.number_at(cut);
        self.kept.1 = index.split_off(number, cut);
        self.kept.0.clear();
        self.kept.0.extend_from_slice(bytes.get(cut..).unwrap_or_default());
        bytes.truncate(cut);
        true
    }
}

/// Makes one line of the message that begins at `at`. JSON takes a carriage return wherever it takes a line's end, and takes
/// neither inside of a string.
fn one_line(bytes: &mut Vec<u8>, at: usize) {
    while bytes.len() > at && bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    let mut from = at;
    while let Some(found) = memchr::memchr(b'\n', bytes.get(from..).unwrap_or_default()) {
        if let Some(line_end) = bytes.get_mut(from + found) {
            *line_end = b'\r';
        }
        from += found + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        for (message, expect) in
            [("{}", "{}"), ("{}\r\n", "{}"), ("\n", ""), ("{\n \"a\":1\n}\n", "{\r \"a\":1\r}"), ("", "")]
        {
            let mut bytes = b"x\n".to_vec();
            bytes.extend_from_slice(message.as_bytes());
            one_line(&mut bytes, 2);
            assert_eq!(bytes, [b"x\n", expect.as_bytes()].concat());
        }
    }
}
