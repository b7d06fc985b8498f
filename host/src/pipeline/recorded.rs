//! The last images of each table that a rule reads, from the sources as they are kept: what two files' `map` are compared
//! on.
//!
//! They are read from the end backwards, so that what is compared is what comes these days. Nothing is kept for it while
//! the host runs.

use crate::decode::{Decoded, Decoder, Format, ImageBatch, Plan, TablePlan};
use crate::rule::Manifest;
use crate::source::files::Files;
use crate::source::{Partition, Position, Source, SourceError};
use std::path::Path;
use std::sync::Arc;

/// Images of each table that are looked for.
pub const IMAGES_PER_TABLE: u64 = 100_000;
/// Bytes that are read for it at most.
const BYTES_MAX: u64 = 1 << 30;
/// Bytes that are read at once.
const BLOCK_BYTES: u64 = 1 << 20;

/// A source as it is read here.
#[derive(Clone, Debug)]
pub struct Recorded<'a> {
    /// Its name.
    pub name: &'a str,
    /// Format of its messages.
    pub format: Format,
    /// Tables with columns that its producer hides.
    pub hidden_columns: &'a [String],
}

/// Gives `take` the last images of each table of `manifest`: the partition's name, all of a block, and the batch of the table
/// with that index in the manifest, whose columns are in the manifest's order. It says whether more are wanted.
///
/// # Errors
/// A source that does not read any more.
pub fn images(
    folder: &Path,
    (sources, partitions): (&[Recorded<'_>], &[(Partition, Position)]),
    manifest: &Manifest,
    take: &mut dyn FnMut(&str, &Decoded, &ImageBatch) -> bool,
) -> Result<(), SourceError> {
    let known: Vec<Partition> = partitions.iter().map(|(partition, _)| partition.clone()).collect();
    let mut readers = Vec::new();
    for source in sources {
        let boundary = source.format.boundary();
        let files = Files::open(folder, source.name, &known, boundary, true)?;
        let decoder = Decoder::new(source.format, plan(manifest, source.hidden_columns));
        readers.push((source.name, files, decoder.putting_aside(true)));
    }
    // Backwards through all partitions side by side; `ends[n]` is where partition n has been read down to.
    let mut ends: Vec<Position> = partitions.iter().map(|(_, position)| *position).collect();
    let mut found = vec![0_u64; manifest.tables.len()];
    let (mut read, mut decoded) = (0, Decoded::default());
    while ends.iter().any(|end| *end > 0) && read < BYTES_MAX {
        for (number, (end, partition)) in
            ends.iter_mut().zip(&known).enumerate().filter(|(_, (e, _))| **e > 0)
        {
            let Some((_, files, decoder)) = readers.iter_mut().find(|(name, ..)| *name == partition.source)
            else {
                *end = 0; // a source that is not configured any more
                continue;
            };
            let (start, bytes) = last_messages(files, number, *end)?;
            read += bytes.len() as u64;
            *end = start;
            decoder.decode(&bytes, start, &mut decoded);
            for (batch, found) in decoded.batches.iter().zip(&mut found) {
                if *found < IMAGES_PER_TABLE && !batch.sides.is_empty() {
                    *found += batch.sides.len() as u64;
                    if !take(&partition.name, &decoded, batch) {
                        return Ok(());
                    }
                }
            }
        }
        if found.iter().all(|n| *n >= IMAGES_PER_TABLE) {
            break;
        }
    }
    Ok(())
}

/// Whole messages that end at `end`, about a block of them, and where they begin.
fn last_messages(
    files: &mut Files,
    partition: usize,
    end: Position,
) -> Result<(Position, Vec<u8>), SourceError> {
    let mut length = BLOCK_BYTES;
    loop {
        let from = end.saturating_sub(length);
        let block =
            files.read_again(partition, from, (usize::try_from(end - from).unwrap_or(usize::MAX), end))?;
        // A block that begins inside a message lacks the rest of it: it begins behind that message's end.
        let skipped = if from == 0 { Some(0) } else { memchr::memchr(b'\n', &block.bytes).map(|at| at + 1) };
        match skipped.filter(|skipped| *skipped < block.bytes.len()) {
            Some(skipped) => {
                let bytes = block.bytes.get(skipped..).unwrap_or_default().to_vec();
                return Ok((from + skipped as u64, bytes));
            }
            None if from == 0 => return Ok((0, Vec::new())),
            None => length *= 4, // one message is longer than the block
        }
    }
}

/// A plan with the tables of the manifest in its order.
fn plan(manifest: &Manifest, hidden: &[String]) -> Arc<Plan> {
    let table = |table: &crate::rule::manifest::Table| TablePlan {
        table: table.table.clone(),
        columns: table.planned_columns(),
        hidden_columns: hidden.contains(&table.table),
    };
    Arc::new(Plan { tables: manifest.tables.iter().map(table).collect() })
}
