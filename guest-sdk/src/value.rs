//! The type of a column, value, key or parameter as the manifest states it: a physical layout and a scale.

use retag_abi::column::Physical;

/// A type with everything that the manifest says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueType {
    /// Layout of the values.
    pub physical: Physical,
    /// Digits after the point of a decimal; 0 for all other types.
    pub scale: u8,
}

/// Manifest text of the decimals of one width, by scale.
macro_rules! decimals {
    ($digits:literal: $($scale:literal)*) => {
        &[$(concat!(r#"{"type":"decimal","scale":"#, $scale, r#","digits":"#, $digits, "}")),*]
    };
}

const NARROW: &[&str] = decimals!(18: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
const WIDE: &[&str] = decimals!(38: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29
    30 31 32 33 34 35 36 37 38);

impl ValueType {
    /// The type of `physical` without a scale.
    #[must_use]
    pub const fn of(physical: Physical) -> Self {
        Self { physical, scale: 0 }
    }

    /// A decimal of up to 18 digits.
    #[must_use]
    pub const fn decimal(scale: u8) -> Self {
        assert!(scale <= 18, "a Decimal has at most 18 digits: WideDecimal has 38");
        Self { physical: Physical::Decimal, scale }
    }

    /// A decimal of up to 38 digits.
    #[must_use]
    pub const fn wide(scale: u8) -> Self {
        assert!(scale <= 38, "a WideDecimal has at most 38 digits");
        Self { physical: Physical::WideDecimal, scale }
    }

    /// Whether both are the same type; usable in constants.
    #[must_use]
    pub const fn same(self, other: Self) -> bool {
        self.physical as u8 == other.physical as u8 && self.scale == other.scale
    }

    /// Its text in the manifest.
    #[must_use]
    #[allow(clippy::indexing_slicing)] // constants only: a scale beyond the table is a compile error
    pub const fn json(self) -> &'static str {
        match self.physical {
            Physical::Bool => r#"{"type":"bool"}"#,
            Physical::I64 => r#"{"type":"i64"}"#,
            Physical::U64 => r#"{"type":"u64"}"#,
            Physical::Decimal => NARROW[self.scale as usize],
            Physical::WideDecimal => WIDE[self.scale as usize],
            Physical::Bytes => r#"{"type":"bytes"}"#,
            Physical::Text => r#"{"type":"text"}"#,
            Physical::Timestamp => r#"{"type":"timestamp"}"#,
            Physical::Date => r#"{"type":"date"}"#,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_stands_in_the_manifest() {
        assert_eq!(ValueType::decimal(2).json(), r#"{"type":"decimal","scale":2,"digits":18}"#);
        assert_eq!(ValueType::wide(31).json(), r#"{"type":"decimal","scale":31,"digits":38}"#);
        for scale in 0..=38 {
            let text = std::format!(r#"{{"type":"decimal","scale":{scale},"digits":38}}"#);
            assert_eq!(ValueType::wide(scale).json(), text);
        }
    }
}
