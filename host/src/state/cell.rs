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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// A sum, modulo 2^128; 0 = gone.
    Sum(i128),
    /// Values with counts, added; entries at 0 are gone, counts may be negative. One that overflowed stays for good.
    Set(&'a CountedSet),
    /// A label's value; 0 = not carried.
    Mark(u16),
    /// Bytes of the last write; empty = gone.
    Register(&'a [u8]),
}

/// A cell as a record keeps it: sixteen bytes, its slot among them, and what seldom fits behind a pointer. A host holds
/// millions of records, and to touch one costs as much as the memory that it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Sum {
        index: u16,
        space: u32,
        sum: i64,
    },
    /// A sum that 64 bits do not hold.
    WideSum {
        index: u16,
        space: u32,
        sum: Box<i128>,
    },
    Set {
        index: u16,
        space: u32,
        set: Box<CountedSet>,
    },
    Mark {
        index: u16,
        space: u32,
        mark: u16,
    },
    Register {
        index: u16,
        space: u32,
        bytes: Box<Box<[u8]>>,
    },
}

/// One change of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Adds to a sum.
    Add(Slot, i128),
    /// Adds to the count of a value of a set.
    Count(Slot, &'a [u8], i64),
    /// Gives up the entries of a set that outgrew its limit.
    Overflow(Slot),
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
            | Change::Overflow(slot)
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

/// Cells that a record makes room for at once.
const CELLS_STEP: usize = 4;

/// What the state keeps of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Number of the key in its shard, for members; never reused.
    pub ordinal: u32,
    cells: Vec<Kept>,
}

impl Record {
    /// A record without cells.
    #[must_use]
    pub fn new(ordinal: u32) -> Self {
        Self { ordinal, cells: Vec::new() }
    }

    #[inline]
    fn find(&self, slot: Slot) -> Result<usize, usize> {
        self.cells.binary_search_by_key(&slot, Kept::slot)
    }

