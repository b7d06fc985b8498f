//! The open cycle: which blocks were handed out, what came back, and what has to be decoded again when it is voided.
//!
//! A cycle commits whole or not at all. It is voided by a message that needs order (a refusal) and by ids that were
//! sent twice inside it; then its blocks are decoded again, cut before that message or without the repeated ones.

use super::forms::SeenForm;
use super::worker::{BlockReport, Counters, DecodeTask, Duplicate, Published};
use crate::decode::Refusal;
use crate::source::Block;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where the cycle stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Blocks are handed out.
    Collect,
    /// Workers hand over what they gathered.
    Publish,
    /// Owners enter the ids.
    Enter,
    /// Owners take the ids out again: some were sent twice.
    Withdraw,
    /// Owners add to their shards.
    Apply,
}

/// Why the lane cannot go on.
#[derive(Clone, Debug)]
pub(super) enum LaneFault {
    /// A message of this partition is refused.
    Refused(usize, Refusal),
    /// Anything else, in words.
    Other(String),
}

/// The open cycle.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) phase: Phase,
    pub(super) tasks: Vec<DecodeTask>,
    /// Blocks at each worker.
    pub(super) busy: Vec<usize>,
    /// Answers still to come in the phases behind `Collect`.
    pub(super) waiting: usize,
    pub(super) bytes: u64,
    /// Bytes of blocks of the lane.
    pub(super) lane_bytes: u64,
    /// Why the lane cannot go on.
    pub(super) lane_fault: Option<LaneFault>,
    /// The first refused message of each partition.
    pub(super) refusals: BTreeMap<usize, Refusal>,
    /// Forms of the ids, by block.
    pub(super) forms: Vec<SeenForm>,
    pub(super) published: Vec<Published>,
    pub(super) duplicates: Vec<Duplicate>,
    /// The ids of the cycle as the ledger stores them, one piece per owner that has some.
    pub(super) ledger_rows: Vec<Vec<u8>>,
    /// The same of the lane.
    pub(super) lane_rows: Vec<Vec<u8>>,
}

impl Cycle {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            phase: Phase::Collect,
            tasks: Vec::new(),
            busy: vec![0; workers],
            waiting: 0,
            bytes: 0,
            lane_bytes: 0,
            lane_fault: None,
            refusals: BTreeMap::new(),
            forms: Vec::new(),
            published: Vec::new(),
            duplicates: Vec::new(),
            ledger_rows: Vec::new(),
            lane_rows: Vec::new(),
        }
    }

    /// Takes a block in; returns the worker that gets it.
    pub(super) fn admit(&mut self, task: DecodeTask) -> usize {
        *(if task.lane { &mut self.lane_bytes } else { &mut self.bytes }) += task.block.bytes.len() as u64;
        self.tasks.push(task);
        self.least_busy()
    }

    /// The worker with the fewest blocks, which gets one more.
    pub(super) fn least_busy(&mut self) -> usize {
        let worker = (0..self.busy.len()).min_by_key(|w| self.busy.get(*w).copied()).unwrap_or(0);
        if let Some(busy) = self.busy.get_mut(worker) {
            *busy += 1;
        }
        worker
    }

    /// Takes a report in.
    pub(super) fn report(&mut self, report: BlockReport) {
        if let Some(busy) = self.busy.get_mut(report.worker) {
            *busy = busy.saturating_sub(1);
        }
        if report.lane {
            let fault = report.refusal.map(|refusal| LaneFault::Refused(report.partition, refusal));
            self.lane_fault = self.lane_fault.take().or(fault);
            return;
        }
        self.forms.extend(report.form.map(|form| SeenForm::new(report.partition, form)));
        if let Some(refusal) = report.refusal {
            self.refuse(report.partition, refusal);
        }
    }

    /// Notes a refused message, if it is the first one of its partition.
    pub(super) fn refuse(&mut self, partition: usize, refusal: Refusal) {
        let first = self.refusals.entry(partition).or_insert_with(|| refusal.clone());
        if refusal.position < first.position {
            *first = refusal;
        }
    }

    /// Blocks that are being decoded.
    pub(super) fn decoding(&self) -> usize {
        self.busy.iter().sum()
    }

    /// The tasks that decode the cycle again: cut before `refusals`, without `duplicates`.
    pub(super) fn again(&mut self) -> Vec<DecodeTask> {
        let mut again = Vec::new();
        for mut task in std::mem::take(&mut self.tasks) {
            let block = &task.block;
            let refusal = self.refusals.get(&block.partition).filter(|_| !task.lane);
            if let Some(refusal) = refusal {
                if refusal.position <= block.start {
                    continue;
                }
                task.cut = Some(task.cut.unwrap_or(u64::MAX).min(refusal.position));
            }
            let mut skip: Vec<u64> = task.skip.to_vec();
            let mine = |d: &&Duplicate| {
                d.lane == task.lane
                    && d.partition == block.partition
                    && (block.start..block.end()).contains(&d.position)
            };
            skip.extend(self.duplicates.iter().filter(mine).map(|d| d.position));
            skip.sort_unstable();
            skip.dedup();
            task.skip = Arc::new(skip);
            again.push(task);
        }
        again
    }

    /// Position behind the last decoded byte of each partition in this cycle, of the stream or of the lane.
    pub(super) fn ends(&self, lane: bool) -> BTreeMap<usize, u64> {
        let mut ends = BTreeMap::new();
        for task in self.tasks.iter().filter(|task| task.lane == lane) {
            let end = task.cut.map_or(task.block.end(), |cut| cut.min(task.block.end()));
            let last = ends.entry(task.block.partition).or_insert(end);
            *last = end.max(*last);
        }
        ends
    }

    /// All workers' counters, of the stream or of the lane.
    pub(super) fn counters(&self, lane: bool) -> Counters {
        let mut all = Counters::default();
        self.published.iter().for_each(|p| all.add(&p.met(lane).counters));
        all
    }
}

/// A block of the stream or of the lane that nothing is cut from.
pub(super) fn whole(block: Block, lane: bool) -> DecodeTask {
    DecodeTask { lane, block, cut: None, skip: Arc::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(partition: usize, start: u64, length: usize) -> DecodeTask {
        whole(
            Block { partition, start, bytes: Arc::new(vec![b'x'; length]), index: None, at_end: false },
            false,
        )
    }

    fn refusal(position: u64) -> Refusal {
        Refusal { code: "ddl", position, table: String::new(), message: String::new() }
    }

    #[test]
    fn a_refusal_cuts_its_partition_and_leaves_the_others() {
        let mut cycle = Cycle::new(2);
        for task in [block(0, 0, 10), block(0, 10, 10), block(0, 20, 10), block(1, 0, 10)] {
            cycle.admit(task);
        }
        cycle.refusals.insert(0, refusal(15));
        cycle.tasks = cycle.again();
        assert_eq!(cycle.ends(false), BTreeMap::from([(0, 15), (1, 10)]));
        assert_eq!(cycle.tasks.len(), 3);
    }

    #[test]
    fn a_duplicate_is_skipped_in_its_own_block() {
        let mut cycle = Cycle::new(1);
        cycle.admit(block(0, 0, 10));
        cycle.admit(block(1, 0, 10));
        cycle.admit(DecodeTask { lane: true, ..block(1, 0, 10) });
        cycle.duplicates = vec![Duplicate { partition: 1, position: 4, lane: false, restarted: false }];
        let again = cycle.again();
        assert!(again[0].skip.is_empty() && again[2].skip.is_empty());
        assert_eq!(*again[1].skip, [4]);
    }
}
