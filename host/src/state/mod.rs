//! The state: storage of sums, and nothing that knows what is summed. Imports no stage.
//!
//! `key` (hash, shard) and `cell` (slots, records, changes) are what shard owners work on; `block` is what a commit
//! writes per shard, `page` rows hold the folded sum of blocks, both being sorted runs (`run`). `writer` commits and
//! publishes a `view` per commit (pages + overlay of durable unfolded blocks + member bitmaps); `fold` turns overlay
//! into pages. `store` is the table of bytes below, `dir` the directory that one process owns.

mod block;
mod cell;
mod dictionary;
mod digest;
mod dir;
mod error;
mod fold;
mod key;
mod members;
pub mod ledger;
mod merge;
mod meta;
mod overlay;
mod page;
mod page_cache;
mod page_starts;
mod run;
mod set;
mod set_rows;
mod short;
mod store;
mod varint;
mod view;
mod writer;

pub use block::{BlockReader, BlockWriter, Entries, Entry, Life, ShardBlock};
pub use cell::{Cell, Change, KindMismatch, Record, Slot};
pub use digest::digest_of;
pub use dir::{StateDir, this_process};
pub use error::StoreError;
pub use fold::FoldReport;
pub use key::{KEY_BYTES_MAX, SHARDS, entity_key, i64_key, key_hash, shard_of, split_entity_key, u64_key};
pub use members::Members;
pub use set::CountedSet;
pub use short::ShortBytes;
pub use store::{Batch, FjallStore, KeyValue, MemStore, Row, Snapshot, Store, Table, Visit, Written};
pub use varint::{Malformed, Reader, put_bytes, put_i64, put_i128, put_u64};
pub use view::{KeyRecord, PageRead, View};
pub use writer::{Commit, Limits, StateWriter};

/// Number of a commit: 1 for the first, always growing; 0 = before the first.
pub type CommitId = u64;
