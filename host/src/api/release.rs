//! Answers on revisions: what a rule's revisions are and how far, what one would change, who did what.

use super::error::{ApiError, listed};
use super::history::holds;
use super::lag;
use super::operation::{self, OperationAnswer};
use super::reader::Reader;
use super::rules::{DataState, Standing, states};
use super::value::Columns;
use crate::clock;
use crate::registry::command::Command;
use crate::registry::diff::Diff;
use crate::registry::moves::Moves;
use crate::registry::plan::{Plan, SourceHistory};
use crate::registry::preview::{Compared, compare};
use crate::registry::revision::{AUDIT_PREFIX, AuditEntry, HeldKeys, LabelPreview, Preview, Release, Report};
use crate::registry::sampling::Carried;
use crate::registry::{Adopted, Generation, Refusal, Registry, Revision};
use crate::source::Unit;
use crate::state::{Record, Slot, Table, split_entity_key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most keys that a preview names for each label and direction.
pub(super) const SAMPLES_MAX: usize = 20;
/// Most lines of the audit in one answer.
pub const AUDIT_MAX: usize = 1000;

/// How the host works on a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// It follows its sources.
    Running,
    /// It reads what was there before it, or what it missed.
    CatchingUp,
    /// It follows its sources, and more of one waits than `sources.NAME.lag_bytes_max`.
    Lagging,
    /// No host runs, the rule is paused, or nothing is counted for the revision.
    Stopped,
}

/// A revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionAnswer {
    /// Rule.
    pub rule: String,
    /// Its number.
    pub revision: u32,
    /// How far it is.
    pub release: Release,
    /// How the host works on it.
    pub run_state: RunState,
    /// How good its sums are.
    pub data_state: DataState,
    /// Row images and messages that its sums lack for good.
    pub lacks: u64,
    /// Version for people, of the file.
    pub version: String,
    /// sha256 of the file.
    pub file: String,
    /// Length of the file.
    pub bytes: u64,
    /// Hash of the map module.
    pub map_id: String,
    /// Everything that gives `map` its meaning, hashed.
    pub namespace_id: String,
    /// Hash of the label side.
    pub label_id: String,
    /// Parameters as given; defaults stand for the others.
    pub params: BTreeMap<String, Value>,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// When it came, RFC 3339.
    pub uploaded: String,
    /// Who brought it.
    pub by: String,
    /// Why.
    pub why: String,
    /// What the check found.
    pub report: Report,
    /// Until when it is kept for a way back, RFC 3339.
    pub retained_until: Option<String>,
    /// The operation under way on it.
    pub operation: Option<OperationAnswer>,
    /// Keys whose labels of it are held; those of a revision that is to go live keep what they have.
    pub held: HeldKeys,
    /// Previews that were asked for.
    pub previews: Vec<Preview>,
    /// It labels by sums that another file's `map` counts; null = by its own.
    pub adopted: Option<Adopted>,
    /// Why its last preparation was given up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

/// A preview with some of the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewAnswer {
    /// Rule.
    pub rule: String,
    /// Revision.
    pub revision: u32,
    /// Row images and messages that the revision's sums lack for good.
    pub lacks: u64,
    /// The counts.
    #[serde(flatten)]
    pub preview: Preview,
    /// Some of the keys.
    pub samples: Vec<Samples>,
}

/// Keys that would get or lose a label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Samples {
    /// Label.
    pub label: String,
    /// Value; null = with whatever value.
    pub value: Option<String>,
    /// Would get it.
    pub entered: Vec<Sample>,
    /// Would lose it.
    pub left: Vec<Sample>,
}

/// A key with its labels on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The key as text.
    pub key: String,
    /// Labels of the live revision: `true`, or the value's name.
    pub before: BTreeMap<String, Value>,
    /// Labels of the other one.
    pub after: BTreeMap<String, Value>,
    /// Its aggregates, those of the other one.
    pub aggregates: serde_json::Map<String, Value>,
}

/// Shard and ordinal of a key.
type Place = (usize, u32);

/// The revisions of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Revisions {
    /// Commit of the answer.
    pub commit: u64,
    /// Engine time of the commit, RFC 3339.
    pub time: String,
    /// The oldest first.
    pub revisions: Vec<RevisionAnswer>,
}

