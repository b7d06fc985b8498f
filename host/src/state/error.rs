//! What can go wrong with the state. Each error says what, where and what to do; the pipeline stops on all of them:
//! after a failed write nothing more is written until the state has been opened again.

use super::varint::Malformed;
use std::path::PathBuf;

/// An error of the state.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the state directory.
    #[error("state-in-use: {} is used by process {pid}; stop it, or ask it through the socket in the directory", dir.display())]
    InUse {
        /// The state directory.
        dir: PathBuf,
        /// Process id of the owner, `unknown` where the lock file does not say.
        pid: String,
    },
    /// The state was written by a newer version.
    #[error("state-format: {} has format {found}, this retag reads up to {known}; run the newer version", dir.display())]
    NewerFormat {
        /// The state directory.
        dir: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format this version reads.
        known: u64,
    },
    /// The operating system refused.
    #[error("state-io: cannot {doing} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried, e.g. `write`.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The embedded store refused.
    #[error("state-store: cannot {doing} the store in {}: {reason}", path.display())]
    Store {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Stored bytes cannot be trusted.
    #[error(
        "state-corrupt: {place}: {reason}; restore the directory from a backup or rebuild the rules from history"
    )]
    Corrupt {
        /// Which bytes, e.g. `block of commit 7 in shard 3`.
        place: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A commit that the state cannot take: an error in the host.
    #[error("state-commit: commit {commit} is refused: {reason}")]
    BadCommit {
        /// The commit.
        commit: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// An earlier write failed; what is stored is only known after opening again.
    #[error(
        "state-failed: an earlier write failed; stop the host, look at the error before this one, and start it again"
    )]
    Failed,
}

fn hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; free some space on that disk and start again, nothing is lost"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "; give this user the right to write there, or set `[state] dir` to another place"
        }
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => {
            "; a file stands in the way, set `[state] dir` to a directory"
        }
        _ => "",
    }
}

impl StoreError {
    /// Stored bytes that cannot be read.
    pub(super) fn corrupt(place: impl Into<String>, reason: Malformed) -> Self {
        Self::Corrupt { place: place.into(), reason: reason.0.to_owned() }
    }
}

/// Malformed bytes whose place is still to be said, or an error that says all.
#[derive(Debug)]
pub(super) enum Unplaced {
    Malformed(Malformed),
    Store(StoreError),
}

impl From<Malformed> for Unplaced {
    fn from(reason: Malformed) -> Self {
        Self::Malformed(reason)
    }
}

impl From<StoreError> for Unplaced {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Unplaced {
    pub(super) fn at(self, place: impl Into<String>) -> StoreError {
        match self {
            Self::Malformed(reason) => StoreError::corrupt(place, reason),
            Self::Store(error) => error,
        }
    }
}
