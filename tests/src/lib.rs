//! What the tests, the demo and the bench share: a generator of change streams and a model that recomputes them.
//!
//! Neither knows the host's code: `shop` only prints Maxwell messages, `model` only reads them. `proof` holds the real binary
//! against both while everything flows. `trial` is the harness of tests that need real servers.
#![allow(
    clippy::print_stdout, // the proofs print their tables
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // tests: a failure here is a failed test, and numbers are chosen to fit

pub mod model;
pub mod proof;
pub mod rule_file;
pub mod shop;
pub mod simulation;
pub mod trial;
