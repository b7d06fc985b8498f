//! Columns: the input of `map` (one table's images) and, with the same descriptors, the readings that `label` gets.
//!
//! A map batch is a header of 16 bytes, one descriptor of 32 bytes per column in manifest order, then the buffers,
//! each 16-byte aligned, in Arrow's physical layout. Offsets count from the start of the batch; 0 = no such buffer.

use crate::bytes::{aligned, put, u32_at};

/// Physical type of a column, with its tag in the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Physical {
    /// Bit-packed, lowest bit first.
    Bool = 1,
    /// 8 bytes.
    I64 = 2,
    /// 8 bytes.
    U64 = 3,
    /// Decimal of up to 18 digits: value × 10^scale in 8 bytes.
    Decimal = 4,
    /// Decimal of up to 38 digits (and every sum's reading): value × 10^scale in 16 bytes.
    WideDecimal = 5,
    /// `rows + 1` offsets (i32) into the heap.
    Bytes = 6,
    /// As `Bytes`, valid UTF-8.
    Text = 7,
    /// Microseconds since 1970-01-01 00:00:00, the printed digits read as UTC, in 8 bytes.
    Timestamp = 8,
    /// Days since 1970-01-01 in 4 bytes.
    Date = 9,
}

impl Physical {
    /// The type with tag `tag`.
    #[must_use]
    pub const fn from_tag(tag: u32) -> Option<Self> {
        Some(match tag {
            1 => Self::Bool,
            2 => Self::I64,
            3 => Self::U64,
            4 => Self::Decimal,
            5 => Self::WideDecimal,
            6 => Self::Bytes,
            7 => Self::Text,
            8 => Self::Timestamp,
            9 => Self::Date,
            _ => return None,
        })
    }

    /// Length in bytes of the values buffer for `rows` rows.
    #[must_use]
    pub const fn values_len(self, rows: usize) -> usize {
        match self {
            Self::Bool => rows.div_ceil(8),
            Self::I64 | Self::U64 | Self::Decimal | Self::Timestamp => rows * 8,
            Self::WideDecimal => rows * 16,
            Self::Bytes | Self::Text => (rows + 1) * 4,
            Self::Date => rows * 4,
        }
    }
}

/// Length of the header of a map batch.
pub const BATCH_HEADER_LEN: usize = 16;
/// Length of one column descriptor.
pub const DESCRIPTOR_LEN: usize = 32;

/// Header of a map batch: table (index in the manifest), rows, columns, 0; four u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Index of the table in the manifest.
    pub table: u32,
    /// Rows in the batch.
    pub rows: u32,
    /// Columns in the batch.
    pub columns: u32,
}

impl BatchHeader {
    /// Reads the header at the start of `batch`.
    #[must_use]
    pub fn read(batch: &[u8]) -> Option<Self> {
        Some(Self { table: u32_at(batch, 0)?, rows: u32_at(batch, 4)?, columns: u32_at(batch, 8)? })
    }

    /// Writes the header at the start of `batch`.
    pub fn write(self, batch: &mut [u8]) -> bool {
        put(batch, 0, &self.table.to_le_bytes())
            && put(batch, 4, &self.rows.to_le_bytes())
            && put(batch, 8, &self.columns.to_le_bytes())
            && put(batch, 12, &[0; 4])
    }
}

/// Where one column's buffers lie: eight u32 (values offset and length, validity offset, absent offset, heap offset and
/// length, type tag, 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Offset of the values (or offsets) buffer.
    pub values: u32,
    /// Its length in bytes.
    pub values_len: u32,
    /// Offset of the validity bitmap (1 = has a value); 0 = every row has one.
    pub validity: u32,
    /// Offset of the ABSENT bitmap (1 = absent); 0 = no row is. An absent row is not valid either.
    pub absent: u32,
    /// Offset of the heap of a variable-length column.
    pub heap: u32,
    /// Its length in bytes.
    pub heap_len: u32,
    /// Tag of the [`Physical`] type.
    pub tag: u32,
}

impl Descriptor {
    /// Reads the descriptor at `at`.
    #[must_use]
    pub fn read(batch: &[u8], at: usize) -> Option<Self> {
        let word = |n: usize| u32_at(batch, at + n * 4);
        Some(Self {
            values: word(0)?,
            values_len: word(1)?,
            validity: word(2)?,
            absent: word(3)?,
            heap: word(4)?,
            heap_len: word(5)?,
            tag: word(6)?,
        })
    }

    /// Writes the descriptor at `at`.
    pub fn write(self, batch: &mut [u8], at: usize) -> bool {
        let words =
            [self.values, self.values_len, self.validity, self.absent, self.heap, self.heap_len, self.tag, 0];
        words.iter().enumerate().all(|(n, word)| put(batch, at + n * 4, &word.to_le_bytes()))
    }
}

/// Offset of descriptor `column` in a map batch.
#[must_use]
pub const fn descriptor_at(column: usize) -> usize {
    BATCH_HEADER_LEN + column * DESCRIPTOR_LEN
}

/// Offset of the first buffer of a map batch with `columns` columns.
#[must_use]
pub const fn buffers_at(columns: usize) -> usize {
    aligned(descriptor_at(columns))
}

/// Bit `row` of a bitmap, lowest bit first; false past its end.
#[must_use]
#[inline]
pub fn bit(bitmap: &[u8], row: usize) -> bool {
    bitmap.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_descriptors_round_trip_and_refuse_short_slices() {
        let mut bytes = [0xff; 80];
        let header = BatchHeader { table: 1, rows: 2, columns: 3 };
        let second = Descriptor {
            values: 1,
            values_len: 2,
            validity: 3,
            absent: 4,
            heap: 5,
            heap_len: 6,
            tag: Physical::Text as u32,
        };
        assert!(header.write(&mut bytes) && second.write(&mut bytes, descriptor_at(1)));
        assert_eq!(BatchHeader::read(&bytes), Some(header));
        assert_eq!(Descriptor::read(&bytes, descriptor_at(1)), Some(second));
        assert_eq!((bytes[15], bytes[79]), (0, 0), "reserved words are zero");
        assert!(!second.write(&mut bytes, descriptor_at(2)));
        assert_eq!(Descriptor::read(&bytes, descriptor_at(2)), None);
        assert_eq!(BatchHeader::read(&bytes[..11]), None);
    }

    #[test]
    fn tags_and_types_are_inverse() {
        let found = (0..=1_000).filter_map(Physical::from_tag).inspect(|physical| {
            assert_eq!(Physical::from_tag(*physical as u32), Some(*physical));
        });
        assert_eq!(found.count(), 9);
    }

    #[test]
    fn values_take_their_length() {
        assert_eq!(Physical::Bool.values_len(9), 2);
        assert_eq!(Physical::WideDecimal.values_len(3), 48);
        assert_eq!(Physical::Text.values_len(0), 4);
        assert_eq!(Physical::Date.values_len(3), 12);
        assert!(bit(&[0, 0b10], 9) && !bit(&[0, 0b10], 8) && !bit(&[0, 0b10], 16));
    }
}
