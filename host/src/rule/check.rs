//! The check of a rule before it may see a row: what start-up costs, what a row costs, and whether `map` and `label`
//! are pure: equal contributions one by one, in one batch, reversed, after 10,000 other rows and after a trap.

use std::sync::Arc;

use super::answer::Shape;
use super::engine::CompiledRule;
use super::error::{Fault, RuleError};
use super::guest::Guest;
use super::label_check;
use super::manifest::Table;
use super::map::{Contributions, Mapper};
use super::pack::{Packer, Selection};
use super::synthetic;
use super::verdict::{Verdict, verdicts};
use crate::decode::{ImageBatch, TablePlan};

/// Images of each table that the check runs.
const IMAGES: usize = 64;
/// Rows between two runs of the same images.
const OTHER_ROWS: usize = 10_000;

/// Start, `reserve` and an empty batch of each table and of `label`, each in a fresh instance; then the fuel per row.
pub(super) fn start_and_fuel(rule: &CompiledRule) -> Result<u64, RuleError> {
    let refuse = |fault| RuleError::Start { rule: rule.manifest.name.clone(), fault };
    let mut per_row = 1;
    for (table, declared) in rule.manifest.tables.iter().enumerate() {
        let columns: Vec<usize> = (0..declared.columns.len()).collect();
        let empty = empty_images(declared);
        let selection = Selection { table, batch: &empty, columns: &columns, rows: &[] };
        empty_batch(rule, selection).map_err(refuse)?;
        per_row = per_row.max(fuel_per_row(rule, table, declared));
    }
    label_check::start(rule).map_err(refuse)?;
    Ok(per_row)
}

fn empty_images(table: &Table) -> ImageBatch {
    let plan =
        TablePlan { table: table.table.clone(), columns: table.planned_columns(), hidden_columns: false };
    ImageBatch::new(0, &plan)
}

/// Start, `reserve` and an empty batch within a quarter of fuel and memory.
fn empty_batch(rule: &CompiledRule, selection: Selection<'_>) -> Result<(), Fault> {
    let mut guest = Guest::new(&rule.map_part, rule.limits.start_fuel())?;
    let mut packer = Packer::default();
    let len = packer.plan(selection).unwrap_or_default();
    let at = guest.input(len, |place| packer.write(selection, place))?;
    let header = guest.run(at, len)?;
    Shape::new(&rule.manifest).read(guest.memory(), header, &[], &mut Contributions::default())?;
    memory_after_start(rule, &guest)
}

/// The memory of a started guest is at most a quarter of the cap.
pub(super) fn memory_after_start(rule: &CompiledRule, guest: &Guest) -> Result<(), Fault> {
    let (bytes, max) = (guest.memory_bytes(), rule.limits.memory_bytes / 4);
    if bytes <= max {
        return Ok(());
    }
    Err(Fault::new("memory-limit", format!("a started guest holds {bytes} bytes of memory, more than {max}")))
}

/// Mean fuel of the synthetic rows that the rule takes, in the second batch of an instance (the first one allocates);
/// half of R where it takes none.
fn fuel_per_row(rule: &CompiledRule, table: usize, declared: &Table) -> u64 {
    let images = synthetic::images(declared, IMAGES, 1);
    let columns: Vec<usize> = (0..declared.columns.len()).collect();
    let rows: Vec<u32> = (0..u32::try_from(IMAGES).unwrap_or(0)).collect();
    let all = Selection { table, batch: &images, columns: &columns, rows: &rows };
    let fresh = || Guest::new(&rule.map_part, rule.limits.fuel);
    let taken: Vec<u32> = rows
        .iter()
        .filter(|row| {
            let one = all.with_rows(std::slice::from_ref(*row));
            fresh().and_then(|mut guest| fuel_of_batch(rule, &mut guest, one)).is_ok()
        })
        .copied()
        .collect();
    let all = all.with_rows(&taken);
    let measured = fresh().and_then(|mut guest| {
        fuel_of_batch(rule, &mut guest, all)?;
        fuel_of_batch(rule, &mut guest, all)
    });
    match measured {
        Ok(fuel) if !taken.is_empty() => fuel / (taken.len() as u64) + 1,
        _ => rule.limits.fuel / 2,
    }
}

