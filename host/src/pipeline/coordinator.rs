//! The coordinator: reads ahead, hands blocks out, closes cycles, and commits them one behind the other.
//!
//! Everything that happens follows from `Pipeline::advance`, which is called after every message and does whatever can
//! be done by then; so the order in which messages arrive changes when things happen, never what.
//! Group commit without a timer: a cycle closes when the commit before it is durable and nothing more waits to be read,
//! or when it is full.

use super::assemble::Book;
use super::command::Commands;
use super::cycle::{Cycle, LaneFault, Phase};
use super::drift::Drift;
use super::failure::Failure;
use super::forms;
use super::lane::LaneRun;
use super::ledger::Ledger;
use super::message::{Actor, Address, Envelope, Message};
use super::program::{LiveRule, Program};
use super::reading::PartitionRun;
use super::shard::{ShardOutput, ShardTask};
use super::sinks::SinkRun;
use super::sweep::SliceRun;
use super::track::restarted_log;
use super::worker::{ApplyTask, IdTask};
use crate::label::Cause;
use crate::registry::command::Audience;
use crate::source::Block;
use crate::state::{SHARDS, View};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the engine runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of workers.
    pub workers: usize,
    /// Most bytes of input in one commit.
    pub cycle_bytes_max: u64,
    /// Bytes of one block.
    pub block_bytes: usize,
    /// Stop at the end of the sources.
    pub until_end: bool,
    /// Most bytes of working state.
    pub memory_max_bytes: u64,
    /// Most entries of the quarantine; the oldest are dropped.
    pub quarantine_entries_max: usize,
    /// Bytes of transitions that stay after every sink has them, for who follows; 0 = none.
    pub transitions_bytes_max: u64,
    /// Most rows that wait for sinks before reading pauses, or sinks are taken on.
    pub outbox_rows_max: u64,
    /// Keys of a shard in one commit of a sweep.
    pub sweep_keys: usize,
    /// Most entries of a counted set.
    pub set_entries_max: usize,
    /// How long a replaced label generation is kept for a way back, µs.
    pub grace_us: i64,
}

/// Where the engine stands, for people.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Changes applied since the state was made.
    pub changes: u64,
    /// Images that rules refused since the state was made.
    pub bad_images: u64,
    /// Changes applied since start.
    pub changes_since_start: u64,
    /// Transitions made.
    pub transitions: u64,
    /// The last durable commit.
    pub commit: u64,
    /// Applied of all partitions: bytes, of Kafka messages.
    pub bytes_read: u64,
    /// Known to be there, counted the same way.
    pub bytes_known: u64,
}

/// The coordinator.
pub struct Pipeline {
    pub(super) program: Arc<Program>,
    pub(super) settings: Settings,
    pub(super) ledger: Arc<Ledger>,
    pub(super) partitions: Vec<PartitionRun>,
    pub(super) sinks: Vec<SinkRun>,
    pub(super) book: Book,
    pub(super) view: Arc<View>,
    pub(super) cycle: Cycle,
    outputs: Vec<ShardOutput>,
    pub(super) held: VecDeque<Block>,
    /// A commit is on its way to the store.
    pub(super) in_flight: bool,
    pub(super) commands: Commands,
    /// The slice of an operation under way: no commit is in flight then, and no cycle touches a shard.
    pub(super) slice: Option<SliceRun>,
    /// The next commit is a slice's, where there is one to do.
    pub(super) slice_turn: bool,
    /// History that is read beside the stream.
    pub(super) lane: Option<LaneRun>,
    /// No more input: why.
    pub(super) stopping: Option<Result<(), Failure>>,
    outcome: Option<Result<(), Failure>>,
    pub(super) wake: bool,
    changes_at_start: u64,
    /// The open cycle is too large to be finished before the stop: it is dropped and read again at the next start.
    abandon: bool,
    /// Where the configuration says otherwise than what runs.
    pub drift: Drift,
    /// Revisions that were given up and rules that were paused by the engine since the start, in words.
    pub given_up: Vec<String>,
    /// Rules that the engine itself paused since the start, and why.
    pub(super) stood_still: Vec<(String, String)>,
    /// Namespaces that are not live and cannot take what comes, and why: to be given up.
    pub(super) condemned: BTreeMap<u32, String>,
    /// Who hears of a switch.
    pub(super) audience: Audience,
    /// Sources that do not hold their whole history.
    pub(super) incomplete: Vec<String>,
    /// Folds wait while it is true ([`crate::state::StateWriter::hold`]).
    pub(super) hold: Arc<AtomicBool>,
    /// Since when a command waits for its commit, engine time.
    waits_since: Option<i64>,
}

