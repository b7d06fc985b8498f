//! Going over all keys, slice by slice, each in a commit that carries the cursor, so that a crash in the middle goes on
//! where it was.
//!
//! A [`Sweep`] at the start changes what the configuration changed: all keys are evaluated for a new label generation,
//! then the pointer is flipped in one commit, then what differs is told and the old generation goes; nothing is read
//! meanwhile. A [`Work`] does one of these for an operation while the stream flows: its slices are commits between the
//! cycles, and the blocks of the open cycle are decoded between its pieces.
//!
//! While a switch is told, an untold key has not been touched since the switch, so its record still holds both sides' marks
//! as of then. A touched one is told first, in the commit that touches it, and gets a mark that says so.

use super::coordinator::Pipeline;
use super::cycle::{Cycle, Phase};
use super::failure::Failure;
use super::lane::Backfill;
use super::message::{Address, Envelope, Message};
use super::shard::{ShardOutput, ShardTask};
use super::worker::{Applied, ApplyTask};
use crate::label::{Cause, Transition};
use crate::registry::revision::{HistoryRead, Operation, OperationKind, OperationState};
use crate::registry::{Generation, GenerationState, META_KEY, NO_SPACE, Registry};
use crate::state::{SHARDS, Table, View};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// Key of the stored sweep in the `Meta` table.
pub const SWEEP: &[u8] = b"sweep";
/// Keys of one shard in one commit, if nothing else is said.
pub const SLICE_KEYS: usize = 1000;

/// What a sweep does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Set the labels of the new generation.
    Evaluate,
    /// Tell what differs, clear the labels of the old generation.
    Tell,
    /// Tell what differs to those that are not marked as told; the old generation stays.
    Announce,
    /// Set the labels of generations anew whose namespace has caught up; what the live one changes is told.
    Renew,
}

/// A generation and the one that it replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Number of the entity.
    pub entity: u16,
    /// The generation that goes.
    pub old: Generation,
    /// The generation that comes.
    pub new: Generation,
    /// Why.
    pub cause: Cause,
    /// What differs is told also to those who hear of changes alone.
    #[serde(default)]
    pub announced: bool,
}

/// A sweep, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// What it does now.
    pub stage: Stage,
    /// One per rule whose labels changed.
    pub pairs: Vec<Pair>,
    /// Per shard: the last key done; `None` = begin at the first.
    pub cursors: Vec<Option<Vec<u8>>>,
    /// Per shard: nothing is left to do.
    pub done: Vec<bool>,
}

/// One slice of one shard.
#[derive(Clone, Debug)]
pub struct SweepSlice {
    /// What to do.
    pub stage: Stage,
    /// For which generations.
    pub pairs: Arc<Vec<Pair>>,
    /// Behind this key.
    pub after: Option<Vec<u8>>,
    /// At most this many keys.
    pub limit: usize,
}

impl Sweep {
    /// A sweep that begins.
    #[must_use]
    pub fn new(pairs: Vec<Pair>) -> Self {
        Self { stage: Stage::Evaluate, pairs, cursors: vec![None; SHARDS], done: vec![false; SHARDS] }
    }

    /// Everything up to and with `key` is done.
    fn has_done(&self, shard: usize, key: &[u8]) -> bool {
        let behind = |cursor: &Vec<u8>| key <= cursor.as_slice();
        self.done.get(shard).copied().unwrap_or(false)
            || self.cursors.get(shard).and_then(Option::as_ref).is_some_and(behind)
    }

    /// The next slice of every shard that is not done.
    pub(super) fn slices(&self, limit: usize) -> Vec<(usize, SweepSlice)> {
        let pairs = Arc::new(self.pairs.clone());
        let open = self.done.iter().zip(&self.cursors).enumerate().filter(|(_, (done, _))| !**done);
        let slice = |after: &Option<Vec<u8>>| SweepSlice {
            stage: self.stage,
            pairs: pairs.clone(),
            after: after.clone(),
            limit,
        };
        open.map(|(shard, (_, after))| (shard, slice(after))).collect()
    }

    /// Notes that a shard's slice is done up to `last`; `None` = the shard is done.
    pub(super) fn note(&mut self, shard: usize, last: Option<&[u8]>) {
        match last {
            Some(last) => {
                if let Some(cursor) = self.cursors.get_mut(shard) {
                    *cursor = Some(last.to_vec());
                }
            }
            None => {
                if let Some(done) = self.done.get_mut(shard) {
                    *done = true;
                }
            }
        }
    }

