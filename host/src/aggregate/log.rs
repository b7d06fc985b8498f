//! What one worker gathered for one shard in a cycle, written down in the order in which it came.
//!
//! Grouping right away would touch a place in memory chosen by the key for every contribution of every shard; a log is
//! written one behind the other, and its shard's owner groups it in a buffer that stays in the processor's cache.

#![allow(clippy::cast_possible_truncation)] // sizes are kept below BYTES_MAX, values are 4 KiB at most

use super::delta::DeltaBuffer;

/// Most bytes of a log; see [`Log::size`].
pub const BYTES_MAX: usize = 1 << 30;

/// A key and how many contributions behind it are its own.
#[derive(Clone, Copy, Debug)]
struct Head {
    hash: u64,
    at: u32,
    length: u32,
    items: u32,
}

/// One contribution to a linear aggregate or a counted set, by its number in the entity's layout.
#[derive(Clone, Copy, Debug)]
enum Item {
    Amount {
        column: u16,
        amount: i64,
    },
    /// An amount that 64 bits do not hold: its place in `wide`.
    Wide {
        column: u16,
        place: u32,
    },
    /// A value: its place in `bytes`.
    Value {
        set: u16,
        sign: i8,
        length: u16,
        at: u32,
    },
}

/// The log.
#[derive(Debug, Default)]
pub struct Log {
    heads: Vec<Head>,
    items: Vec<Item>,
    wide: Vec<i128>,
    bytes: Vec<u8>,
}

impl Log {
    /// Whether nothing was written down.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Empties the log and keeps its memory.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.items.clear();
        self.wide.clear();
        self.bytes.clear();
    }

    /// What it takes in memory, roughly. Places in it have 32 bits, so that it must stay below [`BYTES_MAX`].
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + 16 * (self.heads.len() + self.items.len() + self.wide.len())
    }

    /// What follows is of this key.
    #[inline]
    pub fn key(&mut self, hash: u64, key: &[u8]) {
        let at = self.push_bytes(key);
        self.heads.push(Head { hash, at, length: key.len() as u32, items: 0 });
    }

    /// Adds `amount` to linear aggregate `column` of the key.
    #[inline]
    pub fn add(&mut self, column: u16, amount: i128) {
        let item = match i64::try_from(amount) {
            Ok(amount) => Item::Amount { column, amount },
            Err(_) => {
                self.wide.push(amount);
                Item::Wide { column, place: self.wide.len() as u32 - 1 }
            }
        };
        self.push(item);
    }

    /// Counts `value` (at most 4 KiB) in counted set `set` of the key, up or down.
    #[inline]
    pub fn count(&mut self, set: u16, value: &[u8], sign: i8) {
        let at = self.push_bytes(value);
        self.push(Item::Value { set, sign, length: value.len() as u16, at });
    }

    #[inline]
    fn push(&mut self, item: Item) {
        self.items.push(item);
        if let Some(head) = self.heads.last_mut() {
            head.items += 1;
        }
    }

    #[inline]
    fn push_bytes(&mut self, bytes: &[u8]) -> u32 {
        let at = self.bytes.len() as u32;
        match <&[u8; 8]>::try_from(bytes) {
            Ok(number) => self.bytes.extend_from_slice(number), // a store, not a call
            Err(_) => self.bytes.extend_from_slice(bytes),
        }
        at
    }

    /// Adds everything to `buffer`.
    pub fn group(&self, buffer: &mut DeltaBuffer) {
        let mut items = self.items.iter();
        for head in &self.heads {
            let entry = buffer.entry(head.hash, self.bytes(head.at, head.length as usize));
            for item in items.by_ref().take(head.items as usize) {
                match *item {
                    Item::Amount { column, amount } => buffer.add(entry, column.into(), amount.into()),
                    Item::Wide { column, place } => {
                        let amount = self.wide.get(place as usize).copied().unwrap_or(0);
                        buffer.add(entry, column.into(), amount);
                    }
                    Item::Value { set, sign, length, at } => {
                        buffer.count(entry, set, self.bytes(at, length.into()), sign);
                    }
                }
            }
        }
    }

    fn bytes(&self, at: u32, length: usize) -> &[u8] {
        self.bytes.get(at as usize..at as usize + length).unwrap_or(&[])
    }
}
