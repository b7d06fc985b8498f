//! Reading ahead: which partition is read next, how much may wait, and when nothing more is to come.

use super::coordinator::Pipeline;
use super::cycle::{Phase, whole};
use super::failure::Failure;
use super::message::{Address, Envelope, Message};
use crate::source::{Block, Partition, Position, Unit};

/// One partition.
pub(super) struct PartitionRun {
    pub(super) source: usize,
    pub(super) partition: Partition,
    /// Applied up to here (in the last assembled commit).
    pub(super) applied: Position,
    /// Read up to here.
    pub(super) next: Position,
    /// Read no further than this.
    pub(super) until: Position,
    pub(super) reading: bool,
    pub(super) at_end: bool,
    /// Where this run began, where positions of partitions cannot be compared; else 0.
    from: Position,
}

impl PartitionRun {
    /// One that is applied up to `applied` and is read up to `until`.
    pub(super) fn new(source: usize, partition: &Partition, (applied, until): (Position, Position)) -> Self {
        let applied = applied.max(partition.begins);
        let from = if partition.unit == Unit::Bytes { 0 } else { applied };
        let partition = partition.clone();
        Self { source, partition, applied, next: applied, until, reading: false, at_end: false, from }
    }

    /// How far it has come in this run, in what a partition is compared with others by.
    fn way(&self) -> u64 {
        self.next.saturating_sub(self.from)
    }

    /// What is applied of it, from where reading began.
    pub(super) fn read(&self) -> u64 {
        self.applied.saturating_sub(self.partition.begins)
    }

    /// What is known to be there, from where reading began.
    pub(super) fn known(&self) -> u64 {
        self.known_end().saturating_sub(self.partition.begins)
    }

    /// As far as it is known to go: to its bound, else to the size at first or what was read since.
    fn known_end(&self) -> Position {
        self.partition.first_size.max(self.applied).min(self.until)
    }
}

/// Blocks that may be read, waiting or being decoded at once, per worker.
const BLOCKS_PER_WORKER: usize = 4;

impl Pipeline {
    /// Reads partition n no further than `until[n]`.
    #[must_use]
    pub fn bounded(mut self, until: &[Position]) -> Self {
        for (number, partition) in self.partitions.iter_mut().enumerate() {
            partition.until = until.get(number).copied().unwrap_or(0);
            partition.at_end = partition.next >= partition.until;
        }
        self
    }

    /// Takes a block in; it waits until the cycle has room.
    pub(super) fn block(&mut self, mut block: Block) {
        let Some(partition) = self.partitions.get_mut(block.partition) else { return };
        partition.reading = false;
        partition.at_end = block.at_end;
        if self.stopping.is_some() || block.start != partition.next {
            return;
        }
        block.truncate(partition.until);
        partition.next = block.end();
        partition.at_end |= partition.next >= partition.until;
        if block.advances() {
            self.held.push_back(block);
        }
    }

    /// A source can give no more: what it has given is committed and told, then the run ends.
    pub(super) fn cannot_read(&mut self, failure: Failure) {
        self.partitions.iter_mut().for_each(|partition| partition.reading = false);
        if self.book.sweep.is_some() {
            self.held.clear(); // nothing of it is begun before the sweep is done
        }
        self.stopping.get_or_insert(Err(failure));
    }

    /// Hands waiting blocks out while the cycle has room.
    pub(super) fn hand_out(&mut self, out: &mut Vec<Envelope>) {
        while self.cycle.phase == Phase::Collect && !self.full() {
            let Some(block) = self.held.pop_front() else { break };
            let task = whole(block, false);
            let worker = self.cycle.admit(task.clone());
            out.push(Message::Decode(task).to(Address::Worker(worker)));
        }
    }

    /// Asks for more where there is more and room for it.
    pub(super) fn read_on(&mut self, out: &mut Vec<Envelope>) {
        let woken = std::mem::take(&mut self.wake);
        if self.stopping.is_some() || self.book.outbox.is_full(self.settings.outbox_rows_max) {
            return;
        }
        let reading = self.partitions.iter().filter(|p| p.reading).count();
        let mut room = (BLOCKS_PER_WORKER * self.settings.workers)
            .saturating_sub(self.held.len() + self.cycle.decoding() + reading);
        let follow = woken && !self.settings.until_end;
        // The partition that is furthest behind in bytes read goes first, so that all advance side by side.
        let mut order: Vec<usize> = (0..self.partitions.len()).collect();
        order.sort_by_key(|n| self.partitions.get(*n).map(PartitionRun::way));
        for number in order {
            let Some(p) = self.partitions.get_mut(number) else { continue };
            if room == 0 || p.reading || (p.at_end && !follow) {
                continue;
            }
            room -= 1;
            p.reading = true;
            let left = match p.partition.unit {
                Unit::Bytes => usize::try_from(p.until.saturating_sub(p.next)).unwrap_or(usize::MAX),
                Unit::Messages => usize::MAX,
            };
            let bytes_max = self.settings.block_bytes.min(left);
            let read = Message::Read { partition: number, offset: p.next, bytes_max };
            out.push(read.to(Address::Source(p.source)));
        }
    }

    /// Says to the sources that number their messages how far they are safe: `positions` of the durable commit.
    pub(super) fn tell_sources(&self, out: &mut Vec<Envelope>) {
        for source in 0..self.program.sources.len() {
            let of_source = self.partitions.iter().enumerate().filter(|(_, p)| p.source == source);
            let numbered = of_source.filter(|(_, p)| p.partition.unit == Unit::Messages);
            let positions: Vec<(usize, Position)> = numbered.map(|(n, p)| (n, p.applied)).collect();
            if !positions.is_empty() {
                out.push(Message::Safe(positions).to(Address::Source(source)));
            }
        }
    }

    /// Nothing is read on before sinks have taken something, and they may wait for the commit of what was read.
    pub(super) fn held_back(&self) -> bool {
        let is_full = self.book.outbox.is_full(self.settings.outbox_rows_max);
        is_full && self.held.is_empty() && !self.partitions.iter().any(|p| p.reading)
    }

    /// Nothing more waits to be read.
    pub(super) fn quiet(&self) -> bool {
        self.held.is_empty() && (self.stopping.is_some() || self.partitions.iter().all(|p| p.at_end))
    }
}
