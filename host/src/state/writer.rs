//! The one writer of a state: takes a commit, makes it durable, publishes the view of it. Owned by the committer;
//! folds run on it between commits.
//!
//! Nothing is published before its fsync returned. After a failed write the writer refuses all further ones: only
//! opening the store again tells what it holds.

use super::block::{BlockReader, ShardBlock};
use super::digest::add_to;
use super::error::StoreError;
use super::fold::FoldJob;
use super::members::{self, ChunkKey};
use super::meta::{self, LastCommit};
use super::overlay::ShardView;
use super::page_starts::PageStarts;
use super::set_rows::RowLimits;
use super::store::{Batch, Row, Store, Table, Written};
use super::varint::Malformed;
use super::view::View;
use super::{CommitId, SHARDS};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Bounds of overlay, pages and folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of unfolded blocks from which a shard is folded.
    pub overlay_bytes: usize,
    /// Unfolded blocks from which a shard is folded.
    pub overlay_commits: usize,
    /// Size of pages that a split makes.
    pub page_bytes: usize,
    /// Size from which a page is split.
    pub page_bytes_max: usize,
    /// Pages that one step of a fold rewrites: a commit that comes meanwhile waits for it.
    pub fold_pages: usize,
    /// Bytes of pages of a shard that stand in memory.
    pub page_cache_bytes: usize,
    /// Entries of a counted set beyond which it gets rows of its own; it comes back below half of it.
    pub set_in_place_max: usize,
    /// Bytes from which such a row is split.
    pub set_row_bytes_max: usize,
}

impl Limits {
    pub(super) fn set_rows(&self) -> RowLimits {
        RowLimits { in_place_max: self.set_in_place_max, bytes_max: self.set_row_bytes_max }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            overlay_bytes: 1 << 20,
            overlay_commits: 64,
            page_bytes: 32 << 10,
            page_bytes_max: 64 << 10,
            fold_pages: 8,
            page_cache_bytes: 2 << 20,
            set_in_place_max: 64,
            set_row_bytes_max: 4 << 10,
        }
    }
}

/// How far a shard may run past its bounds before folding comes before input.
const MUST_FOLD_FACTOR: usize = 4;

/// One atomic step of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Greater than the last commit's; blocks are written under it.
    pub id: CommitId,
    /// Engine time, microseconds since 1970; never less than the last commit's.
    pub engine_time_us: i64,
    /// At most one block per shard.
    pub shards: Vec<ShardBlock>,
    /// Rows of the pipeline: positions, ledger, timers, outbox, quarantine, facts in `meta`.
    pub rows: Vec<Row>,
    /// Spaces that end with this commit: their cells are no longer read, their members and digests go at once. A key
    /// left without cells does not exist any more: if it returns, it is new and gets a new ordinal.
    pub drop_spaces: Vec<u32>,
}

/// The writer of a state.
pub struct StateWriter {
    pub(super) store: Arc<dyn Store>,
    pub(super) limits: Limits,
    pub(super) view: Arc<View>,
    /// Member chunks that differ from their stored rows, per shard.
    pub(super) dirty: Vec<BTreeSet<ChunkKey>>,
    pub(super) fold: Option<FoldJob>,
    pub(super) hold: Arc<AtomicBool>,
    written: Written,
    failed: bool,
}

impl StateWriter {
    /// Opens the state in `store` with the default limits and loads overlay and bitmaps.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`].
    pub fn open(store: Arc<dyn Store>) -> Result<(Self, Arc<View>), StoreError> {
        Self::open_with(store, Limits::default())
    }

