//! Parameters of the label side: what the configuration gives, typed, checked and in the layout that `label` reads.

use retag_abi::label::PARAM_LEN;
use serde_json::{Map, Value};

use crate::config::distance;

use super::error::RuleError;
use super::manifest::Manifest;
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
            match value::parse(param.value_type, source) {
                Ok(typed) => {
                    canonical.insert(param.name.clone(), canonical_value(&typed));
                    values.push(typed);
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
