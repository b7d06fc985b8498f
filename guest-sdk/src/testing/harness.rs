//! `Harness`: typed rows in, typed labels out, for the tests beside a rule.

use alloc::vec::Vec;

use super::totals::Leg;
use super::{KeyValue, Totals, label_input};
use crate::{Batch, Clock, KindInfo, Label, LabelSet, Map, ParamSet, TableRow, Timestamp, ValueType};

/// A rule, its sums, its parameters and a clock.
#[derive(Debug)]
pub struct Harness<R: Map + Label> {
    totals: Totals,
    /// The parameters that `labels` uses.
    pub params: R::Params,
    /// Engine time that `labels` uses.
    pub now: Timestamp,
}

impl<R: Map + Label> Default for Harness<R> {
    fn default() -> Self {
        Self { totals: Totals::default(), params: R::Params::defaults(), now: Timestamp::default() }
    }
}

impl<R: Map + Label> Harness<R> {
    /// No rows, default parameters, the clock at 1970-01-01 00:00:00.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A row is inserted.
    pub fn insert<'a, T: TableRow<'a>>(&mut self, row: &T) -> &mut Self {
        self.leg(row, 1)
    }

    /// A row is deleted.
    pub fn delete<'a, T: TableRow<'a>>(&mut self, row: &T) -> &mut Self {
        self.leg(row, -1)
    }

    /// A row changes.
    pub fn update<'a, T: TableRow<'a>>(&mut self, before: &T, after: &T) -> &mut Self {
        self.leg(before, -1).leg(after, 1)
    }

    fn leg<'a, T: TableRow<'a>>(&mut self, row: &T, sign: i64) -> &mut Self {
        let Some(table) = R::TABLES.iter().position(|table| table.name == T::TABLE.name) else {
            panic!("the rule does not read {}", T::TABLE.name);
        };
        let leg: Leg = (table, row.cells(), sign);
        self.totals.add::<R>(table, &[&leg]);
        self
    }

    /// The labels of `key`, and the moment at which they may change by time alone.
    ///
    /// # Panics
    /// When the key is pending: a count or entry is below zero, as after a delete without its insert.
    #[must_use]
    pub fn answer(&self, key: R::Key<'_>) -> (R::Labels, Option<Timestamp>) {
        let key = KeyValue::new(key.into(), R::KEY);
        let Some(reading) = self.totals.reading(&key, R::AGGREGATES) else { return (R::Labels::NONE, None) };
        assert!(!reading.pending, "{key} is pending: a count is below zero, its labels are held");
        let types: Vec<ValueType> = R::AGGREGATES.iter().map(|info: &KindInfo| info.reading).collect();
        let input = label_input(&types, &[reading.cells], &[], self.now.micros());
        let (batch, _) = Batch::readings(&input);
        let clock = Clock::new(self.now);
        let labels = R::label(&R::sums(&R::open(&batch), 0), &self.params, &clock);
        (labels, (clock.wake() != retag_abi::WAKE_NEVER).then(|| Timestamp::from_micros(clock.wake())))
    }

    /// The labels of `key`; none for a key that does not exist.
    ///
    /// # Panics
    /// When the key is pending.
    #[must_use]
    pub fn labels(&self, key: R::Key<'_>) -> R::Labels {
        self.answer(key).0
    }

    /// The moment at which the labels of `key` may change by time alone.
    ///
    /// # Panics
    /// When the key is pending.
    #[must_use]
    pub fn wake(&self, key: R::Key<'_>) -> Option<Timestamp> {
        self.answer(key).1
    }

    /// Whether a count or entry of `key` is below zero, so that its labels are held.
    #[must_use]
    pub fn is_pending(&self, key: R::Key<'_>) -> bool {
        let key = KeyValue::new(key.into(), R::KEY);
        self.totals.reading(&key, R::AGGREGATES).is_some_and(|reading| reading.pending)
    }

    /// Whether `key` has any aggregate that is not zero.
    #[must_use]
    pub fn exists(&self, key: R::Key<'_>) -> bool {
        self.totals.reading(&KeyValue::new(key.into(), R::KEY), R::AGGREGATES).is_some()
    }
}
