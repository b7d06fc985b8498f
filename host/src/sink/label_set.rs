//! The label set of a key: what state sinks hold, and its one text form for all of them (docs/label-set.schema.json).

use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

/// How new a label set is: a later commit is newer, whatever the epoch a greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Epoch of the state.
    pub epoch: u64,
    /// Commit as of which the set holds.
    pub commit: u64,
}

/// Labels by name; `None` for a flag, else the value's name.
pub type Labels<'a> = BTreeMap<&'a str, Option<&'a str>>;

/// All labels of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSet<'a> {
    /// What the key identifies.
    pub entity: &'a str,
    /// The key as text.
    pub key: String,
    /// Its labels.
    pub labels: Labels<'a>,
    /// How new they are.
    pub version: Version,
}

/// A label set as a sink holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What the key identifies.
    pub entity: String,
    /// The key as text.
    pub key: String,
    /// Its labels.
    pub labels: BTreeMap<String, Option<String>>,
    /// How new they are.
    pub version: Version,
}

impl LabelSet<'_> {
    /// Whether `stored` has the same labels; a set that is not stored has none.
    #[must_use]
    pub fn is(&self, stored: Option<&Stored>) -> bool {
        let Some(stored) = stored else { return self.labels.is_empty() };
        let of_stored = stored.labels.iter().map(|(label, value)| (label.as_str(), value.as_deref()));
        of_stored.eq(self.labels.iter().map(|(label, value)| (*label, *value)))
    }
}

/// Labels as a record has them: `{"never_paid":true,"tier":"gold"}`. A record has its version in front of them:
/// `{"v":[EPOCH,COMMIT],"labels":{…}}`.
#[must_use]
pub(super) fn text_of(labels: &Labels<'_>) -> String {
    serde_json::to_string(&Shown(labels)).unwrap_or_default() // text always becomes JSON
}

/// Version and labels of a record; none where it is not one of ours.
#[must_use]
pub(super) fn read_record(text: &[u8]) -> Option<(Version, BTreeMap<String, Option<String>>)> {
    #[derive(Deserialize)]
    struct Read {
        v: (u64, u64),
        labels: BTreeMap<String, Value>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Flag(#[allow(dead_code, reason = "a flag that is there is true")] bool),
        Name(String),
    }
    let read: Read = serde_json::from_slice(text).ok()?;
    let value = |value| match value {
        Value::Flag(_) => None,
        Value::Name(name) => Some(name),
    };
    let labels = read.labels.into_iter().map(|(label, of)| (label, value(of))).collect();
    Some((Version { epoch: read.v.0, commit: read.v.1 }, labels))
}

/// Labels as they are shown: `true` for a flag, else the value's name.
pub(super) struct Shown<'a>(pub(super) &'a Labels<'a>);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value =
            |value: &Option<&str>| value.map_or(serde_json::Value::Bool(true), serde_json::Value::from);
        serializer.collect_map(self.0.iter().map(|(label, of)| (label, value(of))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_what_was_written() {
        let labels: Labels = [("never_paid", None), ("tier", Some("go\"ld"))].into();
        let version = Version { epoch: 2, commit: 77 };
        let set = LabelSet { entity: "user", key: "42".into(), labels, version };
        assert_eq!(text_of(&set.labels), r#"{"never_paid":true,"tier":"go\"ld"}"#);
        let record = |set: &LabelSet<'_>| format!(r#"{{"v":[2,77],"labels":{}}}"#, text_of(&set.labels));
        let (read, labels) = read_record(record(&set).as_bytes()).unwrap();
        assert_eq!(read, version);
        let stored = Stored { entity: "user".into(), key: "42".into(), labels, version };
        assert!(set.is(Some(&stored)) && !set.is(None));
        let none = LabelSet { labels: Labels::new(), ..set.clone() };
        assert!(none.is(None) && !none.is(Some(&stored)));
        assert_eq!(record(&none), r#"{"v":[2,77],"labels":{}}"#);
        for text in ["", "{}", "[1,2]", r#"{"v":[1],"labels":{}}"#] {
            assert_eq!(read_record(text.as_bytes()), None, "{text}");
        }
    }
}
