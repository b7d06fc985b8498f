//! Images → legs: an insert is +after, a delete is −before, an update is both. The only place that makes a −1.
//!
//! A change that the ledger knows makes no legs; everything else about it was decided before.

use crate::decode::{ImageBatch, Side};

/// Sign of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Sign {
    /// The image is taken back.
    Minus = -1,
    /// The image is added.
    Plus = 1,
}

impl Sign {
    /// The sign of an image.
    #[must_use]
    pub const fn of(side: Side) -> Self {
        match side {
            Side::Before => Self::Minus,
            Side::After => Self::Plus,
        }
    }

    /// `amount` under this sign.
    #[must_use]
    pub const fn apply(self, amount: i128) -> i128 {
        match self {
            Self::Minus => -amount,
            Self::Plus => amount,
        }
    }
}

/// Lists the rows of `batch` whose change is not known yet: `known[change]` is true for a re-sent one.
pub fn legs(batch: &ImageBatch, known: &[bool], rows: &mut Vec<u32>) {
    rows.clear();
    for (row, change) in (0u32..).zip(&batch.changes) {
        if !known.get(*change as usize).copied().unwrap_or(false) {
            rows.push(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_minus_before_plus_after() {
        let legs = [Side::Before, Side::After].map(|side| Sign::of(side).apply(7));
        assert_eq!(legs, [-7, 7]);
    }

    #[test]
    fn a_known_change_makes_no_legs() {
        let batch = ImageBatch {
            table: 0,
            columns: vec![],
            sides: vec![Side::Before, Side::After, Side::After],
            changes: vec![0, 0, 2],
        };
        let mut rows = vec![9];
        legs(&batch, &[true, false, false], &mut rows);
        assert_eq!(rows, [2]);
    }
}
