//! `sum` of integers or decimals, in 128 bits. A negative sum is a normal state, never pending.

use super::{Kind, Reading, Shape, linear};
use crate::rule::manifest::ValueType;
use crate::state::Cell;

pub(super) struct Sum;

impl Kind for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }
    fn accepts(&self, value: Option<ValueType>) -> bool {
        matches!(value, Some(ValueType::I64 | ValueType::U64 | ValueType::Decimal { .. }))
    }
    fn shape(&self) -> Shape {
        Shape::Linear
    }
    fn reading(&self, cell: Option<Cell<'_>>) -> Reading {
        Reading::I128(linear(cell))
    }
    fn pending(&self, _: Cell<'_>) -> bool {
        false
    }
}