    /// What `slot` holds.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<Cell<'_>> {
        self.cells.get(self.find(slot).ok()?).map(Kept::cell)
    }

    /// The sum in `slot`; 0 where there is none.
    #[must_use]
    pub fn sum(&self, slot: Slot) -> i128 {
        if let Some(Cell::Sum(sum)) = self.get(slot) { sum } else { 0 }
    }

    /// The set in `slot`, if it has entries.
    #[must_use]
    pub fn set(&self, slot: Slot) -> Option<&CountedSet> {
        if let Some(Cell::Set(set)) = self.get(slot) { Some(set) } else { None }
    }

    /// The mark in `slot`; 0 where there is none.
    #[must_use]
    pub fn mark(&self, slot: Slot) -> u16 {
        if let Some(Cell::Mark(mark)) = self.get(slot) { mark } else { 0 }
    }

    /// The register in `slot`; empty where there is none.
    #[must_use]
    pub fn register(&self, slot: Slot) -> &[u8] {
        if let Some(Cell::Register(bytes)) = self.get(slot) { bytes } else { &[] }
    }

    /// All cells in slot order.
    pub fn cells(&self) -> impl Iterator<Item = (Slot, Cell<'_>)> {
        self.cells.iter().map(|kept| (kept.slot(), kept.cell()))
    }

    /// Number of cells.
    #[must_use]
    pub fn cell_count(&self) -> usize {
        self.cells.len()
    }

    /// No cells: the key does not exist.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Keeps only the cells whose space `keep` takes.
    pub fn retain_spaces(&mut self, keep: impl Fn(u32) -> bool) {
        self.cells.retain(|kept| keep(kept.slot().space));
    }

    /// Number of entries of sets that are here and not in rows.
    #[must_use]
    pub fn set_entries_here(&self) -> usize {
        self.sets().map(|(_, set)| set.entries_here()).sum()
    }

    /// All sets in slot order.
    pub fn sets(&self) -> impl Iterator<Item = (Slot, &CountedSet)> {
        self.cells()
            .filter_map(|(slot, cell)| if let Cell::Set(set) = cell { Some((slot, set)) } else { None })
    }

    /// Puts `set` into `slot`; an empty one removes the cell. Answers what was there.
    pub fn replace_set(&mut self, slot: Slot, set: CountedSet) -> Option<CountedSet> {
        let at = self.find(slot).ok()?;
        let Kept::Set { set: place, .. } = self.cells.get_mut(at)? else { return None };
        let before = std::mem::replace(&mut **place, set);
        if place.is_empty() {
            self.cells.remove(at);
        }
        Some(before)
    }

    /// Applies one change.
    ///
    /// # Errors
    /// [`KindMismatch`], with the record unchanged, where the slot holds a cell of another kind.
    pub fn apply(&mut self, change: &Change<'_>) -> Result<(), KindMismatch> {
        match self.find(change.slot()) {
            Ok(at) => {
                let Some(kept) = self.cells.get_mut(at) else { return Ok(()) };
                if kept.change(change)? {
                    self.cells.remove(at);
                }
            }
            Err(at) => {
                if let Some(kept) = Kept::first(change) {
                    if self.cells.len() == self.cells.capacity() {
                        // Growing by halves keeps most records near their size; doubling would waste a third.
                        self.cells.reserve_exact((self.cells.len() / 2).max(CELLS_STEP));
                    }
                    self.cells.insert(at, kept);
                }
            }
        }
        Ok(())
    }

    /// Appends ordinal and cells in the compact form that pages keep.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, u64::from(self.ordinal));
        let mut last = Slot { space: 0, index: 0 };
        for (slot, cell) in self.cells() {
            put_slot(out, last, slot, cell.kind());
            last = slot;
            match cell {
                Cell::Sum(sum) => put_i128(out, sum),
                Cell::Mark(mark) => put_u64(out, u64::from(mark)),
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
        record.cells.reserve_exact(CELLS_STEP);
        let mut last = Slot { space: 0, index: 0 };
        while !reader.is_empty() {
            let (slot, kind) = read_slot(&mut reader, last)?;
            if !record.cells.is_empty() && slot <= last {
                return Err(Malformed("cells out of order"));
            }
            last = slot;
            let Slot { space, index } = slot;
            record.cells.push(match kind {
                SUM => Kept::of_sum(slot, reader.i128()?),
                MARK => Kept::Mark { index, space, mark: reader.u16()? },
                REGISTER => Kept::Register { index, space, bytes: Box::new(reader.bytes()?.into()) },
                _ => Kept::Set { index, space, set: Box::new(CountedSet::decode(&mut reader)?) },
            });
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

impl Cell<'_> {
    fn kind(self) -> u8 {
        match self {
            Cell::Sum(_) => SUM,
            Cell::Set(_) => SET,
            Cell::Mark(_) => MARK,
            Cell::Register(_) => REGISTER,
        }
    }
}

impl Kept {
    #[inline]
    fn slot(&self) -> Slot {
        let (Kept::Sum { index, space, .. }
        | Kept::WideSum { index, space, .. }
        | Kept::Set { index, space, .. }
        | Kept::Mark { index, space, .. }
        | Kept::Register { index, space, .. }) = self;
        Slot { space: *space, index: *index }
    }

    #[inline]
    fn cell(&self) -> Cell<'_> {
        match self {
            Kept::Sum { sum, .. } => Cell::Sum(i128::from(*sum)),
            Kept::WideSum { sum, .. } => Cell::Sum(**sum),
            Kept::Set { set, .. } => Cell::Set(set),
            Kept::Mark { mark, .. } => Cell::Mark(*mark),
            Kept::Register { bytes, .. } => Cell::Register(bytes),
        }
    }

    fn of_sum(Slot { space, index }: Slot, sum: i128) -> Self {
        match i64::try_from(sum) {
            Ok(sum) => Kept::Sum { index, space, sum },
            Err(_) => Kept::WideSum { index, space, sum: Box::new(sum) },
        }
    }

    /// The cell that `change` makes where there was none.
    fn first(change: &Change<'_>) -> Option<Self> {
        let Slot { space, index } = change.slot();
        match *change {
            Change::Add(slot, n) => (n != 0).then(|| Kept::of_sum(slot, n)),
            Change::Count(_, value, n) => (n != 0).then(|| {
                let mut set = Box::new(CountedSet::new());
                set.add(value, n);
                Kept::Set { index, space, set }
            }),
            Change::Overflow(_) => Some(Kept::Set { index, space, set: Box::new(CountedSet::of_overflow()) }),
            Change::Mark { to, .. } => (to != 0).then_some(Kept::Mark { index, space, mark: to }),
            Change::Put(_, bytes) => {
                (!bytes.is_empty()).then(|| Kept::Register { index, space, bytes: Box::new(bytes.into()) })
            }
        }
    }

    /// Applies `change`; true = the cell now holds nothing.
    fn change(&mut self, change: &Change<'_>) -> Result<bool, KindMismatch> {
        match (&mut *self, *change) {
            (Kept::Sum { sum, .. }, Change::Add(slot, n)) => {
                match i64::try_from(n).ok().and_then(|n| sum.checked_add(n)) {
                    Some(narrow) => {
                        *sum = narrow;
                        Ok(narrow == 0)
                    }
                    None => {
                        *self = Kept::of_sum(slot, i128::from(*sum).wrapping_add(n));
                        Ok(self.cell() == Cell::Sum(0))
                    }
                }
            }
            (Kept::WideSum { sum, .. }, Change::Add(slot, n)) => {
                *self = Kept::of_sum(slot, sum.wrapping_add(n));
                Ok(self.cell() == Cell::Sum(0))
            }
            (Kept::Set { set, .. }, Change::Count(_, value, n)) => {
                set.add(value, n);
                Ok(set.is_empty())
            }
            (Kept::Set { set, .. }, Change::Overflow(_)) => {
                **set = CountedSet::of_overflow();
                Ok(false)
            }
            (Kept::Mark { mark, .. }, Change::Mark { to, .. }) => {
                *mark = to;
                Ok(to == 0)
            }
            (Kept::Register { bytes, .. }, Change::Put(_, new)) => {
                **bytes = new.into();
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
        assert_eq!(record.get(SPENT), Some(Cell::Sum(1)));
    }

    #[test]
    fn a_kept_cell_takes_sixteen_bytes() {
        assert_eq!(size_of::<super::Kept>(), 16);
    }

    #[test]
    fn a_sum_grows_beyond_64_bits_and_back() {
        let mut record = Record::new(0);
        let (mut sum, far) = (0i128, i128::from(i64::MAX));
        for n in [far, 1, far, far * far, -far * far, -far, 1, -far, -3] {
            record.apply(&Change::Add(SPENT, n)).unwrap();
            sum += n;
            assert_eq!(record.sum(SPENT), sum);
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes).unwrap(), record, "equal sums are kept in one form");
        }
        assert_eq!(sum, -1);
        record.apply(&Change::Add(SPENT, 1)).unwrap();
        assert!(record.is_empty());
    }
}
