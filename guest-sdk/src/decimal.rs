//! Fixed-point numbers. Column, sum, parameter and literal are one type per scale, so that amounts compare and add
//! without a conversion; in memory always i128, on the wire 8 bytes (`Decimal`) or 16 (`WideDecimal`).

use core::fmt;
use core::ops::{Add, Mul, Neg, Sub};

/// A number with `S` digits after the point; a column of it has up to 18 digits, a sum up to 38.
///
/// Holds the value × 10^S. Arithmetic in a rule stops at the ends of i128. The host keeps a sum modulo 2^128 in units of
/// the last digit: exact in any order as long as the final sum is within ±1.7·10^38 units; beyond, it reads wrong. Choose
/// a scale with which that cannot happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Decimal<const S: u8>(i128);

/// A column or contribution of up to 38 digits, `S` of them after the point; `value()` is the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Debug)]
pub struct WideDecimal<const S: u8>(Decimal<S>);

impl<const S: u8> Decimal<S> {
    /// The number 0.
    pub const ZERO: Self = Self(0);

    /// The number `units` × 10^-S.
    #[must_use]
    #[inline]
    pub const fn from_units(units: i128) -> Self {
        Self(units)
    }

    /// The number × 10^S.
    #[must_use]
    #[inline]
    pub const fn units(self) -> i128 {
        self.0
    }

    /// A literal such as `"-12.50"`; in a constant it is checked at compile time.
    ///
    /// # Panics
    /// On text that is no decimal number, has more than `S` decimals or more than 38 digits.
    #[must_use]
    pub const fn lit(text: &str) -> Self {
        match parse(text.as_bytes(), S) {
            Ok(units) => Self(units),
            Err(message) => refuse(message),
        }
    }
}

impl<const S: u8> WideDecimal<S> {
    /// A literal, as [`Decimal::lit`].
    #[must_use]
    pub const fn lit(text: &str) -> Self {
        Self(Decimal::lit(text))
    }

    /// The number itself.
    #[must_use]
    #[inline]
    pub const fn value(self) -> Decimal<S> {
        self.0
    }
}

impl<const S: u8> From<Decimal<S>> for WideDecimal<S> {
    #[inline]
    fn from(value: Decimal<S>) -> Self {
        Self(value)
    }
}

#[allow(clippy::panic)] // a literal that does not parse: at compile time this is the error message
const fn refuse(message: &'static str) -> ! {
    panic!("{}", message)
}

/// Units of the number in `text` at `scale`: surplus decimals are taken where they are 0.
#[allow(clippy::indexing_slicing)] // `at` is below the length; slices have no other way in a constant
pub(crate) const fn parse(text: &[u8], scale: u8) -> Result<i128, &'static str> {
    let negative = !text.is_empty() && text[0] == b'-';
    let (mut at, mut units, mut decimals, mut point, mut digits) = (negative as usize, 0_i128, 0, false, 0);
    while at < text.len() {
        match text[at] {
            b'.' if !point => point = true,
            b'0' if point && decimals == scale => {}
            digit @ b'0'..=b'9' => {
                if point {
                    decimals += 1;
                    if decimals > scale {
                        return Err("more decimals than the scale of this Decimal");
                    }
                }
                digits += 1;
                units = match units.checked_mul(10) {
                    Some(tens) => match tens.checked_add((digit - b'0') as i128) {
                        Some(units) => units,
                        None => return Err("more than 38 digits"),
                    },
                    None => return Err("more than 38 digits"),
                };
            }
            _ => return Err("not a decimal number: write it as \"12.50\""),
        }
        at += 1;
    }
    if digits == 0 {
        return Err("not a decimal number: write it as \"12.50\"");
    }
    while decimals < scale {
        units = match units.checked_mul(10) {
            Some(tens) => tens,
            None => return Err("more than 38 digits"),
        };
        decimals += 1;
    }
    Ok(if negative { -units } else { units })
}

impl<const S: u8> Add for Decimal<S> {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl<const S: u8> Sub for Decimal<S> {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl<const S: u8> Neg for Decimal<S> {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl<const S: u8> Mul<i64> for Decimal<S> {
    type Output = Self;
    #[inline]
    fn mul(self, times: i64) -> Self {
        Self(self.0.saturating_mul(i128::from(times)))
    }
}

impl<const S: u8> fmt::Display for Decimal<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, one) = (if self.0 < 0 { "-" } else { "" }, 10_u128.pow(u32::from(S)));
        let (whole, part) = (self.0.unsigned_abs() / one, self.0.unsigned_abs() % one);
        match S {
            0 => write!(f, "{sign}{whole}"),
            _ => write!(f, "{sign}{whole}.{part:0width$}", width = usize::from(S)),
        }
    }
}

impl<const S: u8> fmt::Debug for Decimal<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn literals_read_and_print() {
        let check = |text: &str, units: i128, printed: &str| {
            assert_eq!(parse(text.as_bytes(), 2), Ok(units), "{text}");
            assert_eq!(Decimal::<2>::from_units(units).to_string(), printed);
        };
        check("5000.00", 500_000, "5000.00");
        check("-0.5", -50, "-0.50");
        check("7", 700, "7.00");
        check("1.2500", 125, "1.25");
        assert_eq!(Decimal::<0>::lit("12").to_string(), "12");
        for bad in ["", "-", ".", "1.2.3", "1e3", "1,5", " 1"] {
            assert!(parse(bad.as_bytes(), 2).is_err(), "{bad}");
        }
        assert_eq!(parse(b"1.005", 2), Err("more decimals than the scale of this Decimal"));
        assert_eq!(parse(&[b'9'; 39], 2), Err("more than 38 digits"));
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let max = Decimal::<2>::from_units(i128::MAX);
        assert_eq!(max + Decimal::lit("0.01"), max);
        assert_eq!(Decimal::<2>::lit("1.50") * 2 - Decimal::lit("4"), -Decimal::lit("1"));
    }
}