    /// [`StateWriter::open`] with other limits.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`].
    pub fn open_with(store: Arc<dyn Store>, limits: Limits) -> Result<(Self, Arc<View>), StoreError> {
        let snapshot = store.snapshot()?;
        let last = match snapshot.get(Table::Meta, meta::LAST_COMMIT)? {
            Some(bytes) => LastCommit::decode(&bytes)
                .map_err(|e| StoreError::corrupt("the row of the last commit", e))?,
            None => LastCommit::default(),
        };
        let mut shards = vec![ShardView::default(); SHARDS];
        let mut dirty = vec![BTreeSet::new(); SHARDS];
        load(&*snapshot, Table::Meta, &mut |key, value| {
            let Some([shard]) = key.strip_prefix(meta::SHARD_PREFIX) else { return Ok(()) };
            of(&mut shards, *shard)?.next_ordinal = meta::decode_shard(value)?;
            Ok(())
        })?;
        load(&*snapshot, Table::Members, &mut |key, value| {
            let (shard, chunk, bitmap) = members::read_row(key, value)?;
            members::insert(&mut of(&mut shards, shard)?.members, chunk, bitmap);
            Ok(())
        })?;
        load(&*snapshot, Table::Blocks, &mut |key, value| {
            let (shard, commit) = parse_block_key(key).ok_or(Malformed("row key of a block"))?;
            let reader = BlockReader::open(value.to_vec())?;
            if reader.commit() != commit || commit > last.commit {
                return Err(Malformed("block of another commit"));
            }
            of(&mut shards, shard)?.push(reader, &last.dropped, of(&mut dirty, shard)?)
        })?;
        let shards = shards.into_iter().map(Arc::new).collect();
        let written = Written::default();
        let page_starts = Arc::new(PageStarts::new(SHARDS));
        let view = Arc::new(View { last: Arc::new(last), snapshot, shards, written, page_starts });
        let (view_of_last, hold) = (Arc::clone(&view), Arc::default());
        let writer =
            Self { store, limits, view: view_of_last, dirty, fold: None, hold, written, failed: false };
        Ok((writer, view))
    }

    /// While it is true, a step of a fold ends with the page that it is at: a commit waits for it.
    #[must_use]
    pub fn hold(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.hold)
    }

    /// The view of the last durable commit.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Writes `commit` whole, waits until it is durable and publishes its view.
    ///
    /// # Errors
    /// [`StoreError::BadCommit`] with nothing written; or what the store says: then nothing is published, and all
    /// further writes are refused with [`StoreError::Failed`] until the state is opened again.
    pub fn commit(&mut self, commit: Commit) -> Result<Arc<View>, StoreError> {
        self.refuse_if_failed()?;
        self.check(&commit)?;
        let mut last = LastCommit::clone(&self.view.last);
        (last.commit, last.engine_time_us) = (commit.id, commit.engine_time_us);
        last.dropped.extend(&commit.drop_spaces);
        for (space, part) in commit.shards.iter().flat_map(|block| &block.digests) {
            add_to(&mut last.digests, *space, *part);
        }
        last.digests.retain(|(space, _)| !last.dropped.contains(space));
        let mut shards = self.view.shards.clone();
        let mut batch = Batch { rows: commit.rows };
        if !commit.drop_spaces.is_empty() {
            self.drop_members(&commit.drop_spaces, &mut shards, &mut batch);
        }
        let mut dirty = Vec::with_capacity(commit.shards.len());
        for block in commit.shards {
            let (shard, mut touched) = (block.shard, BTreeSet::new());
            let refuse = |e: Malformed| bad(commit.id, format!("block of shard {shard}: {e}"));
            let reader = BlockReader::open(block.bytes.clone()).map_err(refuse)?;
            if reader.commit() != commit.id {
                return Err(bad(
                    commit.id,
                    format!("block of shard {shard} is of commit {}", reader.commit()),
                ));
            }
            let view = shards
                .get_mut(usize::from(shard))
                .ok_or_else(|| bad(commit.id, format!("no shard {shard}")))?;
            Arc::make_mut(view).push(reader, &last.dropped, &mut touched).map_err(refuse)?;
            batch.put(Table::Blocks, block_key(shard, commit.id), block.bytes);
            dirty.push((shard, touched));
        }
        batch.put(Table::Meta, meta::LAST_COMMIT, last.encode());
        self.write(batch, true)?;
        for (shard, mut touched) in dirty {
            if let Some(chunks) = self.dirty.get_mut(usize::from(shard)) {
                chunks.append(&mut touched);
            }
        }
        self.publish(Arc::new(last), shards)
    }

    fn check(&self, commit: &Commit) -> Result<(), StoreError> {
        let last = &self.view.last;
        let refuse = |reason: String| Err(bad(commit.id, reason));
        if commit.id <= last.commit {
            return refuse(format!("the last commit is {}", last.commit));
        }
        if last.commit > 0 && commit.engine_time_us < last.engine_time_us {
            return refuse("engine time goes back".to_owned());
        }
        let mut seen = [false; SHARDS];
        for block in &commit.shards {
            match seen.get_mut(usize::from(block.shard)) {
                Some(seen) if !*seen => *seen = true,
                _ => return refuse(format!("shard {} twice or out of range", block.shard)),
            }
        }
        let own =
            |(table, key, _): &&Row| table.is_own() || (*table == Table::Meta && key.first() == Some(&0));
        if let Some((table, ..)) = commit.rows.iter().find(own) {
            return refuse(format!("a row of table `{}` that only the state writes", table.name()));
        }
        Ok(())
    }

    /// Takes the members of dropped spaces out, in memory and as rows; a row may outlive its members until a fold.
    fn drop_members(&self, spaces: &[u32], shards: &mut [Arc<ShardView>], batch: &mut Batch) {
        for ((number, shard), dirty) in (0u8..).zip(shards.iter_mut()).zip(&self.dirty) {
            let is_dropped = |(key, _): &ChunkKey| spaces.contains(&key.slot.space);
            let chunks: BTreeSet<ChunkKey> =
                members::chunks(&shard.members).chain(dirty.iter().copied()).filter(is_dropped).collect();
            if chunks.is_empty() {
                continue;
            }
            for chunk in chunks {
                batch.remove(Table::Members, members::row_key(number, chunk));
            }
            Arc::make_mut(shard).members.retain(|key, _| !spaces.contains(&key.slot.space));
        }
    }

    pub(super) fn refuse_if_failed(&self) -> Result<(), StoreError> {
        if self.failed { Err(StoreError::Failed) } else { Ok(()) }
    }

    pub(super) fn write(&mut self, batch: Batch, durable: bool) -> Result<(), StoreError> {
        self.written.fsyncs += u64::from(durable);
        self.written.bytes += batch.bytes();
        let done = self.store.commit(batch, durable);
        self.failed |= done.is_err();
        done
    }

    /// Publishes the view of what has just been written.
    pub(super) fn publish(
        &mut self,
        last: Arc<LastCommit>,
        shards: Vec<Arc<ShardView>>,
    ) -> Result<Arc<View>, StoreError> {
        let snapshot = self.store.snapshot().inspect_err(|_| self.failed = true)?;
        let (written, page_starts) = (self.written, self.view.page_starts.clone());
        self.view = Arc::new(View { last, snapshot, shards, written, page_starts });
        Ok(Arc::clone(&self.view))
    }

    /// A shard is so far past its bounds that folding comes before input.
    #[must_use]
    pub fn must_fold(&self) -> bool {
        let bytes = self.limits.overlay_bytes.saturating_mul(MUST_FOLD_FACTOR);
        let commits = self.limits.overlay_commits.saturating_mul(MUST_FOLD_FACTOR);
        self.view.shards.iter().any(|shard| shard.bytes >= bytes || shard.blocks.len() >= commits)
    }

    /// Bytes of all unfolded blocks.
    #[must_use]
    pub fn overlay_bytes(&self) -> usize {
        self.view.shards.iter().map(|shard| shard.bytes).sum()
    }
}

