//! A worker: decodes blocks, runs rules into buffers of the open cycle, and between cycles adds to the shards it owns.
//!
//! Until the barrier nothing has touched a shard, so a cycle can be dropped whole ([`Message::Discard`]).

use super::failure::Failure;
use super::gather::Gather;
use super::ledger::Ledger;
use super::message::{Actor, Address, Envelope, Message};
use super::program::{GenerationRun, Program};
use super::quarantine::BadImage;
use super::shard::{Buffers, Shard, ShardOutput, ShardTask};
use super::sweep::Telling;
use crate::aggregate::log::Log;
use crate::clock;
use crate::decode::{Decoded, Decoder, IdForm, Refusal, Skip};
use crate::failpoint::{self, Step};
use crate::label::Cause;
use crate::rule::Labeler;
use crate::source::Block;
use crate::state::ledger::{Id, LogId, PARTS, encode_ids, part_of};
use crate::state::{SHARDS, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One block to decode.
#[derive(Clone, Debug)]
pub struct DecodeTask {
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
    fn order(&self) -> (i64, usize, u64) {
        (self.ts, self.partition, self.position)
    }
}

/// Ids of one worker's parts of the ledger.
#[derive(Debug)]
pub struct IdTask {
    /// Lists of ids, one per worker that met them.
    pub ids: Vec<Arc<Vec<SeenId>>>,
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
    /// It has another commit time than the first: it is another change, of a log that was restarted under its old names.
    pub restarted: bool,
}

/// Counters of one cycle.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Changes entered (of unread tables too).
    pub changes: u64,
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
    /// Per (rule, table of the plan): images and bad ones.
    pub fits: BTreeMap<(usize, usize), (u64, u64)>,
    /// Nanoseconds by stage, summed over workers.
    pub stage_ns: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// Adds another worker's counters.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.resent += other.resent;
        self.images += other.images;
        self.null_keys += other.null_keys;
        other.skipped.iter().for_each(|(k, n)| *self.skipped.entry(*k).or_default() += n);
        other.tables.iter().for_each(|(k, n)| *self.tables.entry(*k).or_default() += n);
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
    /// Ids of the changes.
    pub ids: Arc<Vec<SeenId>>,
    /// Latest `ts` per log.
    pub latest_ts: BTreeMap<LogId, i64>,
    /// Bad images, bounded; the counters hold all.
    pub quarantine: Vec<BadImage>,
    /// Counters.
    pub counters: Counters,
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
}

/// A worker.
pub struct Worker {
    index: usize,
    program: Arc<Program>,
    ledger: Arc<Ledger>,
    decoders: Vec<Decoder>,
    decoded: Decoded,
    gather: Gather,
    labelers: Vec<Vec<Labeler>>,
    shards: BTreeMap<usize, Shard>,
    cycle: Published,
    /// By entity.
    buffers: Vec<Buffers>,
    /// Ids of the open cycle.
    ids: Vec<SeenId>,
    /// Ids of the cycle before, which all workers read until they are entered.
    lent: Arc<Vec<SeenId>>,
    /// Scratch of [`Worker::enter`].
    entered: Vec<Id>,
}

impl Worker {
    /// Worker `index`, which owns no shard yet.
    ///
    /// # Errors
    /// A rule that cannot be instantiated.
    pub fn new(index: usize, program: Arc<Program>, ledger: Arc<Ledger>) -> Result<Self, Failure> {
        let decoders = program.sources.iter().map(|s| Decoder::new(s.format, s.plan.clone())).collect();
        let gather = Gather::new(&program)?;
        let mut labelers = Vec::new();
        for rule in &program.rules {
            let of_rule: Result<Vec<_>, _> =
                rule.generations.iter().map(|g| g.compiled.labeler(&g.params)).collect();
            labelers.push(of_rule?);
        }
        let mut worker = Self {
            index,
            program,
            ledger,
            decoders,
            decoded: Decoded::default(),
            gather,
            labelers,
            shards: BTreeMap::new(),
            cycle: Published::default(),
            buffers: Vec::new(),
            ids: Vec::new(),
            lent: Arc::default(),
            entered: Vec::new(),
        };
        let layouts = worker.program.entities.iter();
        worker.buffers = layouts.map(|layout| Buffers::new(layout.linear.len())).collect();
        worker.cycle = worker.fresh();
        Ok(worker)
    }

