//! Who reads. With its offsets a host commits who it is and when it said so, as metadata of its group.
//!
//! So a second host that reads a copy of the state, which would tell every sink once more, finds out before it reads anything,
//! and so does one that was given the group of another. No data depend on it: where the group cannot be asked, nobody is
//! refused. A host on the same state directory is no other one: a directory has one owner at a time.

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
const MARK: &str = "retag";

/// Who a host is.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its state and directory.
    pub owner: String,
    /// Another one's lease is taken over.
    pub take_over: bool,
}

impl Lease {
    /// What is committed beside offsets now.
    pub(super) fn text(&self) -> String {
        format!("{MARK} {} {}", self.owner, clock::wall_us() / 1000)
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
        (source_name, group): (&str, &str),
        client: &Client,
        names: &[Option<String>],
    ) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (topic, n) in names.iter().flatten().filter_map(|name| name.rsplit_once('/')) {
            if let Ok(partition) = n.parse() {
                list.add_partition(topic, partition);
            }
        }
        if self.take_over || list.count() == 0 {
            return Ok(());
        }
        let Ok(committed) = client.committed_offsets(list, ANSWER) else { return Ok(()) };
        let now_ms = clock::wall_us() / 1000;
        let others = metadata(&committed).into_iter().filter_map(|text| self.other(&text, now_ms));
        match others.min_by_key(|(_, age_s)| *age_s) {
            None => Ok(()),
            Some((owner, age_s)) => {
                let (source_name, group) = (source_name.to_owned(), group.to_owned());
                Err(KafkaError::InUse { source_name, group, owner, age_s })
            }
        }
    }

    /// Another host in what was committed, that is not gone: who, and how many seconds ago it said so.
    fn other(&self, text: &str, now_ms: i64) -> Option<(String, u64)> {
        let mut words = text.split(' ');
        let owner = words.next().filter(|mark| *mark == MARK).and_then(|_| words.next())?;
        let age_ms = now_ms.saturating_sub(words.next()?.parse().ok()?);
        // A clock that is ahead does not make it older.
        (owner != self.owner && age_ms < GONE_AFTER_MS)
            .then(|| (owner.to_owned(), u64::try_from(age_ms / 1000).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_host_that_is_not_gone_is_found() {
        let lease = |owner: &str| Lease { owner: owner.to_owned(), take_over: false };
        let text = lease("a/1").text();
        let now_ms = clock::wall_us() / 1000;
        assert_eq!(lease("a/1").other(&text, now_ms), None);
        assert_eq!(lease("a/2").other(&text, now_ms + 9_000).map(|(owner, _)| owner), Some("a/1".to_owned()));
        assert_eq!(lease("a/2").other(&text, now_ms + GONE_AFTER_MS + 1), None);
        for foreign in ["", "retag", "retag a", "retag a x", "other a 5"] {
            assert_eq!(lease("b").other(foreign, 0), None, "{foreign}");
        }
    }
}
