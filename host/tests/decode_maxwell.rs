//! Maxwell's messages: a test per row of the catalogue, random rows against a model, snapshots of the real producer's messages, other projects'
//! messages, and a fuzz of the projecting scanner against the strict reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

#[path = "decode_maxwell/fixtures.rs"]
mod fixtures;
#[path = "decode_maxwell/fuzz.rs"]
mod fuzz;
#[path = "decode_maxwell/model.rs"]
mod model;
#[path = "decode_maxwell/rows.rs"]
mod rows;

use std::fmt::Write;
use std::sync::Arc;

use retag_abi::column::Physical;
use retag_host::decode::{
    COMMIT_ROW, ColumnBuffer, ColumnType, Decoded, Fit, IdForm, MaxwellDecoder, Plan, PlannedColumn, Side,
    TablePlan, Values,
};

fn column(name: &str, physical: Physical, scale: u8) -> PlannedColumn {
    PlannedColumn { name: name.to_owned(), column_type: ColumnType { physical, scale } }
}

fn table(name: &str, columns: Vec<PlannedColumn>) -> TablePlan {
    TablePlan { table: name.to_owned(), columns, hidden_columns: false }
}

/// What both readers make of a block; they must agree.
fn decode_block(plan: &Plan, block: &[u8], base: u64) -> Decoded {
    let plan = Arc::new(plan.clone());
    let (mut fast, mut strict) = (Decoded::default(), Decoded::default());
    let mut decoder = MaxwellDecoder::new(Arc::clone(&plan));
    for _ in 0..2 {
        decoder.decode(block, base, &mut fast); // the second time with all that it learnt
    }
    MaxwellDecoder::strict(plan).decode(block, base, &mut strict);
    assert_eq!(fast, strict, "{}", String::from_utf8_lossy(block));
    fast
}

fn decode_lines(plan: &Plan, lines: &[&str]) -> Decoded {
    decode_block(plan, (lines.join("\n") + "\n").as_bytes(), 0)
}

/// A value as text: `NULL`, `ABSENT`, `!Fit`, or the value.
fn value_text(column: &ColumnBuffer, row: usize) -> String {
    match column.fits[row] {
        Fit::Value => {}
        Fit::Null => return "NULL".to_owned(),
        Fit::Absent => return "ABSENT".to_owned(),
        other => return format!("!{other:?}"),
    }
    match &column.values {
        Values::Bool(v) => v[row].to_string(),
        Values::I64(v) => v[row].to_string(),
        Values::U64(v) => v[row].to_string(),
        Values::I128(v) => v[row].to_string(),
        Values::I32(v) => v[row].to_string(),
        Values::Heap { .. } if column.column_type.physical == Physical::Text => {
            format!("{:?}", std::str::from_utf8(column.heap_row(row)).unwrap())
        }
        Values::Heap { .. } => column.heap_row(row).iter().fold("x".to_owned(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        }),
    }
}

/// The images of table `table` as text: `+` after, `-` before, then `column=value`.
fn images(plan: &Plan, out: &Decoded, table: usize) -> Vec<String> {
    let batch = &out.batches[table];
    let row_text = |row: usize| {
        let sign = if batch.sides[row] == Side::After { '+' } else { '-' };
        let columns = batch.columns.iter().zip(&plan.tables[table].columns);
        columns.fold(sign.to_string(), |text, (buffer, column)| {
            text + " " + &column.name + "=" + &value_text(buffer, row)
        })
    };
    let mut rows: Vec<(u32, bool, String)> = (0..batch.rows())
        .map(|row| (batch.changes[row], batch.sides[row] == Side::After, row_text(row)))
        .collect();
    rows.sort();
    rows.into_iter().map(|(_, _, text)| text).collect()
}

/// All that a block gave, as text for people.
fn describe(plan: &Plan, out: &Decoded) -> String {
    let mut text = String::new();
    for (n, change) in out.changes.iter().enumerate() {
        let table = change.table.map_or("unread", |table| &plan.tables[table as usize].table);
        let id = change.id.as_ref().map_or("no id".to_owned(), |id| {
            let row = if id.row == COMMIT_ROW { "COMMIT".to_owned() } else { id.row.to_string() };
            format!("{} @{} row {row}", out.logs[id.log as usize], id.at)
        });
        writeln!(text, "change {table} ts={} {id}", change.ts).unwrap();
        let Some(table) = change.table else { continue };
        let batch = &out.batches[table as usize];
        if !batch.changes.iter().any(|change| *change as usize == n) {
            writeln!(text, "  no images").unwrap();
        }
    }
    for table in 0..plan.tables.len() {
        images(plan, out, table).iter().for_each(|image| writeln!(text, "  {image}").unwrap());
    }
    out.skipped.iter().for_each(|(skip, count)| writeln!(text, "skip {skip:?} {count}").unwrap());
    if let Some(refusal) = &out.refusal {
        writeln!(text, "refuse {} [{}] {}", refusal.code, refusal.table, refusal.message).unwrap();
    }
    text
}
