//! The raw JSON token of a column's value → one row of its buffer, in the normal form of its type.
//!
//! Normal forms: numbers exactly, from their digits; timestamps and dates as the printed digits read as UTC, zero dates
//! as NULL; bool takes 0, 1, true and false; text unescaped; bytes from base64. What does not fit is named by a [`Fit`]
//! and never guessed: a number or an array (SET, JSON documents) does not fit text, a string does not fit a number.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use retag_abi::column::Physical;

use super::image::end_of;
use super::text::{self, Malformed};
use super::{ColumnBuffer, Fit, Values, datetime, number};

const DECIMAL_MAX: i128 = 999_999_999_999_999_999;
const WIDE_DECIMAL_MAX: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

/// Adds the value of `token` to `column`; `scratch` is working memory.
///
/// `token` must be null, true, false, a number by JSON's grammar, or a string's or container's whole extent. Adds
/// nothing where the inside of a string breaks JSON's grammar.
#[inline]
pub(super) fn push(token: &[u8], column: &mut ColumnBuffer, scratch: &mut Vec<u8>) -> Result<(), Malformed> {
    match token.first() {
        Some(b'0'..=b'9' | b'-') => push_number(token, column),
        Some(b'"') => return push_string(token, column, scratch),
        Some(b'n') => column.push_empty(Fit::Null),
        Some(b't' | b'f') if column.column_type.physical == Physical::Bool => {
            put(column, i128::from(token == b"true"));
        }
        _ => column.push_empty(Fit::WrongShape),
    }
    Ok(())
}

#[inline]
fn push_number(token: &[u8], column: &mut ColumnBuffer) {
    let kind = column.column_type;
    let quick = number::quick(token, kind.scale);
    if let Some(value) = quick {
        match (&mut column.values, kind.physical) {
            (Values::I64(values), Physical::I64 | Physical::Decimal) => {
                values.push(value);
                column.fits.push(Fit::Value);
                return;
            }
            (Values::U64(values), Physical::U64) if value >= 0 => {
                values.push(value.cast_unsigned());
                column.fits.push(Fit::Value);
                return;
            }
            _ => {}
        }
    }
    let range = match kind.physical {
        Physical::Bool => 0..=1,
        Physical::I64 => i128::from(i64::MIN)..=i128::from(i64::MAX),
        Physical::U64 => 0..=i128::from(u64::MAX),
        Physical::Decimal => -DECIMAL_MAX..=DECIMAL_MAX,
        Physical::WideDecimal => -WIDE_DECIMAL_MAX..=WIDE_DECIMAL_MAX,
        Physical::Bytes | Physical::Text | Physical::Timestamp | Physical::Date => {
            column.push_empty(Fit::WrongShape);
            return;
        }
    };
    let value = match quick {
        Some(value) => Ok(i128::from(value)),
        None => number::scaled(token, kind.scale),
    };
    match value {
        Ok(value) if range.contains(&value) => put(column, value),
        Ok(_) => column.push_empty(Fit::OutOfRange),
        Err(fit) => column.push_empty(fit),
    }
}

/// Adds a number that was found to be in the column's range.
fn put(column: &mut ColumnBuffer, value: i128) {
    let fits = match &mut column.values {
        Values::Bool(values) => u8::try_from(value).map(|v| values.push(v)).is_ok(),
        Values::I64(values) => i64::try_from(value).map(|v| values.push(v)).is_ok(),
        Values::U64(values) => u64::try_from(value).map(|v| values.push(v)).is_ok(),
        Values::I32(values) => i32::try_from(value).map(|v| values.push(v)).is_ok(),
        Values::I128(values) => {
            values.push(value);
            true
        }
        Values::Heap { .. } => false,
    };
    if fits { column.fits.push(Fit::Value) } else { column.push_empty(Fit::OutOfRange) }
}

fn push_string(token: &[u8], column: &mut ColumnBuffer, scratch: &mut Vec<u8>) -> Result<(), Malformed> {
    let content = text::content(token).ok_or(Malformed)?;
    if column.column_type.physical == Physical::Text {
        return push_text(content, column);
    }
    scratch.clear();
    let characters = text::unescape(content, scratch)?;
    match column.column_type.physical {
        Physical::Timestamp => put_or(column, datetime::timestamp(scratch).map(i128::from)),
        Physical::Date => put_or(column, datetime::date(scratch).map(i128::from)),
        Physical::Bytes => push_base64(scratch, characters, column),
        _ => column.push_empty(Fit::WrongShape),
    }
    Ok(())
}

fn put_or(column: &mut ColumnBuffer, value: Result<i128, Fit>) {
    match value {
        Ok(value) => put(column, value),
        Err(fit) => column.push_empty(fit),
    }
}

fn push_text(content: &[u8], column: &mut ColumnBuffer) -> Result<(), Malformed> {
    let Values::Heap { ends, heap } = &mut column.values else {
        column.push_empty(Fit::WrongShape);
        return Ok(());
    };
    let start = heap.len();
    let characters = text::unescape(content, heap).inspect_err(|_| heap.truncate(start))?;
    if characters && simdutf8::basic::from_utf8(heap.get(start..).unwrap_or(&[])).is_ok() {
        ends.push(end_of(heap));
        column.fits.push(Fit::Value);
    } else {
        heap.truncate(start);
        column.push_empty(Fit::BadEncoding);
    }
    Ok(())
}

