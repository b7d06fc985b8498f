//! Raw message → column buffers of images. No I/O, no panic on bytes, no knowledge of rules.
//!
//! A decoder reads one block of whole messages and says for each: a change (with its id and images), skipped (counted
//! by reason), or refused by name. What needs order or cannot be exact ends the block at that message.

pub mod boundary;
pub mod image;
pub mod maxwell;

mod datetime;
mod number;
mod text;
mod value;
mod wide;

pub use image::{ColumnBuffer, ColumnType, Fit, ImageBatch, PlannedColumn, Side, TablePlan, Values};
pub use maxwell::MaxwellDecoder;

use std::sync::Arc;

/// Longest message in bytes; a longer one is refused as `message-too-large`.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Format of a source's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Maxwell's JSON, one message a line.
    Maxwell,
}

impl Format {
    /// The format with the name that `format = "…"` of a source has; `None` for an unknown one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        (name == "maxwell").then_some(Self::Maxwell)
    }

    /// The JSON text of each of `columns` in one image of a message, as it is spelled there; none where the image does
    /// not carry the column. For people, not for rules.
    #[must_use]
    pub fn tokens(self, message: &[u8], side: Side, columns: &[&str]) -> Vec<Option<String>> {
        match self {
            Self::Maxwell => maxwell::tokens(message, side, columns),
        }
    }

    /// Where a block of this format may be cut so that it ends with a whole transaction.
    #[must_use]
    pub fn boundary(self) -> fn(&[u8]) -> Option<usize> {
        match self {
            Self::Maxwell => boundary::transaction,
        }
    }
}

/// A decoder of any format; one per worker and plan.
#[derive(Debug)]
pub enum Decoder {
    /// Maxwell's JSON.
    Maxwell(MaxwellDecoder),
}

impl Decoder {
    /// A decoder that has learnt nothing yet.
    #[must_use]
    pub fn new(format: Format, plan: Arc<Plan>) -> Self {
        match format {
            Format::Maxwell => Self::Maxwell(MaxwellDecoder::new(plan)),
        }
    }

    /// It puts refused messages aside and goes on, where the order of changes and their ids allow it.
    #[must_use]
    pub fn putting_aside(self, on: bool) -> Self {
        match self {
            Self::Maxwell(decoder) => Self::Maxwell(decoder.putting_aside(on)),
        }
    }

    /// See [`MaxwellDecoder::decode`].
    pub fn decode(&mut self, block: &[u8], base: u64, out: &mut Decoded) {
        self.decode_without(block, base, &[], out);
    }

    /// See [`MaxwellDecoder::decode_without`].
    pub fn decode_without(&mut self, block: &[u8], base: u64, skip: &[u64], out: &mut Decoded) {
        match self {
            Self::Maxwell(decoder) => decoder.decode_without(block, base, skip, out),
        }
    }
}

/// What a source's messages are decoded with: one plan per table that live rules read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Tables in a fixed order; their index is `ImageBatch::table`.
    pub tables: Vec<TablePlan>,
}

/// The producer's own identity of a change, at full width (design section 7).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChangeId {
    /// Index of the id's log (gtid source, or server and binlog file) in [`Decoded::logs`].
    pub log: u32,
    /// gtid sequence number, or binlog position.
    pub at: u64,
    /// Row in the transaction or event (`xoffset`); [`COMMIT_ROW`] for the row that carries `commit: true`.
    pub row: u32,
}

/// `ChangeId::row` of the row with `commit: true`.
pub const COMMIT_ROW: u32 = u32::MAX;

/// Form of the ids in a source; fixed by a producer's first change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdForm {
    /// gtid and row.
    Gtid,
    /// Server, binlog file, position and row.
    Position,
    /// No id: positions in the source only.
    None,
}

/// One change of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Position of the message in its partition.
    pub position: u64,
    /// Its id, if the producer gives one.
    pub id: Option<ChangeId>,
    /// Table in the plan; `None` where no live rule reads it.
    pub table: Option<u32>,
    /// Commit time as the producer says, in seconds since 1970.
    pub ts: i64,
}

