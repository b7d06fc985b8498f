//! Cells → the bytes of ABI.md: batches for `map` and inputs for `label`, written as the host writes them.

use alloc::vec;
use alloc::vec::Vec;

use retag_abi::column::{self, BatchHeader, Descriptor, Physical};
use retag_abi::label::{self, InputHeader, PARAM_LEN};

use super::Cell;
use crate::ValueType;

/// A batch of `rows` images of table `table`, whose columns have the types `columns`.
#[must_use]
pub fn batch(table: usize, columns: &[ValueType], rows: &[Vec<Cell>]) -> Vec<u8> {
    let mut buffers = Buffers::new(column::buffers_at(columns.len()));
    let header = BatchHeader { table: count(table), rows: count(rows.len()), columns: count(columns.len()) };
    header.write(&mut buffers.0);
    for (n, value_type) in columns.iter().enumerate() {
        let cells: Vec<&Cell> = rows.iter().filter_map(|row| row.get(n)).collect();
        buffers.column(column::descriptor_at(n), value_type.physical, &cells);
    }
    buffers.0
}

/// An input of `label`: the readings of `keys` keys, one list of cells per key, the parameters' bits and engine time.
#[must_use]
pub fn label_input(readings: &[ValueType], keys: &[Vec<Cell>], params: &[i128], now: i64) -> Vec<u8> {
    let mut buffers = Buffers::new(retag_abi::bytes::aligned(label::descriptor_at(readings.len())));
    for (n, value_type) in readings.iter().enumerate() {
        let cells: Vec<&Cell> = keys.iter().filter_map(|key| key.get(n)).collect();
        buffers.column(label::descriptor_at(n), value_type.physical, &cells);
    }
    let slots: Vec<u8> = params.iter().flat_map(|param| param.to_le_bytes()).collect();
    let header = InputHeader {
        keys: count(keys.len()),
        aggregates: count(readings.len()),
        params: buffers.append(&slots),
        params_len: count(params.len() * PARAM_LEN),
        now,
    };
    header.write(&mut buffers.0);
    buffers.0
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or_else(|_| panic!("{n} is more than a batch holds"))
}

struct Buffers(Vec<u8>);

impl Buffers {
    fn new(at: usize) -> Self {
        Self(vec![0; at])
    }

    /// Appends a buffer at the next multiple of 16; its offset.
    fn append(&mut self, bytes: &[u8]) -> u32 {
        self.0.resize(retag_abi::bytes::aligned(self.0.len()), 0);
        let at = count(self.0.len());
        self.0.extend_from_slice(bytes);
        at
    }

    fn column(&mut self, descriptor_at: usize, physical: Physical, cells: &[&Cell]) {
        let (values, heap) = values(physical, cells);
        let absent = |cell: &&Cell| **cell == Cell::Absent;
        let missing = |cell: &&Cell| **cell == Cell::Null || absent(cell);
        let values_at = self.append(&values);
        let mut descriptor = Descriptor {
            values: values_at,
            values_len: count(values.len()),
            tag: physical as u32,
            ..Descriptor::default()
        };
        if cells.iter().any(missing) {
            descriptor.validity = self.append(&bitmap(cells.iter().map(|cell| !missing(cell))));
        }
        if cells.iter().any(absent) {
            descriptor.absent = self.append(&bitmap(cells.iter().map(absent)));
        }
        if matches!(physical, Physical::Bytes | Physical::Text) {
            (descriptor.heap, descriptor.heap_len) = (self.append(&heap), count(heap.len()));
        }
        descriptor.write(&mut self.0, descriptor_at);
    }
}

fn bitmap(bits: impl Iterator<Item = bool>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (n, bit) in bits.enumerate() {
        if n % 8 == 0 {
            bytes.push(0);
        }
        if let Some(byte) = bytes.last_mut() {
            *byte |= u8::from(bit) << (n % 8);
        }
    }
    bytes
}

/// The values buffer and the heap.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the low bytes of a number that fits its type
fn values(physical: Physical, cells: &[&Cell]) -> (Vec<u8>, Vec<u8>) {
    let number = |cell: &&Cell| match cell {
        Cell::Number(n) => *n,
        _ => 0,
    };
    let numbers = cells.iter().map(number);
    let values = match physical {
        Physical::Bool => bitmap(numbers.map(|n| n != 0)),
        Physical::Date => numbers.flat_map(|n| (n as i32).to_le_bytes()).collect(),
        Physical::WideDecimal => numbers.flat_map(i128::to_le_bytes).collect(),
        Physical::I64 | Physical::U64 | Physical::Decimal | Physical::Timestamp => {
            numbers.flat_map(|n| (n as u64).to_le_bytes()).collect()
        }
        Physical::Bytes | Physical::Text => return heap(cells),
    };
    (values, Vec::new())
}

fn heap(cells: &[&Cell]) -> (Vec<u8>, Vec<u8>) {
    let (mut offsets, mut heap) = (0_u32.to_le_bytes().to_vec(), Vec::new());
    for cell in cells {
        if let Cell::Bytes(bytes) = cell {
            heap.extend_from_slice(bytes);
        }
        offsets.extend_from_slice(&count(heap.len()).to_le_bytes());
    }
    (offsets, heap)
}
