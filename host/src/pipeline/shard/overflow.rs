//! What counted sets need after a cycle's changes, seldom: entries that lie in rows, and an end to sets that outgrew
//! their limit.
//!
//! A set overflows by its net entries at a commit's end. Its entries are given up in that commit's block; later changes
//! of it are neither counted nor written, since nothing could tell what they sum to.

use super::{Context, NetChange, Shard, Touched, weight};
use crate::pipeline::failure::Failure;
use crate::state::{Change, CountedSet, Record, Slot};

/// Sets of a touched key that overflowed.
#[derive(Debug, Default)]
pub(super) struct Overflowed {
    /// In this cycle, with what they held.
    pub(super) now: Vec<(Slot, CountedSet)>,
    /// In an earlier one.
    before: Vec<Slot>,
}

impl Touched {
    /// A key that no change of this cycle touches.
    pub(super) fn untold(held: usize) -> Self {
        Self { held, from: 0, to: 0, due: true, by_change: false, labels: Vec::new(), overflow: None }
    }

    /// Its sums have changed in namespace `space`.
    pub(super) fn is_changed(&self, space: u32, changes: &[NetChange]) -> bool {
        changes.get(self.from..self.to).unwrap_or(&[]).iter().any(|change| change.space() == space)
    }

    /// The set in `slot` takes no changes any more.
    pub(super) fn is_given_up(&self, slot: Slot) -> bool {
        self.overflow.as_ref().is_some_and(|overflow| overflow.before.contains(&slot))
    }
}

/// Whether a set of the record needs [`Shard::settle`].
pub(super) fn is_due(record: &Record, entries_max: usize) -> bool {
    record.sets().any(|(_, set)| set.is_behind() || set.is_overflow() || set.entries() > entries_max)
}

impl Shard {
    /// Brings in the entries of sets that lie in rows and have changed, and gives up those with too many.
    pub(super) fn settle(
        &mut self,
        place: usize,
        context: &Context<'_>,
    ) -> Result<Option<Overflowed>, Failure> {
        let Some(held) = self.held.get_mut(place) else { return Ok(None) };
        let record = &mut held.record;
        if record.sets().any(|(_, set)| set.is_behind()) {
            let before = weight(record, true);
            // The set in rows was not changed since it was read, so any later view holds the same one.
            context.view.load_sets(self.number, &held.key, record)?;
            self.bytes += weight(record, true).saturating_sub(before);
        }
        let mut overflowed = Overflowed {
            before: record.sets().filter(|(_, set)| set.is_overflow()).map(|(slot, _)| slot).collect(),
            now: Vec::new(),
        };
        let entries_max = context.program.set_entries_max;
        let slots: Vec<Slot> =
            record.sets().filter(|(_, set)| set.entries() > entries_max).map(|(slot, _)| slot).collect();
        for slot in slots {
            let set = record.set(slot).cloned().unwrap_or_default();
            record.apply(&Change::Overflow(slot)).map_err(|error| Failure::Internal(error.to_string()))?;
            overflowed.now.push((slot, set));
        }
        let none = overflowed.before.is_empty() && overflowed.now.is_empty();
        Ok((!none).then_some(overflowed))
    }
}
