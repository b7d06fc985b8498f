//! What a source sees of its log while it reads: where each partition ends, how old what it reads is, and what it waits for.
//!
//! The reader writes, answers to people read. Nothing in the engine depends on it.

use super::Position;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Blocks of a partition whose times are remembered: more than are under way at once.
const BLOCKS_MAX: usize = 64;

/// What is seen of one source.
#[derive(Debug, Default)]
pub struct Observed(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    waits_for: Option<String>,
    partitions: Vec<SeenPartition>,
}

/// What is seen of one partition.
#[derive(Clone, Debug, Default)]
struct SeenPartition {
    start: Option<Position>,
    end: Option<Position>,
    /// Position behind a block, and when its last message was written (ms since 1970).
    blocks: VecDeque<(Position, i64)>,
}

impl Observed {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, partition: usize, f: impl FnOnce(&mut SeenPartition) -> T) -> Option<T> {
        let mut seen = self.seen();
        if seen.partitions.len() <= partition {
            seen.partitions.resize(partition + 1, SeenPartition::default());
        }
        seen.partitions.get_mut(partition).map(f)
    }

    /// The log of a partition begins at `start` now.
    pub fn starts(&self, partition: usize, start: Position) {
        self.with(partition, |seen| seen.start = Some(start));
    }

    /// The log of a partition ends at `end` now.
    pub fn ends(&self, partition: usize, end: Position) {
        self.with(partition, |seen| seen.end = Some(end));
    }

    /// A block up to `end` was read, whose last message was written at `written_ms` (since 1970).
    pub fn read(&self, partition: usize, end: Position, written_ms: i64) {
        self.with(partition, |seen| {
            if seen.blocks.len() == BLOCKS_MAX {
                seen.blocks.pop_front();
            }
            seen.blocks.push_back((end, written_ms));
            seen.end = seen.end.max(Some(end));
        });
    }

    /// It waits for this; none = it does not wait. True where that is new.
    pub fn waits(&self, what: Option<String>) -> bool {
        let mut seen = self.seen();
        let is_new = seen.waits_for.is_some() != what.is_some();
        if is_new || what.is_some() {
            seen.waits_for = what;
        }
        is_new
    }

    /// What it waits for, where it does.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        self.seen().waits_for.clone()
    }

    /// Where the log of a partition begins, as far as it is known.
    #[must_use]
    pub fn start(&self, partition: usize) -> Option<Position> {
        self.with(partition, |seen| seen.start).flatten()
    }

    /// Where the log of a partition ends, as far as it is known.
    #[must_use]
    pub fn end(&self, partition: usize) -> Option<Position> {
        self.with(partition, |seen| seen.end).flatten()
    }

    /// How old what is applied up to `applied` is at `now_us`, in whole seconds: 0 where nothing waits, none where it is not
    /// known.
    #[must_use]
    pub fn lag_seconds(&self, partition: usize, applied: Position, now_us: i64) -> Option<u64> {
        self.with(partition, |seen| {
            if seen.end? <= applied {
                return Some(0);
            }
            while seen.blocks.len() > 1 && seen.blocks.front().is_some_and(|(end, _)| *end <= applied) {
                seen.blocks.pop_front();
            }
            let (_, written_ms) = seen.blocks.front()?;
            u64::try_from((now_us / 1000).saturating_sub(*written_ms) / 1000).ok()
        })
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_oldest_block_that_is_not_applied() {
        let observed = Observed::default();
        assert_eq!(observed.lag_seconds(1, 0, 0), None);
        observed.read(1, 10, 1_000);
        observed.read(1, 20, 5_000);
        let lag = |applied| observed.lag_seconds(1, applied, 9_000_000);
        assert_eq!((lag(0), lag(10), lag(15), lag(20)), (Some(8), Some(4), Some(4), Some(0)));
        observed.ends(1, 30);
        assert_eq!((observed.end(1), observed.end(0), lag(20)), (Some(30), None, Some(4)));
    }

    #[test]
    fn waiting_is_new_once() {
        let observed = Observed::default();
        assert!(!observed.waits(None));
        assert!(observed.waits(Some("a".into())) && !observed.waits(Some("b".into())));
        assert_eq!(observed.waits_for().as_deref(), Some("b"));
        assert!(observed.waits(None) && observed.waits_for().is_none());
    }
}
