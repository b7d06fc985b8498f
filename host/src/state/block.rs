//! Delta blocks: what one commit changed in one shard. Shard owners write them key by key while they apply changes;
//! the committer stores them; views and folds read them.
//!
//! A block is a sorted run stamped with its commit. Body of a key = ordinal (varint), flags (life | [`HAS_MARKS`]),
//! changes. A change = slot as the difference to the one before with its kind, then its operands. A count of the empty
//! value by 0 gives the whole set up.

use super::CommitId;
use super::cell::{Change, KindMismatch, MARK, REGISTER, Record, SUM, Slot, put_slot, read_slot};
use super::digest::{add_to, change_part, key_part, set_part};
use super::run::{Cursor, Run, RunKind, RunWriter};
use super::set::CountedSet;
use super::varint::{Malformed, Reader, put_bytes, put_i64, put_i128, put_u64};

/// What a commit did to the existence of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Life {
    /// The key did not exist; its record starts empty under a new ordinal.
    New = 0,
    /// The key existed and exists.
    Kept = 1,
    /// All cells of the key are gone: the record and its ordinal go. The changes still bring sums and sets to nothing
    /// and marks to 0, so that digests and members stay right.
    Gone = 2,
}

const LIFE_BITS: u8 = 3;
const HAS_MARKS: u8 = 4;
const NO_SLOT: Slot = Slot { space: 0, index: 0 };

/// The finished block of one shard in a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardBlock {
    /// The shard, below [`super::SHARDS`].
    pub shard: u8,
    /// The encoded block.
    pub bytes: Vec<u8>,
    /// What it adds to the digest of each space it changed, in ascending order of spaces.
    pub digests: Vec<(u32, u64)>,
}

/// Writes one block. Call [`BlockWriter::key`] with keys in strictly ascending order, after each the changes of that
/// key in any order; a commit refuses a block whose keys are not ascending.
#[derive(Debug)]
pub struct BlockWriter {
    run: RunWriter,
    key: Vec<u8>,
    key_part: u64,
    head: Vec<u8>,
    flags: u8,
    changes: Vec<u8>,
    last: Slot,
    open: bool,
    digests: Vec<(u32, u64)>,
}

impl BlockWriter {
    /// An empty block of `commit`.
    #[must_use]
    pub fn new(commit: CommitId) -> Self {
        Self {
            run: RunWriter::new(RunKind::Block, commit),
            key: Vec::new(),
            key_part: 0,
            head: Vec::new(),
            flags: 0,
            changes: Vec::new(),
            last: NO_SLOT,
            open: false,
            digests: Vec::new(),
        }
    }

    /// Begins the entry of `key` (a state key, see [`super::entity_key`]).
    pub fn key(&mut self, key: &[u8], ordinal: u32, life: Life) {
        self.close();
        self.open = true;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.key_part = key_part(key);
        self.head.clear();
        put_u64(&mut self.head, u64::from(ordinal));
        self.flags = life as u8;
        self.changes.clear();
        self.last = NO_SLOT;
    }

    /// Writes one change of the current key; a count by 0 is none.
    pub fn change(&mut self, change: &Change<'_>) {
        if matches!(change, Change::Count(_, _, 0)) {
            return;
        }
        let slot = change.slot();
        let last = std::mem::replace(&mut self.last, slot);
        let out = &mut self.changes;
        match *change {
            Change::Add(_, n) => {
                put_slot(out, last, slot, SUM);
                put_i128(out, n);
            }
            Change::Count(_, value, n) => {
                put_slot(out, last, slot, super::cell::SET);
                put_bytes(out, value);
                put_i64(out, n);
            }
            Change::Overflow(_) => {
                put_slot(out, last, slot, super::cell::SET);
                put_bytes(out, &[]);
                put_i64(out, 0);
                return;
            }
            Change::Mark { from, to, .. } => {
                self.flags |= HAS_MARKS;
                put_slot(out, last, slot, MARK);
                put_u64(out, u64::from(from));
                put_u64(out, u64::from(to));
                return;
            }
            Change::Put(_, bytes) => {
                put_slot(out, last, slot, REGISTER);
                put_bytes(out, bytes);
                return;
            }
        }
        add_to(&mut self.digests, slot.space, change_part(self.key_part, change));
    }

    /// Adds `n` to the sum in `slot`.
    pub fn add(&mut self, slot: Slot, n: i128) {
        self.change(&Change::Add(slot, n));
    }

    /// Adds `n` to the count of `value` in the set in `slot`.
    pub fn count(&mut self, slot: Slot, value: &[u8], n: i64) {
        self.change(&Change::Count(slot, value, n));
    }