/// Most bytes of an open cycle that a stop still commits.
const STOP_BYTES_MAX: u64 = 8 << 20;
/// Bytes from which a cycle is full while a switch is likely, as it waits for the commit before it. A stream that catches up pays
/// for small cycles: in ones of 8 MiB it has about three quarters of its rate in ones of 64 MiB, in ones of 1.5 MiB less than half.
const SWITCH_BYTES_MAX: u64 = 4 << 20;
/// A switch is likely for so long after a revision has become ready.
const SWITCH_LIKELY_US: i64 = 15 * 60 * 1_000_000;

/// Longest that folds wait for commands: one may itself wait long, as behind a resume, and what is not folded lies in memory.
const HOLD_US: i64 = 1_000_000;

impl Pipeline {
    /// A coordinator that goes on from `view`.
    #[must_use]
    pub fn new(
        program: Arc<Program>,
        settings: Settings,
        ledger: Arc<Ledger>,
        view: Arc<View>,
        book: Book,
    ) -> Self {
        let partitions = book.positions.partitions.iter().zip(&program.partitions);
        let partitions = partitions
            .map(|((partition, at), source)| PartitionRun::new(*source, partition, (*at, u64::MAX)))
            .collect();
        let cycle = Cycle::new(settings.workers);
        let changes_at_start = book.totals.changes;
        Self {
            program,
            settings,
            ledger,
            partitions,
            sinks: Vec::new(),
            book,
            view,
            cycle,
            outputs: Vec::new(),
            held: VecDeque::new(),
            in_flight: false,
            commands: Commands::default(),
            slice: None,
            slice_turn: false,
            condemned: BTreeMap::new(),
            lane: None,
            stopping: None,
            outcome: None,
            wake: false,
            changes_at_start,
            abandon: false,
            drift: Drift::default(),
            given_up: Vec::new(),
            stood_still: Vec::new(),
            audience: Audience::default(),
            incomplete: Vec::new(),
            hold: Arc::default(),
            waits_since: None,
        }
    }

    /// How it ended, once it has.
    pub fn outcome(&mut self) -> Option<Result<(), Failure>> {
        self.outcome.take()
    }

    /// Where it stands, for people.
    #[must_use]
    pub fn status(&self) -> Status {
        let totals = &self.book.totals;
        Status {
            changes: totals.changes,
            bad_images: totals.bad_images,
            changes_since_start: totals.changes.saturating_sub(self.changes_at_start),
            transitions: totals.transitions,
            commit: self.view.commit(),
            bytes_read: self.partitions.iter().map(PartitionRun::read).sum(),
            bytes_known: self.partitions.iter().map(PartitionRun::known).sum(),
        }
    }

    /// Totals, nanoseconds by stage (summed over threads), and what was handed to the store since the start.
    #[must_use]
    pub fn stats(&self) -> serde_json::Value {
        let written = self.view.written();
        serde_json::json!({
            "stage_ns": self.book.stage_ns,
            "commits": self.view.commit(),
            "fsyncs": written.fsyncs,
            "bytes": written.bytes,
            "totals": self.book.totals,
            "working_bytes": self.book.working_bytes(),
            "swap_us": self.book.swap_times.to_json(),
            "stood_back": self.commands.stood_back_count,
        })
    }

