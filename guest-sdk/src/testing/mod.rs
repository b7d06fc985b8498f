//! The native twin of the host: the same `map` and `label` of a rule over the same bytes, with the host's arithmetic in
//! miniature. For tests of rules (`Harness`, `run_scenarios`) and for the host's own tests that native and Wasm agree
//! (`map_bytes`, `label_bytes`). Never part of a Wasm file.
#![allow(clippy::panic)] // a harness reports by panicking: that is how a test fails

mod buffers;
mod harness;
mod json;
mod native;
mod scenario;
mod totals;

pub use buffers::{batch, label_input};
pub use harness::Harness;
pub use json::{cell, param};
pub use native::Native;
pub use scenario::{Blocks, Mode, run_scenario, run_scenarios};
pub use totals::{KeyValue, Reading, Totals};

use alloc::vec::Vec;

use crate::rule::Answers;
use crate::{Batch, Label, Map, Out};

/// One value of a row as the harness stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// The message does not carry the column.
    Absent,
    /// A number of any fixed-length type: bool as 0 or 1, decimals as value × 10^scale, times in µs, dates in days.
    Number(i128),
    /// Text or bytes.
    Bytes(Vec<u8>),
}

/// Records, computed keys and heap, as their bytes.
pub type Contributions = (Vec<u8>, Vec<u8>, Vec<u8>);

/// `sets` (keys × labels) and `wake` (per key, µs).
pub type Answer = (Vec<u16>, Vec<i64>);

/// `map` of `R` over a batch, natively: records, computed keys and heap as their bytes.
///
/// # Panics
/// Where the guest would trap.
#[must_use]
pub fn map_bytes<R: Map>(batch: &[u8]) -> Contributions {
    let mut out = Out::new();
    R::map(&Batch::images(batch), &out);
    let (records, keys, heap) = out.parts();
    let records = records.iter().flat_map(|record| record.to_bytes()).collect();
    (records, keys.iter().flat_map(|key| key.to_bytes()).collect(), heap.to_vec())
}

/// `label` of `R` over an input, natively: `sets` (keys × labels) and `wake` (per key, µs).
///
/// # Panics
/// Where the guest would trap.
#[must_use]
pub fn label_bytes<R: Label>(input: &[u8]) -> Answer {
    let mut answers = Answers::default();
    answers.fill::<R>(input);
    (answers.sets, answers.wake)
}
