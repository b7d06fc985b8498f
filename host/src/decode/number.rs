//! A JSON number's token → value × 10^scale, exactly. Never through a float.

use super::{Fit, wide};

#[allow(clippy::indexing_slicing)] // evaluated by the compiler
const POW10: [i64; 19] = {
    let mut powers = [1; 19];
    let mut n = 1;
    while n < 19 {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

/// As [`token_len`], for the usual number in an object: begins with a digit, has no exponent, ends before `,` or `}`,
/// all within sixteen bytes. `None` = ask [`token_len`].
#[inline(always)]
pub(super) fn short_len(bytes: &[u8; 16]) -> Option<usize> {
    let stops = wide::others(bytes);
    let whole = stops.trailing_zeros() as usize;
    if whole > 1 && bytes.first() == Some(&b'0') {
        return None;
    }
    match bytes.get(whole)? {
        b',' | b'}' => Some(whole),
        b'.' => {
            let end = (stops & (stops - 1)).trailing_zeros() as usize;
            (end > whole + 1 && matches!(bytes.get(end)?, b',' | b'}')).then_some(end)
        }
        _ => None,
    }
}

/// Length of the JSON number at the start of `bytes`; `None` where there is none.
#[inline]
pub(super) fn token_len(bytes: &[u8]) -> Option<usize> {
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(bytes, sign);
    if whole == 0 || (whole > 1 && bytes.get(sign) == Some(&b'0')) {
        return None;
    }
    let end = sign + whole;
    match bytes.get(end) {
        Some(b'.' | b'e' | b'E') => broken_len(bytes, end),
        _ => Some(end),
    }
}

/// As [`token_len`], for a number whose whole part ends at `end` and is followed by a fraction or an exponent.
fn broken_len(bytes: &[u8], end: usize) -> Option<usize> {
    let mut at = end;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(bytes, at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        let exponent = digits(bytes, at);
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some(at)
}

#[inline]
fn digits(bytes: &[u8], from: usize) -> usize {
    wide::digits(bytes.get(from..).unwrap_or(&[]))
}

/// The usual number: at most 18 digits, no exponent, no more decimals than `scale`. `None` = take [`scaled`].
#[inline]
pub(super) fn quick(token: &[u8], scale: u8) -> Option<i64> {
    let (negative, magnitude) = match token.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, token),
    };
    if magnitude.len() > 19 {
        return None;
    }
    let (mut value, mut count, mut point) = (0_i64, 0_usize, None);
    for &byte in magnitude {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
            count += 1;
        } else if byte == b'.' && point.is_none() {
            point = Some(count);
        } else {
            return None;
        }
    }
    let missing = usize::from(scale).checked_sub(point.map_or(0, |point| count - point))?;
    if count == 0 || count + missing > 18 {
        return None;
    }
    value = value.wrapping_mul(*POW10.get(missing)?);
    Some(if negative { -value } else { value })
}

/// Value × 10^scale of any JSON number.
///
/// # Errors
/// `TooManyDecimals` where digits beyond `scale` are not zero, `OutOfRange` beyond 38 digits.
pub(super) fn scaled(token: &[u8], scale: u8) -> Result<i128, Fit> {
    let (negative, magnitude) = match token.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, token),
    };
    let exponent_at = magnitude.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(magnitude.len());
    let (mantissa, exponent) = magnitude.split_at(exponent_at);
    let decimals = mantissa.iter().position(|b| *b == b'.').map_or(0, |point| mantissa.len() - point - 1);
    let digits: Vec<u8> =
        mantissa.iter().filter(|b| b.is_ascii_digit()).skip_while(|b| **b == b'0').copied().collect();
    let zeros = digits.iter().rev().take_while(|b| **b == b'0').count();
    let significant = digits.get(..digits.len() - zeros).unwrap_or(&[]);
    if significant.is_empty() {
        return Ok(0);
    }
    let length = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let shift = exponent_of(exponent) + length(zeros) - length(decimals) + i64::from(scale);
    if shift < 0 {
        return Err(Fit::TooManyDecimals);
    }
    if length(significant.len()) + shift > 38 {
        return Err(Fit::OutOfRange);
    }
    let mut value = significant.iter().fold(0_i128, |value, b| value * 10 + i128::from(b - b'0'));
    for _ in 0..shift {
        value *= 10;
    }
    Ok(if negative { -value } else { value })
}

