//! What readers see: the state as of one durable commit, immutable and shared. A reader holds one view for as long as
//! its answer takes; later commits and folds do not change it. (Old versions stay on disk while a view lives, so views
//! are held for answers, not for ever.)

use super::cell::{Record, Slot};
use super::error::{StoreError, Unplaced};
use super::members::{MarkKey, Members};
use super::merge::{Merged, Span};
use super::meta::LastCommit;
use super::overlay::ShardView;
use super::page::{Page, hex};
use super::page_starts::PageStarts;
use super::set::CountedSet;
use super::store::{KeyValue, Snapshot, Table, Visit, Written};
use super::varint::Malformed;
use super::{CommitId, dictionary, set_rows};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The state as of one commit.
pub struct View {
    pub(super) last: Arc<LastCommit>,
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) shards: Vec<Arc<ShardView>>,
    pub(super) written: Written,
    pub(super) page_starts: Arc<PageStarts>,
}

/// How much of sets in rows a reader wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Their summary, where it is up to date.
    Brief,
    /// Their entries.
    Whole,
}

/// A state key and its record.
pub type KeyRecord = (Box<[u8]>, Record);

/// All records of a range of keys: what a shard owner takes into its cache at once. A key in the range that is not
/// listed does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRead {
    /// First key of the range.
    pub lower: Box<[u8]>,
    /// First key no longer in the range; none = up to the shard's end.
    pub upper: Option<Box<[u8]>>,
    /// In key order.
    pub records: Vec<KeyRecord>,
}

impl View {
    /// The commit.
    #[must_use]
    pub fn commit(&self) -> CommitId {
        self.last.commit
    }

    /// Engine time of the commit, microseconds since 1970.
    #[must_use]
    pub fn engine_time(&self) -> i64 {
        self.last.engine_time_us
    }

    /// Digest of `space`; 0 where nothing was ever added.
    #[must_use]
    pub fn digest(&self, space: u32) -> u64 {
        let found = self.last.digests.binary_search_by_key(&space, |(s, _)| *s).ok();
        found.and_then(|at| self.last.digests.get(at)).map_or(0, |(_, digest)| *digest)
    }

