//! The engine: owns workers, commits and back-pressure; knows every stage and contains none of their logic.
//!
//! A deterministic state machine ([`message::Actor`]s that turn one message into others) with two drivers: [`threads`]
//! runs it for real, the seeded scheduler of the simulation runs it on one thread in any order. Nothing here but the
//! drivers knows what time it is.

pub mod assemble;
mod carried;
pub mod check;
pub mod command;
pub mod coordinator;
mod cycle;
pub mod dead_letters;
pub mod deliver;
pub mod drift;
pub mod failure;
mod faults;
mod fits;
mod forms;
mod gather;
pub mod lane;
pub mod ledger;
pub mod message;
pub mod outbox;
pub mod parts;
pub mod program;
mod reading;
pub mod recorded;
mod refusals;
pub mod quarantine;
pub mod rebuild;
pub mod rows;
pub mod rules;
pub mod setup;
pub mod sinks;
pub mod sources;
pub mod shard;
pub mod swap_times;
pub mod sweep;
pub mod threads;
mod track;
pub mod worker;
