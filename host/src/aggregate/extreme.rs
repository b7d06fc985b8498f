//! `min` and `max`: a counted ordered set, so that the second smallest is known when the smallest is taken back.

use super::{Kind, Reading, Shape, counted, unreadable};
use crate::rule::manifest::ValueType;
use crate::state::{Cell, CountedSet};

pub(super) struct Extreme {
    name: &'static str,
    largest: bool,
}

impl Extreme {
    pub(super) const MIN: Self = Self { name: "min", largest: false };
    pub(super) const MAX: Self = Self { name: "max", largest: true };
}

impl Kind for Extreme {
    fn name(&self) -> &'static str {
        self.name
    }
    fn accepts(&self, value: Option<ValueType>) -> bool {
        matches!(
            value,
            Some(
                ValueType::I64
                    | ValueType::U64
                    | ValueType::Decimal { .. }
                    | ValueType::Timestamp
                    | ValueType::Date
            )
        )
    }
    fn shape(&self) -> Shape {
        Shape::Set
    }
    fn reading(&self, cell: Option<Cell<'_>>) -> Reading {
        // The bytes compare as the values do (value.rs), and the set is in their order.
        let entry = counted(cell).and_then(if self.largest { CountedSet::max } else { CountedSet::min });
        Reading::Entry(entry.map(Box::from))
    }
    fn pending(&self, cell: Cell<'_>) -> bool {
        unreadable(cell)
    }
}