/// What an upload answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pushed {
    /// It is new; false = a revision has these bytes already.
    pub created: bool,
    /// The revision.
    pub revision: RevisionAnswer,
    /// What it changes.
    pub plan: Plan,
}

/// What a rule file with parameters would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FilePlan {
    /// The revision that has this file with these parameters; null = a push makes one.
    pub revision: Option<u32>,
    /// How far that is.
    pub release: Option<Release>,
    /// What it changes.
    pub plan: Plan,
    /// The same with both sides of each difference; null = the rule is not live.
    pub diff: Option<Diff>,
}

/// A page of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// Commit of the answer.
    pub commit: u64,
    /// Engine time of the commit, RFC 3339.
    pub time: String,
    /// The oldest first.
    pub lines: Vec<AuditAnswer>,
    /// `after` of the next page; null = there is none.
    pub next: Option<u64>,
}

/// A line of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditAnswer {
    /// When, RFC 3339.
    pub time: String,
    /// The rest.
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// A revision that must be there.
pub(super) fn known<'a>(reader: &'a Reader, rule: &str, number: u32) -> Result<&'a Revision, ApiError> {
    rule_is_known(reader, rule)?;
    let unknown = || Refusal::UnknownRevision { rule: rule.to_owned(), revision: number };
    Ok(reader.registry.revision(rule, number).ok_or_else(unknown)?)
}

/// The revisions of a rule, oldest first.
pub(super) fn all(reader: &Reader, rule: &str) -> Result<Vec<RevisionAnswer>, ApiError> {
    rule_is_known(reader, rule)?;
    let lagging = is_lagging(reader);
    reader.registry.revisions_of(rule).map(|r| of_revision(reader, r, lagging)).collect()
}

fn is_lagging(reader: &Reader) -> bool {
    !lag::behind(reader).is_empty()
}

fn rule_is_known(reader: &Reader, rule: &str) -> Result<(), ApiError> {
    let registry = &reader.registry;
    if registry.namespace(rule).is_some() || registry.revisions_of(rule).next().is_some() {
        return Ok(());
    }
    let known = listed(registry.namespaces.iter().map(|n| n.rule.as_str()));
    Err(ApiError::UnknownRule { name: rule.to_owned(), known })
}

/// A revision.
pub(super) fn one(reader: &Reader, revision: &Revision) -> Result<RevisionAnswer, ApiError> {
    of_revision(reader, revision, is_lagging(reader))
}

fn of_revision(reader: &Reader, revision: &Revision, lagging: bool) -> Result<RevisionAnswer, ApiError> {
    let registry = &reader.registry;
    let (rule, number) = (&revision.rule, revision.number);
    let generation = registry.generation_of(rule, number);
    let namespace = match generation {
        Some(generation) => registry.namespace_of(generation.namespace),
        None => registry.namespaces.iter().find(|n| n.rule == *rule && n.counts(&revision.namespace_id)),
    };
    let behind = reader.positions.catching_up || namespace.is_some_and(|n| n.filling);
    let pause = registry.pauses.get(rule).filter(|_| namespace.is_some());
    let lacks = namespace.map_or(Ok(0), |namespace| reader.lacks(namespace.space))?;
    let (run_state, data_state) = match namespace {
        Some(_) => states(reader, pause, Standing { behind, lagging, refused: lacks > 0 }),
        None => (RunState::Stopped, DataState::None),
    };
    let retained = generation.and_then(|g| g.retained);
    let under_way = registry.running().find(|o| o.rule == *rule && o.revision == number);
    Ok(RevisionAnswer {
        rule: rule.clone(),
        revision: number,
        release: registry.release(rule, number),
        run_state,
        data_state,
        lacks,
        version: revision.manifest.version.clone(),
        file: revision.file.clone(),
        bytes: revision.bytes,
        map_id: revision.map_id.clone(),
        namespace_id: revision.namespace_id.clone(),
        label_id: revision.label_id.clone(),
        params: revision.given.clone(),
        labels: revision.manifest.labels.iter().map(|l| l.name.clone()).collect(),
        uploaded: clock::rfc3339(revision.uploaded_us),
        by: revision.by.clone(),
        why: revision.why.clone(),
        report: revision.report.clone(),
        retained_until: retained.map(|r| clock::rfc3339(r.until_us)),
        operation: under_way.map(|o| operation::one(reader, o)).transpose()?,
        held: generation.map(|g| HeldKeys::of(&reader.view, g.space)).unwrap_or_default(),
        previews: revision.previews.clone(),
        adopted: revision.adopted.clone(),
        failure: revision.failure.clone(),
    })
}

