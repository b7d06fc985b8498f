//! Commands: from people to the coordinator, which carries them out one at a time at a barrier.
//!
//! It hands out no more blocks to the open cycle, lets it close and commit (for a switch it takes it back), and when nothing
//! is in flight makes one commit that carries the changed registry with its rows. What runs changes with it. The answer
//! comes when that commit is durable.

use super::coordinator::Pipeline;
use super::cycle::{Cycle, Phase};
use super::failure::Failure;
use super::lane::lane_rows;
use super::message::{Address, Envelope, Message};
use super::program::Code;
use super::shard::ShardOutput;
use super::sweep::{Work, work_key};
use super::worker::DecodeTask;
use crate::registry::Refusal;
use crate::registry::command::{Asker, Command, Done, Effect, Facts, HOST};
use crate::state::Table;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Commands that may wait.
pub const COMMANDS_MAX: usize = 64;

/// What became of a command.
pub type Outcome = Result<Done, Refusal>;

/// A command on its way to the coordinator.
#[derive(Debug)]
pub struct Submitted {
    /// What is asked.
    pub command: Command,
    /// Code of the label generation that it makes, compiled and checked.
    pub code: Option<Code>,
    /// Who asks.
    pub asker: Asker,
    /// Where the answer goes.
    pub reply: Option<Sender<Outcome>>,
}

impl Submitted {
    fn answer(self, outcome: Outcome) {
        if let Some(reply) = self.reply {
            let _ = reply.send(outcome); // nobody waits for it any more
        }
    }
}

/// Hands commands to the coordinator of a running engine. Any thread may.
#[derive(Clone, Debug)]
pub struct Submitter {
    pipeline: Sender<Message>,
    waiting: Arc<AtomicUsize>,
}

impl Submitter {
    /// Submits to the coordinator that reads the other end of `pipeline`.
    #[must_use]
    pub fn new(pipeline: Sender<Message>) -> Self {
        Self { pipeline, waiting: Arc::default() }
    }

    /// Submits a command and waits until it is durable.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn submit(&self, command: Command, code: Option<Code>, asker: Asker) -> Outcome {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= COMMANDS_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Full(COMMANDS_MAX));
        }
        let (reply, answer) = channel();
        let submitted = Submitted { command, code, asker, reply: Some(reply) };
        let sent = self.pipeline.send(Message::Command(Box::new(submitted)));
        let outcome = sent.map_or(Err(Refusal::Stopping), |()| wait(&answer));
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        outcome
    }
}

/// The sender is dropped unused only when the engine ends.
fn wait(answer: &Receiver<Outcome>) -> Outcome {
    answer.recv().unwrap_or(Err(Refusal::Stopping))
}

/// Commands of one coordinator.
#[derive(Debug, Default)]
pub(super) struct Commands {
    waiting: VecDeque<Submitted>,
    /// In the commit that is in flight.
    carried: Option<(Submitted, Done)>,
    /// The stream has stood back for a switch, and has committed nothing since.
    stood_back: bool,
    /// Times that it has done so since the start.
    pub(super) stood_back_count: u64,
}

impl Commands {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A switch is next.
    fn is_switch_next(&self) -> bool {
        let next = self.waiting.front().map(|submitted| &submitted.command);
        matches!(next, Some(Command::Activate { .. } | Command::Rollback { .. }))
    }

    /// The stream has committed something: it may stand back once more.
    pub(super) fn stream_went_on(&mut self) {
        self.stood_back = false;
    }

    /// Nothing waits and nothing is in flight.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.carried.is_none()
    }

    pub(super) fn push(&mut self, submitted: Submitted) {
        if self.waiting.len() >= COMMANDS_MAX {
            return submitted.answer(Err(Refusal::Full(COMMANDS_MAX)));
        }
        self.waiting.push_back(submitted);
    }

    /// Before all others; what the engine itself asks for is not counted.
    pub(super) fn push_first(&mut self, submitted: Submitted) {
        self.waiting.push_front(submitted);
    }

    /// The commit in flight is durable.
    pub(super) fn durable(&mut self) {
        if let Some((submitted, done)) = self.carried.take() {
            submitted.answer(Ok(done));
        }
    }

    /// The engine stops: what waits is refused.
    pub(super) fn refuse_all(&mut self) {
        self.waiting.drain(..).for_each(|submitted| submitted.answer(Err(Refusal::Stopping)));
    }
}

impl Pipeline {
    /// Lets a switch pass before what was decoded of the open cycle, which nothing depends on yet: its blocks are decoded
    /// once more behind the switch. Once for each commit of the stream, so that no number of switches stops it.
    pub(super) fn stand_back(&mut self, out: &mut Vec<Envelope>) {
        let cycle = &self.cycle;
        let is_plain = |task: &DecodeTask| task.cut.is_none() && task.skip.is_empty();
        let may = cycle.phase == Phase::Collect
            && cycle.decoding() == 0
            && !cycle.tasks.is_empty()
            && cycle.tasks.iter().all(is_plain)
            && cycle.refusals.is_empty()
            && cycle.lane_fault.is_none();
        if !may || self.commands.stood_back || !self.commands.is_switch_next() || self.stopping.is_some() {
            return;
        }
        self.commands.stood_back = true;
        self.commands.stood_back_count += 1;
        self.drop_lane_blocks();
        let cycle = std::mem::replace(&mut self.cycle, Cycle::new(self.settings.workers));
        cycle.tasks.into_iter().rev().for_each(|task| self.held.push_front(task.block));
        self.discard(out);
    }

