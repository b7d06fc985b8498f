//! The overlay of one shard: its durable blocks that no fold has dropped yet, and its members as of the last of them.
//! Immutable once published; the next commit's overlay shares all that it did not change.

use super::CommitId;
use super::block::{BlockReader, Entry, Life};
use super::cell::Change;
use super::dictionary::Edits;
use super::members::{ChunkKey, MarkChanges, ShardMembers};
use super::page_cache::PageCache;
use super::run::Run;
use super::varint::Malformed;
use std::collections::BTreeSet;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A durable block with what is looked up in it by ordinal.
#[derive(Debug)]
pub(super) struct OverlayBlock {
    reader: BlockReader,
    /// Ordinals of new keys, ascending, with the restart of the run under which the key stands.
    new: Vec<(u32, u32)>,
    /// Ordinals of keys that went, ascending.
    gone: Vec<u32>,
    filter: Filter,
}

/// Which keys a block may have, so that most blocks are passed over at the cost of one word: a Bloom filter whose bits of a key lie
/// in one word (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters), of 12 bits a key and 3 bits set.
#[derive(Debug)]
struct Filter(Vec<u64>);

impl Filter {
    fn of(keys: usize) -> Self {
        Self(vec![0; (keys * 12).div_ceil(64).max(1)])
    }

    fn place(&self, hash: u64) -> (usize, u64) {
        let word = ((hash >> 32) * self.0.len() as u64) >> 32;
        let bit = |shift: u32| 1 << ((hash >> shift) & 63);
        (usize::try_from(word).unwrap_or(0), bit(0) | bit(6) | bit(12))
    }

    fn enter(&mut self, hash: u64) {
        let (word, bits) = self.place(hash);
        self.0.get_mut(word).into_iter().for_each(|word| *word |= bits);
    }

    fn may_have(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        self.0.get(word).is_some_and(|word| word & bits == bits)
    }
}

impl OverlayBlock {
    pub(super) fn run(&self) -> &Run {
        self.reader.run()
    }

    /// The changes of `key` whose xxh3-64 is `hash`.
    pub(super) fn find(&self, key: &[u8], hash: u64) -> Result<Option<Entry<'_>>, Malformed> {
        if self.filter.may_have(hash) { self.reader.find(key) } else { Ok(None) }
    }

    pub(super) fn commit(&self) -> CommitId {
        self.reader.commit()
    }

    /// What became of `ordinal` here: none = nothing, `Some(None)` = gone, else its key.
    fn key_of(&self, ordinal: u32) -> Result<Option<Option<Box<[u8]>>>, Malformed> {
        if self.gone.binary_search(&ordinal).is_ok() {
            return Ok(Some(None));
        }
        let Ok(at) = self.new.binary_search_by_key(&ordinal, |(o, _)| *o) else { return Ok(None) };
        let restart = self.new.get(at).map_or(0, |(_, restart)| *restart);
        let mut cursor = self.run().cursor_at_restart(restart)?;
        while cursor.advance()? {
            let entry = Entry::decode(cursor.body())?;
            if entry.ordinal == ordinal && entry.life == Life::New {
                return Ok(Some(Some(cursor.key().into())));
            }
        }
        Err(Malformed("a new key is not where it was"))
    }

    /// Enters what became of ordinals here.
    pub(super) fn edit_dictionary(&self, edits: &mut Edits) -> Result<(), Malformed> {
        if !self.new.is_empty() {
            let mut entries = self.reader.entries();
            while let Some((key, entry)) = entries.advance()? {
                if entry.life == Life::New {
                    edits.enter(entry.ordinal, key);
                }
            }
        }
        self.gone.iter().for_each(|ordinal| edits.remove(*ordinal));
        Ok(())
    }
}

/// One shard as of one commit, above its pages.
#[derive(Clone, Debug, Default)]
pub(super) struct ShardView {
    /// Pages that stand in memory.
    pub(super) pages: Arc<PageCache>,
    /// Ascending commits.
    pub(super) blocks: Vec<Arc<OverlayBlock>>,
    /// Bytes of the blocks.
    pub(super) bytes: usize,
    /// Who carries which label value.
    pub(super) members: ShardMembers,
    /// The ordinal that the next new key gets.
    pub(super) next_ordinal: u32,
}

impl ShardView {
    /// Puts a block behind the others. Member chunks that change go into `dirty`; marks of `dropped` spaces are
    /// passed over.
    pub(super) fn push(
        &mut self,
        reader: BlockReader,
        dropped: &BTreeSet<u32>,
        dirty: &mut BTreeSet<ChunkKey>,
    ) -> Result<(), Malformed> {
        let (mut new, mut gone, mut marks) = (Vec::new(), Vec::new(), MarkChanges::default());
        let mut last_key: Vec<u8> = Vec::new();
        let mut filter = Filter::of((reader.keys() as usize).min(reader.bytes()));
        let mut at = 0u32;
        let mut entries = reader.entries();
        while let Some((key, entry)) = entries.advance()? {
            if at > 0 && key <= last_key.as_slice() {
                return Err(Malformed("keys are not in ascending order"));
            }
            last_key.clear();
            last_key.extend_from_slice(key);
            filter.enter(xxh3_64(key));
            match entry.life {
                Life::New => {
                    new.push((entry.ordinal, at / super::run::RESTART_EVERY));
                    self.next_ordinal = self.next_ordinal.max(entry.ordinal.saturating_add(1));
                }
                Life::Gone => gone.push(entry.ordinal),
                Life::Kept => {}
            }
            if entry.has_marks {
                entry.changes::<Malformed>(|change| {
                    if let Change::Mark { slot, from, to } = *change
                        && !dropped.contains(&slot.space)
                    {
                        marks.mark(slot, entry.ordinal, from, to);
                    }
                    Ok(())
                })?;
            }
            at += 1;
        }
        if at != reader.keys() {
            return Err(Malformed("number of keys differs"));
        }
        new.sort_unstable();
        gone.sort_unstable();
        marks.apply(&mut self.members, dirty);
        self.bytes += reader.bytes();
        self.blocks.push(Arc::new(OverlayBlock { reader, new, gone, filter }));
        Ok(())
    }

    /// Forgets the blocks of commits <= `until`.
    pub(super) fn drop_blocks(&mut self, until: CommitId) {
        self.blocks.retain(|block| block.commit() > until);
        self.bytes = self.blocks.iter().map(|block| block.reader.bytes()).sum();
    }

    /// What became of `ordinal` in the overlay: none = nothing, `Some(None)` = gone, else its key.
    pub(super) fn key_of(&self, ordinal: u32) -> Result<Option<Option<Box<[u8]>>>, Malformed> {
        for block in self.blocks.iter().rev() {
            if let Some(found) = block.key_of(ordinal)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_what_was_entered_and_little_else() {
        let hash = |n: u64| xxh3_64(&n.to_be_bytes());
        for keys in [1usize, 7, 1000] {
            let mut filter = Filter::of(keys);
            (0..keys as u64).for_each(|n| filter.enter(hash(n)));
            assert!((0..keys as u64).all(|n| filter.may_have(hash(n))));
            let wrong = (1_000_000..1_010_000).filter(|n| filter.may_have(hash(*n))).count();
            assert!(wrong < 1_000, "{wrong} of 10,000 for {keys} keys");
        }
        assert!(!Filter::of(0).may_have(hash(1)));
    }
}
