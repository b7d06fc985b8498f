//! A shard's working state: the records of the keys touched since start, ahead of durability.
//!
//! `Shard::apply` is the only place where contributions meet records. It adds the net changes of a cycle, evaluates
//! labels once per touched key, and writes the shard's delta block, transitions and timers for the commit.

mod sweep;

use super::failure::Failure;
use super::program::{Layout, LiveRule, Program};
use super::sweep::SweepSlice;
use crate::aggregate::delta::DeltaBuffer;
use crate::label::readings::{Reader, exists, pending};
use crate::label::{Cause, Transition};
use crate::registry::{ERROR, PENDING, STATUS_INDEX, WAKE_INDEX};
use crate::rule::{LabelAnswers, Labeler};
use crate::state::{BlockWriter, Change, Life, Record, ShardBlock, Slot, View, key_hash, split_entity_key};
use hashbrown::HashTable;
use retag_abi::WAKE_NEVER;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

/// What a shard has to do in a cycle.
#[derive(Debug, Default)]
pub struct ShardTask {
    /// Its number.
    pub shard: usize,
    /// Per entity, the buffers of the workers that have something for it.
    pub deltas: Vec<Vec<DeltaBuffer>>,
    /// State keys whose timer is due.
    pub due: Vec<Box<[u8]>>,
    /// Instead of all that: a slice of a sweep.
    pub sweep: Option<SweepSlice>,
}

/// A timer that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerChange {
    /// Label generation.
    pub generation: u32,
    /// State key.
    pub key: Box<[u8]>,
    /// Moment so far, µs.
    pub before: Option<i64>,
    /// Moment from now on, µs.
    pub after: Option<i64>,
}

/// What a shard gives to a commit.
#[derive(Debug, Default)]
pub struct ShardOutput {
    /// Its number.
    pub shard: usize,
    /// Its delta block, if any key changed.
    pub block: Option<ShardBlock>,
    /// Transitions of live generations, by key.
    pub transitions: Vec<Transition>,
    /// Timers.
    pub timers: Vec<TimerChange>,
    /// After a slice of a sweep: the last key done, `None` inside when the shard is done.
    pub swept: Option<Option<Box<[u8]>>>,
}

/// What all shards of a cycle share.
pub(super) struct Context<'a> {
    pub(super) program: &'a Program,
    pub(super) commit: u64,
    pub(super) now: i64,
    /// Per rule.
    pub(super) causes: &'a [Cause],
    pub(super) view: &'a View,
}

impl Context<'_> {
    /// Hash of a state key; `None` for an entity that no rule has any more.
    fn hash(&self, key: &[u8]) -> Option<u64> {
        let (entity, bytes) = split_entity_key(key)?;
        Some(key_hash(&self.program.entities.get(usize::from(entity))?.name, bytes))
    }
}

struct Held {
    hash: u64,
    key: Box<[u8]>,
    record: Record,
    /// The key is part of the state (it has an ordinal); else the record is empty and only remembered as such.
    exists: bool,
}

/// A key touched in this cycle; its changes are `changes[from..to]`.
struct Touched {
    held: usize,
    from: usize,
    to: usize,
    by_change: bool,
    /// What labels changed.
    labels: Vec<(Slot, LabelChange)>,
}

enum LabelChange {
    Mark(u16, u16),
    Wake(Option<i64>),
}

enum NetChange {
    Add(Slot, i128),
    Count(Slot, Box<[u8]>, i64),
}

/// A shard.
pub(super) struct Shard {
    number: usize,
    index: HashTable<usize>,
    held: Vec<Held>,
    next_ordinal: u32,
    /// Nothing was stored when this shard was opened, so a key that is not held does not exist.
    fresh: bool,
    /// Ranges of keys that were read from the store: lower → upper. What is not held in them does not exist.
    loaded: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    bytes: u64,
    answers: LabelAnswers,
}

/// Working bytes of a held key beside its cells, and of one cell: sizes of the structures with their table entries.
const HELD_BYTES: u64 = 120;
const CELL_BYTES: u64 = 48;

