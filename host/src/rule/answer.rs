//! What `map` returned → contributions, every number of it checked against the guest's memory and the manifest.
//!
//! Each check looks at one row's records alone, so that a batch that passes proves that each of its rows passes. On a
//! fault the contributions are as they were before.

use retag_abi::contribution::{
    HEADER_LEN, Header, KEY_ENTRY_LEN, KEYS_PER_ROW_MAX, KeyEntry, RECORD_LEN, Record,
};
use retag_abi::{KEY_BYTES_MAX, unpack};

use super::error::Fault;
use super::limits::{HEAP_BYTES_PER_ROW_MAX, RECORDS_PER_ROW_MAX, VALUE_BYTES_MAX};
use super::manifest::{Manifest, ValueType};
use super::map::Contributions;

/// What the value of an aggregate's record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Any and count: 0 to 2^32 − 1.
    Count,
    /// All 64 bits mean something.
    Any,
    Bool,
    Date,
    /// A reference to 16 bytes.
    Wide,
    /// A reference to UTF-8.
    Text,
    /// A reference to bytes.
    Bytes,
}

/// What the answers of one rule are checked against.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    checks: Vec<Check>,
    key: ValueType,
}

impl Shape {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let check = |value: Option<ValueType>| match value {
            None => Check::Count,
            Some(ValueType::Bool) => Check::Bool,
            Some(ValueType::Date) => Check::Date,
            Some(ValueType::Decimal { digits: 19.., .. }) => Check::Wide,
            Some(ValueType::Text) => Check::Text,
            Some(ValueType::Bytes) => Check::Bytes,
            Some(_) => Check::Any,
        };
        Self { checks: manifest.aggregates.iter().map(|a| check(a.value)).collect(), key: manifest.key }
    }

    /// Appends the answer whose header lies at `header` to `out`; `rows` are the batch's rows in the images.
    pub(super) fn read(
        &self,
        memory: &[u8],
        header: (u32, u32),
        rows: &[u32],
        out: &mut Contributions,
    ) -> Result<(), Fault> {
        let mark = (out.records.len(), out.keys.len(), out.heap.len());
        let answer = self.read_parts(memory, header, rows, out);
        if answer.is_err() {
            out.records.truncate(mark.0);
            out.keys.truncate(mark.1);
            out.heap.truncate(mark.2);
        }
        answer
    }

    fn read_parts(
        &self,
        memory: &[u8],
        header: (u32, u32),
        rows: &[u32],
        out: &mut Contributions,
    ) -> Result<(), Fault> {
        if header.1 as usize != HEADER_LEN {
            return Err(Fault::new(
                "bad-length",
                format!("the output header has {} bytes, not 24", header.1),
            ));
        }
        let header = Header::read(slice(memory, header, "header")?)
            .ok_or_else(|| Fault::new("bad-pointer", "the output header is cut short"))?;
        let records = slice(memory, header.records, "records")?;
        let keys = slice(memory, header.keys, "keys")?;
        let heap = slice(memory, header.heap, "heap")?;
        for (what, part, unit) in [("records", records, RECORD_LEN), ("keys", keys, KEY_ENTRY_LEN)] {
            if !part.len().is_multiple_of(unit) {
                let message = format!("{what} have {} bytes, no multiple of {unit}", part.len());
                return Err(Fault::new("bad-length", message));
            }
        }
        let mut heap = Heap { guest: heap, out: &mut out.heap, row: 0, of_row: 0 };
        self.read_keys(keys, rows, &mut heap, &mut out.keys)?;
        (heap.row, heap.of_row) = (0, 0);
        self.read_records(records, keys, (rows, &mut heap), &mut out.records)
    }

    fn read_records(
        &self,
        records: &[u8],
        keys: &[u8],
        (rows, heap): (&[u32], &mut Heap<'_>),
        out: &mut Vec<Record>,
    ) -> Result<(), Fault> {
        let (records, _) = records.as_chunks::<RECORD_LEN>();
        if records.len() > rows.len().saturating_mul(RECORDS_PER_ROW_MAX) {
            return Err(too_many_records());
        }
        out.reserve(records.len());
        let (mut last_row, mut of_row) = (0, 0);
        let mut keys = KeyCursor { keys, at: 0 };
        for bytes in records {
            let mut record = parse_record(*bytes);
            let Some(image) = rows.get(record.row as usize) else {
                return Err(Fault::new("row-out-of-range", format!("a record of row {}", record.row)));
            };
            if record.row != last_row {
                if record.row < last_row {
                    return Err(Fault::new("row-order", "records are not in the order of rows"));
                }
                (last_row, of_row) = (record.row, 0);
            }
            of_row += 1;
            if of_row > RECORDS_PER_ROW_MAX {
                return Err(too_many_records());
            }
            let Some(check) = self.checks.get(usize::from(record.aggregate)) else {
                let message = format!("aggregate {} is not in the manifest", record.aggregate);
                return Err(Fault::new("unknown-aggregate", message));
            };
            if record.key != 0 && !keys.lists(record.row, record.key) {
                let message = format!("key {} of row {} is not listed", record.key, record.row);
                return Err(Fault::new("unlisted-key", message));
            }
            record.value = checked_value(*check, record, heap)?;
            record.row = *image;
            out.push(record);
        }
        Ok(())
    }

    fn read_keys(
        &self,
        keys: &[u8],
        rows: &[u32],
        heap: &mut Heap<'_>,
        out: &mut Vec<KeyEntry>,
    ) -> Result<(), Fault> {
        let (mut last_row, mut last_n) = (0, 0);
        for at in (0..keys.len()).step_by(KEY_ENTRY_LEN) {
            let Some(mut entry) = KeyEntry::read(keys, at) else { break };
            let Some(image) = rows.get(entry.row as usize) else {
                return Err(Fault::new("row-out-of-range", format!("a key of row {}", entry.row)));
            };
            if entry.row != last_row {
                if entry.row < last_row {
                    return Err(Fault::new("row-order", "keys are not in the order of rows"));
                }
                (last_row, last_n) = (entry.row, 0);
            }
            if entry.n > KEYS_PER_ROW_MAX || last_n == KEYS_PER_ROW_MAX {
                return Err(Fault::new("too-many-keys", "a row has more than 255 computed keys"));
            }
            if entry.n != last_n + 1 {
                return Err(Fault::new(
                    "bad-key-list",
                    format!("key {} follows key {last_n} of a row", entry.n),
                ));
            }
            last_n = entry.n;
            entry.value = self.checked_key(entry, heap)?;
            entry.row = *image;
            out.push(entry);
        }
        Ok(())
    }

    fn checked_key(&self, entry: KeyEntry, heap: &mut Heap<'_>) -> Result<u64, Fault> {
        let length = usize::from(entry.length);
        if matches!(self.key, ValueType::U64 | ValueType::I64) {
            let fits = length == 8;
            let fault = || Fault::new("bad-key-list", format!("a number as key has {length} bytes, not 8"));
            return fits.then_some(entry.value).ok_or_else(fault);
        }
        if length > KEY_BYTES_MAX {
            return Err(Fault::new(
                "key-too-long",
                format!("a key of {length} bytes, at most {KEY_BYTES_MAX}"),
            ));
        }
        let bytes = heap.bytes(entry.value, length)?;
        if self.key == ValueType::Text && simdutf8::basic::from_utf8(bytes).is_err() {
            return Err(Fault::new("key-not-utf8", "a text key is not UTF-8"));
        }
        heap.keep(entry.row, bytes).map(u64::from)
    }
}

