//! From blocks to what a cycle gathers, for the stream or for the lane: decoders, rules and a ledger.
//!
//! A worker has one for the stream, and one for the lane while history is read. Both write into the same open cycle; ids,
//! times and counters are kept apart, for each has a ledger of its own.

use super::failure::Failure;
use super::gather::Gather;
use super::ledger::Ledger;
use super::program::{LiveRule, Program, SourceProgram};
use super::quarantine::{BadImage, CYCLE_ENTRIES_MAX};
use super::worker::{BlockReport, DecodeTask, Duplicate, IdTask, Published, SeenId};
use crate::clock;
use crate::config::OnRefusal;
use crate::decode::{Decoded, Decoder, Refusal};
use crate::failpoint::{self, Step};
use crate::state::ledger::{Id, LogId, PARTS, encode_ids, part_of};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Decoders, rules and ledger of one worker for the stream or for the lane.
pub(super) struct Track {
    lane: bool,
    program: Arc<Program>,
    ledger: Arc<Ledger>,
    decoders: Vec<Decoder>,
    gather: Gather,
    /// Ids of the open cycle.
    ids: Vec<SeenId>,
    /// Ids of the cycle before, which all workers read until they are entered.
    lent: Arc<Vec<SeenId>>,
    /// Scratch of [`Track::enter`].
    entered: Vec<Id>,
}

impl Track {
    pub(super) fn new(program: Arc<Program>, ledger: Arc<Ledger>, lane: bool) -> Result<Self, Failure> {
        Ok(Self {
            lane,
            decoders: program.sources.iter().map(decoder).collect(),
            gather: Gather::new(&program)?,
            program,
            ledger,
            ids: Vec::new(),
            lent: Arc::default(),
            entered: Vec::new(),
        })
    }

    pub(super) fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Goes over to another program; what decoders have learnt of a plan that stays is kept.
    pub(super) fn replace(&mut self, program: Arc<Program>) -> Result<(), Failure> {
        let sources = self.program.sources.iter().zip(&program.sources);
        for (decoder, (before, after)) in self.decoders.iter_mut().zip(sources) {
            if before.plan != after.plan {
                *decoder = self::decoder(after);
            }
        }
        self.gather.replace(&self.program, &program)?;
        self.program = program;
        Ok(())
    }

    /// Forgets the open cycle.
    pub(super) fn forget(&mut self) {
        self.ids.clear();
    }

    /// Hands the open cycle's ids over; takes the memory of those of the cycle before for the next one's.
    pub(super) fn lend_ids(&mut self, published: &mut Published) {
        let mut next = Arc::try_unwrap(std::mem::take(&mut self.lent)).unwrap_or_default();
        next.clear();
        self.lent = Arc::new(std::mem::replace(&mut self.ids, next));
        published.met_mut(self.lane).ids = self.lent.clone();
    }

    /// Decodes a block and runs the rules on it.
    pub(super) fn decode(
        &mut self,
        task: &DecodeTask,
        decoded: &mut Decoded,
        cycle: &mut Published,
    ) -> Result<BlockReport, Failure> {
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
        let until = task.cut.map_or(block.bytes.len(), |cut| block.byte_of(cut));
        decoded.clear();
        decoder.decode(block.bytes.get(..until).unwrap_or(&[]), block.base(), decoded);
        if block.index.is_some() {
            decoded.place(|| block.places());
        }
        let decoded_ns = clock::elapsed_ns(begin);
        failpoint::hit(if self.lane { Step::Lane } else { Step::Decode });

        let mut refusal = decoded.refusal.take();
        let producer = of_source.producer.clone();
        let (known, restarted) = self.ask_ledger(task, &producer, (decoded, cycle));
        if let Some(restarted) = restarted
            && refusal.as_ref().is_none_or(|r| restarted.position < r.position)
        {
            refusal = Some(restarted);
        }
        let asked_ns = clock::elapsed_ns(begin);
        if refusal.is_none() {
            self.put_aside(decoded, block.partition, source, cycle);
            self.gather.block((&self.program, self.lane), (decoded, &known), block, cycle)?;
        }
        let stages = [
            ("decode", decoded_ns),
            ("ledger", asked_ns - decoded_ns),
            ("rule", clock::elapsed_ns(begin) - asked_ns),
        ];
        for (stage, ns) in stages {
            *cycle.met_mut(self.lane).counters.stage_ns.entry(stage).or_default() += ns;
        }
        let first = decoded.changes.first();
        Ok(BlockReport {
            worker: 0,
            lane: self.lane,
            partition: block.partition,
            refusal,
            form: decoded.form.zip(first.map(|c| c.position)),
        })
    }

