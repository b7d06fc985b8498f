//! Records of cells: what the state keeps of a key, knowing nothing of the aggregates and labels behind it.
//!
//! A [`Record`] is a key's cells by [`Slot`]; a [`Change`] turns one cell into the next. Sums and counted sets are
//! abelian groups (changes of them may come in any order), marks and registers are last writes. A cell that holds
//! nothing does not exist, so two records are equal exactly if their cells are.

use super::set::CountedSet;
use super::varint::{Malformed, Reader, put_bytes, put_i64, put_i128, put_u64};

/// Where a cell stands: a space (one namespace or one label generation, numbered by one counter, never reused) and an
/// index in it (an aggregate or a label).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Number of the namespace or label generation.
    pub space: u32,
    /// Number of the aggregate or label in it.
    pub index: u16,
}

/// What a slot holds. Each slot has one kind for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A sum, modulo 2^128; 0 = gone.
    Sum(i128),
    /// Values with counts, added; entries at 0 are gone, counts may be negative.
    Set(CountedSet),
    /// A label's value; 0 = not carried.
    Mark(u16),
    /// Bytes of the last write; empty = gone.
    Register(Box<[u8]>),
}

/// One change of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Adds to a sum.
    Add(Slot, i128),
    /// Adds to the count of a value of a set.
    Count(Slot, &'a [u8], i64),
    /// Sets a mark.
    Mark {
        /// The mark's slot.
        slot: Slot,
        /// What it held before; 0 = nothing.
        from: u16,
        /// What it holds now; 0 = nothing.
        to: u16,
    },
    /// Writes a register.
    Put(Slot, &'a [u8]),
}

impl Change<'_> {
    /// The slot that it changes.
    #[must_use]
    pub fn slot(&self) -> Slot {
        match *self {
            Change::Add(slot, _)
            | Change::Count(slot, _, _)
            | Change::Mark { slot, .. }
            | Change::Put(slot, _) => slot,
        }
    }
}

/// A change of one kind met a cell of another: the slot is used for two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slot {}.{} holds a cell of another kind than the change", slot.space, slot.index)]
pub struct KindMismatch {
    /// The slot.
    pub slot: Slot,
}

/// Cells that most records have at most; one allocation holds them.
const CELLS_USUAL: usize = 6;

/// What the state keeps of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Number of the key in its shard, for members; never reused.
    pub ordinal: u32,
    cells: Vec<(Slot, Cell)>,
}

impl Record {
    /// A record without cells.
    #[must_use]
    pub fn new(ordinal: u32) -> Self {
        Self { ordinal, cells: Vec::new() }
    }

    /// What `slot` holds.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&Cell> {
        let at = self.cells.binary_search_by_key(&slot, |(s, _)| *s).ok()?;
        self.cells.get(at).map(|(_, cell)| cell)
    }

    /// The sum in `slot`; 0 where there is none.
    #[must_use]
    pub fn sum(&self, slot: Slot) -> i128 {
        if let Some(Cell::Sum(sum)) = self.get(slot) { *sum } else { 0 }
    }

    /// The set in `slot`, if it has entries.
    #[must_use]
    pub fn set(&self, slot: Slot) -> Option<&CountedSet> {
        if let Some(Cell::Set(set)) = self.get(slot) { Some(set) } else { None }
    }

    /// The mark in `slot`; 0 where there is none.
    #[must_use]
    pub fn mark(&self, slot: Slot) -> u16 {
        if let Some(Cell::Mark(mark)) = self.get(slot) { *mark } else { 0 }
    }

    /// The register in `slot`; empty where there is none.
    #[must_use]
    pub fn register(&self, slot: Slot) -> &[u8] {
        if let Some(Cell::Register(bytes)) = self.get(slot) { bytes } else { &[] }
    }

    /// All cells in slot order.
    pub fn cells(&self) -> impl Iterator<Item = (Slot, &Cell)> {
        self.cells.iter().map(|(slot, cell)| (*slot, cell))
    }

    /// No cells: the key does not exist.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Keeps only the cells whose space `keep` takes.
    pub fn retain_spaces(&mut self, keep: impl Fn(u32) -> bool) {
        self.cells.retain(|(slot, _)| keep(slot.space));
    }

    /// Applies one change.
    ///
    /// # Errors
    /// [`KindMismatch`], with the record unchanged, where the slot holds a cell of another kind.
    pub fn apply(&mut self, change: &Change<'_>) -> Result<(), KindMismatch> {
        let slot = change.slot();
        match self.cells.binary_search_by_key(&slot, |(s, _)| *s) {
            Ok(at) => {
                let Some((_, cell)) = self.cells.get_mut(at) else { return Ok(()) };
                if cell.change(change)? {
                    self.cells.remove(at);
                }
            }
            Err(at) => {
                if let Some(cell) = Cell::first(change) {
                    if self.cells.is_empty() {
                        self.cells.reserve(CELLS_USUAL);
                    }
                    self.cells.insert(at, (slot, cell));
                }
            }
        }
        Ok(())
    }

    /// Appends ordinal and cells in the compact form that pages keep.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, u64::from(self.ordinal));
        let mut last = Slot { space: 0, index: 0 };
        for (slot, cell) in &self.cells {
            put_slot(out, last, *slot, cell.kind());
            last = *slot;
            match cell {
                Cell::Sum(sum) => put_i128(out, *sum),
                Cell::Mark(mark) => put_u64(out, u64::from(*mark)),
                Cell::Register(bytes) => put_bytes(out, bytes),
                Cell::Set(set) => set.encode(out),
            }
        }
    }

    /// Reads what [`Record::encode`] wrote and nothing else.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that no record gives.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut record = Self::new(reader.u32()?);
        record.cells.reserve(CELLS_USUAL);
        let mut last = Slot { space: 0, index: 0 };
        while !reader.is_empty() {
            let (slot, kind) = read_slot(&mut reader, last)?;
            if !record.cells.is_empty() && slot <= last {
                return Err(Malformed("cells out of order"));
            }
            last = slot;
            let cell = match kind {
                SUM => Cell::Sum(reader.i128()?),
                MARK => Cell::Mark(reader.u16()?),
                REGISTER => Cell::Register(reader.bytes()?.into()),
                _ => Cell::Set(CountedSet::decode(&mut reader)?),
            };
            record.cells.push((slot, cell));
        }
        Ok(record)
    }
}