    /// What its writer had handed to the store when it made this view.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written
    }

    fn shard(&self, shard: usize) -> Result<(u8, &ShardView), StoreError> {
        let found = u8::try_from(shard).ok().zip(self.shards.get(shard));
        let (number, shard_view) = found.ok_or_else(|| StoreError::Corrupt {
            place: format!("shard {shard}"),
            reason: format!("there are {} shards", self.shards.len()),
        })?;
        Ok((number, shard_view))
    }

    /// The record without the cells of dropped spaces; none where nothing is left.
    fn live(&self, shard: u8, record: Option<Record>, depth: Depth) -> Result<Option<Record>, StoreError> {
        let Some(mut record) = record else { return Ok(None) };
        if !self.last.dropped.is_empty() {
            record.retain_spaces(|space| !self.last.dropped.contains(&space));
        }
        set_rows::load(&*self.snapshot, shard, &mut record, depth == Depth::Whole)?;
        Ok((!record.is_empty()).then_some(record))
    }

    /// The record of a state key, with the entries of all its sets.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`].
    pub fn get(&self, shard: usize, key: &[u8]) -> Result<Option<Record>, StoreError> {
        self.get_to(shard, key, Depth::Whole)
    }

    /// The record of a state key; of a set in rows it may have the summary alone, which is enough for readings.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`].
    pub fn get_brief(&self, shard: usize, key: &[u8]) -> Result<Option<Record>, StoreError> {
        self.get_to(shard, key, Depth::Brief)
    }

    fn get_to(&self, shard: usize, key: &[u8], depth: Depth) -> Result<Option<Record>, StoreError> {
        let (number, overlay) = self.shard(shard)?;
        let run = match overlay.pages.run(key) {
            Some(run) => Some(run.clone()),
            None => self.page_of(number, key)?.run,
        };
        let folded = run.as_ref().map_or(0, |run| run.stamp());
        let corrupt = |e: Malformed| StoreError::corrupt(format!("key {} in shard {shard}", hex(key)), e);
        let read = || -> Result<Option<Record>, Malformed> {
            let stored = run.as_ref().map(|run| run.find(key)).transpose()?.flatten();
            let mut record = stored.map(Record::decode).transpose()?;
            let hash = xxh3_64(key);
            for block in overlay.blocks.iter().filter(|block| block.commit() > folded) {
                if let Some(entry) = block.find(key, hash)? {
                    entry.apply(&mut record)?;
                }
            }
            Ok(record)
        };
        self.live(number, read().map_err(corrupt)?, depth)
    }

    /// The page that covers `key`, whole.
    pub(super) fn page(&self, shard: u8, key: &[u8]) -> Result<Page, StoreError> {
        match self.shards.get(usize::from(shard)).and_then(|of| of.pages.page(key)) {
            Some(page) => Ok(page),
            None => Page::covering(&*self.snapshot, shard, key)?.with_upper(&*self.snapshot, shard),
        }
    }

    /// The page that covers `key`, from the store, without `upper`.
    fn page_of(&self, shard: u8, key: &[u8]) -> Result<Page, StoreError> {
        if let Some(lower) = self.page_starts.before(shard, key)
            && let Some(page) = Page::beginning(&*self.snapshot, shard, (&lower, key))?
        {
            return Ok(page);
        }
        let page = Page::covering(&*self.snapshot, shard, key)?;
        if page.run.is_some() {
            self.page_starts.note(shard, &page.lower);
        }
        Ok(page)
    }

    /// Brings in the entries of those sets of `record` that lie in rows and have changed since it was read. Nothing
    /// but those changes may have happened to these sets between the view that `record` was read from and this one.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`].
    pub fn load_sets(&self, shard: usize, key: &[u8], record: &mut Record) -> Result<(), StoreError> {
        let stored = self.get(shard, key)?.unwrap_or_default();
        let behind: Vec<Slot> =
            record.sets().filter(|(_, set)| set.is_behind()).map(|(slot, _)| slot).collect();
        for slot in behind {
            let missing = || StoreError::Corrupt {
                place: format!("set {}.{} of key {} in shard {shard}", slot.space, slot.index, hex(key)),
                reason: "it is not there any more".to_owned(),
            };
            let mut whole = stored.set(slot).cloned().ok_or_else(missing)?;
            record
                .set(slot)
                .into_iter()
                .flat_map(CountedSet::behind)
                .for_each(|(value, n)| whole.add(value, n));
            record.replace_set(slot, whole);
        }
        Ok(())
    }

    /// All records under the page that covers `key`, and the range that it covers. Of sets in rows there may be the
    /// summary alone.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`].
    pub fn page_around(&self, shard: usize, key: &[u8]) -> Result<PageRead, StoreError> {
        let (number, _) = self.shard(shard)?;
        let page = self.page(number, key)?;
        let records = self.read_span(shard, &page, &page.lower, (usize::MAX, Depth::Brief))?;
        Ok(PageRead { lower: page.lower.into(), upper: page.upper.map(Into::into), records })
    }

    fn read_span(
        &self,
        shard: usize,
        page: &Page,
        lower: &[u8],
        (limit, depth): (usize, Depth),
    ) -> Result<Vec<KeyRecord>, StoreError> {
        let (number, overlay) = self.shard(shard)?;
        let (page, upper) = (page.run.as_deref(), page.upper.as_deref());
        let span = Span { page, blocks: &overlay.blocks, lower, upper, until: CommitId::MAX };
        let mut records = Vec::new();
        let walked = span.walk::<Unplaced>(|key, merged| {
            let record = match merged {
                Merged::Stored(body) => Some(Record::decode(body)?),
                Merged::Changed { after, .. } => after,
            };
            if let Some(record) = self.live(number, record, depth)? {
                records.push((key.into(), record));
            }
            Ok(records.len() < limit)
        });
        walked.map_err(|e| e.at(format!("keys from {} in shard {shard}", hex(lower))))?;
        Ok(records)
    }

    /// Up to `limit` records in key order, behind key `after` or from the start, with the entries of all their sets.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`].
    pub fn scan(
        &self,
        shard: usize,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        self.scan_to(shard, after, limit, Depth::Whole)
    }

    /// Like [`View::scan`]; of sets in rows there may be the summary alone, which is enough for readings.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`].
    pub fn scan_brief(
        &self,
        shard: usize,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        self.scan_to(shard, after, limit, Depth::Brief)
    }

    fn scan_to(
        &self,
        shard: usize,
        after: Option<&[u8]>,
        limit: usize,
        depth: Depth,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        let (number, _) = self.shard(shard)?;
        let mut records = Vec::new();
        // The least key greater than `after` is `after` with a zero byte behind.
        let mut from = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
        while records.len() < limit {
            let page = self.page(number, &from)?;
            let left = limit - records.len();
            records.append(&mut self.read_span(shard, &page, &from, (left, depth))?);
            match page.upper {
                Some(upper) => from = upper,
                None => break,
            }
        }
        Ok(records)
    }

    /// The ordinal that the next new key of `shard` gets.
    #[must_use]
    pub fn next_ordinal(&self, shard: usize) -> u32 {
        self.shards.get(shard).map_or(0, |shard| shard.next_ordinal)
    }

    /// Who in `shard` carries `value` of the label in (`space`, `index`); none = nobody.
    #[must_use]
    pub fn members(&self, shard: usize, space: u32, index: u16, value: u16) -> Option<Arc<Members>> {
        let key = MarkKey { slot: Slot { space, index }, value };
        self.shards.get(shard)?.members.get(&key).cloned()
    }

    /// How many keys of all shards carry the label value; reads no keys.
    #[must_use]
    pub fn count(&self, space: u32, index: u16, value: u16) -> u64 {
        let key = MarkKey { slot: Slot { space, index }, value };
        self.shards.iter().filter_map(|shard| shard.members.get(&key)).map(|members| members.len()).sum()
    }

    /// The state key with `ordinal` in `shard`.
    ///
    /// # Errors
    /// What the store says, or [`StoreError::Corrupt`].
    pub fn key_of(&self, shard: usize, ordinal: u32) -> Result<Option<Box<[u8]>>, StoreError> {
        let (number, overlay) = self.shard(shard)?;
        let found = overlay.key_of(ordinal);
        let found = found
            .map_err(|e| StoreError::corrupt(format!("blocks of shard {shard} at ordinal {ordinal}"), e))?;
        match found {
            Some(key) => Ok(key),
            None => dictionary::key_of(&*self.snapshot, number, ordinal),
        }
    }

    /// A row that the pipeline stored.
    ///
    /// # Errors
    /// What the store says.
    pub fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.snapshot.get(table, key)
    }

    /// The row with the greatest key that is <= `key`.
    ///
    /// # Errors
    /// What the store says.
    pub fn last_row(&self, table: Table, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.snapshot.last_at_or_before(table, key)
    }

    /// Visits rows with `from` <= key < `to` in key order until `visit` answers false.
    ///
    /// # Errors
    /// What the store says.
    pub fn rows(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        self.snapshot.scan(table, from, to, visit)
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("commit", &self.last.commit).finish_non_exhaustive()
    }
}
