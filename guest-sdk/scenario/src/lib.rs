//! Scenario files: data beside a rule, rows in, transitions out. Parsed here once for both runs, native and Wasm.
//!
//! Engine time begins at 1970-01-01 00:00:00 UTC, and a block lists the net change of all labels since the block before.
//! [`parse`] keeps the rows of the tables, so that every change carries full images; [`difference`] compares a block
//! of expected transitions with what a run gave, and [`bless`] rewrites a file with it. Nothing here knows rules.

mod bless;
mod line;
mod parse;

pub use bless::{bless, difference, entry, sorted};
pub use parse::{Error, parse};

use serde_json::{Map, Value};

/// The transitions of one block: (key text, entries such as `never_paid`, `-big_spender`, `tier=gold`).
pub type Transitions = Vec<(String, Vec<String>)>;

/// A row of a table: column → JSON value.
pub type Row = Map<String, Value>;

/// A parsed scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scenario {
    /// `param NAME = VALUE` lines.
    pub params: Vec<(String, Value)>,
    /// All other lines, in order.
    pub steps: Vec<Step>,
}

/// One step, with its line number (from 1).
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `+`, `-` or `~`: a row change with full images.
    Change {
        /// Line in the file.
        line: usize,
        /// `database.table`.
        table: String,
        /// Row before.
        before: Option<Row>,
        /// Row after.
        after: Option<Row>,
    },
    /// `@ +8d`: engine time goes on.
    Advance {
        /// Line in the file.
        line: usize,
        /// By how many microseconds.
        micros: i64,
    },
    /// One block of `=>` lines: every transition since the last one. Empty = `=> nothing`.
    Expect {
        /// Line in the file of the first `=>`.
        line: usize,
        /// (key text, entries such as `never_paid`, `-big_spender`, `tier=gold`).
        transitions: Vec<(String, Vec<String>)>,
    },
}
