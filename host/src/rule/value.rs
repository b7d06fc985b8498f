//! JSON values of parameters and scenario rows → typed values, in the normal form that `decode` gives to columns.
//!
//! Decimals are text (or whole numbers), never floats; a time is its printed digits, read as UTC.

use serde_json::Value;

use super::manifest::ValueType;

/// A typed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Bool, I64, U64, Decimal (× 10^scale), Timestamp (µs), Date (days).
    Number(i128),
    /// Text and Bytes.
    Bytes(Vec<u8>),
}

/// Reads `value` as `value_type`.
///
/// # Errors
/// What does not fit, as the end of a sentence (“is not …”).
pub(super) fn parse(value_type: ValueType, value: &Value) -> Result<Typed, String> {
    let digits = match value {
        Value::Number(n) => n.to_string(),
        Value::String(text) => text.clone(),
        Value::Bool(flag) if value_type == ValueType::Bool => return Ok(Typed::Number(i128::from(*flag))),
        other => return Err(format!("is {}, not {}", shape(other), describe(value_type))),
    };
    let number = match value_type {
        ValueType::Text | ValueType::Bytes => {
            return match value {
                Value::String(text) => Ok(Typed::Bytes(text.clone().into_bytes())),
                other => Err(format!("is {}, not {}", shape(other), describe(value_type))),
            };
        }
        ValueType::Bool => whole(&digits).filter(|n| (0..=1).contains(n)),
        ValueType::I64 => whole(&digits).filter(|n| i64::try_from(*n).is_ok()),
        ValueType::U64 => whole(&digits).filter(|n| u64::try_from(*n).is_ok()),
        ValueType::Decimal { .. } if matches!(value, Value::Number(n) if n.is_f64()) => {
            return Err(format!("is a floating point number: write it as text, \"{digits}\""));
        }
        ValueType::Decimal { scale, digits: places } => {
            decimal(&digits, scale).filter(|n| n.unsigned_abs() < 10_u128.pow(u32::from(places.min(38))))
        }
        ValueType::Timestamp => {
            whole(&digits).or_else(|| timestamp(&digits)).filter(|n| i64::try_from(*n).is_ok())
        }
        ValueType::Date => {
            whole(&digits).or_else(|| date(&digits)).filter(|days| i32::try_from(*days).is_ok())
        }
    };
    number.map(Typed::Number).ok_or_else(|| format!("`{digits}` is not {}", describe(value_type)))
}

/// The type in words.
fn describe(value_type: ValueType) -> String {
    match value_type {
        ValueType::Bool => "true or false".into(),
        ValueType::I64 => "a 64-bit whole number".into(),
        ValueType::U64 => "a 64-bit whole number from 0".into(),
        ValueType::Decimal { scale, digits } => {
            format!("a decimal as text with at most {scale} decimals and {digits} digits, such as \"5.00\"")
        }
        ValueType::Bytes | ValueType::Text => "text".into(),
        ValueType::Timestamp => "a time such as \"2026-01-31 23:59:59\" (read as UTC)".into(),
        ValueType::Date => "a date such as \"2026-01-31\"".into(),
    }
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn whole(digits: &str) -> Option<i128> {
    decimal(digits, 0)
}

/// `[-]digits[.digits]`, times 10^scale; surplus decimals only if zero.
fn decimal(text: &str, scale: u8) -> Option<i128> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || text.ends_with('.') {
        return None;
    }
    let keep = fraction.len().min(usize::from(scale));
    let (kept, surplus) = fraction.split_at(keep);
    if surplus.bytes().any(|b| b != b'0') {
        return None;
    }
    let mut n: i128 = 0;
    let zeros = std::iter::repeat_n(b'0', usize::from(scale) - keep);
    for digit in whole.bytes().chain(kept.bytes()).chain(zeros) {
        n = n.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    Some(if negative { -n } else { n })
}

/// `YYYY-MM-DD` → days since 1970 (proleptic Gregorian; Hinnant, “chrono-compatible low-level date algorithms”).
fn date(text: &str) -> Option<i128> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i128>().ok().filter(|n| *n >= 0));
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i128::from(leap),
        _ => return None,
    };
    if year > 9999 || !(1..=last).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468)
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]` → µs since 1970.
fn timestamp(text: &str) -> Option<i128> {
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let time = time.strip_suffix('Z').unwrap_or(time);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = clock.splitn(3, ':').map(|part| part.parse::<u8>().ok().map(i128::from));
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let micros = decimal(&format!("0.{fraction}"), 6)?;
    Some((((date(day)? * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value_type: ValueType, value: Value, expect: Option<i128>) {
        assert_eq!(parse(value_type, &value).ok(), expect.map(Typed::Number), "{value_type:?} {value}");
    }

    #[test]
    fn numbers_decimals_and_times_in_normal_form() {
        let cents = ValueType::Decimal { scale: 2, digits: 18 };
        check(cents, "5000.00".into(), Some(500_000));
        check(cents, "-0.5000".into(), Some(-50));
        check(cents, "0.505".into(), None);
        check(cents, 5.into(), Some(500));
        check(cents, 5.5.into(), None);
        check(cents, "9999999999999999.99".into(), Some(999_999_999_999_999_999));
        check(cents, "10000000000000000.00".into(), None);
        check(cents, ".5".into(), None);
        check(ValueType::U64, u64::MAX.into(), Some(i128::from(u64::MAX)));
        check(ValueType::U64, (-1).into(), None);
        check(ValueType::I64, u64::MAX.into(), None);
        check(ValueType::Bool, true.into(), Some(1));
        check(ValueType::Bool, 2.into(), None);
        check(ValueType::Date, "1970-01-01".into(), Some(0));
        check(ValueType::Date, "2000-02-29".into(), Some(11_016));
        check(ValueType::Date, "1900-02-29".into(), None);
        check(ValueType::Date, "1969-12-31".into(), Some(-1));
        check(ValueType::Timestamp, "1970-01-02 00:00:01.5".into(), Some(86_401_500_000));
        check(ValueType::Timestamp, "1970-01-01 24:00:00".into(), None);
    }
}
