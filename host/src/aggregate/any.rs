//! `any`: whether at least one row says yes. Kept as the number of rows that do.

use super::{Kind, Reading, Shape, linear};
use crate::rule::manifest::ValueType;
use crate::state::Cell;

pub(super) struct Any;

impl Kind for Any {
    fn name(&self) -> &'static str {
        "any"
    }
    fn accepts(&self, value: Option<ValueType>) -> bool {
        value.is_none()
    }
    fn shape(&self) -> Shape {
        Shape::Linear
    }
    fn amount(&self, value: i128) -> i128 {
        i128::from(value != 0)
    }
    fn reading(&self, cell: Option<Cell<'_>>) -> Reading {
        Reading::Bool(linear(cell) > 0)
    }
    fn pending(&self, cell: Cell<'_>) -> bool {
        linear(Some(cell)) < 0
    }
}
