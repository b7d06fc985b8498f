//! The fold: turns a shard's durable blocks into pages, slice by slice, beside the stream.
//!
//! A step rewrites some of the pages that the blocks touch; each written page carries the fold's commit, so from then on
//! reads (and a fold begun again after a crash) pass over the entries that it includes. The last step writes the member
//! chunks and the dictionary and drops the blocks, in one batch. Steps need no fsync of their own: a crash loses a
//! suffix of batches, which only brings blocks back that pages then pass over. Rows of counted sets are written in the
//! batch of the page that holds their key (see `set_rows`).

use super::CommitId;
use super::cell::Record;
use super::dictionary::{self, Edits};
use super::error::{StoreError, Unplaced};
use super::members;
use super::merge::{self, Merged, Span};
use super::meta::{self, LastCommit};
use super::overlay::ShardView;
use super::page::{self, Page, PageRecords, hex};
use super::page_cache::PageCache;
use super::run::Merge;
use super::set_rows;
use super::store::{Batch, Row, Table};
use super::writer::{StateWriter, block_key};
use crate::failpoint::{self, Step};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes after which a step takes no further page: one page's sets may bring many rows.
const STEP_BYTES_MAX: u64 = 1 << 20;

/// A fold between two steps.
#[derive(Debug)]
pub(super) struct FoldJob {
    shard: u8,
    /// The commit that the written pages include: the shard's last block when the fold began.
    until: CommitId,
    /// Spaces that were dropped when the fold began. A key that only had cells of these has no entry behind `until`
    /// but as a new key; one that a later drop empties may have, and keeps its ordinal until the next fold.
    dropped: Arc<LastCommit>,
    /// First key not yet looked at.
    next: Vec<u8>,
    /// Ordinals of records that ended without an entry that says so (cells of dropped spaces, net nothing).
    lost: Vec<u32>,
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldReport {
    /// The shard.
    pub shard: u8,
    /// Pages written.
    pub pages: u32,
    /// Bytes of the pages written and of the rows of their sets.
    pub bytes: u64,
    /// Blocks dropped; 0 but in the last step of a fold.
    pub blocks_dropped: u32,
    /// The fold of this shard is complete.
    pub finished: bool,
}

impl StateWriter {
    /// Goes on with the fold under way, or begins one where a shard is past its bounds; none = nothing to do. Publishes
    /// a view of the same commit.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`]; after a failed write all further ones are refused.
    pub fn fold_step(&mut self) -> Result<Option<FoldReport>, StoreError> {
        self.refuse_if_failed()?;
        let Some(mut job) = self.fold.take().or_else(|| self.next_fold()) else { return Ok(None) };
        let Some(shard) = self.view.shards.get(usize::from(job.shard)).cloned() else { return Ok(None) };
        let mut report = FoldReport { shard: job.shard, ..FoldReport::default() };
        let (mut batch, mut pages) = (Batch::default(), PageCache::clone(&shard.pages));
        for _ in 0..self.limits.fold_pages.max(1) {
            report.finished = !self.fold_page(&mut job, &shard, (&mut batch, &mut pages), &mut report)?;
            if report.finished || report.bytes > STEP_BYTES_MAX || self.hold.load(Ordering::Relaxed) {
                break;
            }
        }
        let mut shards = self.view.shards.clone();
        let folded = shards.get_mut(usize::from(job.shard)).map(Arc::make_mut);
        if let Some(folded) = folded {
            folded.pages = Arc::new(pages);
            if report.finished {
                self.close_fold(&job, &shard, &mut batch)?;
                let before = folded.blocks.len();
                folded.drop_blocks(job.until);
                report.blocks_dropped = u32::try_from(before - folded.blocks.len()).unwrap_or(u32::MAX);
            }
        }
        failpoint::hit(Step::Fold);
        self.write(batch, false)?;
        if report.finished {
            if let Some(dirty) = self.dirty.get_mut(usize::from(job.shard)) {
                dirty.clear();
            }
        } else {
            self.fold = Some(job);
        }
        self.publish(Arc::clone(&self.view.last), shards)?;
        Ok(Some(report))
    }

    /// The shard that is furthest past its bounds.
    fn next_fold(&self) -> Option<FoldJob> {
        let limits = &self.limits;
        let past = (0u8..).zip(&self.view.shards).filter(|(_, shard)| {
            !shard.blocks.is_empty()
                && (shard.bytes >= limits.overlay_bytes || shard.blocks.len() >= limits.overlay_commits)
        });
        let (number, shard) = past.max_by_key(|(_, shard)| (shard.bytes, shard.blocks.len()))?;
        let until = shard.blocks.last()?.commit();
        let dropped = Arc::clone(&self.view.last);
        Some(FoldJob { shard: number, until, dropped, next: Vec::new(), lost: Vec::new() })
    }

