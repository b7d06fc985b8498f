//! A label's name belongs to one rule, whichever stands still.

use super::{Attached, RulesError};
use std::collections::BTreeMap;

/// Refuses two rules with a label of one name.
pub(super) fn labels(attached: &Attached) -> Result<(), RulesError> {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for rule in attached.rules.iter().filter(|rule| rule.is_live()) {
        for label in &rule.compiled.manifest.labels {
            if let Some(other) = taken.insert(&label.name, &rule.name) {
                return Err(RulesError::LabelTaken {
                    rule: rule.name.clone(),
                    label: label.name.clone(),
                    other: other.to_owned(),
                });
            }
        }
    }
    Ok(())
}