impl Shard {
    pub(super) fn new(number: usize, view: &View) -> Self {
        Self {
            number,
            index: HashTable::new(),
            held: Vec::new(),
            next_ordinal: view.next_ordinal(number),
            fresh: view.next_ordinal(number) == 0,
            loaded: BTreeMap::new(),
            bytes: 0,
            answers: LabelAnswers::default(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn apply(
        &mut self,
        task: ShardTask,
        context: &Context<'_>,
        labelers: &mut [Vec<Labeler>],
        spare: &mut [Vec<DeltaBuffer>],
    ) -> Result<ShardOutput, Failure> {
        if let Some(slice) = &task.sweep {
            return self.sweep(slice, context, labelers);
        }
        let mut changes = Vec::new();
        let mut touched = self.add(task.deltas, context, (&mut changes, spare))?;
        self.wake(&task.due, context, &mut touched)?;
        let mut output = ShardOutput { shard: self.number, ..ShardOutput::default() };
        for ((rule, labelers), cause) in context.program.rules.iter().zip(labelers).zip(context.causes) {
            let mut evaluation =
                Evaluation { rule, cause: *cause, now: context.now, generation: 0, live: false, labels: 0 };
            for (generation, labeler) in rule.generations.iter().zip(labelers) {
                evaluation.generation = generation.space;
                evaluation.live = generation.live;
                evaluation.labels = generation.labels;
                self.evaluate(&evaluation, labeler, &mut touched, &mut output)?;
            }
        }
        output.block = self.write(&touched, &changes, BlockWriter::new(context.commit))?;
        // Transitions were found rule by rule; in the commit they stand by key.
        output.transitions.sort_by(|a, b| (a.entity, &a.key).cmp(&(b.entity, &b.key)));
        Ok(output)
    }

    /// Adds the net changes of all workers to the records.
    fn add(
        &mut self,
        deltas: Vec<Vec<DeltaBuffer>>,
        context: &Context<'_>,
        (changes, spare): (&mut Vec<NetChange>, &mut [Vec<DeltaBuffer>]),
    ) -> Result<Vec<Touched>, Failure> {
        let mut touched = Vec::new();
        let entities = deltas.into_iter().zip(&context.program.entities).zip(spare);
        for (number, ((mut of_entity, layout), spare)) in (0u16..).zip(entities) {
            of_entity.sort_by_key(DeltaBuffer::len);
            let Some(mut all) = of_entity.pop() else { continue };
            for mut buffer in of_entity {
                all.merge(&buffer);
                buffer.clear();
                spare.push(buffer);
            }
            let mut failure = None;
            let mut state_key = Vec::new();
            all.drain_sorted(|key| {
                if failure.is_some() {
                    return;
                }
                let from = changes.len();
                list(layout, key.sums, key.counts, changes);
                if changes.len() == from {
                    return; // everything cancelled out
                }
                state_key.clear();
                state_key.extend_from_slice(&number.to_be_bytes());
                state_key.extend_from_slice(key.key);
                let added = self
                    .find(key.hash, &state_key, context)
                    .and_then(|held| self.change(held, changes.get(from..).unwrap_or(&[])).map(|()| held));
                match added {
                    Ok(held) => touched.push(Touched {
                        held,
                        from,
                        to: changes.len(),
                        by_change: true,
                        labels: Vec::new(),
                    }),
                    Err(error) => failure = Some(error),
                }
            });
            if let Some(failure) = failure {
                return Err(failure);
            }
            spare.push(all);
        }
        Ok(touched)
    }

    fn change(&mut self, held: usize, changes: &[NetChange]) -> Result<(), Failure> {
        let Some(held) = self.held.get_mut(held) else {
            return Err(Failure::Internal("a touched key is not held".into()));
        };
        let before = held.record.cells().count() as u64;
        for change in changes {
            let applied = match change {
                NetChange::Add(slot, n) => held.record.apply(&Change::Add(*slot, *n)),
                NetChange::Count(slot, value, n) => held.record.apply(&Change::Count(*slot, value, *n)),
            };
            applied.map_err(|error| Failure::Internal(error.to_string()))?;
        }
        self.bytes += CELL_BYTES * (held.record.cells().count() as u64).saturating_sub(before);
        Ok(())
    }

    /// Adds the keys whose timer is due.
    fn wake(
        &mut self,
        due: &[Box<[u8]>],
        context: &Context<'_>,
        touched: &mut Vec<Touched>,
    ) -> Result<(), Failure> {
        if due.is_empty() {
            return Ok(());
        }
        let mut there: HashSet<usize> = touched.iter().map(|t| t.held).collect();
        for key in due {
            let Some((entity, bytes)) = split_entity_key(key) else { continue };
            let Some(layout) = context.program.entities.get(usize::from(entity)) else { continue };
            let held = self.find(key_hash(&layout.name, bytes), key, context)?;
            if there.insert(held) {
                touched.push(Touched { held, from: 0, to: 0, by_change: false, labels: Vec::new() });
            }
        }
        touched.sort_by(|a, b| self.key(a.held).cmp(self.key(b.held)));
        Ok(())
    }

    fn key(&self, held: usize) -> &[u8] {
        self.held.get(held).map_or(&[], |h| &h.key)
    }

    /// The held key, read from the view when it was not touched since start.
    fn find(&mut self, hash: u64, key: &[u8], context: &Context<'_>) -> Result<usize, Failure> {
        if let Some(found) = self.lookup(hash, key) {
            return Ok(found);
        }
        if !self.fresh && !self.is_loaded(key) {
            let page = context.view.page_around(self.number, key)?;
            for (other, record) in page.records {
                let Some(hash) = context.hash(&other) else { continue };
                if self.lookup(hash, &other).is_none() {
                    self.hold(hash, other, record, true);
                }
            }
            self.loaded.insert(page.lower, page.upper);
            if let Some(found) = self.lookup(hash, key) {
                return Ok(found);
            }
        }
        Ok(self.hold(hash, Box::from(key), Record::default(), false))
    }

    /// Whether everything that was stored around `key` is held.
    fn is_loaded(&self, key: &[u8]) -> bool {
        let below = self.loaded.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        below.is_some_and(|(_, upper)| upper.as_ref().is_none_or(|upper| key < &**upper))
    }

    fn lookup(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.index
            .find(hash, |h| self.held.get(*h).is_some_and(|h| h.hash == hash && &*h.key == key))
            .copied()
    }

    fn hold(&mut self, hash: u64, key: Box<[u8]>, record: Record, exists: bool) -> usize {
        self.bytes += HELD_BYTES + key.len() as u64 + CELL_BYTES * record.cells().count() as u64;
        self.held.push(Held { hash, key, record, exists });
        let place = self.held.len() - 1;
        let held = &self.held;
        self.index.insert_unique(hash, place, |h| held.get(*h).map_or(0, |h| h.hash));
        place
    }

    /// Evaluates one generation for the touched keys of its entity.
    fn evaluate(
        &mut self,
        e: &Evaluation<'_>,
        labeler: &mut Labeler,
        touched: &mut [Touched],
        output: &mut ShardOutput,
    ) -> Result<(), Failure> {
        let mut reader = Reader::new(&e.rule.aggregates, e.rule.namespace);
        let mut asked = Vec::new();
        for (n, t) in touched.iter_mut().enumerate() {
            let Some(held) = self.held.get(t.held) else { continue };
            if !held.key.starts_with(&e.rule.entity.to_be_bytes()) {
                continue;
            }
            if !exists(&held.record, e.rule.namespace) {
                e.compare(held, t, &vec![0; usize::from(e.labels)], (0, None), output);
            } else if pending(&held.record, e.rule.namespace, &e.rule.aggregates) {
                e.hold(held, t, PENDING, output);
            } else {
                reader.push(&held.record);
                asked.push(n);
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let mut answers = std::mem::take(&mut self.answers);
        labeler.label(reader.readings(), e.now, &mut answers)?;
        let width = usize::from(e.labels);
        for (place, n) in asked.into_iter().enumerate() {
            let Some(t) = touched.get_mut(n) else { continue };
            let Some(held) = self.held.get(t.held) else { continue };
            if answers.errors.iter().any(|(failed, _)| *failed == place) {
                e.hold(held, t, ERROR, output);
                continue;
            }
            let set = answers.sets.get(place * width..(place + 1) * width).unwrap_or(&[]);
            let wake = answers.wake.get(place).copied().filter(|wake| *wake != WAKE_NEVER);
            e.compare(held, t, set, (0, wake), output);
        }
        self.answers = answers;
        Ok(())
    }

    /// Writes the block and brings the records up to it.
    fn write(
        &mut self,
        touched: &[Touched],
        changes: &[NetChange],
        mut writer: BlockWriter,
    ) -> Result<Option<ShardBlock>, Failure> {
        let mismatch = |error: crate::state::KindMismatch| Failure::Internal(error.to_string());
        for t in touched {
            let Some(held) = self.held.get_mut(t.held) else { continue };
            for (slot, change) in &t.labels {
                let wake;
                let change = match change {
                    LabelChange::Mark(from, to) => Change::Mark { slot: *slot, from: *from, to: *to },
                    LabelChange::Wake(moment) => {
                        wake = moment.map_or(Vec::new(), |m| m.to_le_bytes().to_vec());
                        Change::Put(*slot, &wake)
                    }
                };
                held.record.apply(&change).map_err(mismatch)?;
            }
            let life = match (held.exists, held.record.is_empty()) {
                (false, true) => continue,
                (false, false) => Life::New,
                (true, true) => Life::Gone,
                (true, false) => Life::Kept,
            };
            if t.from == t.to && t.labels.is_empty() {
                continue;
            }
            if life == Life::New {
                held.record.ordinal = self.next_ordinal;
                self.next_ordinal += 1;
            }
            held.exists = life != Life::Gone;
            writer.key(&held.key, held.record.ordinal, life);
            for change in changes.get(t.from..t.to).unwrap_or(&[]) {
                match change {
                    NetChange::Add(slot, n) => writer.add(*slot, *n),
                    NetChange::Count(slot, value, n) => writer.count(*slot, value, *n),
                }
            }
            for (slot, change) in &t.labels {
                match change {
                    LabelChange::Mark(from, to) => writer.mark(*slot, *from, *to),
                    LabelChange::Wake(Some(moment)) => writer.put(*slot, &moment.to_le_bytes()),
                    LabelChange::Wake(None) => writer.put(*slot, &[]),
                }
            }
        }
        let shard = u8::try_from(self.number).unwrap_or(u8::MAX);
        Ok((writer.keys() > 0).then(|| writer.finish(shard)))
    }
}

/// One generation of one rule.
struct Evaluation<'a> {
    rule: &'a LiveRule,
    cause: Cause,
    now: i64,
    generation: u32,
    live: bool,
    labels: u16,
}

impl Evaluation<'_> {
    fn slot(&self, index: u16) -> Slot {
        Slot { space: self.generation, index }
    }

    /// The key's labels are held as they are; its timer stays.
    fn hold(&self, held: &Held, t: &mut Touched, status: u16, output: &mut ShardOutput) {
        let carried: Vec<u16> = (0..self.labels).map(|l| held.record.mark(self.slot(l))).collect();
        let wake = moment(held.record.register(self.slot(WAKE_INDEX)));
        self.compare(held, t, &carried, (status, wake), output);
    }

    /// Notes what differs from what the key carries.
    fn compare(
        &self,
        held: &Held,
        t: &mut Touched,
        set: &[u16],
        (status, wake): (u16, Option<i64>),
        output: &mut ShardOutput,
    ) {
        let marks = (0u16..).zip(set.iter().copied()).chain([(STATUS_INDEX, status)]);
        for (index, to) in marks {
            let slot = self.slot(index);
            let from = held.record.mark(slot);
            if from == to {
                continue;
            }
            t.labels.push((slot, LabelChange::Mark(from, to)));
            if self.live && index != STATUS_INDEX {
                let cause =
                    if !t.by_change && self.cause == Cause::Change { Cause::Time } else { self.cause };
                output.transitions.push(Transition {
                    generation: self.generation,
                    label: index,
                    from,
                    to,
                    cause,
                    entity: self.rule.entity,
                    key: held.key.get(2..).unwrap_or(&[]).into(),
                });
            }
        }
        let slot = self.slot(WAKE_INDEX);
        let before = moment(held.record.register(slot));
        if before != wake {
            t.labels.push((slot, LabelChange::Wake(wake)));
            output.timers.push(TimerChange {
                generation: self.generation,
                key: held.key.clone(),
                before,
                after: wake,
            });
        }
    }
}

fn moment(register: &[u8]) -> Option<i64> {
    register.first_chunk().map(|bytes| i64::from_le_bytes(*bytes))
}

fn list(layout: &Layout, sums: &[i128], counts: &[(u16, &[u8], i64)], changes: &mut Vec<NetChange>) {
    for (slot, n) in layout.linear.iter().zip(sums).filter(|(_, n)| **n != 0) {
        changes.push(NetChange::Add(*slot, *n));
    }
    for (set, value, n) in counts {
        if let Some(slot) = layout.sets.get(usize::from(*set)) {
            changes.push(NetChange::Count(*slot, Box::from(*value), *n));
        }
    }
}
