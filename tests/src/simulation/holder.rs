//! A state sink that outlives crashes, and is not reliable: it breaks off half-way, is away, and loses everything now and then.

use super::check::label_sets;
use retag_host::registry::Registry;
use retag_host::sink::{LabelSet, Owner, SinkError, StateSink, Stored};
use retag_host::state::View;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Of so many calls the last ones break off, and after so many everything is lost.
const BREAKS: (u64, u64) = (41, 2);
const LOSES_EVERY: u64 = 223;

/// Labels by entity and key.
type Sets = BTreeMap<(String, String), Stored>;

/// What it holds.
#[derive(Debug, Default)]
struct Held {
    sets: Sets,
    /// Commit of the last set, and whether a fill has ended; none = nothing is known.
    mark: Option<(u64, bool)>,
    calls: u64,
    /// So many calls find nobody.
    away: u64,
}

/// The sink. Clones share what they hold.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    held: Arc<Mutex<Held>>,
    /// What this process knows: the last commit, where nothing was lost, and that it fills.
    seen: Option<u64>,
    filling: bool,
}

impl Holder {
    /// The sink of another process.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { held: self.held.clone(), ..Self::default() }
    }

    /// Nobody answers the next `calls` calls.
    ///
    /// # Panics
    /// When another thread panicked.
    pub fn leave(&self, calls: u64) {
        self.held.lock().expect("no panic").away = calls;
    }

    fn call(&self, held: &mut Held) -> Result<(), SinkError> {
        if let Some(left) = held.away.checked_sub(1) {
            held.away = left;
            return Err(away());
        }
        held.calls += 1;
        if held.calls.is_multiple_of(LOSES_EVERY) {
            (held.sets, held.mark) = (Sets::new(), None);
        }
        if held.calls % BREAKS.0 >= BREAKS.0 - BREAKS.1 {
            return Err(away());
        }
        Ok(())
    }

    /// Compares it with the label sets of a view; what has no labels may be there, empty.
    ///
    /// # Panics
    /// When it holds others.
    pub fn assert_holds(&self, registry: &Registry, view: &View) {
        let expect = label_sets(registry, view);
        let held = self.held.lock().expect("no panic");
        let mut found = BTreeMap::new();
        for (place, stored) in held.sets.iter().filter(|(_, stored)| !stored.labels.is_empty()) {
            found.insert(place.clone(), stored.labels.clone());
        }
        assert_eq!(found, expect, "what the state sink holds");
    }
}

fn away() -> SinkError {
    SinkError::Away { sink: "held".into(), target: "the holder".into(), reason: "away".into() }
}

impl StateSink for Holder {
    fn resume(&mut self, _: &Owner, memory: Option<&serde_json::Value>, last: u64) -> Result<(), SinkError> {
        let held = self.held.clone();
        let mut held = held.lock().expect("no panic");
        self.call(&mut held)?;
        let remembered = memory.and_then(serde_json::Value::as_u64);
        let seen = self.seen.max(remembered).unwrap_or(0);
        let is_kept = |whole: bool| whole || self.filling;
        self.seen =
            held.mark.filter(|(commit, whole)| is_kept(*whole) && *commit >= seen).map(|(commit, _)| commit);
        assert!(self.seen.is_none_or(|commit| commit <= last), "it holds what the state does not");
        self.filling &= self.seen.is_some();
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.seen.is_some() && !self.filling
    }

    fn lacks(&self, _: &str, _: &str) -> bool {
        self.filling
    }

    fn begin_fill(&mut self, _: bool) -> Result<(), SinkError> {
        let held = self.held.clone();
        let mut held = held.lock().expect("no panic");
        self.call(&mut held)?;
        let commit = held.mark.map_or(0, |(commit, _)| commit);
        held.mark = Some((commit, false));
        (self.filling, self.seen) = (true, Some(commit));
        Ok(())
    }

    fn put(&mut self, sets: &[LabelSet<'_>], _: bool) -> Result<(), SinkError> {
        let held = self.held.clone();
        let mut held = held.lock().expect("no panic");
        let called = self.call(&mut held);
        let Some((last, whole)) =
            held.mark.filter(|(commit, _)| self.seen.is_some_and(|seen| *commit >= seen))
        else {
            (self.seen, self.filling) = (None, false);
            return called;
        };
        let broken_off = if called.is_err() { sets.len() / 2 } else { sets.len() };
        let mut newest = last;
        for set in &sets[..broken_off] {
            let place = (set.entity.to_owned(), set.key.clone());
            if held.sets.get(&place).is_some_and(|stored| stored.version > set.version) {
                continue;
            }
            let labels = set.labels.iter().map(|(l, v)| ((*l).to_owned(), v.map(str::to_owned))).collect();
            let (entity, key) = place.clone();
            newest = newest.max(set.version.commit);
            held.sets.insert(place, Stored { entity, key, labels, version: set.version });
        }
        held.mark = Some((newest, whole));
        called?;
        self.seen = Some(newest);
        Ok(())
    }

    fn end_fill(&mut self) -> Result<(), SinkError> {
        let held = self.held.clone();
        let mut held = held.lock().expect("no panic");
        self.call(&mut held)?;
        match &mut held.mark {
            Some((_, whole)) if self.filling => *whole = true,
            _ => self.seen = None,
        }
        self.filling = false;
        Ok(())
    }

    fn look(&mut self, last: u64) -> Result<(), SinkError> {
        let owner = Owner { epoch: 1, ..Owner::default() };
        self.resume(&owner, None, last)
    }

    fn get(&mut self, keys: &[(&str, &str)]) -> Result<Vec<Option<Stored>>, SinkError> {
        let held = self.held.lock().expect("no panic");
        let of = |(entity, key): &(&str, &str)| held.sets.get(&((*entity).into(), (*key).into())).cloned();
        Ok(keys.iter().map(of).collect())
    }

    fn list(&mut self, first: bool, _: bool) -> Result<Option<Vec<Stored>>, SinkError> {
        let held = self.held.clone();
        let mut held = held.lock().expect("no panic");
        self.call(&mut held)?;
        Ok(first.then(|| held.sets.values().cloned().collect()))
    }

    fn memory(&self) -> serde_json::Value {
        self.seen.filter(|_| !self.filling).into()
    }
}