    /// Whether it has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.outcome.is_some()
    }

    fn take(&mut self, message: Message, now: i64, out: &mut Vec<Envelope>) -> Result<(), Failure> {
        match message {
            Message::Block(block) => self.block(block),
            Message::BlockAgain { lane, partition, block } => {
                self.block_again(lane, partition, block);
            }
            Message::Decoded(report) => {
                if let Some((form, _)) = report.form.filter(|_| report.lane)
                    && let Some(why) = self.lane_form(report.partition, form)
                {
                    self.cycle.lane_fault.get_or_insert(LaneFault::Other(why));
                }
                self.cycle.report(report);
            }
            Message::Published(published) => {
                self.cycle.published.push(*published);
                self.cycle.waiting -= 1;
                if self.cycle.waiting == 0 {
                    self.enter(out)?;
                }
            }
            Message::Entered { mut duplicates, ids, lane_ids } => {
                self.cycle.duplicates.append(&mut duplicates);
                self.cycle.ledger_rows.extend(Some(ids).filter(|ids| !ids.is_empty()));
                self.cycle.lane_rows.extend(Some(lane_ids).filter(|ids| !ids.is_empty()));
                self.cycle.waiting -= 1;
                if self.cycle.waiting == 0 {
                    self.entered(now, out)?;
                }
            }
            Message::Applied(applied) => {
                self.book.applied(&applied, self.settings.memory_max_bytes)?;
                self.spare_memory();
                if self.slice.is_some() {
                    self.sliced(*applied, out);
                    return Ok(());
                }
                self.outputs.extend(applied.shards);
                self.cycle.waiting -= 1;
                if self.cycle.waiting == 0 {
                    self.commit(out)?;
                }
            }
            Message::Durable(view) => {
                self.in_flight = false;
                self.view = view;
                self.commands.durable();
                self.tell_sources(out);
            }
            Message::Command(submitted) => self.commands.push(*submitted),
            Message::Folded(view) if view.commit() >= self.view.commit() => self.view = view,
            Message::Delivered { sink, report } => self.delivered_by(sink, *report),
            Message::Tick => self.wake = true,
            Message::Stop => {
                self.held.clear();
                self.stopping.get_or_insert(Ok(()));
                self.abandon = self.cycle.phase == Phase::Collect && self.cycle.bytes > STOP_BYTES_MAX;
            }
            Message::Failed(failure) if matches!(*failure, Failure::Source(_)) => self.cannot_read(*failure),
            Message::Failed(failure) => return Err(*failure),
            _ => {}
        }
        Ok(())
    }

    /// Settles the forms of the ids over the whole cycle.
    fn settle_forms(&mut self) {
        let (partitions, sources) = (&self.partitions, &self.program.sources);
        let producer = |n: usize| Some(sources.get(partitions.get(n)?.source)?.producer.as_str());
        let seen = std::mem::take(&mut self.cycle.forms);
        for (partition, refusal) in forms::settle(&mut self.book.positions.id_forms, seen, producer) {
            self.cycle.refuse(partition, refusal);
        }
    }

    /// Does whatever can be done now.
    fn advance(&mut self, now: i64, out: &mut Vec<Envelope>) -> Result<(), Failure> {
        if !self.in_flight {
            // The view holds every timer there is.
            self.book.refresh_timers(&self.view, now)?;
        }
        if self.book.sweep.is_some() {
            // Told to stop, the sweep waits as it is; nothing else may be evaluated before it is done.
            if self.stopping.is_none() {
                self.sweep_on(now, out)?;
            }
            self.deliver(now, out);
            self.finish(out);
            return Ok(());
        }
        if self.abandon && self.cycle.decoding() == 0 {
            self.abandon = false;
            self.cycle = Cycle::new(self.settings.workers);
            self.discard(out);
        }
        self.settle_faults(out);
        self.give_up_condemned();
        self.stand_back(out);
        self.obey(now, out)?;
        if self.commands.is_empty() && self.condemned.is_empty() {
            self.hand_out(out);
            self.hand_out_lane(out);
        }
        self.read_on(out);
        self.read_lane(out);
        if self.is_idle() {
            let close = self.cycle.decoding() == 0 && self.should_close(now);
            let slice = self.wants_slice();
            if close && !(slice && self.slice_turn) {
                self.slice_turn = true;
                self.close(out);
            } else if slice {
                self.begin_slice(now, out);
            }
        }
        self.deliver(now, out);
        self.finish(out);
        Ok(())
    }

    fn close(&mut self, out: &mut Vec<Envelope>) {
        self.settle_forms();
        if self.cycle.refusals.is_empty() {
            self.all(Phase::Publish, out, |_| Message::Publish);
        } else {
            self.cut(out);
        }
    }

    /// Does the next slices of a sweep; sources wait.
    fn sweep_on(&mut self, now: i64, out: &mut Vec<Envelope>) -> Result<(), Failure> {
        let idle = self.cycle.phase == Phase::Collect && !self.in_flight;
        let Some(sweep) = self.book.sweep.as_ref().filter(|_| idle) else { return Ok(()) };
        let slices = sweep.slices(self.settings.sweep_keys);
        let mut tasks: BTreeMap<usize, Vec<ShardTask>> = BTreeMap::new();
        for (shard, slice) in slices {
            let task = ShardTask { shard, sweep: Some(slice), ..ShardTask::default() };
            tasks.entry(shard % self.settings.workers).or_default().push(task);
        }
        let (commit, now) = self.book.begin(self.view.commit(), now);
        self.hand_tasks(tasks, (commit, now), out)
    }

    pub(super) fn full(&self) -> bool {
        self.cycle.bytes >= self.settings.cycle_bytes_max
            || self.cycle.bytes >= SWITCH_BYTES_MAX && self.is_switch_likely()
            || !self.cycle.refusals.is_empty()
            || self.cycle.lane_fault.is_some()
    }

    fn is_switch_likely(&self) -> bool {
        self.book.registry.awaits_switch(self.view.engine_time() - SWITCH_LIKELY_US)
    }

    fn should_close(&self, now: i64) -> bool {
        if self.in_flight {
            return false;
        }
        if self.full() || self.wants_barrier() {
            return true;
        }
        let turned = self.sinks_turned();
        let waits = self.cursors_wait() || turned;
        let something = !self.cycle.tasks.is_empty() || self.book.has_due(now) || waits;
        something && (self.quiet() || (turned && self.held_back()))
    }

    fn all(&mut self, phase: Phase, out: &mut Vec<Envelope>, message: impl Fn(usize) -> Message) {
        self.cycle.phase = phase;
        self.cycle.waiting = self.settings.workers;
        out.extend((0..self.settings.workers).map(|worker| message(worker).to(Address::Worker(worker))));
    }

    pub(super) fn again(&mut self, out: &mut Vec<Envelope>) {
        let tasks = self.cycle.again();
        let bytes = (self.cycle.bytes, self.cycle.lane_bytes);
        self.cycle = Cycle::new(self.settings.workers);
        for task in tasks {
            let worker = self.cycle.admit(task.clone());
            out.push(Message::Decode(task).to(Address::Worker(worker)));
        }
        if !self.cycle.tasks.is_empty() {
            (self.cycle.bytes, self.cycle.lane_bytes) = bytes; // the cycle stays full: nothing is added to it
        }
    }

    /// All workers have handed over: do the rules fit, and were ids sent twice?
    fn enter(&mut self, out: &mut Vec<Envelope>) -> Result<(), Failure> {
        self.check_carried()?;
        let misfits = self.check_fits()?;
        if !misfits.is_empty() && self.stopping.is_none() {
            self.give_back(misfits, out);
            return Ok(());
        }
        let published = self.cycle.published.iter_mut();
        let taken = published.map(|p| (std::mem::take(&mut p.live.ids), std::mem::take(&mut p.lane.ids)));
        self.book.ids = taken.unzip();
        self.hand_ids(Phase::Enter, Message::Enter, out);
        Ok(())
    }

    fn hand_ids(&mut self, phase: Phase, message: fn(IdTask) -> Message, out: &mut Vec<Envelope>) {
        let ((ids, lane_ids), owners) = (self.book.ids.clone(), self.settings.workers);
        let task = |owner| IdTask { ids: ids.clone(), lane_ids: lane_ids.clone(), owner, owners };
        self.all(phase, out, |owner| message(task(owner)));
    }

    fn entered(&mut self, now: i64, out: &mut Vec<Envelope>) -> Result<(), Failure> {
        if self.cycle.phase == Phase::Withdraw {
            if let Some(fault) = self.cycle.lane_fault.take() {
                self.halt_lane(self.fault_in_words(fault));
                self.drop_lane_blocks();
            }
            if self.cycle.refusals.is_empty() {
                self.again(out)
            } else {
                self.cut(out)
            }
            return Ok(());
        }
        if self.cycle.duplicates.is_empty() {
            return self.apply(now, out);
        }
        for duplicate in self.cycle.duplicates.iter().filter(|d| d.restarted) {
            let refusal = restarted_log(duplicate.position, "");
            if duplicate.lane {
                self.cycle.lane_fault.get_or_insert(LaneFault::Refused(duplicate.partition, refusal));
                continue;
            }
            let first = self.cycle.refusals.entry(duplicate.partition).or_insert_with(|| refusal.clone());
            if refusal.position < first.position {
                *first = refusal;
            }
        }
        self.hand_ids(Phase::Withdraw, Message::Withdraw, out);
        Ok(())
    }

    /// The barrier is passed: shards may be touched.
    fn apply(&mut self, now: i64, out: &mut Vec<Envelope>) -> Result<(), Failure> {
        let (commit, now) = self.book.begin(self.view.commit(), now);
        let mut tasks: BTreeMap<usize, Vec<ShardTask>> = BTreeMap::new();
        let mut due = self.book.due(now, (&self.program.generations(), &self.program.parked()));
        for shard in 0..SHARDS {
            let mut task = ShardTask {
                shard,
                contributions: self.program.entities.iter().map(|_| Vec::new()).collect(),
                due: due.remove(&shard).unwrap_or_default(),
                sweep: None,
            };
            for published in &mut self.cycle.published {
                let Some(of_shard) = published.contributions.get_mut(shard) else { continue };
                for (logs, log) in task.contributions.iter_mut().zip(of_shard) {
                    if !log.is_empty() {
                        logs.push(std::mem::take(log));
                    }
                }
            }
            if !task.due.is_empty() || task.contributions.iter().any(|logs| !logs.is_empty()) {
                tasks.entry(shard % self.settings.workers).or_default().push(task);
            }
        }
        self.hand_tasks(tasks, (commit, now), out)
    }

    fn hand_tasks(
        &mut self,
        tasks: BTreeMap<usize, Vec<ShardTask>>,
        (commit, now): (u64, i64),
        out: &mut Vec<Envelope>,
    ) -> Result<(), Failure> {
        let cause = self.cause();
        let of_rule = |r: &LiveRule| match self.book.registry.pauses.contains_key(&r.name) {
            true => Cause::Catchup,
            false => cause,
        };
        let causes = Arc::new(self.program.rules.iter().map(of_rule).collect::<Vec<_>>());
        let tellings = self.tellings();
        self.cycle.phase = Phase::Apply;
        self.cycle.waiting = tasks.len();
        for (worker, shards) in tasks {
            let (causes, view, tellings) = (causes.clone(), self.view.clone(), tellings.clone());
            let task = ApplyTask { commit, now, causes, shards, view, tellings };
            out.push(Message::Apply(Box::new(task)).to(Address::Worker(worker)));
        }
        if self.cycle.waiting == 0 {
            return self.commit(out);
        }
        Ok(())
    }

    /// A rule is in catch-up until every partition has reached the end that it had at first.
    fn cause(&self) -> Cause {
        let behind = self.partitions.iter().any(|p| p.applied < p.partition.first_size);
        if behind { Cause::Catchup } else { Cause::Change }
    }

    fn commit(&mut self, out: &mut Vec<Envelope>) -> Result<(), Failure> {
        for (partition, end) in self.cycle.ends(false) {
            if let Some(run) = self.partitions.get_mut(partition) {
                run.applied = end;
            }
        }
        let mut cycle = std::mem::replace(&mut self.cycle, Cycle::new(self.settings.workers));
        if !cycle.tasks.is_empty() {
            self.commands.stream_went_on();
        }
        let outputs = std::mem::take(&mut self.outputs);
        self.advance_lane(&cycle);
        let mut commit = self.assemble(&mut cycle, outputs);
        self.store_lane(&mut cycle, &mut commit, out)?;
        self.in_flight = true;
        out.push(Message::Commit(Box::new(commit)).to(Address::Committer));
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Envelope>) {
        let sweeping = self.book.sweep.is_some();
        let working = sweeping || !self.book.works.is_empty();
        let ending = self.stopping.is_some() || (self.settings.until_end && !working);
        let idle = self.is_idle()
            && self.cycle.tasks.is_empty()
            && self.commands.is_done()
            && self.quiet()
            && !self.partitions.iter().any(|p| p.reading)
            && !self.sinks_work();
        if ending && idle && (sweeping || !self.cursors_wait()) && self.outcome.is_none() {
            let seen = if self.stopping.is_some() { Ok(()) } else { self.check_seen() };
            let at_end = |()| match self.settings.until_end {
                true => self.check_none_fit().and_then(|()| self.check_awake()),
                false => Ok(()),
            };
            let seen = seen.and_then(at_end);
            self.end(seen, out);
        }
    }

    fn end(&mut self, result: Result<(), Failure>, out: &mut Vec<Envelope>) {
        self.outcome = Some(match (result, self.stopping.take()) {
            (Ok(()), Some(stopped)) => stopped,
            (result, _) => result,
        });
        let sources = (0..self.program.sources.len()).map(Address::Source);
        let workers = (0..self.settings.workers).map(Address::Worker);
        self.commands.refuse_all();
        let sinks = (0..self.sinks.len()).map(Address::Sink);
        let everyone = sources.chain(workers).chain(sinks).chain([Address::Committer]);
        out.extend(everyone.map(|to| Message::Stop.to(to)));
    }
}

impl Actor for Pipeline {
    fn step(&mut self, message: Message, now: i64, out: &mut Vec<Envelope>) {
        if self.outcome.is_some() {
            return;
        }
        let done = self.take(message, now, out).and_then(|()| self.advance(now, out));
        self.waits_since = (!self.commands.is_done()).then(|| self.waits_since.unwrap_or(now));
        let holds = self.waits_since.is_some_and(|since| now - since < HOLD_US);
        self.hold.store(holds, Ordering::Relaxed);
        if let Err(failure) = done {
            self.end(Err(failure), out);
        }
    }
}
