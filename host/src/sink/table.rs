//! A table for people on standard output: one line a transition. What scrolled by is not sent again.

use super::message::{Message, Summary};
use super::{Owner, Sink, SinkError};
use crate::label::outbox::Place;
use std::io::Write;

/// The sink.
#[derive(Debug)]
pub struct Table {
    sink: String,
    heading: bool,
}

impl Table {
    /// A table that begins with a heading.
    #[must_use]
    pub fn new(sink: &str) -> Self {
        Self { sink: sink.to_owned(), heading: false }
    }
}

/// One line of the table.
fn line(message: &Message<'_>) -> String {
    let sign = if message.op == "set" { '+' } else { '-' };
    let value = match (message.previous, message.value) {
        (Some(before), Some(now)) => format!(" = {now} (was {before})"),
        (None, Some(now)) => format!(" = {now}"),
        (Some(before), None) => format!(" (was {before})"),
        (None, None) => String::new(),
    };
    let key = format!("{}/{}", message.entity, message.key);
    format!("{:<26} {key:<20} {sign} {}{value}  [{}]", message.time, message.label, message.cause)
}

impl Sink for Table {
    fn resume(&mut self, _: &Owner) -> Result<Option<Place>, SinkError> {
        Ok(None)
    }

    fn deliver<'m>(&mut self, messages: &mut dyn Iterator<Item = Message<'m>>) -> Result<(), SinkError> {
        let mut text = String::new();
        if !std::mem::replace(&mut self.heading, true) {
            text.push_str("time                        key                    label  [cause]\n");
        }
        for message in messages {
            text.push_str(&line(&message));
            text.push('\n');
        }
        self.print(&text)
    }

    fn summarize(&mut self, summary: &Summary<'_>) -> Result<(), SinkError> {
        let keys = summary.changed_keys.map_or_else(|| "some".to_owned(), |n| n.to_string());
        let name = format!("{}@{}", summary.rule, summary.revision);
        self.print(&format!(
            "{:<26} {name} is live, labels of {keys} keys changed  [{}]\n",
            summary.time, summary.cause
        ))
    }
}

impl Table {
    fn print(&self, text: &str) -> Result<(), SinkError> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| SinkError::Io {
            sink: self.sink.clone(),
            path: "standard output".into(),
            error,
        })
    }
}
