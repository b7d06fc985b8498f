//! Counted sets: values with signed counts, what distinct, min and max are read from. Adding and taking away commute, so
//! a set is an abelian group; a count may be negative while the change that it waits for is missing.

use super::varint::{Malformed, Reader, put_bytes, put_i64, put_u64};

/// Longest value kept without an allocation.
const INLINE_BYTES: usize = 22;

#[derive(Clone)]
enum SetValue {
    Inline(u8, [u8; INLINE_BYTES]),
    Heap(Box<[u8]>),
}

impl SetValue {
    fn new(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE_BYTES];
        match (inline.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(head), Ok(len)) => {
                head.copy_from_slice(bytes);
                Self::Inline(len, inline)
            }
            _ => Self::Heap(bytes.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or(&[]),
            Self::Heap(bytes) => bytes,
        }
    }
}

/// Values with signed counts, in byte order; an entry at 0 does not exist.
#[derive(Clone, Default)]
pub struct CountedSet {
    entries: Vec<(SetValue, i64)>,
}

impl CountedSet {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `n` to the count of `value`.
    pub fn add(&mut self, value: &[u8], n: i64) {
        if n == 0 {
            return;
        }
        match self.entries.binary_search_by(|(v, _)| v.as_bytes().cmp(value)) {
            Ok(at) => {
                let Some((_, count)) = self.entries.get_mut(at) else { return };
                *count = count.wrapping_add(n);
                if *count == 0 {
                    self.entries.remove(at);
                }
            }
            Err(at) => self.entries.insert(at, (SetValue::new(value), n)),
        }
    }

    /// Count of `value`; 0 where there is no entry.
    #[must_use]
    pub fn count(&self, value: &[u8]) -> i64 {
        let found = self.entries.binary_search_by(|(v, _)| v.as_bytes().cmp(value)).ok();
        found.and_then(|at| self.entries.get(at)).map_or(0, |(_, n)| *n)
    }

    /// All entries in byte order of the values, negative ones too.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], i64)> {
        self.entries.iter().map(|(value, n)| (value.as_bytes(), *n))
    }

    /// Number of all entries, negative ones too.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Number of values with a positive count.
    #[must_use]
    pub fn positive(&self) -> usize {
        self.entries.iter().filter(|(_, n)| *n > 0).count()
    }

    /// An entry is negative: changes are missing.
    #[must_use]
    pub fn has_negative(&self) -> bool {
        self.entries.iter().any(|(_, n)| *n < 0)
    }

    /// No entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first value in byte order with a positive count.
    #[must_use]
    pub fn min(&self) -> Option<&[u8]> {
        self.iter().find(|(_, n)| *n > 0).map(|(value, _)| value)
    }

    /// The last value in byte order with a positive count.
    #[must_use]
    pub fn max(&self) -> Option<&[u8]> {
        self.iter().rev().find(|(_, n)| *n > 0).map(|(value, _)| value)
    }

    /// Appends the entries.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.entries.len() as u64);
        for (value, n) in self.iter() {
            put_bytes(out, value);
            put_i64(out, n);
        }
    }

    /// Reads what [`CountedSet::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut set = CountedSet::new();
        for _ in 0..reader.usize()? {
            let value = SetValue::new(reader.bytes()?);
            let n = reader.i64()?;
            if n == 0 || set.entries.last().is_some_and(|(last, _)| last.as_bytes() >= value.as_bytes()) {
                return Err(Malformed("set entries out of order"));
            }
            set.entries.push((value, n));
        }
        Ok(set)
    }
}

impl PartialEq for CountedSet {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for CountedSet {}

impl std::fmt::Debug for CountedSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::CountedSet;

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
}
