//! The laws that every registered kind obeys; a new kind in `KINDS` is tested by being there.

use super::value::comparable;
use super::{KINDS, Kind, Reading, Shape};
use crate::rule::manifest::ValueType;
use crate::state::{Cell, Change, Record, Slot};
use proptest::prelude::*;

const SLOT: Slot = Slot { space: 1, index: 0 };
const VALUES: [Option<ValueType>; 9] = [
    None,
    Some(ValueType::Bool),
    Some(ValueType::I64),
    Some(ValueType::U64),
    Some(ValueType::Decimal { scale: 2, digits: 18 }),
    Some(ValueType::Decimal { scale: 2, digits: 38 }),
    Some(ValueType::Text),
    Some(ValueType::Timestamp),
    Some(ValueType::Date),
];

/// A contribution: inline value and sign.
type Contribution = (i64, bool);

fn apply(kind: &dyn Kind, value: Option<ValueType>, record: &mut Record, (inline, plus): Contribution) {
    let sign = if plus { 1 } else { -1 };
    let heap = i128::from(inline).to_le_bytes();
    match kind.shape() {
        Shape::Linear => {
            let number = super::value::number(value, inline, &heap);
            record.apply(&Change::Add(SLOT, kind.amount(number) * i128::from(sign))).unwrap();
        }
        Shape::Set => {
            let mut bytes = Vec::new();
            comparable(value.unwrap(), inline, &heap, &mut bytes);
            record.apply(&Change::Count(SLOT, &bytes, sign)).unwrap();
        }
    }
}

fn sum(kind: &dyn Kind, value: Option<ValueType>, all: &[Contribution]) -> Record {
    let mut record = Record::new(0);
    all.iter().for_each(|c| apply(kind, value, &mut record, *c));
    record
}

/// Adds everything that `from` holds to `to`, as a merge of two partial sums does.
fn merge(to: &mut Record, from: &Record) {
    for (slot, cell) in from.cells() {
        match cell {
            Cell::Sum(n) => to.apply(&Change::Add(slot, n)).unwrap(),
            Cell::Set(set) => {
                set.iter().for_each(|(v, n)| to.apply(&Change::Count(slot, v, n)).unwrap());
            }
            _ => panic!("a sum holds sums and sets"),
        }
    }
}

fn each_kind(check: impl Fn(&'static dyn Kind, Option<ValueType>)) {
    for kind in KINDS {
        let taken: Vec<_> = VALUES.into_iter().filter(|value| kind.accepts(*value)).collect();
        assert!(!taken.is_empty(), "{} takes no type of values", kind.name());
        taken.into_iter().for_each(|value| check(*kind, value));
    }
}

fn contributions() -> impl Strategy<Value = Vec<Contribution>> {
    prop::collection::vec((-3i64..4, any::<bool>()), 0..24)
}

proptest! {
    #[test]
    fn inverse_what_is_added_and_taken_back_was_never_there(all in contributions()) {
        each_kind(|kind, value| {
            let back: Vec<_> = all.iter().map(|(v, plus)| (*v, !plus)).collect();
            let record = sum(kind, value, &[all.clone(), back].concat());
            assert!(record.is_empty(), "{}", kind.name());
            assert_eq!(kind.reading(record.get(SLOT)), kind.reading(None));
        });
    }

    #[test]
    fn order_does_not_matter(all in contributions(), seed: u64) {
        each_kind(|kind, value| {
            let mut other = all.clone();
            other.sort_by_key(|(v, plus)| v.cast_unsigned().wrapping_mul(seed | 1) ^ u64::from(*plus));
            assert_eq!(sum(kind, value, &all), sum(kind, value, &other), "{}", kind.name());
        });
    }

    #[test]
    fn merge_of_parts_is_the_whole(all in contributions(), cut in 0usize..24) {
        each_kind(|kind, value| {
            let (left, right) = all.split_at(cut.min(all.len()));
            let mut merged = sum(kind, value, left);
            merge(&mut merged, &sum(kind, value, right));
            assert_eq!(merged, sum(kind, value, &all), "{}", kind.name());
        });
    }

    /// Only rows that are there: never pending, and the reading is what going over the rows says.
    #[test]
    fn a_set_of_rows_reads_as_recomputed(rows in prop::collection::vec(0i64..5, 0..12)) {
        each_kind(|kind, value| {
            let record = sum(kind, value, &rows.iter().map(|v| (*v, true)).collect::<Vec<_>>());
            let cell = record.get(SLOT);
            assert!(!cell.is_some_and(|cell| kind.pending(cell)), "{}", kind.name());
            let total: i128 = rows.iter().map(|v| i128::from(*v)).sum();
            let mut different: Vec<_> = rows.clone();
            if value == Some(ValueType::Bool) { different.iter_mut().for_each(|v| *v = i64::from(*v != 0)); }
            different.sort_unstable();
            different.dedup();
            let form = |v: &i64| {
                let mut bytes = Vec::new();
                comparable(value.unwrap(), *v, &i128::from(*v).to_le_bytes(), &mut bytes);
                bytes.into_boxed_slice()
            };
            let expect = match kind.name() {
                "any" => Reading::Bool(rows.iter().any(|v| *v != 0)),
                "count" => Reading::I64(i64::try_from(total).unwrap()),
                "sum" => Reading::I128(total),
                "distinct" => Reading::U64(different.len() as u64),
                "min" => Reading::Entry(different.first().map(form)),
                "max" => Reading::Entry(different.last().map(form)),
                other => panic!("say here what {other} reads as"),
            };
            assert_eq!(kind.reading(cell), expect, "{} of {rows:?}", kind.name());
        });
    }
}

#[test]
fn a_retraction_without_its_row_is_pending_where_no_rows_could_give_it() {
    each_kind(|kind, value| {
        let record = sum(kind, value, &[(1, false)]);
        let pending = record.get(SLOT).is_some_and(|cell| kind.pending(cell));
        assert_eq!(pending, kind.name() != "sum", "{}", kind.name());
    });
}
