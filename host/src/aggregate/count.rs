//! `count`: how many, where a row may count more than once.

use super::{Kind, Reading, Shape, linear};
use crate::rule::manifest::ValueType;
use crate::state::Cell;

pub(super) struct Count;

impl Kind for Count {
    fn name(&self) -> &'static str {
        "count"
    }
    fn accepts(&self, value: Option<ValueType>) -> bool {
        value.is_none()
    }
    fn shape(&self) -> Shape {
        Shape::Linear
    }
    fn reading(&self, cell: Option<Cell<'_>>) -> Reading {
        let count = linear(cell);
        Reading::I64(i64::try_from(count).unwrap_or(if count < 0 { i64::MIN } else { i64::MAX }))
    }
    fn pending(&self, cell: Cell<'_>) -> bool {
        linear(Some(cell)) < 0
    }
}