    /// Goes over to another program. Only its label generations may differ: what the open cycle gathered stays good.
    fn replace(&mut self, program: Arc<Program>, dropped: &[u32]) -> Result<(), Failure> {
        let old = std::mem::replace(&mut self.program, program);
        let mut warm = BTreeMap::new();
        for (rule, labelers) in old.rules.iter().zip(std::mem::take(&mut self.labelers)) {
            warm.extend(rule.generations.iter().map(|g| g.space).zip(labelers));
        }
        for rule in &self.program.rules {
            let labeler =
                |g: &GenerationRun| warm.remove(&g.space).map_or_else(|| g.compiled.labeler(&g.params), Ok);
            self.labelers.push(rule.generations.iter().map(labeler).collect::<Result<_, _>>()?);
        }
        self.shards.values_mut().for_each(|shard| shard.forget_spaces(dropped));
        Ok(())
    }

    fn fresh(&mut self) -> Published {
        let mut logs = || self.buffers.iter_mut().map(|b| b.spare.pop().unwrap_or_default()).collect();
        let contributions = (0..SHARDS).map(|_| logs()).collect();
        Published { worker: self.index, contributions, ..Published::default() }
    }

    /// Hands the open cycle's ids over; takes the memory of those of the cycle before for the next one's.
    fn lend_ids(&mut self) -> Arc<Vec<SeenId>> {
        let mut next = Arc::try_unwrap(std::mem::take(&mut self.lent)).unwrap_or_default();
        next.clear();
        self.lent = Arc::new(std::mem::replace(&mut self.ids, next));
        self.lent.clone()
    }

    fn decode(&mut self, task: &DecodeTask) -> Result<BlockReport, Failure> {
        let begin = clock::moment();
        let block = &task.block;
        let Some(source) = self.program.partitions.get(block.partition).copied() else {
            return Err(Failure::Internal("a block of an unknown partition".into()));
        };
        let (Some(decoder), Some(of_source)) =
            (self.decoders.get_mut(source), self.program.sources.get(source))
        else {
            return Err(Failure::Internal("a partition of an unknown source".into()));
        };
        let until = task.cut.map_or(block.bytes.len(), |cut| {
            usize::try_from(cut.saturating_sub(block.start)).unwrap_or(usize::MAX).min(block.bytes.len())
        });
        self.decoded.clear();
        decoder.decode(block.bytes.get(..until).unwrap_or(&[]), block.start, &mut self.decoded);
        let decoded_ns = clock::elapsed_ns(begin);
        failpoint::hit(Step::Decode);

        let mut refusal = self.decoded.refusal.take();
        let (known, restarted) = self.ask_ledger(task, &of_source.producer.clone());
        if let Some(restarted) = restarted
            && refusal.as_ref().is_none_or(|r| restarted.position < r.position)
        {
            refusal = Some(restarted);
        }
        let asked_ns = clock::elapsed_ns(begin);
        if refusal.is_none() {
            self.gather.block(&self.program, &self.decoded, &known, block, &mut self.cycle)?;
        }
        self.count(&[
            ("decode", decoded_ns),
            ("ledger", asked_ns - decoded_ns),
            ("rule", clock::elapsed_ns(begin) - asked_ns),
        ]);
        let first = self.decoded.changes.first();
        Ok(BlockReport {
            worker: self.index,
            partition: block.partition,
            refusal,
            form: self.decoded.form.zip(first.map(|c| c.position)),
        })
    }

    /// Which changes of the decoded block are known; new ids are noted. A known id that is younger than its log is a
    /// log that was restarted under the same names.
    fn ask_ledger(&mut self, task: &DecodeTask, producer: &str) -> (Vec<bool>, Option<Refusal>) {
        let names = &self.decoded.logs;
        let logs: Vec<LogId> = names.iter().map(|name| self.ledger.intern(producer, name)).collect();
        let reader = self.ledger.reader();
        let mut known = vec![false; self.decoded.changes.len()];
        let mut restarted = None;
        let counters = &mut self.cycle.counters;
        for (change, known) in self.decoded.changes.iter().zip(&mut known) {
            if !task.skip.is_empty() && task.skip.binary_search(&change.position).is_ok() {
                *known = true;
                counters.resent += 1;
                continue;
            }
            if let Some(of_change) = &change.id {
                let Some(log) = logs.get(of_change.log as usize).copied() else { continue };
                let id = Id { log, at: of_change.at, row: of_change.row };
                if reader.contains(&id) {
                    *known = true;
                    counters.resent += 1;
                    if self.ledger.is_restarted(log, change.ts) {
                        restarted.get_or_insert_with(|| log_restarted(change.position, names, of_change.log));
                    }
                    continue;
                }
                let partition = task.block.partition;
                self.ids.push(SeenId { id, partition, position: change.position, ts: change.ts });
                let latest = self.cycle.latest_ts.entry(log).or_insert(change.ts);
                *latest = change.ts.max(*latest);
            }
            counters.changes += 1;
            if let Some(table) = change.table {
                *counters.tables.entry(table).or_default() += 1;
            }
        }
        for (reason, n) in &self.decoded.skipped {
            *counters.skipped.entry(*reason).or_default() += n;
        }
        (known, restarted)
    }

