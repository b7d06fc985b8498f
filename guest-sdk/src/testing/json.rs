//! JSON of a scenario → cells, with the meaning that `decode` gives to a producer's messages.

use alloc::format;
use alloc::string::{String, ToString};

use retag_abi::column::Physical;
use serde_json::Value;

use super::Cell;
use crate::time::{parse_date, parse_timestamp};
use crate::{ValueType, decimal};

/// The cell of `value` in a column of type `value_type`; a missing value is ABSENT, a zero date NULL.
///
/// # Errors
/// What is wrong with the value; the host would keep the image from the rule.
pub fn cell(value: Option<&Value>, value_type: ValueType) -> Result<Cell, String> {
    let Some(value) = value else { return Ok(Cell::Absent) };
    if value.is_null() || zero_date(value, value_type) {
        return Ok(Cell::Null);
    }
    match (value_type.physical, value) {
        (Physical::Text, Value::String(text)) => Ok(Cell::Bytes(text.as_bytes().into())),
        (Physical::Bytes, Value::String(text)) => base64(text).map(Cell::Bytes),
        (Physical::Text | Physical::Bytes, other) => Err(format!("{other} is not a text")),
        _ => number(value, value_type).map(Cell::Number),
    }
}

/// The bits of parameter value `value`, in the form in which the configuration gives it.
///
/// # Errors
/// What is wrong with the value.
pub fn param(value: &Value, value_type: ValueType) -> Result<i128, String> {
    number(value, value_type)
}

fn number(value: &Value, value_type: ValueType) -> Result<i128, String> {
    let wrong = || format!("{value} is not a {}", value_type.json());
    let integer = || {
        let digits = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return Err(wrong()),
        };
        digits.parse::<i128>().map_err(|_| wrong())
    };
    let within =
        |number: i128, fits: bool| if fits { Ok(number) } else { Err(format!("{value} is out of range")) };
    let text = || value.as_str().map(str::as_bytes).ok_or_else(wrong);
    match value_type.physical {
        Physical::Bool => match value {
            Value::Bool(bool) => Ok(i128::from(*bool)),
            _ => integer().and_then(|n| within(n, n == 0 || n == 1)),
        },
        Physical::I64 => integer().and_then(|n| within(n, i64::try_from(n).is_ok())),
        Physical::U64 => integer().and_then(|n| within(n, u64::try_from(n).is_ok())),
        Physical::Decimal => {
            decimal(value, value_type.scale).and_then(|n| within(n, n.unsigned_abs() < 10_u128.pow(18)))
        }
        Physical::WideDecimal => {
            decimal(value, value_type.scale).and_then(|n| within(n, n.unsigned_abs() < 10_u128.pow(38)))
        }
        Physical::Timestamp => parse_timestamp(text()?).map(i128::from).ok_or_else(wrong),
        Physical::Date => parse_date(text()?).map(i128::from).ok_or_else(wrong),
        Physical::Text | Physical::Bytes => Err(wrong()),
    }
}

fn decimal(value: &Value, scale: u8) -> Result<i128, String> {
    let digits = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        other => return Err(format!("{other} is not a decimal: write it as text")),
    };
    scaled(&digits, scale).map_err(|message| format!("{value}: {message}"))
}

/// Units of a number with or without an exponent: m × 10^e at a scale is m at the scale + e.
fn scaled(digits: &str, scale: u8) -> Result<i128, &'static str> {
    let Some((digits, exponent)) = digits.split_once(['e', 'E']) else {
        return decimal::parse(digits.as_bytes(), scale);
    };
    let exponent: i32 = exponent.parse().map_err(|_| "the exponent is not a number")?;
    let shift = exponent.saturating_add(i32::from(scale));
    if let Ok(shift) = u8::try_from(shift) {
        return decimal::parse(digits.as_bytes(), shift);
    }
    let units = decimal::parse(digits.as_bytes(), 0)?;
    let one = 10_i128.checked_pow(shift.unsigned_abs()).filter(|one| shift < 0 && units % one == 0);
    one.map(|one| units / one).ok_or("more decimals than the scale, or more than 38 digits")
}

fn zero_date(value: &Value, value_type: ValueType) -> bool {
    let dated = matches!(value_type.physical, Physical::Timestamp | Physical::Date);
    dated && value.as_str().is_some_and(|text| text.starts_with("0000-00-00"))
}

/// Standard base64 with padding, as producers write binary columns.
fn base64(text: &str) -> Result<alloc::vec::Vec<u8>, String> {
    let wrong = || format!("\"{text}\" is not base64, which binary columns are written in");
    let (mut bytes, mut bits, mut held) = (alloc::vec::Vec::new(), 0_u32, 0);
    if !text.len().is_multiple_of(4) {
        return Err(wrong());
    }
    for c in text.trim_end_matches('=').bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(wrong()),
        };
        (bits, held) = ((bits << 6 | u32::from(six)) & 0x3fff, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_read_as_the_host_reads_them() {
        let check = |value: Value, value_type: ValueType, expect: Result<Cell, &str>| match expect {
            Ok(wanted) => assert_eq!(cell(Some(&value), value_type), Ok(wanted)),
            Err(part) => {
                let message = cell(Some(&value), value_type).unwrap_err();
                assert!(message.contains(part), "{message}");
            }
        };
        let of = ValueType::of;
        check(json!(u64::MAX), of(Physical::U64), Ok(Cell::Number(u64::MAX.into())));
        check(json!(u64::MAX), of(Physical::I64), Err("out of range"));
        check(json!(true), of(Physical::Bool), Ok(Cell::Number(1)));
        check(json!(2), of(Physical::Bool), Err("out of range"));
        check(json!("12.500"), ValueType::decimal(2), Ok(Cell::Number(1250)));
        check(json!(12), ValueType::decimal(2), Ok(Cell::Number(1200)));
        check(json!("1.25e1"), ValueType::decimal(2), Ok(Cell::Number(1250)));
        check(json!("125000E-4"), ValueType::decimal(2), Ok(Cell::Number(1250)));
        check(json!("1e-3"), ValueType::decimal(2), Err("more decimals"));
        check(json!("1e300"), ValueType::decimal(2), Err("digits"));
        check(json!("12.505"), ValueType::decimal(2), Err("more decimals"));
        check(json!("12345678901234567.89"), ValueType::decimal(2), Err("out of range"));
        check(json!("0000-00-00 00:00:00"), of(Physical::Timestamp), Ok(Cell::Null));
        check(json!("1970-01-01 00:00:01"), of(Physical::Timestamp), Ok(Cell::Number(1_000_000)));
        check(json!("1970-01-02"), of(Physical::Date), Ok(Cell::Number(1)));
        check(json!("aGk="), of(Physical::Bytes), Ok(Cell::Bytes(b"hi".to_vec())));
        check(json!("a"), of(Physical::Bytes), Err("base64"));
        check(json!(null), of(Physical::Text), Ok(Cell::Null));
        assert_eq!(cell(None, of(Physical::Text)), Ok(Cell::Absent));
    }
}
