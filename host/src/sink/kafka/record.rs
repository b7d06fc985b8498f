//! A key's label set as it lies on the topic: `ENTITY/KEY` → JSON with its labels, or nothing where it has none.

use super::link::Outgoing;
use crate::sink::label_set::{Shown, Stored};
use crate::sink::{LabelSet, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// The value (docs/kafka-sink.md).
#[derive(Serialize)]
struct Written<'a> {
    entity: &'a str,
    key: &'a str,
    labels: Shown<'a>,
    epoch: u64,
    commit: u64,
}

/// Labels by name as they are stored: none for a flag, else the value's name.
pub(super) type StoredLabels = BTreeMap<String, Option<String>>;

/// The message that stores a label set.
pub(super) fn outgoing(set: &LabelSet<'_>) -> Outgoing {
    let Version { epoch, commit } = set.version;
    let written = Written { entity: set.entity, key: &set.key, labels: Shown(&set.labels), epoch, commit };
    // Text and numbers always become JSON.
    let value = (!set.labels.is_empty()).then(|| serde_json::to_vec(&written).unwrap_or_default());
    Outgoing { key: Some(name(set.entity, &set.key)), value, headers: None }
}

/// The message key.
pub(super) fn name(entity: &str, key: &str) -> String {
    format!("{entity}/{key}")
}

/// What stands for a message key where many are remembered.
pub(super) fn hash(name: &[u8]) -> u64 {
    xxh3_64(name)
}

/// A message as a label set; one that is not ours has no labels and is older than anything. None where the key is none that
/// a host writes: that is nobody's to take away.
pub(super) fn stored(name: &[u8], value: &[u8]) -> Option<Stored> {
    #[derive(Deserialize)]
    struct Read {
        labels: BTreeMap<String, serde_json::Value>,
        epoch: u64,
        commit: u64,
    }
    let (entity, key) = std::str::from_utf8(name).ok()?.split_once('/')?;
    let (entity, key) = (entity.to_owned(), key.to_owned());
    let Ok(read) = serde_json::from_slice::<Read>(value) else {
        return Some(Stored { entity, key, labels: StoredLabels::new(), version: Version::default() });
    };
    let value = |value: serde_json::Value| value.as_str().map(str::to_owned);
    let labels = read.labels.into_iter().map(|(label, of)| (label, value(of))).collect();
    Some(Stored { entity, key, labels, version: Version { epoch: read.epoch, commit: read.commit } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Labels;

    #[test]
    fn a_message_reads_back_what_was_written() {
        let labels: Labels<'_> = [("never_paid", None), ("tier", Some("gold"))].into();
        let version = Version { epoch: 2, commit: 77 };
        let set = LabelSet { entity: "user", key: "4/2".into(), labels, version };
        let written = outgoing(&set);
        assert_eq!(written.key.as_deref(), Some("user/4/2"));
        let value = written.value.unwrap();
        let text = r#"{"entity":"user","key":"4/2","labels":{"never_paid":true,"tier":"gold"},"epoch":2,"commit":77}"#;
        assert_eq!(String::from_utf8(value.clone()).unwrap(), text);
        let read = stored(b"user/4/2", &value).unwrap();
        assert!(set.is(Some(&read)) && read.version == version && read.key == "4/2");
        let none = LabelSet { labels: Labels::new(), ..set };
        assert_eq!(outgoing(&none).value, None);
        assert_eq!(stored(b"foreign", b"{}"), None);
        let foreign = stored(b"user/7", b"hello").unwrap();
        assert!(foreign.labels.is_empty() && foreign.version == Version::default());
    }
}
