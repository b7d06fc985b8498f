//! The map side: images → contributions, in batches through one warm instance, with an exact verdict on each image.
//!
//! The verdict on an image is that of a fresh instance on that image alone with fuel R. A batch that passes with
//! R − R/4 for all its rows proves each of them; one that does not is halved in fresh instances down to the one row.

use std::sync::Arc;

use retag_abi::BATCH_ROWS_MAX;
use retag_abi::contribution::{KeyEntry, Record};

use super::answer::Shape;
use super::engine::CompiledRule;
use super::error::{Fault, RuleError};
use super::fit;
use super::guest::Guest;
use super::manifest::Table;
use super::pack::{Packer, Selection, prefix_len, row_bytes};
use crate::decode::ImageBatch;

/// What a rule contributes for some images. Reused between blocks: [`Contributions::clear`] keeps the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contributions {
    /// Contributions; `row` is the index in the image batch, heap references point into `heap`.
    pub records: Vec<Record>,
    /// Computed keys by (row, n); `row` as above.
    pub keys: Vec<KeyEntry>,
    /// Long values, text and bytes keys.
    pub heap: Vec<u8>,
    /// Images that the rule does not take.
    pub bad: Vec<BadImage>,
    /// Images with a NULL key: they contribute nothing.
    pub null_keys: u64,
}

/// An image that counts 0 for this rule's namespace, under both signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadImage {
    /// Index in the image batch.
    pub row: u32,
    /// Stable code.
    pub code: &'static str,
    /// For people; the guest's own message where it gave one.
    pub message: String,
}

impl Contributions {
    /// Empties everything and keeps the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.keys.clear();
        self.heap.clear();
        self.bad.clear();
        self.null_keys = 0;
    }
}

/// A warm instance of a rule's map side; one per (rule, worker).
pub struct Mapper {
    rule: Arc<CompiledRule>,
    shape: Shape,
    guest: Option<Guest>,
    packer: Packer,
    fitting: Vec<u32>,
    fuel_per_row: u64,
    last_fuel_per_row: u64,
}

impl Mapper {
    pub(super) fn new(rule: Arc<CompiledRule>) -> Result<Self, RuleError> {
        let fault = |fault| RuleError::Start { rule: rule.manifest.name.clone(), fault };
        let guest = Some(Guest::new(&rule.map_part, rule.limits.start_fuel()).map_err(fault)?);
        let shape = Shape::new(&rule.manifest);
        let fuel_per_row = rule.fuel_per_row;
        Ok(Self {
            rule,
            shape,
            guest,
            packer: Packer::default(),
            fitting: Vec::new(),
            fuel_per_row,
            last_fuel_per_row: fuel_per_row,
        })
    }

    /// Fuel per row of the last batch that passed.
    #[must_use]
    pub fn last_fuel_per_row(&self) -> u64 {
        self.last_fuel_per_row
    }

    /// Appends what the rule contributes for `rows` of `batch` to `out`. `table` is an index in the manifest,
    /// `columns[i]` the index in `batch.columns` of that table's i-th column.
    ///
    /// # Errors
    /// `bad-call` where columns and manifest differ: an error of the caller. What the guest does wrong is in `out.bad`.
    pub fn map(
        &mut self,
        table: usize,
        batch: &ImageBatch,
        columns: &[usize],
        rows: &[u32],
        out: &mut Contributions,
    ) -> Result<(), RuleError> {
        let rule = Arc::clone(&self.rule);
        let declared = rule.manifest.tables.get(table);
        let Some(declared) = declared.filter(|declared| agrees(declared, batch, columns)) else {
            let message = format!("table {table} with columns {columns:?} of the plan");
            return Err(RuleError::Caller { rule: rule.manifest.name.clone(), message });
        };
        let all = Selection { table, batch, columns, rows };
        let mut fitting = std::mem::take(&mut self.fitting);
        let filtered = fit::select(declared, all, &mut fitting, out);
        self.map_rows(all.with_rows(if filtered { &fitting } else { rows }), out);
        self.fitting = fitting;
        Ok(())
    }

