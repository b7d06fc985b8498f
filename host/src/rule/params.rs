//! Parameters of the label side: what the configuration gives, typed, checked and in the layout that `label` reads.

use retag_abi::label::PARAM_LEN;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::config::distance;

use super::error::RuleError;
use super::manifest::{Manifest, Param, ValueType};
use super::value::{self, Typed};

/// All parameters of a rule, in manifest order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamValues {
    values: Vec<Typed>,
    text: String,
}

impl ParamValues {
    /// Takes `given` over the defaults of `manifest`.
    ///
    /// # Errors
    /// A name that the rule does not have (with the nearest one that it has); a value that is not of its type.
    pub fn new(manifest: &Manifest, given: &Map<String, Value>) -> Result<Self, RuleError> {
        let bad = |param: &str, message| {
            Err(RuleError::Param { rule: manifest.name.clone(), param: param.into(), message })
        };
        for name in given.keys() {
            if !manifest.params.iter().any(|p| p.name == *name) {
                let known: Vec<&str> = manifest.params.iter().map(|p| p.name.as_str()).collect();
                return bad(name, unknown(name, &known));
            }
        }
        let mut values = Vec::new();
        let mut canonical = Map::new();
        for param in &manifest.params {
            let source = given.get(&param.name).unwrap_or(&param.default);
            let source = spelled(param.value_type, source);
            match value::parse(param.value_type, &source) {
                Ok(typed) => {
                    canonical.insert(param.name.clone(), canonical_value(&typed));
                    values.push(typed);
                }
                Err(message) if is_duration(param.value_type) => {
                    let forms =
                        "a duration is \"7d\", \"12h\", \"30m\", \"45s\", \"1500ms\", or seconds as text";
                    return bad(&param.name, format!("the value {message}; {forms}"));
                }
                Err(message) => return bad(&param.name, format!("the value {message}")),
            }
        }
        Ok(Self { values, text: Value::Object(canonical).to_string() })
    }

    /// The values in one canonical line: equal values, equal text, however they were written.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.text
    }

    /// The parameters' bytes: slots of 16 bytes, then the text.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut text: Vec<u8> = Vec::new();
        let text_at = self.values.len() * PARAM_LEN;
        for value in &self.values {
            match value {
                Typed::Number(n) => bytes.extend_from_slice(&n.to_le_bytes()),
                Typed::Bytes(data) => {
                    let word = |n: usize| u64::try_from(n).unwrap_or(0).to_le_bytes();
                    bytes.extend_from_slice(word(text_at + text.len()).get(..4).unwrap_or(&[0; 4]));
                    bytes.extend_from_slice(word(data.len()).get(..4).unwrap_or(&[0; 4]));
                    bytes.extend_from_slice(&[0; 8]);
                    text.extend_from_slice(data);
                }
            }
        }
        bytes.extend_from_slice(&text);
        bytes
    }
}

/// Durations are seconds with six decimals; the manifest has no type of their own for them.
fn is_duration(value_type: ValueType) -> bool {
    matches!(value_type, ValueType::Decimal { scale: 6, .. })
}

