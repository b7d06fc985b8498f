//! Goes over all keys of the state and over all that a state sink holds, a slice at a time: to bring everything and take away
//! what should not be there, or to compare. Between two slices the sink is given what changed, so a slice sees in it what the
//! view has.

use super::states::Sets;
use crate::pipeline::failure::Failure;
use crate::sink::progress::{Asked, Doing, Verified};
use crate::sink::{LabelSet, StateSink, Stored, Version};
use crate::state::{SHARDS, split_entity_key};

/// Keys of the state in one slice.
const KEYS_PER_SLICE: usize = 20_000;
/// Lists of what the sink holds in one slice.
const LISTS_PER_SLICE: usize = 10;

/// What it is done for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The sink holds the right things afterwards: everything, or those that lie in its parts that are not whole.
    Resync { everything: bool },
    /// What it holds of keys that carry a label, here or there, is right afterwards.
    Repair { label: String },
    /// It is known what it does not hold right.
    Verify,
}

/// How far it is.
#[derive(Debug)]
pub(super) struct Fill {
    purpose: Purpose,
    /// The first commit as of which something was brought.
    begun: u64,
    /// Shard of the state that is gone over; behind the last one comes the sink.
    shard: usize,
    after: Option<Box<[u8]>>,
    /// The sink has begun to list what it holds.
    listing: bool,
    keys: u64,
    verified: Verified,
}

impl Fill {
    pub(super) fn new(purpose: Purpose, commit: u64) -> Self {
        Self {
            purpose,
            begun: commit,
            shard: 0,
            after: None,
            listing: false,
            keys: 0,
            verified: Verified::default(),
        }
    }

    pub(super) fn is_resync(&self) -> bool {
        matches!(self.purpose, Purpose::Resync { .. })
    }

    /// What is to be asked again where a resync takes its place.
    pub(super) fn asked(&self) -> Option<Asked> {
        match &self.purpose {
            Purpose::Resync { .. } => None,
            Purpose::Repair { label } => Some(Asked::Repair(label.clone())),
            Purpose::Verify => Some(Asked::Verify),
        }
    }

    fn mends(&self) -> bool {
        self.purpose != Purpose::Verify
    }

    pub(super) fn doing(&self) -> Doing {
        if self.mends() { Doing::Resyncing } else { Doing::Verifying }
    }

    /// What is stored may have to be changed, or told.
    fn concerns(&self, stored: &Stored) -> bool {
        match &self.purpose {
            // What nobody can read is put right, whatever it was.
            Purpose::Repair { label } => is_unread(stored) || stored.labels.contains_key(label),
            _ => true,
        }
    }

    /// Keys that were gone over.
    pub(super) fn keys(&self) -> u64 {
        self.keys
    }

    /// What was found, where it was looked for.
    pub(super) fn verified(&self, commit: u64) -> Option<Verified> {
        (!self.mends()).then(|| Verified { commit, ..self.verified.clone() })
    }

    /// Does one slice; true where that was the last.
    pub(super) fn step(&mut self, sink: &mut dyn StateSink, sets: &Sets<'_>) -> Result<bool, Failure> {
        if self.shard < SHARDS {
            self.of_state(sink, sets)?;
            return Ok(false);
        }
        let done = self.list(sink, sets);
        if done.is_err() && self.mends() {
            // What was taken away and not brought again is not listed any more.
            (self.shard, self.after, self.listing) = (0, None, false);
        }
        done
    }

    fn list(&mut self, sink: &mut dyn StateSink, sets: &Sets<'_>) -> Result<bool, Failure> {
        for _ in 0..LISTS_PER_SLICE {
            let listed = sink.list(!self.listing, self.mends())?;
            self.listing = true;
            let Some(listed) = listed else { return Ok(true) };
            self.of_sink(sink, sets, &listed)?;
        }
        Ok(false)
    }

