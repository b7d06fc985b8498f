//! Members: which keys carry a label value, as bitmaps over key ordinals, one per (space, index, value) and shard.
//!
//! A bitmap is cut into chunks of 65,536 ordinals behind their own pointers, so that the next view copies only what a
//! commit changed, and a fold writes only that. A mark sets membership absolutely, so replaying the marks of a block
//! onto chunks that already hold them, in order, changes nothing: chunk rows need no folded commit.

use super::cell::Slot;
use super::store::Table;
use super::varint::Malformed;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;

/// Which members: a label's slot and one of its values (not 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MarkKey {
    /// The label's slot.
    pub(super) slot: Slot,
    /// The value.
    pub(super) value: u16,
}

/// The ordinals of one shard that carry one label value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    chunks: BTreeMap<u16, Arc<RoaringBitmap>>,
}

fn split(ordinal: u32) -> (u16, u32) {
    ((ordinal >> 16) as u16, ordinal & 0xffff)
}

impl Members {
    /// These ordinals.
    #[cfg(test)]
    pub(crate) fn of(ordinals: &[u32]) -> Self {
        let mut chunks: BTreeMap<u16, Arc<RoaringBitmap>> = BTreeMap::new();
        for (high, low) in ordinals.iter().map(|ordinal| split(*ordinal)) {
            Arc::make_mut(chunks.entry(high).or_default()).insert(low);
        }
        Self { chunks }
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.chunks.values().map(|chunk| chunk.len()).sum()
    }

    /// Nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The key with this ordinal is a member.
    #[must_use]
    pub fn contains(&self, ordinal: u32) -> bool {
        let (chunk, low) = split(ordinal);
        self.chunks.get(&chunk).is_some_and(|chunk| chunk.contains(low))
    }

    /// All ordinals, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.chunks
            .iter()
            .flat_map(|(high, chunk)| chunk.iter().map(move |low| (u32::from(*high) << 16) | low))
    }

    /// The ordinals from `high` × 65,536 on, less that, up to 65,535.
    #[must_use]
    pub fn chunk(&self, high: u16) -> Option<&RoaringBitmap> {
        self.chunks.get(&high).map(|chunk| &**chunk)
    }

    /// Which chunks there are, ascending.
    pub fn highs(&self) -> impl Iterator<Item = u16> {
        self.chunks.keys().copied()
    }
}

/// All members of one shard.
pub(super) type ShardMembers = BTreeMap<MarkKey, Arc<Members>>;

/// A chunk of a bitmap: which members, and the upper half of the ordinals.
pub(super) type ChunkKey = (MarkKey, u16);

/// Marks of one block, gathered per label value.
#[derive(Debug, Default)]
pub(super) struct MarkChanges {
    changes: Vec<(MarkKey, Vec<(u32, bool)>)>,
}

impl MarkChanges {
    /// The key with `ordinal` went from one value to another; 0 = none.
    pub(super) fn mark(&mut self, slot: Slot, ordinal: u32, from: u16, to: u16) {
        if from != 0 && from != to {
            self.push(MarkKey { slot, value: from }, ordinal, false);
        }
        if to != 0 {
            self.push(MarkKey { slot, value: to }, ordinal, true);
        }
    }

    fn push(&mut self, key: MarkKey, ordinal: u32, member: bool) {
        // A shard has few label values at a time, so a list is searched faster than a tree.
        match self.changes.iter_mut().find(|(k, _)| *k == key) {
            Some((_, ordinals)) => ordinals.push((ordinal, member)),
            None => self.changes.push((key, vec![(ordinal, member)])),
        }
    }