    /// Goes over all keys from the first one.
    fn restart(&mut self) {
        self.cursors.fill(None);
        self.done.fill(false);
    }

    /// What its flip tells those who hear of changes alone; it flips with what is done by now, or not at all.
    pub(super) fn flips(&self) -> Vec<Transition> {
        let of = |pair: &Pair| {
            let gone = pair.new.space == NO_SPACE;
            Transition::switch(if gone { pair.old.space } else { pair.new.space }, pair.entity, pair.cause)
        };
        let pairs = self.pairs.iter().filter(|_| self.stage == Stage::Evaluate);
        pairs.map(of).collect()
    }

    /// Every shard has had its last slice.
    pub(super) fn all_done(&self) -> bool {
        self.done.iter().all(|done| *done)
    }

    /// Goes over to the next stage when all shards are done: the flip, or the end (`None`). The registry changes in the
    /// same commit.
    #[must_use]
    pub(super) fn turn(mut self, registry: &mut Registry) -> (Option<Self>, Vec<u32>, bool) {
        if !self.all_done() {
            return (Some(self), Vec::new(), false);
        }
        match self.stage {
            Stage::Evaluate => {
                for pair in &self.pairs {
                    if pair.new.space == NO_SPACE {
                        registry.live.remove(&pair.new.rule);
                    } else {
                        registry.live.insert(pair.new.rule.clone(), pair.new.space);
                    }
                    set_state(registry, pair.new.space, GenerationState::Ready);
                    set_state(registry, pair.old.space, GenerationState::Retiring);
                }
                self.stage = Stage::Tell;
                self.restart();
                (Some(self), Vec::new(), true)
            }
            Stage::Tell | Stage::Announce | Stage::Renew => {
                let old = self.pairs.iter().map(|p| p.old.space);
                (None, old.filter(|space| *space != NO_SPACE).collect(), true)
            }
        }
    }
}

/// Key of an operation's progress in the `Meta` table.
#[must_use]
pub fn work_key(operation: u64) -> Vec<u8> {
    [b"work/", &operation.to_be_bytes()[..]].concat()
}

/// How far an operation is, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Its number.
    pub operation: u64,
    /// Keys done.
    pub keys: u64,
    /// History to be read before keys are evaluated.
    #[serde(default)]
    pub backfill: Option<Backfill>,
    /// Where it stands; one pair.
    pub sweep: Sweep,
}

impl Work {
    /// An operation that begins; `None` where the registry contradicts itself.
    #[must_use]
    pub fn new(registry: &Registry, operation: &Operation) -> Option<Self> {
        let new = registry.generation(operation.new)?.clone();
        let old = match operation.old {
            NO_SPACE => Generation::nothing(&operation.rule, new.namespace),
            old => registry.generation(old)?.clone(),
        };
        let (entity, _) = registry.entity_of(new.namespace)?;
        if operation.kind == OperationKind::Resume {
            return Some(Self::resume(registry, operation, (entity, new)));
        }
        let gone = operation.kind == OperationKind::Tell && old.space == new.space;
        let new = if gone { old.without_labels() } else { new };
        let mut sweep = Sweep::new(vec![Pair {
            entity,
            old,
            new,
            cause: operation.cause,
            announced: operation.announced,
        }]);
        if gone {
            sweep.stage = Stage::Tell; // nothing evaluates the old one any more
        } else if operation.kind == OperationKind::Tell {
            sweep.stage = Stage::Announce;
        }
        let namespace = registry.namespace_of(sweep.pairs.first()?.new.namespace)?;
        let filling = operation.kind == OperationKind::Prepare && namespace.filling;
        let backfill = filling.then(|| Backfill {
            namespace: namespace.space,
            done: vec![0; namespace.fence.len()],
            ..Backfill::default()
        });
        Some(Self { operation: operation.id, keys: 0, backfill, sweep })
    }

