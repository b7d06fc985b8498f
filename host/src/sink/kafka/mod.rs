//! Kafka as a sink, in two forms: a topic of events, or a compacted one with the label sets of keys.
//!
//! One delivery is one transaction, which also commits how far it goes under a group of the sink's own: what the brokers hold
//! says where delivery goes on, after any crash and any outcome that is not known. The state's mark only trims the outbox.

mod events;
mod heard;
mod link;
mod listing;
mod marker;
mod record;
mod session;
mod state;
mod tail;
mod target;

use super::SinkError;
use super::opened::Opened;
use crate::config::{Form, KafkaSinkConfig};
use std::path::Path;
use target::Target;

/// A sink that is not connected yet; paths in its settings count from `folder`.
///
/// # Errors
/// Secrets that are not where they should be.
pub fn open(sink: &str, config: &KafkaSinkConfig, folder: &Path) -> Result<Opened, SinkError> {
    let target = Target::new(sink, config, folder)?;
    Ok(match config.form {
        Form::Events => {
            Opened::Events { sink: Box::new(events::Events::new(target)), deliver: config.deliver() }
        }
        Form::State => Opened::State(Box::new(state::State::new(target))),
    })
}