    /// Notes the messages that were put aside: for whom they are missing, and an entry of the quarantine.
    fn put_aside(&self, decoded: &Decoded, partition: usize, source: usize, cycle: &mut Published) {
        let source = self.program.sources.get(source).map_or_else(String::new, |source| source.name.clone());
        for refusal in &decoded.aside {
            let reads = |rule: &&LiveRule| {
                let mut tables = rule.compiled.manifest.tables.iter();
                refusal.table.is_empty() || tables.any(|t| t.table == refusal.table)
            };
            let counters = &mut cycle.met_mut(self.lane).counters;
            counters.messages_aside += 1;
            for rule in self.program.rules.iter().filter(reads) {
                *counters.aside.entry(rule.namespace).or_default() += 1;
            }
            if cycle.quarantine.len() < CYCLE_ENTRIES_MAX {
                cycle.quarantine.push(BadImage::of_message(refusal, source.clone(), partition));
            }
        }
    }

    /// Which changes of the decoded block are known; new ids are noted. A known id that is younger than its log is a
    /// log that was restarted under the same names.
    fn ask_ledger(
        &mut self,
        task: &DecodeTask,
        producer: &str,
        (decoded, cycle): (&Decoded, &mut Published),
    ) -> (Vec<bool>, Option<Refusal>) {
        let names = &decoded.logs;
        let logs: Vec<LogId> = names.iter().map(|name| self.ledger.intern(producer, name)).collect();
        let reader = self.ledger.reader();
        let mut known = vec![false; decoded.changes.len()];
        let mut restarted = None;
        let met = cycle.met_mut(self.lane);
        let counters = &mut met.counters;
        let mut latest = vec![i64::MIN; names.len()];
        let mut tables = vec![0_u64; decoded.batches.len()];
        for (change, known) in decoded.changes.iter().zip(&mut known) {
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
                if let Some(latest) = latest.get_mut(of_change.log as usize) {
                    *latest = change.ts.max(*latest);
                }
            }
            counters.changes += 1;
            counters.newest = counters.newest.max(Some(change.ts));
            if let Some(n) = change.table.and_then(|table| tables.get_mut(table as usize)) {
                *n += 1;
            }
        }
        for (log, ts) in logs.into_iter().zip(latest).filter(|(_, ts)| *ts != i64::MIN) {
            let latest = met.latest_ts.entry(log).or_insert(ts);
            *latest = ts.max(*latest);
        }
        for (table, n) in (0..).zip(tables).filter(|(_, n)| *n > 0) {
            counters
                .carried
                .extend(self.program.partitions.get(task.block.partition).map(|source| (table, *source)));
            *counters.tables.entry(table).or_default() += n;
        }
        for (reason, n) in &decoded.skipped {
            *counters.skipped.entry(*reason).or_default() += n;
        }
        (known, restarted)
    }

    /// Enters the ids of this worker's parts; gives them as the ledger stores them. Of a repeated id the later message
    /// is named.
    pub(super) fn enter(&mut self, task: &IdTask, duplicates: &mut Vec<Duplicate>) -> Vec<u8> {
        let mut first: Option<BTreeMap<Id, &SeenId>> = None;
        self.entered.clear();
        let mut writer = self.ledger.writer(is_mine(task));
        for seen in mine(task, self.lane) {
            if writer.insert(&seen.id) {
                self.entered.push(seen.id);
                continue;
            }
            // Rare: find the earliest message of each id, so that every later one is named.
            first.get_or_insert_with(|| {
                let mut first = BTreeMap::new();
                for seen in mine(task, self.lane) {
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
            for seen in mine(task, self.lane) {
                let Some(earliest) = first.get(&seen.id).filter(|e| e.order() != seen.order()) else {
                    continue;
                };
                let SeenId { partition, position, ts, .. } = *seen;
                let (lane, restarted) = (self.lane, ts != earliest.ts);
                duplicates.push(Duplicate { partition, position, lane, restarted });
            }
        }
        if self.entered.is_empty() { Vec::new() } else { encode_ids(&mut self.entered) }
    }

    /// Takes the ids of this worker's parts out again.
    pub(super) fn withdraw(&mut self, task: &IdTask) {
        mine(task, self.lane).for_each(|seen| self.ledger.remove(&seen.id));
    }
}

fn decoder(source: &SourceProgram) -> Decoder {
    let decoder = Decoder::new(source.format, source.plan.clone());
    decoder.putting_aside(source.on_refusal == OnRefusal::Quarantine)
}

/// Which parts of the ledger are the worker's.
fn is_mine(task: &IdTask) -> [bool; PARTS] {
    std::array::from_fn(|part| part % task.owners == task.owner)
}

fn mine(task: &IdTask, lane: bool) -> impl Iterator<Item = &SeenId> {
    let is_mine = is_mine(task);
    let mine = move |seen: &&SeenId| is_mine.get(part_of(&seen.id)).copied().unwrap_or_default();
    let lists = if lane { &task.lane_ids } else { &task.ids };
    lists.iter().flat_map(|ids| ids.iter()).filter(mine)
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
