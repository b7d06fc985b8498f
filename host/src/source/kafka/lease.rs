//! Who reads. With its offsets a host commits who it is and when it said so, as metadata of its group.
//!
//! So a second host that reads a copy of the state, which would tell every sink once more, finds out before it reads anything,
//! and so does one that was given the group of another. No data depend on it: where the group cannot be asked, nobody is
//! refused. A host on the same state directory is no other one: a directory has one owner at a time. Of two that read
//! nevertheless, since the later one was told to take over, the earlier one finds that out as it renews what it said, and stops.

use super::client::Client;
use super::native::metadata;
use crate::clock;
use crate::source::KafkaError;
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;

/// A host that has said nothing for so long is gone.
const GONE_AFTER_MS: i64 = 30_000;
/// How often a host says that it is there.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How long the group may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long it may when a host that reads asks.
const ANSWER_BETWEEN: Duration = Duration::from_secs(1);
const MARK: &str = "retag";

/// Who a host is.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its state and directory.
    pub owner: String,
    /// Another one's lease is taken over.
    pub take_over: bool,
    /// When it began, ms since 1970.
    since_ms: i64,
}

/// Another host that said lately that it reads.
struct Other {
    owner: String,
    age_s: u64,
    since_ms: i64,
}

impl Lease {
    /// The lease of `owner`, who begins now.
    #[must_use]
    pub fn new(owner: String, take_over: bool) -> Self {
        Self { owner, take_over, since_ms: clock::wall_us() / 1000 }
    }

    /// What is committed beside offsets now.
    pub(super) fn text(&self) -> String {
        format!("{MARK} {} {} {}", self.owner, clock::wall_us() / 1000, self.since_ms)
    }

    /// Adds a partition to what is committed.
    pub(super) fn add(&self, list: &mut TopicPartitionList, name: &str, position: u64) {
        let place = name.rsplit_once('/').and_then(|(topic, n)| Some((topic, n.parse().ok()?)));
        if let Some((topic, partition)) = place {
            let mut place = list.add_partition(topic, partition);
            if let Ok(offset) = i64::try_from(position)
                && place.set_offset(Offset::Offset(offset)).is_ok()
            {
                place.set_metadata(self.text());
            }
        }
    }

    /// Refuses to read where another host has said lately that it does.
    pub(super) fn check(
        &self,
        of_source: (&str, &str),
        client: &Client,
        names: &[Option<String>],
    ) -> Result<(), KafkaError> {
        if self.take_over {
            return Ok(());
        }
        refused(of_source, self.others(client, names, ANSWER))
    }

    /// Refuses to read on where a host that began later has said lately that it reads.
    pub(super) fn check_again(
        &self,
        of_source: (&str, &str),
        client: &Client,
        names: &[Option<String>],
    ) -> Result<(), KafkaError> {
        let mut others = self.others(client, names, ANSWER_BETWEEN);
        others.retain(|other| other.since_ms > self.since_ms);
        refused(of_source, others)
    }

    /// The other hosts that are not gone; none where the group cannot be asked.
    fn others(&self, client: &Client, names: &[Option<String>], answer: Duration) -> Vec<Other> {
        let mut list = TopicPartitionList::new();
        for (topic, n) in names.iter().flatten().filter_map(|name| name.rsplit_once('/')) {
            if let Ok(partition) = n.parse() {
                list.add_partition(topic, partition);
            }
        }
        if list.count() == 0 {
            return Vec::new();
        }
        let Ok(committed) = client.committed_offsets(list, answer) else { return Vec::new() };
        let now_ms = clock::wall_us() / 1000;
        metadata(&committed).into_iter().filter_map(|text| self.other(&text, now_ms)).collect()
    }

    /// Another host in what was committed, that is not gone.
    fn other(&self, text: &str, now_ms: i64) -> Option<Other> {
        let mut words = text.split(' ');
        let owner = words.next().filter(|mark| *mark == MARK).and_then(|_| words.next())?;
        let age_ms = now_ms.saturating_sub(words.next()?.parse().ok()?);
        let since_ms = words.next().and_then(|word| word.parse().ok()).unwrap_or(0); // older hosts do not say it
        // A clock that is ahead does not make it older.
        let age_s = u64::try_from(age_ms / 1000).unwrap_or(0);
        (owner != self.owner && age_ms < GONE_AFTER_MS).then(|| Other {
            owner: owner.to_owned(),
            age_s,
            since_ms,
        })
    }
}

/// Names the one that was heard last.
fn refused((source_name, group): (&str, &str), others: Vec<Other>) -> Result<(), KafkaError> {
    match others.into_iter().min_by_key(|other| other.age_s) {
        None => Ok(()),
        Some(Other { owner, age_s, .. }) => {
            let (source_name, group) = (source_name.to_owned(), group.to_owned());
            Err(KafkaError::InUse { source_name, group, owner, age_s })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_host_that_is_not_gone_is_found() {
        let lease = |owner: &str| Lease::new(owner.to_owned(), false);
        let text = lease("a/1").text();
        let now_ms = clock::wall_us() / 1000;
        assert!(lease("a/1").other(&text, now_ms).is_none());
        let found = lease("a/2").other(&text, now_ms + 9_000).unwrap();
        assert_eq!((found.owner.as_str(), found.age_s), ("a/1", 9));
        assert!(found.since_ms > now_ms - 1_000);
        assert!(lease("a/2").other(&text, now_ms + GONE_AFTER_MS + 1).is_none());
        assert_eq!(lease("b").other("retag a 5", 6).unwrap().since_ms, 0);
        for foreign in ["", "retag", "retag a", "retag a x", "other a 5"] {
            assert!(lease("b").other(foreign, 0).is_none(), "{foreign}");
        }
    }
}
