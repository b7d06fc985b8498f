//! Delivers to one sink, at its own pace: what stands behind its cursor in the outbox, and what people ask of it.
//!
//! A sink that is away is tried again, first soon, then every few seconds; nothing else waits for it but its outbox.

mod batches;
mod events;
mod fill;
mod replay;
mod rows;
mod states;

pub use batches::Batches;
pub use events::Events;
pub use states::States;

use super::dead_letters::LetterChange;
use super::failure::Failure;
use super::message::{Actor, Address, Envelope, Message};
use crate::label::outbox::Place;
use crate::registry::{META_KEY, Registry};
use crate::sink::SinkError;
use crate::sink::progress::Progress;
use crate::state::{Table, View};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Between two tries: at first and at most, µs.
const RETRY_US: (i64, i64) = (50_000, 2_000_000);

/// Key of what is known of sinks in the `Meta` table.
pub const SINKS: &[u8] = b"sinks";

/// What the state knows of a sink, beside its cursor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Of a state sink: it was filled, and has been given every change since.
    #[serde(default)]
    pub whole: bool,
    /// What it said of itself.
    #[serde(default)]
    pub memory: Option<serde_json::Value>,
    /// Of an event sink: messages that it never got, because too much waited for it.
    #[serde(default)]
    pub dropped: u64,
    /// Of a receiver: its last batch that the end of the outbox cut ends before this. Known before the batch is sent, so it is cut
    /// the same way, and has the same id, however often it is sent.
    #[serde(default)]
    pub planned: Option<Place>,
    /// Of a receiver: up to here messages go alone, because they were refused together. Known before the first of them is sent.
    #[serde(default)]
    pub alone: Option<Place>,
    /// Of a receiver: dead letters that are kept.
    #[serde(default)]
    pub dead_letters: u64,
}

/// What is known of sinks, by name.
pub type KnownSinks = BTreeMap<String, Known>;

/// How far a delivery came.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Behind the last delivered transition.
    pub cursor: Place,
    /// There is more to do, whatever the outbox holds.
    pub more: bool,
    /// Not before this moment, µs.
    pub not_before: Option<i64>,
    /// What is to be known of the sink, where there is something.
    pub known: Option<Known>,
    /// Dead letters that are to be kept or not to be kept any more, in the commit that knows the cursor.
    pub letters: Vec<LetterChange>,
}

/// One kind of delivery.
pub trait Delivery: Send {
    /// Connects where that has not been done since the last error.
    ///
    /// # Errors
    /// A sink that is not this state's or cannot be asked.
    fn resume(&mut self) -> Result<(), Failure>;

    /// Delivers a part of what stands behind the cursor in `view` at `now` (µs); true = there is more to do.
    ///
    /// # Errors
    /// What was not delivered is delivered again.
    fn step(&mut self, view: &View, now: i64) -> Result<bool, Failure>;

    /// First place that is not delivered yet.
    fn cursor(&self) -> Place;

    /// What is to be known of the sink, where there is something.
    fn known(&self) -> Option<Known>;

    /// The outbox lets go of what stands before `to`, which the sink has not got.
    ///
    /// # Errors
    /// The outbox does not read.
    fn skip(&mut self, view: &View, to: Place) -> Result<(), Failure>;

    /// How dead letters have changed since this was last asked.
    fn take_letters(&mut self) -> Vec<LetterChange> {
        Vec::new()
    }

    /// Between two tries of what fails: at first and at most, µs.
    fn retry_us(&self) -> (i64, i64) {
        RETRY_US
    }

    /// How long the sink itself asked to be left alone when it was last tried, µs.
    fn leave_alone_us(&self) -> i64 {
        0
    }
}

/// The part of the engine that serves one sink.
pub struct Deliverer {
    number: usize,
    delivery: Box<dyn Delivery>,
    progress: Arc<Progress>,
    /// Until the next try, should this one fail, µs.
    retry_us: i64,
}

impl Deliverer {
    /// A deliverer that has looked at its sink; one that is away is waited for later.
    ///
    /// # Errors
    /// A sink that is not this state's.
    pub fn open(
        number: usize,
        mut delivery: Box<dyn Delivery>,
        progress: Arc<Progress>,
    ) -> Result<Self, Failure> {
        match delivery.resume() {
            Ok(()) => {}
            Err(Failure::Sink(SinkError::Away { target, reason, .. })) => {
                progress.show(|shown| shown.waits_for = Some(format!("{target}: {reason}")));
            }
            Err(failure) => return Err(failure),
        }
        let retry_us = delivery.retry_us().0;
        Ok(Self { number, delivery, progress, retry_us })
    }

    fn deliver(&mut self, view: &View, skip_to: Option<Place>, now: i64) -> Result<Report, Failure> {
        let mut report = Report::default();
        if let Some(to) = skip_to {
            let dropped = |known: Option<Known>| known.map_or(0, |known| known.dropped);
            let before = dropped(self.delivery.known());
            self.delivery.skip(view, to)?;
            (report.cursor, report.known) = (self.delivery.cursor(), self.delivery.known());
            if dropped(report.known.clone()) != before {
                report.more = true; // once that is durable: what it never got is counted before it gets more
                return Ok(report);
            }
        }
        match self.delivery.resume().and_then(|()| self.delivery.step(view, now)) {
            Ok(more) => {
                self.retry_us = self.delivery.retry_us().0;
                report.more = more;
                self.progress.show(|shown| shown.waits_for = None);
            }
            Err(Failure::Sink(error)) if error.is_remote() => {
                let wait = self.retry_us.max(self.delivery.leave_alone_us());
                (report.more, report.not_before) = (true, Some(now.saturating_add(wait)));
                self.retry_us = (self.retry_us * 2).min(self.delivery.retry_us().1);
                let waits_for = match error {
                    SinkError::Away { target, reason, .. } => format!("{target}: {reason}"),
                    error => error.to_string(),
                };
                self.progress.show(|shown| shown.waits_for = Some(waits_for));
            }
            Err(failure) => return Err(failure),
        }
        (report.cursor, report.known) = (self.delivery.cursor(), self.delivery.known());
        self.progress.show(|shown| shown.next = Some(report.cursor));
        report.letters = self.delivery.take_letters();
        Ok(report)
    }
}

impl Actor for Deliverer {
    fn step(&mut self, message: Message, now: i64, out: &mut Vec<Envelope>) {
        let Message::Deliver { view, skip_to } = message else { return };
        let answer = match self.deliver(&view, skip_to, now) {
            Ok(report) => Message::Delivered { sink: self.number, report: Box::new(report) },
            Err(failure) => Message::Failed(Box::new(failure)),
        };
        out.push(answer.to(Address::Pipeline));
    }
}

/// The registry of a view, read anew only when it has changed.
#[derive(Default)]
struct LastRegistry {
    stored: Vec<u8>,
    registry: Registry,
}

impl LastRegistry {
    fn read(&mut self, view: &View) -> Result<&Registry, Failure> {
        let stored = view.row(Table::Meta, META_KEY)?.unwrap_or_default();
        if stored != self.stored {
            self.registry = Registry::read(Some(&stored))
                .map_err(|error| Failure::Internal(format!("the stored registry does not read: {error}")))?;
            self.stored = stored;
        }
        Ok(&self.registry)
    }
}
