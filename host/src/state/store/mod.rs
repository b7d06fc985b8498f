//! The store below the state: tables of bytes, batches that happen whole or not at all, snapshots. Small and object
//! safe, so that tests put a failing one in its place.

mod fjall;
mod mem;

pub use fjall::FjallStore;
pub use mem::MemStore;

use super::error::StoreError;
use std::sync::Arc;

/// The tables of a state. Names and numbers are fixed for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Small facts: last commit, shards, and what the pipeline keeps (keys that do not begin with 0x00).
    Meta = 0,
    /// Delta blocks: shard u8, commit u64 BE → block. Written by the state only.
    Blocks = 1,
    /// Pages: shard u8, lowest key → page. Written by the state only.
    Pages = 2,
    /// Member bitmaps. Written by the state only.
    Members = 3,
    /// Keys by ordinal. Written by the state only.
    Dictionary = 4,
    /// Timers of the pipeline.
    Timers = 5,
    /// Change ids already applied.
    Ledger = 6,
    /// Transitions not yet delivered.
    Outbox = 7,
    /// Images and messages set aside.
    Quarantine = 8,
    /// Entries of counted sets that are too long for a page. Written by the state only.
    Sets = 9,
    /// Messages that the receivers of sinks refused.
    DeadLetters = 10,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: [Table; 11] = [
        Table::Meta,
        Table::Blocks,
        Table::Pages,
        Table::Members,
        Table::Dictionary,
        Table::Timers,
        Table::Ledger,
        Table::Outbox,
        Table::Quarantine,
        Table::Sets,
        Table::DeadLetters,
    ];

    /// Its name in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Blocks => "blocks",
            Table::Pages => "pages",
            Table::Members => "members",
            Table::Dictionary => "dictionary",
            Table::Timers => "timers",
            Table::Ledger => "ledger",
            Table::Outbox => "outbox",
            Table::Quarantine => "quarantine",
            Table::Sets => "sets",
            Table::DeadLetters => "dead_letters",
        }
    }

    /// Only the state itself writes this table.
    pub(super) fn is_own(self) -> bool {
        matches!(self, Table::Blocks | Table::Pages | Table::Members | Table::Dictionary | Table::Sets)
    }
}

/// One row of a batch: table, key, and the new value or none to remove it.
pub type Row = (Table, Vec<u8>, Option<Vec<u8>>);

/// Rows that are written together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The rows; of two with one key the later wins.
    pub rows: Vec<Row>,
}

impl Batch {
    /// Writes a row.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.rows.push((table, key.into(), Some(value.into())));
    }

    /// Removes a row.
    pub fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.rows.push((table, key.into(), None));
    }
}

impl Batch {
    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(|(_, key, value)| (key.len() + value.as_ref().map_or(0, Vec::len)) as u64).sum()
    }
}

/// What was handed to a store since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Durable batches: each waits for the disk once.
    pub fsyncs: u64,
    /// Bytes of keys and values; what the store adds to them on disk is its own.
    pub bytes: u64,
}

/// A row's key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// Takes a key and its value; false ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// A durable, ordered store. One writer at a time.
pub trait Store: Send + Sync {
    /// Writes `batch` whole or not at all. If `durable`, it and all batches before it survive a crash once this
    /// returns; otherwise a crash may lose it, but only together with all batches after it.
    ///
    /// # Errors
    /// Whatever the store says; then it is unknown whether the batch is stored until the store is opened again.
    fn commit(&self, batch: Batch, durable: bool) -> Result<(), StoreError>;

    /// The state after the last batch, over all tables at once; later batches do not change it.
    ///
    /// # Errors
    /// Whatever the store says.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError>;
}

/// The store as it was at one moment.
pub trait Snapshot: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// Whatever the store says.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits rows with `from` <= key < `to` (no `to`: up to the end) in key order until `visit` answers false.
    ///
    /// # Errors
    /// Whatever the store says.
    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StoreError>;

    /// The row with the greatest key that is <= `key`.
    ///
    /// # Errors
    /// Whatever the store says.
    fn last_at_or_before(&self, table: Table, key: &[u8]) -> Result<Option<KeyValue>, StoreError>;

    /// The row with the greatest key that is < `key`.
    ///
    /// # Errors
    /// Whatever the store says.
    fn last_before(&self, table: Table, key: &[u8]) -> Result<Option<KeyValue>, StoreError>;
}