/// The guest's heap, of which only what is referred to is kept.
struct Heap<'a> {
    guest: &'a [u8],
    out: &'a mut Vec<u8>,
    row: u32,
    of_row: usize,
}

impl<'a> Heap<'a> {
    fn bytes(&self, offset: u64, length: usize) -> Result<&'a [u8], Fault> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.guest.get(start..).and_then(|rest| rest.get(..length));
        let outside = || format!("a reference to {length} bytes at {offset} ends outside the heap");
        bytes.ok_or_else(|| Fault::new("bad-heap-reference", outside()))
    }

    /// Copies a value of `row`; its offset in the contributions' heap.
    fn keep(&mut self, row: u32, bytes: &[u8]) -> Result<u32, Fault> {
        if row != self.row {
            (self.row, self.of_row) = (row, 0);
        }
        self.of_row += bytes.len();
        if self.of_row > HEAP_BYTES_PER_ROW_MAX {
            let message = format!("long values or keys of a row exceed {HEAP_BYTES_PER_ROW_MAX} bytes");
            return Err(Fault::new("row-too-long", message));
        }
        let at = u32::try_from(self.out.len());
        let at = at.map_err(|_| Fault::new("heap-full", "the block's long values exceed 4 GiB"))?;
        self.out.extend_from_slice(bytes);
        Ok(at)
    }
}

/// Walks the key list beside the records.
struct KeyCursor<'a> {
    keys: &'a [u8],
    at: usize,
}

impl KeyCursor<'_> {
    /// Whether the list has key `n` of `row`; rows never go back. The list is known to be in order.
    fn lists(&mut self, row: u32, n: u16) -> bool {
        let row_at = |at: usize| KeyEntry::read(self.keys, at * KEY_ENTRY_LEN).map(|entry| entry.row);
        let mut at = self.at;
        while row_at(at).is_some_and(|found| found < row) {
            at += 1;
        }
        let found = row_at(at + usize::from(n) - 1) == Some(row);
        self.at = at;
        found
    }
}

#[inline]
fn parse_record(bytes: [u8; RECORD_LEN]) -> Record {
    let [a, b, c, d, e, f, g, h, value @ ..] = bytes;
    Record {
        row: u32::from_le_bytes([a, b, c, d]),
        aggregate: u16::from_le_bytes([e, f]),
        key: u16::from_le_bytes([g, h]),
        value: i64::from_le_bytes(value),
    }
}

