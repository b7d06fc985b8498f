//! The overlay of one shard: its durable blocks that no fold has dropped yet, and its members as of the last of them.
//! Immutable once published; the next commit's overlay shares all that it did not change.

use super::CommitId;
use super::block::{BlockReader, Life};
use super::cell::Change;
use super::dictionary::Edits;
use super::members::{ChunkKey, MarkChanges, ShardMembers};
use super::run::Run;
use super::varint::Malformed;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A durable block with what is looked up in it by ordinal.
#[derive(Debug)]
pub(super) struct OverlayBlock {
    reader: BlockReader,
    /// Ordinals of new keys, ascending, with the restart of the run under which the key stands.
    new: Vec<(u32, u32)>,
    /// Ordinals of keys that went, ascending.
    gone: Vec<u32>,
}

impl OverlayBlock {
    pub(super) fn run(&self) -> &Run {
        self.reader.run()
    }

    pub(super) fn reader(&self) -> &BlockReader {
        &self.reader
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
            let entry = super::block::Entry::decode(cursor.body())?;
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
        let mut at = 0u32;
        let mut entries = reader.entries();
        while let Some((key, entry)) = entries.advance()? {
            if at > 0 && key <= last_key.as_slice() {
                return Err(Malformed("keys are not in ascending order"));
            }
            last_key.clear();
            last_key.extend_from_slice(key);
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
        self.blocks.push(Arc::new(OverlayBlock { reader, new, gone }));
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
