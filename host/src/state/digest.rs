//! The linear digest of a space: Σ h(key, slot, value) · δ mod 2^64 over its sums and counted sets. Each commit adds
//! the part of its changes, and at any time it can be recomputed from the records; a difference means that a change was
//! lost or doubled on the way through blocks, folds and restarts. Marks and registers are last writes, not sums, and
//! take no part.

use super::cell::{Cell, Change, Record, Slot};
use super::set::CountedSet;
use super::varint::low_u64;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Hash of a state key, the first step of h; computed once per key.
pub(super) fn key_part(key: &[u8]) -> u64 {
    xxh3_64(key)
}

fn slot_part(key: u64, slot: Slot) -> u64 {
    let slot = (u64::from(slot.space) << 16) | u64::from(slot.index);
    let mixed = u128::from(key ^ slot.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * 0xd6e8_feb8_6659_fd93_u128;
    (low_u64(mixed >> 64) ^ low_u64(mixed)) | 1 // odd, so that no δ is lost
}

fn sum_part(key: u64, slot: Slot, delta: i128) -> u64 {
    slot_part(key, slot).wrapping_mul(low_u64(delta.cast_unsigned()))
}

fn count_part(key: u64, slot: Slot, value: &[u8], n: i64) -> u64 {
    (xxh3_64_with_seed(value, slot_part(key, slot)) | 1).wrapping_mul(n.cast_unsigned())
}

/// What `change` of the key with this [`key_part`] adds to its space's digest.
pub(super) fn change_part(key: u64, change: &Change<'_>) -> u64 {
    match *change {
        Change::Add(slot, n) => sum_part(key, slot, n),
        Change::Count(slot, value, n) => count_part(key, slot, value, n),
        // What the entries were is not in the change: see `set_part`.
        Change::Overflow(_) | Change::Mark { .. } | Change::Put(..) => 0,
    }
}

/// What all entries of a set have added to its space's digest.
pub(super) fn set_part(key: u64, slot: Slot, set: &CountedSet) -> u64 {
    set.iter().fold(0, |sum, (value, n)| sum.wrapping_add(count_part(key, slot, value, n)))
}

/// Adds `part` to the digest of `space` in a sorted list.
pub(super) fn add_to(digests: &mut Vec<(u32, u64)>, space: u32, part: u64) {
    match digests.binary_search_by_key(&space, |(s, _)| *s) {
        Ok(at) => {
            if let Some((_, digest)) = digests.get_mut(at) {
                *digest = digest.wrapping_add(part);
            }
        }
        Err(at) => digests.insert(at, (space, part)),
    }
}

/// Digest of one key's record, per space in ascending order; the digest of a state is the sum over its keys. The
/// record must be whole: of a set in rows it would know nothing.
#[must_use]
pub fn digest_of(key: &[u8], record: &Record) -> Vec<(u32, u64)> {
    let key = key_part(key);
    let mut digests = Vec::new();
    for (slot, cell) in record.cells() {
        match cell {
            Cell::Sum(sum) => add_to(&mut digests, slot.space, sum_part(key, slot, sum)),
            Cell::Set(set) => add_to(&mut digests, slot.space, set_part(key, slot, set)),
            Cell::Mark(_) | Cell::Register(_) => {}
        }
    }
    digests
}