    /// Gives up the set in `slot`, which held `entries`.
    pub fn overflow(&mut self, slot: Slot, entries: &CountedSet) {
        self.change(&Change::Overflow(slot));
        let part = set_part(self.key_part, slot, entries);
        add_to(&mut self.digests, slot.space, part.wrapping_neg());
    }

    /// Sets the mark in `slot`, which held `from`, to `to`; 0 = nothing.
    pub fn mark(&mut self, slot: Slot, from: u16, to: u16) {
        self.change(&Change::Mark { slot, from, to });
    }

    /// Writes the register in `slot`; empty = gone.
    pub fn put(&mut self, slot: Slot, bytes: &[u8]) {
        self.change(&Change::Put(slot, bytes));
    }

    /// Number of keys written.
    #[must_use]
    pub fn keys(&self) -> u32 {
        self.run.keys() + u32::from(self.open)
    }

    /// The encoded block, to be stored under `shard`.
    #[must_use]
    pub fn finish(mut self, shard: u8) -> ShardBlock {
        self.close();
        ShardBlock { shard, bytes: self.run.finish(), digests: self.digests }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.head.push(self.flags);
            self.run.push(&self.key, &self.head, &self.changes);
        }
    }
}

/// One key's entry in a block.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Ordinal of the key.
    pub ordinal: u32,
    /// What became of the key.
    pub life: Life,
    /// A change of a mark is among the changes.
    pub has_marks: bool,
    changes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a body.
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let ordinal = reader.u32()?;
        let flags = reader.u8()?;
        let life = match flags & LIFE_BITS {
            0 => Life::New,
            1 => Life::Kept,
            2 => Life::Gone,
            _ => return Err(Malformed("unknown flags of an entry")),
        };
        Ok(Self { ordinal, life, has_marks: flags & HAS_MARKS != 0, changes: reader.rest() })
    }

    /// Calls `take` with each change in order.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes are none that a block holds, or what `take` answers.
    pub fn changes<E: From<Malformed>>(
        &self,
        mut take: impl FnMut(&Change<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::new(self.changes);
        let mut last = NO_SLOT;
        while !reader.is_empty() {
            let (slot, kind) = read_slot(&mut reader, last)?;
            last = slot;
            let change = match kind {
                SUM => Change::Add(slot, reader.i128()?),
                MARK => Change::Mark { slot, from: reader.u16()?, to: reader.u16()? },
                REGISTER => Change::Put(slot, reader.bytes()?),
                _ => match (reader.bytes()?, reader.i64()?) {
                    ([], 0) => Change::Overflow(slot),
                    (value, n) => Change::Count(slot, value, n),
                },
            };
            take(&change)?;
        }
        Ok(())
    }

    /// The record after this entry, given the one before.
    pub(super) fn apply(&self, record: &mut Option<Record>) -> Result<(), Malformed> {
        match self.life {
            Life::Gone => {
                *record = None;
                return Ok(());
            }
            Life::New => *record = Some(Record::new(self.ordinal)),
            Life::Kept => {}
        }
        let record = record.get_or_insert_with(|| Record::new(self.ordinal));
        record.ordinal = self.ordinal;
        self.changes(|change| record.apply(change).map_err(Malformed::from))
    }
}

impl From<KindMismatch> for Malformed {
    fn from(_: KindMismatch) -> Self {
        Malformed("a slot holds a cell of another kind than its change")
    }
}

/// Reads one block.
#[derive(Debug)]
pub struct BlockReader {
    run: Run,
}

impl BlockReader {
    /// Checks and opens an encoded block.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that are cut, changed, or of a newer version.
    pub fn open(bytes: Vec<u8>) -> Result<Self, Malformed> {
        Ok(Self { run: Run::open(bytes, RunKind::Block)? })
    }

    /// The commit that wrote it.
    #[must_use]
    pub fn commit(&self) -> CommitId {
        self.run.stamp()
    }

    /// Number of keys.
    #[must_use]
    pub fn keys(&self) -> u32 {
        self.run.keys()
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.run.len()
    }

    /// The entry of `key`.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes are none that a block holds.
    pub fn find(&self, key: &[u8]) -> Result<Option<Entry<'_>>, Malformed> {
        self.run.find(key)?.map(Entry::decode).transpose()
    }

    /// Walks all entries in key order.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries { cursor: self.run.cursor() }
    }

    pub(super) fn run(&self) -> &Run {
        &self.run
    }
}

/// Walks the entries of a block.
#[derive(Debug)]
pub struct Entries<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Entries<'a> {
    /// The next key and its entry.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes are none that a block holds.
    pub fn advance(&mut self) -> Result<Option<(&[u8], Entry<'a>)>, Malformed> {
        if !self.cursor.advance()? {
            return Ok(None);
        }
        let entry = Entry::decode(self.cursor.body())?;
        Ok(Some((self.cursor.key(), entry)))
    }
}
