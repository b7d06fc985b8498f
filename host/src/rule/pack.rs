//! Images → the columnar batch of ABI.md, written straight into a guest's memory.
//!
//! Rows that follow each other are copied as slices, others are gathered. Padding is zero, so that equal images give
//! equal bytes whatever was in the buffer before.

use retag_abi::BATCH_BYTES_MAX;
use retag_abi::bytes::aligned;
use retag_abi::column::{BatchHeader, Descriptor, Physical, buffers_at, descriptor_at};

use crate::decode::{ColumnBuffer, Fit, ImageBatch, Values};

/// Some rows of some columns, as one batch of a table.
#[derive(Clone, Copy)]
pub(super) struct Selection<'a> {
    pub(super) table: usize,
    pub(super) batch: &'a ImageBatch,
    /// Indices into `batch.columns`, in manifest order.
    pub(super) columns: &'a [usize],
    pub(super) rows: &'a [u32],
}

impl<'a> Selection<'a> {
    pub(super) fn with_rows(self, rows: &'a [u32]) -> Self {
        Self { rows, ..self }
    }

    fn buffers(self) -> impl Iterator<Item = &'a ColumnBuffer> {
        self.columns.iter().filter_map(move |at| self.batch.columns.get(*at))
    }
}

/// Bytes per row of the fixed-length part of a batch, both bitmaps included; and whether there are heaps.
pub(super) fn row_bytes(selection: Selection<'_>) -> (usize, bool) {
    selection.buffers().fold((0, false), |(bytes, heap), column| {
        let physical = column.column_type.physical;
        let is_heap = matches!(physical, Physical::Bytes | Physical::Text);
        let width =
            if physical == Physical::Bool { 1 } else { physical.values_len(1) - physical.values_len(0) };
        (bytes + width + 1, heap || is_heap)
    })
}

/// Length of the longest prefix of `selection.rows` (at least one row, at most `rows_max`) that fits a batch.
pub(super) fn prefix_len(selection: Selection<'_>, rows_max: usize, row: (usize, bool)) -> usize {
    let (per_row, has_heap) = row;
    let fixed = buffers_at(selection.columns.len()) + selection.columns.len() * 80;
    let room = BATCH_BYTES_MAX.saturating_sub(fixed);
    let most = rows_max.min(selection.rows.len());
    if !has_heap {
        return most.min(room / per_row.max(1)).max(1);
    }
    let mut used = 0;
    for (n, row) in selection.rows.iter().take(most).enumerate() {
        let heap: usize = selection.buffers().map(|column| column.heap_row(*row as usize).len()).sum();
        used += per_row + heap;
        if used > room {
            return n.max(1);
        }
    }
    most.max(1)
}

/// Lays batches out; keeps its working memory between them.
#[derive(Default)]
pub(super) struct Packer {
    places: Vec<Descriptor>,
    len: usize,
    first: Option<usize>,
}

impl Packer {
    /// Plans the layout of `selection`; its length in bytes, or `None` beyond 32-bit offsets.
    pub(super) fn plan(&mut self, selection: Selection<'_>) -> Option<usize> {
        self.first = first_of_contiguous(selection.rows);
        self.places.clear();
        self.len = buffers_at(selection.columns.len());
        let rows = selection.rows.len();
        for column in selection.buffers() {
            let physical = column.column_type.physical;
            let (mut nulls, mut absent) = (false, false);
            each_fit(column, selection.rows, self.first, |fit| {
                nulls |= fit != Fit::Value;
                absent |= fit == Fit::Absent;
            });
            let heap_len = heap_len(column, selection.rows, self.first);
            let is_heap = matches!(column.values, Values::Heap { .. });
            let values_len = physical.values_len(rows);
            let mut place = Descriptor {
                tag: u32::from(physical as u8),
                heap_len: fit32(heap_len)?,
                ..Descriptor::default()
            };
            place.values = self.take(values_len)?;
            place.values_len = fit32(values_len)?;
            if nulls {
                place.validity = self.take(rows.div_ceil(8))?;
            }
            if absent {
                place.absent = self.take(rows.div_ceil(8))?;
            }
            if is_heap {
                place.heap = self.take(heap_len)?;
            }
            self.places.push(place);
        }
        i32::try_from(self.len).ok()?;
        Some(self.len)
    }

    fn take(&mut self, bytes: usize) -> Option<u32> {
        let at = fit32(self.len);
        self.len += aligned(bytes);
        at
    }

    /// Writes the batch that was planned; `out` has the planned length.
    pub(super) fn write(&self, selection: Selection<'_>, out: &mut [u8]) {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let header = BatchHeader {
            table: narrow(selection.table),
            rows: narrow(selection.rows.len()),
            columns: narrow(self.places.len()),
        };
        header.write(out);
        for (n, (place, column)) in self.places.iter().zip(selection.buffers()).enumerate() {
            place.write(out, descriptor_at(n));
            write_values(
                column,
                selection.rows,
                self.first,
                span(out, place.values, place.values_len as usize),
            );
            let bitmap_len = selection.rows.len().div_ceil(8);
            if place.validity != 0 {
                let bits = span(out, place.validity, bitmap_len);
                write_bits(bits, selection.rows, |row| column.fits.get(row) == Some(&Fit::Value));
            }
            if place.absent != 0 {
                let bits = span(out, place.absent, bitmap_len);
                write_bits(bits, selection.rows, |row| column.fits.get(row) == Some(&Fit::Absent));
            }
            if place.heap != 0 {
                let heap = span(out, place.heap, place.heap_len as usize);
                write_heap(column, selection.rows, self.first, heap);
            }
        }
    }
}

