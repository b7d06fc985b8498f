//! A quick preview: a revision's labels evaluated for some of the keys, before anything is prepared. Only for revisions that
//! count what the live one counts, for the sums are needed.

use super::error::ApiError;
use super::reader::Reader;
use super::release::{PreviewAnswer, SAMPLES_MAX, Sample, Samples, carried, known, text_of};
use super::value::Columns;
use crate::label::readings::{Reader as Readings, exists, overflowed, pending};
use crate::pipeline::rules::Loaded;
use crate::registry::command::Command;
use crate::registry::revision::Preview;
use crate::registry::sampling::{Carried, Tally};
use crate::registry::{Generation, Refusal};
use crate::rule::{LabelAnswers, Labeler};
use crate::state::{Record, SHARDS, split_entity_key};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Keys looked at, if nothing else is said.
pub const KEYS_DEFAULT: u32 = 10_000;
/// Most keys looked at.
pub const KEYS_MAX: u32 = 100_000;
/// Keys evaluated in one call.
const BATCH: usize = 1000;

/// A key that was looked at.
struct Looked {
    key: Box<[u8]>,
    record: Record,
}

/// Estimates what activating a revision would change, from about `keys` keys, and gives the command that keeps it. Which
/// keys depends on `seed` alone.
///
/// # Errors
/// An unknown revision; one that counts other things than the live one; what the store says.
pub fn preview(
    reader: &Reader,
    loaded: &Loaded,
    (rule, number): (&str, u32),
    (keys, seed): (u32, u64),
) -> Result<(PreviewAnswer, Command), ApiError> {
    let revision = known(reader, rule, number)?;
    let not = |what: &str| {
        ApiError::from(Refusal::NotReady { rule: rule.to_owned(), revision: number, what: what.to_owned() })
    };
    let live =
        reader.registry.live(rule).ok_or_else(|| not("is of a rule without labels yet: prepare it"))?;
    let namespace = reader.registry.namespace_of(live.namespace);
    let namespace = namespace.ok_or(ApiError::Damaged("the namespace of a live rule"))?;
    if !namespace.counts(&revision.namespace_id) {
        return Err(not(
            "counts other things than the live one, so nothing can be said before it is prepared",
        ));
    }
    let all: u64 = (0..SHARDS).map(|shard| u64::from(reader.view.next_ordinal(shard))).sum();
    let mut work = Work {
        reader,
        loaded,
        live,
        labeler: loaded.labeler().map_err(|e| ApiError::Internal(e.to_string()))?,
        tally: Tally::default(),
        samples: BTreeMap::new(),
    };
    loaded.manifest().labels.iter().for_each(|label| work.tally.know(&label.name, &label.values));
    live.labels.iter().for_each(|label| work.tally.know(&label.name, &label.values));
    let mut batch = Vec::new();
    for (shard, ordinal) in places(reader, all, (keys, seed)) {
        work.tally.looked_at += 1;
        let Some(key) = reader.view.key_of(shard, ordinal)? else { continue };
        let of_entity = split_entity_key(&key).is_some_and(|(entity, _)| entity == namespace.entity);
        let Some(record) = (if of_entity { reader.view.get(shard, &key)? } else { None }) else { continue };
        batch.push(Looked { key, record });
        if batch.len() == BATCH {
            work.evaluate(std::mem::take(&mut batch))?;
        }
    }
    work.evaluate(batch)?;
    let (changed_keys, labels, sampling) = work.tally.of_all(all);
    let commit = reader.commit();
    let preview = Preview {
        id: format!("{number}-{commit}-sampled"),
        commit,
        against: live.revision,
        changed_keys,
        labels,
        held: work.tally.held_of_all(all),
        sampled: Some(sampling),
    };
    let samples = work.samples.into_iter();
    let samples = samples.map(|(label, [entered, left])| Samples { label, value: None, entered, left });
    let samples = samples.collect();
    let (kept, moves) = (Box::new(preview.clone()), Box::default());
    let command = Command::Keep { rule: rule.to_owned(), revision: number, preview: kept, moves };
    let lacks = reader.lacks(live.namespace)?;
    Ok((PreviewAnswer { rule: rule.to_owned(), revision: number, lacks, preview, samples }, command))
}