    /// What catches up with what a rule missed: all its labels are evaluated again.
    fn resume(registry: &Registry, operation: &Operation, (entity, live): (u16, Generation)) -> Self {
        let gap = registry.pauses.get(&operation.rule).and_then(|pause| pause.gaps.first());
        let backfill = gap.map(|gap| Backfill::of_gap(live.namespace, gap.clone(), HistoryRead::default()));
        let of = registry.generations.iter().filter(|g| g.rule == operation.rule && g.state.is_evaluated());
        let pair = |g: &Generation| {
            let (old, new) = (g.clone(), g.clone());
            Pair { entity, old, new, cause: operation.cause, announced: false }
        };
        let mut sweep = Sweep::new(of.map(pair).collect());
        sweep.stage = Stage::Renew;
        Self { operation: operation.id, keys: 0, backfill, sweep }
    }

    /// The operations that `registry` says are under way: those of `works`, and new ones.
    pub(super) fn of(registry: &Registry, works: &[Self]) -> Result<Vec<Self>, Failure> {
        let mut all = Vec::new();
        for operation in registry.running() {
            let known = works.iter().find(|w| w.operation == operation.id).cloned();
            let work = known.or_else(|| Self::new(registry, operation));
            all.push(
                work.ok_or_else(|| {
                    Failure::Internal(format!("operation {} has no generation", operation.id))
                })?,
            );
        }
        Ok(all)
    }

    /// The operations under way that a view holds.
    pub fn stored(view: &View, registry: &Registry) -> Result<Vec<Self>, Failure> {
        let mut works = Vec::new();
        for operation in registry.running() {
            let Some(bytes) = view.row(Table::Meta, &work_key(operation.id))? else { continue };
            let read = serde_json::from_slice(&bytes).map_err(|error| {
                Failure::Internal(format!("the row of operation {} does not read: {error}", operation.id))
            });
            works.push(read?);
        }
        Self::of(registry, &works)
    }
}

/// A switch that is being told, as shards need to know it.
#[derive(Clone, Debug)]
pub struct Telling {
    /// The two generations.
    pub(super) pair: Pair,
    sweep: Sweep,
}

impl Telling {
    /// The sweep has told the key.
    pub(super) fn has_told(&self, shard: usize, key: &[u8]) -> bool {
        self.sweep.has_done(shard, key)
    }
}

/// A slice under way: what is still to be handed to each worker, and what came back.
#[derive(Debug)]
pub(super) struct SliceRun {
    operation: u64,
    commit: (u64, i64),
    waiting: Vec<VecDeque<ShardTask>>,
    at_work: usize,
    outputs: Vec<ShardOutput>,
}

impl Pipeline {
    /// The oldest operation that goes over the keys.
    fn slice_work(&self) -> Option<&Work> {
        self.book.works.iter().find(|w| w.backfill.is_none())
    }

    /// Operations wait for their next slice.
    pub(super) fn wants_slice(&self) -> bool {
        let first = self.slice_work();
        let tells = |w: &Work| matches!(w.sweep.stage, Stage::Announce | Stage::Renew | Stage::Tell);
        let full = first.is_some_and(tells) && self.book.outbox.is_full(self.settings.outbox_rows_max);
        first.is_some() && !full && self.stopping.is_none() && self.commands.is_empty()
    }

    /// Begins the next slice of the oldest operation: a piece of every shard, one at a time for each worker, so that blocks
    /// are decoded in between.
    pub(super) fn begin_slice(&mut self, now: i64, out: &mut Vec<Envelope>) {
        let Some(work) = self.slice_work() else { return };
        let mut waiting: Vec<VecDeque<ShardTask>> = Vec::new();
        waiting.resize_with(self.settings.workers, VecDeque::new);
        for (shard, slice) in work.sweep.slices(self.settings.sweep_keys) {
            let task = ShardTask { shard, sweep: Some(slice), ..ShardTask::default() };
            if let Some(of_worker) = waiting.get_mut(shard % self.settings.workers) {
                of_worker.push_back(task);
            }
        }
        let operation = work.operation;
        let commit = self.book.begin(self.view.commit(), now);
        self.slice = Some(SliceRun { operation, commit, waiting, at_work: 0, outputs: Vec::new() });
        for worker in 0..self.settings.workers {
            self.next_piece(worker, out);
        }
    }

    fn next_piece(&mut self, worker: usize, out: &mut Vec<Envelope>) {
        let Some(slice) = &mut self.slice else { return };
        let Some(task) = slice.waiting.get_mut(worker).and_then(VecDeque::pop_front) else { return };
        slice.at_work += 1;
        let (commit, now) = slice.commit;
        let task = ApplyTask {
            commit,
            now,
            causes: Arc::default(),
            shards: vec![task],
            view: self.view.clone(),
            tellings: Arc::default(),
        };
        out.push(Message::Apply(Box::new(task)).to(Address::Worker(worker)));
    }

