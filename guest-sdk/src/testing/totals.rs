//! The host's arithmetic in miniature: per key and aggregate a number or a counted set, fed by the bytes of `map`.
//! The law holds here as there: what + did, − undoes, and a key whose aggregates are all zero does not exist.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use retag_abi::column::Physical;
use retag_abi::contribution::{KEY_ENTRY_LEN, KeyEntry, RECORD_LEN, Record};
use retag_abi::unpack;

use super::{Cell, map_bytes};
use crate::{Key, KindInfo, Map, ValueType};

/// A key of any type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyValue {
    /// An integer key.
    Number(i128),
    /// A text key.
    Text(String),
    /// A bytes key.
    Bytes(Vec<u8>),
}

impl KeyValue {
    /// The key in `key`, of type `value_type`.
    #[must_use]
    pub fn new(key: Key<'_>, value_type: ValueType) -> Self {
        match key {
            Key::Bits(bits) if value_type.physical == Physical::I64 => {
                Self::Number(bits.cast_signed().into())
            }
            Key::Bits(bits) => Self::Number(bits.into()),
            Key::Bytes(bytes) => match core::str::from_utf8(bytes) {
                Ok(text) if value_type.physical == Physical::Text => Self::Text(text.into()),
                _ => Self::Bytes(bytes.into()),
            },
        }
    }
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Bytes(bytes) => base64url(bytes, f),
        }
    }
}

/// Base64url without padding, as byte keys are written everywhere.
fn base64url(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - three.len()));
        for n in 0..=three.len() {
            let digit = DIGITS.get(bits >> (18 - 6 * n) & 63).copied().unwrap_or(b'A');
            write!(f, "{}", char::from(digit))?;
        }
    }
    Ok(())
}

/// An entry of a counted set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Number(i128),
    Bytes(Vec<u8>),
}

/// What is kept for one aggregate of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Total {
    Number(i128),
    Counted(BTreeMap<Entry, i64>),
}

/// The readings of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// One cell per aggregate.
    pub cells: Vec<Cell>,
    /// A count, an `any` or an entry is below zero: the labels are held.
    pub pending: bool,
}

/// Sums of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    keys: BTreeMap<KeyValue, Vec<Total>>,
}

/// One leg: table, cells, sign.
pub(super) type Leg = (usize, Vec<Cell>, i64);

impl Totals {
    /// Adds `legs` of one table, in one batch.
    pub(super) fn add<R: Map>(&mut self, table: usize, legs: &[&Leg]) {
        let Some(info) = R::TABLES.get(table) else { return };
        let columns: Vec<ValueType> = info.columns.iter().map(|column| column.value_type).collect();
        let rows: Vec<Vec<Cell>> = legs.iter().map(|(_, cells, _)| cells.clone()).collect();
        let (records, keys, heap) = map_bytes::<R>(&super::batch(table, &columns, &rows));
        let keys: BTreeMap<(u32, u16), KeyValue> = keys
            .chunks(KEY_ENTRY_LEN)
            .filter_map(|bytes| KeyEntry::read(bytes, 0))
            .map(|entry| ((entry.row, entry.n), computed(entry, R::KEY, &heap)))
            .collect();
        for record in records.chunks(RECORD_LEN).filter_map(|bytes| Record::read(bytes, 0)) {
            let Some((_, cells, sign)) = legs.get(record.row as usize) else { continue };
            let key = match record.key {
                0 => own(cells.get(info.key), R::KEY),
                n => keys.get(&(record.row, n)).cloned(),
            };
            if let Some(key) = key {
                self.contribute::<R>(key, record, *sign, &heap);
            }
        }
        self.keys.retain(|_, totals| totals.iter().any(|total| !total.is_zero()));
    }

    fn contribute<R: Map>(&mut self, key: KeyValue, record: Record, sign: i64, heap: &[u8]) {
        let zero = || R::AGGREGATES.iter().map(Total::zero).collect();
        let totals = self.keys.entry(key).or_insert_with(zero);
        let aggregate = usize::from(record.aggregate);
        if let (Some(total), Some(info)) = (totals.get_mut(aggregate), R::AGGREGATES.get(aggregate)) {
            total.add(value(record.value, info, heap), sign);
        }
    }

    /// Keys that exist, with their readings.
    pub fn readings<'a>(&'a self, kinds: &'a [KindInfo]) -> impl Iterator<Item = (&'a KeyValue, Reading)> {
        self.keys.iter().map(|(key, totals)| (key, reading(totals, kinds)))
    }

    /// The readings of `key`; none if it does not exist.
    #[must_use]
    pub fn reading(&self, key: &KeyValue, kinds: &[KindInfo]) -> Option<Reading> {
        Some(reading(self.keys.get(key)?, kinds))
    }
}

