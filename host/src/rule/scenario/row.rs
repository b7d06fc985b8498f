//! Scenario rows → an image batch, with the fit that `decode` would give to each value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use retag_abi::column::Physical;
use retag_scenario::Row;
use serde_json::Value;

use crate::decode::{ColumnBuffer, Fit, ImageBatch, Side, TablePlan, Values};
use crate::rule::manifest::{Table, ValueType};
use crate::rule::value::{self, Typed};

/// Images of one table, being collected.
pub(super) struct Images<'a> {
    table: &'a Table,
    batch: ImageBatch,
}

impl<'a> Images<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        let columns = table.planned_columns();
        let plan = TablePlan { table: table.table.clone(), columns, hidden_columns: false };
        Self { table, batch: ImageBatch::new(0, &plan) }
    }

    pub(super) fn push(&mut self, row: &Row) {
        for (declared, column) in self.table.columns.iter().zip(&mut self.batch.columns) {
            push(column, declared.value_type, row.get(&declared.name));
        }
        self.batch.changes.push(u32::try_from(self.batch.sides.len()).unwrap_or(u32::MAX));
        self.batch.sides.push(Side::After);
    }

    pub(super) fn into_batch(self) -> ImageBatch {
        self.batch
    }

    pub(super) fn batch(&self) -> &ImageBatch {
        &self.batch
    }
}

fn push(column: &mut ColumnBuffer, value_type: ValueType, value: Option<&Value>) {
    let (fit, typed) = match value {
        None => (Fit::Absent, None),
        Some(Value::Null) => (Fit::Null, None),
        Some(Value::String(zero)) if zero_date(column.column_type.physical, zero) => (Fit::Null, None),
        Some(value) => match value::parse(value_type, value) {
            Ok(typed) => (Fit::Value, Some(typed)),
            Err(_) => (Fit::WrongShape, None),
        },
    };
    let (fit, typed) = match typed {
        Some(Typed::Bytes(text)) if value_type == ValueType::Bytes => match STANDARD.decode(text) {
            Ok(bytes) => (fit, Some(Typed::Bytes(bytes))),
            Err(_) => (Fit::BadEncoding, None),
        },
        typed => (fit, typed),
    };
    let number = if let Some(Typed::Number(number)) = &typed { *number } else { 0 };
    column.fits.push(fit);
    match &mut column.values {
        Values::Bool(v) => v.push(u8::from(number != 0)),
        Values::I64(v) => v.push(i64::try_from(number).unwrap_or_default()),
        Values::U64(v) => v.push(u64::try_from(number).unwrap_or_default()),
        Values::I128(v) => v.push(number),
        Values::I32(v) => v.push(i32::try_from(number).unwrap_or_default()),
        Values::Heap { ends, heap } => {
            if let Some(Typed::Bytes(bytes)) = typed {
                heap.extend_from_slice(&bytes);
            }
            ends.push(u32::try_from(heap.len()).unwrap_or(u32::MAX));
        }
    }
}

/// A zero date reads as NULL.
fn zero_date(physical: Physical, text: &str) -> bool {
    matches!(physical, Physical::Timestamp | Physical::Date) && text.starts_with("0000-00-00")
}
