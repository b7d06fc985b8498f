//! Counted sets: values with signed counts, what distinct, min and max are read from. Adding and taking away commute, so
//! a set is an abelian group; a count may be negative while the change that it waits for is missing.
//!
//! A set is here whole (a list, or a tree where it is long), or it lies in rows of its own (`set_rows`) and only its
//! summary is here, or it has outgrown its limit and nothing is kept of it but that.

use super::varint::{Malformed, Reader, put_bytes, put_i64, put_u64};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Longest value kept without an allocation.
const INLINE_BYTES: usize = 22;
/// Entries up to which a set in memory is a list; a tree becomes one again below half of it.
const LIST_ENTRIES_MAX: usize = 64;

#[derive(Clone)]
pub(super) enum SetValue {
    Inline(u8, [u8; INLINE_BYTES]),
    Heap(Box<[u8]>),
}

impl SetValue {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE_BYTES];
        match (inline.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(head), Ok(len)) => {
                head.copy_from_slice(bytes);
                Self::Inline(len, inline)
            }
            _ => Self::Heap(bytes.into()),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or(&[]),
            Self::Heap(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for SetValue {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for SetValue {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SetValue {}

impl PartialOrd for SetValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SetValue {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// Entries in byte order, none at 0.
pub(super) type Entries = Vec<(SetValue, i64)>;

/// What a page keeps of a set in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Number of all entries.
    pub(super) entries: usize,
    /// Number of entries with a positive count.
    pub(super) positive: usize,
    /// The first value with a positive count.
    pub(super) min: Option<Box<[u8]>>,
    /// The last value with a positive count.
    pub(super) max: Option<Box<[u8]>>,
}

/// A set in rows of its own.
#[derive(Clone, Default)]
pub(super) struct InRows {
    /// What the rows hold.
    pub(super) summary: Summary,
    /// Net changes that the rows do not hold yet.
    pub(super) changes: BTreeMap<SetValue, i64>,
}

#[derive(Clone)]
struct Tree {
    entries: BTreeMap<SetValue, i64>,
    positive: usize,
}

#[derive(Clone)]
enum Form {
    List(Entries),
    Tree(Box<Tree>),
    InRows(Box<InRows>),
    Overflow,
}

/// Values with signed counts, in byte order; an entry at 0 does not exist.
#[derive(Clone)]
pub struct CountedSet {
    form: Form,
}

impl Default for CountedSet {
    fn default() -> Self {
        Self { form: Form::List(Vec::new()) }
    }
}

/// Adds `n` to the count of `value` in a map; answers the count before and after.
pub(super) fn add_to_map(map: &mut BTreeMap<SetValue, i64>, value: &[u8], n: i64) -> (i64, i64) {
    let Some(count) = map.get_mut(value) else {
        if n != 0 {
            map.insert(SetValue::new(value), n);
        }
        return (0, n);
    };
    let before = *count;
    *count = before.wrapping_add(n);
    let after = *count;
    if after == 0 {
        map.remove(value);
    }
    (before, after)
}

impl CountedSet {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The set with these entries.
    pub(super) fn of(entries: Entries) -> Self {
        if entries.len() <= LIST_ENTRIES_MAX {
            return Self { form: Form::List(entries) };
        }
        let positive = entries.iter().filter(|(_, n)| *n > 0).count();
        Self { form: Form::Tree(Box::new(Tree { entries: entries.into_iter().collect(), positive })) }
    }

    /// The set that lies in rows.
    pub(super) fn of_rows(rows: InRows) -> Self {
        Self { form: Form::InRows(Box::new(rows)) }
    }

    /// The set that outgrew its limit.
    pub(super) fn of_overflow() -> Self {
        Self { form: Form::Overflow }
    }

    /// Adds `n` to the count of `value`. What outgrew its limit takes no changes any more.
    pub fn add(&mut self, value: &[u8], n: i64) {
        match &mut self.form {
            Form::List(entries) => {
                add_to_list(entries, value, n);
                if entries.len() > LIST_ENTRIES_MAX {
                    *self = Self::of(std::mem::take(entries));
                }
            }
            Form::Tree(tree) => {
                let (before, after) = add_to_map(&mut tree.entries, value, n);
                tree.positive = tree.positive + usize::from(after > 0) - usize::from(before > 0);
                if tree.entries.len() < LIST_ENTRIES_MAX / 2 {
                    *self = Self::of(std::mem::take(&mut tree.entries).into_iter().collect());
                }
            }
            Form::InRows(rows) => {
                add_to_map(&mut rows.changes, value, n);
            }
            Form::Overflow => {}
        }
    }

    /// Count of `value`; 0 where there is no entry. A set in rows does not know it.
    #[must_use]
    pub fn count(&self, value: &[u8]) -> i64 {
        match &self.form {
            Form::List(entries) => {
                let found = entries.binary_search_by(|(v, _)| v.as_bytes().cmp(value)).ok();
                found.and_then(|at| entries.get(at)).map_or(0, |(_, n)| *n)
            }
            Form::Tree(tree) => tree.entries.get(value).copied().unwrap_or(0),
            Form::InRows(_) | Form::Overflow => 0,
        }
    }

    /// All entries in byte order of the values, negative ones too; none where they lie in rows.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], i64)> {
        let (list, tree) = match &self.form {
            Form::List(entries) => (entries.as_slice(), None),
            Form::Tree(tree) => (&[][..], Some(&tree.entries)),
            Form::InRows(_) | Form::Overflow => (&[][..], None),
        };
        let list = list.iter().map(|(value, n)| (value.as_bytes(), *n));
        list.chain(tree.into_iter().flatten().map(|(value, n)| (value.as_bytes(), *n)))
    }

    /// Number of all entries, negative ones too.
    #[must_use]
    pub fn entries(&self) -> usize {
        match &self.form {
            Form::InRows(rows) => rows.summary.entries,
            _ => self.entries_here(),
        }
    }

    /// Number of the entries that are here and not in rows.
    #[must_use]
    pub fn entries_here(&self) -> usize {
        match &self.form {
            Form::List(entries) => entries.len(),
            Form::Tree(tree) => tree.entries.len(),
            Form::InRows(_) | Form::Overflow => 0,
        }
    }

    /// Number of values with a positive count.
    #[must_use]
    pub fn positive(&self) -> usize {
        match &self.form {
            Form::List(entries) => entries.iter().filter(|(_, n)| *n > 0).count(),
            Form::Tree(tree) => tree.positive,
            Form::InRows(rows) => rows.summary.positive,
            Form::Overflow => 0,
        }
    }

    /// An entry is negative: changes are missing.
    #[must_use]
    pub fn has_negative(&self) -> bool {
        match &self.form {
            Form::List(entries) => entries.iter().any(|(_, n)| *n < 0),
            _ => self.positive() < self.entries(),
        }
    }

    /// No entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.form, Form::List(entries) if entries.is_empty())
    }

    /// The entries lie in rows; counts and entries are not here.
    #[must_use]
    pub fn is_in_rows(&self) -> bool {
        matches!(self.form, Form::InRows(_))
    }

    /// The set lies in rows and has changes that its summary does not tell yet.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        matches!(&self.form, Form::InRows(rows) if !rows.changes.is_empty())
    }

    /// The set outgrew its limit: its entries are gone for good.
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        matches!(self.form, Form::Overflow)
    }

    /// The first value in byte order with a positive count.
    #[must_use]
    pub fn min(&self) -> Option<&[u8]> {
        match &self.form {
            Form::InRows(rows) => rows.summary.min.as_deref(),
            _ => self.iter().find(|(_, n)| *n > 0).map(|(value, _)| value),
        }
    }

    /// The last value in byte order with a positive count.
    #[must_use]
    pub fn max(&self) -> Option<&[u8]> {
        match &self.form {
            Form::InRows(rows) => rows.summary.max.as_deref(),
            _ => self.iter().rev().find(|(_, n)| *n > 0).map(|(value, _)| value),
        }
    }

    /// What is kept of a set in rows.
    pub(super) fn in_rows(&self) -> Option<&InRows> {
        if let Form::InRows(rows) = &self.form { Some(rows) } else { None }
    }

    /// Net changes that the rows do not hold yet, to be put on top of what they hold.
    pub(super) fn behind(&self) -> impl Iterator<Item = (&[u8], i64)> {
        let changes = self.in_rows().map(|rows| &rows.changes);
        changes.into_iter().flatten().map(|(value, n)| (value.as_bytes(), *n))
    }

    /// Appends the set. Entries come behind their number; 0 stands before a form that has none here.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.entries_here() as u64);
        match &self.form {
            Form::List(_) | Form::Tree(_) => {
                for (value, n) in self.iter() {
                    put_bytes(out, value);
                    put_i64(out, n);
                }
            }
            Form::InRows(rows) => {
                let Summary { entries, positive, min, max } = &rows.summary;
                out.push(IN_ROWS);
                put_u64(out, *entries as u64);
                put_u64(out, *positive as u64);
                for end in [min, max].into_iter().flatten() {
                    put_bytes(out, end);
                }
            }
            Form::Overflow => out.push(OVERFLOW),
        }
    }

    /// Reads what [`CountedSet::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.usize()?;
        if count == 0 {
            return match reader.u8()? {
                IN_ROWS => {
                    let (entries, positive) = (reader.usize()?, reader.usize()?);
                    let mut end = || reader.bytes().map(|bytes| (positive > 0).then(|| Box::from(bytes)));
                    let (min, max) = if positive > 0 { (end()?, end()?) } else { (None, None) };
                    let summary = Summary { entries, positive, min, max };
                    Ok(Self::of_rows(InRows { summary, ..InRows::default() }))
                }
                OVERFLOW => Ok(Self::of_overflow()),
                _ => Err(Malformed("unknown form of a set")),
            };
        }
        let mut entries = Entries::new();
        for _ in 0..count {
            let value = SetValue::new(reader.bytes()?);
            let n = reader.i64()?;
            if n == 0 || entries.last().is_some_and(|(last, _)| *last >= value) {
                return Err(Malformed("set entries out of order"));
            }
            entries.push((value, n));
        }
        Ok(Self::of(entries))
    }
}

