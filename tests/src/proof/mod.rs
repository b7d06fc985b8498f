//! The measured proofs: the real binary beside a stream that flows at a steady rate, its rules swapped under it, its labels
//! read from it; what comes out is held against the model. `cargo xtask bench swaps`, `bench reads`, `bench redis`,
//! `bench topic` and `bench rules` run them.
//!
//! Open loop: the stream and the readers keep their schedule whatever the host does, and say whether they kept it.

pub mod client;
pub mod figures;
pub mod flow;
pub mod host;
pub mod judge;
pub mod kill;
pub mod many_rules;
pub mod options;
pub mod open_loop;
pub mod probes;
pub mod reads;
pub mod redis;
pub mod report;
pub mod swaps;
pub mod topic;
pub mod variant;
pub mod watch;
