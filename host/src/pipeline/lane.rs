//! The lane: what new aggregates were before their fence, read beside the stream.
//!
//! From the fence on the stream feeds a new namespace like any other. The lane reads (0, fence] of every partition again,
//! in blocks of the same cycles, and contributes to that namespace alone. Its ids go into a set of its own; of an id that
//! is sent on both sides of the fence the copy behind it is known to the stream's ledger, which holds every id up to the
//! fence, so the one before it counts, here. At the fence the set is dropped: the namespace has what the stream has.
//!
//! A rule that was paused has a gap instead: the lane reads (pause, resume] into all its namespaces. There the ids that were
//! known at the pause are passed over too, for their changes have been counted.
//!
//! One lane at a time, for the oldest operation that needs one.

use super::coordinator::Pipeline;
use super::cycle::{Cycle, Phase, whole};
use super::failure::Failure;
use super::ledger::Ledger;
use super::message::{Address, Envelope, Message};
use super::program::Program;
use super::reading::PartitionRun;
use super::rows::{LANES, LOGS, Scope};
use super::setup::{load_gap_ledger, load_ledger};
use super::sweep::work_key;
use crate::label::outbox::Place;
use crate::registry::revision::HistoryRead;
use crate::registry::{Gap, META_KEY, Registry};
use crate::source::{Block, Position, SourceError};
use crate::state::{Commit, Row, Table, View};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Blocks that the lane may have in a cycle beside those of the stream, however few those are.
const BLOCKS_PER_CYCLE: u64 = 2;
/// Bytes of the lane in a cycle are at most this part of those of the stream, where those are more.
const SHARE: u64 = 2;
/// Blocks of the lane that may be read or wait at once, per worker.
const BLOCKS_PER_WORKER: usize = 2;

/// A lane as workers know it.
#[derive(Clone)]
pub struct Lane {
    /// Its number: that of the operation, or of the gap.
    pub number: u64,
    /// What reads it: one rule on its new namespace, or on all that lack something; no labels.
    pub program: Arc<Program>,
    /// The ids that it has met.
    pub ledger: Arc<Ledger>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Drops what a lane leaves behind, its ids above all, beside what goes on.
pub(super) fn drop_apart<T: Send + 'static>(what: Option<T>) {
    if let Some(what) = what {
        // Where there is no thread for it, it is dropped here.
        let _ = std::thread::Builder::new().name("dropper".into()).spawn(move || drop(what));
    }
}

/// How far the history of a namespace, or the gap of a rule, is read, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// The namespace; of a gap, the one that is read for labels.
    pub namespace: u32,
    /// The gap that is read; none = all that lies before the namespace's fence.
    #[serde(default)]
    pub gap: Option<Gap>,
    /// Read up to here, per partition.
    pub done: Vec<Position>,
    /// How much that was.
    pub read: HistoryRead,
    /// Changes by table.
    pub tables: BTreeMap<String, u64>,
}

impl Backfill {
    /// One that begins to read a gap, behind what was `read` before it.
    #[must_use]
    pub fn of_gap(namespace: u32, gap: Gap, read: HistoryRead) -> Self {
        let done = gap.stretches().map(|(from, until)| from.min(until)).collect();
        Self { namespace, gap: Some(gap), done, read, tables: BTreeMap::new() }
    }
}

/// The lane as the coordinator runs it.
pub(super) struct LaneRun {
    pub(super) lane: Lane,
    operation: u64,
    namespace: u32,
    /// The rule whose gap it reads.
    gap_of: Option<String>,
    partitions: Vec<PartitionRun>,
    held: VecDeque<Block>,
    /// The table of logs as it is stored.
    logs: Vec<u8>,
    /// How far the last cycle with something of it led, over all partitions.
    way: u64,
    /// Engine time of the last commit with something of it, µs.
    last_us: Option<i64>,
    /// It goes no further: the command that gives it up waits.
    halted: bool,
}

impl LaneRun {
    /// What was read and is not committed is read again.
    fn rewind(&mut self) {
        self.held.clear();
        for partition in &mut self.partitions {
            partition.next = partition.applied;
        }
    }

    fn is_done(&self) -> bool {
        self.partitions.iter().all(|p| p.applied >= p.until)
    }
}

impl Pipeline {
    /// The lane as workers are told of it.
    #[must_use]
    pub(super) fn lane(&self) -> Option<Lane> {
        self.lane.as_ref().map(|run| run.lane.clone())
    }

