//! Outside → raw messages with their position. A source gives blocks of whole messages and interprets no column.

pub mod files;

use std::sync::Arc;

/// Place in one partition of a source; for files the byte offset.
pub type Position = u64;

/// Whole messages of one partition, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Partition that it is of.
    pub partition: usize,
    /// Position of its first byte.
    pub start: Position,
    /// Its bytes; empty when there was nothing more to read.
    pub bytes: Arc<Vec<u8>>,
    /// Nothing stood behind it when it was read.
    pub at_end: bool,
}

impl Block {
    /// Position behind its last byte.
    #[must_use]
    pub fn end(&self) -> Position {
        self.start + self.bytes.len() as u64
    }
}

/// A source that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operating system says no.
    #[error("source {source_name}: {path}: {error}; restore the file, the position is kept")]
    Io {
        /// Name of the source.
        source_name: String,
        /// File.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Something of that name, and no file.
    #[error(
        "source {source_name}: `{pattern}` is there and is no file (a folder, a pipe, or a link to nothing); name files"
    )]
    NotAFile {
        /// Name of the source.
        source_name: String,
        /// Path as configured.
        pattern: String,
    },
    /// No file of that name.
    #[error("source {source_name}: no file matches `{pattern}`; paths count from the configuration's folder")]
    NoFile {
        /// Name of the source.
        source_name: String,
        /// Path or glob as configured.
        pattern: String,
    },
    /// A glob that cannot be read.
    #[error("source {source_name}: `{pattern}` is not a path or glob: {error}")]
    Pattern {
        /// Name of the source.
        source_name: String,
        /// Path or glob as configured.
        pattern: String,
        /// Why.
        error: String,
    },
    /// The file is not the one whose position is stored.
    #[error(
        "file-replaced: source {source_name}: {path} is not the file that was read up to {position}: {why}; \
         put the old file back, or start with a new state directory"
    )]
    Replaced {
        /// Name of the source.
        source_name: String,
        /// File.
        path: String,
        /// Stored position.
        position: u64,
        /// What differs.
        why: &'static str,
    },
    /// A partition of the state is not among the files any more.
    #[error("source {source_name}: {path}, read up to {position}, is gone; put it back")]
    Gone {
        /// Name of the source.
        source_name: String,
        /// File.
        path: String,
        /// Stored position.
        position: u64,
    },
    /// A file that begins with the byte order mark of UTF-16.
    #[error(
        "not-utf-8: source {source_name}: {path} begins with the byte order mark of UTF-16; messages are UTF-8: write \
         the file as UTF-8"
    )]
    Utf16 {
        /// Name of the source.
        source_name: String,
        /// File.
        path: String,
    },
    /// A message without an end.
    #[error(
        "message-too-large: source {source_name}: {path}: the message at {position} is longer than {limit} bytes"
    )]
    TooLarge {
        /// Name of the source.
        source_name: String,
        /// File.
        path: String,
        /// Where it begins.
        position: u64,
        /// The limit.
        limit: usize,
    },
}

/// Something that blocks can be read from; the simulation scripts its own.
pub trait Source: Send {
    /// Reads whole messages from `offset` on, about `bytes_max` bytes of them.
    ///
    /// # Errors
    /// What the outside does not give.
    fn read(&mut self, partition: usize, offset: Position, bytes_max: usize) -> Result<Block, SourceError>;

    /// Reads whole messages from `offset` on again, about as many bytes as the first bound says, and none behind the second
    /// one, where the last message ends that was read so far.
    ///
    /// # Errors
    /// What the outside does not give; what was read is not there any more.
    fn read_again(
        &mut self,
        partition: usize,
        offset: Position,
        bounds: (usize, Position),
    ) -> Result<Block, SourceError>;
}

/// What the state remembers of one partition.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Partition {
    /// Name of its source.
    pub source: String,
    /// Path as seen from the configuration's folder.
    pub name: String,
    /// sha256 of the first `fingerprint_len` bytes, hex.
    pub fingerprint: String,
    /// At most 1,024.
    pub fingerprint_len: u64,
    /// Size when it was first opened: up to here the rules are in catch-up.
    pub first_size: u64,
}