    /// Carries out the next commands, if this is a barrier: at most one that changes something.
    pub(super) fn obey(&mut self, now: i64, out: &mut Vec<Envelope>) -> Result<(), Failure> {
        if self.stopping.is_some() {
            self.commands.refuse_all();
            return Ok(());
        }
        if self.commands.is_empty()
            && let Some(command) = self.book.expired(now)
        {
            let (by, why) = (HOST.into(), "nothing needs it any more".into());
            let asker = Asker { by, why, ..Asker::default() };
            self.commands.push(Submitted { command, code: None, asker, reply: None });
        }
        let barrier = |p: &Self| p.is_idle() && p.cycle.tasks.is_empty() && p.book.sweep.is_none();
        while barrier(self)
            && let Some(submitted) = self.commands.waiting.pop_front()
        {
            self.carry_out(submitted, now, out)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, submitted: Submitted, now: i64, out: &mut Vec<Envelope>) -> Result<(), Failure> {
        let (commit, now) = self.book.next(self.view.commit(), now);
        let positions: Vec<u64> = self.partitions.iter().map(|p| p.applied).collect();
        let reached = reached(&self.book.works);
        let facts = Facts {
            commit,
            now,
            view: &self.view,
            grace_us: self.settings.grace_us,
            audience: self.audience,
            positions: &positions,
            reached: &reached,
            incomplete: &self.incomplete,
        };
        let mut registry = self.book.registry.clone();
        let effect = match registry.execute(&submitted.command, &submitted.asker, &facts) {
            Ok(effect) if effect.done.changed => effect,
            Ok(effect) => {
                submitted.answer(Ok(effect.done));
                return Ok(());
            }
            Err(refusal) => {
                submitted.answer(Err(refusal));
                return Ok(());
            }
        };
        let Some(program) = self.program.with(&registry, submitted.code.as_ref()) else {
            submitted.answer(Err(Refusal::Internal("a command without the code that it needs".into())));
            return Ok(());
        };
        let lanes = &self.book.registry.lanes() - &registry.lanes();
        let resumes = matches!(submitted.command, Command::Resume { .. });
        let ended = self.book.take_registry(registry)?;
        let Effect { rows, dropped, done, switched } = effect;
        if let Command::GiveUp { rule, why, .. } = &submitted.command {
            self.given_up.push(format!("{rule}@{} was given up: {why}", done.revision));
        }
        self.book.begin(self.view.commit(), now);
        let output = ShardOutput { transitions: switched.into_iter().collect(), ..ShardOutput::default() };
        let mut commit = self.assemble(&mut Cycle::new(self.settings.workers), vec![output]);
        commit.rows.extend(rows.into_iter().map(|(key, row)| (Table::Meta, key, row)));
        for operation in ended {
            commit.rows.push((Table::Meta, work_key(operation), None));
        }
        for lane in lanes {
            commit.rows.extend(lane_rows(&self.view, lane)?);
        }
        if resumes {
            self.book.look_again();
        }
        commit.drop_spaces.clone_from(&dropped);
        self.program = Arc::new(program);
        self.next_lane()?;
        self.tell_workers(&dropped, out);
        self.commands.carried = Some((submitted, done));
        self.in_flight = true;
        out.push(Message::Commit(Box::new(commit)).to(Address::Committer));
        Ok(())
    }

    /// A command waits for the open cycle to close.
    pub(super) fn wants_barrier(&self) -> bool {
        !self.commands.is_empty() && self.cycle.phase == Phase::Collect && !self.cycle.tasks.is_empty()
    }
}

/// How far the lanes of operations that fill a gap are, by operation.
#[must_use]
pub fn reached(works: &[Work]) -> BTreeMap<u64, Vec<u64>> {
    let gap = |w: &Work| {
        let backfill = w.backfill.as_ref().filter(|b| b.gap.is_some())?;
        Some((w.operation, backfill.done.clone()))
    };
    works.iter().filter_map(gap).collect()
}

impl super::assemble::Book {
    /// Goes over to a changed registry; the operations that it no longer runs.
    fn take_registry(&mut self, registry: crate::registry::Registry) -> Result<Vec<u64>, Failure> {
        let works = Work::of(&registry, &self.works)?;
        let ended = |w: &&Work| !works.iter().any(|other| other.operation == w.operation);
        let ended = self.works.iter().filter(ended).map(|w| w.operation).collect();
        self.works = works;
        self.registry = registry;
        Ok(ended)
    }
}
