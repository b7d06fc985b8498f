//! A shard's working state: the records of the keys touched since start, ahead of durability.
//!
//! `Shard::apply` is the only place where contributions meet records. It adds the net changes of a cycle, evaluates
//! labels once per touched key, and writes the shard's delta block, transitions and timers for the commit.

mod carry;
mod overflow;
mod sweep;

use super::failure::Failure;
use super::program::{Layout, LiveRule, Program};
use super::sweep::{SweepSlice, Telling};
use crate::aggregate::delta::DeltaBuffer;
use crate::aggregate::log::Log;
use crate::label::readings::{Reader, exists, overflowed, pending};
use crate::label::{Cause, Transition};
use crate::registry::{ERROR, OVERFLOW, PENDING, STATUS_INDEX, WAKE_INDEX};
use crate::rule::{LabelAnswers, Labeler};
use crate::state::{
    BlockWriter, Change, Life, Record, ShardBlock, ShortBytes, Slot, View, key_hash, split_entity_key,
};
use hashbrown::HashTable;
use overflow::Overflowed;
use retag_abi::WAKE_NEVER;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// What a shard has to do in a cycle.
#[derive(Debug, Default)]
pub struct ShardTask {
    /// Its number.
    pub shard: usize,
    /// Per entity, the logs of the workers that have something for it.
    pub contributions: Vec<Vec<Log>>,
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
    /// Keys that the slice went over.
    pub keys: u64,
}

/// What all shards of a cycle share.
pub(super) struct Context<'a> {
    pub(super) program: &'a Program,
    pub(super) commit: u64,
    pub(super) now: i64,
    /// Per rule.
    pub(super) causes: &'a [Cause],
    pub(super) view: &'a View,
    pub(super) tellings: &'a [Telling],
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
    key: ShortBytes,
    record: Record,
    /// The key is part of the state (it has an ordinal); else the record is empty and only remembered as such.
    exists: bool,
}

/// A key touched in this cycle; its changes are `changes[from..to]`.
struct Touched {
    held: usize,
    from: usize,
    to: usize,
    /// To be evaluated for whatever rule: a timer is due, or a sweep goes over it.
    due: bool,
    /// Its sums have changed in the namespace that is evaluated.
    by_change: bool,
    /// What labels changed.
    labels: Vec<(Slot, LabelChange)>,
    /// A set of the key overflowed, now or before.
    overflow: Option<Overflowed>,
}

enum LabelChange {
    Mark(u16, u16),
    Wake(Option<i64>),
}

enum NetChange {
    Add(Slot, i128),
    Count(Slot, ShortBytes, i64),
}

impl NetChange {
    fn space(&self) -> u32 {
        let (Self::Add(slot, _) | Self::Count(slot, ..)) = self;
        slot.space
    }
}

/// What a worker keeps for the contributions of one entity.
pub(super) struct Buffers {
    /// Emptied logs.
    pub(super) spare: Vec<Log>,
    /// Where the logs of a shard are grouped, one shard after the other.
    grouped: DeltaBuffer,
}

impl Buffers {
    /// Those of an entity with `width` linear aggregates.
    pub(super) fn new(width: usize) -> Self {
        Self { spare: Vec::new(), grouped: DeltaBuffer::new(width) }
    }
}

/// A shard.
pub(super) struct Shard {
    number: usize,
    index: HashTable<u32>,
    held: Vec<Held>,
    next_ordinal: u32,
    /// Nothing was stored when this shard was opened, so a key that is not held does not exist.
    fresh: bool,
    /// Ranges of keys that were read from the store: lower → upper. What is not held in them does not exist.
    loaded: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    /// Spaces that have ended since; held records lose their cells when they are next touched.
    dropped: Vec<u32>,
    bytes: u64,
    answers: LabelAnswers,
}

/// Working bytes of a held key beside its cells, of one cell, and of one entry of a counted set: sizes of the structures
/// with their table entries.
const HELD_BYTES: u64 = 80;
const CELL_BYTES: u64 = 16;
const SET_ENTRY_BYTES: u64 = 40;

/// Working bytes of a record's cells, and of the entries of its sets where `sets` is said.
fn weight(record: &Record, sets: bool) -> u64 {
    let entries = if sets { record.set_entries_here() } else { 0 };
    CELL_BYTES * record.cell_count() as u64 + SET_ENTRY_BYTES * entries as u64
}

