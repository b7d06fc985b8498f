//! Labels as the model gives them, their counts, and sums as exports print them.

use std::collections::BTreeMap;

/// Labels by key: name → value (`None` for a label without one). A key without labels is not in it.
pub type Labels = BTreeMap<u64, BTreeMap<&'static str, Option<&'static str>>>;

/// How many keys carry each label (with each value).
#[must_use]
pub fn member_counts(labels: &Labels) -> BTreeMap<(&'static str, Option<&'static str>), u64> {
    let mut counts = BTreeMap::new();
    for (name, value) in labels.values().flatten() {
        *counts.entry((*name, *value)).or_insert(0) += 1;
    }
    counts
}

/// Keeps the keys that carry something.
pub(super) fn gather(
    keys: impl Iterator<Item = (u64, BTreeMap<&'static str, Option<&'static str>>)>,
) -> Labels {
    keys.filter(|(_, labels)| !labels.is_empty()).collect()
}

/// Hundredths as a decimal with two places.
pub(super) fn decimal(hundredths: i128) -> String {
    let sign = if hundredths < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", hundredths.abs() / 100, hundredths.abs() % 100)
}