/// What a revision changes, and what history it needs.
pub(super) fn plan(reader: &Reader, rule: &str, number: u32) -> Result<Plan, ApiError> {
    planned(reader, &reader.registry, (rule, number))
}

fn planned(reader: &Reader, registry: &Registry, (rule, number): (&str, u32)) -> Result<Plan, ApiError> {
    let mut plan = registry.plan(rule, number, histories(reader)?)?;
    plan.obstacles.extend(history_gone(reader, &plan).map(|gone| gone.to_string()));
    Ok(plan)
}

/// What a file that is perhaps no revision yet changes.
pub(super) fn plan_of(reader: &Reader, file: Revision) -> Result<FilePlan, ApiError> {
    let (mut registry, rule) = (Registry::clone(&reader.registry), file.rule.clone());
    let same = registry.same_revision(&file).map(|r| r.number);
    let number = same.unwrap_or_else(|| registry.next_revision(&rule));
    if same.is_none() {
        registry.revisions.push(Revision { number, ..file });
    }
    let plan = planned(reader, &registry, (&rule, number))?;
    let diff = plan.against.map(|live| registry.diff(&rule, live, number)).transpose()?;
    let release = same.map(|number| registry.release(&rule, number));
    Ok(FilePlan { revision: same, release, plan, diff })
}

/// What each source has given so far.
fn histories(reader: &Reader) -> Result<Vec<SourceHistory>, ApiError> {
    let mut sources: BTreeMap<&str, u64> = BTreeMap::new();
    for (partition, position) in &reader.positions.partitions {
        *sources.entry(&partition.source).or_default() += position.saturating_sub(partition.begins);
    }
    let all = sources.values().sum::<u64>().max(1);
    let totals = reader.totals()?;
    let rows = |bytes: u64| u128::from(totals.changes + totals.resent) * u128::from(bytes) / u128::from(all);
    let sources = sources.into_iter().map(|(source, bytes)| SourceHistory {
        source: source.to_owned(),
        bytes,
        messages: reader.about.sources.iter().any(|s| s.name == source && s.unit == Unit::Messages),
        rows: u64::try_from(rows(bytes)).unwrap_or(u64::MAX),
        complete: reader.about.sources.iter().all(|s| s.name != source || s.complete),
    });
    Ok(sources.collect())
}

/// Whether the sources still hold the history that a revision needs.
pub(super) fn check_history(reader: &Reader, rule: &str, number: u32) -> Result<(), ApiError> {
    let plan = reader.registry.plan(rule, number, histories(reader)?)?;
    history_gone(reader, &plan).map_or(Ok(()), |gone| Err(gone.into()))
}

/// The sources do not hold the history that a plan needs.
fn history_gone(reader: &Reader, plan: &Plan) -> Option<Refusal> {
    if plan.history.is_none() || !reader.about.complete() {
        return None;
    }
    let error = holds(reader, |_, partition| partition.begins).err()?;
    Some(Refusal::HistoryGone { rule: plan.rule.clone(), revision: plan.revision, why: error.to_string() })
}

