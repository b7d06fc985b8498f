//! What the pipeline remembers of the outbox: commits that some sink has not got, and those that stay for who follows the
//! transitions over HTTP, as many bytes as is configured.
//!
//! The oldest go first, and [`super::rows::FLOOR`] says up to which commit they are gone.

use super::coordinator::Pipeline;
use super::failure::Failure;
use super::rows::{Cursors, FLOOR};
use crate::label::outbox::{CHUNK_INDEX, Place};
use crate::state::{Commit, Table, View};
use std::collections::{BTreeMap, VecDeque};

/// Most rows that wait for sinks before reading pauses, or sinks are taken on.
pub(super) const WAITING_ROWS_MAX: u64 = 100_000;
/// What a commit counts beside the bytes of its rows: their keys, their place in memory.
const COMMIT_BYTES: u64 = 256;

/// Rows of one commit.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    rows: u64,
    bytes: u64,
}

impl Rows {
    const fn cost(self) -> u64 {
        self.bytes.saturating_add(COMMIT_BYTES)
    }
}

/// The outbox as it stands in the state.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Commits that some sink has not got.
    waiting: BTreeMap<u64, Rows>,
    /// Rows of those that wait from `served` on.
    waiting_rows: u64,
    /// Every sink has the commits before this one, whether or not a commit has said so.
    served: u64,
    /// Commits that every sink has, the oldest first.
    kept: VecDeque<(u64, Rows)>,
    kept_bytes: u64,
    /// Transitions up to this commit are gone.
    floor: u64,
    stored_floor: Option<u64>,
}

impl Outbox {
    /// What a view holds, in which so many transitions were ever told; `cursors` are those of all sinks, also of such
    /// that are not configured any more.
    pub(super) fn open<'a>(
        view: &View,
        transitions: u64,
        cursors: impl Iterator<Item = &'a Place>,
    ) -> Result<Self, Failure> {
        let stored_floor = super::assemble::read(view, FLOOR)?;
        let floor = stored_floor.unwrap_or(first_floor(view.commit(), transitions));
        let first_waiting = cursors.map(|place| place.commit).min().unwrap_or(u64::MAX);
        let mut of_commits: BTreeMap<u64, Rows> = BTreeMap::new();
        view.rows(Table::Outbox, &[], None, &mut |key, row| {
            if let Some(place) = Place::from_key(key) {
                let of = of_commits.entry(place.commit).or_default();
                (of.rows, of.bytes) = (of.rows + 1, of.bytes + row.len() as u64);
            }
            true
        })?;
        let waiting = of_commits.split_off(&first_waiting);
        let kept: VecDeque<(u64, Rows)> = of_commits.into_iter().collect();
        let kept_bytes = kept.iter().map(|(_, rows)| rows.cost()).sum();
        let waiting_rows = waiting.values().map(|rows| rows.rows).sum();
        Ok(Self { waiting, waiting_rows, served: 0, kept, kept_bytes, floor, stored_floor })
    }

    /// A commit from `cursor` on waits for a sink.
    pub(super) fn waits_from(&self, cursor: Place) -> bool {
        self.waiting.range(cursor.commit..).next().is_some()
    }

    /// The same for commits up to `durable`.
    pub(super) fn waits_for(&self, cursor: Place, durable: u64) -> bool {
        self.waiting.range(cursor.commit..).next().is_some_and(|(commit, _)| *commit <= durable)
    }

    /// Commits before `delivered` do not wait any more.
    pub(super) fn has_delivered(&self, delivered: Place) -> bool {
        self.waiting.first_key_value().is_some_and(|(commit, _)| *commit < delivered.commit)
    }

    /// Where the newer half of what may wait begins, for a sink that has not got the older one.
    pub(super) fn half_of(&self, cursor: Place, rows_max: u64) -> Option<Place> {
        let mut rows = 0;
        let mut newest = self.waiting.range(cursor.commit..).rev();
        let (commit, _) = newest.find(|(_, of_commit)| {
            rows += of_commit.rows;
            rows > rows_max / 2
        })?;
        Some(Place { commit: commit + 1, index: 0 })
    }

    /// Sinks have taken the commits before `delivered`: these hold nothing back any more.
    pub(super) fn serve(&mut self, delivered: Place) {
        if delivered.commit > self.served {
            let served = self.waiting.range(self.served..delivered.commit);
            self.waiting_rows -= served.map(|(_, rows)| rows.rows).sum::<u64>();
            self.served = delivered.commit;
        }
    }

    /// Reading pauses until sinks have taken something.
    pub(super) fn is_full(&self, rows_max: u64) -> bool {
        self.waiting_rows > rows_max
    }

    /// A commit's rows go out with it.
    pub(super) fn note(&mut self, rows: &[(Vec<u8>, Vec<u8>)], commit: u64) {
        if !rows.is_empty() {
            let bytes = rows.iter().map(|(_, row)| row.len() as u64).sum();
            self.waiting.insert(commit, Rows { rows: rows.len() as u64, bytes });
            if commit >= self.served {
                self.waiting_rows += rows.len() as u64;
            }
        }
    }

    /// A commit's transitions are told to nobody.
    pub(super) fn forget(&mut self, commit: u64) {
        self.floor = commit;
    }

    /// Commits before `delivered` are kept as far as `bytes_max` goes; the oldest are dropped by `commit`.
    pub(super) fn turn(&mut self, delivered: Place, bytes_max: u64, commit: &mut Commit) {
        while let Some(entry) = self.waiting.first_entry().filter(|e| *e.key() < delivered.commit) {
            let (number, rows) = entry.remove_entry();
            if number >= self.served {
                self.waiting_rows -= rows.rows;
            }
            self.kept_bytes += rows.cost();
            self.kept.push_back((number, rows));
        }
        // Rows that go out with this very commit are dropped by a later one.
        while self.kept_bytes > bytes_max
            && let Some((number, rows)) = self.kept.pop_front_if(|(number, _)| *number < commit.id)
        {
            self.kept_bytes -= rows.cost();
            self.floor = number;
            for n in 0..rows.rows {
                let index = u32::try_from(n).unwrap_or(u32::MAX) * CHUNK_INDEX;
                commit.rows.push((Table::Outbox, Place { commit: number, index }.key().to_vec(), None));
            }
        }
        if self.stored_floor != Some(self.floor) {
            self.stored_floor = Some(self.floor);
            commit.rows.push((Table::Meta, FLOOR.to_vec(), serde_json::to_vec(&self.floor).ok()));
        }
    }
}

