//! A label generation is swept: all keys are evaluated for it, then the pointer is flipped in one commit, then what
//! differs is told and the old generation goes. Slice by slice, each in a commit that carries the cursor, so that a
//! crash in the middle goes on where it was. Nothing is read from the sources meanwhile.

use crate::label::Cause;
use crate::registry::{Generation, GenerationState, Registry};
use crate::state::SHARDS;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Key of the stored sweep in the `Meta` table.
pub const SWEEP: &[u8] = b"sweep";
/// Number of the generation that a rule without labels comes from or goes to; nothing has it.
pub const NO_SPACE: u32 = 0;
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

    fn all_done(&self) -> bool {
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
                self.cursors.fill(None);
                self.done.fill(false);
                (Some(self), Vec::new(), true)
            }
            Stage::Tell => {
                let old = self.pairs.iter().map(|p| p.old.space);
                (None, old.filter(|space| *space != NO_SPACE).collect(), true)
            }
        }
    }
}

fn set_state(registry: &mut Registry, space: u32, state: GenerationState) {
    if let Some(generation) = registry.generations.iter_mut().find(|g| g.space == space) {
        generation.state = state;
    }
}
