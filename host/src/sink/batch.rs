//! A receiver that takes messages in batches and may refuse some: what is asked of it, and what it answers.
//!
//! Which messages make a batch, its id, what is tried again and what becomes a dead letter is decided by who delivers
//! ([`crate::pipeline::deliver`]); a receiver sends one request and says how it was answered.

use super::SinkError;
use crate::config::WebhookConfig;
use crate::label::outbox::Place;

/// How batches are cut, and what becomes of those that are not taken.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Most messages of one.
    pub messages_max: usize,
    /// Most bytes of their JSON; a message that is longer goes alone.
    pub bytes_max: usize,
    /// How long one is tried before its messages become dead letters, µs; none = for ever.
    pub retry_for_us: Option<i64>,
    /// Most dead letters that are kept.
    pub dead_letters_max: u64,
}

impl Terms {
    /// As they are configured.
    #[must_use]
    pub fn of(config: &WebhookConfig) -> Self {
        Self {
            messages_max: config.batch_max.max(1),
            bytes_max: config.batch_bytes_max,
            retry_for_us: config.retry_for_s.map(|seconds| i64::from(seconds) * 1_000_000),
            dead_letters_max: config.dead_letters_max,
        }
    }
}

/// A message or summary of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its place.
    pub place: Place,
    /// It as JSON, with its id.
    pub json: Vec<u8>,
}

/// How a batch was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every message is taken.
    Taken,
    /// What is in it is not wanted: at least one message is refused.
    Refused {
        /// Status of the answer.
        status: u16,
        /// In words.
        reason: String,
    },
    /// Not now, or not there: it may be taken later.
    Later {
        /// In words.
        reason: String,
        /// It asks to be left alone for so long, µs.
        after_us: i64,
    },
}

/// Something that takes batches.
pub trait BatchSink: Send {
    /// Where it is, without secrets.
    fn target(&self) -> String;

    /// Sends a batch under an id that is the same however often it is sent, at `now` (µs since 1970).
    ///
    /// # Errors
    /// Only what stops the host; what is not taken is an answer.
    fn send(&mut self, id: &str, items: &[Item], now: i64) -> Result<Answer, SinkError>;
}