    /// Goes over to the lane of the oldest operation that needs one.
    pub(super) fn next_lane(&mut self) -> Result<(), Failure> {
        let first = self.book.works.iter().find_map(|w| Some((w.operation, w.backfill.clone()?)));
        let Some((operation, backfill)) = first else {
            drop_apart(self.lane.take());
            return Ok(());
        };
        let lost = || Failure::Internal(format!("operation {operation} reads for a namespace that is gone"));
        let namespace = self.book.registry.namespace_of(backfill.namespace).ok_or_else(lost)?;
        let gap = backfill.gap.as_ref();
        let number = gap.map_or(operation, |gap| gap.lane);
        let gap_of = gap.map(|_| namespace.rule.clone());
        let program = match &gap_of {
            Some(rule) => self.program.of_rule(rule),
            None => self.program.of_namespace(backfill.namespace),
        };
        let program = Arc::new(program.ok_or_else(lost)?);
        if let Some(run) = self.lane.as_mut().filter(|run| run.lane.number == number) {
            run.lane.program = program;
            return Ok(());
        }
        let fence = gap.map_or(&namespace.fence, |gap| gap.until.as_ref().unwrap_or(&gap.from));
        let fence = fence.iter().zip(&backfill.done);
        let partitions = self.partitions.iter().zip(fence);
        let partitions = partitions
            .map(|(p, (until, done))| PartitionRun::new(p.source, &p.partition, (*done, *until)))
            .collect();
        let ledger = match gap {
            Some(gap) => load_gap_ledger(&self.view, gap),
            None => load_ledger(&self.view, Scope::Lane(operation)),
        };
        let ledger = Arc::new(ledger.map_err(|error| Failure::Internal(error.to_string()))?);
        self.lane = Some(LaneRun {
            lane: Lane { number, program, ledger },
            operation,
            namespace: backfill.namespace,
            gap_of,
            partitions,
            held: VecDeque::new(),
            logs: Vec::new(),
            way: 0,
            last_us: None,
            halted: false,
        });
        Ok(())
    }

    /// Asks for more history where there is room for it.
    pub(super) fn read_lane(&mut self, out: &mut Vec<Envelope>) {
        let stopping = self.stopping.is_some();
        let Some(run) = self.lane.as_mut().filter(|run| !run.halted && !stopping) else { return };
        let reading = run.partitions.iter().filter(|p| p.reading).count();
        let mut room = (BLOCKS_PER_WORKER * self.settings.workers).saturating_sub(run.held.len() + reading);
        for (number, p) in run.partitions.iter_mut().enumerate() {
            if room == 0 || p.reading || p.next >= p.until {
                continue;
            }
            room -= 1;
            p.reading = true;
            let read = Message::ReadAgain {
                lane: run.lane.number,
                partition: number,
                offset: p.next,
                bytes_max: self.settings.block_bytes,
                until: p.until,
            };
            out.push(read.to(Address::Source(p.source)));
        }
    }

    /// Takes a block of the lane in; it waits until a cycle has room.
    pub(super) fn block_again(&mut self, lane: u64, partition: usize, block: Result<Block, SourceError>) {
        let stopping = self.stopping.is_some();
        let Some(run) = self.lane.as_mut().filter(|run| run.lane.number == lane) else { return };
        let Some(p) = run.partitions.get_mut(partition) else { return };
        p.reading = false;
        match block {
            Err(error) => self.halt_lane(error.to_string()),
            Ok(block) if stopping || block.start != p.next || !block.advances() => {}
            Ok(mut block) => {
                block.truncate(p.until);
                p.next = block.end();
                run.held.push_back(block);
            }
        }
    }

    /// Hands blocks of the lane out while the cycle has room beside those of the stream.
    pub(super) fn hand_out_lane(&mut self, out: &mut Vec<Envelope>) {
        let least = BLOCKS_PER_CYCLE * self.settings.block_bytes as u64;
        let most = (self.cycle.bytes / SHARE).max(least);
        if self.cycle.phase != Phase::Collect || self.stopping.is_some() || self.full() {
            return;
        }
        let Some(run) = self.lane.as_mut().filter(|run| !run.halted) else { return };
        while self.cycle.lane_bytes < most
            && let Some(block) = run.held.pop_front()
        {
            let task = whole(block, true);
            let worker = self.cycle.admit(task.clone());
            out.push(Message::Decode(task).to(Address::Worker(worker)));
        }
    }

