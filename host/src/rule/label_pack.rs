//! Readings → the input of `label` (ABI.md): header, descriptors, buffers, parameters.

use retag_abi::bytes::aligned;
use retag_abi::column::{Descriptor, Physical};
use retag_abi::label::{INPUT_HEADER_LEN, InputHeader, descriptor_at};

use super::label::{ReadingColumn, Readings, Span};
use super::manifest::Manifest;

/// Whether the readings are those of the manifest's aggregates; what differs.
pub(super) fn agrees(manifest: &Manifest, readings: &Readings) -> Result<(), String> {
    if manifest.aggregates.len() != readings.columns.len() {
        return Err(format!(
            "{} readings for {} aggregates",
            readings.columns.len(),
            manifest.aggregates.len()
        ));
    }
    for (aggregate, column) in manifest.aggregates.iter().zip(&readings.columns) {
        let fits = matches!(
            (aggregate.reading(), column),
            ((Physical::Bool, false), ReadingColumn::Bool(_))
                | ((Physical::I64, false), ReadingColumn::I64(_))
                | ((Physical::U64, false), ReadingColumn::U64(_))
                | ((Physical::WideDecimal, false), ReadingColumn::I128(_))
                | ((Physical::I64 | Physical::Decimal | Physical::Timestamp, true), ReadingColumn::OptI64(_))
                | ((Physical::U64, true), ReadingColumn::OptU64(_))
                | ((Physical::WideDecimal, true), ReadingColumn::OptI128(_))
                | ((Physical::Date, true), ReadingColumn::OptI32(_))
                | ((Physical::Bytes | Physical::Text, true), ReadingColumn::OptBytes(_))
        );
        if !fits || column.len() != readings.keys {
            let (name, len) = (&aggregate.name, column.len());
            return Err(format!("aggregate `{name}`: {len} readings of its type for {} keys", readings.keys));
        }
    }
    Ok(())
}

impl ReadingColumn {
    /// An empty column for readings of `aggregate`.
    #[must_use]
    pub fn for_aggregate(aggregate: &super::manifest::Aggregate) -> Self {
        match aggregate.reading() {
            (Physical::Bool, _) => Self::Bool(Vec::new()),
            (Physical::U64, false) => Self::U64(Vec::new()),
            (Physical::WideDecimal, false) => Self::I128(Vec::new()),
            (_, false) => Self::I64(Vec::new()),
            (Physical::U64, true) => Self::OptU64(Vec::new()),
            (Physical::WideDecimal, true) => Self::OptI128(Vec::new()),
            (Physical::Date, true) => Self::OptI32(Vec::new()),
            (Physical::Bytes | Physical::Text, true) => Self::OptBytes(Vec::new()),
            (_, true) => Self::OptI64(Vec::new()),
        }
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I128(v) => v.len(),
            Self::OptI64(v) => v.len(),
            Self::OptU64(v) => v.len(),
            Self::OptI128(v) => v.len(),
            Self::OptI32(v) => v.len(),
            Self::OptBytes(v) => v.len(),
        }
    }

    /// No key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Lays inputs of `label` out; keeps its buffer between them.
pub(super) struct LabelPacker {
    out: Vec<u8>,
    tags: Vec<Physical>,
}

impl LabelPacker {
    /// Takes the tags of a rule's readings from its manifest.
    pub(super) fn for_manifest(manifest: &Manifest) -> Self {
        Self { out: Vec::new(), tags: manifest.aggregates.iter().map(|a| a.reading().0).collect() }
    }

    /// The input for the keys of `span`.
    pub(super) fn pack(&mut self, span: Span<'_>, params: &[u8]) -> &[u8] {
        let columns = &span.readings.columns;
        let out = &mut self.out;
        out.clear();
        out.resize(aligned(INPUT_HEADER_LEN.max(descriptor_at(columns.len()))), 0);
        for (n, (column, tag)) in columns.iter().zip(&self.tags).enumerate() {
            let place = push_column(out, column, *tag, span);
            place.write(out, descriptor_at(n));
        }
        let header = InputHeader {
            keys: narrow(span.keys),
            aggregates: narrow(columns.len()),
            params: narrow(out.len()),
            params_len: narrow(params.len()),
            now: span.now,
        };
        header.write(out);
        out.extend_from_slice(params);
        pad(out);
        out
    }
}

