//! The Wasm side of the ABI: imports, exports, allocator, panic handler. `#[rule]` emits three thin shells around
//! [`reserve`], [`map`] and [`label`]; what they return lies in the statics here until the next call.
#![allow(unsafe_code)] // the border to the host; each use says why it is sound
#![allow(clippy::cast_possible_truncation)] // wasm32: addresses and lengths are 32 bits wide

use core::cell::UnsafeCell;
use core::fmt::Write;

use retag_abi::contribution::{HEADER_LEN, Header};
use retag_abi::label::{OUTPUT_HEADER_LEN, OutputHeader};
use retag_abi::pack;

use crate::rule::Answers;
use crate::{Batch, Label, Map, Out};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

mod host {
    #[link(wasm_import_module = "retag_1")]
    unsafe extern "C" {
        pub(super) safe fn log(level: u32, ptr: *const u8, len: usize);
        pub(super) safe fn fail(ptr: *const u8, len: usize);
    }
}

/// A static of a guest.
struct One<T>(UnsafeCell<T>);

// SAFETY: a Wasm instance without threads: nothing runs beside the one call of the host.
unsafe impl<T> Sync for One<T> {}

impl<T> One<T> {
    /// The static, for the length of one call of the host.
    #[allow(clippy::mut_from_ref)] // what the type is for
    fn get(&self) -> &mut T {
        // SAFETY: each static is taken once in each export, and the host cannot call while a call runs.
        unsafe { &mut *self.0.get() }
    }
}

/// 16 bytes at an address that is a multiple of 16, as the ABI asks for.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Line(#[allow(dead_code)] [u8; 16]); // read as bytes

static INPUT: One<alloc::vec::Vec<Line>> = One(UnsafeCell::new(alloc::vec::Vec::new()));
static OUT: One<Out> = One(UnsafeCell::new(Out::new()));
static ANSWERS: One<Answers> = One(UnsafeCell::new(Answers::new()));
static HEADER: One<[u8; HEADER_LEN]> = One(UnsafeCell::new([0; HEADER_LEN]));

/// Export `reserve`: room for `bytes` of input; kept, and only ever grown.
#[must_use]
pub fn reserve(bytes: usize) -> *mut u8 {
    let input = INPUT.get();
    let lines = bytes.div_ceil(size_of::<Line>());
    if input.len() < lines {
        input.resize(lines, Line([0; 16]));
    }
    input.as_mut_ptr().cast()
}

/// The first `len` reserved bytes. The address that the host passes is the one `reserve` gave: it is not followed.
fn input(len: usize) -> &'static [u8] {
    let input: &'static mut alloc::vec::Vec<Line> = INPUT.get();
    let lines = input.get(..len.div_ceil(size_of::<Line>())).unwrap_or_default();
    let len = len.min(size_of_val(lines));
    // SAFETY: `lines` covers `len` initialised bytes; only `reserve` changes them, which runs between calls.
    unsafe { core::slice::from_raw_parts(lines.as_ptr().cast(), len) }
}

/// (address, length in bytes) of `part`.
fn place<T>(part: &[T]) -> (u32, u32) {
    match part {
        [] => (0, 0),
        part => (part.as_ptr() as u32, size_of_val(part) as u32),
    }
}

/// Export `map`.
#[must_use]
pub fn map<R: Map>(len: usize) -> i64 {
    let out = OUT.get();
    out.clear();
    R::map(&Batch::images(input(len)), out);
    let (records, keys, heap) = out.parts();
    let header = HEADER.get();
    Header { records: place(records), keys: place(keys), heap: place(heap) }.write(header);
    pack(header.as_ptr() as u32, HEADER_LEN as u32)
}

/// Export `label`.
#[must_use]
pub fn label<R: Label>(len: usize) -> i64 {
    let answers = ANSWERS.get();
    answers.fill::<R>(input(len));
    let header = HEADER.get();
    OutputHeader { sets: place(&answers.sets), wake: place(&answers.wake) }.write(header);
    pack(header.as_ptr() as u32, OUTPUT_HEADER_LEN as u32)
}

/// Writes a line to the host's log.
pub fn log(level: u32, text: &str) {
    host::log(level, text.as_ptr(), text.len());
}

/// A panic's message, cut at the end of the buffer.
struct Message {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let mut message = Message { bytes: [0; 512], len: 0 };
    let _ = write!(message, "{info}");
    host::fail(message.bytes.as_ptr(), message.len);
    core::arch::wasm32::unreachable()
}