/// The value; long values go to the contributions' heap.
#[inline]
fn checked_value(check: Check, record: Record, heap: &mut Heap<'_>) -> Result<i64, Fault> {
    let value = record.value;
    let fits = match check {
        Check::Any => true,
        Check::Count => (0..=i64::from(u32::MAX)).contains(&value),
        Check::Bool => (0..=1).contains(&value),
        Check::Date => i32::try_from(value).is_ok(),
        Check::Wide | Check::Text | Check::Bytes => return checked_reference(check, record, heap),
    };
    if fits {
        Ok(value)
    } else {
        Err(Fault::new("bad-value", format!("{value} is no value of its aggregate")))
    }
}

fn checked_reference(check: Check, record: Record, heap: &mut Heap<'_>) -> Result<i64, Fault> {
    let (offset, length) = unpack(record.value);
    let bytes = heap.bytes(u64::from(offset), length as usize)?;
    match check {
        Check::Wide => {
            let number = <[u8; 16]>::try_from(bytes)
                .map(i128::from_le_bytes)
                .map_err(|_| Fault::new("bad-value", format!("a wide decimal of {length} bytes, not 16")))?;
            if number.unsigned_abs() >= 10_u128.pow(38) {
                return Err(Fault::new("bad-value", "a decimal beyond 38 digits"));
            }
        }
        _ if bytes.len() > VALUE_BYTES_MAX => {
            return Err(Fault::new(
                "value-too-long",
                format!("a value of {length} bytes, at most {VALUE_BYTES_MAX}"),
            ));
        }
        Check::Text if simdutf8::basic::from_utf8(bytes).is_err() => {
            return Err(Fault::new("value-not-utf8", "a text value is not UTF-8"));
        }
        _ => {}
    }
    Ok(retag_abi::pack(heap.keep(record.row, bytes)?, length))
}

fn too_many_records() -> Fault {
    Fault::new("too-many-records", format!("more than {RECORDS_PER_ROW_MAX} contributions of one row"))
}

/// The part of guest memory at (address, length); an empty part may have any address.
pub(super) fn slice<'a>(memory: &'a [u8], (at, len): (u32, u32), what: &str) -> Result<&'a [u8], Fault> {
    if len == 0 {
        return Ok(&[]);
    }
    let part = memory.get(at as usize..).and_then(|rest| rest.get(..len as usize));
    part.ok_or_else(|| {
        Fault::new("bad-pointer", format!("{what} at {at} + {len} lie outside the guest's memory"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TYPES: [&str; 4] = ["u64", "text", "bytes", "i64"];

    fn shape(key: usize) -> Shape {
        let wide = r#"{"type":"decimal","scale":2,"digits":38}"#;
        let text = format!(
            r#"{{"abi":"retag_1","name":"r","entity":"user","version":"1","key":{{"type":"{}"}},"tables":[],"labels":[],
            "aggregates":[{{"id":0,"name":"n","kind":"count"}},{{"id":1,"name":"w","kind":"sum","value":{wide}}},
            {{"id":2,"name":"t","kind":"distinct","value":{{"type":"text"}}}},
            {{"id":3,"name":"d","kind":"min","value":{{"type":"date"}}}}]}}"#,
            TYPES[key]
        );
        Shape::new(&serde_json::from_str(&text).unwrap())
    }

    fn place() -> impl Strategy<Value = (u32, u32)> {
        prop_oneof![Just((0, 0)), (24..200_u32, (0..6_u32).prop_map(|n| n * 16)), any::<(u32, u32)>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        /// Whatever lies in the guest's memory: no panic, nothing kept of a refused answer, nothing out of range kept.
        #[test]
        fn any_answer_is_taken_whole_or_not_at_all(
            key in 0..4_usize,
            parts in (place(), place(), place()),
            small in prop::collection::vec(prop_oneof![9 => Just(0_u8), 1 => 0..4_u8], 0..300),
            noise in prop::collection::vec((0..300_usize, any::<u8>()), 0..4),
            rows in prop::collection::vec(any::<u32>(), 0..4),
        ) {
            let mut memory = small;
            memory.resize(memory.len().max(24), 0);
            noise.iter().for_each(|(at, byte)| { if let Some(place) = memory.get_mut(*at) { *place = *byte; } });
            Header { records: parts.0, keys: parts.1, heap: parts.2 }.write(&mut memory);
            let before = Contributions { heap: vec![7; 5], ..Contributions::default() };
            let mut out = before.clone();
            match shape(key).read(&memory, (0, 24), &rows, &mut out) {
                Err(_) => prop_assert_eq!(out, before),
                Ok(()) => {
                    prop_assert!(out.records.iter().all(|record| rows.contains(&record.row) && record.aggregate < 4));
                    let referred = out.records.iter().filter(|record| matches!(record.aggregate, 1 | 2));
                    for (offset, length) in referred.map(|record| unpack(record.value)) {
                        prop_assert!(offset as usize + length as usize <= out.heap.len());
                    }
                }
            }
        }
    }
}
