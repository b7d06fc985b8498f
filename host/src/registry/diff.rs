//! What two revisions of a rule differ in, whichever is live: manifests, aggregates, labels and parameters.

use super::Registry;
use super::plan::PlanKind;
use super::refusal::Refusal;
use super::revision::Revision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What one revision has and the other has not, or has otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// As the first has it; null = it has not.
    pub before: Value,
    /// As the second has it; null = it has not.
    pub after: Value,
}

/// What two revisions of a rule differ in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// Rule.
    pub rule: String,
    /// The first.
    pub before: u32,
    /// The second.
    pub after: u32,
    /// What going from one to the other needs.
    pub kind: PlanKind,
    /// The same in a sentence.
    pub words: String,
    /// Everything else in the manifests: version, key, tables, declared parameters, texts for people.
    pub manifest: Vec<Changed>,
    /// Aggregates, by name.
    pub aggregates: Vec<Changed>,
    /// Labels, by name.
    pub labels: Vec<Changed>,
    /// Values of parameters, defaults included.
    pub params: Vec<Changed>,
}

impl Registry {
    /// What revisions `before` and `after` of `rule` differ in.
    ///
    /// # Errors
    /// There is no such revision.
    pub fn diff(&self, rule: &str, before: u32, after: u32) -> Result<Diff, Refusal> {
        let revision = |number: u32| {
            let unknown = || Refusal::UnknownRevision { rule: rule.to_owned(), revision: number };
            self.revision(rule, number).ok_or_else(unknown)
        };
        let (old, new) = (revision(before)?, revision(after)?);
        let kind = self.kind_of(old, new);
        let need = match kind {
            PlanKind::Nothing => "they label alike",
            PlanKind::Parameters => "parameters differ; the sums are the same",
            PlanKind::Labels => "labels differ; the sums are the same",
            PlanKind::Aggregates => "the map sides differ: each has sums of its own",
        };
        let of = |parts: &dyn Fn(&Revision) -> BTreeMap<String, Value>| changed(&parts(old), &parts(new));
        Ok(Diff {
            rule: rule.to_owned(),
            before,
            after,
            kind,
            words: format!("{rule}@{before} and {rule}@{after}: {need}"),
            manifest: of(&others),
            aggregates: of(&|r| named(&r.manifest.aggregates, |a| &a.name)),
            labels: of(&|r| named(&r.manifest.labels, |l| &l.name)),
            params: params(old, new),
        })
    }
}

/// Values that differ, as they were written; where none was given, the default.
fn params(old: &Revision, new: &Revision) -> Vec<Changed> {
    let written = |revision: &Revision, name: &str, compared: Value| {
        let declared = revision.manifest.params.iter().find(|p| p.name == name).map(|p| &p.default);
        match revision.given.get(name).or(declared) {
            Some(value) if !compared.is_null() => value.clone(),
            _ => compared,
        }
    };
    let of = |Changed { name, before, after }: Changed| Changed {
        before: written(old, &name, before),
        after: written(new, &name, after),
        name,
    };
    changed(&old.params, &new.params).into_iter().map(of).collect()
}

/// By name; the numbers that things have inside of a file say nothing.
fn named<T: Serialize>(all: &[T], name: impl Fn(&T) -> &String) -> BTreeMap<String, Value> {
    let shown = |one: &T| {
        let mut value = serde_json::to_value(one).unwrap_or_default();
        if let Value::Object(members) = &mut value {
            members.remove("id");
        }
        value
    };
    all.iter().map(|one| (name(one).clone(), shown(one))).collect()
}

/// What the manifest says beside aggregates and labels; tables and parameters one by one.
fn others(revision: &Revision) -> BTreeMap<String, Value> {
    let manifest = &revision.manifest;
    let mut parts = BTreeMap::new();
    if let Ok(Value::Object(members)) = serde_json::to_value(manifest) {
        let listed = ["aggregates", "labels", "tables", "params"];
        parts.extend(members.into_iter().filter(|(name, _)| !listed.contains(&name.as_str())));
    }
    let lists = [
        ("table", named(&manifest.tables, |t| &t.table)),
        ("parameter", named(&manifest.params, |p| &p.name)),
    ];
    for (what, list) in lists {
        parts.extend(list.into_iter().map(|(name, value)| (format!("{what} {name}"), value)));
    }
    parts
}

fn changed(old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>) -> Vec<Changed> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let of = |name: &String| Changed {
        name: name.clone(),
        before: old.get(name).cloned().unwrap_or_default(),
        after: new.get(name).cloned().unwrap_or_default(),
    };
    names.into_iter().filter(|name| old.get(*name) != new.get(*name)).map(of).collect()
}
