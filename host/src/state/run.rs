//! A sorted run: keys in ascending order, each with a body, in one checked piece of bytes. Blocks and pages are runs.
//!
//! ```text
//! kind u8, version u8, stamp u64 LE | entry* | restart u32 LE * r, r u32 LE, keys u32 LE | xxh3-64 of all before, u64 LE
//! entry = bytes shared with the key before (varint), other bytes of the key (length, bytes), body (length, bytes)
//! ```
//! Every 16th entry shares nothing and stands in the restart index, which is searched by halves. Bytes that were cut,
//! changed or written by a newer version are refused when the run is opened; whatever they hold, nothing panics.

use super::varint::{Malformed, Reader, put_bytes, put_u64};
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 10;
const FOOTER_BYTES: usize = 16;
/// Entries from one restart to the next.
pub(super) const RESTART_EVERY: u32 = 16;

/// What a run holds; the first byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RunKind {
    /// Changes of one commit.
    Block = 0xb1,
    /// Records.
    Page = 0xa1,
    /// Keys by ordinal.
    Dictionary = 0xd1,
    /// Entries of a counted set.
    Set = 0xc1,
}

/// Writes a run, key by key.
#[derive(Debug)]
pub(super) struct RunWriter {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    last_key: Vec<u8>,
    keys: u32,
}

impl RunWriter {
    /// An empty run; `stamp` is the commit of a block, the folded commit of a page.
    pub(super) fn new(kind: RunKind, stamp: u64) -> Self {
        let mut bytes = vec![kind as u8, VERSION];
        bytes.extend_from_slice(&stamp.to_le_bytes());
        Self { bytes, restarts: Vec::new(), last_key: Vec::new(), keys: 0 }
    }

    /// Appends an entry with the body `head` ++ `tail`. The key must be greater than the one before.
    pub(super) fn push(&mut self, key: &[u8], head: &[u8], tail: &[u8]) {
        let mut shared = 0;
        if self.keys.is_multiple_of(RESTART_EVERY) {
            self.restarts.push(offset(self.bytes.len()));
        } else {
            shared = key.iter().zip(&self.last_key).take_while(|(a, b)| a == b).count();
        }
        let rest = key.get(shared..).unwrap_or(&[]);
        put_u64(&mut self.bytes, shared as u64);
        put_bytes(&mut self.bytes, rest);
        put_u64(&mut self.bytes, (head.len() + tail.len()) as u64);
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(tail);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(rest);
        self.keys = self.keys.saturating_add(1);
    }

    /// Number of entries.
    pub(super) fn keys(&self) -> u32 {
        self.keys
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The finished bytes.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        for restart in &self.restarts {
            bytes.extend_from_slice(&restart.to_le_bytes());
        }
        bytes.extend_from_slice(&offset(self.restarts.len()).to_le_bytes());
        bytes.extend_from_slice(&self.keys.to_le_bytes());
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// A place in a run as it is stored; a run past 4 GiB cannot be addressed and fails its check when opened.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A run opened for reading.
#[derive(Debug)]
pub(super) struct Run {
    bytes: Vec<u8>,
    stamp: u64,
    keys: u32,
    entries_end: usize,
    restarts_end: usize,
}

impl Run {
    /// Checks `bytes` and opens them.
    pub(super) fn open(bytes: Vec<u8>, kind: RunKind) -> Result<Self, Malformed> {
        let (content, sum) = bytes.split_last_chunk::<8>().ok_or(Malformed("cut off"))?;
        let (head, rest) = content.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed("cut off"))?;
        let [kind_byte, version, stamp @ ..] = *head;
        if kind_byte != kind as u8 {
            return Err(Malformed("bytes of another kind"));
        }
        if version != VERSION {
            return Err(Malformed("written by a newer version of retag"));
        }
        if xxh3_64(content) != u64::from_le_bytes(*sum) {
            return Err(Malformed("checksum differs"));
        }
        let (rest, keys) = rest.split_last_chunk::<4>().ok_or(Malformed("cut off"))?;
        let (rest, restarts) = rest.split_last_chunk::<4>().ok_or(Malformed("cut off"))?;
        let index_bytes =
            (u32::from_le_bytes(*restarts) as usize).checked_mul(4).ok_or(Malformed("cut off"))?;
        let entry_bytes = rest.len().checked_sub(index_bytes).ok_or(Malformed("cut off"))?;
        let (stamp, keys) = (u64::from_le_bytes(stamp), u32::from_le_bytes(*keys));
        let entries_end = HEADER_BYTES + entry_bytes;
        let restarts_end = bytes.len() - FOOTER_BYTES;
        Ok(Self { bytes, stamp, keys, entries_end, restarts_end })
    }

    /// The commit of a block, the folded commit of a page.
    pub(super) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Number of entries.
    pub(super) fn keys(&self) -> u32 {
        self.keys
    }

    /// Size of the run.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A cursor before the first entry.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        self.cursor_at(HEADER_BYTES)
    }