/// The number behind `e`; far beyond any column's range it stays at ±10^12, so that sums of it do not overflow.
fn exponent_of(exponent: &[u8]) -> i64 {
    let negative = exponent.get(1) == Some(&b'-');
    let value = exponent
        .iter()
        .filter(|b| b.is_ascii_digit())
        .fold(0_i64, |value, b| (value * 10 + i64::from(b - b'0')).min(1_000_000_000_000));
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_never_floats() {
        let check = |token: &str, scale, expect| {
            assert_eq!(token_len(token.as_bytes()), Some(token.len()), "{token}");
            assert_eq!(scaled(token.as_bytes(), scale), expect, "{token} at scale {scale}");
            if let (Some(quick), Ok(value)) = (quick(token.as_bytes(), scale), expect) {
                assert_eq!(i128::from(quick), value, "{token}");
            }
        };
        check("18446744073709551615", 0, Ok(i128::from(u64::MAX)));
        check("-9223372036854775808", 0, Ok(i128::from(i64::MIN)));
        check("0.30000000000000000001", 20, Ok(30_000_000_000_000_000_001));
        check("-1E-10", 10, Ok(-1));
        check("-1E-10", 9, Err(Fit::TooManyDecimals));
        check("12.50", 2, Ok(1250));
        check("12.5", 2, Ok(1250));
        check("12.500000000000000000000", 2, Ok(1250));
        check("12.505", 2, Err(Fit::TooManyDecimals));
        check("1E3", 0, Ok(1000));
        check("5.0", 0, Ok(5));
        check("5.5", 0, Err(Fit::TooManyDecimals));
        check("-0", 0, Ok(0));
        check("-0.000e7", 2, Ok(0));
        check("0e99999999999999999999", 2, Ok(0));
        check("1e99999999999999999999", 2, Err(Fit::OutOfRange));
        check("1e-99999999999999999999", 2, Err(Fit::TooManyDecimals));
        check(
            "1234567890123456789012345678.0123456789",
            10,
            Ok(12_345_678_901_234_567_890_123_456_780_123_456_789),
        );
        check("100000000000000000000000000000000000000", 0, Err(Fit::OutOfRange));
        check("99999999999999999999999999999999999999", 0, Ok(10_i128.pow(38) - 1));
    }

    #[test]
    fn the_quick_way_takes_the_usual_and_nothing_longer() {
        assert_eq!(quick(b"98.29", 2), Some(9829));
        assert_eq!(quick(b"-3", 2), Some(-300));
        assert_eq!(quick(b"999999999999999999", 0), Some(999_999_999_999_999_999));
        assert_eq!(quick(b"1000000000000000000", 0), None);
        assert_eq!(quick(b"1.234", 2), None);
        assert_eq!(quick(b"1e2", 2), None);
        assert_eq!(quick(b"1", 18), None);
    }

    #[test]
    fn short_numbers_have_the_length_of_their_token() {
        let mut found = 0;
        for text in ["0", "7", "10", "01", "1.5", "1.", "1.5.5", "1e5", "123456789012345", "12345678.9012345"]
        {
            for behind in [",", "}", " ", "]", "x", "\""] {
                let bytes = format!("{text}{behind}{behind:0<20}");
                let bytes = bytes.as_bytes();
                if let Some(length) = short_len(bytes.first_chunk().unwrap()) {
                    assert_eq!(Some(length), token_len(bytes), "{text}{behind}");
                    found += 1;
                }
            }
        }
        assert_eq!(found, 10);
    }

    #[test]
    fn what_json_does_not_call_a_number_has_no_length() {
        for bad in ["", "-", "01", "1.", ".5", "1e", "1e+", "--1", "+1", "x"] {
            assert_eq!(token_len(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(token_len(b"-01"), None);
        assert_eq!(token_len(b"10,"), Some(2));
        assert_eq!(token_len(b"1.5e-3}"), Some(6));
    }
}
