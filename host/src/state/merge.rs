//! A key = its page + its entries of later commits. This walks a range of keys with both put together, for reads and
//! for folds.

use super::CommitId;
use super::block::Entry;
use super::cell::{Record, Slot};
use super::overlay::OverlayBlock;
use super::run::{Cursor, Merge, Run};
use super::varint::Malformed;
use std::sync::Arc;

/// A range of keys under one page.
pub(super) struct Span<'a> {
    /// The page's records, if there is one.
    pub(super) page: Option<&'a Run>,
    /// Blocks of the shard; those that the page includes are passed over.
    pub(super) blocks: &'a [Arc<OverlayBlock>],
    /// First key.
    pub(super) lower: &'a [u8],
    /// First key no longer in range.
    pub(super) upper: Option<&'a [u8]>,
    /// Last commit to put in.
    pub(super) until: CommitId,
}

/// One key of the range.
pub(super) enum Merged<'a> {
    /// No block of the range has it: its encoded record.
    Stored(&'a [u8]),
    /// Changed by blocks.
    Changed {
        /// Ordinal in the page, if it was there, and its sets in rows.
        before: Option<Before>,
        /// The record now; may have no cells.
        after: Option<Record>,
    },
}

/// What a page has of a key that is not in the record after it: its ordinal and its sets in rows.
pub(super) type Before = (u32, Vec<Slot>);

/// [`Before`] of a record.
pub(super) fn before(record: &Record) -> Before {
    let in_rows = record.sets().filter(|(_, set)| set.is_in_rows());
    (record.ordinal, in_rows.map(|(slot, _)| slot).collect())
}

impl Span<'_> {
    /// Calls `visit` with each key in order until it answers false.
    pub(super) fn walk<E: From<Malformed>>(
        &self,
        mut visit: impl FnMut(&[u8], Merged<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let folded = self.page.map_or(0, Run::stamp);
        let runs = self.blocks.iter().map(|block| block.run());
        let runs = runs.filter(|run| run.stamp() > folded && run.stamp() <= self.until);
        let mut changes = Merge::new(runs, self.lower)?;
        let mut stored = self.page.map(|page| page.seek(self.lower)).transpose()?.filter(|(_, found)| *found);
        let mut key = Vec::new();
        loop {
            let in_range = |key: &&[u8]| self.upper.is_none_or(|upper| *key < upper);
            let changed = changes.key().filter(in_range);
            let base = stored.as_ref().map(|(cursor, _)| cursor.key()).filter(in_range);
            let (change_next, base_next) = match (changed, base) {
                (None, None) => return Ok(()),
                (None, Some(_)) => (false, true),
                (Some(_), None) => (true, false),
                (Some(changed), Some(base)) => (changed <= base, base <= changed),
            };
            key.clear();
            key.extend_from_slice(if change_next { changed } else { base }.unwrap_or(&[]));
            let body = if base_next { take(&mut stored)? } else { None };
            let merged = match (change_next, body) {
                (false, body) => Merged::Stored(body.unwrap_or(&[])),
                (true, body) => put_together(&mut changes, &key, body)?,
            };
            if !visit(&key, merged)? {
                return Ok(());
            }
        }
    }
}

/// Body that the cursor stands on; goes on to the next.
fn take<'a>(stored: &mut Option<(Cursor<'a>, bool)>) -> Result<Option<&'a [u8]>, Malformed> {
    let Some((cursor, _)) = stored else { return Ok(None) };
    let body = cursor.body();
    if !cursor.advance()? {
        *stored = None;
    }
    Ok(Some(body))
}

fn put_together<'a>(
    changes: &mut Merge<'_>,
    key: &[u8],
    body: Option<&[u8]>,
) -> Result<Merged<'a>, Malformed> {
    let mut record = body.map(Record::decode).transpose()?;
    let before = record.as_ref().map(before);
    while let Some((_, body)) = changes.next_of(key)? {
        Entry::decode(body)?.apply(&mut record)?;
    }
    Ok(Merged::Changed { before, after: record })
}