fn bad(commit: CommitId, reason: String) -> StoreError {
    StoreError::BadCommit { commit, reason }
}

fn of<T>(shards: &mut [T], shard: u8) -> Result<&mut T, Malformed> {
    shards.get_mut(usize::from(shard)).ok_or(Malformed("shard out of range"))
}

/// Takes a row's key and value.
type TakeRow<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), Malformed>;

/// Takes all rows of a table in.
fn load(snapshot: &dyn super::Snapshot, table: Table, take: TakeRow<'_>) -> Result<(), StoreError> {
    let (from, to): (&[u8], Option<&[u8]>) = match table {
        Table::Meta => (&[0], Some(&[1])),
        _ => (&[], None),
    };
    let mut result = Ok(());
    snapshot.scan(table, from, to, &mut |key, value| {
        result = take(key, value).map_err(|e| {
            StoreError::corrupt(format!("row {} of table {}", super::page::hex(key), table.name()), e)
        });
        result.is_ok()
    })?;
    result
}

/// Row key of a block.
pub(super) fn block_key(shard: u8, commit: CommitId) -> Vec<u8> {
    let mut key = vec![shard];
    key.extend_from_slice(&commit.to_be_bytes());
    key
}

fn parse_block_key(key: &[u8]) -> Option<(u8, CommitId)> {
    let (&shard, commit) = key.split_first()?;
    let commit = commit.first_chunk::<8>().filter(|_| commit.len() == 8)?;
    Some((shard, CommitId::from_be_bytes(*commit)))
}
