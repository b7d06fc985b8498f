//! Text of the manifest, put together at compile time from what the types say of themselves.

use retag_abi::column::Physical;

use crate::time::{civil, parse_timestamp};
use crate::{Decimal, Duration, Timestamp, ValueType, decimal};

/// A column named by a window: table, column, type.
#[derive(Clone, Copy, Debug)]
pub struct ColumnName {
    /// `database.table`.
    pub table: &'static str,
    /// Name in the messages.
    pub column: &'static str,
    /// Its type.
    pub value_type: ValueType,
}

impl ColumnName {
    /// Whether a window may go by it.
    #[must_use]
    pub const fn is_timestamp(self) -> bool {
        self.value_type.same(ValueType::of(Physical::Timestamp))
    }
}

/// Length of all parts.
#[must_use]
#[allow(clippy::indexing_slicing)] // constants only
pub const fn total(parts: &[&str]) -> usize {
    let (mut len, mut at) = (0, 0);
    while at < parts.len() {
        len += parts[at].len();
        at += 1;
    }
    len
}

/// All parts in one array of their length.
#[must_use]
#[allow(clippy::indexing_slicing)] // constants only
pub const fn join<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut joined = [0; N];
    let (mut to, mut at) = (0, 0);
    while at < parts.len() {
        let part = parts[at].as_bytes();
        let mut from = 0;
        while from < part.len() {
            joined[to] = part[from];
            to += 1;
            from += 1;
        }
        at += 1;
    }
    joined
}

/// The text as an array of its length, for the static that becomes the custom section.
#[must_use]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    join(&[text])
}

/// Joins constant texts.
#[doc(hidden)]
#[macro_export]
macro_rules! const_join {
    ($($part:expr),* $(,)?) => {{
        const PARTS: &[&str] = &[$($part),*];
        const JOINED: [u8; $crate::manifest::total(PARTS)] = $crate::manifest::join(PARTS);
        match ::core::str::from_utf8(&JOINED) {
            Ok(text) => text,
            Err(_) => "",
        }
    }};
}

/// `yes` if `condition`, else nothing.
#[must_use]
pub const fn when(condition: bool, yes: &'static str) -> &'static str {
    if condition { yes } else { "" }
}

/// The manifest text of an aggregate's value type; nothing if it has none.
#[must_use]
pub const fn value_json(value: Option<ValueType>) -> &'static str {
    match value {
        Some(value) => value.json(),
        None => "",
    }
}

/// A parameter's default in constants: read from text, and as bits.
#[derive(Debug)]
pub struct Raw<T>(pub T);

macro_rules! raw {
    ([$($generics:tt)*] $type:ty, |$text:ident| $read:expr, |$value:ident| $raw:expr) => {
        impl<$($generics)*> Raw<$type> {
            /// The value that `text` stands for.
            ///
            /// # Errors
            /// Why it stands for none.
            pub const fn read($text: &str) -> Result<$type, &'static str> {
                $read
            }

            /// The bits.
            #[must_use]
            pub const fn get(self) -> i128 {
                let $value = self.0;
                $raw
            }
        }
    };
}

raw!([] bool, |_text| Err("write true or false without quotes"), |value| value as i128);
raw!([] i64, |_text| Err("write the number without quotes"), |value| value as i128);
raw!([] u64, |_text| Err("write the number without quotes"), |value| value as i128);
raw!([] Timestamp, |text| match parse_timestamp(text.as_bytes()) {
    Some(micros) => Ok(Timestamp::from_micros(micros)),
    None => Err("not a moment: write it as \"2026-01-31 23:59:59\""),
}, |value| value.micros() as i128);
raw!([] Duration, |text| Duration::read(text), |value| value.micros() as i128);
raw!([const S: u8] Decimal<S>, |text| match decimal::parse(text.as_bytes(), S) {
    Ok(units) if units.unsigned_abs() < 10_u128.pow(18) => Ok(Decimal::from_units(units)),
    Ok(_) => Err("more than the 18 digits of a Decimal"),
    Err(message) => Err(message),
}, |value| value.units());