    fn map_rows(&mut self, all: Selection<'_>, out: &mut Contributions) {
        let row = row_bytes(all);
        let mut rest = all.rows;
        while !rest.is_empty() {
            let batch = prefix_len(all.with_rows(rest), self.rows_per_batch(), row);
            let Some((head, tail)) = rest.split_at_checked(batch) else { return };
            self.map_batch(all.with_rows(head), out);
            rest = tail;
        }
    }

    /// Rows whose fuel should be half of R, by what rows took lately.
    fn rows_per_batch(&self) -> usize {
        let rows = self.rule.limits.fuel / 2 / self.fuel_per_row.max(1);
        usize::try_from(rows).unwrap_or(usize::MAX).clamp(1, BATCH_ROWS_MAX)
    }

    /// One batch in the warm instance; halved where that fails.
    fn map_batch(&mut self, selection: Selection<'_>, out: &mut Contributions) {
        let guest = match self.guest.take() {
            Some(guest) => Ok(guest),
            None => Guest::new(&self.rule.map_part, self.rule.limits.start_fuel()),
        };
        let answer = guest.and_then(|mut guest| {
            self.call(&mut guest, self.rule.limits.batch_fuel(), selection, out).map(|()| guest)
        });
        match answer {
            Ok(guest) => {
                let used = self.rule.limits.batch_fuel().saturating_sub(guest.fuel_left());
                let per_row = used / (selection.rows.len().max(1) as u64) + 1;
                self.last_fuel_per_row = per_row;
                self.fuel_per_row = per_row.max(self.fuel_per_row - self.fuel_per_row / 8);
                self.guest =
                    Some(guest).filter(|guest| guest.memory_bytes() <= self.rule.limits.memory_mark());
            }
            Err(_) => self.halve(selection, out),
        }
    }

    /// Finds the rows that fail, in fresh instances; the others are exact.
    fn halve(&mut self, selection: Selection<'_>, out: &mut Contributions) {
        if let [row] = selection.rows {
            if let Err(fault) = self.verdict(selection, out) {
                out.bad.push(BadImage { row: *row, code: fault.code, message: fault.message });
            }
            return;
        }
        let (left, right) = selection.rows.split_at(selection.rows.len() / 2);
        for half in [left, right].map(|rows| selection.with_rows(rows)) {
            let limits = self.rule.limits;
            let guest = Guest::new(&self.rule.map_part, limits.start_fuel());
            if guest.and_then(|mut guest| self.call(&mut guest, limits.batch_fuel(), half, out)).is_err() {
                self.halve(half, out);
            }
        }
    }

    /// A fresh instance on `selection` (one image) with fuel R for start and call together.
    fn verdict(&mut self, selection: Selection<'_>, out: &mut Contributions) -> Result<(), Fault> {
        let mut guest = Guest::new(&self.rule.map_part, self.rule.limits.fuel)?;
        let left = guest.fuel_left();
        self.call(&mut guest, left, selection, out)
    }

    fn call(
        &mut self,
        guest: &mut Guest,
        fuel: u64,
        selection: Selection<'_>,
        out: &mut Contributions,
    ) -> Result<(), Fault> {
        let too_large =
            || Fault::new("image-too-large", "the declared columns do not fit the guest's memory");
        let len = self.packer.plan(selection).ok_or_else(too_large)?;
        if len > self.rule.limits.memory_bytes / 4 {
            return Err(too_large());
        }
        guest.set_fuel(fuel);
        let at = guest.input(len, |place| self.packer.write(selection, place))?;
        let header = guest.run(at, len)?;
        self.shape.read(guest.memory(), header, selection.rows, out)
    }

    /// Drops the warm instance, as a trap would.
    pub(super) fn recycle(&mut self) {
        self.guest = None;
    }

    /// The verdict on one image; the fuel it took.
    pub(super) fn alone(&mut self, selection: Selection<'_>, out: &mut Contributions) -> Result<(), Fault> {
        self.verdict(selection, out)
    }
}

/// The caller's columns are the manifest's.
fn agrees(declared: &Table, batch: &ImageBatch, columns: &[usize]) -> bool {
    declared.columns.len() == columns.len()
        && declared.columns.iter().zip(columns).all(|(column, at)| {
            batch.columns.get(*at).is_some_and(|b| b.column_type == column.value_type.column_type())
        })
}
