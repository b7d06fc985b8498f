//! Net changes of one shard's keys during one cycle, grouped by key before any state is touched.
//!
//! Workers write down what rules contribute, one log per shard and entity ([`super::log`]); at the barrier the shard's
//! owner groups the logs of all workers in one buffer, small enough for the processor's cache. Linear amounts wrap
//! modulo 2^128, so that addition stays a group whatever comes in.

use hashbrown::HashTable;

/// One key of a buffer.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    /// The key's first eight bytes: a number is compared without a look into the heap of keys.
    prefix: u64,
    at: u32,
    length: u32,
}

impl Entry {
    #[inline]
    fn is(&self, hash: u64, key: &[u8], prefix: u64, keys: &[u8]) -> bool {
        self.hash == hash
            && self.prefix == prefix
            && self.length as usize == key.len()
            && (key.len() <= 8 || bytes(keys, self.at, self.length) == key)
    }
}

/// One contribution to a counted set.
#[derive(Clone, Copy, Debug)]
struct Counted {
    entry: u32,
    set: u16,
    sign: i8,
    /// As [`Entry::prefix`], of the value.
    prefix: u64,
    at: u32,
    length: u32,
}

impl Counted {
    /// What stands behind the prefix decides only where values are longer than it or filled up.
    #[inline]
    fn order(&self, other: &Self, values: &[u8]) -> std::cmp::Ordering {
        let first = (self.entry, self.set, self.prefix).cmp(&(other.entry, other.set, other.prefix));
        if (self.length, other.length) == (8, 8) {
            return first;
        }
        first.then_with(|| bytes(values, self.at, self.length).cmp(bytes(values, other.at, other.length)))
    }
}

/// Net changes by key.
#[derive(Debug, Default)]
pub struct DeltaBuffer {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    keys: Vec<u8>,
    /// Number of linear aggregates of the entity.
    width: usize,
    sums: Vec<i128>,
    counted: Vec<Counted>,
    values: Vec<u8>,
}

impl DeltaBuffer {
    /// An empty buffer for an entity with `width` linear aggregates.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// Hashes of the keys.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|entry| entry.hash)
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.index.clear();
        self.entries.clear();
        self.keys.clear();
        self.sums.clear();
        self.counted.clear();
        self.values.clear();
    }

    /// The entry of `key`, made if it is new.
    #[allow(clippy::cast_possible_truncation)] // a cycle is bounded far below 4 GiB of keys
    pub fn entry(&mut self, hash: u64, key: &[u8]) -> u32 {
        let (entries, keys) = (&self.entries, &self.keys);
        let prefix = prefix(key);
        let same = |e: &u32| entries.get(*e as usize).is_some_and(|e| e.is(hash, key, prefix, keys));
        if let Some(found) = self.index.find(hash, same) {
            return *found;
        }
        let entry = self.entries.len() as u32;
        let (at, length) = (self.keys.len() as u32, key.len() as u32);
        self.entries.push(Entry { hash, prefix, at, length });
        self.keys.extend_from_slice(key);
        self.sums.resize(self.sums.len() + self.width, 0);
        let entries = &self.entries;
        self.index.insert_unique(hash, entry, |e| entries.get(*e as usize).map_or(0, |e| e.hash));
        entry
    }

    /// Adds `amount` to linear aggregate `column` of `entry`.
    #[inline]
    pub fn add(&mut self, entry: u32, column: usize, amount: i128) {
        if let Some(sum) = self.sums.get_mut(entry as usize * self.width + column) {
            *sum = sum.wrapping_add(amount);
        }
    }

    /// Counts `value` in counted set `set` of `entry`, up or down.
    #[allow(clippy::cast_possible_truncation)] // as in `entry`
    pub fn count(&mut self, entry: u32, set: u16, value: &[u8], sign: i8) {
        let (at, length) = (self.values.len() as u32, value.len() as u32);
        self.values.extend_from_slice(value);
        self.counted.push(Counted { entry, set, sign, prefix: prefix(value), at, length });
    }

    /// Visits every key in ascending order with its hash, linear amounts and net counted values.
    pub fn drain_sorted(&mut self, mut visit: impl FnMut(Touched<'_>)) {
        let (keys, values) = (&self.keys, &self.values);
        self.counted.sort_unstable_by(|a, b| a.order(b, values));
        let key_of = |n: u32| self.entries.get(n as usize).map_or(&[][..], |e| bytes(keys, e.at, e.length));
        // The first eight bytes decide nearly always, and for numbers always.
        let mut order: Vec<(u64, u32)> = (0u32..).zip(&self.entries).map(|(n, e)| (e.prefix, n)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key_of(a.1).cmp(key_of(b.1))));
        // Where each entry's counted values start.
        let mut starts = vec![0_u32; self.entries.len() + 1];
        for counted in &self.counted {
            if let Some(length) = starts.get_mut(counted.entry as usize + 1) {
                *length += 1;
            }
        }
        starts.iter_mut().fold(0, |all, start| {
            *start += all;
            *start
        });
        let mut counts: Vec<(u16, &[u8], i64)> = Vec::new();
        for (_, n) in order {
            let Some(entry) = self.entries.get(n as usize) else { continue };
            counts.clear();
            if let Some([from, to]) = starts.get(n as usize..).and_then(|starts| starts.first_chunk()) {
                net_counts(
                    self.counted.get(*from as usize..*to as usize).unwrap_or(&[]),
                    values,
                    &mut counts,
                );
            }
            let start = n as usize * self.width;
            visit(Touched {
                hash: entry.hash,
                key: key_of(n),
                sums: self.sums.get(start..start + self.width).unwrap_or(&[]),
                counts: &counts,
            });
        }
        self.clear();
    }
}