    fn cursor_at(&self, at: usize) -> Cursor<'_> {
        let entries = self.bytes.get(at..self.entries_end).unwrap_or(&[]);
        Cursor { entries: Reader::new(entries), key: Vec::new(), body: &[] }
    }

    /// A cursor before the first entry of a restart.
    pub(super) fn cursor_at_restart(&self, index: u32) -> Result<Cursor<'_>, Malformed> {
        let at = self.restart(index as usize).ok_or(Malformed("restart out of range"))?;
        Ok(self.cursor_at(at))
    }

    fn restart(&self, index: usize) -> Option<usize> {
        let at = self.entries_end + index * 4;
        let bytes = self.bytes.get(at..self.restarts_end)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    }

    /// A cursor that stands on the first entry with a key >= `key`, and whether there is one.
    pub(super) fn seek(&self, key: &[u8]) -> Result<(Cursor<'_>, bool), Malformed> {
        // The last restart whose key is <= `key`, by halves.
        let (mut low, mut high) = (0, (self.restarts_end - self.entries_end) / 4);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let at = self.restart(middle).ok_or(Malformed("restart out of range"))?;
            if self.restart_key(at)? <= key { low = middle } else { high = middle }
        }
        let mut cursor = self.cursor_at(self.restart(low).unwrap_or(HEADER_BYTES));
        while cursor.advance()? {
            if cursor.key.as_slice() >= key {
                return Ok((cursor, true));
            }
        }
        Ok((cursor, false))
    }

    fn restart_key(&self, at: usize) -> Result<&[u8], Malformed> {
        let mut reader =
            Reader::new(self.bytes.get(at..self.entries_end).ok_or(Malformed("restart out of range"))?);
        if reader.u64()? != 0 {
            return Err(Malformed("a restart shares bytes"));
        }
        reader.bytes()
    }

    /// Body of `key`.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<&[u8]>, Malformed> {
        let (cursor, found) = self.seek(key)?;
        Ok((found && cursor.key == key).then_some(cursor.body))
    }
}

/// Walks a run's entries in key order.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    entries: Reader<'a>,
    key: Vec<u8>,
    body: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Goes to the next entry; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, Malformed> {
        if self.entries.is_empty() {
            return Ok(false);
        }
        let shared = self.entries.usize()?;
        if shared > self.key.len() {
            return Err(Malformed("a key shares more than there is"));
        }
        let rest = self.entries.bytes()?;
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        self.body = self.entries.bytes()?;
        Ok(true)
    }

    /// Key of the entry that the cursor stands on.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Its body.
    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// One of several runs being merged; ordered so that the smallest (key, stamp) is on top of a heap.
struct Head<'a> {
    /// First bytes of the key, big endian and zero-padded: most comparisons end here.
    prefix: u128,
    cursor: Cursor<'a>,
    stamp: u64,
}