/// Places of keys, taken by a hash of the place: about `keys` of all.
fn places(reader: &Reader, all: u64, (keys, seed): (u32, u64)) -> impl Iterator<Item = (usize, u32)> {
    let below = match u64::from(keys) {
        keys if keys >= all => u64::MAX,
        keys => u64::try_from(u128::from(keys) * u128::from(u64::MAX) / u128::from(all)).unwrap_or(u64::MAX),
    };
    (0..SHARDS).flat_map(move |shard| {
        let ordinals = 0..reader.view.next_ordinal(shard);
        let is_taken = move |ordinal: &u32| {
            let place = u128::from(*ordinal) << 64 | shard as u128;
            xxh3_64_with_seed(&place.to_le_bytes(), seed) <= below
        };
        ordinals.filter(is_taken).map(move |ordinal| (shard, ordinal))
    })
}

struct Work<'a> {
    reader: &'a Reader,
    loaded: &'a Loaded,
    live: &'a Generation,
    labeler: Labeler,
    tally: Tally,
    /// By label: some keys that would get it, some that would lose it.
    samples: BTreeMap<String, [Vec<Sample>; 2]>,
}

impl Work<'_> {
    fn evaluate(&mut self, batch: Vec<Looked>) -> Result<(), ApiError> {
        let namespace = self.live.namespace;
        let aggregates = self.loaded.aggregates();
        let mut readings = Readings::new(aggregates, namespace);
        // Keys that do not exist in the namespace, or whose labels are held, change nothing.
        let there = batch.into_iter().filter(|l| exists(&l.record, namespace));
        let (held, asked): (Vec<Looked>, Vec<Looked>) =
            there.partition(|l| pending(&l.record, namespace, aggregates));
        let full = held.iter().filter(|l| overflowed(&l.record, namespace)).count() as u64;
        self.tally.held.overflow += full;
        self.tally.held.pending += held.len() as u64 - full;
        asked.iter().for_each(|l| readings.push(&l.record));
        let mut answers = LabelAnswers::default();
        let now = self.reader.view.engine_time();
        let done = self.labeler.label(readings.readings(), now, &mut answers);
        done.map_err(|error| ApiError::Internal(error.to_string()))?;
        let width = self.loaded.manifest().labels.len();
        for (place, looked) in asked.iter().enumerate() {
            let before = carried(self.live, &looked.record);
            let failed = answers.errors.iter().any(|(n, _)| *n == place);
            self.tally.held.error += u64::from(failed);
            let set = answers.sets.get(place * width..(place + 1) * width).unwrap_or(&[]);
            let after = if failed { before.clone() } else { self.carried_then(set) };
            if self.tally.add(&before, &after) {
                self.sample(looked, &before, &after)?;
            }
        }
        Ok(())
    }

    fn carried_then(&self, set: &[u16]) -> Carried {
        let marked = self.loaded.manifest().labels.iter().zip(set).filter(|(_, mark)| **mark != 0);
        let value = |values: &[String], mark: u16| values.get(usize::from(mark).saturating_sub(1)).cloned();
        marked.map(|(label, mark)| (label.name.clone(), value(&label.values, *mark))).collect()
    }

    fn sample(&mut self, looked: &Looked, before: &Carried, after: &Carried) -> Result<(), ApiError> {
        let Some((number, bytes)) = split_entity_key(&looked.key) else { return Ok(()) };
        let Some(entity) = self.reader.registry.entities.get(usize::from(number)) else { return Ok(()) };
        let Some(namespace) = self.reader.registry.namespace_of(self.live.namespace) else { return Ok(()) };
        let changed = |from: &Carried, to: &Carried| -> Vec<String> {
            to.iter().filter(|(l, v)| from.get(*l) != Some(v)).map(|(l, _)| l.clone()).collect()
        };
        for (side, labels) in [changed(before, after), changed(after, before)].into_iter().enumerate() {
            for label in labels {
                let kept = self.samples.entry(label).or_default();
                let Some(kept) = kept.get_mut(side).filter(|kept| kept.len() < SAMPLES_MAX) else { continue };
                kept.push(Sample {
                    key: entity.key.text(bytes),
                    before: text_of(before),
                    after: text_of(after),
                    aggregates: Columns::of(namespace)?.object(Some(&looked.record)),
                });
            }
        }
        Ok(())
    }
}
