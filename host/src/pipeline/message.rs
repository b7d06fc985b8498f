//! What the parts of the engine say to each other. Every part is an [`Actor`]: one message in, messages out.

use super::command::Submitted;
use super::deliver::Report;
use super::failure::Failure;
use super::lane::Lane;
use super::program::Program;
use super::worker::{Applied, ApplyTask, BlockReport, DecodeTask, Duplicate, IdTask, Published};
use crate::label::outbox::Place;
use crate::source::{Block, SourceError};
use crate::state::{Commit, View};
use std::sync::Arc;

/// Who a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// The coordinator of the cycles.
    Pipeline,
    /// Reader of source n.
    Source(usize),
    /// Worker n.
    Worker(usize),
    /// The only writer of the store.
    Committer,
    /// Sink n.
    Sink(usize),
}

/// A message on its way.
#[derive(Debug)]
pub struct Envelope {
    /// Who gets it.
    pub to: Address,
    /// What it says.
    pub message: Message,
}

/// All messages.
#[derive(Debug)]
pub enum Message {
    /// Pipeline → source: read on.
    Read {
        /// Partition.
        partition: usize,
        /// From this position.
        offset: u64,
        /// About this many bytes.
        bytes_max: usize,
    },
    /// Source → pipeline.
    Block(Block),
    /// Pipeline → source: read again what was read before, for lane `lane`.
    ReadAgain {
        /// Its number.
        lane: u64,
        /// Partition.
        partition: usize,
        /// From this position.
        offset: u64,
        /// About this many bytes.
        bytes_max: usize,
        /// No further than this, where a message ends.
        until: u64,
    },
    /// Source → pipeline.
    BlockAgain {
        /// Number of the lane.
        lane: u64,
        /// Partition.
        partition: usize,
        /// The block, or what stands in the way.
        block: Result<Block, SourceError>,
    },
    /// Pipeline → source: everything in front of these positions of its partitions is safe.
    Safe(Vec<(usize, u64)>),
    /// Pipeline → worker: decode and run the rules.
    Decode(DecodeTask),
    /// Worker → pipeline.
    Decoded(BlockReport),
    /// Pipeline → worker: forget what the open cycle gathered (it is voided).
    Discard,
    /// Pipeline → worker: hand over what the cycle gathered.
    Publish,
    /// Worker → pipeline.
    Published(Box<Published>),
    /// Pipeline → worker: enter the ids of your parts of the ledger.
    Enter(IdTask),
    /// Worker → pipeline: the ids that were sent twice in this cycle.
    Entered {
        /// The later of two equal ones.
        duplicates: Vec<Duplicate>,
        /// The ids of the worker's parts, as the ledger stores them; empty where there are none.
        ids: Vec<u8>,
        /// The same of the lane.
        lane_ids: Vec<u8>,
    },
    /// Pipeline → worker: take these ids out again (the cycle is voided).
    Withdraw(IdTask),
    /// Pipeline → worker: add to your shards and evaluate labels.
    Apply(Box<ApplyTask>),
    /// Worker → pipeline.
    Applied(Box<Applied>),
    /// Pipeline → committer.
    Commit(Box<Commit>),
    /// Committer → pipeline: the view of a commit, after its fsync.
    Durable(Arc<View>),
    /// Committer → itself: fold a little.
    Fold,
    /// Committer → pipeline: the same commit, folded.
    Folded(Arc<View>),
    /// Pipeline → sink: deliver what stands behind your cursor.
    Deliver {
        /// From this view.
        view: Arc<View>,
        /// The outbox let go of what stood before this.
        skip_to: Option<Place>,
    },
    /// Sink → pipeline: how far it came.
    Delivered {
        /// Sink.
        sink: usize,
        /// What is safe, and when to go on.
        report: Box<Report>,
    },
    /// People → pipeline: do this at the next barrier.
    Command(Box<Submitted>),
    /// Pipeline → worker: this is what runs from now on.
    Program {
        /// What runs.
        program: Arc<Program>,
        /// History that is read beside the stream.
        lane: Option<Lane>,
        /// Spaces that have ended.
        dropped: Arc<Vec<u32>>,
    },
    /// Driver → pipeline: time goes on.
    Tick,
    /// Driver → pipeline: finish the open cycle, commit, stop. Pipeline → all: stop.
    Stop,
    /// Anyone → pipeline: this part cannot go on.
    Failed(Box<Failure>),
}

/// A part of the engine.
pub trait Actor: Send {
    /// Takes one message at engine time `now` (µs) and says what follows.
    fn step(&mut self, message: Message, now: i64, out: &mut Vec<Envelope>);
}

impl Message {
    /// Puts the message into an envelope.
    #[must_use]
    pub fn to(self, to: Address) -> Envelope {
        Envelope { to, message: self }
    }
}
