//! A store in memory, for tests and the simulation: it can be told to fail, and to crash, which loses every batch after
//! the last durable one. Clones are handles to one store, so it can be opened again after a crash.

use super::{Batch, KeyValue, Snapshot, Store, Table, Visit};
use crate::state::error::StoreError;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Rows = BTreeMap<Vec<u8>, Arc<[u8]>>;
type Tables = [Arc<Rows>; Table::ALL.len()];

#[derive(Default)]
struct Inner {
    current: Tables,
    durable: Tables,
    /// The tables after each batch since the last durable one.
    pending: Vec<Tables>,
    writes: u64,
    writes_left: Option<u64>,
}

/// The store in memory.
#[derive(Clone, Default)]
pub struct MemStore {
    inner: Arc<Mutex<Inner>>,
}

impl MemStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After `writes` more batches every commit fails, until [`MemStore::heal`] or [`MemStore::crash`].
    pub fn fail_after(&self, writes: u64) {
        self.lock().writes_left = Some(writes);
    }

    /// Commits succeed again.
    pub fn heal(&self) {
        self.lock().writes_left = None;
    }

    /// Loses all batches after the last durable one and heals. Snapshots taken before stay as they are.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Like [`MemStore::crash`], but the first `kept` batches after the last durable one survive, as a disk may have
    /// them.
    pub fn crash_keeping(&self, kept: usize) {
        let mut inner = self.lock();
        inner.pending.truncate(kept);
        let survivor = inner.pending.pop().unwrap_or_else(|| inner.durable.clone());
        inner.pending.clear();
        inner.durable = survivor.clone();
        inner.current = survivor;
        inner.writes_left = None;
    }

    /// Batches written since the store was made.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Number of rows in `table`.
    #[must_use]
    pub fn rows(&self, table: Table) -> usize {
        self.lock().current.get(table as usize).map_or(0, |rows| rows.len())
    }
}

impl Store for MemStore {
    fn commit(&self, batch: Batch, durable: bool) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.writes_left == Some(0) {
            let reason = "made to fail".to_owned();
            return Err(StoreError::Store { doing: "write to", path: PathBuf::from("memory"), reason });
        }
        inner.writes_left = inner.writes_left.map(|left| left - 1);
        inner.writes += 1;
        for (table, key, value) in batch.rows {
            let Some(rows) = inner.current.get_mut(table as usize) else { continue };
            let rows = Arc::make_mut(rows);
            match value {
                Some(value) => rows.insert(key, value.into()),
                None => rows.remove(&key),
            };
        }
        let tables = inner.current.clone();
        if durable {
            inner.durable = tables;
            inner.pending.clear();
        } else {
            inner.pending.push(tables);
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(MemSnapshot { tables: self.lock().current.clone() }))
    }
}

struct MemSnapshot {
    tables: Tables,
}

impl MemSnapshot {
    fn rows(&self, table: Table) -> impl std::ops::Deref<Target = Rows> {
        self.tables.get(table as usize).cloned().unwrap_or_default()
    }

    fn last(&self, table: Table, to: Bound<&[u8]>) -> Option<KeyValue> {
        let rows = self.rows(table);
        let last = rows.range::<[u8], _>((Bound::Unbounded, to)).next_back();
        last.map(|(key, value)| (key.clone(), value.to_vec()))
    }
}

impl Snapshot for MemSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows(table).get(key).map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StoreError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        for (key, value) in self.rows(table).range::<[u8], _>(bounds) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last_at_or_before(&self, table: Table, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.last(table, Bound::Included(key)))
    }

    fn last_before(&self, table: Table, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.last(table, Bound::Excluded(key)))
    }
}
