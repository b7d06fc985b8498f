//! Reads for people and programs: what a key carries, who carries a label, what the sums are, where the host stands.
//!
//! `reader` is the state as of one commit; `labels`, `members`, `aggregates`, `rules`, `status` and `quarantine` answer
//! from it, each with the commit that the answer is of; `routes` gives the answers their HTTP form, `openapi` describes
//! them, `ofrep` gives them as feature flags. `server` puts the routes on the socket in the state directory, `listen`
//! on the network; `gate` lets through who may (`caller`, `access`, `role`) and no faster than allowed (`rate`, `edge`).
//! The command line asks the same routes: over the network, over the socket, or in its own process on a stopped
//! directory. Nothing here asks a worker; what changes the registry goes by `commands` to whoever writes the state, and
//! tokens have a file of their own.

mod about;
mod adopt;
pub mod access;
pub mod aggregates;
mod body;
mod caller;
mod commands;
mod connection;
pub mod dead_letters;
mod edge;
mod error;
mod exposition;
mod gate;
mod history;
pub mod idempotency;
pub mod labels;
mod lag;
mod listen;
mod log;
pub mod members;
mod metrics;
mod ofrep;
mod openapi;
pub mod precondition;
pub mod problem;
mod pulse;
pub mod quarantine;
mod rate;
mod reader;
mod rebuild;
pub mod sampled;
pub mod operation;
pub mod release;
mod pause_routes;
mod push_routes;
mod release_routes;
mod request;
mod role;
mod route;
mod routes;
pub mod rules;
mod server;
pub mod sinks;
pub mod status;
mod tls;
pub mod tokens;
mod transitions;
mod value;
mod write;

pub use about::{About, SourceAbout};
pub use caller::{Caller, Peer};
pub use commands::{Commands, Terms};
pub use edge::Edge;
pub use error::ApiError;
pub use listen::{FILE_NAME as URL_FILE_NAME, Listening, listen};
pub use metrics::{Limit, Metrics};
pub use openapi::document;
pub use reader::Reader;
pub use rebuild::{Rebuild, RebuildProgress};
pub use request::Upload;
pub use role::{Access, Role};
pub use route::Route;
pub use routes::{Api, router, routes};
pub use server::{Limits, ServerHandle, serve, serve_router, serve_with};