    /// Some of what the sink holds.
    fn of_sink(
        &mut self,
        sink: &mut dyn StateSink,
        sets: &Sets<'_>,
        listed: &[Stored],
    ) -> Result<(), Failure> {
        self.keys += listed.len() as u64;
        let mut wrong = Vec::new();
        for stored in listed {
            let is_begun = stored.version.epoch == sets.version.epoch && stored.version.commit >= self.begun;
            if self.is_resync() && is_begun || !self.concerns(stored) {
                continue;
            }
            let set = sets.of_text(&stored.entity, &stored.key)?.unwrap_or_else(|| LabelSet {
                entity: &stored.entity,
                key: stored.key.clone(),
                labels: Default::default(),
                version: sets.version,
            });
            if self.mends() {
                wrong.push(set);
            } else if is_extra(&set, stored) {
                self.verified.extra += 1;
                self.verified.name(&stored.entity, &stored.key);
            }
        }
        if !wrong.is_empty() {
            sink.put(&wrong, true)?;
        }
        Ok(())
    }

    /// A slice of the state's keys.
    fn of_state(&mut self, sink: &mut dyn StateSink, sets: &Sets<'_>) -> Result<(), Failure> {
        let (mut shard, mut after, mut keys) = (self.shard, self.after.clone(), 0);
        let mut found = Vec::new();
        while shard < SHARDS && keys < KEYS_PER_SLICE {
            let wanted = KEYS_PER_SLICE - keys;
            let records = sets.view.scan_brief(shard, after.as_deref(), wanted)?;
            keys += records.len();
            for (key, record) in &records {
                let Some((entity, bytes)) = split_entity_key(key) else { continue };
                let Some(known) = sets.registry.entities.get(usize::from(entity)) else { continue };
                let set = sets.of_record((entity, known), bytes, Some(record));
                if !set.labels.is_empty() && self.wants(sink, &set) {
                    found.push(set);
                }
            }
            match records.into_iter().nth(wanted - 1) {
                Some((last, _)) => after = Some(last),
                None => (shard, after) = (shard + 1, None),
            }
        }
        if !found.is_empty() && self.mends() {
            sink.put(&found, true)?;
        } else if !found.is_empty() {
            self.compare(sink, &found)?;
        }
        // Only now: a slice that failed is done again. One that fails later leaves parts that are not whole.
        (self.shard, self.after) = (shard, after);
        self.keys += keys as u64;
        Ok(())
    }

    fn wants(&self, sink: &dyn StateSink, set: &LabelSet<'_>) -> bool {
        match &self.purpose {
            Purpose::Resync { everything } => *everything || sink.lacks(set.entity, &set.key),
            Purpose::Repair { label } => set.labels.contains_key(label.as_str()),
            Purpose::Verify => true,
        }
    }

    fn compare(&mut self, sink: &mut dyn StateSink, sets: &[LabelSet<'_>]) -> Result<(), Failure> {
        let keys: Vec<(&str, &str)> = sets.iter().map(|set| (set.entity, set.key.as_str())).collect();
        for (set, stored) in sets.iter().zip(sink.get(&keys)?) {
            self.verified.compared += 1;
            // One that is newer than all that the host has written would never be written over.
            let is_ahead = stored.as_ref().is_some_and(|stored| stored.version > set.version);
            if set.is(stored.as_ref()) && !is_ahead {
                continue;
            }
            match stored {
                Some(_) => self.verified.differing += 1,
                None => self.verified.missing += 1,
            }
            self.verified.name(set.entity, &set.key);
        }
        Ok(())
    }
}

/// A key has something there that it does not have here, which comparing the keys of the state does not tell.
fn is_extra(set: &LabelSet<'_>, stored: &Stored) -> bool {
    if set.labels.is_empty() && (is_unread(stored) || stored.version > set.version) {
        return true;
    }
    let is_told = !set.labels.is_empty() && stored.version != Version::default();
    let is_right = |(label, value): (&String, &Option<String>)| {
        set.labels.get(label.as_str()).is_some_and(|here| *here == value.as_deref())
    };
    !is_told && !stored.labels.iter().all(is_right)
}

/// It is no record of ours.
fn is_unread(stored: &Stored) -> bool {
    stored.version == Version::default() && stored.labels.is_empty()
}