fn prefix(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(key) {
        *to = *from;
    }
    u128::from_be_bytes(bytes)
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head<'_> {}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_prefix = other.prefix.cmp(&self.prefix);
        by_prefix.then_with(|| (other.cursor.key(), other.stamp).cmp(&(self.cursor.key(), self.stamp)))
    }
}

/// Walks several runs at once, by key and then by stamp.
pub(super) struct Merge<'a> {
    heap: std::collections::BinaryHeap<Head<'a>>,
}

impl<'a> Merge<'a> {
    /// The entries of `runs` with keys >= `from`.
    pub(super) fn new(runs: impl Iterator<Item = &'a Run>, from: &[u8]) -> Result<Self, Malformed> {
        let mut heap = std::collections::BinaryHeap::new();
        for run in runs {
            let (cursor, found) = run.seek(from)?;
            if found {
                heap.push(Head { prefix: prefix(cursor.key()), cursor, stamp: run.stamp() });
            }
        }
        Ok(Self { heap })
    }

    /// The next entry's key.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.heap.peek().map(|head| head.cursor.key())
    }

    /// The next entry's stamp and body, if its key is `key`; goes on to the one after.
    pub(super) fn next_of(&mut self, key: &[u8]) -> Result<Option<(u64, &'a [u8])>, Malformed> {
        let Some(mut head) = self.heap.peek_mut() else { return Ok(None) };
        if head.cursor.key() != key {
            return Ok(None);
        }
        let entry = (head.stamp, head.cursor.body());
        if head.cursor.advance()? {
            head.prefix = prefix(head.cursor.key());
        } else {
            std::collections::binary_heap::PeekMut::pop(head);
        }
        Ok(Some(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::{Merge, Run, RunKind, RunWriter};

    fn run(stamp: u64, keys: impl Iterator<Item = u32>) -> Vec<u8> {
        let mut writer = RunWriter::new(RunKind::Block, stamp);
        keys.for_each(|key| writer.push(&key.to_be_bytes(), &key.to_le_bytes(), b"!"));
        writer.finish()
    }

    #[test]
    fn every_key_is_found_and_no_other() {
        for count in [0, 1, 15, 16, 17, 1000] {
            let run = Run::open(run(9, (0..count).map(|k| k * 2)), RunKind::Block).unwrap();
            assert_eq!((run.stamp(), run.keys()), (9, count));
            for key in 0..count * 2 + 2 {
                let body = run.find(&key.to_be_bytes()).unwrap();
                assert_eq!(body.is_some(), key % 2 == 0 && key < count * 2, "{key} of {count}");
                assert!(body.is_none_or(|body| body[..4] == key.to_le_bytes()));
            }
        }
    }

    #[test]
    fn changed_or_cut_bytes_are_refused() {
        let good = run(1, 0..40);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Run::open(bad, RunKind::Block).is_err(), "byte {at}");
            assert!(Run::open(good[..at].to_vec(), RunKind::Block).is_err(), "cut at {at}");
        }
        assert!(Run::open(good, RunKind::Page).is_err());
    }

    #[test]
    fn a_merge_goes_by_key_then_stamp() {
        let runs = [run(2, [3, 5, 8].into_iter()), run(1, [3, 4, 8].into_iter())];
        let runs: Vec<Run> =
            runs.into_iter().map(|bytes| Run::open(bytes, RunKind::Block).unwrap()).collect();
        let mut merge = Merge::new(runs.iter(), &4u32.to_be_bytes()).unwrap();
        let mut seen = Vec::new();
        while let Some(key) = merge.key().map(<[u8]>::to_vec) {
            while let Some((stamp, _)) = merge.next_of(&key).unwrap() {
                seen.push((key[3], stamp));
            }
        }
        assert_eq!(seen, [(4, 1), (5, 2), (8, 1), (8, 2)]);
    }
}