/// The JSON of a parameter's default, as the configuration would give it.
#[derive(Debug)]
pub struct Default {
    bytes: [u8; 64],
    from: usize,
}

#[allow(clippy::indexing_slicing)] // constants only: 64 bytes hold any number or moment
impl Default {
    /// The JSON of `raw`, a value of type `value_type`.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // a moment is 64 bits wide
    pub const fn new(raw: i128, value_type: ValueType) -> Self {
        let text = Self { bytes: [0; 64], from: 64 };
        match value_type.physical {
            Physical::Bool if raw == 0 => text.put(b"false"),
            Physical::Bool => text.put(b"true"),
            Physical::Timestamp => text.put(b"\"").moment(raw as i64).put(b"\""),
            Physical::Decimal => text.put(b"\"").number(raw, value_type.scale).put(b"\""),
            _ => text.number(raw, 0),
        }
    }

    /// The text.
    #[must_use]
    pub const fn text(&self) -> &str {
        let (_, text) = self.bytes.split_at(self.from);
        match core::str::from_utf8(text) {
            Ok(text) => text,
            Err(_) => "",
        }
    }

    /// Puts `text` in front.
    const fn put(mut self, text: &[u8]) -> Self {
        let mut at = text.len();
        while at > 0 {
            at -= 1;
            self.from -= 1;
            self.bytes[self.from] = text[at];
        }
        self
    }

    /// Puts `value` with at least `width` digits in front.
    #[allow(clippy::cast_possible_truncation)] // a digit
    const fn digits(mut self, mut value: u128, width: u8) -> Self {
        let mut n = 0;
        while value > 0 || n < width {
            self = self.put(&[b'0' + (value % 10) as u8]);
            value /= 10;
            n += 1;
        }
        self
    }

    const fn number(self, value: i128, scale: u8) -> Self {
        let one = 10_u128.pow(scale as u32);
        let size = value.unsigned_abs();
        let text = if scale == 0 { self } else { self.digits(size % one, scale).put(b".") };
        let text = text.digits(size / one, 1);
        if value < 0 { text.put(b"-") } else { text }
    }

    #[allow(clippy::cast_sign_loss)] // remainders of a positive divisor; years of a literal are positive
    const fn moment(self, micros: i64) -> Self {
        let second = micros.div_euclid(1_000_000).rem_euclid(86_400);
        let (year, month, day) = civil(micros.div_euclid(86_400_000_000));
        let text = match micros.rem_euclid(1_000_000) {
            0 => self,
            part => self.digits(part as u128, 6).put(b"."),
        };
        let text =
            text.digits((second % 60) as u128, 2).put(b":").digits((second / 60 % 60) as u128, 2).put(b":");
        let text = text.digits((second / 3_600) as u128, 2).put(b" ").digits(day as u128, 2).put(b"-");
        text.digits(month as u128, 2).put(b"-").digits(year as u128, 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_written_as_configuration_gives_them() {
        let check = |raw: i128, value_type: ValueType, json: &str| {
            assert_eq!(Default::new(raw, value_type).text(), json);
        };
        check(500_000, ValueType::decimal(2), "\"5000.00\"");
        check(-5, ValueType::decimal(2), "\"-0.05\"");
        check(7, ValueType::decimal(0), "\"7\"");
        check(-3, ValueType::of(Physical::I64), "-3");
        check(u64::MAX.into(), ValueType::of(Physical::U64), "18446744073709551615");
        check(1, ValueType::of(Physical::Bool), "true");
        let moment = |text: &str| i128::from(Timestamp::lit(text).micros());
        let timestamp = ValueType::of(Physical::Timestamp);
        check(moment("2026-11-20 12:30:05"), timestamp, "\"2026-11-20 12:30:05\"");
        check(moment("1969-12-31 23:59:59.25"), timestamp, "\"1969-12-31 23:59:59.250000\"");
        check(Raw(Duration::days(7)).get(), ValueType::decimal(6), "\"604800.000000\"");
    }
}