    /// Takes a piece in; the slice is committed with its last one.
    pub(super) fn sliced(&mut self, applied: Applied, out: &mut Vec<Envelope>) {
        let Some(slice) = &mut self.slice else { return };
        slice.at_work -= 1;
        slice.outputs.extend(applied.shards);
        self.next_piece(applied.worker, out);
        if self.slice.as_ref().is_some_and(|slice| slice.at_work == 0) {
            self.commit_slice(out);
        }
    }

    fn commit_slice(&mut self, out: &mut Vec<Envelope>) {
        let Some(mut slice) = self.slice.take() else { return };
        let (mut ended, mut begins_again) = (None, false);
        if let Some(work) = self.book.works.iter_mut().find(|w| w.operation == slice.operation) {
            for output in &slice.outputs {
                work.keys += output.keys;
                if let Some(last) = &output.swept {
                    work.sweep.note(output.shard, last.as_deref());
                }
            }
            let running = self.book.registry.operations.iter_mut().find(|o| o.id == slice.operation);
            if work.sweep.all_done() && running.is_some_and(|o| std::mem::take(&mut o.again)) {
                work.sweep.restart();
                begins_again = true;
            }
            ended = work.sweep.all_done().then(|| work.clone());
        }
        if let Some(caught_up) = ended.as_ref().and_then(|ended| self.caught_up(ended)) {
            slice.outputs.push(ShardOutput { transitions: vec![caught_up], ..ShardOutput::default() });
        }
        let mut commit = self.assemble(&mut Cycle::new(self.settings.workers), slice.outputs);
        let key = work_key(slice.operation);
        if let Some(ended) = ended {
            let registry = &mut self.book.registry;
            if let (Stage::Evaluate, Some(pair)) = (ended.sweep.stage, ended.sweep.pairs.first()) {
                set_state(registry, pair.new.space, GenerationState::Ready);
            }
            registry.pauses.retain(|_, pause| pause.operation != Some(ended.operation));
            registry.end_operation(ended.operation, OperationState::Done, (slice.commit.1, ended.keys));
            commit.rows.push((Table::Meta, META_KEY.to_vec(), Some(registry.to_bytes())));
            commit.rows.push((Table::Meta, key, None));
            self.book.works.retain(|w| w.operation != ended.operation);
        } else {
            let work = self.book.works.iter().find(|w| w.operation == slice.operation);
            commit.rows.push((Table::Meta, key, work.and_then(|w| serde_json::to_vec(w).ok())));
            if begins_again {
                commit.rows.push((Table::Meta, META_KEY.to_vec(), Some(self.book.registry.to_bytes())));
            }
        }
        self.in_flight = true;
        self.slice_turn = false;
        out.push(Message::Commit(Box::new(commit)).to(Address::Committer));
    }

    /// What those hear who hear of changes alone when a rule has caught up with what it missed: that its members are others. How
    /// many is not counted.
    fn caught_up(&self, ended: &Work) -> Option<Transition> {
        if ended.sweep.stage != Stage::Renew || !self.audience.summary {
            return None;
        }
        let live = |pair: &&Pair| self.book.registry.live.get(&pair.new.rule) == Some(&pair.new.space);
        let pair = ended.sweep.pairs.iter().find(live)?;
        Some(Transition::switch(pair.new.space, pair.entity, Cause::Catchup))
    }

    /// The switches that shards have to tell for the keys that they touch, oldest first.
    pub(super) fn tellings(&self) -> Arc<Vec<Telling>> {
        let told = self.book.works.iter().filter(|w| w.sweep.stage == Stage::Announce);
        let telling = |w: &Work| {
            w.sweep.pairs.first().map(|pair| Telling { pair: pair.clone(), sweep: w.sweep.clone() })
        };
        Arc::new(told.filter_map(telling).collect())
    }

    /// Nothing has touched a shard, nothing is on its way to the store.
    pub(super) fn is_idle(&self) -> bool {
        self.cycle.phase == Phase::Collect && !self.in_flight && self.slice.is_none()
    }
}

fn set_state(registry: &mut Registry, space: u32, state: GenerationState) {
    if let Some(generation) = registry.generations.iter_mut().find(|g| g.space == space) {
        generation.state = state;
    }
}
