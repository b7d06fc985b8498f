//! The dictionary: ordinal → key, for listing members. New keys stand in the overlay's blocks until a fold writes them
//! into rows of 1,024 ordinals: row key = shard u8, ordinal / 1024 as u32 BE; a row is a sorted run of ordinal % 1024
//! (u16 BE) → key.

use super::error::StoreError;
use super::run::{Cursor, Run, RunKind, RunWriter};
use super::store::{Batch, Snapshot, Table};
use super::varint::Malformed;
use std::ops::Range;

/// Ordinals to enter (with their key) or to remove; of two edits of one ordinal the later wins.
#[derive(Debug, Default)]
pub(super) struct Edits {
    heap: Vec<u8>,
    /// Each ordinal with where its key stands in the heap; none = to remove.
    edits: Vec<(u32, Option<Range<usize>>)>,
}

impl Edits {
    /// Enters a new key.
    pub(super) fn enter(&mut self, ordinal: u32, key: &[u8]) {
        let start = self.heap.len();
        self.heap.extend_from_slice(key);
        self.edits.push((ordinal, Some(start..self.heap.len())));
    }

    /// Removes an ordinal.
    pub(super) fn remove(&mut self, ordinal: u32) {
        self.edits.push((ordinal, None));
    }
}

fn row_key(shard: u8, ordinal: u32) -> Vec<u8> {
    let mut key = vec![shard];
    key.extend_from_slice(&(ordinal >> 10).to_be_bytes());
    key
}

fn low(ordinal: u32) -> [u8; 2] {
    ((ordinal & 1023) as u16).to_be_bytes()
}

fn read(snapshot: &dyn Snapshot, shard: u8, ordinal: u32) -> Result<Option<Run>, StoreError> {
    let Some(bytes) = snapshot.get(Table::Dictionary, &row_key(shard, ordinal))? else { return Ok(None) };
    let run = Run::open(bytes, RunKind::Dictionary);
    run.map(Some)
        .map_err(|e| StoreError::corrupt(format!("dictionary of shard {shard} at ordinal {ordinal}"), e))
}

/// The key with `ordinal` among the folded ones.
pub(super) fn key_of(
    snapshot: &dyn Snapshot,
    shard: u8,
    ordinal: u32,
) -> Result<Option<Box<[u8]>>, StoreError> {
    let Some(run) = read(snapshot, shard, ordinal)? else { return Ok(None) };
    let key = run.find(&low(ordinal));
    let key =
        key.map_err(|e| StoreError::corrupt(format!("dictionary of shard {shard} at ordinal {ordinal}"), e))?;
    Ok(key.map(Into::into))
}

/// Puts the rows with `edits` made into `batch`.
pub(super) fn write(
    snapshot: &dyn Snapshot,
    shard: u8,
    edits: &mut Edits,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    edits.edits.sort_by_key(|(ordinal, _)| *ordinal); // stable: the last edit of an ordinal stays last
    for group in edits.edits.chunk_by(|a, b| a.0 >> 10 == b.0 >> 10) {
        let Some((first, _)) = group.first() else { continue };
        let stored = read(snapshot, shard, *first)?;
        let run = merge(stored.as_ref(), group, &edits.heap)
            .map_err(|e| StoreError::corrupt(format!("dictionary of shard {shard} at ordinal {first}"), e))?;
        let value = (run.keys() > 0).then(|| run.finish());
        batch.rows.push((Table::Dictionary, row_key(shard, *first), value));
    }
    Ok(())
}

/// One row with sorted edits made.
fn merge(
    stored: Option<&Run>,
    edits: &[(u32, Option<Range<usize>>)],
    heap: &[u8],
) -> Result<RunWriter, Malformed> {
    let mut run = RunWriter::new(RunKind::Dictionary, 0);
    let mut cursor = stored.map(Run::cursor);
    let mut on_stored = cursor.as_mut().map_or(Ok(false), Cursor::advance)?;
    for same in edits.chunk_by(|a, b| a.0 == b.0) {
        let Some((ordinal, key)) = same.last() else { continue };
        let low = low(*ordinal);
        while let Some(cursor) = cursor.as_mut().filter(|cursor| on_stored && cursor.key() <= &low[..]) {
            if cursor.key() < &low[..] {
                run.push(cursor.key(), cursor.body(), &[]);
            }
            on_stored = cursor.advance()?;
        }
        if let Some(key) = key {
            run.push(&low, heap.get(key.clone()).unwrap_or(&[]), &[]);
        }
    }
    while let Some(cursor) = cursor.as_mut().filter(|_| on_stored) {
        run.push(cursor.key(), cursor.body(), &[]);
        on_stored = cursor.advance()?;
    }
    Ok(run)
}
