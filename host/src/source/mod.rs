//! Outside → raw messages with their position. A source gives blocks of whole messages and interprets no column.

mod block;
pub mod files;
#[cfg(feature = "kafka")]
pub mod kafka;
mod kafka_error;
pub mod observed;
mod pool;

pub use block::{Block, Index};
pub use kafka_error::KafkaError;

/// Place in one partition of a source: the byte of a file, the offset of a Kafka message.
pub type Position = u64;

/// What positions of a partition count.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes of a file.
    #[default]
    Bytes,
    /// Messages of a log that numbers them.
    Messages,
}

impl Unit {
    fn is_bytes(&self) -> bool {
        *self == Self::Bytes
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
    /// A Kafka source.
    #[error(transparent)]
    Kafka(Box<KafkaError>),
}

impl From<KafkaError> for SourceError {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(Box::new(error))
    }
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

    /// Everything in front of these positions of its partitions is safe in the state. For people and lag tools; nothing is
    /// ever read back from it.
    fn safe(&mut self, _positions: &[(usize, Position)]) {}
}

/// What the state remembers of one partition.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Partition {
    /// Name of its source.
    pub source: String,
    /// Path as seen from the configuration's folder; of Kafka `topic/partition`.
    pub name: String,
    /// sha256 of the first `fingerprint_len` bytes, hex; of Kafka the id of the topic, where the broker tells it.
    pub fingerprint: String,
    /// At most 1,024.
    pub fingerprint_len: u64,
    /// Its end when it was first opened: up to here the rules are in catch-up.
    pub first_size: u64,
    /// Where reading began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub begins: Position,
    /// What its positions count.
    #[serde(default, skip_serializing_if = "Unit::is_bytes")]
    pub unit: Unit,
}

impl Partition {
    /// A position in it, in words.
    #[must_use]
    pub fn place(&self, position: Position) -> String {
        match self.unit {
            Unit::Bytes => format!("{} at byte {position}", self.name),
            Unit::Messages => format!("{} at offset {position}", self.name),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks with a reference
fn is_zero(position: &Position) -> bool {
    *position == 0
}
