//! Moments, spans and days as rows carry them: the printed digits read as UTC. There is no `now` here: a rule asks a
//! [`Clock`](crate::Clock). Arithmetic stops at the ends of the range and never wraps.

use core::ops::{Add, Sub};

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400 * MICROS;

/// A moment: microseconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(i64);

/// A span of time in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Duration(i64);

/// A day: days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Date(i32);

impl Timestamp {
    /// The moment `micros` µs after 1970-01-01 00:00:00 UTC.
    #[must_use]
    #[inline]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01 00:00:00 UTC.
    #[must_use]
    #[inline]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// A literal `"YYYY-MM-DD HH:MM:SS[.ffffff]"`; in a constant it is checked at compile time.
    ///
    /// # Panics
    /// On any other text.
    #[must_use]
    pub const fn lit(text: &str) -> Self {
        match parse_timestamp(text.as_bytes()) {
            Some(micros) => Self(micros),
            None => refuse("not a moment: write it as \"2026-01-31 23:59:59\""),
        }
    }

    /// The day that it falls on.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // i64 µs are less than 2^27 days
    pub const fn date(self) -> Date {
        Date(self.0.div_euclid(DAY) as i32)
    }
}

impl Duration {
    /// `n` microseconds.
    #[must_use]
    #[inline]
    pub const fn from_micros(n: i64) -> Self {
        Self(n)
    }

    /// `n` seconds.
    #[must_use]
    pub const fn seconds(n: i64) -> Self {
        Self(n.saturating_mul(MICROS))
    }

    /// `n` minutes.
    #[must_use]
    pub const fn minutes(n: i64) -> Self {
        Self(n.saturating_mul(60 * MICROS))
    }

    /// `n` hours.
    #[must_use]
    pub const fn hours(n: i64) -> Self {
        Self(n.saturating_mul(3_600 * MICROS))
    }

    /// `n` days of 24 hours.
    #[must_use]
    pub const fn days(n: i64) -> Self {
        Self(n.saturating_mul(DAY))
    }

    /// Its length in microseconds.
    #[must_use]
    #[inline]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// A literal such as `"7d"`, `"90s"`, `"15m"` or `"12h"`; in a constant it is checked at compile time.
    ///
    /// # Panics
    /// On any other text.
    #[must_use]
    pub const fn lit(text: &str) -> Self {
        match Self::read(text) {
            Ok(span) => span,
            Err(message) => refuse(message),
        }
    }

    #[allow(clippy::indexing_slicing)] // below the length; slices have no other way in a constant
    pub(crate) const fn read(text: &str) -> Result<Self, &'static str> {
        let text = text.as_bytes();
        let unit = match text.len() {
            0 => b' ',
            len => text[len - 1],
        };
        let unit = match unit {
            b's' => MICROS,
            b'm' => 60 * MICROS,
            b'h' => 3_600 * MICROS,
            b'd' => DAY,
            _ => return Err("not a duration: write it as \"7d\", with s, m, h or d"),
        };
        match number(text, 0, text.len() - 1) {
            Some(n) => Ok(Self(n.saturating_mul(unit))),
            None => Err("not a duration: write it as \"7d\", with s, m, h or d"),
        }
    }
}

impl Date {
    /// The day `days` days after 1970-01-01.
    #[must_use]
    #[inline]
    pub const fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// Days since 1970-01-01.
    #[must_use]
    #[inline]
    pub const fn days(self) -> i32 {
        self.0
    }

    /// A literal `"YYYY-MM-DD"`; in a constant it is checked at compile time.
    ///
    /// # Panics
    /// On any other text.
    #[must_use]
    pub const fn lit(text: &str) -> Self {
        match parse_date(text.as_bytes()) {
            Some(days) => Self(days),
            None => refuse("not a day: write it as \"2026-01-31\""),
        }
    }

