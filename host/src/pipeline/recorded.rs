//! The last images of each table that a rule reads, from the sources as they are kept: what two files' `map` are compared
//! on.
//!
//! They are read from the end backwards, so that what is compared is what comes these days. Nothing is kept for it while
//! the host runs.

use crate::config::SourceConfig;
use crate::decode::{Decoded, Decoder, ImageBatch, Plan, TablePlan};
use crate::rule::Manifest;
use crate::source::files::Files;
#[cfg(feature = "kafka")]
use crate::source::kafka::LookBack;
use crate::source::{Block, Partition, Position, Source as _, SourceError};
use std::path::Path;
use std::sync::Arc;

/// Images of each table that are looked for.
pub const IMAGES_PER_TABLE: u64 = 100_000;
/// Bytes that are read for it at most.
const BYTES_MAX: u64 = 1 << 30;
/// Bytes that are read at once.
const BLOCK_BYTES: u64 = 1 << 20;

/// What reads the partitions of one source again.
enum Reader {
    Files(Box<Files>),
    #[cfg(feature = "kafka")]
    Topics(LookBack),
}

/// Sources by name, and all partitions with how far each was read.
type Read<'a> = (&'a [(&'a str, &'a SourceConfig)], &'a [(Partition, Position)]);

/// Gives `take` the last images of each table of `manifest`: the partition, the block, all that is decoded of it, and the batch
/// of the table with that index in the manifest, whose columns are in the manifest's order. It says whether more are wanted.
///
/// # Errors
/// A source that does not read any more.
pub fn images(
    folder: &Path,
    (sources, partitions): Read<'_>,
    manifest: &Manifest,
    take: &mut dyn FnMut(&Partition, &Block, &Decoded, &ImageBatch) -> bool,
) -> Result<(), SourceError> {
    let known: Vec<Partition> = partitions.iter().map(|(partition, _)| partition.clone()).collect();
    let mut readers = Vec::new();
    for (name, config) in sources {
        let decoder = Decoder::new(config.format(), plan(manifest, config.hidden_columns()));
        readers.push((*name, Reader::open(folder, (name, config), &known)?, decoder.putting_aside(true)));
    }
    // Backwards through all partitions side by side; `ends[n]` is where partition n has been read down to.
    let mut ends: Vec<Position> = partitions.iter().map(|(_, position)| *position).collect();
    let mut found = vec![0_u64; manifest.tables.len()];
    let (mut read, mut decoded) = (0, Decoded::default());
    while ends.iter().any(|end| *end > 0) && read < BYTES_MAX {
        for (number, (end, partition)) in
            ends.iter_mut().zip(&known).enumerate().filter(|(_, (e, _))| **e > 0)
        {
            let Some((_, reader, decoder)) = readers.iter_mut().find(|(name, ..)| *name == partition.source)
            else {
                *end = 0; // a source that is not configured any more
                continue;
            };
            let start = reader.start_before(number, *end)?;
            let mut at = start;
            while at < *end {
                let block = reader.read(number, at, *end)?;
                if !block.advances() {
                    break;
                }
                (at, read) = (block.end(), read + block.bytes.len() as u64);
                decoder.decode(&block.bytes, block.base(), &mut decoded);
                for (batch, found) in decoded.batches.iter().zip(&mut found) {
                    if *found < IMAGES_PER_TABLE && !batch.sides.is_empty() {
                        *found += batch.sides.len() as u64;
                        if !take(partition, &block, &decoded, batch) {
                            return Ok(());
                        }
                    }
                }
            }
            *end = if start < *end { start } else { 0 };
        }
        if found.iter().all(|n| *n >= IMAGES_PER_TABLE) {
            break;
        }
    }
    Ok(())
}

impl Reader {
    fn open(
        folder: &Path,
        (name, config): (&str, &SourceConfig),
        known: &[Partition],
    ) -> Result<Self, SourceError> {
        match config {
            SourceConfig::Files(files) => {
                let files = Files::open(folder, name, known, files.format.boundary(), true)?;
                Ok(Self::Files(Box::new(files)))
            }
            #[cfg(feature = "kafka")]
            SourceConfig::Kafka(topics) => Ok(Self::Topics(LookBack::open((name, topics, folder), known)?)),
            #[cfg(not(feature = "kafka"))]
            SourceConfig::Kafka(_) => {
                Err(crate::source::KafkaError::NotBuilt { source_name: name.to_owned() }.into())
            }
        }
    }

    /// Where about a block of whole messages begins that ends at `end`; `end` itself where nothing stands in front of it.
    fn start_before(&mut self, partition: usize, end: Position) -> Result<Position, SourceError> {
        let files = match self {
            Self::Files(files) => files,
            #[cfg(feature = "kafka")]
            Self::Topics(topics) => return Ok(topics.start_before(partition, end)?),
        };
        let mut length = BLOCK_BYTES;
        loop {
            let from = end.saturating_sub(length);
            if from == 0 {
                return Ok(0);
            }
            // A block that begins inside a message lacks the rest of it: it begins behind that message's end.
            let bounds = (usize::try_from(end - from).unwrap_or(usize::MAX), end);
            let block = files.read_again(partition, from, bounds)?;
            match memchr::memchr(b'\n', &block.bytes).map(|at| from + at as u64 + 1) {
                Some(start) if start < end => return Ok(start),
                _ => length *= 4, // one message is longer than the block
            }
        }
    }

    /// The messages from `start` on, none behind `end`, maybe not all of them at once.
    fn read(&mut self, partition: usize, start: Position, end: Position) -> Result<Block, SourceError> {
        match self {
            Self::Files(files) => {
                let bounds = (usize::try_from(end - start).unwrap_or(usize::MAX), end);
                files.read_again(partition, start, bounds)
            }
            #[cfg(feature = "kafka")]
            Self::Topics(topics) => Ok(topics.read(partition, start, end)?),
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
