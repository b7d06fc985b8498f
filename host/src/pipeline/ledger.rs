//! The ledger as the workers share it: everyone asks, only the owner of a part enters, and only between decodes.

use crate::state::ledger::{Id, LedgerPart, LogId, LogTable, PARTS, part_of};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The set of change ids already applied.
pub struct Ledger {
    parts: Vec<RwLock<LedgerPart>>,
    logs: RwLock<LogTable>,
}

impl Ledger {
    /// A ledger with these logs and ids.
    pub fn new(logs: LogTable, ids: impl IntoIterator<Item = Id>) -> Self {
        let mut parts: Vec<LedgerPart> = (0..PARTS).map(|_| LedgerPart::default()).collect();
        for id in ids {
            if let Some(part) = parts.get_mut(part_of(&id)) {
                part.insert(&id);
            }
        }
        Self { parts: parts.into_iter().map(RwLock::new).collect(), logs: RwLock::new(logs) }
    }

    /// The number of a log's name.
    pub fn intern(&self, producer: &str, log: &str) -> LogId {
        self.logs.write().unwrap_or_else(PoisonError::into_inner).intern(producer, log)
    }

    /// Whether a known id with this `ts` means that the log was restarted under the same name.
    pub fn is_restarted(&self, log: LogId, ts: i64) -> bool {
        self.logs.read().unwrap_or_else(PoisonError::into_inner).is_restarted(log, ts)
    }

    /// Notes that `ts` was entered for a log.
    pub fn entered(&self, log: LogId, ts: i64) {
        self.logs.write().unwrap_or_else(PoisonError::into_inner).enter(log, ts);
    }

    /// The bytes of the log table, to store.
    pub fn logs(&self) -> Vec<u8> {
        self.logs.read().unwrap_or_else(PoisonError::into_inner).encode()
    }

    /// A reader of all parts, for the length of one block.
    pub fn reader(&self) -> LedgerReader<'_> {
        LedgerReader(self.parts.iter().map(|p| p.read().unwrap_or_else(PoisonError::into_inner)).collect())
    }

    /// A writer of the parts that are `mine`, for the length of one commit.
    pub fn writer(&self, mine: [bool; PARTS]) -> LedgerWriter<'_> {
        let parts = self.parts.iter().zip(mine);
        let locked =
            parts.map(|(part, mine)| mine.then(|| part.write().unwrap_or_else(PoisonError::into_inner)));
        LedgerWriter(locked.collect())
    }

    /// Takes an id out again.
    pub fn remove(&self, id: &Id) {
        if let Some(part) = self.parts.get(part_of(id)) {
            part.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }

    /// Number of ids.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|p| p.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All parts of the ledger, held for reading.
pub struct LedgerReader<'a>(Vec<RwLockReadGuard<'a, LedgerPart>>);

impl LedgerReader<'_> {
    /// Whether the id was applied in an earlier commit.
    pub fn contains(&self, id: &Id) -> bool {
        self.0.get(part_of(id)).is_some_and(|part| part.contains(id))
    }
}

/// Some parts of the ledger, held for writing.
pub struct LedgerWriter<'a>(Vec<Option<RwLockWriteGuard<'a, LedgerPart>>>);

impl LedgerWriter<'_> {
    /// Enters an id of one of these parts; false when it was there, or its part is not one of them.
    pub fn insert(&mut self, id: &Id) -> bool {
        self.0.get_mut(part_of(id)).and_then(Option::as_mut).is_some_and(|part| part.insert(id))
    }
}
