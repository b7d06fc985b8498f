//! `distinct`: how many different values, exact: a counted set, so that a retraction takes back just its own row.

use super::{Kind, Reading, Shape, counted, unreadable};
use crate::rule::manifest::ValueType;
use crate::state::{Cell, CountedSet};

pub(super) struct Distinct;

impl Kind for Distinct {
    fn name(&self) -> &'static str {
        "distinct"
    }
    fn accepts(&self, value: Option<ValueType>) -> bool {
        value.is_some()
    }
    fn shape(&self) -> Shape {
        Shape::Set
    }
    fn reading(&self, cell: Option<Cell<'_>>) -> Reading {
        Reading::U64(counted(cell).map_or(0, CountedSet::positive) as u64)
    }
    fn pending(&self, cell: Cell<'_>) -> bool {
        unreadable(cell)
    }
}
