//! Contributions → sums. An aggregate kind says how a contributed value changes a key's cell and how the cell reads.
//!
//! Each kind is one file that implements [`Kind`] and is registered in [`KINDS`]; the laws in `laws.rs` (inverse,
//! order, merge) run on every registered kind by themselves. All kinds are abelian groups over one of two shapes of
//! storage: a linear sum or a counted set; nothing here knows rows, rules or storage formats.

mod any;
mod count;
mod distinct;
pub mod delta;
mod extreme;
pub mod log;
mod sum;
pub mod value;

#[cfg(test)]
mod laws;

use crate::rule::manifest::{self, ValueType};
use crate::state::{Cell, CountedSet};

/// Most entries of a key's counted set at a commit's end. Beyond, the set overflows: its entries are given up, and the
/// rule's labels of that key stand still until a coarser rule is built anew.
pub const SET_ENTRIES_MAX: usize = 65_536;

/// How a kind is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One integer: contributions are added.
    Linear,
    /// Value → count: contributions count their value up or down.
    Set,
}

/// What `label` reads of one aggregate of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// any
    Bool(bool),
    /// count
    I64(i64),
    /// distinct
    U64(u64),
    /// sum, scaled by the value type's scale
    I128(i128),
    /// min and max: the value's bytes in comparable form (see [`value`]), if there is one
    Entry(Option<Box<[u8]>>),
}

/// An aggregate kind.
pub trait Kind: Sync {
    /// Its name in manifests.
    fn name(&self) -> &'static str;
    /// Whether it takes contributions of this type (`None` = contributions carry no value of their own).
    fn accepts(&self, value: Option<ValueType>) -> bool;
    /// How it is stored.
    fn shape(&self) -> Shape;
    /// The linear amount of one contribution; unused by sets.
    fn amount(&self, value: i128) -> i128 {
        value
    }
    /// What a cell reads as; `None` = the aggregate is zero.
    fn reading(&self, cell: Option<Cell<'_>>) -> Reading;
    /// A state that no set of rows can have, seen between a retraction and its late insertion; or a set that overflowed.
    fn pending(&self, cell: Cell<'_>) -> bool;
}

/// All kinds there are.
pub static KINDS: &[&dyn Kind] = &[
    &any::Any,
    &count::Count,
    &sum::Sum,
    &extreme::Extreme::MIN,
    &extreme::Extreme::MAX,
    &distinct::Distinct,
];

/// Kinds and features that ABI.md names and that this host does not have yet.
const TO_COME: &[&str] =
    &["first", "last", "avg", "variance", "quantile", "top", "histogram", "distinct_approx", "smallest"];

/// One aggregate of a rule, ready to use.
#[derive(Clone, Copy)]
pub struct Aggregate {
    /// Its kind.
    pub kind: &'static dyn Kind,
    /// Type of its contributed values.
    pub value: Option<ValueType>,
}

/// An aggregate that this host cannot keep.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AggregateError {
    /// A kind of the ABI that is still to come.
    #[error(
        "aggregate `{name}`: kind `{kind}` is part of retag_1 but not supported yet; use any, count, sum, min, max or distinct"
    )]
    ToCome {
        /// Name of the aggregate.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// A kind nobody knows.
    #[error("aggregate `{name}`: unknown kind `{kind}`; known are any, count, sum, min, max, distinct")]
    Unknown {
        /// Name of the aggregate.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// A kind with a value type that it does not take.
    #[error("aggregate `{name}`: kind `{kind}` does not take values of this type")]
    Value {
        /// Name of the aggregate.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// Windows are still to come.
    #[error("aggregate `{name}`: windows are part of retag_1 but not supported yet; remove the window")]
    Window {
        /// Name of the aggregate.
        name: String,
    },
}

impl Aggregate {
    /// The aggregate that a manifest declares.
    ///
    /// # Errors
    /// Kinds, value types and features that this host does not have, by name.
    pub fn from_manifest(declared: &manifest::Aggregate) -> Result<Self, AggregateError> {
        let (name, kind) = (declared.name.clone(), declared.kind.clone());
        let Some(found) = KINDS.iter().find(|k| k.name() == kind) else {
            return Err(if TO_COME.contains(&kind.as_str()) {
                AggregateError::ToCome { name, kind }
            } else {
                AggregateError::Unknown { name, kind }
            });
        };
        if declared.window.is_some() {
            return Err(AggregateError::Window { name });
        }
        if !found.accepts(declared.value) {
            return Err(AggregateError::Value { name, kind });
        }
        Ok(Self { kind: *found, value: declared.value })
    }
}

/// The linear amount in a cell; 0 where there is none.
fn linear(cell: Option<Cell<'_>>) -> i128 {
    match cell {
        Some(Cell::Sum(sum)) => sum,
        _ => 0,
    }
}

/// The counted set in a cell, if there is one.
fn counted(cell: Option<Cell<'_>>) -> Option<&CountedSet> {
    match cell {
        Some(Cell::Set(set)) => Some(set),
        _ => None,
    }
}

/// Whether a set cannot be read: an entry was retracted more often than added, or it outgrew its limit.
fn unreadable(cell: Cell<'_>) -> bool {
    counted(Some(cell)).is_some_and(|set| set.has_negative() || set.is_overflow())
}