/// Why a message was passed over; counted, never silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// Bootstrap (snapshot) rows: absolute, never part of a stream (M13).
    Bootstrap,
    /// The producer's own control tables (M16).
    ControlTable,
    /// DDL of a table that no live rule reads, or that changes no column they read (M18).
    Ddl,
    /// An empty line or tombstone.
    Empty,
    /// Passed over on request: another message of the cycle has the same id.
    Duplicate,
    /// A dead letter of a table that no live rule reads (M33).
    DeadLetter,
    /// Refused, and put aside where the source says so.
    Refused,
}

/// Refusals of the order of changes and of their ids, and of a line that may still grow: they concern every rule, whatever
/// tables it reads, and nothing may be read behind them.
pub const OF_THE_LOG: [&str; 4] = ["id-form-changed", "log-restarted", "missing-id", "truncated-line"];

/// A message that cannot be applied exactly: named, never guessed (law 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code, e.g. `update-without-old`.
    pub code: &'static str,
    /// Position of the message in its partition.
    pub position: u64,
    /// `database.table`, or empty where the message does not say.
    pub table: String,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// What one block gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// All changes in order, those of unread tables too.
    pub changes: Vec<Change>,
    /// One batch per planned table (may be empty).
    pub batches: Vec<ImageBatch>,
    /// Names of the id logs: `gtid:SOURCE` or `position:SERVER:FILE`.
    pub logs: Vec<String>,
    /// Form of the ids seen in this block (`None` where no change was seen).
    pub form: Option<IdForm>,
    /// Skipped messages by reason.
    pub skipped: Vec<(Skip, u64)>,
    /// The first message that stops this block: everything before it is decoded, nothing behind it.
    pub refusal: Option<Refusal>,
    /// Refused messages that were put aside: nothing of them is decoded, and what is behind them is.
    pub aside: Vec<Refusal>,
    /// Offset behind the last decoded message.
    pub end: u64,
    /// Offset behind the last message known to end a transaction, if any (against flicker).
    pub transaction_end: Option<u64>,
}

impl Decoded {
    /// Forgets the block and keeps the memory.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.batches.iter_mut().for_each(ImageBatch::clear);
        self.logs.clear();
        self.form = None;
        self.skipped.clear();
        self.refusal = None;
        self.aside.clear();
        self.end = 0;
        self.transaction_end = None;
    }

    /// Puts positions in the place of what was counted from the block's first byte on; `places` begins anew at the block's
    /// start and is asked in ascending order.
    pub fn place<P: FnMut(u64) -> u64>(&mut self, places: impl Fn() -> P) {
        let mut place = places();
        self.changes.iter_mut().for_each(|change| change.position = place(change.position));
        let mut place = places();
        self.aside.iter_mut().chain(&mut self.refusal).for_each(|r| r.position = place(r.position));
        self.transaction_end = self.transaction_end.map(|end| places()(end));
        self.end = places()(self.end);
    }

    /// Clears, and makes one batch per table of `plan` unless they are there already.
    pub(crate) fn prepare(&mut self, plan: &Plan) {
        self.clear();
        let fits = |(n, (batch, table)): (usize, (&ImageBatch, &TablePlan))| {
            batch.table == n
                && batch.columns.len() == table.columns.len()
                && batch.columns.iter().zip(&table.columns).all(|(b, c)| b.column_type == c.column_type)
        };
        let ready = self.batches.len() == plan.tables.len()
            && self.batches.iter().zip(&plan.tables).enumerate().all(fits);
        if !ready {
            self.batches =
                plan.tables.iter().enumerate().map(|(n, table)| ImageBatch::new(n, table)).collect();
        }
    }

    /// Counts a message passed over.
    pub(crate) fn count_skip(&mut self, skip: Skip) {
        match self.skipped.iter_mut().find(|(known, _)| *known == skip) {
            Some((_, count)) => *count += 1,
            None => self.skipped.push((skip, 1)),
        }
    }
}
