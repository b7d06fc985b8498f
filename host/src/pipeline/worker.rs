//! A worker: decodes blocks, runs rules into buffers of the open cycle, and between cycles adds to the shards it owns.
//!
//! Until the barrier nothing has touched a shard, so a cycle can be dropped whole ([`Message::Discard`]).

use super::failure::Failure;
use super::lane::{Lane, drop_apart};
use super::ledger::Ledger;
use super::message::{Actor, Address, Envelope, Message};
use super::program::{GenerationRun, Program};
use super::quarantine::BadImage;
use super::shard::{Buffers, Shard, ShardOutput, ShardTask};
use super::swap_times::{Part, SwapTimes};
use super::sweep::Telling;
use super::track::Track;
use crate::aggregate::log::Log;
use crate::clock::{self, Begun};
use crate::decode::{Decoded, IdForm, Refusal, Skip};
use crate::label::Cause;
use crate::rule::Labeler;
use crate::source::Block;
use crate::state::ledger::{Id, LogId};
use crate::state::{SHARDS, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One block to decode.
#[derive(Clone, Debug)]
pub struct DecodeTask {
    /// It is of the lane: history that only one namespace reads.
    pub lane: bool,
    /// The block.
    pub block: Block,
    /// Decode only the messages before this position.
    pub cut: Option<u64>,
    /// Positions of messages that are duplicates within the cycle.
    pub skip: Arc<Vec<u64>>,
}

/// What became of a block.
#[derive(Debug)]
pub struct BlockReport {
    /// Worker that decoded it.
    pub worker: usize,
    /// It is of the lane.
    pub lane: bool,
    /// Its partition.
    pub partition: usize,
    /// The message that it stops at.
    pub refusal: Option<Refusal>,
    /// Form of its ids and position of its first change.
    pub form: Option<(IdForm, u64)>,
}

/// An id met in this cycle, and where.
#[derive(Clone, Copy, Debug)]
pub struct SeenId {
    /// The id.
    pub id: Id,
    /// Partition.
    pub partition: usize,
    /// Position of the message.
    pub position: u64,
    /// Its commit time: a message that is sent again has the same one.
    pub ts: i64,
}

impl SeenId {
    /// Of two messages with one id the lower one wins.
    pub(super) fn order(&self) -> (i64, usize, u64) {
        (self.ts, self.partition, self.position)
    }
}

/// Lists of ids, one per worker that met them.
pub type IdLists = Vec<Arc<Vec<SeenId>>>;

/// Ids of one worker's parts of the ledger.
#[derive(Debug)]
pub struct IdTask {
    /// Those of the stream.
    pub ids: IdLists,
    /// Those of the lane, whose ledger is its own.
    pub lane_ids: IdLists,
    /// This worker enters the ids whose part is `owner` modulo `owners`.
    pub owner: usize,
    /// Number of workers.
    pub owners: usize,
}

/// The later of two messages with one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// Partition.
    pub partition: usize,
    /// Position of the message.
    pub position: u64,
    /// It is of the lane.
    pub lane: bool,
    /// It has another commit time than the first: it is another change, of a log that was restarted under its old names.
    pub restarted: bool,
}

/// Counters of one cycle.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Changes entered (of unread tables too).
    pub changes: u64,
    /// Commit time of the newest of those, in seconds since 1970.
    pub newest: Option<i64>,
    /// Changes that the ledger knew.
    pub resent: u64,
    /// Images given to rules.
    pub images: u64,
    /// Rows whose key is NULL.
    pub null_keys: u64,
    /// Skipped messages by reason.
    pub skipped: BTreeMap<Skip, u64>,
    /// Changes by table of the plan.
    pub tables: BTreeMap<u32, u64>,
    /// Per (namespace, table of the plan): images and bad ones.
    pub fits: BTreeMap<(u32, usize), (u64, u64)>,
    /// Messages that were put aside, by the namespaces that lack them.
    pub aside: BTreeMap<u32, u64>,
    /// All of them, also those that nothing lacks.
    pub messages_aside: u64,
    /// Tables of the plan that a source carries.
    pub carried: BTreeSet<(u32, usize)>,
    /// Nanoseconds by stage, summed over workers.
    pub stage_ns: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// Adds another worker's counters.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.newest = self.newest.max(other.newest);
        self.resent += other.resent;
        self.images += other.images;
        self.null_keys += other.null_keys;
        self.messages_aside += other.messages_aside;
        other.skipped.iter().for_each(|(k, n)| *self.skipped.entry(*k).or_default() += n);
        other.tables.iter().for_each(|(k, n)| *self.tables.entry(*k).or_default() += n);
        other.aside.iter().for_each(|(k, n)| *self.aside.entry(*k).or_default() += n);
        self.carried.extend(&other.carried);
        other.stage_ns.iter().for_each(|(k, n)| *self.stage_ns.entry(k).or_default() += n);
        for (k, (images, bad)) in &other.fits {
            let fits = self.fits.entry(*k).or_default();
            fits.0 += images;
            fits.1 += bad;
        }
    }
}

