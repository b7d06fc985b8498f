//! Topics of Kafka: each partition of a topic is a partition of the source, `topic/partition`, its positions are offsets.
//!
//! Partitions are assigned, never subscribed to: where reading goes on is in the state alone, in one commit with the sums.
//! What is said to the brokers of positions (committed offsets of a group) is for people and lag tools. While no broker
//! answers, reads find nothing and say what they wait for; what can never be read again is refused by name.
//!
//! There is a feed for the stream, and a second one while history or a gap is read again.

mod client;
mod discover;
mod feed;
mod lease;
mod look_back;
mod native;

pub use discover::{Found, discover};
pub use lease::Lease;
pub use look_back::LookBack;

pub(crate) use client::{hear, is_away, why_not};
pub(crate) use discover::cleanup_policies;
pub(crate) use native::{metadata, topic_ids};

use super::observed::Observed;
use super::pool::Pool;
use super::{Block, Index, KafkaError, Partition, Position, Source, SourceError, Unit};
use crate::clock;
use crate::config::KafkaConfig;
use client::connect;
use feed::{Feed, Filled, Wanted};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientConfig, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest buffer that is kept for another use.
const POOLED_BYTES_MAX: usize = 4 << 20;
/// How often offsets are committed at most.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How often the topics' partitions are counted, and how long the broker may take for it.
const COUNT_EVERY: Duration = Duration::from_secs(10);
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long brokers that have just answered may take to tell the ids of topics.
pub(crate) const IDS_TIMEOUT: Duration = Duration::from_millis(300);
/// How often a broker that does not answer is asked whether it is back, and how long it may take.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// A feed for what is read again ends when nobody has asked it for so long.
const AGAIN_IDLE: Duration = Duration::from_secs(10);

/// The topics of one source.
pub struct Kafka {
    source_name: String,
    settings: ClientConfig,
    /// `topic/partition` by partition number of the state; none where it is of another source.
    names: Vec<Option<String>>,
    /// Number of partitions of each topic, and its id, where that is known.
    counts: BTreeMap<String, usize>,
    ids: BTreeMap<String, String>,
    boundary: fn(&[u8]) -> Option<usize>,
    until_end: bool,
    stream: Feed,
    /// What is read again, and when it was asked last.
    again: Option<(Feed, Instant)>,
    observed: Arc<Observed>,
    pool: Pool<Vec<u8>>,
    indexes: Pool<Index>,
    counted: Instant,
    /// Topics that were not there when they were counted last.
    missed: BTreeSet<String>,
    asked: Instant,
    /// Positions that are safe, those of them that were committed last, and when.
    safe: BTreeMap<usize, Position>,
    committed: BTreeMap<usize, Position>,
    committed_at: Option<Instant>,
    group: String,
    lease: Lease,
    /// When it was last looked whether another host has taken over.
    checked_at: Instant,
}

/// How a source's topics are read.
pub struct Opening<'a> {
    /// Name of the source.
    pub source_name: &'a str,
    /// What is said of it.
    pub config: &'a KafkaConfig,
    /// Folder that paths in it count from.
    pub folder: &'a Path,
    /// Group that offsets are committed to.
    pub group: String,
    /// Who reads.
    pub lease: Lease,
    /// Where a text of messages can be cut without parting a transaction.
    pub boundary: fn(&[u8]) -> Option<usize>,
    /// The run ends where the topics end.
    pub until_end: bool,
}

/// `topic/partition` by partition number of the state; none where it is of another source.
fn names_of(source_name: &str, partitions: &[Partition]) -> Vec<Option<String>> {
    partitions.iter().map(|p| (p.source == source_name).then(|| p.name.clone())).collect()
}