    /// The form that the ids of a block of the lane do not have; the stream has settled it when it read them.
    pub(super) fn lane_form(&self, partition: usize, form: crate::decode::IdForm) -> Option<String> {
        let source = self.program.sources.get(self.partitions.get(partition)?.source)?;
        let fixed = self.book.positions.id_forms.get(&source.producer)?;
        let name = super::forms::name(form);
        (fixed != name).then(|| format!("id-form-changed: ids of the form {fixed} are now {name}"))
    }

    /// Gives the lane up while there is memory left for the stream: keys that it touches are held like all others.
    pub(super) fn spare_memory(&mut self) {
        let (used, limit) = (self.book.working_bytes(), self.settings.memory_max_bytes);
        if used / 9 > limit / 10 {
            self.halt_lane(format!(
                "memory-limit: the working state takes {used} bytes, state.memory_max_bytes is {limit}; raise it"
            ));
        }
    }

    /// The lane goes no further; at the next barrier its namespace is given up, or its rule stands still again.
    pub(super) fn halt_lane(&mut self, why: String) {
        let Some(run) = self.lane.as_mut().filter(|run| !run.halted) else { return };
        run.halted = true;
        let namespace = run.namespace;
        match run.gap_of.clone() {
            Some(rule) => self.stand_still(rule, why),
            None => self.give_up(namespace, why),
        }
    }

    /// Takes the blocks of the lane out of the open cycle, which is decoded again.
    pub(super) fn drop_lane_blocks(&mut self) {
        self.cycle.tasks.retain(|task| !task.lane);
        self.cycle.lane_bytes = 0;
        if let Some(run) = &mut self.lane {
            run.rewind();
        }
    }

    /// Takes the blocks of the lane in a finished cycle as read.
    pub(super) fn advance_lane(&mut self, cycle: &Cycle) {
        let ends = cycle.ends(true);
        let Some(run) = self.lane.as_mut().filter(|_| !ends.is_empty()) else { return };
        let counters = cycle.counters(true);
        run.way = 0;
        for (partition, end) in ends {
            if let Some(p) = run.partitions.get_mut(partition) {
                run.way += end.saturating_sub(p.applied);
                p.applied = end;
            }
        }
        for (log, ts) in cycle.published.iter().flat_map(|p| &p.lane.latest_ts) {
            run.lane.ledger.entered(*log, *ts);
        }
        // What lies before a fence was read by the stream and counted then, what lies in a gap was passed over.
        if run.gap_of.is_some() {
            self.book.totals.aside += counters.messages_aside;
        }
        let tables = run.lane.program.tables();
        let work = self.book.works.iter_mut().find(|w| w.operation == run.operation);
        if let Some(backfill) = work.and_then(|w| w.backfill.as_mut()) {
            backfill.done = run.partitions.iter().map(|p| p.applied).collect();
            backfill.read.rows += counters.changes;
            backfill.read.bytes += run.way;
            for (table, n) in &counters.tables {
                let name = tables.get(*table as usize).cloned().unwrap_or_default();
                *backfill.tables.entry(name).or_default() += n;
            }
            if run.is_done() {
                let others = self.program.rules.iter().filter(|r| match &run.gap_of {
                    Some(rule) => r.name != *rule,
                    None => r.namespace < run.namespace,
                });
                let read: Vec<&str> =
                    others.flat_map(|r| &r.compiled.manifest.tables).map(|t| t.table.as_str()).collect();
                // The stream has counted what rules before this one read.
                let new = backfill.tables.iter().filter(|(table, _)| !read.contains(&table.as_str()));
                new.for_each(|(t, n)| *self.book.totals.tables.entry(t.clone()).or_default() += n);
            }
        }
        self.book.count_images(&counters, &tables);
    }