    /// Its first moment.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0 as i64 * DAY)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    #[inline]
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    #[inline]
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Sub for Timestamp {
    type Output = Duration;
    #[inline]
    fn sub(self, other: Self) -> Duration {
        Duration(self.0.saturating_sub(other.0))
    }
}

#[allow(clippy::panic)] // a literal that does not parse: at compile time this is the error message
const fn refuse(message: &'static str) -> ! {
    panic!("{}", message)
}

/// The digits `from..to` of `text` as a number; at most 9 of them.
#[allow(clippy::indexing_slicing)] // below the length; slices have no other way in a constant
const fn number(text: &[u8], from: usize, to: usize) -> Option<i64> {
    let (mut n, mut at) = (0, from);
    if to > text.len() || to <= from || to - from > 9 {
        return None;
    }
    while at < to {
        if !text[at].is_ascii_digit() {
            return None;
        }
        n = n * 10 + (text[at] - b'0') as i64;
        at += 1;
    }
    Some(n)
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
#[allow(clippy::indexing_slicing)] // the length is checked first
pub(crate) const fn parse_date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    match (number(text, 0, 4), number(text, 5, 7), number(text, 8, 10)) {
        (Some(year), Some(month), Some(day)) => days(year, month, day),
        _ => None,
    }
}

/// µs since 1970-01-01 of `YYYY-MM-DD HH:MM:SS[.f…]` with up to six decimals.
#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation)] // the length is checked first
pub(crate) const fn parse_timestamp(text: &[u8]) -> Option<i64> {
    if text.len() < 19 || text[10] != b' ' || text[13] != b':' || text[16] != b':' {
        return None;
    }
    let (date, _) = text.split_at(10);
    let (Some(days), Some(hour)) = (parse_date(date), number(text, 11, 13)) else { return None };
    let (Some(minute), Some(second)) = (number(text, 14, 16), number(text, 17, 19)) else { return None };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut micros = 0;
    if text.len() > 19 {
        let decimals = text.len() - 20;
        if text[19] != b'.' || decimals == 0 || decimals > 6 {
            return None;
        }
        micros = match number(text, 20, text.len()) {
            Some(n) => n * 10_i64.pow(6 - decimals as u32),
            None => return None,
        };
    }
    Some(days as i64 * DAY + (hour * 3_600 + minute * 60 + second) * MICROS + micros)
}

/// Days since 1970-01-01 of a day of the Gregorian calendar (Howard Hinnant, `days_from_civil`).
#[allow(clippy::cast_possible_truncation)] // four digits of a year are less than 2^22 days
const fn days(year: i64, month: i64, day: i64) -> Option<i32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + leap as i64,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > last {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) as i32)
}

/// (year, month, day) of `days` since 1970-01-01 (Howard Hinnant, `civil_from_days`).
pub(crate) const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    (era * 400 + year_of_era + (month <= 2) as i64, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_as_utc() {
        assert_eq!(parse_timestamp(b"1970-01-01 00:00:00"), Some(0));
        assert_eq!(parse_timestamp(b"2026-11-20 12:30:15.25"), Some(1_795_177_815_250_000));
        assert_eq!(parse_timestamp(b"1969-12-31 23:59:59.999999"), Some(-1));
        for bad in ["2026-02-29 00:00:00", "2026-01-01", "2026-01-01 24:00:00", "2026-01-01 00:00:00.", "x"] {
            assert_eq!(parse_timestamp(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Date::lit("1970-02-01").days(), 31);
        assert_eq!(Timestamp::lit("1969-12-31 12:00:00").date(), Date::from_days(-1));
        assert_eq!(Duration::lit("7d"), Duration::days(7));
        assert_eq!(Timestamp::from_micros(i64::MAX) + Duration::days(1), Timestamp::from_micros(i64::MAX));
    }

    #[test]
    fn days_and_civil_are_inverse() {
        for n in -719_528..=2_932_896 {
            let (year, month, day) = civil(n);
            assert_eq!(days(year, month, day).map(i64::from), Some(n));
        }
    }
}