/// The batch of `rows` of `batch` as table `table` of a manifest, in the bytes of ABI.md; `None` beyond 32-bit offsets.
#[must_use]
pub fn batch_bytes(table: usize, batch: &ImageBatch, columns: &[usize], rows: &[u32]) -> Option<Vec<u8>> {
    let selection = Selection { table, batch, columns, rows };
    let mut packer = Packer::default();
    let mut bytes = vec![0; packer.plan(selection)?];
    packer.write(selection, &mut bytes);
    Some(bytes)
}

fn fit32(n: usize) -> Option<u32> {
    u32::try_from(n).ok()
}

/// The part of `out` for a buffer, its padding zeroed.
fn span(out: &mut [u8], at: u32, len: usize) -> &mut [u8] {
    let all = out.get_mut(at as usize..).and_then(|rest| rest.get_mut(..aligned(len))).unwrap_or(&mut []);
    let at = len.min(all.len());
    let (place, padding) = all.split_at_mut(at);
    padding.fill(0);
    place
}

/// The first row if the rows follow each other.
pub(super) fn first_of_contiguous(rows: &[u32]) -> Option<usize> {
    let first = *rows.first()?;
    rows.iter().zip(first..).all(|(row, expected)| *row == expected).then_some(first as usize)
}

pub(super) fn each_fit(column: &ColumnBuffer, rows: &[u32], first: Option<usize>, mut each: impl FnMut(Fit)) {
    match first.and_then(|first| column.fits.get(first..first + rows.len())) {
        Some(fits) => fits.iter().for_each(|fit| each(*fit)),
        None => rows.iter().for_each(|row| {
            each(column.fits.get(*row as usize).copied().unwrap_or(Fit::Absent));
        }),
    }
}

fn heap_len(column: &ColumnBuffer, rows: &[u32], first: Option<usize>) -> usize {
    let Values::Heap { .. } = &column.values else { return 0 };
    match first {
        Some(first) => contiguous_heap(column, first, rows.len()).len(),
        None => rows.iter().map(|row| column.heap_row(*row as usize).len()).sum(),
    }
}

fn contiguous_heap(column: &ColumnBuffer, first: usize, rows: usize) -> &[u8] {
    let Values::Heap { ends, heap } = &column.values else { return &[] };
    let start = heap_start(ends, first);
    let end = heap_start(ends, first + rows);
    heap.get(start..end).unwrap_or(&[])
}

fn heap_start(ends: &[u32], row: usize) -> usize {
    row.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |end| *end as usize)
}

fn write_values(column: &ColumnBuffer, rows: &[u32], first: Option<usize>, out: &mut [u8]) {
    match &column.values {
        Values::Bool(v) => write_bits(out, rows, |row| v.get(row).is_some_and(|flag| *flag != 0)),
        Values::I64(v) => write_fixed(v, rows, first, out, i64::to_le_bytes),
        Values::U64(v) => write_fixed(v, rows, first, out, u64::to_le_bytes),
        Values::I128(v) => write_fixed(v, rows, first, out, i128::to_le_bytes),
        Values::I32(v) => write_fixed(v, rows, first, out, i32::to_le_bytes),
        Values::Heap { .. } => write_offsets(column, rows, out),
    }
}

fn write_fixed<T: Copy + Default, const N: usize>(
    values: &[T],
    rows: &[u32],
    first: Option<usize>,
    out: &mut [u8],
    bytes: impl Fn(T) -> [u8; N],
) {
    let (places, _) = out.as_chunks_mut::<N>();
    match first.and_then(|first| values.get(first..first + rows.len())) {
        Some(values) => places.iter_mut().zip(values).for_each(|(place, value)| *place = bytes(*value)),
        None => places.iter_mut().zip(rows).for_each(|(place, row)| {
            *place = bytes(values.get(*row as usize).copied().unwrap_or_default());
        }),
    }
}

fn write_bits(out: &mut [u8], rows: &[u32], bit: impl Fn(usize) -> bool) {
    for (byte, rows) in out.iter_mut().zip(rows.chunks(8)) {
        *byte = rows.iter().enumerate().fold(0, |byte, (n, row)| byte | u8::from(bit(*row as usize)) << n);
    }
}

fn write_offsets(column: &ColumnBuffer, rows: &[u32], out: &mut [u8]) {
    let (places, _) = out.as_chunks_mut::<4>();
    let lengths = rows.iter().map(|row| column.heap_row(*row as usize).len());
    let ends = lengths.scan(0, |end, len| {
        *end += len;
        Some(*end)
    });
    for (place, offset) in places.iter_mut().zip(std::iter::once(0).chain(ends)) {
        *place = u32::try_from(offset).unwrap_or(u32::MAX).to_le_bytes();
    }
}

fn write_heap(column: &ColumnBuffer, rows: &[u32], first: Option<usize>, out: &mut [u8]) {
    if let Some(first) = first {
        let heap = contiguous_heap(column, first, rows.len());
        return out.iter_mut().zip(heap).for_each(|(place, byte)| *place = *byte);
    }
    let bytes = rows.iter().flat_map(|row| column.heap_row(*row as usize));
    out.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
}
