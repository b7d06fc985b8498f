//! The output of `map`: a header of three (address, length in bytes), for records, keys and heap.

use crate::bytes::{i64_at, put, u16_at, u32_at, u64_at};

/// Length of the output header.
pub const HEADER_LEN: usize = 24;
/// Length of one contribution record.
pub const RECORD_LEN: usize = 16;
/// Length of one entry of the list of computed keys.
pub const KEY_ENTRY_LEN: usize = 16;
/// Most computed keys of one row.
pub const KEYS_PER_ROW_MAX: u16 = 255;

/// Addresses (in guest memory) and byte lengths of the three parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Contribution records, ordered by row.
    pub records: (u32, u32),
    /// Computed keys, ordered by (row, n).
    pub keys: (u32, u32),
    /// Bytes of long values and of text and bytes keys.
    pub heap: (u32, u32),
}

impl Header {
    /// Reads a header.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let pair = |at| Some((u32_at(bytes, at)?, u32_at(bytes, at + 4)?));
        Some(Self { records: pair(0)?, keys: pair(8)?, heap: pair(16)? })
    }

    /// Writes the header to the start of `bytes`.
    pub fn write(self, bytes: &mut [u8]) -> bool {
        let words = [self.records.0, self.records.1, self.keys.0, self.keys.1, self.heap.0, self.heap.1];
        words.iter().enumerate().all(|(n, word)| put(bytes, n * 4, &word.to_le_bytes()))
    }
}

/// One contribution: row u32, aggregate u16, key u16, value i64.
///
/// `key` 0 is the row's own key; n = 1…255 is the n-th computed key of that row. `value` holds the value itself, or,
/// where the aggregate's value type is `WideDecimal`, `Text` or `Bytes`, a [`heap_reference`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// Row of the batch.
    pub row: u32,
    /// Aggregate id in the manifest.
    pub aggregate: u16,
    /// Which key of the row.
    pub key: u16,
    /// Value or heap reference.
    pub value: i64,
}

impl Record {
    /// Reads the record at `at`.
    #[must_use]
    #[inline]
    pub fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let bytes = bytes.get(at..at + RECORD_LEN)?;
        Some(Self {
            row: u32_at(bytes, 0)?,
            aggregate: u16_at(bytes, 4)?,
            key: u16_at(bytes, 6)?,
            value: i64_at(bytes, 8)?,
        })
    }

    /// The record's 16 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        let _ = put(&mut bytes, 0, &self.row.to_le_bytes())
            && put(&mut bytes, 4, &self.aggregate.to_le_bytes())
            && put(&mut bytes, 6, &self.key.to_le_bytes())
            && put(&mut bytes, 8, &self.value.to_le_bytes());
        bytes
    }
}

/// One computed key: row u32, n u16, length u16, value u64 (the number's bits, or an offset into the heap).
///
/// Integer keys have length 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct KeyEntry {
    /// Row of the batch.
    pub row: u32,
    /// Number of the key in its row, from 1.
    pub n: u16,
    /// Length of the key in bytes.
    pub length: u16,
    /// The number's bits, or the offset of the key's bytes in the heap.
    pub value: u64,
}

impl KeyEntry {
    /// Reads the entry at `at`.
    #[must_use]
    pub fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let bytes = bytes.get(at..at + KEY_ENTRY_LEN)?;
        Some(Self {
            row: u32_at(bytes, 0)?,
            n: u16_at(bytes, 4)?,
            length: u16_at(bytes, 6)?,
            value: u64_at(bytes, 8)?,
        })
    }

    /// The entry's 16 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; KEY_ENTRY_LEN] {
        let mut bytes = [0; KEY_ENTRY_LEN];
        let _ = put(&mut bytes, 0, &self.row.to_le_bytes())
            && put(&mut bytes, 4, &self.n.to_le_bytes())
            && put(&mut bytes, 6, &self.length.to_le_bytes())
            && put(&mut bytes, 8, &self.value.to_le_bytes());
        bytes
    }
}

/// A `value` that points into the heap: offset in the low half, length in the high half.
#[must_use]
pub const fn heap_reference(offset: u32, length: u32) -> i64 {
    crate::pack(offset, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keys_and_headers_round_trip() {
        let record = Record { row: 1_023, aggregate: 7, key: 255, value: -2 };
        assert_eq!(Record::read(&record.to_bytes(), 0), Some(record));
        assert_eq!(Record::read(&record.to_bytes(), 1), None);
        let key = KeyEntry { row: 3, n: 255, length: 8, value: u64::MAX };
        assert_eq!(KeyEntry::read(&key.to_bytes(), 0), Some(key));
        assert_eq!(KeyEntry::read(&key.to_bytes()[..15], 0), None);
        let header = Header { records: (1, 2), keys: (3, 4), heap: (5, 6) };
        let mut bytes = [0; HEADER_LEN];
        assert!(!header.write(&mut bytes[1..]) && header.write(&mut bytes));
        assert_eq!(Header::read(&bytes), Some(header));
        assert_eq!(crate::unpack(heap_reference(9, 16)), (9, 16));
    }

    #[test]
    fn a_record_in_memory_is_its_bytes() {
        assert_eq!((size_of::<Record>(), size_of::<KeyEntry>()), (RECORD_LEN, KEY_ENTRY_LEN));
        assert_eq!(core::mem::offset_of!(Record, value), 8);
        assert_eq!(core::mem::offset_of!(KeyEntry, value), 8);
    }
}
