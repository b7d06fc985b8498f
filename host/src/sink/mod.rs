//! Transitions → outside. A sink is told of durable commits only, in order, and says when it has them for good.

pub mod message;
pub mod ndjson;
pub mod table;

use crate::config::Deliver;
use crate::label::outbox::Place;
use crate::label::{Cause, SWITCH, Transition};
use message::{Message, Summary};
use std::path::PathBuf;

/// A sink that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The operating system says no (a full disk, a missing folder, …).
    #[error(
        "sink {sink}: {path}: {error}{}; nothing is lost: delivery goes on from the outbox at the next start",
        hint(error)
    )]
    Io {
        /// Name of the sink.
        sink: String,
        /// What was written to.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file holds messages of another state directory.
    #[error(
        "sink {sink}: {path} holds messages of another state ({found}, this one is {expected}); \
         move the file away or name another one"
    )]
    Foreign {
        /// Name of the sink.
        sink: String,
        /// The file.
        path: PathBuf,
        /// State id in the file.
        found: String,
        /// State id here.
        expected: String,
    },
    /// The sink has commits that the state does not have.
    #[error(
        "sink {sink} holds commit {commit}, and the state's last one is {last}: an older copy of the state was \
         put back; move the sink's file away, or put the newer state back"
    )]
    Ahead {
        /// Name of the sink.
        sink: String,
        /// Last commit that it holds.
        commit: u64,
        /// Last commit of the state.
        last: u64,
    },
    /// Another process writes to the file.
    #[error("sink {sink}: {path} is written by another process; give each host a file of its own")]
    InUse {
        /// Name of the sink.
        sink: String,
        /// The file.
        path: PathBuf,
    },
    /// Two sinks of the configuration write to one file.
    #[error("sinks {other} and {sink} both write to {}; give each a file of its own", path.display())]
    SameFile {
        /// Name of the sink.
        sink: String,
        /// Name of the sink that has the file already.
        other: String,
        /// The file.
        path: PathBuf,
    },
    /// A device, pipe or folder.
    #[error("sink {sink}: {path} is no file; type = \"stdout\" prints to the terminal")]
    NoFile {
        /// Name of the sink.
        sink: String,
        /// The path.
        path: PathBuf,
    },
    /// The last line of the file is not one of ours.
    #[error(
        "sink {sink}: {path}: the last line is no message of Retag; move the file away or name another one"
    )]
    NotOurs {
        /// Name of the sink.
        sink: String,
        /// The file.
        path: PathBuf,
    },
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "; make the folder, or name another path",
        std::io::ErrorKind::PermissionDenied => {
            "; give this user the right to write there, or name another path"
        }
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; free some space and start again"
        }
        _ => "",
    }
}

/// Whether who wants `deliver` hears of a transition, or of a switch as a whole.
#[must_use]
pub fn hears(deliver: Deliver, transition: &Transition) -> bool {
    match (deliver, transition.label) {
        (deliver, SWITCH) => deliver == Deliver::Changes,
        (Deliver::All, _) => true,
        (Deliver::Changes, _) => {
            transition.announced || matches!(transition.cause, Cause::Change | Cause::Time)
        }
    }
}

/// Something that messages are delivered to.
pub trait Sink: Send {
    /// The last message that the sink itself has for sure, where it can tell; called once, before the first delivery.
    ///
    /// # Errors
    /// A sink that is not this state's, or cannot be read.
    fn resume(&mut self, state_id: &str) -> Result<Option<Place>, SinkError>;

    /// Takes messages; when it returns they are as safe as the sink can make them.
    ///
    /// # Errors
    /// Messages that were not all taken; they will be given again.
    fn deliver<'m>(&mut self, messages: &mut dyn Iterator<Item = Message<'m>>) -> Result<(), SinkError>;

    /// Takes the summary of a switch, in its place between messages; as safe as [`Sink::deliver`].
    ///
    /// # Errors
    /// A summary that was not taken; it will be given again.
    fn summarize(&mut self, summary: &Summary<'_>) -> Result<(), SinkError>;
}