impl Shard {
    pub(super) fn new(number: usize, view: &View) -> Self {
        Self {
            number,
            index: HashTable::new(),
            held: Vec::new(),
            next_ordinal: view.next_ordinal(number),
            fresh: view.next_ordinal(number) == 0,
            loaded: BTreeMap::new(),
            dropped: Vec::new(),
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
        buffers: &mut [Buffers],
    ) -> Result<ShardOutput, Failure> {
        if let Some(slice) = &task.sweep {
            return self.sweep(slice, context, labelers);
        }
        let mut changes = Vec::new();
        let mut touched = self.add(task.contributions, context, (&mut changes, buffers))?;
        self.wake(&task.due, context, &mut touched)?;
        let mut output = ShardOutput { shard: self.number, ..ShardOutput::default() };
        self.tell_touched(context, &mut touched, &mut output);
        for ((rule, labelers), cause) in context.program.rules.iter().zip(labelers).zip(context.causes) {
            let (cause, now) = (*cause, context.now);
            let mut evaluation = Evaluation { rule, cause, now, generation: 0, live: false, labels: 0 };
            for (generation, labeler) in rule.generations.iter().zip(labelers) {
                evaluation.generation = generation.space;
                evaluation.live = generation.live;
                evaluation.labels = generation.labels;
                self.evaluate(&evaluation, labeler, (&mut touched, &changes), &mut output)?;
            }
        }
        self.carry_all(context, &mut touched);
        output.block = self.write(&touched, &changes, BlockWriter::new(context.commit))?;
        // Transitions were found rule by rule; in the commit they stand by key.
        output.transitions.sort_by(|a, b| (a.entity, &a.key).cmp(&(b.entity, &b.key)));
        Ok(output)
    }

    /// Adds the net changes of all workers to the records.
    fn add(
        &mut self,
        contributions: Vec<Vec<Log>>,
        context: &Context<'_>,
        (changes, buffers): (&mut Vec<NetChange>, &mut [Buffers]),
    ) -> Result<Vec<Touched>, Failure> {
        let mut touched = Vec::new();
        let entities = contributions.into_iter().zip(&context.program.entities).zip(buffers);
        for (number, ((logs, layout), buffers)) in (0u16..).zip(entities) {
            for mut log in logs {
                log.group(&mut buffers.grouped);
                log.clear();
                buffers.spare.push(log);
            }
            self.warm(&buffers.grouped);
            let mut failure = None;
            let mut state_key = Vec::new();
            buffers.grouped.drain_sorted(|key| {
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
                let added = self.find(key.hash, &state_key, context).and_then(|held| {
                    let overflow = self.change(held, changes.get(from..).unwrap_or(&[]), context)?;
                    Ok((held, overflow))
                });
                match added {
                    Ok((held, overflow)) => touched.push(Touched {
                        held,
                        from,
                        to: changes.len(),
                        due: false,
                        by_change: true,
                        labels: Vec::new(),
                        overflow,
                    }),
                    Err(error) => failure = Some(error),
                }
            });
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        Ok(touched)
    }

    fn change(
        &mut self,
        place: usize,
        changes: &[NetChange],
        context: &Context<'_>,
    ) -> Result<Option<Overflowed>, Failure> {
        let Some(held) = self.held.get_mut(place) else {
            return Err(Failure::Internal("a touched key is not held".into()));
        };
        // `list` puts counts behind sums.
        let counted = matches!(changes.last(), Some(NetChange::Count(..)));
        let before = weight(&held.record, counted);
        for change in changes {
            let applied = match change {
                NetChange::Add(slot, n) => held.record.apply(&Change::Add(*slot, *n)),
                NetChange::Count(slot, value, n) => held.record.apply(&Change::Count(*slot, value, *n)),
            };
            applied.map_err(|error| Failure::Internal(error.to_string()))?;
        }
        self.bytes += weight(&held.record, counted).saturating_sub(before);
        if counted && overflow::is_due(&held.record, context.program.set_entries_max) {
            return self.settle(place, context);
        }
        Ok(None)
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
        let mut there: HashMap<usize, usize> = touched.iter().enumerate().map(|(n, t)| (t.held, n)).collect();
        for key in due {
            let Some((entity, bytes)) = split_entity_key(key) else { continue };
            let Some(layout) = context.program.entities.get(usize::from(entity)) else { continue };
            let held = self.find(key_hash(&layout.name, bytes), key, context)?;
            let place = *there.entry(held).or_insert(touched.len());
            match touched.get_mut(place) {
                Some(touched) => touched.due = true,
                None => touched.push(Touched::untold(held)),
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
            self.purge(found);
            return Ok(found);
        }
        if !self.fresh && !self.is_loaded(key) {
            let page = context.view.page_around(self.number, key)?;
            for (other, record) in page.records {
                let Some(hash) = context.hash(&other) else { continue };
                if self.lookup(hash, &other).is_none() {
                    self.hold(hash, &other, record, true);
                }
            }
            self.loaded.insert(page.lower, page.upper);
            if let Some(found) = self.lookup(hash, key) {
                return Ok(found);
            }
        }
        Ok(self.hold(hash, key, Record::default(), false))
    }

    /// Spaces have ended: nothing of them is part of the state any more.
    pub(super) fn forget_spaces(&mut self, spaces: &[u32]) {
        self.dropped.extend(spaces);
    }

    fn purge(&mut self, held: usize) {
        if let Some(held) = self.held.get_mut(held).filter(|_| !self.dropped.is_empty()) {
            held.record.retain_spaces(|space| !self.dropped.contains(&space));
            held.exists &= !held.record.is_empty();
        }
    }

    /// Whether everything that was stored around `key` is held.
    fn is_loaded(&self, key: &[u8]) -> bool {
        let below = self.loaded.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        below.is_some_and(|(_, upper)| upper.as_ref().is_none_or(|upper| key < &**upper))
    }

    /// Looks at the records that are about to change. Each look waits for memory, but many at once wait no longer than
    /// one; what happens to a key afterwards is too long for the processor to look ahead to the next.
    fn warm(&self, grouped: &DeltaBuffer) {
        let look = |hash| {
            let same = |at: &u32| self.held.get(*at as usize).is_some_and(|h| h.hash == hash);
            let held = self.held.get(*self.index.find(hash, same)? as usize)?;
            Some(u64::from(held.record.cells().next()?.0.space))
        };
        std::hint::black_box(grouped.hashes().filter_map(look).sum::<u64>());
    }

    fn lookup(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let same = |at: &u32| self.held.get(*at as usize).is_some_and(|h| h.hash == hash && h.key.is(key));
        self.index.find(hash, same).map(|at| *at as usize)
    }

    fn hold(&mut self, hash: u64, key: &[u8], record: Record, exists: bool) -> usize {
        self.bytes += HELD_BYTES + key.len() as u64 + weight(&record, true);
        let place = self.held.len();
        self.held.push(Held { hash, key: ShortBytes::new(key), record, exists });
        let held = &self.held;
        // A shard's ordinals are 32 bits wide, so it never holds more keys than that.
        let at = u32::try_from(place).unwrap_or(u32::MAX);
        self.index.insert_unique(hash, at, |at| held.get(*at as usize).map_or(0, |h| h.hash));
        place
    }

    /// Evaluates one generation for the touched keys of its entity whose sums have changed in its namespace, or that are
    /// due.
    fn evaluate(
        &mut self,
        e: &Evaluation<'_>,
        labeler: &mut Labeler,
        (touched, changes): (&mut [Touched], &[NetChange]),
        output: &mut ShardOutput,
    ) -> Result<(), Failure> {
        let mut reader = Reader::new(&e.rule.aggregates, e.rule.namespace);
        let mut asked = Vec::new();
        for (n, t) in touched.iter_mut().enumerate() {
            let Some(held) = self.held.get(t.held) else { continue };
            if !held.key.starts_with(&e.rule.entity.to_be_bytes()) {
                continue;
            }
            t.by_change = t.is_changed(e.rule.namespace, changes);
            if !t.by_change && !t.due {
                continue;
            }
            if !exists(&held.record, e.rule.namespace) {
                e.compare(held, t, &vec![0; usize::from(e.labels)], (0, None), output);
            } else if pending(&held.record, e.rule.namespace, &e.rule.aggregates) {
                let status = if overflowed(&held.record, e.rule.namespace) { OVERFLOW } else { PENDING };
                e.hold(held, t, status, output);
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
                    NetChange::Count(slot, ..) if t.is_given_up(*slot) => {}
                    NetChange::Count(slot, value, n) => writer.count(*slot, value, *n),
                }
            }
            for (slot, set) in t.overflow.iter().flat_map(|overflow| &overflow.now) {
                writer.overflow(*slot, set);
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

    /// The key's labels are held as they are (see `carry` for a generation that is to go live); its timer stays.
    fn hold(&self, held: &Held, t: &mut Touched, status: u16, output: &mut ShardOutput) {
        let as_they_are: Vec<u16> = (0..self.labels).map(|l| held.record.mark(self.slot(l))).collect();
        let wake = moment(held.record.register(self.slot(WAKE_INDEX)));
        self.compare(held, t, &as_they_are, (status, wake), output);
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
                    announced: false,
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
                key: (&*held.key).into(),
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
            changes.push(NetChange::Count(*slot, ShortBytes::new(value), *n));
        }
    }
}