impl Kafka {
    /// A reader of the partitions in `partitions` that are of this source.
    ///
    /// # Errors
    /// Settings that librdkafka does not take.
    pub fn open(
        opening: Opening<'_>,
        partitions: &[Partition],
        observed: Arc<Observed>,
    ) -> Result<Self, KafkaError> {
        let Opening { source_name, config, folder, group, lease, boundary, until_end } = opening;
        let names = names_of(source_name, partitions);
        let (mut counts, mut ids) = (BTreeMap::new(), BTreeMap::new());
        for partition in partitions.iter().filter(|partition| partition.source == source_name) {
            let Some((topic, _)) = partition.name.rsplit_once('/') else { continue };
            *counts.entry(topic.to_owned()).or_default() += 1;
            if !partition.fingerprint.is_empty() {
                ids.insert(topic.to_owned(), partition.fingerprint.clone());
            }
        }
        let mut settings = client::settings(source_name, config, folder, names.iter().flatten().count())?;
        settings.set("group.id", &group);
        let client = connect(source_name, &settings, &observed)?;
        lease.check((source_name, &group), &client, &names)?;
        let stream = Feed::new(source_name, client, &names, boundary);
        let now = clock::moment();
        Ok(Self {
            source_name: source_name.to_owned(),
            settings,
            names,
            counts,
            ids,
            boundary,
            until_end,
            stream,
            again: None,
            observed,
            pool: Pool::default(),
            indexes: Pool::default(),
            counted: now,
            missed: BTreeSet::new(),
            asked: now,
            safe: BTreeMap::new(),
            committed: BTreeMap::new(),
            committed_at: None,
            group,
            lease,
            checked_at: now,
        })
    }

    /// Looks after the brokers: whether they are back, and whether topics have the partitions that they had.
    fn look(&mut self) -> Result<(), KafkaError> {
        self.stream.hear()?;
        self.again.as_ref().map_or(Ok(()), |(feed, _)| feed.hear())?;
        self.check_lease()?;
        self.commit();
        if self.again.as_ref().is_some_and(|(_, asked)| asked.elapsed() > AGAIN_IDLE) {
            self.again = None;
        }
        if self.observed.waits_for().is_some() && self.asked.elapsed() > ASK_EVERY {
            let client = self.stream.client();
            let topic = self.counts.keys().next().map(String::as_str);
            if client.fetch_metadata(topic, ASK_TIMEOUT).is_ok() {
                client.context().is_served();
            }
            self.asked = clock::moment();
        }
        if self.observed.waits_for().is_none() && self.counted.elapsed() > COUNT_EVERY {
            self.counted = clock::moment();
            self.count()?;
        }
        Ok(())
    }