/// What one worker gathered in a cycle.
#[derive(Debug, Default)]
pub struct Published {
    /// Worker.
    pub worker: usize,
    /// Per shard, per entity.
    pub contributions: Vec<Vec<Log>>,
    /// Bad images, bounded; the counters hold all.
    pub quarantine: Vec<BadImage>,
    /// What it met in the stream.
    pub live: Met,
    /// What it met in the lane.
    pub lane: Met,
}

/// What one worker met in the blocks of the stream, or of the lane.
#[derive(Debug, Default)]
pub struct Met {
    /// Ids of the changes.
    pub ids: Arc<Vec<SeenId>>,
    /// Latest `ts` per log.
    pub latest_ts: BTreeMap<LogId, i64>,
    /// Counters.
    pub counters: Counters,
}

impl Published {
    /// What it met in the stream, or in the lane.
    #[must_use]
    pub fn met(&self, lane: bool) -> &Met {
        if lane { &self.lane } else { &self.live }
    }

    pub(super) fn met_mut(&mut self, lane: bool) -> &mut Met {
        if lane { &mut self.lane } else { &mut self.live }
    }
}

/// Add these to the shards.
#[derive(Debug)]
pub struct ApplyTask {
    /// Number of the commit.
    pub commit: u64,
    /// Engine time in µs.
    pub now: i64,
    /// Cause of each rule's transitions.
    pub causes: Arc<Vec<Cause>>,
    /// The shards with something to do.
    pub shards: Vec<ShardTask>,
    /// Where keys that are not in memory are read.
    pub view: Arc<View>,
    /// Switches of label generations that are being told.
    pub tellings: Arc<Vec<Telling>>,
}

/// What became of the shards.
#[derive(Debug, Default)]
pub struct Applied {
    /// Worker.
    pub worker: usize,
    /// One per shard with something to do.
    pub shards: Vec<ShardOutput>,
    /// Bytes of working state that this worker holds.
    pub working_bytes: u64,
    /// Nanoseconds by stage.
    pub stage_ns: BTreeMap<&'static str, u64>,
    /// What swaps took of this worker's time since its last report.
    pub swap_times: SwapTimes,
}

/// A worker.
pub struct Worker {
    index: usize,
    live: Track,
    lane: Option<(u64, Track)>,
    decoded: Decoded,
    labelers: Vec<Vec<Labeler>>,
    shards: BTreeMap<usize, Shard>,
    cycle: Published,
    /// By entity.
    buffers: Vec<Buffers>,
    /// Not reported yet.
    swap_times: SwapTimes,
}

impl Worker {
    /// Worker `index`, which owns no shard yet.
    ///
    /// # Errors
    /// A rule that cannot be instantiated.
    pub fn new(
        index: usize,
        (program, ledger): (Arc<Program>, Arc<Ledger>),
        lane: Option<&Lane>,
    ) -> Result<Self, Failure> {
        let mut worker = Self {
            index,
            live: Track::new(program.clone(), ledger, false)?,
            lane: None,
            decoded: Decoded::default(),
            labelers: Vec::new(),
            shards: BTreeMap::new(),
            cycle: Published::default(),
            buffers: Vec::new(),
            swap_times: SwapTimes::default(),
        };
        worker.replace(program, lane, &[])?;
        Ok(worker)
    }

    /// Goes over to another program and lane. The open cycle has gathered nothing.
    fn replace(
        &mut self,
        program: Arc<Program>,
        lane: Option<&Lane>,
        dropped: &[u32],
    ) -> Result<(), Failure> {
        let mut warm = BTreeMap::new();
        for (rule, labelers) in self.live.program().rules.iter().zip(std::mem::take(&mut self.labelers)) {
            warm.extend(rule.generations.iter().map(|g| g.space).zip(labelers));
        }
        for rule in &program.rules {
            let labeler =
                |g: &GenerationRun| warm.remove(&g.space).map_or_else(|| g.compiled.labeler(&g.params), Ok);
            self.labelers.push(rule.generations.iter().map(labeler).collect::<Result<_, _>>()?);
        }
        self.buffers = program.entities.iter().map(|layout| Buffers::new(layout.linear.len())).collect();
        self.live.replace(program)?;
        self.lane = match (self.lane.take(), lane) {
            (before, None) => {
                drop_apart(before);
                None
            }
            (Some((number, mut track)), Some(lane)) if number == lane.number => {
                track.replace(lane.program.clone())?;
                Some((number, track))
            }
            (before, Some(lane)) => {
                drop_apart(before);
                Some((lane.number, Track::new(lane.program.clone(), lane.ledger.clone(), true)?))
            }
        };
        self.shards.values_mut().for_each(|shard| shard.forget_spaces(dropped));
        self.cycle = self.fresh();
        Ok(())
    }