pub(super) const SUM: u8 = 0;
pub(super) const SET: u8 = 1;
pub(super) const MARK: u8 = 2;
pub(super) const REGISTER: u8 = 3;

/// Appends `slot` as the difference to `last`, with two bits for `kind`.
pub(super) fn put_slot(out: &mut Vec<u8>, last: Slot, slot: Slot, kind: u8) {
    let step = i64::from(slot.index) - i64::from(last.index);
    let zigzag = ((step << 1) ^ (step >> 63)).cast_unsigned();
    let same_space = u64::from(slot.space == last.space);
    put_u64(out, (zigzag << 3) | (same_space << 2) | u64::from(kind));
    if same_space == 0 {
        put_i64(out, i64::from(slot.space) - i64::from(last.space));
    }
}

/// Reads what [`put_slot`] wrote.
pub(super) fn read_slot(reader: &mut Reader<'_>, last: Slot) -> Result<(Slot, u8), Malformed> {
    let head = reader.u64()?;
    let zigzag = head >> 3;
    let step = (zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed());
    let index = u16::try_from(i64::from(last.index).wrapping_add(step))
        .map_err(|_| Malformed("slot out of range"))?;
    let mut space = last.space;
    if head & 4 == 0 {
        let sum = i64::from(space).wrapping_add(reader.i64()?);
        space = u32::try_from(sum).map_err(|_| Malformed("slot out of range"))?;
    }
    Ok((Slot { space, index }, (head & 3) as u8))
}

impl Cell {
    fn kind(&self) -> u8 {
        match self {
            Cell::Sum(_) => SUM,
            Cell::Set(_) => SET,
            Cell::Mark(_) => MARK,
            Cell::Register(_) => REGISTER,
        }
    }

    /// The cell that `change` makes where there was none.
    fn first(change: &Change<'_>) -> Option<Self> {
        match *change {
            Change::Add(_, n) => (n != 0).then_some(Cell::Sum(n)),
            Change::Count(_, value, n) => (n != 0).then(|| {
                let mut set = CountedSet::new();
                set.add(value, n);
                Cell::Set(set)
            }),
            Change::Mark { to, .. } => (to != 0).then_some(Cell::Mark(to)),
            Change::Put(_, bytes) => (!bytes.is_empty()).then(|| Cell::Register(bytes.into())),
        }
    }

    /// Applies `change`; true = the cell now holds nothing.
    fn change(&mut self, change: &Change<'_>) -> Result<bool, KindMismatch> {
        match (self, *change) {
            (Cell::Sum(sum), Change::Add(_, n)) => {
                *sum = sum.wrapping_add(n);
                Ok(*sum == 0)
            }
            (Cell::Set(set), Change::Count(_, value, n)) => {
                set.add(value, n);
                Ok(set.is_empty())
            }
            (Cell::Mark(mark), Change::Mark { to, .. }) => {
                *mark = to;
                Ok(to == 0)
            }
            (Cell::Register(bytes), Change::Put(_, new)) => {
                *bytes = new.into();
                Ok(new.is_empty())
            }
            (_, change) => Err(KindMismatch { slot: change.slot() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Change, KindMismatch, Record, Slot};

    const SPENT: Slot = Slot { space: 3, index: 1 };
    const MERCHANTS: Slot = Slot { space: 3, index: 2 };
    const TIER: Slot = Slot { space: 9, index: 0 };
    const WAKE: Slot = Slot { space: 9, index: 300 };

    #[test]
    fn what_nets_to_nothing_is_gone() {
        let mut record = Record::new(7);
        let there = [
            Change::Add(SPENT, 5),
            Change::Count(MERCHANTS, b"m1", 1),
            Change::Mark { slot: TIER, from: 0, to: 2 },
            Change::Put(WAKE, b"soon"),
        ];
        there.iter().for_each(|change| record.apply(change).unwrap());
        assert_eq!((record.sum(SPENT), record.mark(TIER), record.register(WAKE)), (5, 2, &b"soon"[..]));
        assert_eq!(record.set(MERCHANTS).unwrap().count(b"m1"), 1);
        let back = [
            Change::Put(WAKE, b""),
            Change::Mark { slot: TIER, from: 2, to: 0 },
            Change::Count(MERCHANTS, b"m1", -1),
            Change::Add(SPENT, -5),
        ];
        back.iter().for_each(|change| record.apply(change).unwrap());
        assert!(record.is_empty());
        assert_eq!(record, Record::new(7));
    }

    #[test]
    fn a_slot_keeps_its_kind() {
        let mut record = Record::new(0);
        record.apply(&Change::Add(SPENT, 1)).unwrap();
        assert_eq!(record.apply(&Change::Put(SPENT, b"x")), Err(KindMismatch { slot: SPENT }));
        assert_eq!(record.get(SPENT), Some(&Cell::Sum(1)));
    }
}