    /// Whether the topics have the partitions that they had; a broker that does not answer says nothing of it, and one that is
    /// coming up may not know yet what it has: a topic is gone that is not there twice.
    fn count(&mut self) -> Result<(), KafkaError> {
        for (topic, before) in &self.counts {
            let metadata = self.stream.client().fetch_metadata(Some(topic), COUNT_TIMEOUT);
            let Ok(metadata) = metadata else { return Ok(()) };
            let of_topic = metadata.topics().iter().find(|t| t.name() == topic);
            let error = of_topic.and_then(|t| t.error()).map(RDKafkaErrorCode::from);
            if error == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
                if !self.missed.insert(topic.clone()) {
                    let why = "it was removed while it was read".to_owned();
                    let source_name = self.source_name.clone();
                    return Err(KafkaError::TopicMissing { source_name, topic: topic.clone(), why });
                }
                continue;
            }
            self.missed.remove(topic);
            let now = of_topic.map_or(0, |t| t.partitions().len());
            if error.is_none() && now > *before {
                return Err(discover::grown(&self.source_name, topic, *before, now));
            }
        }
        let topics: Vec<String> = self.ids.keys().cloned().collect();
        let ids = topic_ids(self.stream.client(), &topics, IDS_TIMEOUT).unwrap_or_default();
        let other = |(topic, before): (&String, &String)| {
            let now = ids.get(topic).filter(|now| *now != before)?;
            Some(discover::replaced(&self.source_name, topic, (before, now)))
        };
        self.ids.iter().find_map(other).map_or(Ok(()), Err)
    }

    /// Whether another host has taken over; asked before this one says again that it reads.
    fn check_lease(&mut self) -> Result<(), KafkaError> {
        if self.observed.waits_for().is_some() || self.checked_at.elapsed() < lease::RENEW_EVERY {
            return Ok(());
        }
        self.checked_at = clock::moment();
        self.lease.check_again((&self.source_name, &self.group), self.stream.client(), &self.names)
    }

    /// Commits the offsets that are safe by now, for lag tools, and who reads. Nothing depends on it: what fails is said again.
    fn commit(&mut self) {
        let since = self.committed_at.map_or(Duration::MAX, |at| at.elapsed());
        let renews = since > lease::RENEW_EVERY;
        // While nobody answers nothing is asked of them that a stop would have to wait for.
        let is_away = self.observed.waits_for().is_some();
        if is_away || since < COMMIT_EVERY || (self.safe == self.committed && !renews) {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (number, position) in &self.safe {
            let name = self.names.get(*number).and_then(Option::as_deref);
            if let Some(name) = name.filter(|_| renews || self.committed.get(number) != Some(position)) {
                self.lease.add(&mut list, name, *position);
            }
        }
        if list.count() == 0 {
            return;
        }
        let _ = self.stream.client().commit(&list, CommitMode::Async);
        self.committed.clone_from(&self.safe);
        self.committed_at = Some(clock::moment());
    }

    fn block(&mut self, wanted: &Wanted, again: bool) -> Result<Block, SourceError> {
        let (mut bytes, mut index) = (self.pool.take(), self.indexes.take());
        let feed = match &mut self.again {
            Some((feed, asked)) if again => {
                *asked = clock::moment();
                feed
            }
            _ => &mut self.stream,
        };
        let filled = feed.fill(wanted, (&mut bytes, &mut index))?;
        if !again {
            self.note(wanted.partition, index.end(), filled);
            if filled.heard {
                // Where the first block begins is where the state ends.
                self.safe.entry(wanted.partition).or_insert(wanted.start);
            }
        }
        let is_usual = bytes.capacity() <= POOLED_BYTES_MAX;
        let bytes = if is_usual { self.pool.share(bytes) } else { Arc::new(bytes) };
        let index = self.indexes.share(index);
        let Wanted { partition, start, .. } = *wanted;
        Ok(Block { partition, start, bytes, index: Some(index), at_end: filled.at_end })
    }

    fn note(&self, partition: usize, end: Position, filled: Filled) {
        if let Some(written_ms) = filled.written_ms {
            self.observed.read(partition, end, written_ms);
        }
        if let Some(log_start) = filled.log_start {
            self.observed.starts(partition, log_start);
        }
        if let Some(log_end) = filled.log_end {
            self.observed.ends(partition, log_end);
        }
        if filled.heard {
            self.observed.waits(None);
        }
    }
}

impl Source for Kafka {
    fn read(&mut self, partition: usize, offset: Position, bytes_max: usize) -> Result<Block, SourceError> {
        self.look()?;
        let until = Position::MAX;
        let wanted = Wanted { partition, start: offset, bytes_max, until, to_the_end: self.until_end };
        self.block(&wanted, false)
    }

    fn read_again(
        &mut self,
        partition: usize,
        offset: Position,
        (bytes_max, until): (usize, Position),
    ) -> Result<Block, SourceError> {
        self.look()?;
        if self.again.is_none() {
            let client = connect(&self.source_name, &self.settings, &self.observed)?;
            let feed = Feed::new(&self.source_name, client, &self.names, self.boundary);
            self.again = Some((feed, clock::moment()));
        }
        let wanted = Wanted { partition, start: offset, bytes_max, until, to_the_end: true };
        let block = self.block(&wanted, true);
        match block {
            // It was read before, up to `until`: a log that ends before that is not the one that was read.
            Ok(block) if block.at_end && block.end() < until => {
                let partition = self.names.get(partition).cloned().flatten().unwrap_or_default();
                let why = format!("the log ends at offset {}", block.end());
                let source_name = self.source_name.clone();
                Err(KafkaError::OutOfRange { source_name, partition, position: until, why }.into())
            }
            Err(SourceError::Kafka(error)) => Err(match *error {
                KafkaError::OutOfRange { source_name, partition, position, why } => {
                    KafkaError::HistoryGone { source_name, partition, position, why }.into()
                }
                other => other.into(),
            }),
            block => block,
        }
    }

    fn safe(&mut self, positions: &[(usize, Position)]) {
        self.safe.extend(positions.iter().copied());
        self.commit();
    }
}
