//! `distinct`: how many different values, exact: a counted set, so that a retraction takes back just its own row.

use super::{Kind, Reading, Shape, counted, has_negative};
use crate::rule::manifest::ValueType;
use crate::state::Cell;

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
    fn reading(&self, cell: Option<&Cell>) -> Reading {
        let positive = counted(cell).map_or(0, |set| set.iter().filter(|(_, count)| *count > 0).count());
        Reading::U64(positive as u64)
    }
    fn pending(&self, cell: &Cell) -> bool {
        has_negative(cell)
    }
}
