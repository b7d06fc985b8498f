//! Images made up from a manifest alone: plausible small values, edges of each type, NULL and ABSENT where declared.
//!
//! The same manifest always gives the same images; the check of an upload runs on them.

use super::manifest::{Column, Table, ValueType};
use crate::decode::{ColumnBuffer, Fit, ImageBatch, PlannedColumn, Side, TablePlan, Values};

/// Deterministic pseudo-random numbers (splitmix64, Steele et al. 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

/// `rows` made-up images of `table`; the same for the same `seed`.
#[must_use]
pub fn images(table: &Table, rows: usize, seed: u64) -> ImageBatch {
    let columns: Vec<PlannedColumn> = table.planned_columns();
    let plan = TablePlan { table: table.table.clone(), columns, hidden_columns: false };
    let mut batch = ImageBatch::new(0, &plan);
    let mut random = Random(seed);
    for row in 0..rows {
        for (declared, buffer) in table.columns.iter().zip(&mut batch.columns) {
            push(declared, declared.name == table.key, buffer, &mut random);
        }
        batch.sides.push(Side::After);
        batch.changes.push(u32::try_from(row).unwrap_or(u32::MAX));
    }
    batch
}

fn push(declared: &Column, is_key: bool, buffer: &mut ColumnBuffer, random: &mut Random) {
    let fit = match random.below(8) {
        0 if declared.nullable && !is_key => Fit::Null,
        1 if declared.absentable => Fit::Absent,
        _ => Fit::Value,
    };
    buffer.fits.push(fit);
    let has_value = fit == Fit::Value;
    let number = if has_value { number(declared.value_type, random) } else { 0 };
    match &mut buffer.values {
        Values::Bool(v) => v.push(u8::from(number & 1 == 1)),
        Values::I64(v) => v.push(i64::try_from(number).unwrap_or_default()),
        Values::U64(v) => v.push(u64::try_from(number).unwrap_or_default()),
        Values::I128(v) => v.push(number),
        Values::I32(v) => v.push(i32::try_from(number).unwrap_or_default()),
        Values::Heap { ends, heap } => {
            if has_value {
                const WORDS: [&str; 6] =
                    ["", "a", "paid", "name@example.org", "straße", "一二三四五六七八九十"];
                let words = WORDS.iter().cycle().skip(usize::try_from(number & 7).unwrap_or(0));
                words
                    .take(1 + usize::from(number & 1 == 1))
                    .for_each(|w| heap.extend_from_slice(w.as_bytes()));
            }
            ends.push(u32::try_from(heap.len()).unwrap_or(u32::MAX));
        }
    }
}

/// Mostly small numbers (states, flags), some of all sizes, now and then an edge of the type.
fn number(value_type: ValueType, random: &mut Random) -> i128 {
    let (low, high): (i128, i128) = match value_type {
        ValueType::Bool => (0, 1),
        ValueType::U64 => (0, u64::MAX.into()),
        ValueType::I64 => (i64::MIN.into(), i64::MAX.into()),
        ValueType::Date => (-719_528, 2_932_896),
        ValueType::Timestamp => (-62_167_219_200_000_000, 253_402_300_799_999_999),
        ValueType::Decimal { digits, .. } => {
            let most = 10_i128.pow(u32::from(digits.min(38))) - 1;
            (-most, most)
        }
        ValueType::Bytes | ValueType::Text => (0, 255),
    };
    let small = i128::from(random.below(10));
    let any = i128::from(random.next() >> random.below(64));
    let value = match random.below(16) {
        0 => low,
        1 => high,
        2 => -small,
        3..=6 => any,
        _ => small,
    };
    value.clamp(low, high)
}
