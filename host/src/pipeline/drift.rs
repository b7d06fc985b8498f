//! Where the configuration says otherwise than what runs.

use super::rules::{ConfiguredRules, Loaded};
use crate::config::Manage;
use crate::registry::Registry;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the configuration says, as far as it can differ.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    /// Who decides which rules run.
    manage: Manage,
    configured: Vec<Configured>,
    /// Rules that are configured and cannot be read, and why.
    unread: BTreeMap<String, String>,
    /// What a start has found that does not change while the host runs, in words.
    notes: Vec<String>,
}

/// A rule as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Configured {
    rule: String,
    namespace_id: String,
    label_id: String,
    /// All parameters in canonical form.
    params: BTreeMap<String, Value>,
}

impl Drift {
    /// Of these rules.
    #[must_use]
    pub fn new(manage: Manage, configured: &ConfiguredRules) -> Self {
        let rule = |loaded: &Loaded| {
            let revision = loaded.revision("", "");
            Configured {
                rule: revision.rule,
                namespace_id: revision.namespace_id,
                label_id: revision.label_id,
                params: revision.params,
            }
        };
        let unread = configured.unread.clone();
        Self { manage, configured: configured.rules.iter().map(rule).collect(), unread, notes: Vec::new() }
    }

    /// Notes something else, in words.
    pub(super) fn note(&mut self, notes: impl IntoIterator<Item = String>) {
        self.notes.extend(notes);
    }

    /// Who decides which rules run.
    #[must_use]
    pub const fn manage(&self) -> Manage {
        self.manage
    }

    /// All that differs from what `registry` runs, in words.
    #[must_use]
    pub fn of(&self, registry: &Registry) -> Vec<String> {
        let configured = self.configured.iter().filter_map(|c| self.of_configured(c, registry));
        let named = |rule: &String| self.configured.iter().any(|c| c.rule == *rule);
        let others = registry.live.keys().filter(|rule| registry.taken_over.contains(*rule) && !named(rule));
        let others = others.filter_map(|rule| match self.unread.get(rule) {
            Some(why) => self.says(registry, rule, &format!("cannot be read as it is configured ({why})")),
            None => self.says(registry, rule, "is not in the configuration"),
        });
        self.notes.iter().cloned().chain(configured).chain(others).collect()
    }

    fn of_configured(&self, configured: &Configured, registry: &Registry) -> Option<String> {
        let rule = &configured.rule;
        let is_taken_over = registry.taken_over.contains(rule);
        let Some(live) = registry.live(rule) else {
            return match (is_taken_over, self.manage) {
                (true, Manage::State) => Some(format!(
                    "rule {rule} is in the configuration but was removed by a command; take it out there, or read it \
                     again with --rebuild {rule}"
                )),
                (true, Manage::Config) => Some(format!(
                    "rule {rule} is in the configuration but was removed by a command; `retag apply` brings it in again"
                )),
                (false, Manage::Config) => Some(format!(
                    "rule {rule} is new in the configuration, and its history is still to be read: `retag apply` brings it in"
                )),
                (false, Manage::State) => None,
            };
        };
        if !is_taken_over {
            return None; // the start has brought in what is configured, or does so
        }
        let counted = registry.namespace(rule).is_some_and(|n| n.counts(&configured.namespace_id));
        if !counted || configured.label_id != live.label_id {
            self.says(registry, rule, "has another file in the configuration")
        } else if configured.params != live.params {
            self.says(registry, rule, "has other parameters in the configuration")
        } else {
            None
        }
    }

    fn says(&self, registry: &Registry, rule: &str, what: &str) -> Option<String> {
        let until = match self.manage {
            Manage::State => "since commands decide on it",
            Manage::Config => "until `retag apply` brings in what is configured",
        };
        let revision = registry.live(rule)?.revision;
        Some(format!("rule {rule} {what}; {rule}@{revision} runs, {until}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Generation;

    fn drift(manage: Manage) -> Drift {
        let configured = Configured {
            rule: "payer".into(),
            namespace_id: "n".into(),
            label_id: "l".into(),
            params: BTreeMap::from([("min".to_owned(), Value::from("1"))]),
        };
        let unread = BTreeMap::from([("unread".to_owned(), "no such file".to_owned())]);
        Drift { manage, configured: vec![configured], unread, notes: vec!["--remove x".into()] }
    }

    fn live(registry: &mut Registry, rule: &str, min: &str) {
        let space = registry.new_space();
        registry.generations.push(Generation {
            space,
            revision: 3,
            label_id: "l".into(),
            params: BTreeMap::from([("min".to_owned(), Value::from(min))]),
            ..Generation::nothing(rule, 7)
        });
        registry.live.insert(rule.into(), space);
    }

    #[test]
    fn what_commands_have_changed_is_said_as_long_as_it_is_so() {
        let (drift, mut registry) = (drift(Manage::State), Registry::default());
        let said = |registry: &Registry| drift.of(registry)[1..].to_vec();
        live(&mut registry, "payer", "2");
        assert!(said(&registry).is_empty(), "the configuration decides");
        registry.taken_over.extend(["payer".to_owned(), "other".to_owned()]);
        assert!(said(&registry)[0].contains("another file"), "its sums are others'");
        registry.namespaces.push(
            serde_json::from_value(serde_json::json!({
                "space": 7, "rule": "payer", "namespace_id": "n", "entity": 0, "aggregates": [], "key_column": "",
            }))
            .unwrap(),
        );
        assert_eq!(
            said(&registry),
            [
                "rule payer has other parameters in the configuration; payer@3 runs, since commands decide on it"
            ]
        );
        live(&mut registry, "payer", "1");
        assert!(said(&registry).is_empty());
        live(&mut registry, "other", "1");
        assert!(said(&registry)[0].contains("other is not in the configuration"));
        registry.taken_over.insert("unread".into());
        live(&mut registry, "unread", "1");
        assert!(said(&registry)[1].contains("unread cannot be read as it is configured (no such file)"));
        registry.live.clear();
        assert!(said(&registry)[0].contains("removed by a command; take it out"));
    }

    #[test]
    fn where_the_configuration_decides_apply_brings_in_what_is_new() {
        let drift = drift(Manage::Config);
        let mut registry = Registry::default();
        assert!(drift.of(&registry)[1].contains("still to be read"));
        registry.taken_over.insert("payer".into());
        assert!(drift.of(&registry)[1].contains("`retag apply` brings it in again"));
        assert_eq!(drift.of(&registry)[0], "--remove x");
    }
}