    fn fresh(&mut self) -> Published {
        let mut logs = || self.buffers.iter_mut().map(|b| b.spare.pop().unwrap_or_default()).collect();
        let contributions = (0..SHARDS).map(|_| logs()).collect();
        Published { worker: self.index, contributions, ..Published::default() }
    }

    fn tracks(&mut self) -> impl Iterator<Item = &mut Track> {
        std::iter::once(&mut self.live).chain(self.lane.as_mut().map(|(_, track)| track))
    }

    fn decode(&mut self, task: &DecodeTask) -> Result<BlockReport, Failure> {
        let track = match (&mut self.lane, task.lane) {
            (_, false) => &mut self.live,
            (Some((_, track)), true) => track,
            (None, true) => return Err(Failure::Internal("a block of a lane that is gone".into())),
        };
        let begin = task.lane.then(Begun::now);
        let report = track.decode(task, &mut self.decoded, &mut self.cycle)?;
        if let Some(begin) = begin {
            self.swap_times.note(Part::Lane, begin.took());
        }
        Ok(BlockReport { worker: self.index, ..report })
    }

    /// Enters the ids of this worker's parts and writes them down; of a repeated id the later message is named.
    fn enter(&mut self, task: &IdTask) -> Message {
        let mut duplicates = Vec::new();
        let ids = self.live.enter(task, &mut duplicates);
        let lane_ids = self.lane.as_mut().map(|(_, track)| track.enter(task, &mut duplicates));
        Message::Entered { duplicates, ids, lane_ids: lane_ids.unwrap_or_default() }
    }

    fn apply(&mut self, task: ApplyTask) -> Result<Applied, Failure> {
        let begin = clock::moment();
        let mut applied = Applied { worker: self.index, ..Applied::default() };
        for shard_task in task.shards {
            let number = shard_task.shard;
            let swept = shard_task.sweep.as_ref().map(|_| Begun::now());
            let shard = self.shards.entry(number).or_insert_with(|| Shard::new(number, &task.view));
            let context = super::shard::Context {
                program: self.live.program(),
                commit: task.commit,
                now: task.now,
                causes: &task.causes,
                view: &task.view,
                tellings: &task.tellings,
            };
            let output = shard.apply(shard_task, &context, &mut self.labelers, &mut self.buffers)?;
            applied.shards.push(output);
            if let Some(begin) = swept {
                self.swap_times.note(Part::Sweep, begin.took());
            }
        }
        applied.swap_times = std::mem::take(&mut self.swap_times);
        applied.working_bytes = self.shards.values().map(Shard::bytes).sum();
        applied.stage_ns.insert("apply", clock::elapsed_ns(begin));
        Ok(applied)
    }

    fn answer(&mut self, message: Message) -> Result<Option<Message>, Failure> {
        Ok(Some(match message {
            Message::Decode(task) => Message::Decoded(self.decode(&task)?),
            Message::Discard => {
                self.tracks().for_each(Track::forget);
                self.cycle = self.fresh();
                return Ok(None);
            }
            Message::Publish => {
                for of_shard in &mut self.cycle.contributions {
                    let unused = of_shard.iter_mut().zip(&mut self.buffers).filter(|(log, _)| log.is_empty());
                    unused.for_each(|(log, buffers)| buffers.spare.push(std::mem::take(log)));
                }
                let fresh = self.fresh();
                let mut published = std::mem::replace(&mut self.cycle, fresh);
                self.tracks().for_each(|track| track.lend_ids(&mut published));
                Message::Published(Box::new(published))
            }
            Message::Enter(task) => self.enter(&task),
            Message::Withdraw(task) => {
                self.tracks().for_each(|track| track.withdraw(&task));
                Message::Entered { duplicates: Vec::new(), ids: Vec::new(), lane_ids: Vec::new() }
            }
            Message::Apply(task) => Message::Applied(Box::new(self.apply(*task)?)),
            Message::Program { program, lane, dropped } => {
                let begin = Begun::now();
                self.replace(program, lane.as_ref(), &dropped)?;
                self.swap_times.note(Part::Program, begin.took());
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }
}

impl Actor for Worker {
    fn step(&mut self, message: Message, _: i64, out: &mut Vec<Envelope>) {
        match self.answer(message) {
            Ok(None) => {}
            Ok(Some(answer)) => out.push(answer.to(Address::Pipeline)),
            Err(failure) => out.push(Message::Failed(Box::new(failure)).to(Address::Pipeline)),
        }
    }
}