fn push_column(out: &mut Vec<u8>, column: &ReadingColumn, tag: Physical, span: Span<'_>) -> Descriptor {
    match column {
        ReadingColumn::Bool(v) => {
            let mut place = start(out, tag);
            push_bits(out, part(v, span).iter().copied());
            finish(out, &mut place);
            place
        }
        ReadingColumn::I64(v) => push_plain(out, tag, part(v, span), i64::to_le_bytes),
        ReadingColumn::U64(v) => push_plain(out, tag, part(v, span), u64::to_le_bytes),
        ReadingColumn::I128(v) => push_plain(out, tag, part(v, span), i128::to_le_bytes),
        ReadingColumn::OptI64(v) => push_optional(out, tag, part(v, span), i64::to_le_bytes),
        ReadingColumn::OptU64(v) => push_optional(out, tag, part(v, span), u64::to_le_bytes),
        ReadingColumn::OptI128(v) => push_optional(out, tag, part(v, span), i128::to_le_bytes),
        ReadingColumn::OptI32(v) => push_optional(out, tag, part(v, span), i32::to_le_bytes),
        ReadingColumn::OptBytes(v) => push_heap(out, tag, part(v, span)),
    }
}

fn part<'a, T>(values: &'a [T], span: Span<'_>) -> &'a [T] {
    values.get(span.at..).and_then(|rest| rest.get(..span.keys)).unwrap_or(&[])
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn pad(out: &mut Vec<u8>) {
    out.resize(aligned(out.len()), 0);
}

fn start(out: &[u8], tag: Physical) -> Descriptor {
    Descriptor { values: narrow(out.len()), tag: u32::from(tag as u8), ..Descriptor::default() }
}

fn finish(out: &mut Vec<u8>, place: &mut Descriptor) {
    place.values_len = narrow(out.len()) - place.values;
    pad(out);
}

fn push_bits(out: &mut Vec<u8>, bits: impl Iterator<Item = bool>) {
    let mut byte = 0_u8;
    let mut n = 0;
    for bit in bits {
        byte |= u8::from(bit) << n;
        n += 1;
        if n == 8 {
            out.push(std::mem::take(&mut byte));
            n = 0;
        }
    }
    if n > 0 {
        out.push(byte);
    }
}

fn push_plain<T: Copy, const N: usize>(
    out: &mut Vec<u8>,
    tag: Physical,
    values: &[T],
    bytes: fn(T) -> [u8; N],
) -> Descriptor {
    let mut place = start(out, tag);
    values.iter().for_each(|value| out.extend_from_slice(&bytes(*value)));
    finish(out, &mut place);
    place
}

fn push_optional<T: Copy + Default, const N: usize>(
    out: &mut Vec<u8>,
    tag: Physical,
    values: &[Option<T>],
    bytes: fn(T) -> [u8; N],
) -> Descriptor {
    let mut place = start(out, tag);
    values.iter().for_each(|value| out.extend_from_slice(&bytes(value.unwrap_or_default())));
    finish(out, &mut place);
    push_validity(out, &mut place, values.iter().map(Option::is_some));
    place
}

fn push_validity(out: &mut Vec<u8>, place: &mut Descriptor, valid: impl Iterator<Item = bool> + Clone) {
    if valid.clone().all(|valid| valid) {
        return;
    }
    place.validity = narrow(out.len());
    push_bits(out, valid);
    pad(out);
}

fn push_heap(out: &mut Vec<u8>, tag: Physical, values: &[Option<Vec<u8>>]) -> Descriptor {
    let mut place = start(out, tag);
    let mut end = 0;
    out.extend_from_slice(&[0; 4]);
    for value in values {
        end += value.as_ref().map_or(0, Vec::len);
        out.extend_from_slice(&narrow(end).to_le_bytes());
    }
    finish(out, &mut place);
    push_validity(out, &mut place, values.iter().map(Option::is_some));
    place.heap = narrow(out.len());
    place.heap_len = narrow(end);
    values.iter().flatten().for_each(|value| out.extend_from_slice(value));
    pad(out);
    place
}
