//! What a sink is doing, for people, and what people ask of it. The deliverer writes and obeys; answers read.

use crate::label::outbox::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a sink is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// It gets what changes.
    #[default]
    Delivering,
    /// It is filled with everything, or with what it lost, and gets what changes meanwhile.
    Resyncing,
    /// What it holds is compared.
    Verifying,
    /// It is sent dead letters again; what is new waits meanwhile.
    Replaying,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// Commit at which it ended.
    pub commit: u64,
    /// Keys with labels that were compared.
    pub compared: u64,
    /// Keys that the sink does not have.
    pub missing: u64,
    /// Keys whose labels are others there.
    pub differing: u64,
    /// Keys that have labels there and none here.
    pub extra: u64,
    /// Up to 20 keys that are not right, as `ENTITY/KEY`.
    pub samples: Vec<String>,
}

impl Verified {
    /// Most keys that are named.
    const SAMPLES_MAX: usize = 20;

    /// Names a key that is not right.
    pub(crate) fn name(&mut self, entity: &str, key: &str) {
        if self.samples.len() < Self::SAMPLES_MAX {
            self.samples.push(format!("{entity}/{key}"));
        }
    }

    /// Nothing is wrong.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.missing == 0 && self.differing == 0 && self.extra == 0
    }
}

/// What is asked of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Bring everything again, and take away what should not be there.
    Resync,
    /// Make the keys right that carry this label, here or there.
    Repair(String),
    /// Compare.
    Verify,
}

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that there are.
    All,
    /// Those at these places.
    At(BTreeSet<Place>),
}

/// What is asked to be done with dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Send them again.
    Replay(Which),
    /// Drop them.
    Drop(Which),
}

/// What became of dead letters that something was asked for, since the host started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Worked {
    /// Replays and drops that ended.
    pub ended: u64,
    /// Of the last one: letters that were taken.
    pub taken: u64,
    /// Letters that were refused again.
    pub refused: u64,
    /// Letters that were dropped.
    pub dropped: u64,
    /// Why it ended early; null where it did not.
    pub broke_off: Option<String>,
}

/// What a sink is doing, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// What it is doing.
    pub doing: Doing,
    /// A resync or a comparison is asked of it that has not begun.
    #[serde(default)]
    pub asked: bool,
    /// What it waits for; null where it does not wait.
    pub waits_for: Option<String>,
    /// It holds everything; null for sinks that are told of changes only.
    pub whole: Option<bool>,
    /// Keys that the resync or comparison under way has gone over, else the last one.
    pub keys: u64,
    /// Resyncs that ended since the host started.
    pub resyncs: u64,
    /// Comparisons that ended since the host started.
    pub comparisons: u64,
    /// What the last comparison since the start of the host found.
    pub verified: Option<Verified>,
    /// What became of dead letters.
    pub letters: Worked,
    /// First place that it has not got, which the state's next commit will say.
    #[serde(skip)]
    pub next: Option<Place>,
}

/// What is asked and has not begun.
#[derive(Debug, Default)]
struct Asking {
    resync: bool,
    labels: BTreeSet<String>,
    verify: bool,
    letters: Option<Wish>,
}

impl Asking {
    /// Most labels; where more are to be repaired everything is brought.
    const LABELS_MAX: usize = 16;

    fn add(&mut self, what: Asked) {
        match what {
            Asked::Resync => self.resync = true,
            Asked::Verify => self.verify = true,
            Asked::Repair(label) => _ = self.labels.insert(label),
        }
        self.resync |= self.labels.len() > Self::LABELS_MAX;
        if self.resync {
            self.labels.clear(); // everything is more
        }
    }

    fn is_some(&self) -> bool {
        self.resync || self.verify || !self.labels.is_empty()
    }

    fn take(&mut self, is_busy: bool) -> Option<Asked> {
        if std::mem::take(&mut self.resync) {
            return Some(Asked::Resync);
        }
        if is_busy {
            return None;
        }
        let repair = self.labels.pop_first().map(Asked::Repair);
        repair.or_else(|| std::mem::take(&mut self.verify).then_some(Asked::Verify))
    }
}

/// Shared between a sink's thread and those who read.
#[derive(Debug, Default)]
pub struct Progress {
    shown: Mutex<Shown>,
    asked: Mutex<Asking>,
}

impl Progress {
    fn seen(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Asking> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is doing now.
    #[must_use]
    pub fn shown(&self) -> Shown {
        self.seen().clone()
    }

    /// Changes what is shown.
    pub(crate) fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.seen());
    }

    /// Asks something of the sink: what mends comes before what compares.
    pub fn ask(&self, what: Asked) {
        self.asked().add(what);
        self.show(|shown| shown.asked = true);
    }

    /// Something is asked and has not begun.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        let asked = self.asked();
        asked.is_some() || asked.letters.is_some()
    }

    /// Something that was asked, or that the sink needs, begins; what else is asked is still to come.
    pub(crate) fn begins(&self, doing: Doing) {
        self.show(|shown| (shown.doing, shown.asked) = (doing, self.asked().is_some()));
    }

    /// Asks something for dead letters; false where something else is asked and has not begun.
    #[must_use]
    pub fn ask_letters(&self, wish: Wish) -> bool {
        let mut asked = self.asked();
        let is_free = asked.letters.is_none();
        if is_free {
            asked.letters = Some(wish);
        }
        is_free
    }

    /// Something is asked for dead letters, which does not wait for the next try of a delivery.
    #[must_use]
    pub(crate) fn has_letters_asked(&self) -> bool {
        self.asked().letters.is_some()
    }

    /// What is asked for dead letters, once.
    pub(crate) fn take_letters(&self) -> Option<Wish> {
        self.asked().letters.take()
    }

    /// What is asked, once; while something else is under way only what takes its place.
    pub(crate) fn take(&self, is_busy: bool) -> Option<Asked> {
        self.asked().take(is_busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_taken_once_and_samples_are_few() {
        let progress = Progress::default();
        assert!(!progress.is_asked() && progress.take(false).is_none());
        progress.ask(Asked::Verify);
        progress.ask(Asked::Resync);
        assert!(progress.is_asked() && progress.shown().asked);
        assert_eq!((progress.take(true), progress.take(true)), (Some(Asked::Resync), None));
        progress.begins(Doing::Resyncing);
        assert!(progress.shown().asked, "the comparison is still to come");
        assert_eq!((progress.take(true), progress.take(false)), (None, Some(Asked::Verify)));
        progress.begins(Doing::Verifying);
        assert!(!progress.shown().asked);
        for label in ["b", "a"] {
            progress.ask(Asked::Repair(label.to_owned()));
        }
        assert_eq!(progress.take(false), Some(Asked::Repair("a".to_owned())));
        (0..=16).for_each(|n| progress.ask(Asked::Repair(n.to_string())));
        assert_eq!((progress.take(false), progress.take(false)), (Some(Asked::Resync), None));
        let mut verified = Verified::default();
        (0..100).for_each(|n| verified.name("user", &n.to_string()));
        assert_eq!(verified.samples.len(), 20);
        assert!(verified.is_right());
        verified.extra = 1;
        assert!(!verified.is_right());
    }
}
