//! What a revision changes against the live one: in words for people, as data for programs.

use super::refusal::Refusal;
use super::revision::Revision;
use super::{GenerationState, KeyType, Namespace, Registry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a change needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Only in the new one.
    pub added: Vec<String>,
    /// In both, not alike.
    pub changed: Vec<String>,
    /// Only in the live one.
    pub removed: Vec<String>,
    /// In both and declared alike, but made by other code or from other parameters: whether they differ only keys tell.
    #[serde(default)]
    pub perhaps: Vec<String>,
}

/// What a revision changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// What of the sources would be read again; null where nothing is.
    #[serde(default)]
    pub history: Option<HistoryPlan>,
    /// Why preparing it would be refused as things stand.
    #[serde(default)]
    pub obstacles: Vec<String>,
}

/// What of the sources would be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryPlan {
    /// By source.
    pub sources: Vec<SourceHistory>,
    /// Bytes of all of them; messages of logs of messages.
    pub bytes: u64,
    /// How long it takes at the rate of the last time; null before there was one.
    pub seconds: Option<u64>,
}

/// What a source has given so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceHistory {
    /// Source.
    pub source: String,
    /// Bytes; messages where it is a log of messages.
    pub bytes: u64,
    /// These are messages.
    #[serde(default)]
    pub messages: bool,
    /// Changes, about: each source's part of all of them by its bytes.
    #[serde(default)]
    pub rows: u64,
    /// It holds every change since its tables were empty.
    pub complete: bool,
}

impl Registry {
    /// What revision `number` of `rule` changes, where `sources` have given so much.
    ///
    /// # Errors
    /// There is no such revision.
    pub fn plan(&self, rule: &str, number: u32, sources: Vec<SourceHistory>) -> Result<Plan, Refusal> {
        let unknown = || Refusal::UnknownRevision { rule: rule.to_owned(), revision: number };
        let new = self.revision(rule, number).ok_or_else(unknown)?;
        let live = self.live(rule).and_then(|g| self.revision(rule, g.revision));
        let kind = match live {
            None => PlanKind::Aggregates,
            Some(live) => self.kind_of(live, new),
        };
        let counted = self.namespaces.iter().any(|n| n.rule == rule && n.counts(&new.namespace_id));
        let needed = kind == PlanKind::Aggregates && !counted;
        let history = needed.then(|| {
            let bytes = sources.iter().map(|s| s.bytes).sum();
            let mut reads = self.operations.iter().rev().filter_map(|o| o.read);
            HistoryPlan { sources, bytes, seconds: reads.find_map(|read| read.seconds_for(bytes)) }
        });
        let ready = self.generation_of(rule, number).is_some_and(|g| g.state == GenerationState::Ready);
        let next = format!("`retag rule {} {rule}@{number}`", if ready { "activate" } else { "prepare" });
        let other_map = kind == PlanKind::Aggregates && live.is_some_and(|live| live.map_id != new.map_id);
        let aggregates = difference((live, new), other_map, |r| {
            let aggregates = r.manifest.aggregates.iter();
            aggregates.map(|a| (a.name.clone(), serde_json::json!([a.kind, a.value, a.window]))).collect()
        });
        let of_same_names =
            aggregates.added.is_empty() && aggregates.changed.is_empty() && aggregates.removed.is_empty();
        Ok(Plan {
            rule: rule.to_owned(),
            revision: number,
            against: live.map(|l| l.number),
            kind,
            words: match &history {
                Some(history) if live.is_none() => {
                    format!(
                        "a rule that is new to this state, with {}",
                        history.words("new aggregates", &next)
                    )
                }
                Some(history) if of_same_names => {
                    history.words("new aggregates, of the same names but by another `map`", &next)
                }
                Some(history) if other_map => history.words("new aggregates, by another `map`", &next),
                Some(history) => history.words("new aggregates", &next),
                None => words(kind, (rule, number), &next),
            },
            obstacles: if kind == PlanKind::Nothing { Vec::new() } else { self.obstacles(new) },
            history,
            aggregates,
            labels: difference((live, new), kind != PlanKind::Nothing, |r| {
                r.manifest.labels.iter().map(|l| (l.name.clone(), l.values.clone().into())).collect()
            }),
            params: difference((live, new), false, |r| r.params.clone()),
        })
    }

    /// Labels of other rules, another entity.
    fn obstacles(&self, new: &Revision) -> Vec<String> {
        let mut obstacles = Vec::new();
        for label in &new.manifest.labels {
            if let Some((other, _)) = self.label(&label.name).filter(|(g, _)| g.rule != new.rule) {
                let (rule, other) = (new.rule.clone(), other.rule.clone());
                obstacles.push(Refusal::LabelTaken { rule, label: label.name.clone(), other });
            }
        }
        let entity = &new.manifest.entity;
        let same_key = KeyType::of(new.manifest.key)
            .is_some_and(|key| self.entities.iter().all(|e| e.name != *entity || e.key == key));
        let of_rule = self.namespace(&new.rule).and_then(|n| self.entities.get(usize::from(n.entity)));
        if !same_key || of_rule.is_some_and(|of_rule| of_rule.name != *entity) {
            let (rule, revision) = (new.rule.clone(), new.number);
            obstacles.push(Refusal::EntityChanged { rule, revision, entity: entity.clone() });
        }
        obstacles.iter().map(Refusal::to_string).collect()
    }

    /// What going from one revision to another of the same rule needs.
    pub(super) fn kind_of(&self, old: &Revision, new: &Revision) -> PlanKind {
        let both = |n: &Namespace| n.counts(&old.namespace_id) && n.counts(&new.namespace_id);
        let adopted = self.namespaces.iter().any(|n| n.rule == new.rule && both(n));
        if old.namespace_id != new.namespace_id && !adopted {
            PlanKind::Aggregates
        } else if old.label_id != new.label_id {
            PlanKind::Labels
        } else if old.params != new.params {
            PlanKind::Parameters
        } else {
            PlanKind::Nothing
        }
    }
}

fn words(kind: PlanKind, (rule, number): (&str, u32), next: &str) -> String {
    let what = match kind {
        PlanKind::Nothing => {
            return format!("{rule}@{number} labels as the live revision does: nothing to do");
        }
        PlanKind::Parameters => "parameters only: all keys are evaluated anew from the sums that are there",
        PlanKind::Labels => "labels only: all keys are evaluated anew from the sums that are there",
        PlanKind::Aggregates => "other aggregates, whose sums are kept already: all keys are evaluated anew",
    };
    format!("{what}; {next}")
}

impl HistoryPlan {
    fn words(&self, what: &str, next: &str) -> String {
        if let Some(source) = self.sources.iter().find(|source| !source.complete) {
            return format!(
                "{what}, but source {} has history = \"none\": what they were before cannot be read",
                source.source
            );
        }
        let time = match self.seconds {
            Some(seconds) => format!("about {seconds} s at the rate of the last time"),
            None => "time unknown".to_owned(),
        };
        let sources: Vec<String> = self
            .sources
            .iter()
            .map(|s| {
                let unit = if s.messages { "messages" } else { "bytes" };
                format!("{} {unit} of {} with about {} changes", s.bytes, s.source, s.rows)
            })
            .collect();
        format!(
            "{what}: their history is read again beside the stream, {}, {time}; {next}",
            sources.join(", ")
        )
    }
}

/// `by_other_code`: what is declared alike need not be alike.
fn difference(
    (live, new): (Option<&Revision>, &Revision),
    by_other_code: bool,
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
            (Some(_), Some(_)) if by_other_code => difference.perhaps.push(name.clone()),
            _ => {}
        }
    }
    difference
}