/// Units of a duration, with their milliseconds.
const UNITS_MS: [(&str, i128); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The default of a parameter as a person would write it: a duration with the largest unit that leaves a whole number.
#[must_use]
pub fn default_text(param: &Param) -> String {
    let micros = value::parse(param.value_type, &param.default).ok();
    match micros.filter(|_| is_duration(param.value_type)) {
        Some(Typed::Number(micros)) if micros != 0 && micros % 1000 == 0 => {
            let fits = UNITS_MS.iter().rev().find(|(_, ms)| micros / 1000 % ms == 0);
            fits.map_or_else(String::new, |(unit, ms)| format!("{}{unit}", micros / 1000 / ms))
        }
        _ => param.default.as_str().map_or_else(|| param.default.to_string(), str::to_owned),
    }
}

/// All parameters of a rule as a person would write them: those that were given, defaults for the others.
#[must_use]
pub fn in_words(manifest: &Manifest, given: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let value = |param: &Param| match given.get(&param.name) {
        Some(given) => given.clone(),
        None if is_duration(param.value_type) => Value::String(default_text(param)),
        None => param.default.clone(),
    };
    manifest.params.iter().map(|param| (param.name.clone(), value(param))).collect()
}

/// Texts that only parameters may have: `true` and `false` (from the environment), and a whole number with a unit,
/// which becomes seconds; everything else as it is.
fn spelled(value_type: ValueType, value: &Value) -> Cow<'_, Value> {
    match value.as_str() {
        Some("true") if value_type == ValueType::Bool => return Cow::Owned(Value::Bool(true)),
        Some("false") if value_type == ValueType::Bool => return Cow::Owned(Value::Bool(false)),
        _ => {}
    }
    let seconds = value.as_str().filter(|_| is_duration(value_type)).and_then(|text| {
        let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
        let (_, unit_ms) = UNITS_MS.iter().find(|(name, _)| *name == unit)?;
        let digits = number.strip_prefix('-').unwrap_or(number);
        let ms = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i128>().ok())??;
        let ms = ms.checked_mul(*unit_ms)?;
        let sign = if number.starts_with('-') { "-" } else { "" };
        Some(format!("{sign}{}.{:03}", ms / 1000, ms % 1000))
    });
    seconds.map_or(Cow::Borrowed(value), |text| Cow::Owned(Value::String(text)))
}

fn canonical_value(typed: &Typed) -> Value {
    match typed {
        Typed::Number(n) => Value::String(n.to_string()),
        Typed::Bytes(bytes) => Value::String(format!("={}", String::from_utf8_lossy(bytes))),
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    match known.iter().min_by_key(|k| distance(name, k)) {
        None => "the rule has no parameters".into(),
        Some(near) if distance(name, near) <= 1 + name.len() / 3 => {
            format!("the rule has no such parameter. Did you mean `{near}`?")
        }
        Some(_) => format!("the rule has no such parameter, it has {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: ValueType = ValueType::Decimal { scale: 6, digits: 18 };

    fn check(text: &str, expect_us: Option<i128>) {
        let value = Value::String(text.into());
        let parsed = value::parse(SECONDS, &spelled(SECONDS, &value));
        assert_eq!(parsed.ok(), expect_us.map(Typed::Number), "{text}");
    }

    #[test]
    fn a_default_is_shown_as_it_would_be_written() {
        let shown = |value_type, default: &str| {
            let (name, doc) = ("wait".to_owned(), String::new());
            default_text(&Param { name, value_type, default: Value::String(default.into()), doc })
        };
        for (default, text) in [
            ("604800.000000", "7d"),
            ("5400.000000", "90m"),
            ("0.250000", "250ms"),
            ("-3600.000000", "-1h"),
            ("0.000000", "0.000000"),
            ("0.000001", "0.000001"),
        ] {
            assert_eq!(shown(SECONDS, default), text);
        }
        assert_eq!(shown(ValueType::Decimal { scale: 2, digits: 18 }, "86400.00"), "86400.00");
    }

    #[test]
    fn durations_have_units_or_are_seconds() {
        check("7d", Some(604_800_000_000));
        check("12h", Some(43_200_000_000));
        check("30m", Some(1_800_000_000));
        check("45s", Some(45_000_000));
        check("1500ms", Some(1_500_000));
        check("-1500ms", Some(-1_500_000));
        check("0.25", Some(250_000));
        check("604800.000000", Some(604_800_000_000));
        for bad in ["7 d", "7days", "d", "", "1.5h", "--1s", "+1s", "7D", "99999999999999999999d", "1e3"] {
            check(bad, None);
        }
        let cents = ValueType::Decimal { scale: 2, digits: 18 };
        let value = Value::String("7d".into());
        assert!(value::parse(cents, &spelled(cents, &value)).is_err());
        let flag = Value::String("true".into());
        assert_eq!(*spelled(ValueType::Bool, &flag), Value::Bool(true));
        assert_eq!(*spelled(ValueType::Text, &flag), flag);
    }
}