const IN_ROWS: u8 = 1;
const OVERFLOW: u8 = 2;

fn add_to_list(entries: &mut Entries, value: &[u8], n: i64) {
    if n == 0 {
        return;
    }
    match entries.binary_search_by(|(v, _)| v.as_bytes().cmp(value)) {
        Ok(at) => {
            let Some((_, count)) = entries.get_mut(at) else { return };
            *count = count.wrapping_add(n);
            if *count == 0 {
                entries.remove(at);
            }
        }
        Err(at) => entries.insert(at, (SetValue::new(value), n)),
    }
}

impl PartialEq for CountedSet {
    fn eq(&self, other: &Self) -> bool {
        match (&self.form, &other.form) {
            (Form::Overflow, Form::Overflow) => true,
            (Form::InRows(a), Form::InRows(b)) => a.summary == b.summary && a.changes == b.changes,
            (Form::Overflow | Form::InRows(_), _) | (_, Form::Overflow | Form::InRows(_)) => false,
            _ => self.iter().eq(other.iter()),
        }
    }
}

impl Eq for CountedSet {}

impl std::fmt::Debug for CountedSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.form {
            Form::Overflow => f.write_str("overflow"),
            Form::InRows(rows) => {
                f.debug_tuple("InRows").field(&rows.summary).field(&rows.changes.len()).finish()
            }
            _ => f.debug_map().entries(self.iter()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CountedSet, LIST_ENTRIES_MAX, Summary};
    use crate::state::set::InRows;
    use crate::state::varint::Reader;
    use std::collections::BTreeMap;

