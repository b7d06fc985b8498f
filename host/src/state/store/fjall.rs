//! The embedded store on disk: one fjall database, a keyspace per table.
//!
//! All keyspaces of a database share one journal and one sequence of batches. A batch takes its number, goes to the
//! journal, then to the tables, and only then moves the number that snapshots read at; a durable one goes to the disk
//! before anybody takes a snapshot of it. So a snapshot holds whole batches over all keyspaces, and after a crash the
//! journal's checksums keep or drop a batch as a whole, always a prefix of what was written.

use super::{Batch, KeyValue, Snapshot, Store, Table, Visit};
use crate::failpoint::{self, Step};
use crate::priority::stand_back;
use crate::state::error::StoreError;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that a table gathers in memory before they become a file; eleven tables bound memory and journal.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Journals beyond this are emptied by writing out the tables that hold them back (the least the store takes).
const JOURNAL_BYTES: u64 = 128 << 20;
/// Cache of blocks read from files.
const CACHE_BYTES: u64 = 64 << 20;
/// Background threads that write out and compact: few, since workers want the cores.
const WORKERS: usize = 2;
/// How far they stand back behind threads that answer, and those that rows go through.
const NICENESS: i32 = 5;

struct Tables {
    path: PathBuf,
    keyspaces: Vec<Keyspace>,
}

/// The store on disk. One process at a time may have it open.
pub struct FjallStore {
    database: Database,
    tables: Arc<Tables>,
}

impl Tables {
    fn error(&self, doing: &'static str, source: &fjall::Error) -> StoreError {
        error(&self.path, doing, source)
    }

    fn keyspace(&self, table: Table) -> Result<&Keyspace, StoreError> {
        let missing = || StoreError::Store {
            doing: "find a table in",
            path: self.path.clone(),
            reason: format!("no table `{}`", table.name()),
        };
        self.keyspaces.get(table as usize).ok_or_else(missing)
    }
}

fn error(path: &Path, doing: &'static str, source: &fjall::Error) -> StoreError {
    let io = match source {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => io,
        other => {
            let reason = match other {
                fjall::Error::Poisoned => {
                    "an earlier write or one in the background failed; look for a full or \
                                           failing disk and start again, no commit is lost"
                        .to_owned()
                }
                fjall::Error::Locked => "another process has it open; stop it".to_owned(),
                other => other.to_string(),
            };
            return StoreError::Store { doing, path: path.to_path_buf(), reason };
        }
    };
    let source = match io.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::new(io.kind(), io.to_string()),
    };
    StoreError::Io { doing, path: path.to_path_buf(), source }
}

impl FjallStore {
    /// Opens the store in directory `path`, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Store`] with the path.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || {
            stand_back(NICENESS); // the store's threads inherit it
            Database::builder(path)
                .cache_size(CACHE_BYTES)
                .max_journaling_size(JOURNAL_BYTES)
                .worker_threads(WORKERS)
                .open()
                .map_err(|source| error(path, "open", &source))
        };
        let failed = |_| StoreError::Io {
            doing: "open",
            path: path.to_path_buf(),
            source: std::io::Error::other("the thread that opens it failed"),
        };
        let database = std::thread::scope(|scope| scope.spawn(open).join()).map_err(failed)??;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspaces = Table::ALL
            .iter()
            .map(|table| database.keyspace(table.name(), options))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| error(path, "open", &source))?;
        let tables = Arc::new(Tables { path: path.to_path_buf(), keyspaces });
        Ok(Self { database, tables })
    }

    /// Bytes on disk, journals included.
    ///
    /// # Errors
    /// [`StoreError::Io`] with the path.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.database.disk_space().map_err(|source| self.tables.error("measure", &source))
    }
}

impl Store for FjallStore {
    fn commit(&self, batch: Batch, durable: bool) -> Result<(), StoreError> {
        let mut write = self.database.batch().durability(Some(PersistMode::Buffer));
        for (table, key, value) in batch.rows {
            let keyspace = self.tables.keyspace(table)?;
            match value {
                Some(value) => write.insert(keyspace, key, value),
                None => write.remove(keyspace, key),
            }
        }
        write.commit().map_err(|source| self.tables.error("write to", &source))?;
        if durable {
            failpoint::hit(Step::Fsync);
            self.database
                .persist(PersistMode::SyncAll)
                .map_err(|source| self.tables.error("write to", &source))?;
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(FjallSnapshot { snapshot: self.database.snapshot(), tables: Arc::clone(&self.tables) }))
    }
}

struct FjallSnapshot {
    snapshot: fjall::Snapshot,
    tables: Arc<Tables>,
}

impl FjallSnapshot {
    fn last(&self, table: Table, to: Bound<&[u8]>) -> Result<Option<KeyValue>, StoreError> {
        let bounds = (Bound::Unbounded, to);
        let last = self.snapshot.range::<&[u8], _>(self.tables.keyspace(table)?, bounds).next_back();
        let Some(row) = last else { return Ok(None) };
        let (key, value) = row.into_inner().map_err(|source| self.tables.error("read", &source))?;
        Ok(Some((key.to_vec(), value.to_vec())))
    }
}

impl Snapshot for FjallSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.snapshot.get(self.tables.keyspace(table)?, key);
        Ok(value.map_err(|source| self.tables.error("read", &source))?.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StoreError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        for row in self.snapshot.range::<&[u8], _>(self.tables.keyspace(table)?, bounds) {
            let (key, value) = row.into_inner().map_err(|source| self.tables.error("read", &source))?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn last_at_or_before(&self, table: Table, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.last(table, Bound::Included(key))
    }

    fn last_before(&self, table: Table, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.last(table, Bound::Excluded(key))
    }
}