    fn count(&mut self, stages: &[(&'static str, u64)]) {
        for (stage, ns) in stages {
            *self.cycle.counters.stage_ns.entry(stage).or_default() += ns;
        }
    }

    /// Enters the ids of this worker's parts and writes them down; of a repeated id the later message is named.
    fn enter(&mut self, task: &IdTask) -> Message {
        let mut duplicates = Vec::new();
        let mut first: Option<BTreeMap<Id, &SeenId>> = None;
        self.entered.clear();
        let mut writer = self.ledger.writer(is_mine(task));
        for seen in mine(task) {
            if writer.insert(&seen.id) {
                self.entered.push(seen.id);
                continue;
            }
            // Rare: find the earliest message of each id, so that every later one is named.
            first.get_or_insert_with(|| {
                let mut first = BTreeMap::new();
                for seen in mine(task) {
                    let earliest = first.entry(seen.id).or_insert(seen);
                    if seen.order() < earliest.order() {
                        *earliest = seen;
                    }
                }
                first
            });
        }
        drop(writer);
        if let Some(first) = first {
            for seen in mine(task) {
                let Some(earliest) = first.get(&seen.id).filter(|e| e.order() != seen.order()) else {
                    continue;
                };
                let SeenId { partition, position, ts, .. } = *seen;
                duplicates.push(Duplicate { partition, position, restarted: ts != earliest.ts });
            }
        }
        let ids = if self.entered.is_empty() { Vec::new() } else { encode_ids(&mut self.entered) };
        Message::Entered { duplicates, ids }
    }

    fn apply(&mut self, task: ApplyTask) -> Result<Applied, Failure> {
        let begin = clock::moment();
        let mut applied = Applied { worker: self.index, ..Applied::default() };
        for shard_task in task.shards {
            let number = shard_task.shard;
            let shard = self.shards.entry(number).or_insert_with(|| Shard::new(number, &task.view));
            let context = super::shard::Context {
                program: &self.program,
                commit: task.commit,
                now: task.now,
                causes: &task.causes,
                view: &task.view,
                tellings: &task.tellings,
            };
            let output = shard.apply(shard_task, &context, &mut self.labelers, &mut self.buffers)?;
            applied.shards.push(output);
        }
        applied.working_bytes = self.shards.values().map(Shard::bytes).sum();
        applied.stage_ns.insert("apply", clock::elapsed_ns(begin));
        Ok(applied)
    }

    fn answer(&mut self, message: Message) -> Result<Option<Message>, Failure> {
        Ok(Some(match message {
            Message::Decode(task) => Message::Decoded(self.decode(&task)?),
            Message::Discard => {
                self.ids.clear();
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
                published.ids = self.lend_ids();
                Message::Published(Box::new(published))
            }
            Message::Enter(task) => self.enter(&task),
            Message::Withdraw(task) => {
                mine(&task).for_each(|seen| self.ledger.remove(&seen.id));
                Message::Entered { duplicates: Vec::new(), ids: Vec::new() }
            }
            Message::Apply(task) => Message::Applied(Box::new(self.apply(*task)?)),
            Message::Program { program, dropped } => {
                self.replace(program, &dropped)?;
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }
}

/// Which parts of the ledger are the worker's.
fn is_mine(task: &IdTask) -> [bool; PARTS] {
    std::array::from_fn(|part| part % task.owners == task.owner)
}

fn mine(task: &IdTask) -> impl Iterator<Item = &SeenId> {
    let is_mine = is_mine(task);
    let mine = move |seen: &&SeenId| is_mine.get(part_of(&seen.id)).copied().unwrap_or_default();
    task.ids.iter().flat_map(|ids| ids.iter()).filter(mine)
}

fn log_restarted(position: u64, names: &[String], log: u32) -> Refusal {
    restarted_log(position, &format!(" of {}", names.get(log as usize).map_or("", String::as_str)))
}

/// The refusal of a change whose id another change has.
pub(super) fn restarted_log(position: u64, of: &str) -> Refusal {
    Refusal {
        code: "log-restarted",
        position,
        table: String::new(),
        message: format!(
            "an id{of} that is already applied comes again with a later time: the log was restarted under the \
             same names; give the source a new `producer` name if these are new changes"
        ),
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
