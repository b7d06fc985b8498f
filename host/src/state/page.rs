//! Pages: the folded sum of blocks, records in key order.
//!
//! Row key = shard u8, lowest key that the page covers (empty for a shard's first page); it covers up to the next
//! page's. A page is a sorted run stamped with `folded`, the commit up to which it includes all changes; body of a key =
//! its encoded record. A page that a split made inherits `folded`. Pages are never removed, only emptied: their range
//! would fall to a neighbour folded at another commit.

use super::CommitId;
use super::error::StoreError;
use super::run::{Run, RunKind, RunWriter};
use super::store::{Batch, Row, Snapshot, Table};
use super::varint::Malformed;
use std::sync::Arc;

/// A page and the keys that it covers.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Its records; none where the shard has no page yet, then the whole shard is covered.
    pub(super) run: Option<Arc<Run>>,
    /// Lowest key covered.
    pub(super) lower: Vec<u8>,
    /// First key no longer covered; none = the shard's end.
    pub(super) upper: Option<Vec<u8>>,
}

/// Row key of the page that starts at `lower`.
pub(super) fn row_key(shard: u8, lower: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + lower.len());
    key.push(shard);
    key.extend_from_slice(lower);
    key
}

impl Page {
    /// The page that covers `key`, without `upper`.
    pub(super) fn covering(snapshot: &dyn Snapshot, shard: u8, key: &[u8]) -> Result<Self, StoreError> {
        let Some((row, value)) = snapshot.last_at_or_before(Table::Pages, &row_key(shard, key))? else {
            return Ok(Self::default());
        };
        let Some((_, lower)) = row.split_first().filter(|(of, _)| **of == shard) else {
            return Ok(Self::default());
        };
        let run = Run::open(value, RunKind::Page)
            .map_err(|e| StoreError::corrupt(format!("page {} of shard {shard}", hex(lower)), e))?;
        Ok(Self { run: Some(Arc::new(run)), lower: lower.to_vec(), upper: None })
    }

    /// The page that begins at `lower`, if it has `key` or one behind it: then it covers `key`.
    pub(super) fn beginning(
        snapshot: &dyn Snapshot,
        shard: u8,
        (lower, key): (&[u8], &[u8]),
    ) -> Result<Option<Self>, StoreError> {
        let Some(value) = snapshot.get(Table::Pages, &row_key(shard, lower))? else { return Ok(None) };
        let corrupt = |e| StoreError::corrupt(format!("page {} of shard {shard}", hex(lower)), e);
        let run = Run::open(value, RunKind::Page).map_err(corrupt)?;
        let (_, reaches) = run.seek(key).map_err(corrupt)?;
        Ok(reaches.then(|| Self { run: Some(Arc::new(run)), lower: lower.to_vec(), upper: None }))
    }

    /// Finds where the next page begins.
    pub(super) fn with_upper(mut self, snapshot: &dyn Snapshot, shard: u8) -> Result<Self, StoreError> {
        if self.run.is_none() {
            return Ok(self);
        }
        let mut from = row_key(shard, &self.lower);
        from.push(0);
        let end = shard.checked_add(1).map(|next| [next]);
        let to = end.as_ref().map(<[u8; 1]>::as_slice);
        snapshot.scan(Table::Pages, &from, to, &mut |row, _| {
            self.upper = row.get(1..).map(<[u8]>::to_vec);
            false
        })?;
        Ok(self)
    }

    /// The commit that the page includes; 0 where there is none.
    pub(super) fn folded(&self) -> CommitId {
        self.run.as_ref().map_or(0, |run| run.stamp())
    }
}

/// Lowest key and records of a page as it was put into a batch.
pub(super) fn written((_, key, value): &Row) -> Result<(Vec<u8>, Run), Malformed> {
    let run = Run::open(value.clone().unwrap_or_default(), RunKind::Page)?;
    Ok((key.get(1..).unwrap_or(&[]).to_vec(), run))
}

/// Key bytes for people.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |mut out, byte| {
        for nibble in [byte >> 4, byte & 15] {
            out.extend(char::from_digit(u32::from(nibble), 16));
        }
        out
    })
}

/// Encoded records on their way into pages.
#[derive(Debug, Default)]
pub(super) struct PageRecords {
    heap: Vec<u8>,
    /// Ends of each key and each body in the heap.
    ends: Vec<(usize, usize)>,
}

impl PageRecords {
    /// Appends a record in the form that `write` gives.
    pub(super) fn push(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.heap.extend_from_slice(key);
        let key_end = self.heap.len();
        write(&mut self.heap);
        self.ends.push((key_end, self.heap.len()));
    }

    /// Writes the records as one page at `lower`, or as several of about `target` bytes where they exceed `max`.
    /// Answers the number of pages and their bytes.
    pub(super) fn write(
        &self,
        batch: &mut Batch,
        place: (u8, &[u8]),
        folded: CommitId,
        (target, max): (usize, usize),
    ) -> (u32, u64) {
        let (shard, lower) = place;
        let parts = if self.heap.len() > max { self.heap.len().div_ceil(target.max(1)) } else { 1 };
        let part_bytes = self.heap.len().div_ceil(parts).max(1);
        let mut run = RunWriter::new(RunKind::Page, folded);
        let mut run_lower = lower.to_vec();
        let (mut pages, mut bytes, mut start) = (0, 0, 0);
        for (key_end, end) in &self.ends {
            let key = self.heap.get(start..*key_end).unwrap_or(&[]);
            if run.keys() > 0 && run.len() >= part_bytes {
                let full = std::mem::replace(&mut run, RunWriter::new(RunKind::Page, folded)).finish();
                (pages, bytes) = (pages + 1, bytes + full.len() as u64);
                let at = std::mem::replace(&mut run_lower, key.to_vec());
                batch.put(Table::Pages, row_key(shard, &at), full);
            }
            run.push(key, self.heap.get(*key_end..*end).unwrap_or(&[]), &[]);
            start = *end;
        }
        let last = run.finish();
        (pages, bytes) = (pages + 1, bytes + last.len() as u64);
        batch.put(Table::Pages, row_key(shard, &run_lower), last);
        (pages, bytes)
    }
}
