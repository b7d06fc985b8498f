//! Which rows may be shown to a rule: a value that does not fit its declared column quarantines the image before any
//! call; a NULL key contributes nothing and is counted.

use retag_abi::KEY_BYTES_MAX;

use super::manifest::{Column, Table};
use super::map::{BadImage, Contributions};
use super::pack::{Selection, each_fit, first_of_contiguous};
use crate::decode::{Fit, Values};

/// Code of an image that lacks a column.
pub const COLUMN_ABSENT: &str = "column-absent";

/// Puts the fitting rows of `selection` into `fitting` and names the others in `out`. False where all rows fit: then
/// `fitting` is empty and the rows are used as they are.
pub(super) fn select(
    table: &Table,
    selection: Selection<'_>,
    fitting: &mut Vec<u32>,
    out: &mut Contributions,
) -> bool {
    fitting.clear();
    let first = first_of_contiguous(selection.rows);
    let key = table.key_column();
    let mut all_values = true;
    for (n, at) in selection.columns.iter().enumerate() {
        let Some(column) = selection.batch.columns.get(*at) else { continue };
        let mut misfits = 0_usize;
        each_fit(column, selection.rows, first, |fit| misfits += usize::from(fit != Fit::Value));
        let heap_key = key == Some(n) && matches!(column.values, Values::Heap { .. });
        all_values &= misfits == 0 && !heap_key;
    }
    if all_values {
        return false;
    }
    for row in selection.rows {
        match verdict(table, key, selection, *row) {
            Ok(true) => fitting.push(*row),
            Ok(false) => out.null_keys += 1,
            Err(bad) => out.bad.push(bad),
        }
    }
    true
}

/// `Ok(false)` = the key is NULL.
fn verdict(table: &Table, key: Option<usize>, selection: Selection<'_>, row: u32) -> Result<bool, BadImage> {
    let mut has_key = true;
    for (n, (declared, at)) in table.columns.iter().zip(selection.columns).enumerate() {
        let Some(column) = selection.batch.columns.get(*at) else { continue };
        let is_key = key == Some(n);
        let fit = column.fits.get(row as usize).copied().unwrap_or(Fit::Absent);
        if is_key && fit == Fit::Null {
            has_key = false;
        } else if let Some(code) = misfit(declared, fit) {
            let message = format!("column `{}` {}", declared.name, words(fit));
            return Err(BadImage { row, code, message });
        } else if is_key && column.heap_row(row as usize).len() > KEY_BYTES_MAX {
            let message = format!("column `{}` is a key of more than {KEY_BYTES_MAX} bytes", declared.name);
            return Err(BadImage { row, code: "key-too-long", message });
        }
    }
    Ok(has_key)
}

fn misfit(declared: &Column, fit: Fit) -> Option<&'static str> {
    match fit {
        Fit::Value => None,
        Fit::Null => (!declared.nullable).then_some("column-null"),
        Fit::Absent => (!declared.absentable).then_some(COLUMN_ABSENT),
        Fit::OutOfRange => Some("column-out-of-range"),
        Fit::TooManyDecimals => Some("column-too-many-decimals"),
        Fit::BadEncoding => Some("column-bad-encoding"),
        Fit::WrongShape => Some("column-wrong-shape"),
    }
}

fn words(fit: Fit) -> &'static str {
    match fit {
        Fit::Value => "fits",
        Fit::Null => "is NULL: the rule declares it without `Option`",
        Fit::Absent => "is absent: the rule declares it without `Absentable`",
        Fit::OutOfRange => "is out of the range of its declared type",
        Fit::TooManyDecimals => "has more decimals than its declared scale",
        Fit::BadEncoding => "is not in the declared encoding (UTF-8 or base64)",
        Fit::WrongShape => "has another shape than its declared type",
    }
}
