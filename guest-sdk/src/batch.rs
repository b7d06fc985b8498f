//! The host's bytes as columns: images for `map`, readings for `label`. Descriptors are read and every buffer is cut to
//! its exact length once per batch, so that reading a row is a plain load; nothing here is `unsafe`.
//!
//! The host writes these bytes; a batch that contradicts itself is a bug there and ends the call with a message.

use retag_abi::column::{BATCH_HEADER_LEN, BatchHeader, DESCRIPTOR_LEN, Descriptor, Physical};
use retag_abi::label::{INPUT_HEADER_LEN, InputHeader};

/// A batch of rows (or keys) with its columns.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    descriptors: usize,
    columns: usize,
    /// Table in the manifest; 0 for readings.
    pub table: u32,
    /// Rows or keys.
    pub rows: usize,
}

impl<'a> Batch<'a> {
    /// The images in a batch for `map`.
    #[must_use]
    pub fn images(bytes: &'a [u8]) -> Self {
        let Some(header) = BatchHeader::read(bytes) else { malformed("no batch header") };
        Self {
            bytes,
            descriptors: BATCH_HEADER_LEN,
            columns: header.columns as usize,
            table: header.table,
            rows: header.rows as usize,
        }
    }

    /// The readings in the input of `label`, and its header.
    #[must_use]
    pub fn readings(bytes: &'a [u8]) -> (Self, InputHeader) {
        let Some(header) = InputHeader::read(bytes) else { malformed("no label input header") };
        let batch = Self {
            bytes,
            descriptors: INPUT_HEADER_LEN,
            columns: header.aggregates as usize,
            table: 0,
            rows: header.keys as usize,
        };
        (batch, header)
    }

    /// Ends the call: the rule has no such table.
    #[cold]
    pub fn unknown_table(&self) -> ! {
        malformed("a table that the rule does not read")
    }

    /// The bytes `at..at + len`.
    pub(crate) fn slice(&self, at: u32, len: usize) -> &'a [u8] {
        let buffer = self.bytes.get(at as usize..).and_then(|rest| rest.get(..len));
        buffer.unwrap_or_else(|| malformed("a buffer ends behind the batch"))
    }

    fn descriptor(&self, column: usize, physical: Physical) -> Descriptor {
        let at = self.descriptors + column * DESCRIPTOR_LEN;
        match Descriptor::read(self.bytes, at) {
            Some(descriptor) if column < self.columns && descriptor.tag == physical as u32 => descriptor,
            _ => malformed("a column has another type than the manifest says"),
        }
    }

    /// Column of `N`-byte values.
    pub(crate) fn fixed<const N: usize>(&self, column: usize, physical: Physical) -> Fixed<'a, N> {
        let descriptor = self.descriptor(column, physical);
        let (values, _) = self.slice(descriptor.values, self.rows * N).as_chunks::<N>();
        match values.get(..self.rows) {
            Some(values) => Fixed { values },
            None => malformed("a column is too short"),
        }
    }

    /// Column of bit-packed booleans.
    pub(crate) fn bits(&self, column: usize) -> Bits<'a> {
        let descriptor = self.descriptor(column, Physical::Bool);
        Bits { bytes: self.slice(descriptor.values, self.rows.div_ceil(8)) }
    }

    /// Column of variable length; the heap holds UTF-8 for `Physical::Text`.
    pub(crate) fn heap(&self, column: usize, physical: Physical) -> Heap<'a> {
        let descriptor = self.descriptor(column, physical);
        let (offsets, _) = self.slice(descriptor.values, (self.rows + 1) * 4).as_chunks::<4>();
        Heap { offsets, bytes: self.slice(descriptor.heap, descriptor.heap_len as usize) }
    }

    /// Validity bitmap of a column; none where each row has a value.
    pub(crate) fn validity(&self, column: usize, physical: Physical) -> Option<Bits<'a>> {
        self.bitmap(self.descriptor(column, physical).validity)
    }

    /// ABSENT bitmap of a column; none where no row is absent.
    pub(crate) fn absent(&self, column: usize, physical: Physical) -> Option<Bits<'a>> {
        self.bitmap(self.descriptor(column, physical).absent)
    }

    fn bitmap(&self, at: u32) -> Option<Bits<'a>> {
        (at != 0).then(|| Bits { bytes: self.slice(at, self.rows.div_ceil(8)) })
    }
}

/// Values of a fixed length.
#[derive(Clone, Copy, Debug)]
pub struct Fixed<'a, const N: usize> {
    values: &'a [[u8; N]],
}

impl<const N: usize> Fixed<'_, N> {
    #[inline]
    pub(crate) fn at(&self, row: usize) -> [u8; N] {
        match self.values.get(row) {
            Some(value) => *value,
            None => malformed("row"),
        }
    }
}

/// A bitmap, lowest bit first.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    bytes: &'a [u8],
}

impl Bits<'_> {
    #[inline]
    pub(crate) fn at(&self, row: usize) -> bool {
        retag_abi::column::bit(self.bytes, row)
    }
}

/// Values of any length.
#[derive(Clone, Copy, Debug)]
pub struct Heap<'a> {
    offsets: &'a [[u8; 4]],
    pub(crate) bytes: &'a [u8],
}

impl Heap<'_> {
    /// Range of the row's bytes.
    #[inline]
    pub(crate) fn range(&self, row: usize) -> core::ops::Range<usize> {
        match (self.offsets.get(row), self.offsets.get(row + 1)) {
            (Some(start), Some(end)) => {
                u32::from_le_bytes(*start) as usize..u32::from_le_bytes(*end) as usize
            }
            _ => malformed("row"),
        }
    }
}

/// Ends the call: the batch contradicts itself.
#[cold]
#[inline(never)]
#[allow(clippy::panic)] // the guest's only way to refuse: the host turns the message into a verdict
pub(crate) fn malformed(what: &'static str) -> ! {
    panic!("malformed batch: {what}")
}
