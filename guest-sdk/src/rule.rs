//! What the derives implement and the two loops that run a rule: images → contributions, readings → labels.

use alloc::vec::Vec;

use crate::{Batch, Clock, Key, KindInfo, LabelSet, Out, ParamSet, Slots, Timestamp, To, ValueType};

/// A struct that derives `Row`: the columns of one table that a rule reads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row",
    note = "derive Row on it: #[derive(Row)] #[row(table = \"database.table\", key = column)]"
)]
pub trait TableRow<'a>: Sized {
    /// The table as JSON.
    const JSON: &'static str;
    /// The table.
    const TABLE: TableInfo;
    /// Type of the key.
    const KEY: ValueType;
    /// A struct with one constant per column, for `by = Order::mtime`.
    type Names;
    /// The opened columns.
    type Columns: Copy;
    /// Opens the columns.
    fn open(batch: &Batch<'a>) -> Self::Columns;
    /// Reads a row.
    fn read(columns: &Self::Columns, row: usize) -> Self;
    /// The row as the test harness stores it.
    #[cfg(not(target_family = "wasm"))]
    fn cells(&self) -> Vec<crate::testing::Cell>;
}

/// A table of a rule.
#[derive(Clone, Copy, Debug)]
pub struct TableInfo {
    /// `database.table`.
    pub name: &'static str,
    /// Index of the key column.
    pub key: usize,
    /// Columns in the order of the batch.
    pub columns: &'static [ColumnInfo],
}

/// A column of a rule.
#[derive(Clone, Copy, Debug)]
pub struct ColumnInfo {
    /// Its name in the messages.
    pub name: &'static str,
    /// Its type.
    pub value_type: ValueType,
    /// NULL is taken.
    pub nullable: bool,
    /// ABSENT is taken.
    pub absentable: bool,
}

/// A struct that derives `Aggregates`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a struct of aggregates",
    note = "derive Aggregates on it"
)]
pub trait AggregateSet {
    /// The aggregates as JSON.
    const JSON: &'static str;
    /// The aggregates.
    const AGGREGATES: &'static [KindInfo];
    /// The write handles.
    type Add<'a>;
    /// The readings of one key.
    type Sums;
    /// The opened columns of readings.
    type Readings<'a>: Copy;
    /// The handles for one destination.
    fn add(to: To<'_>) -> Self::Add<'_>;
    /// Opens the readings.
    fn open<'a>(batch: &Batch<'a>) -> Self::Readings<'a>;
    /// The readings of `key`.
    fn sums(readings: &Self::Readings<'_>, key: usize) -> Self::Sums;
}

/// What `#[rule]` says of a rule.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no rule",
    note = "write #[rule(name = \"…\", entity = \"…\")] impl {Self} {{ … }} in the same crate"
)]
pub trait Rule: AggregateSet {
    /// The manifest.
    const MANIFEST: &'static str;
    /// Tables in the order of the manifest.
    const TABLES: &'static [TableInfo];
    /// Type of the keys.
    const KEY: ValueType;
    /// What `add.at(…)` takes.
    type Key<'k>: Into<Key<'k>>;
    /// Its parameters.
    type Params: ParamSet;
    /// Its labels.
    type Labels: LabelSet;
}

/// The map side of a rule.
pub trait Map: Rule {
    /// Turns images into contributions.
    fn map(batch: &Batch<'_>, out: &Out);
}

/// The label side of a rule.
pub trait Label: Rule {
    /// Turns the readings of one key into labels.
    fn label(sums: &Self::Sums, params: &Self::Params, clock: &Clock) -> Self::Labels;
}

/// The loop over the images of a batch.
#[inline]
pub fn each<'a, A: AggregateSet, R: TableRow<'a>>(
    batch: &Batch<'a>,
    out: &Out,
    map: impl Fn(&R, &mut A::Add<'_>),
) {
    let columns = R::open(batch);
    let mut add = A::add(To::own(out));
    for row in 0..u32::try_from(batch.rows).unwrap_or(u32::MAX) {
        out.begin(row);
        map(&R::read(&columns, row as usize), &mut add);
    }
}

/// What `label` gives for a batch of keys.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// keys × labels.
    pub(crate) sets: Vec<u16>,
    /// One moment per key, µs.
    pub(crate) wake: Vec<i64>,
}

impl Answers {
    #[cfg(target_family = "wasm")]
    pub(crate) const fn new() -> Self {
        Self { sets: Vec::new(), wake: Vec::new() }
    }

    /// Labels all keys of `input`.
    pub(crate) fn fill<R: Label>(&mut self, input: &[u8]) {
        self.sets.clear();
        self.wake.clear();
        let (batch, header) = Batch::readings(input);
        let params = R::Params::read(&Slots(batch.slice(header.params, header.params_len as usize)));
        let readings = R::open(&batch);
        for key in 0..batch.rows {
            let clock = Clock::new(Timestamp::from_micros(header.now));
            R::label(&R::sums(&readings, key), &params, &clock).write(&mut self.sets);
            self.wake.push(clock.wake());
        }
    }
}