    #[test]
    fn min_and_max_pass_over_negative_entries() {
        let mut set = CountedSet::new();
        for (value, n) in
            [(b"b".as_slice(), 2), (b"a", -1), (b"z", -3), (b"long value beyond the inline bytes", 1)]
        {
            set.add(value, n);
        }
        assert_eq!(
            (set.min(), set.max()),
            (Some(&b"b"[..]), Some(&b"long value beyond the inline bytes"[..]))
        );
        assert_eq!((set.positive(), set.entries(), set.has_negative()), (2, 4, true));
        set.add(b"a", 1);
        assert_eq!(set.entries(), 3);
    }

    #[test]
    fn a_list_that_grows_into_a_tree_and_back_is_the_same_set() {
        let (mut set, mut model) = (CountedSet::new(), BTreeMap::new());
        let mut add = |value: u16, n: i64| {
            set.add(&value.to_be_bytes(), n);
            *model.entry(value.to_be_bytes().to_vec()).or_insert(0) += n;
            model.retain(|_, n| *n != 0);
            assert!(set.iter().eq(model.iter().map(|(value, n)| (&value[..], *n))));
            let positive = model.values().filter(|n| **n > 0).count();
            assert_eq!((set.entries(), set.positive()), (model.len(), positive));
            assert_eq!(set.has_negative(), positive < model.len());
            assert_eq!(
                set.count(&value.to_be_bytes()),
                model.get(&value.to_be_bytes()[..]).copied().unwrap_or(0)
            );
            let mut bytes = Vec::new();
            set.encode(&mut bytes);
            if !set.is_empty() {
                assert_eq!(CountedSet::decode(&mut Reader::new(&bytes)).as_ref(), Ok(&set));
            }
        };
        let top = u16::try_from(LIST_ENTRIES_MAX * 2).unwrap();
        (0..top).for_each(|v| add(v * 7 % top, if v % 5 == 0 { -1 } else { 2 }));
        (0..top).for_each(|v| add(v * 3 % top, 1));
        (0..top).for_each(|v| add(v, if v * 7 % top == 0 { -1 } else { -3 }));
        assert!(set.entries() < LIST_ENTRIES_MAX);
    }

    #[test]
    fn a_set_takes_no_more_room_in_a_record_than_its_list() {
        assert_eq!(size_of::<CountedSet>(), size_of::<Vec<u8>>());
    }

    #[test]
    fn sets_that_are_not_here_come_back_as_such() {
        let end = || Some(Box::from(&b"x"[..]));
        for summary in [
            Summary { entries: 900, positive: 899, min: end(), max: end() },
            Summary { entries: 70, positive: 0, min: None, max: None },
        ] {
            let set = CountedSet::of_rows(InRows { summary, ..InRows::default() });
            let mut bytes = Vec::new();
            set.encode(&mut bytes);
            let back = CountedSet::decode(&mut Reader::new(&bytes)).unwrap();
            assert_eq!(back, set);
            assert!(back.is_in_rows() && back.has_negative() && !back.is_behind() && !back.is_empty());
        }
        let mut bytes = Vec::new();
        CountedSet::of_overflow().encode(&mut bytes);
        let mut back = CountedSet::decode(&mut Reader::new(&bytes)).unwrap();
        back.add(b"x", 1);
        assert!(back.is_overflow() && !back.is_empty() && back.entries() == 0);
        assert!(CountedSet::decode(&mut Reader::new(&[0, 0])).is_err());
    }
}
