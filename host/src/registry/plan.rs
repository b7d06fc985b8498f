//! What a revision changes against the live one: in words for people, as data for programs.

use super::Registry;
use super::refusal::Refusal;
use super::revision::Revision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a change needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanKind {
    /// Nothing: it labels as the live one does.
    Nothing,
    /// Only parameters differ: labels are evaluated anew from the same sums.
    Parameters,
    /// The label side differs: labels are evaluated anew from the same sums.
    Labels,
    /// The map side differs: new sums, which need history.
    Aggregates,
}

/// Names that one side has and the other has not, or has otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Only in the new one.
    pub added: Vec<String>,
    /// In both, not alike.
    pub changed: Vec<String>,
    /// Only in the live one.
    pub removed: Vec<String>,
}

/// What a revision changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Rule.
    pub rule: String,
    /// Revision.
    pub revision: u32,
    /// The live revision; null = the rule is not live.
    pub against: Option<u32>,
    /// What it needs.
    pub kind: PlanKind,
    /// The same in a sentence, with the next command.
    pub words: String,
    /// Aggregates.
    pub aggregates: Difference,
    /// Labels.
    pub labels: Difference,
    /// Parameters.
    pub params: Difference,
}

impl Registry {
    /// What revision `number` of `rule` changes.
    ///
    /// # Errors
    /// There is no such revision.
    pub fn plan(&self, rule: &str, number: u32) -> Result<Plan, Refusal> {
        let unknown = || Refusal::UnknownRevision { rule: rule.to_owned(), revision: number };
        let new = self.revision(rule, number).ok_or_else(unknown)?;
        let live = self.live(rule).and_then(|g| self.revision(rule, g.revision));
        let kind = match live {
            None => PlanKind::Aggregates,
            Some(live) if live.namespace_id != new.namespace_id => PlanKind::Aggregates,
            Some(live) if live.label_id != new.label_id => PlanKind::Labels,
            Some(live) if live.params != new.params => PlanKind::Parameters,
            Some(_) => PlanKind::Nothing,
        };
        Ok(Plan {
            rule: rule.to_owned(),
            revision: number,
            against: live.map(|l| l.number),
            kind,
            words: words(kind, rule, number),
            aggregates: difference(live, new, |r| {
                let aggregates = r.manifest.aggregates.iter();
                aggregates.map(|a| (a.name.clone(), serde_json::json!([a.kind, a.value, a.window]))).collect()
            }),
            labels: difference(live, new, |r| {
                r.manifest.labels.iter().map(|l| (l.name.clone(), l.values.clone().into())).collect()
            }),
            params: difference(live, new, |r| r.params.clone()),
        })
    }
}

fn words(kind: PlanKind, rule: &str, number: u32) -> String {
    match kind {
        PlanKind::Nothing => format!("{rule}@{number} labels as the live revision does: nothing to do"),
        PlanKind::Parameters => format!(
            "parameters only: all keys are evaluated anew from the sums that are there; `retag rule prepare {rule}@{number}`"
        ),
        PlanKind::Labels => format!(
            "labels only: all keys are evaluated anew from the sums that are there; `retag rule prepare {rule}@{number}`"
        ),
        PlanKind::Aggregates => format!(
            "new aggregates: their history has to be read from the start of the sources; put the file into the \
             configuration and start once with --rebuild {rule}"
        ),
    }
}

fn difference(
    live: Option<&Revision>,
    new: &Revision,
    parts: impl Fn(&Revision) -> BTreeMap<String, Value>,
) -> Difference {
    let (old, new) = (live.map(&parts).unwrap_or_default(), parts(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut difference = Difference::default();
    for name in names {
        match (old.get(name), new.get(name)) {
            (None, _) => difference.added.push(name.clone()),
            (_, None) => difference.removed.push(name.clone()),
            (Some(a), Some(b)) if a != b => difference.changed.push(name.clone()),
            _ => {}
        }
    }
    difference
}
