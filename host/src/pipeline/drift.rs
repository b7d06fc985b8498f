//! Where the configuration says otherwise than what runs, as a start found it. What concerns a rule is said as long as the
//! rule runs as it did then.

use crate::registry::Registry;
use std::fmt;

/// A difference, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    text: String,
    /// The rule that it is about, with its live revision.
    of: Option<(String, Option<u32>)>,
}

impl Drift {
    /// A difference about a rule of `registry`.
    #[must_use]
    pub fn of_rule(registry: &Registry, rule: &str, text: String) -> Self {
        Self { text, of: Some((rule.to_owned(), live(registry, rule))) }
    }

    /// It is still so.
    #[must_use]
    pub fn holds(&self, registry: &Registry) -> bool {
        self.of.as_ref().is_none_or(|(rule, then)| live(registry, rule) == *then)
    }
}

impl From<String> for Drift {
    fn from(text: String) -> Self {
        Self { text, of: None }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn live(registry: &Registry, rule: &str) -> Option<u32> {
    registry.live(rule).map(|generation| generation.revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_a_rule_is_over_when_another_revision_is_live() {
        let mut registry = Registry::default();
        let about = |registry: &Registry| Drift::of_rule(registry, "payer", "new".into());
        let (of_rule, other) = (about(&registry), Drift::from("--remove x".to_owned()));
        assert!(of_rule.holds(&registry) && other.holds(&registry));
        let live = crate::registry::Generation {
            space: 7,
            revision: 1,
            ..crate::registry::Generation::nothing("payer", 1)
        };
        registry.generations.push(live);
        registry.live.insert("payer".into(), 7);
        assert!(!of_rule.holds(&registry) && other.holds(&registry));
        assert!(about(&registry).holds(&registry));
    }
}
