//! Cells of keys → the columns of readings that `label` gets.

use crate::aggregate::value::{from_comparable, physical};
use crate::aggregate::{Aggregate, Reading};
use crate::rule::{ReadingColumn, Readings};
use crate::state::{Record, Slot};
use retag_abi::column::Physical;

/// Readings of the aggregates of one namespace.
pub struct Reader<'a> {
    aggregates: &'a [Aggregate],
    namespace: u32,
    readings: Readings,
}

impl<'a> Reader<'a> {
    /// A reader without keys.
    #[must_use]
    pub fn new(aggregates: &'a [Aggregate], namespace: u32) -> Self {
        let columns = aggregates.iter().map(empty).collect();
        Self { aggregates, namespace, readings: Readings { keys: 0, columns } }
    }

    /// Adds a key.
    pub fn push(&mut self, record: &Record) {
        let slots = (0u16..).map(|index| Slot { space: self.namespace, index });
        for ((aggregate, column), slot) in self.aggregates.iter().zip(&mut self.readings.columns).zip(slots) {
            fill(column, aggregate, aggregate.kind.reading(record.get(slot)));
        }
        self.readings.keys += 1;
    }

    /// What was read.
    #[must_use]
    pub fn readings(&self) -> &Readings {
        &self.readings
    }
}

/// Whether the key has aggregates in the namespace at all: without, it does not exist there and has no labels.
#[must_use]
pub fn exists(record: &Record, namespace: u32) -> bool {
    record.cells().any(|(slot, _)| slot.space == namespace)
}

/// Whether a count or counted entry of the namespace is negative, or a counted set overflowed.
#[must_use]
pub fn pending(record: &Record, namespace: u32, aggregates: &[Aggregate]) -> bool {
    record.cells().filter(|(slot, _)| slot.space == namespace).any(|(slot, cell)| {
        aggregates.get(usize::from(slot.index)).is_some_and(|aggregate| aggregate.kind.pending(cell))
    })
}

/// Whether a counted set of the namespace overflowed.
#[must_use]
pub fn overflowed(record: &Record, namespace: u32) -> bool {
    record.sets().any(|(slot, set)| slot.space == namespace && set.is_overflow())
}

fn empty(aggregate: &Aggregate) -> ReadingColumn {
    match aggregate.kind.reading(None) {
        Reading::Bool(_) => ReadingColumn::Bool(Vec::new()),
        Reading::I64(_) => ReadingColumn::I64(Vec::new()),
        Reading::U64(_) => ReadingColumn::U64(Vec::new()),
        Reading::I128(_) => ReadingColumn::I128(Vec::new()),
        Reading::Entry(_) => match aggregate.value.map(physical) {
            Some(Physical::U64) => ReadingColumn::OptU64(Vec::new()),
            Some(Physical::WideDecimal) => ReadingColumn::OptI128(Vec::new()),
            Some(Physical::Date) => ReadingColumn::OptI32(Vec::new()),
            _ => ReadingColumn::OptI64(Vec::new()),
        },
    }
}

/// Values came through the same types, so the narrowing conversions cannot lose anything.
fn fill(column: &mut ReadingColumn, aggregate: &Aggregate, reading: Reading) {
    let number = |entry: Option<Box<[u8]>>| {
        entry.zip(aggregate.value).and_then(|(bytes, value)| from_comparable(value, &bytes))
    };
    match (column, reading) {
        (ReadingColumn::Bool(column), Reading::Bool(v)) => column.push(v),
        (ReadingColumn::I64(column), Reading::I64(v)) => column.push(v),
        (ReadingColumn::U64(column), Reading::U64(v)) => column.push(v),
        (ReadingColumn::I128(column), Reading::I128(v)) => column.push(v),
        (ReadingColumn::OptI64(column), Reading::Entry(v)) => {
            column.push(number(v).and_then(|v| i64::try_from(v).ok()));
        }
        (ReadingColumn::OptU64(column), Reading::Entry(v)) => {
            column.push(number(v).and_then(|v| u64::try_from(v).ok()));
        }
        (ReadingColumn::OptI128(column), Reading::Entry(v)) => column.push(number(v)),
        (ReadingColumn::OptI32(column), Reading::Entry(v)) => {
            column.push(number(v).and_then(|v| i32::try_from(v).ok()));
        }
        _ => {}
    }
}