    /// The members after these changes; chunks that changed go into `dirty`.
    pub(super) fn apply(self, members: &mut ShardMembers, dirty: &mut BTreeSet<ChunkKey>) {
        for (key, mut ordinals) in self.changes {
            ordinals.sort_by_key(|(ordinal, _)| *ordinal); // stable: the last change of an ordinal stays last
            let set = Arc::make_mut(members.entry(key).or_default());
            for group in ordinals.chunk_by(|a, b| split(a.0).0 == split(b.0).0) {
                let Some((first, _)) = group.first() else { continue };
                let high = split(*first).0;
                let chunk = Arc::make_mut(set.chunks.entry(high).or_default());
                for (ordinal, member) in group {
                    let low = split(*ordinal).1;
                    if *member {
                        chunk.insert(low)
                    } else {
                        chunk.remove(low)
                    };
                }
                if chunk.is_empty() {
                    set.chunks.remove(&high);
                }
                dirty.insert((key, high));
            }
            if set.is_empty() {
                members.remove(&key);
            }
        }
    }
}

/// Key of a chunk's row.
pub(super) fn row_key(shard: u8, (key, high): ChunkKey) -> Vec<u8> {
    let mut out = vec![shard];
    out.extend_from_slice(&key.slot.space.to_be_bytes());
    out.extend_from_slice(&key.slot.index.to_be_bytes());
    out.extend_from_slice(&key.value.to_be_bytes());
    out.extend_from_slice(&high.to_be_bytes());
    out
}

fn parse_row_key(row: &[u8]) -> Option<(u8, ChunkKey)> {
    let (&shard, rest) = row.split_first()?;
    let (space, rest) = rest.split_first_chunk::<4>()?;
    let (index, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_first_chunk::<2>()?;
    let high = rest.first_chunk::<2>().filter(|_| rest.len() == 2)?;
    let slot = Slot { space: u32::from_be_bytes(*space), index: u16::from_be_bytes(*index) };
    Some((shard, (MarkKey { slot, value: u16::from_be_bytes(*value) }, u16::from_be_bytes(*high))))
}

/// The row that a chunk is stored in: its new value, or none where the chunk is empty.
pub(super) fn row(shard: u8, chunk: ChunkKey, members: &ShardMembers) -> (Table, Vec<u8>, Option<Vec<u8>>) {
    let bitmap = members.get(&chunk.0).and_then(|set| set.chunks.get(&chunk.1));
    let value = bitmap.map(|bitmap| {
        let mut out = vec![VERSION];
        // Writing to a vector cannot fail; if it did, the checksum of the short bytes would not open as a bitmap.
        let _ = bitmap.serialize_into(&mut out);
        let sum = xxh3_64(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    });
    (Table::Members, row_key(shard, chunk), value)
}

/// Takes a stored chunk in; answers its shard and members key.
pub(super) fn read_row(row: &[u8], value: &[u8]) -> Result<(u8, ChunkKey, RoaringBitmap), Malformed> {
    let (shard, chunk) = parse_row_key(row).ok_or(Malformed("row key of members"))?;
    let (content, sum) = value.split_last_chunk::<8>().ok_or(Malformed("cut off"))?;
    if xxh3_64(content) != u64::from_le_bytes(*sum) {
        return Err(Malformed("checksum differs"));
    }
    let (version, bitmap) = content.split_first().ok_or(Malformed("cut off"))?;
    if *version != VERSION {
        return Err(Malformed("written by a newer version of retag"));
    }
    let bitmap = RoaringBitmap::deserialize_from(bitmap).map_err(|_| Malformed("not a bitmap"))?;
    if bitmap.max().is_some_and(|max| max > 0xffff) {
        return Err(Malformed("ordinal outside its chunk"));
    }
    Ok((shard, chunk, bitmap))
}

/// Puts a stored chunk among a shard's members.
pub(super) fn insert(members: &mut ShardMembers, (key, high): ChunkKey, bitmap: RoaringBitmap) {
    if !bitmap.is_empty() {
        Arc::make_mut(members.entry(key).or_default()).chunks.insert(high, Arc::new(bitmap));
    }
}

/// All chunks of a shard.
pub(super) fn chunks(members: &ShardMembers) -> impl Iterator<Item = ChunkKey> {
    members.iter().flat_map(|(key, set)| set.chunks.keys().map(|high| (*key, *high)))
}
