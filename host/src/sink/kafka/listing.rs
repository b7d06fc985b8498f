//! Reads back what lies on a compacted topic: all that is there, or what there is of some keys.
//!
//! A topic keeps older messages of a key until it is compacted. So a partition is read twice: once for the offset of each key's
//! last message, once for those messages. That takes 16 bytes a key of one partition, and as much for tables' free room. To
//! compare, the labels of all keys are kept: 16 bytes a key again, and each set of labels once.
//!
//! A hash of 64 bits stands for a key: that two of a hundred million share one has a chance of one in four thousand, and then
//! a comparison may be wrong about those two.

use super::link::Link;
use super::record::{self, StoredLabels};
use super::target::{Deadline, Target};
use crate::sink::label_set::Stored;
use crate::sink::{LabelSet, SinkError, Version};
use rdkafka::Message as _;
use std::collections::HashMap;
use std::time::Duration;

/// Longest that one slice reads.
const SLICE: Duration = Duration::from_secs(2);
/// Label sets in one slice.
const SETS: usize = 1_000;

/// Where a reading is in the topic.
#[derive(Clone, Copy, Debug, Default)]
struct Spot {
    partition: i32,
    /// Next offset; none = at the beginning of the log.
    next: Option<i64>,
}

impl Spot {
    /// The partition's beginning, where it is not known yet.
    fn offset(&mut self, link: &Link, target: &Target, deadline: Deadline) -> Result<i64, SinkError> {
        match self.next {
            Some(next) => Ok(next),
            None => {
                let (low, _) = link.ends(target, self.partition, deadline)?;
                self.next = Some(low);
                Ok(low)
            }
        }
    }

    fn go_to_next_partition(&mut self) {
        *self = Self { partition: self.partition + 1, next: None };
    }
}

/// Lists everything, a partition at a time.
#[derive(Debug, Default)]
pub(super) struct Listing {
    spot: Spot,
    /// By key: the offset of its last message in the partition that is read.
    last: HashMap<u64, i64>,
    /// Where the first reading of the partition ended; none = it has not.
    end: Option<i64>,
}

impl Listing {
    /// Some more; none when that was all. While it reads for the first time there is nothing to tell.
    pub(super) fn next(
        &mut self,
        link: &mut Link,
        target: &Target,
        partitions: i32,
    ) -> Result<Option<Vec<Stored>>, SinkError> {
        if self.spot.partition >= partitions {
            return Ok(None);
        }
        let deadline = Deadline::within(SLICE);
        let offset = self.spot.offset(link, target, deadline)?;
        let place = (self.spot.partition, offset);
        let Some(end) = self.end else {
            let last = &mut self.last;
            let read = link.read(target, place, deadline, &mut |message| {
                if let Some(name) = message.key() {
                    match message.payload() {
                        Some(_) => last.insert(record::hash(name), message.offset()),
                        None => last.remove(&record::hash(name)),
                    };
                }
                true
            })?;
            self.spot.next = if read.at_end { None } else { Some(read.next) };
            self.end = read.at_end.then_some(read.next);
            return Ok(Some(Vec::new()));
        };
        let (last, mut found) = (&mut self.last, Vec::new());
        let read = link.read(target, place, deadline, &mut |message| {
            if let (Some(name), Some(value)) = (message.key(), message.payload())
                && last.get(&record::hash(name)) == Some(&message.offset())
            {
                last.remove(&record::hash(name));
                found.extend(record::stored(name, value));
            }
            found.len() < SETS && message.offset() + 1 < end
        })?;
        self.spot.next = Some(read.next);
        if read.at_end || read.next >= end {
            self.spot.go_to_next_partition();
            (self.last, self.end) = (HashMap::new(), None);
        }
        Ok(Some(found))
    }

    /// What was stored just now needs not be told any more.
    pub(super) fn is_put(&mut self, set: &LabelSet<'_>) {
        self.last.remove(&record::hash(record::name(set.entity, &set.key).as_bytes()));
    }
}

/// The labels of all keys, to compare with.
#[derive(Debug, Default)]
pub(super) struct Held {
    spot: Spot,
    /// By key: which of the sets of labels it has.
    keys: HashMap<u64, u32>,
    sets: Sets,
    messages: u64,
}

/// Each set of labels once.
#[derive(Debug, Default)]
struct Sets {
    numbers: HashMap<StoredLabels, u32>,
    sets: Vec<StoredLabels>,
}

impl Sets {
    fn number(&mut self, labels: StoredLabels) -> u32 {
        if let Some(number) = self.numbers.get(&labels) {
            return *number;
        }
        let number = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        self.sets.push(labels.clone());
        self.numbers.insert(labels, number);
        number
    }
}

impl Held {
    /// Reads on; true once everything that lies on the topic is known.
    pub(super) fn read(
        &mut self,
        link: &mut Link,
        target: &Target,
        partitions: i32,
    ) -> Result<bool, SinkError> {
        let deadline = Deadline::of_call();
        while self.spot.partition < partitions {
            let offset = self.spot.offset(link, target, deadline)?;
            let (keys, sets, messages) = (&mut self.keys, &mut self.sets, &mut self.messages);
            let read = link.read(target, (self.spot.partition, offset), deadline, &mut |message| {
                *messages += 1;
                let Some(name) = message.key() else { return true };
                match message.payload().and_then(|value| record::stored(name, value)) {
                    Some(stored) => keys.insert(record::hash(name), sets.number(stored.labels)),
                    None => keys.remove(&record::hash(name)),
                };
                true
            })?;
            self.spot.next = Some(read.next);
            if read.at_end {
                self.spot.go_to_next_partition();
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Messages that were read.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// What was stored just now.
    pub(super) fn is_put(&mut self, set: &LabelSet<'_>) {
        let key = record::hash(record::name(set.entity, &set.key).as_bytes());
        if set.labels.is_empty() {
            self.keys.remove(&key);
        } else {
            let owned =
                set.labels.iter().map(|(label, value)| ((*label).to_owned(), value.map(str::to_owned)));
            self.keys.insert(key, self.sets.number(owned.collect()));
        }
    }

    /// What there is of a key; how new it is is not kept.
    pub(super) fn of_key(&self, entity: &str, key: &str) -> Option<Stored> {
        let number = self.keys.get(&record::hash(record::name(entity, key).as_bytes()))?;
        let labels = self.sets.sets.get(usize::try_from(*number).ok()?)?.clone();
        Some(Stored { entity: entity.to_owned(), key: key.to_owned(), labels, version: Version::default() })
    }
}
