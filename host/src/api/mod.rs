//! Reads for people and programs: what a key carries, who carries a label, what the sums are, where the host stands.
//!
//! `reader` is the state as of one commit; `labels`, `members`, `aggregates`, `rules`, `status` and `quarantine` answer
//! from it, each with the commit that the answer is of; `routes` gives the answers their HTTP form and `server` puts
//! them on the socket in the state directory. The command line asks the same routes, over the socket or in its own
//! process on a stopped directory. Nothing here writes, and nothing asks a worker.

mod about;
pub mod aggregates;
mod body;
mod error;
pub mod labels;
pub mod members;
pub mod problem;
pub mod quarantine;
mod reader;
mod routes;
pub mod rules;
mod server;
pub mod status;
mod value;

pub use about::{About, SourceAbout};
pub use error::ApiError;
pub use reader::Reader;
pub use routes::{Api, router};
pub use server::{Limits, ServerHandle, serve, serve_with};
