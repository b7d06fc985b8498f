//! Transitions → outside. A sink is told of durable commits only, in order, and says when it has them for good.
//!
//! An event sink ([`Sink`]) gets every transition that it wants to hear of. A state sink ([`StateSink`]) gets the label sets
//! of the keys that changed, as of the commit at which it is served: what is written later holds more, never less. A receiver
//! ([`batch::BatchSink`]) gets what an event sink gets, in batches, and may refuse a message.

pub mod batch;
#[cfg(feature = "kafka")]
pub mod kafka;
mod label_set;
pub mod message;
pub mod ndjson;
pub mod opened;
pub mod progress;
pub mod redis;
pub mod table;
pub mod webhook;

pub use label_set::{LabelSet, Labels, Stored, Version};

use crate::config::Deliver;
use crate::label::outbox::Place;
use crate::label::{Cause, SWITCH, Transition};
use message::{Message, Summary};
use std::path::PathBuf;
use std::sync::Arc;

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
        "sink-ahead: sink {sink} holds commit {commit}, and the state's last one is {last}: an older copy of the state was \
         put back; move the sink's file away, or name another file or topic, or put the newer state back"
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
    /// Two sinks of the configuration write to one topic.
    #[error("same-file: sinks {other} and {sink} both write to one topic; give each a topic of its own")]
    SameTopic {
        /// Name of the sink.
        sink: String,
        /// Name of the sink that has the topic already.
        other: String,
    },
    /// A sink writes to a topic that a source reads.
    #[error(
        "same-file: sink {sink} writes to a topic that source {source_name} reads; labels would come back as changes: give \
         the sink a topic of its own"
    )]
    ReadTopic {
        /// Name of the sink.
        sink: String,
        /// Name of the source.
        source_name: String,
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
    /// Nobody answers, or not now: it is tried again.
    #[error("sink {sink}: {target}: {reason}; nothing is lost: it is tried again")]
    Away {
        /// Name of the sink.
        sink: String,
        /// What was asked: a host and port, without secrets.
        target: String,
        /// Why.
        reason: String,
    },
    /// What is out there is not what the configuration takes it for. A host that starts refuses; one that runs tries again.
    #[error("{code}: sink {sink}: {message}")]
    Refused {
        /// Name of the sink.
        sink: String,
        /// Code of the refusal.
        code: &'static str,
        /// What, where, and the way out.
        message: String,
    },
}

impl SinkError {
    /// Whether a host that runs tries again, instead of ending.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Refused { .. })
    }
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

/// Whose transitions a sink is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Random id of the state.
    pub state_id: String,
    /// Its epoch.
    pub epoch: u64,
    /// The processes that had its directory, the last of them this one; none where nobody keeps count.
    pub hosts: Arc<[String]>,
}

/// Something that messages are delivered to.
pub trait Sink: Send {
    /// Hears what [`Sink::memory`] said last, by whichever process; called before anything else, where there is something.
    fn remember(&mut self, _memory: &serde_json::Value) {}

    /// What it wants to be told when a host starts.
    fn memory(&self) -> Option<serde_json::Value> {
        None
    }

    /// The last message that the sink itself has for sure, where it can tell; called before the first delivery, and again
    /// after every delivery that failed.
    ///
    /// # Errors
    /// A sink that is not this state's, or cannot be read.
    fn resume(&mut self, owner: &Owner) -> Result<Option<Place>, SinkError>;

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

/// Something that holds the label sets of keys.
///
/// It may be made of parts that are lost one by one (a shard of a cluster); [`StateSink::lacks`] says which keys lie in a
/// part that is not whole, and a fill brings those.
pub trait StateSink: Send {
    /// Connects, and finds out which parts are whole; called before anything else, and again after every error.
    /// `memory` is what [`StateSink::memory`] said last, as of a commit that may be older than what the sink holds; `last` is
    /// the state's last commit.
    ///
    /// # Errors
    /// A sink that is another state's or holds more than this state, or cannot be asked.
    fn resume(
        &mut self,
        owner: &Owner,
        memory: Option<&serde_json::Value>,
        last: u64,
    ) -> Result<(), SinkError>;

    /// Every part has all that it was given, and was filled once.
    fn is_whole(&self) -> bool;

    /// The key lies in a part that is not whole.
    fn lacks(&self, entity: &str, key: &str) -> bool;

    /// Says that a fill begins: of everything, or of the parts that are not whole.
    ///
    /// # Errors
    /// As of [`StateSink::put`].
    fn begin_fill(&mut self, everything: bool) -> Result<(), SinkError>;

    /// Stores label sets, each unless a newer one is there. With `repair` also what was changed behind the host's back
    /// becomes right. What lies in a part that turns out to be lost is not stored: [`StateSink::is_whole`] tells. What a fill
    /// repairs may be stored while the next call is made; where that fails, the next call fails, and its parts are not whole.
    ///
    /// # Errors
    /// Label sets that were not all stored, of this call or of the fill's last one. Those of this call will be given again.
    fn put(&mut self, sets: &[LabelSet<'_>], repair: bool) -> Result<(), SinkError>;

    /// Says that the fill has ended: all parts are whole.
    ///
    /// # Errors
    /// As of [`StateSink::put`].
    fn end_fill(&mut self) -> Result<(), SinkError>;

    /// Looks whether parts were lost while nothing was put.
    ///
    /// # Errors
    /// As of [`StateSink::resume`].
    fn look(&mut self, last: u64) -> Result<(), SinkError>;

    /// What it holds of these keys, in their order.
    ///
    /// # Errors
    /// It cannot be asked.
    fn get(&mut self, keys: &[(&str, &str)]) -> Result<Vec<Option<Stored>>, SinkError>;

    /// Some of what it holds: at `first` from the start, then on from where the last call that succeeded was; none when that
    /// was all. What it can tell to be wrong by itself is taken away where it `mends`, and told otherwise.
    ///
    /// # Errors
    /// It cannot be asked.
    fn list(&mut self, first: bool, mends: bool) -> Result<Option<Vec<Stored>>, SinkError>;

    /// What it wants to be told at the next [`StateSink::resume`], by whichever process.
    fn memory(&self) -> serde_json::Value;
}