/// The floor of a state that has none yet: one from before there was a floor has dropped what its sinks had.
#[must_use]
pub const fn first_floor(commit: u64, transitions: u64) -> u64 {
    if transitions == 0 { 0 } else { commit }
}

/// Places of all sinks that the state or the configuration knows.
pub(super) fn places<'a>(stored: &'a Cursors, configured: &'a Cursors) -> impl Iterator<Item = &'a Place> {
    stored.values().chain(configured.values())
}

impl Pipeline {
    /// Delivered rows of the outbox wait to be cleared, and nothing else will come along to take them with it.
    pub(super) fn cursors_wait(&self) -> bool {
        let ending = self.stopping.is_some() || self.settings.until_end;
        ending && self.book.outbox.has_delivered(self.delivered())
    }

    /// Everything before this place is delivered everywhere.
    pub(super) fn delivered(&self) -> Place {
        self.sinks.iter().map(|s| s.cursor).min().unwrap_or(Place { commit: u64::MAX, index: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(outbox: &mut Outbox, number: u64, delivered: u64, bytes_max: u64) -> Vec<(Table, Vec<u8>, bool)> {
        let rows = vec![(Place { commit: number, index: 0 }.key().to_vec(), vec![0; 44])];
        outbox.note(&rows, number);
        let mut commit = Commit { id: number, ..Commit::default() };
        outbox.turn(Place { commit: delivered, index: 0 }, bytes_max, &mut commit);
        commit.rows.into_iter().map(|(table, key, row)| (table, key, row.is_some())).collect()
    }

    #[test]
    fn commits_that_all_sinks_have_stay_within_the_bytes_and_the_floor_says_what_is_gone() {
        let mut outbox = Outbox::default();
        assert_eq!(told(&mut outbox, 1, 0, 600), [(Table::Meta, FLOOR.to_vec(), true)]);
        assert!(outbox.waits_from(Place::default()) && !outbox.has_delivered(Place { commit: 1, index: 9 }));
        assert!(told(&mut outbox, 2, 2, 600).is_empty());
        assert!(told(&mut outbox, 3, 3, 600).is_empty(), "two commits of 300 bytes fit");
        let key = |commit| Place { commit, index: 0 }.key().to_vec();
        let third = told(&mut outbox, 4, u64::MAX, 600);
        let dropped = [
            (Table::Outbox, key(1), false),
            (Table::Outbox, key(2), false),
            (Table::Meta, FLOOR.to_vec(), true),
        ];
        assert_eq!(third, dropped);
        assert_eq!((outbox.floor, outbox.kept.len(), outbox.waiting.len()), (2, 2, 0));
        // Nothing is kept, but a commit's own rows are never dropped by it.
        let last = told(&mut outbox, 5, u64::MAX, 0);
        assert_eq!(last.len(), 3);
        assert_eq!((outbox.floor, outbox.kept.len()), (4, 1));
        outbox.forget(6);
        assert_eq!(outbox.floor, 6);
    }
}