fn reading(totals: &[Total], kinds: &[KindInfo]) -> Reading {
    let cells = totals.iter().zip(kinds).map(|(total, info)| total.cell(info)).collect();
    let pending = totals.iter().zip(kinds).any(|(total, info)| total.is_pending(info));
    Reading { cells, pending }
}

/// The row's own key; none where it is NULL.
fn own(cell: Option<&Cell>, key: ValueType) -> Option<KeyValue> {
    match cell {
        Some(Cell::Number(number)) => Some(KeyValue::Number(*number)),
        Some(Cell::Bytes(bytes)) => Some(KeyValue::new(Key::Bytes(bytes), key)),
        _ => None,
    }
}

fn slice(heap: &[u8], offset: usize, length: usize) -> &[u8] {
    let part = heap.get(offset..).and_then(|rest| rest.get(..length));
    part.unwrap_or_else(|| panic!("a contribution points behind the heap"))
}

fn computed(entry: KeyEntry, key: ValueType, heap: &[u8]) -> KeyValue {
    match key.physical {
        Physical::Bytes | Physical::Text => {
            let offset = usize::try_from(entry.value).unwrap_or(usize::MAX);
            KeyValue::new(Key::Bytes(slice(heap, offset, entry.length.into())), key)
        }
        _ => KeyValue::new(Key::Bits(entry.value), key),
    }
}

fn value(value: i64, info: &KindInfo, heap: &[u8]) -> Entry {
    let stored = || {
        let (offset, length) = unpack(value);
        slice(heap, offset as usize, length as usize)
    };
    match info.value.map(|value| value.physical) {
        Some(Physical::Bytes | Physical::Text) => Entry::Bytes(stored().into()),
        Some(Physical::WideDecimal) => {
            Entry::Number(retag_abi::bytes::i128_at(stored(), 0).unwrap_or_else(|| panic!("a short value")))
        }
        Some(Physical::U64) => Entry::Number(value.cast_unsigned().into()),
        _ => Entry::Number(value.into()),
    }
}

impl Total {
    fn zero(info: &KindInfo) -> Self {
        match info.kind {
            "min" | "max" | "distinct" => Self::Counted(BTreeMap::new()),
            "any" | "count" | "sum" => Self::Number(0),
            other => panic!("the harness does not know the aggregate kind {other}"),
        }
    }

    fn add(&mut self, entry: Entry, sign: i64) {
        match (self, entry) {
            (Self::Number(number), Entry::Number(value)) => *number += value * i128::from(sign),
            (Self::Number(_), Entry::Bytes(_)) => panic!("bytes cannot be summed"),
            (Self::Counted(set), entry) => {
                let count = set.entry(entry.clone()).or_default();
                *count += sign;
                if *count == 0 {
                    set.remove(&entry);
                }
            }
        }
    }

    fn is_zero(&self) -> bool {
        match self {
            Self::Number(number) => *number == 0,
            Self::Counted(set) => set.is_empty(),
        }
    }

    fn is_pending(&self, info: &KindInfo) -> bool {
        match self {
            Self::Number(number) => info.kind != "sum" && *number < 0,
            Self::Counted(set) => set.values().any(|count| *count < 0),
        }
    }

    fn cell(&self, info: &KindInfo) -> Cell {
        match self {
            Self::Number(number) if info.kind == "any" => Cell::Number(i128::from(*number > 0)),
            Self::Number(number) => Cell::Number(*number),
            Self::Counted(set) => {
                let mut positive = set.iter().filter(|(_, count)| **count > 0).map(|(entry, _)| entry);
                let found = match info.kind {
                    "min" => positive.next(),
                    "max" => positive.next_back(),
                    _ => return Cell::Number(positive.count() as i128),
                };
                match found {
                    Some(Entry::Number(number)) => Cell::Number(*number),
                    Some(Entry::Bytes(bytes)) => Cell::Bytes(bytes.clone()),
                    None => Cell::Null,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn keys_print_as_everywhere() {
        let check = |key: Key<'_>, physical: Physical, text: &str| {
            assert_eq!(KeyValue::new(key, ValueType::of(physical)).to_string(), text);
        };
        check(Key::Bits(u64::MAX), Physical::U64, "18446744073709551615");
        check(Key::Bits(u64::MAX), Physical::I64, "-1");
        check(Key::Bytes("é/x".as_bytes()), Physical::Text, "é/x");
        check(Key::Bytes(&[0xfb, 0xff]), Physical::Bytes, "-_8");
        check(Key::Bytes(b"abc"), Physical::Bytes, "YWJj");
    }
}
