//! Aggregates as text and JSON: decimals with their scale, times and dates as SQL prints them.
//!
//! In JSON whatever may not fit a double is text (sums, min and max); counts are numbers.

use crate::aggregate::value::{decimal, from_comparable};
use crate::aggregate::{Aggregate, Reading};
use crate::clock;
use crate::registry::Namespace;
use crate::rule::manifest::ValueType;
use crate::state::{Record, Slot};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::error::ApiError;

const DAY_US: i128 = 86_400_000_000;

/// The aggregates of a namespace, ready to be read from records.
#[derive(Clone)]
pub(super) struct Columns {
    space: u32,
    columns: Vec<(String, Aggregate)>,
}

impl Columns {
    /// Those that the namespace's rule declares, in its order.
    pub(super) fn of(namespace: &Namespace) -> Result<Self, ApiError> {
        let mut columns = Vec::new();
        for declared in &namespace.aggregates {
            let aggregate =
                Aggregate::from_manifest(declared).map_err(|_| ApiError::Damaged("a stored aggregate"))?;
            columns.push((declared.name.clone(), aggregate));
        }
        Ok(Self { space: namespace.space, columns })
    }

    /// Number of the namespace.
    pub(super) fn space(&self) -> u32 {
        self.space
    }

    /// Names in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// What the record holds, as text for CSV.
    pub(super) fn texts<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = String> + 'a {
        self.readings(record).map(|(_, aggregate, reading)| text(aggregate, &reading))
    }

    /// What the record holds, as JSON by name.
    pub(super) fn object(&self, record: Option<&Record>) -> serde_json::Map<String, Value> {
        let empty = Record::default();
        let readings = self.readings(record.unwrap_or(&empty));
        readings.map(|(name, aggregate, reading)| (name.to_owned(), json(aggregate, &reading))).collect()
    }

    fn readings<'a>(
        &'a self,
        record: &'a Record,
    ) -> impl Iterator<Item = (&'a str, &'a Aggregate, Reading)> + 'a {
        (0u16..).zip(&self.columns).map(|(index, (name, aggregate))| {
            let slot = Slot { space: self.space, index };
            let reading = match record.set(slot) {
                Some(set) if set.is_overflow() => Reading::Entry(None), // nothing is known of it
                _ => aggregate.kind.reading(record.get(slot)),
            };
            (name.as_str(), aggregate, reading)
        })
    }
}

fn json(aggregate: &Aggregate, reading: &Reading) -> Value {
    match reading {
        Reading::Bool(yes) => (*yes).into(),
        Reading::I64(n) => (*n).into(),
        Reading::U64(n) => (*n).into(),
        Reading::Entry(None) => Value::Null,
        Reading::I128(_) | Reading::Entry(Some(_)) => text(aggregate, reading).into(),
    }
}

fn text(aggregate: &Aggregate, reading: &Reading) -> String {
    match reading {
        Reading::Bool(yes) => u8::from(*yes).to_string(),
        Reading::I64(n) => n.to_string(),
        Reading::U64(n) => n.to_string(),
        Reading::I128(n) => decimal(*n, scale(aggregate.value)),
        Reading::Entry(None) => String::new(),
        Reading::Entry(Some(bytes)) => aggregate.value.map_or_else(String::new, |value| entry(value, bytes)),
    }
}

fn scale(value: Option<ValueType>) -> u8 {
    if let Some(ValueType::Decimal { scale, .. }) = value { scale } else { 0 }
}

/// A value in comparable form as text of its type.
fn entry(value: ValueType, bytes: &[u8]) -> String {
    match (value, from_comparable(value, bytes)) {
        (ValueType::Timestamp, Some(us)) => timestamp(us),
        (ValueType::Date, Some(days)) => date(days),
        (_, Some(n)) => decimal(n, scale(Some(value))),
        (ValueType::Text, None) => String::from_utf8_lossy(bytes).into_owned(),
        (_, None) => URL_SAFE_NO_PAD.encode(bytes),
    }
}

/// `YYYY-MM-DD` of a day number since 1970.
fn date(days: i128) -> String {
    let (year, month, day) = clock::civil(i64::try_from(days).unwrap_or_default());
    format!("{year:04}-{month:02}-{day:02}")
}

/// `YYYY-MM-DD HH:MM:SS.ffffff` of microseconds since 1970.
fn timestamp(us: i128) -> String {
    let (in_day, date) = (us.rem_euclid(DAY_US), date(us.div_euclid(DAY_US)));
    let (seconds, micros) = (in_day / 1_000_000, in_day % 1_000_000);
    format!("{date} {:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::value::comparable;
    use crate::state::Change;

    #[test]
    fn a_set_that_overflowed_has_no_value() {
        let declared =
            serde_json::json!({"id": 0, "name": "merchants", "kind": "distinct", "value": {"type": "i64"}});
        let aggregate = Aggregate::from_manifest(&serde_json::from_value(declared).unwrap()).unwrap();
        let columns = Columns { space: 1, columns: vec![("merchants".to_owned(), aggregate)] };
        let slot = Slot { space: 1, index: 0 };
        let mut record = Record::new(0);
        record.apply(&Change::Count(slot, b"m", 1)).unwrap();
        assert_eq!(columns.texts(&record).collect::<Vec<_>>(), ["1"]);
        record.apply(&Change::Overflow(slot)).unwrap();
        assert_eq!(columns.texts(&record).collect::<Vec<_>>(), [""]);
        assert_eq!(columns.object(Some(&record))["merchants"], Value::Null);
    }

    #[test]
    fn values_print_as_their_type() {
        let check = |value: ValueType, inline: i64, expect: &str| {
            let mut bytes = Vec::new();
            comparable(value, inline, &[], &mut bytes);
            assert_eq!(entry(value, &bytes), expect);
        };
        check(ValueType::Timestamp, 1_709_251_199_123_456, "2024-02-29 23:59:59.123456");
        check(ValueType::Timestamp, -1, "1969-12-31 23:59:59.999999");
        check(ValueType::Date, 19_782, "2024-02-29");
        check(ValueType::Date, -1, "1969-12-31");
        check(ValueType::Decimal { scale: 2, digits: 18 }, -5, "-0.05");
        check(ValueType::I64, -7, "-7");
        check(ValueType::U64, -1, "18446744073709551615");
        assert_eq!(entry(ValueType::Text, "é".as_bytes()), "é");
        assert_eq!(entry(ValueType::Bytes, &[255]), "_w");
    }
}
