//! Where pages begin, as far as reads have met them: a read of a page whose row key is known is a fraction of the search for the
//! last row before a key.
//!
//! A page that is known to begin at or before a key need not be the one that covers it, for it may have been split since. It is
//! if it has any key at or behind it, for pages share no keys; else the search decides. Pages are never removed.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

/// Most starts that are known of one shard: with all shards 262,144, about 16 MB.
const STARTS_MAX: usize = 4096;

/// Known starts, by shard.
#[derive(Debug)]
pub(super) struct PageStarts(Vec<RwLock<BTreeSet<Box<[u8]>>>>);

impl PageStarts {
    /// Nothing is known of `shards` shards.
    pub(super) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| RwLock::default()).collect())
    }

    /// The last known start at or before `key`.
    pub(super) fn before(&self, shard: u8, key: &[u8]) -> Option<Box<[u8]>> {
        let starts = self.0.get(usize::from(shard))?.read().unwrap_or_else(PoisonError::into_inner);
        starts.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back().cloned()
    }

    /// A page begins at `start`.
    pub(super) fn note(&self, shard: u8, start: &[u8]) {
        let Some(starts) = self.0.get(usize::from(shard)) else { return };
        let mut starts = starts.write().unwrap_or_else(PoisonError::into_inner);
        if starts.len() < STARTS_MAX {
            starts.insert(start.into());
        }
    }
}
