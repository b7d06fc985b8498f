//! Printed dates and times → µs and days since 1970; the digits are read as UTC, whatever zone they were printed in.

use super::Fit;

/// `YYYY-MM-DD` → days since 1970.
///
/// # Errors
/// `Null` for a zero date (year, month or day is 0), `OutOfRange` for a day that no calendar has, else `WrongShape`.
pub(super) fn date(text: &[u8]) -> Result<i32, Fit> {
    let (year, month, day) = civil(text)?;
    days(year, month, day)
}

/// `YYYY-MM-DD HH:MM:SS`, also with a fraction behind a point → µs since 1970.
///
/// # Errors
/// As [`date`]; `TooManyDecimals` where digits beyond µs are not zero.
pub(super) fn timestamp(text: &[u8]) -> Result<i64, Fit> {
    let (day_text, rest) = text.split_at_checked(10).ok_or(Fit::WrongShape)?;
    let (year, month, day) = civil(day_text)?;
    let (clock, fraction) = rest.split_at_checked(9).ok_or(Fit::WrongShape)?;
    let [b' ', h1, h2, b':', m1, m2, b':', s1, s2] = *clock else { return Err(Fit::WrongShape) };
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    let micros = micros(fraction)?;
    let days = days(year, month, day)?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Fit::OutOfRange);
    }
    let seconds = i64::from(days) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    Ok(seconds * 1_000_000 + i64::from(micros))
}

fn digit(byte: u8) -> Result<i32, Fit> {
    let digit = byte.wrapping_sub(b'0');
    if digit < 10 { Ok(i32::from(digit)) } else { Err(Fit::WrongShape) }
}

fn two(tens: u8, ones: u8) -> Result<i32, Fit> {
    Ok(digit(tens)? * 10 + digit(ones)?)
}

fn civil(text: &[u8]) -> Result<(i32, i32, i32), Fit> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text else { return Err(Fit::WrongShape) };
    Ok((two(y1, y2)? * 100 + two(y3, y4)?, two(m1, m2)?, two(d1, d2)?))
}

/// Days since 1970 of a civil date (Howard Hinnant's `days_from_civil`, for years from 1 on).
fn days(year: i32, month: i32, day: i32) -> Result<i32, Fit> {
    if year == 0 || month == 0 || day == 0 {
        return Err(Fit::Null);
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if month > 12 || day > last {
        return Err(Fit::OutOfRange);
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Ok(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

/// `.ffffff` (or nothing) → µs.
fn micros(fraction: &[u8]) -> Result<i32, Fit> {
    let digits = match fraction.split_first() {
        None => return Ok(0),
        Some((b'.', digits)) if !digits.is_empty() => digits,
        Some(_) => return Err(Fit::WrongShape),
    };
    let mut micros = 0;
    let mut unit = 100_000;
    let mut surplus = false;
    for &byte in digits {
        let digit = digit(byte)?;
        micros += digit * unit;
        surplus |= unit == 0 && digit != 0;
        unit /= 10;
    }
    if surplus { Err(Fit::TooManyDecimals) } else { Ok(micros) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_times_are_read_as_utc() {
        let check = |text: &str, expect| assert_eq!(timestamp(text.as_bytes()), expect, "{text}");
        check("1970-01-01 00:00:00", Ok(0));
        check("1969-12-31 23:59:59.999999", Ok(-1));
        check("2026-01-01 08:00:00.000123", Ok(1_767_254_400_000_123));
        check("2038-01-19 03:14:08.5", Ok(2_147_483_648_500_000));
        check("9999-12-31 23:59:59", Ok(253_402_300_799_000_000));
        check("1000-01-01 00:00:00", Ok(-30_610_224_000_000_000));
        check("0000-00-00 00:00:00", Err(Fit::Null));
        check("2024-00-10 01:02:03", Err(Fit::Null));
        check("2023-02-29 00:00:00", Err(Fit::OutOfRange));
        check("2024-02-29 24:00:00", Err(Fit::OutOfRange));
        check("2024-02-29 00:00:00.1234567", Err(Fit::TooManyDecimals));
        check("2024-02-29 00:00:00.1234560", Ok(1_709_164_800_123_456));
        for bad in ["", "2024-02-29", "2024-02-29T00:00:00", "2024-02-29 00:00", "2024-02-29 00:00:00.", "x"]
        {
            check(bad, Err(Fit::WrongShape));
        }
    }

    #[test]
    fn days_agree_with_counting_them() {
        let mut expect = date(b"1599-12-31").unwrap();
        for year in 1600..2101 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Ok(days) = date(format!("{year:04}-{month:02}-{day:02}").as_bytes()) {
                        expect += 1;
                        assert_eq!(days, expect, "{year}-{month}-{day}");
                    }
                }
            }
        }
        assert_eq!(date(b"1970-01-01"), Ok(0));
        assert_eq!(date(b"0001-01-01"), Ok(-719_162));
    }
}
