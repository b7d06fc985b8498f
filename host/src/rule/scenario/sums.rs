//! Aggregates of one key in their plainest form: numbers, and sets of counted values. For scenarios only; the engine's
//! own are in `aggregate`, and an end-to-end test runs the same scenarios through those.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use retag_abi::bytes::i128_at;
use retag_abi::column::Physical;
use retag_abi::contribution::Record;
use retag_abi::unpack;

use crate::decode::{ImageBatch, Values};
use crate::rule::label::ReadingColumn;
use crate::rule::manifest::{Aggregate, Manifest, Table, ValueType};
use crate::rule::map::Contributions;

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Number(i128),
    Text(String),
    Bytes(Vec<u8>),
}

impl Key {
    /// The key that `record` goes to.
    pub(super) fn of(
        manifest: &Manifest,
        table: &Table,
        batch: &ImageBatch,
        out: &Contributions,
        record: &Record,
    ) -> Option<Self> {
        if record.key == 0 {
            let row = record.row as usize;
            let column = batch.columns.get(table.key_column()?)?;
            return match &column.values {
                Values::I64(v) => Some(Self::Number((*v.get(row)?).into())),
                Values::U64(v) => Some(Self::Number((*v.get(row)?).into())),
                _ => Self::of_bytes(manifest.key, column.heap_row(row)),
            };
        }
        let entry = out.keys.iter().find(|entry| entry.row == record.row && entry.n == record.key)?;
        match manifest.key {
            ValueType::U64 => Some(Self::Number(entry.value.into())),
            ValueType::I64 => Some(Self::Number(entry.value.cast_signed().into())),
            key => {
                let start = usize::try_from(entry.value).ok()?;
                Self::of_bytes(key, out.heap.get(start..)?.get(..usize::from(entry.length))?)
            }
        }
    }

    fn of_bytes(key: ValueType, bytes: &[u8]) -> Option<Self> {
        match key {
            ValueType::Text => std::str::from_utf8(bytes).ok().map(|text| Self::Text(text.to_owned())),
            _ => Some(Self::Bytes(bytes.to_vec())),
        }
    }

    /// The text form (design section 2).
    pub(super) fn text(&self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => URL_SAFE_NO_PAD.encode(bytes),
        }
    }
}

/// An entry of a counted set; all entries of one set are of one variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Number(i128),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sum {
    Count(i64),
    Total(i128),
    Set(BTreeMap<Entry, i64>),
}

/// The aggregates of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sums(Vec<Sum>);

impl Sums {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let zero = |aggregate: &Aggregate| match aggregate.kind.as_str() {
            "any" | "count" => Sum::Count(0),
            "sum" => Sum::Total(0),
            _ => Sum::Set(BTreeMap::new()),
        };
        Self(manifest.aggregates.iter().map(zero).collect())
    }

    /// Adds `sign` times the contribution.
    pub(super) fn add(&mut self, manifest: &Manifest, record: &Record, heap: &[u8], sign: i64) {
        let at = usize::from(record.aggregate);
        let value_type = manifest.aggregates.get(at).and_then(|aggregate| aggregate.value);
        let entry = entry(value_type, record.value, heap);
        match (self.0.get_mut(at), entry) {
            (Some(Sum::Count(count)), _) => *count += sign * record.value,
            (Some(Sum::Total(total)), Entry::Number(value)) => *total += i128::from(sign) * value,
            (Some(Sum::Set(set)), entry) => {
                let count = set.entry(entry.clone()).or_insert(0);
                *count += sign;
                if *count == 0 {
                    set.remove(&entry);
                }
            }
            _ => {}
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|sum| match sum {
            Sum::Count(count) => *count == 0,
            Sum::Total(total) => *total == 0,
            Sum::Set(set) => set.is_empty(),
        })
    }

    /// A count below zero: something is still to come.
    pub(super) fn is_pending(&self) -> bool {
        self.0.iter().any(|sum| match sum {
            Sum::Count(count) => *count < 0,
            Sum::Total(_) => false,
            Sum::Set(set) => set.values().any(|count| *count < 0),
        })
    }

    /// The readings, one key long.
    pub(super) fn readings(&self, manifest: &Manifest) -> Vec<ReadingColumn> {
        self.0.iter().zip(&manifest.aggregates).map(|(sum, aggregate)| reading(sum, aggregate)).collect()
    }
}

fn entry(value_type: Option<ValueType>, value: i64, heap: &[u8]) -> Entry {
    let referred = || {
        let (offset, length) = unpack(value);
        heap.get(offset as usize..).and_then(|rest| rest.get(..length as usize)).unwrap_or(&[])
    };
    match value_type.map(|value_type| value_type.column_type().physical) {
        Some(Physical::Text | Physical::Bytes) => Entry::Bytes(referred().to_vec()),
        Some(Physical::WideDecimal) => Entry::Number(i128_at(referred(), 0).unwrap_or_default()),
        Some(Physical::U64) => Entry::Number(value.cast_unsigned().into()),
        _ => Entry::Number(value.into()),
    }
}

fn reading(sum: &Sum, aggregate: &Aggregate) -> ReadingColumn {
    match (sum, aggregate.kind.as_str()) {
        (Sum::Count(count), "any") => ReadingColumn::Bool(vec![*count > 0]),
        (Sum::Count(count), _) => ReadingColumn::I64(vec![*count]),
        (Sum::Total(total), _) => ReadingColumn::I128(vec![*total]),
        (Sum::Set(set), "min") => edge(set.keys().next(), aggregate),
        (Sum::Set(set), "max") => edge(set.keys().next_back(), aggregate),
        (Sum::Set(set), _) => ReadingColumn::U64(vec![set.len() as u64]),
    }
}

fn edge(entry: Option<&Entry>, aggregate: &Aggregate) -> ReadingColumn {
    let number = entry.and_then(|entry| if let Entry::Number(n) = entry { Some(*n) } else { None });
    match ReadingColumn::for_aggregate(aggregate) {
        ReadingColumn::OptU64(_) => ReadingColumn::OptU64(vec![number.and_then(|n| n.try_into().ok())]),
        ReadingColumn::OptI128(_) => ReadingColumn::OptI128(vec![number]),
        ReadingColumn::OptI32(_) => ReadingColumn::OptI32(vec![number.and_then(|n| n.try_into().ok())]),
        ReadingColumn::OptBytes(_) => {
            let bytes =
                entry.and_then(|entry| if let Entry::Bytes(b) = entry { Some(b.clone()) } else { None });
            ReadingColumn::OptBytes(vec![bytes])
        }
        _ => ReadingColumn::OptI64(vec![number.and_then(|n| n.try_into().ok())]),
    }
}