    /// Stores how far the lane is; at the fence it ends, and the labels of its namespace can be evaluated.
    pub(super) fn store_lane(
        &mut self,
        cycle: &mut Cycle,
        commit: &mut Commit,
        out: &mut Vec<Envelope>,
    ) -> Result<(), Failure> {
        let has_some = cycle.tasks.iter().any(|task| task.lane);
        let Some(run) = self.lane.as_mut().filter(|_| has_some) else { return Ok(()) };
        let operation = run.operation;
        let Some(work) = self.book.works.iter_mut().find(|w| w.operation == operation) else {
            return Ok(());
        };
        let now = commit.engine_time_us;
        if let (Some(backfill), Some(last)) = (&mut work.backfill, run.last_us) {
            backfill.read.timed_bytes += run.way;
            backfill.read.time_us += u64::try_from(now - last).unwrap_or(0);
        }
        run.last_us = Some(now);
        if run.is_done() {
            return self.end_lane(operation, commit, out);
        }
        let scope = Scope::Lane(run.lane.number);
        for (n, row) in (0u32..).zip(std::mem::take(&mut cycle.lane_rows)) {
            let key = scope.ledger_key(&Place { commit: commit.id, index: n }.key());
            commit.rows.push((Table::Ledger, key, Some(row)));
        }
        let logs = run.lane.ledger.logs();
        if logs != run.logs {
            commit.rows.push((Table::Ledger, scope.ledger_key(LOGS), Some(logs.clone())));
            run.logs = logs;
        }
        commit.rows.push((Table::Meta, work_key(operation), serde_json::to_vec(work).ok()));
        Ok(())
    }

    fn end_lane(
        &mut self,
        operation: u64,
        commit: &mut Commit,
        out: &mut Vec<Envelope>,
    ) -> Result<(), Failure> {
        let Some(work) = self.book.works.iter_mut().find(|w| w.operation == operation) else {
            return Ok(());
        };
        let Some(backfill) = work.backfill.take() else { return Ok(()) };
        let registry = &mut self.book.registry;
        let lane = match &backfill.gap {
            Some(gap) => {
                let rule = registry.namespace_of(backfill.namespace).map(|n| n.rule.clone());
                let next = rule.and_then(|rule| registry.filled_gap(&rule));
                work.backfill = next.map(|gap| Backfill::of_gap(backfill.namespace, gap, backfill.read));
                gap.lane
            }
            None => {
                registry.filled(backfill.namespace);
                operation
            }
        };
        commit.rows.push((Table::Meta, work_key(operation), serde_json::to_vec(work).ok()));
        let ended = work.backfill.is_none();
        for operation in registry.operations.iter_mut().filter(|o| o.id == operation && ended) {
            operation.read = Some(backfill.read);
        }
        commit.rows.push((Table::Meta, META_KEY.to_vec(), Some(registry.to_bytes())));
        commit.rows.extend(lane_rows(&self.view, lane)?);
        let program = self.program.with(registry, None);
        let lost = || Failure::Internal("a filled namespace has no code".into());
        self.program = Arc::new(program.ok_or_else(lost)?);
        self.book.look_again();
        self.next_lane()?;
        self.tell_workers(&[], out);
        Ok(())
    }

    /// Tells the workers what runs from now on. The open cycle has gathered nothing.
    pub(super) fn tell_workers(&self, dropped: &[u32], out: &mut Vec<Envelope>) {
        let dropped = Arc::new(dropped.to_vec());
        for worker in 0..self.settings.workers {
            let (program, lane, dropped) = (self.program.clone(), self.lane(), dropped.clone());
            out.push(Message::Program { program, lane, dropped }.to(Address::Worker(worker)));
        }
    }
}

/// What removes the ids of lanes that nobody needs any more: a start has given them up.
pub(super) fn left_lanes(view: &View, registry: &Registry) -> Result<Vec<Row>, Failure> {
    let needed = registry.lanes();
    let mut rows = Vec::new();
    let end = LANES.iter().copied().take(LANES.len() - 1).chain([b'/' + 1]).collect::<Vec<u8>>();
    view.rows(Table::Ledger, LANES, Some(&end), &mut |key, _| {
        if Scope::lane_of(key).is_none_or(|lane| !needed.contains(&lane)) {
            rows.push((Table::Ledger, key.to_vec(), None));
        }
        true
    })?;
    Ok(rows)
}

/// What removes the ids of a lane.
pub fn lane_rows(view: &View, lane: u64) -> Result<Vec<Row>, Failure> {
    let scope = Scope::Lane(lane);
    let mut rows = Vec::new();
    view.rows(Table::Ledger, &scope.ledger(), Some(&scope.ledger_end()), &mut |key, _| {
        rows.push((Table::Ledger, key.to_vec(), None));
        true
    })?;
    Ok(rows)
}