    /// Rewrites the next page that a block touches; false = there is none.
    fn fold_page(
        &self,
        job: &mut FoldJob,
        shard: &ShardView,
        (batch, pages): (&mut Batch, &mut PageCache),
        report: &mut FoldReport,
    ) -> Result<bool, StoreError> {
        let place = |key: &[u8]| format!("keys from {} in shard {} under fold", hex(key), job.shard);
        let blocks = shard.blocks.iter().filter(|block| block.commit() <= job.until);
        let changes = Merge::new(blocks.map(|block| block.run()), &job.next);
        let changes = changes.map_err(|e| StoreError::corrupt(place(&job.next), e))?;
        let Some(key) = changes.key() else { return Ok(false) };
        let page = self.view.page(job.shard, key)?;
        if page.folded() < job.until {
            let set_rows = batch.rows.len();
            let (records, lost) =
                self.merge_page(&page, shard, job, batch).map_err(|e| e.at(place(&page.lower)))?;
            report.bytes += batch.rows.iter().skip(set_rows).map(row_bytes).sum::<u64>();
            job.lost.extend(lost);
            let sizes = (self.limits.page_bytes, self.limits.page_bytes_max);
            let first = batch.rows.len();
            let (written, bytes) = records.write(batch, (job.shard, &page.lower), job.until, sizes);
            report.pages += written;
            report.bytes += bytes;
            let written = batch.rows.iter().skip(first).map(page::written).collect::<Result<_, _>>();
            let written = written.map_err(|e| StoreError::corrupt(place(&page.lower), e))?;
            pages.replace(written, page.upper.as_deref(), self.limits.page_cache_bytes);
        }
        match page.upper {
            Some(upper) => job.next = upper,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Members, dictionary and the blocks' end.
    fn close_fold(&self, job: &FoldJob, shard: &ShardView, batch: &mut Batch) -> Result<(), StoreError> {
        let mut edits = Edits::default();
        for block in shard.blocks.iter().filter(|block| block.commit() <= job.until) {
            block.edit_dictionary(&mut edits).map_err(|e| {
                StoreError::corrupt(format!("block of commit {} in shard {}", block.commit(), job.shard), e)
            })?;
            batch.remove(Table::Blocks, block_key(job.shard, block.commit()));
        }
        job.lost.iter().for_each(|ordinal| edits.remove(*ordinal));
        dictionary::write(&*self.view.snapshot, job.shard, &mut edits, batch)?;
        for chunk in self.dirty.get(usize::from(job.shard)).into_iter().flatten() {
            batch.rows.push(members::row(job.shard, *chunk, &shard.members));
        }
        batch.put(Table::Meta, meta::shard_key(job.shard), meta::encode_shard(shard.next_ordinal));
        Ok(())
    }

    /// A page's records with the fold's blocks put in, and the ordinals that ended. Rows of sets go into `batch`.
    fn merge_page(
        &self,
        page: &Page,
        shard: &ShardView,
        job: &FoldJob,
        batch: &mut Batch,
    ) -> Result<(PageRecords, Vec<u32>), Unplaced> {
        let (lower, upper) = (page.lower.as_slice(), page.upper.as_deref());
        let span = Span { page: page.run.as_deref(), blocks: &shard.blocks, lower, upper, until: job.until };
        let dropped = &job.dropped.dropped;
        let limits = self.limits.set_rows();
        let (mut records, mut lost) = (PageRecords::default(), Vec::new());
        span.walk::<Unplaced>(|key, merged| {
            let (before, mut after) = match merged {
                Merged::Stored(body) if dropped.is_empty() => {
                    records.push(key, |out| out.extend_from_slice(body));
                    return Ok(true);
                }
                Merged::Stored(body) => {
                    let record = Record::decode(body)?;
                    (Some(merge::before(&record)), Some(record))
                }
                Merged::Changed { before, after } => (before, after),
            };
            if let Some(record) = &mut after {
                record.retain_spaces(|space| !dropped.contains(&space));
            }
            let snapshot = &*self.view.snapshot;
            set_rows::fold(snapshot, job.shard, (before.as_ref(), after.as_mut()), limits, batch)?;
            let before = before.map(|(ordinal, _)| ordinal);
            let Some(after) = after else {
                lost.extend(before);
                return Ok(true);
            };
            lost.extend(before.filter(|before| *before != after.ordinal));
            if after.is_empty() {
                lost.push(after.ordinal);
            } else {
                records.push(key, |out| after.encode(out));
            }
            Ok(true)
        })?;
        Ok((records, lost))
    }
}

fn row_bytes((_, key, value): &Row) -> u64 {
    (key.len() + value.as_ref().map_or(0, Vec::len)) as u64
}
