//! Write Retag rules in Rust: rows in, labels out.
//!
//! A rule is a few structs and three functions: [`Row`] structs say which columns of which tables it reads,
//! [`Aggregates`] what is kept per key, [`Params`] and [`Labels`] what people turn and read; `map_…` functions turn one
//! row image into contributions, `label` turns the sums into labels. `rules/payer` is the example to copy.
//! On Wasm this crate owns the allocator, the panic handler and the exports of the ABI `retag_1` (`ABI.md`); natively
//! [`testing`] runs the same functions over the same bytes. Nothing here keeps state between rows.
#![no_std]

#[doc(hidden)]
pub extern crate alloc;
#[cfg(not(target_family = "wasm"))]
extern crate std;

// The names that derives write (`::retag_sdk::…`) also hold inside this crate's own tests.
#[cfg(test)]
extern crate self as retag_sdk;

mod batch;
mod clock;
mod column;
mod decimal;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;
mod kind;
mod label;
mod log;
#[doc(hidden)]
pub mod manifest;
mod out;
mod param;
mod rule;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod time;
mod value;

pub use batch::Batch;
pub use clock::Clock;
pub use column::{Absentable, Column, Key, KeyColumn};
pub use decimal::{Decimal, WideDecimal};
pub use kind::{
    Add1, Any, Contributed, Count, Distinct, Entry, Kind, KindInfo, Max, Min, Ordered, Sum, Summand,
};
pub use label::{LabelField, LabelInfo, LabelSet, LabelValue};
pub use out::{Out, To};
pub use param::{ParamInfo, ParamSet, ParamType, Slots};
pub use retag_sdk_macros::{Aggregates, LabelValue, Labels, Params, Row, rule};
pub use rule::{AggregateSet, ColumnInfo, Label, Map, Rule, TableInfo, TableRow};
pub use time::{Date, Duration, Timestamp};
pub use value::ValueType;

#[doc(hidden)]
pub mod derive {
    //! What generated code names besides the public items; no promise is made about it.
    pub use crate::column::{KeyKind, KeyTag};
    pub use crate::log::line as log_line;
    pub use crate::manifest::{ColumnName, Raw};
    pub use crate::out::To;
    pub use crate::rule::each;
}

/// Version of this crate, written into every manifest.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The readings of the aggregates of `A`, as plain typed fields: what `label` gets.
pub type Sums<A> = <A as AggregateSet>::Sums;

/// The write handles of the aggregates of `A`: what a `map_…` function gets.
pub type Add<'a, A> = <A as AggregateSet>::Add<'a>;

/// What a rule crate imports.
pub mod prelude {
    pub use crate::{
        Absentable, Add, Aggregates, Any, Clock, Count, Date, Decimal, Distinct, Duration, LabelValue,
        Labels, Max, Min, Params, Row, Sum, Sums, Timestamp, WideDecimal, rule,
    };
}