/// Fuel that one batch takes in `guest`, of R.
fn fuel_of_batch(rule: &CompiledRule, guest: &mut Guest, selection: Selection<'_>) -> Result<u64, Fault> {
    let mut packer = Packer::default();
    let len = packer.plan(selection).unwrap_or_default();
    guest.set_fuel(rule.limits.fuel);
    let at = guest.input(len, |place| packer.write(selection, place))?;
    let header = guest.run(at, len)?;
    let used = rule.limits.fuel - guest.fuel_left();
    Shape::new(&rule.manifest).read(guest.memory(), header, selection.rows, &mut Contributions::default())?;
    Ok(used)
}

/// Refuses a rule whose answers depend on more than one row (or one key).
pub(super) fn purity(rule: &Arc<CompiledRule>) -> Result<(), RuleError> {
    for (table, declared) in rule.manifest.tables.iter().enumerate() {
        map_purity(rule, table, declared)?;
    }
    label_check::purity(rule)
}

fn map_purity(rule: &Arc<CompiledRule>, table: usize, declared: &Table) -> Result<(), RuleError> {
    let images = synthetic::images(declared, IMAGES, 2);
    let columns: Vec<usize> = (0..declared.columns.len()).collect();
    let rows: Vec<u32> = (0..u32::try_from(IMAGES).unwrap_or(0)).collect();
    let reversed: Vec<u32> = rows.iter().rev().copied().collect();
    let mut mapper = rule.mapper()?;
    let run = |mapper: &mut Mapper, rows: &[u32]| {
        let mut out = Contributions::default();
        mapper.map(table, &images, &columns, rows, &mut out)?;
        Ok::<_, RuleError>(verdicts(&rule.manifest, &out, (0, IMAGES)))
    };
    let mut alone = vec![Ok(Vec::new()); IMAGES];
    for row in &rows {
        let selection =
            Selection { table, batch: &images, columns: &columns, rows: std::slice::from_ref(row) };
        let mut out = Contributions::default();
        if let Some(place) = alone.get_mut(*row as usize) {
            *place = match mapper.alone(selection, &mut out) {
                Err(fault) => Err(fault.code),
                Ok(()) => verdicts(&rule.manifest, &out, (0, IMAGES)).swap_remove(*row as usize),
            };
        }
    }
    let compare = |how: &str, found: Vec<Verdict>| match alone.iter().zip(&found).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(row) => Err(RuleError::Impure {
            rule: rule.manifest.name.clone(),
            part: "map",
            message: format!("synthetic row {row} of `{}` gives other contributions {how}", declared.table),
        }),
    };
    compare("in one batch", run(&mut mapper, &rows)?)?;
    compare("in a second batch", run(&mut mapper, &rows)?)?;
    compare("in reverse", run(&mut mapper, &reversed)?)?;
    map_others(rule, &mut mapper)?;
    compare("after 10,000 other rows", run(&mut mapper, &rows)?)?;
    mapper.recycle();
    compare("after a trap", run(&mut mapper, &rows)?)
}

/// Other rows, of all tables in turn.
fn map_others(rule: &CompiledRule, mapper: &mut Mapper) -> Result<(), RuleError> {
    let rows: Vec<u32> = (0..1000).collect();
    let others: Vec<ImageBatch> =
        rule.manifest.tables.iter().map(|table| synthetic::images(table, rows.len(), 3)).collect();
    let mut seen = 0;
    while seen < OTHER_ROWS {
        for (table, images) in others.iter().enumerate() {
            let columns: Vec<usize> = (0..images.columns.len()).collect();
            mapper.map(table, images, &columns, &rows, &mut Contributions::default())?;
            seen += rows.len();
        }
    }
    Ok(())
}
