//! What `map` said of each image, in a form that two runs can be compared in.

use retag_abi::contribution::Record;
use retag_abi::unpack;

use super::manifest::{Manifest, ValueType};
use super::map::Contributions;

/// What one image gave: contributions with their keys and values spelled out, or the code of its refusal.
pub(super) type Verdict = Result<Vec<(u16, Option<Vec<u8>>, Vec<u8>)>, &'static str>;

/// The verdict on each of `images` images of a batch, from image `first` on.
pub(super) fn verdicts(
    manifest: &Manifest,
    out: &Contributions,
    (first, images): (u32, usize),
) -> Vec<Verdict> {
    let mut found: Vec<Verdict> = vec![Ok(Vec::new()); images];
    let place = |row: u32| row.checked_sub(first).map_or(usize::MAX, |n| n as usize);
    for record in &out.records {
        if let Some(Ok(list)) = found.get_mut(place(record.row)) {
            list.push((
                record.aggregate,
                key_bytes(manifest, out, record),
                value_bytes(manifest, out, record),
            ));
        }
    }
    for bad in &out.bad {
        if let Some(place) = found.get_mut(place(bad.row)) {
            *place = Err(bad.code);
        }
    }
    found
}

fn key_bytes(manifest: &Manifest, out: &Contributions, record: &Record) -> Option<Vec<u8>> {
    if record.key == 0 {
        return None;
    }
    let entry = out.keys.iter().find(|entry| entry.row == record.row && entry.n == record.key)?;
    if !matches!(manifest.key, ValueType::Text | ValueType::Bytes) {
        return Some(entry.value.to_le_bytes().to_vec());
    }
    let start = usize::try_from(entry.value).ok()?;
    out.heap.get(start..)?.get(..usize::from(entry.length)).map(<[u8]>::to_vec)
}

fn value_bytes(manifest: &Manifest, out: &Contributions, record: &Record) -> Vec<u8> {
    use retag_abi::column::Physical::{Bytes, Text, WideDecimal};
    let value = manifest.aggregates.get(usize::from(record.aggregate)).and_then(|a| a.value);
    match value.map(|v| v.column_type().physical) {
        Some(Bytes | Text | WideDecimal) => {
            let (offset, length) = unpack(record.value);
            let bytes = out.heap.get(offset as usize..).and_then(|rest| rest.get(..length as usize));
            bytes.unwrap_or_default().to_vec()
        }
        _ => record.value.to_le_bytes().to_vec(),
    }
}