/// Net counts of one entry from its counted values in order.
fn net_counts<'a>(counted: &[Counted], values: &'a [u8], net: &mut Vec<(u16, &'a [u8], i64)>) {
    for equal in counted.chunk_by(|a, b| a.order(b, values).is_eq()) {
        let count: i64 = equal.iter().map(|c| i64::from(c.sign)).sum();
        if let Some(c) = equal.first().filter(|_| count != 0) {
            net.push((c.set, bytes(values, c.at, c.length), count));
        }
    }
}

/// One touched key with its net changes.
#[derive(Debug)]
pub struct Touched<'a> {
    /// Hash of (entity, key).
    pub hash: u64,
    /// Key bytes.
    pub key: &'a [u8],
    /// Amount per linear aggregate of the entity.
    pub sums: &'a [i128],
    /// (counted set of the entity, value in comparable form, net count ≠ 0), ordered by set and value.
    pub counts: &'a [(u16, &'a [u8], i64)],
}

/// The first eight bytes as a number that compares as they do; a shorter key is filled up with zeros.
fn prefix(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => key.iter().enumerate().fold(0, |all, (n, byte)| all | u64::from(*byte) << (56 - 8 * n)),
    }
}

fn bytes(heap: &[u8], at: u32, length: u32) -> &[u8] {
    heap.get(at as usize..at as usize + length as usize).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::super::log::Log;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Model = BTreeMap<Vec<u8>, (Vec<i128>, BTreeMap<(u16, Vec<u8>), i64>)>;

    fn contents(mut buffer: DeltaBuffer) -> Model {
        let mut all = Model::new();
        buffer.drain_sorted(|t| {
            let counts = t.counts.iter().map(|(s, v, n)| ((*s, v.to_vec()), *n)).collect();
            all.insert(t.key.to_vec(), (t.sums.to_vec(), counts));
        });
        all
    }

    proptest! {
        /// However contributions are split over workers, the grouped logs hold their net sums.
        #[test]
        fn logs_of_several_workers_group_to_net_sums(
            contributions in prop::collection::vec((0u8..6, 0usize..2, amounts(), 0u8..3, any::<bool>()), 0..60),
        ) {
            let mut model = Model::new();
            let mut workers = [Log::default(), Log::default()];
            for (n, (key, column, amount, value, plus)) in contributions.into_iter().enumerate() {
                let key = vec![key; usize::from(key) + 1];
                let sign = if plus { 1 } else { -1 };
                let log = &mut workers[n % 2];
                log.key(u64::from(key[0]) * 7, &key);
                log.add(u16::try_from(column).unwrap(), amount);
                log.count(1, &[value], sign);
                let (sums, counts) = model.entry(key).or_insert_with(|| (vec![0, 0], BTreeMap::new()));
                sums[column] = sums[column].wrapping_add(amount);
                *counts.entry((1, vec![value])).or_default() += i64::from(sign);
            }
            for (_, counts) in model.values_mut() { counts.retain(|_, n| *n != 0); }
            let mut grouped = DeltaBuffer::new(2);
            workers.iter().for_each(|log| log.group(&mut grouped));
            prop_assert_eq!(contents(grouped), model);
        }
    }

    fn amounts() -> impl Strategy<Value = i128> {
        prop_oneof![-5i128..5, Just(i128::MAX), Just(i128::from(i64::MIN)), Just(i128::from(i64::MAX) + 1)]
    }
}
