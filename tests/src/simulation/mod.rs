//! The engine under a seeded scheduler, on one thread: scripted sources, a failing store, slow sinks, crashes at any
//! step. The same seed gives the same run; what must come out is told by the model.
//!
//! Messages between two parts keep their order; between different pairs anything may overtake anything, which is more
//! than threads can do.

mod check;
mod holder;
mod hook;
mod scheduler;
mod script;
mod source;
mod world;

pub use check::{
    LabelSets, Labels, MapSides, Outcome, assert_digests, assert_exact, assert_generations, assert_kept,
    assert_labels, assert_summaries, delivered_labels, label_sets, labels_in, registry,
};
pub use holder::Holder;
pub use hook::{HOOK, Hook};
pub use scheduler::{Random, Schedule};
pub use script::{RENAMED, Script, push};
pub use world::{Fate, Rules, World, small_shop};
