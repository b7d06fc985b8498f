//! Contributed values: from a guest's record to a number (linear kinds) or to bytes that compare as the values do (sets).
//!
//! Comparable form: unsigned integers big-endian; signed ones (decimals, timestamps and dates too) the same with the
//! sign bit flipped; wide decimals 16 bytes likewise; bool one byte; text and bytes as they are.

use crate::rule::manifest::ValueType;
use retag_abi::column::Physical;
use std::cmp::Ordering;

const SIGN_64: u64 = 1 << 63;
const SIGN_128: u128 = 1 << 127;

/// Physical type of a value type, on the wire of the ABI.
#[must_use]
pub fn physical(value: ValueType) -> Physical {
    match value {
        ValueType::Bool => Physical::Bool,
        ValueType::I64 => Physical::I64,
        ValueType::U64 => Physical::U64,
        ValueType::Decimal { digits, .. } if digits > 18 => Physical::WideDecimal,
        ValueType::Decimal { .. } => Physical::Decimal,
        ValueType::Bytes => Physical::Bytes,
        ValueType::Text => Physical::Text,
        ValueType::Timestamp => Physical::Timestamp,
        ValueType::Date => Physical::Date,
    }
}

/// The number in a contribution's inline value or heap bytes.
#[must_use]
#[allow(clippy::cast_sign_loss)] // a u64 travels as the bits of an i64
pub fn number(value: Option<ValueType>, inline: i64, heap: &[u8]) -> i128 {
    match value {
        Some(ValueType::U64) => i128::from(inline as u64),
        Some(ValueType::Decimal { digits, .. }) if digits > 18 => {
            heap.first_chunk().map_or(0, |bytes| i128::from_le_bytes(*bytes))
        }
        _ => i128::from(inline),
    }
}

/// Writes a contribution's value in comparable form.
#[allow(clippy::cast_sign_loss)] // bits are taken on purpose
pub fn comparable(value: ValueType, inline: i64, heap: &[u8], out: &mut Vec<u8>) {
    match value {
        ValueType::Bool => out.push(u8::from(inline != 0)),
        ValueType::U64 => out.extend_from_slice(&(inline as u64).to_be_bytes()),
        ValueType::Decimal { digits, .. } if digits > 18 => {
            let wide = number(Some(value), inline, heap) as u128 ^ SIGN_128;
            out.extend_from_slice(&wide.to_be_bytes());
        }
        ValueType::I64 | ValueType::Decimal { .. } | ValueType::Timestamp | ValueType::Date => {
            out.extend_from_slice(&(inline as u64 ^ SIGN_64).to_be_bytes());
        }
        ValueType::Bytes | ValueType::Text => out.extend_from_slice(heap),
    }
}

/// The number that [`comparable`] wrote; `None` for text, bytes and foreign lengths.
#[must_use]
#[allow(clippy::cast_possible_wrap)] // bits are taken on purpose
pub fn from_comparable(value: ValueType, bytes: &[u8]) -> Option<i128> {
    match value.cmp_len(bytes.len()) {
        Ordering::Equal => {}
        _ => return None,
    }
    Some(match value {
        ValueType::Bool => i128::from(*bytes.first()?),
        ValueType::U64 => i128::from(u64::from_be_bytes(*bytes.first_chunk()?)),
        ValueType::Decimal { digits, .. } if digits > 18 => {
            (u128::from_be_bytes(*bytes.first_chunk()?) ^ SIGN_128) as i128
        }
        _ => i128::from((u64::from_be_bytes(*bytes.first_chunk()?) ^ SIGN_64) as i64),
    })
}

impl ValueType {
    /// Compares the length of this type's comparable form with `length`.
    fn cmp_len(self, length: usize) -> Ordering {
        let own = match self {
            Self::Bool => 1,
            Self::Decimal { digits, .. } if digits > 18 => 16,
            Self::Bytes | Self::Text => return Ordering::Less,
            _ => 8,
        };
        own.cmp(&length)
    }
}

/// Prints a scaled integer with its decimals: (12345, 2) → `123.45`.
#[must_use]
pub fn decimal(value: i128, scale: u8) -> String {
    if scale == 0 {
        return value.to_string();
    }
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDE: ValueType = ValueType::Decimal { scale: 4, digits: 38 };

    #[test]
    fn decimals_print_with_their_scale() {
        for (value, scale, expect) in
            [(12345, 2, "123.45"), (-5, 2, "-0.05"), (0, 2, "0.00"), (7, 0, "7"), (100, 3, "0.100")]
        {
            assert_eq!(decimal(value, scale), expect);
        }
    }

    proptest! {
        #[test]
        fn comparable_bytes_compare_as_the_values(a: i64, b: i64) {
            for value in [ValueType::I64, ValueType::U64, ValueType::Timestamp] {
                let form = |v: i64| { let mut out = vec![]; comparable(value, v, &[], &mut out); out };
                prop_assert_eq!(form(a).cmp(&form(b)), number(Some(value), a, &[]).cmp(&number(Some(value), b, &[])));
                prop_assert_eq!(from_comparable(value, &form(a)), Some(number(Some(value), a, &[])));
            }
        }

        #[test]
        fn wide_values_compare_as_the_values(a: i128, b: i128) {
            let form = |v: i128| { let mut out = vec![]; comparable(WIDE, 0, &v.to_le_bytes(), &mut out); out };
            prop_assert_eq!(form(a).cmp(&form(b)), a.cmp(&b));
            prop_assert_eq!(from_comparable(WIDE, &form(a)), Some(a));
        }
    }
}
