//! Keys: the hash that spreads them over shards and their bytes inside a shard. Fixed for ever, since stored states
//! depend on both: xxh3-64 with seed 0 of the entity's name, 0x00 and the key bytes; tag = hash >> 54 (1,024 tags),
//! shard = tag / 16 (64 shards).

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Number of shards of a state.
pub const SHARDS: usize = 64;

/// Longest key in bytes, without the entity number in front.
pub const KEY_BYTES_MAX: usize = 255;

/// Bytes hashed on the stack; longer inputs go through the streaming hasher.
const STACK_BYTES: usize = 96;

/// Hash of `key` of `entity`.
#[must_use]
#[inline]
pub fn key_hash(entity: &str, key: &[u8]) -> u64 {
    match (<[u8; 8]>::try_from(key), entity.len()) {
        (Ok(key), 0..=7) => number_hash(entity.as_bytes(), u64::from_le_bytes(key)),
        _ => any_hash(entity, key),
    }
}

/// The same for a key of 8 bytes behind a name of at most 7, without a way through memory, which the processor would wait
/// for: xxh3-64 of 9 to 16 bytes is a formula of the first eight of them and the last eight (the hash's specification,
/// `XXH3_len_9to16_64b`, with seed 0 and the default secret).
#[inline]
#[allow(clippy::cast_possible_truncation)] // a short name's length, and the halves of a product
fn number_hash(name: &[u8], key: u64) -> u64 {
    const FLIP_FIRST: u64 = 0x6782_737b_ea42_39b9;
    const FLIP_LAST: u64 = 0xaf56_bc3b_0996_523a;
    let behind = 8 * (name.len() as u32 + 1); // 8 to 64 bits: the name and its zero
    let word = name.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let first = (word | key.checked_shl(behind).unwrap_or(0)) ^ FLIP_FIRST;
    let last = key ^ FLIP_LAST;
    let product = u128::from(first) * u128::from(last);
    let folded = product as u64 ^ (product >> 64) as u64;
    let sum =
        (name.len() as u64 + 9).wrapping_add(first.swap_bytes()).wrapping_add(last).wrapping_add(folded);
    let mixed = (sum ^ sum >> 37).wrapping_mul(0x1656_6791_9e37_79f9);
    mixed ^ mixed >> 32
}

fn any_hash(entity: &str, key: &[u8]) -> u64 {
    let mut buffer = [0u8; STACK_BYTES];
    let len = entity.len() + 1 + key.len();
    if let Some(input) = buffer.get_mut(..len) {
        let (name, rest) = input.split_at_mut(entity.len());
        name.copy_from_slice(entity.as_bytes());
        if let Some((_zero, bytes)) = rest.split_first_mut() {
            bytes.copy_from_slice(key);
        }
        return xxh3_64(input);
    }
    let mut hasher = Xxh3::new();
    hasher.update(entity.as_bytes());
    hasher.update(&[0]);
    hasher.update(key);
    hasher.digest()
}

/// Shard of a key with this hash, below [`SHARDS`].
#[must_use]
pub fn shard_of(hash: u64) -> usize {
    usize::from((hash >> 58) as u8) // the upper 6 of the tag's 10 bits: tag / 16
}

/// Bytes of an unsigned key: big endian, so that byte order is number order.
#[must_use]
pub fn u64_key(key: u64) -> [u8; 8] {
    key.to_be_bytes()
}

/// Bytes of a signed key: big endian with the sign bit flipped, so that byte order is number order.
#[must_use]
pub fn i64_key(key: i64) -> [u8; 8] {
    (key.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The state key of `key` of entity number `entity`: the number in big endian, then the key bytes.
#[must_use]
pub fn entity_key(entity: u16, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + key.len());
    out.extend_from_slice(&entity.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Entity number and key bytes of a state key; `None` where it is shorter than the number.
#[must_use]
pub fn split_entity_key(state_key: &[u8]) -> Option<(u16, &[u8])> {
    let (number, key) = state_key.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), key))
}

#[cfg(test)]
mod tests {
    use super::{entity_key, i64_key, key_hash, shard_of, split_entity_key, u64_key};
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    proptest! {
        #[test]
        fn every_key_has_the_hash_of_the_definition(
            name in "[a-z_0-9é]{0,12}",
            key in prop_oneof![any::<u64>().prop_map(|n| n.to_be_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..120)],
        ) {
            prop_assert_eq!(key_hash(&name, &key), xxh3_64(&[name.as_bytes(), &[0], &key].concat()));
        }
    }

    #[test]
    fn the_hash_is_fixed_for_ever() {
        // Values of the definition; a change here makes every stored state unreadable.
        assert_eq!(key_hash("user", &u64_key(42)), xxh3_64(b"user\0\0\0\0\0\0\0\0\x2a"));
        assert_eq!(key_hash("user", &u64_key(42)), GOLDEN_USER_42);
        let long = [7u8; 255];
        let mut input = b"merchant\0".to_vec();
        input.extend_from_slice(&long);
        assert_eq!(key_hash("merchant", &long), xxh3_64(&input));
    }

    const GOLDEN_USER_42: u64 = 2_484_945_522_057_125_215;

    #[test]
    fn a_shard_is_a_sixteenth_of_the_tag() {
        for hash in [0, 1 << 54, 15 << 54, 16 << 54, u64::MAX] {
            assert_eq!(shard_of(hash) as u64, (hash >> 54) / 16);
        }
    }

    #[test]
    fn byte_order_is_number_order() {
        let mut keys = [i64::MAX, -1, 0, i64::MIN, 7].map(i64_key);
        keys.sort_unstable();
        assert_eq!(keys, [i64::MIN, -1, 0, 7, i64::MAX].map(i64_key));
        assert_eq!(split_entity_key(&entity_key(3, b"ab")), Some((3, &b"ab"[..])));
        assert_eq!(split_entity_key(b"a"), None);
    }
}