fn push_base64(encoded: &[u8], characters: bool, column: &mut ColumnBuffer) {
    let Values::Heap { ends, heap } = &mut column.values else {
        column.push_empty(Fit::WrongShape);
        return;
    };
    let start = heap.len();
    heap.resize(start + base64::decoded_len_estimate(encoded.len()), 0);
    let room = heap.get_mut(start..).unwrap_or(&mut []);
    match STANDARD.decode_slice(encoded, room) {
        Ok(length) if characters => {
            heap.truncate(start + length);
            ends.push(end_of(heap));
            column.fits.push(Fit::Value);
        }
        _ => {
            heap.truncate(start);
            column.push_empty(Fit::BadEncoding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::ColumnType;

    fn check(physical: Physical, scale: u8, token: &str, expect: Result<i128, Fit>) {
        let mut column = ColumnBuffer::new(ColumnType { physical, scale });
        push(token.as_bytes(), &mut column, &mut Vec::new()).unwrap();
        let value = match &column.values {
            Values::Bool(v) => i128::from(v[0]),
            Values::I64(v) => i128::from(v[0]),
            Values::U64(v) => i128::from(v[0]),
            Values::I128(v) => v[0],
            Values::I32(v) => i128::from(v[0]),
            Values::Heap { .. } => panic!("no number"),
        };
        let got = if column.fits[0] == Fit::Value { Ok(value) } else { Err(column.fits[0]) };
        assert_eq!((got, column.fits.len()), (expect, 1), "{physical:?} {token}");
    }

    fn check_heap(physical: Physical, token: &[u8], expect: Result<&[u8], Fit>) {
        let mut column = ColumnBuffer::new(ColumnType { physical, scale: 0 });
        column.push_empty(Fit::Null);
        push(token, &mut column, &mut Vec::new()).unwrap();
        let got = if column.fits[1] == Fit::Value { Ok(column.heap_row(1)) } else { Err(column.fits[1]) };
        assert_eq!(got, expect, "{}", String::from_utf8_lossy(token));
    }

    #[test]
    fn numbers_take_their_normal_form() {
        check(Physical::U64, 0, "18446744073709551615", Ok(i128::from(u64::MAX)));
        check(Physical::U64, 0, "18446744073709551616", Err(Fit::OutOfRange));
        check(Physical::U64, 0, "-1", Err(Fit::OutOfRange));
        check(Physical::I64, 0, "9223372036854775808", Err(Fit::OutOfRange));
        check(Physical::I64, 0, "-9223372036854775808", Ok(i128::from(i64::MIN)));
        check(Physical::I64, 0, "1E3", Ok(1000));
        check(Physical::I64, 0, "5.0", Ok(5));
        check(Physical::I64, 0, "5.5", Err(Fit::TooManyDecimals));
        check(Physical::I64, 0, "\"5\"", Err(Fit::WrongShape));
        check(Physical::I64, 0, "true", Err(Fit::WrongShape));
        check(Physical::I64, 0, "null", Err(Fit::Null));
        check(Physical::Decimal, 2, "-1.01", Ok(-101));
        check(Physical::Decimal, 2, "9999999999999999.99", Ok(DECIMAL_MAX));
        check(Physical::Decimal, 2, "10000000000000000.00", Err(Fit::OutOfRange));
        check(Physical::WideDecimal, 10, "-1E-10", Ok(-1));
        check(Physical::WideDecimal, 10, "[1]", Err(Fit::WrongShape));
        for (token, expect) in
            [("1", Ok(1)), ("0", Ok(0)), ("true", Ok(1)), ("false", Ok(0)), ("127", Err(Fit::OutOfRange))]
        {
            check(Physical::Bool, 0, token, expect);
        }
        check(Physical::Timestamp, 0, "\"1970-01-01 00:00:01\"", Ok(1_000_000));
        check(Physical::Timestamp, 0, "\"0000-00-00 00:00:00\"", Err(Fit::Null));
        check(Physical::Timestamp, 0, "1", Err(Fit::WrongShape));
        check(Physical::Date, 0, "\"1970-01-02\"", Ok(1));
    }

    #[test]
    fn text_and_bytes_are_checked() {
        check_heap(Physical::Text, "\"日本\\uD83D\\uDE00\"".as_bytes(), Ok("日本😀".as_bytes()));
        check_heap(Physical::Text, b"\"\"", Ok(b""));
        check_heap(Physical::Text, b"\"a\xff\"", Err(Fit::BadEncoding));
        check_heap(Physical::Text, b"\"a\\uD800\"", Err(Fit::BadEncoding));
        check_heap(Physical::Text, b"12", Err(Fit::WrongShape));
        check_heap(Physical::Text, b"[\"a\"]", Err(Fit::WrongShape));
        check_heap(Physical::Text, b"{}", Err(Fit::WrongShape));
        check_heap(Physical::Bytes, b"\"3q2+7wA=\"", Ok(&[0xde, 0xad, 0xbe, 0xef, 0]));
        check_heap(Physical::Bytes, b"\"AQ\\u003d\\u003d\"", Ok(&[1]));
        check_heap(Physical::Bytes, b"\"?\"", Err(Fit::BadEncoding));
        check_heap(Physical::Bytes, b"12", Err(Fit::WrongShape));
    }
}
