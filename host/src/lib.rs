//! Retag: a row change becomes a label. The modules stand in the order of the data's way:
//! source → decode → change → rule → aggregate → label → sink, run by `pipeline`; then the side rooms.

pub mod source;
pub mod decode;
pub mod change;
pub mod rule;
pub mod aggregate;
pub mod label;
pub mod sink;
pub mod pipeline;

pub mod state;
pub mod registry;
pub mod config;
pub mod clock;
pub mod priority;
pub mod failpoint;
pub mod api;
pub mod cli;
