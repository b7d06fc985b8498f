//! What `map` emits, as the host reads it: records, computed keys and a heap, kept between calls so that a batch
//! allocates nothing. Written through shared handles, of which a rule holds one per aggregate.
//!
//! The only `unsafe` of the map side: plain vectors behind shared references, borrowed for the length of a push.
#![allow(unsafe_code)] // see the SAFETY comments: no reference into a cell outlives one method of this file

use alloc::vec::Vec;
use core::cell::{Cell, UnsafeCell};

use retag_abi::KEY_BYTES_MAX;
use retag_abi::contribution::{KEYS_PER_ROW_MAX, KeyEntry, Record, heap_reference};

use crate::Key;

/// Contributions of a batch.
#[derive(Default)]
pub struct Out {
    records: UnsafeCell<Vec<Record>>,
    keys: UnsafeCell<Vec<KeyEntry>>,
    heap: UnsafeCell<Vec<u8>>,
    row: Cell<u32>,
    keys_of_row: Cell<u16>,
}

impl core::fmt::Debug for Out {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Out").field("row", &self.row).finish_non_exhaustive()
    }
}

impl Out {
    /// Nothing emitted yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            records: UnsafeCell::new(Vec::new()),
            keys: UnsafeCell::new(Vec::new()),
            heap: UnsafeCell::new(Vec::new()),
            row: Cell::new(0),
            keys_of_row: Cell::new(0),
        }
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.records.get_mut().clear();
        self.keys.get_mut().clear();
        self.heap.get_mut().clear();
    }

    /// Records, computed keys and heap.
    pub fn parts(&mut self) -> (&[Record], &[KeyEntry], &[u8]) {
        (self.records.get_mut(), self.keys.get_mut(), self.heap.get_mut())
    }

    /// What follows belongs to `row`.
    #[inline]
    pub(crate) fn begin(&self, row: u32) {
        self.row.set(row);
        self.keys_of_row.set(0);
    }

    #[inline]
    fn push(&self, aggregate: u16, key: u16, value: i64) {
        let record = Record { row: self.row.get(), aggregate, key, value };
        // SAFETY: `Out` is not Sync and `push` calls no code that could reach this cell again.
        unsafe { (*self.records.get()).push(record) }
    }

    /// Appends `bytes` to the heap: (offset, length).
    fn store(&self, bytes: &[u8]) -> (u32, u32) {
        // SAFETY: as in `push`; `bytes` cannot lie in the heap, which is handed out by `parts(&mut self)` only.
        let heap = unsafe { &mut *self.heap.get() };
        let (Ok(offset), Ok(length)) = (u32::try_from(heap.len()), u32::try_from(bytes.len())) else {
            too_much("the heap of a batch is full")
        };
        heap.extend_from_slice(bytes);
        (offset, length)
    }

    fn key(&self, key: Key<'_>) -> u16 {
        let n = self.keys_of_row.get() + 1;
        if n > KEYS_PER_ROW_MAX {
            too_much("more than 255 computed keys for one row");
        }
        self.keys_of_row.set(n);
        let (length, value) = match key {
            Key::Bits(bits) => (8, bits),
            Key::Bytes(bytes) => match u16::try_from(bytes.len()) {
                Ok(length) if bytes.len() <= KEY_BYTES_MAX => (length, u64::from(self.store(bytes).0)),
                _ => too_much("a key of more than 255 bytes"),
            },
        };
        // SAFETY: as in `push`.
        unsafe { (*self.keys.get()).push(KeyEntry { row: self.row.get(), n, length, value }) }
        n
    }
}

/// Where a contribution goes: the row's own key (0) or a computed one. A value, so that nothing stays switched.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    out: &'a Out,
    key: u16,
}

impl<'a> To<'a> {
    /// To the row's own key.
    #[must_use]
    #[inline]
    pub fn own(out: &'a Out) -> Self {
        Self { out, key: 0 }
    }

    /// To a computed key.
    #[must_use]
    #[inline]
    pub fn at(self, key: Key<'_>) -> Self {
        Self { out: self.out, key: self.out.key(key) }
    }

    /// Contributes a value that fits 8 bytes.
    #[inline]
    pub fn push(self, aggregate: u16, value: i64) {
        self.out.push(aggregate, self.key, value);
    }

    /// Contributes a value of any length.
    pub fn push_bytes(self, aggregate: u16, value: &[u8]) {
        let (offset, length) = self.out.store(value);
        self.out.push(aggregate, self.key, heap_reference(offset, length));
    }
}

#[cold]
#[inline(never)]
#[allow(clippy::panic)] // the image is refused with this message
fn too_much(what: &'static str) -> ! {
    panic!("{what}")
}