/// What activating a revision would change now, and the command that keeps it.
pub(super) fn preview(
    reader: &Reader,
    rule: &str,
    number: u32,
) -> Result<(PreviewAnswer, Command), ApiError> {
    known(reader, rule, number)?;
    let registry = &reader.registry;
    let not = |what: String| Refusal::NotReady { rule: rule.to_owned(), revision: number, what };
    let Some(new) = registry.generation_of(rule, number) else {
        return Err(not(format!("is not prepared: `retag rule prepare {rule}@{number}`")).into());
    };
    let live = &registry.live_before(new);
    if registry.release(rule, number) == Release::Preparing {
        return Err(not("is being prepared: wait until it is ready".to_owned()).into());
    }
    let mut places: BTreeMap<(String, Option<String>), [Vec<Place>; 2]> = BTreeMap::new();
    let mut moves = Moves::default();
    let preview = compare(&reader.view, live, new, &mut |c: &Compared<'_>| {
        moves.add(c);
        let of = places.entry((c.label.to_owned(), c.value.map(str::to_owned))).or_default();
        for (places, ordinals) in of.iter_mut().zip([c.entered, c.left]) {
            let room = SAMPLES_MAX.saturating_sub(places.len());
            places.extend(ordinals.iter().take(room).map(|ordinal| (c.shard, c.base + ordinal)));
        }
    });
    let mut samples = Vec::new();
    for ((label, value), [entered, left]) in places {
        let read = |places: Vec<Place>| -> Result<Vec<Sample>, ApiError> {
            let found: Result<Vec<_>, _> =
                places.into_iter().map(|place| sample(reader, (live, new), place)).collect();
            Ok(found?.into_iter().flatten().collect())
        };
        if !entered.is_empty() || !left.is_empty() {
            samples.push(Samples { label, value, entered: read(entered)?, left: read(left)? });
        }
    }
    let (kept, moves) = (Box::new(preview.clone()), Box::new(moves));
    let command = Command::Keep { rule: rule.to_owned(), revision: number, preview: kept, moves };
    let lacks = reader.lacks(new.namespace)?;
    Ok((PreviewAnswer { rule: rule.to_owned(), revision: number, lacks, preview, samples }, command))
}

fn sample(
    reader: &Reader,
    (live, new): (&Generation, &Generation),
    (shard, ordinal): Place,
) -> Result<Option<Sample>, ApiError> {
    let Some(key) = reader.view.key_of(shard, ordinal)? else { return Ok(None) };
    let Some(record) = reader.view.get(shard, &key)? else { return Ok(None) };
    let Some((number, bytes)) = split_entity_key(&key) else { return Ok(None) };
    let Some(entity) = reader.registry.entities.get(usize::from(number)) else { return Ok(None) };
    let namespace = reader.registry.namespace_of(new.namespace);
    let namespace = namespace.ok_or(ApiError::Damaged("the namespace of a prepared revision"))?;
    Ok(Some(Sample {
        key: entity.key.text(bytes),
        before: text_of(&carried(live, &record)),
        after: text_of(&carried(new, &record)),
        aggregates: Columns::of(namespace)?.object(Some(&record)),
    }))
}

/// Labels of a key as an answer has them.
pub(super) fn text_of(carried: &Carried) -> BTreeMap<String, Value> {
    let one = |(label, value): (&String, &Option<String>)| {
        (label.clone(), value.clone().map_or(Value::Bool(true), Value::String))
    };
    carried.iter().map(one).collect()
}

/// What a key carries of a generation.
pub(super) fn carried(generation: &Generation, record: &Record) -> Carried {
    let mut labels = Carried::new();
    for (index, label) in (0u16..).zip(&generation.labels) {
        let mark = record.mark(Slot { space: generation.space, index });
        if mark != 0 {
            labels.insert(label.name.clone(), generation.value_name(index, mark).map(str::to_owned));
        }
    }
    labels
}

/// What a preview says of one label, in a line for people.
#[must_use]
pub fn label_name(of: &LabelPreview) -> String {
    of.value.as_ref().map_or_else(|| of.label.clone(), |value| format!("{}={value}", of.label))
}

/// Lines of the audit behind commit `after`, oldest first, of one rule or of all.
pub(super) fn audit(
    reader: &Reader,
    rule: Option<&str>,
    (after, limit): (u64, usize),
) -> Result<Vec<AuditAnswer>, ApiError> {
    let from = crate::registry::revision::audit_key(after.saturating_add(1));
    let end = [AUDIT_PREFIX, &[0xff; 9]].concat();
    let (mut lines, mut damaged): (Vec<AuditAnswer>, _) = (Vec::new(), false);
    let mut full = false;
    reader.view.rows(Table::Meta, &from, Some(&end), &mut |_, row| {
        match serde_json::from_slice::<AuditEntry>(row) {
            // A page ends with a commit, whole.
            Ok(entry)
                if lines.len() >= limit && lines.last().is_some_and(|l| l.entry.commit != entry.commit) =>
            {
                full = true;
            }
            Ok(entry) if rule.is_none_or(|rule| rule == entry.rule) => {
                lines.push(AuditAnswer { time: clock::rfc3339(entry.time_us), entry });
            }
            Ok(_) => {}
            Err(_) => damaged = true,
        }
        !damaged && !full
    })?;
    if damaged { Err(ApiError::Damaged("a line of the audit")) } else { Ok(lines) }
}
