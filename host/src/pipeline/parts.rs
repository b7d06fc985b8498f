//! The parts at the edges: reader of a source, committer of the store, deliverer to a sink.

use super::failure::Failure;
use super::message::{Actor, Address, Envelope, Message};
use crate::clock;
use crate::failpoint::{self, Step};
use crate::label::outbox::{CHUNK_INDEX, Damaged, Place, decode};
use crate::registry::{META_KEY, Registry};
use crate::sink::message::{Message as Outgoing, Origin};
use crate::sink::{Sink, SinkError};
use crate::source::Source;
use crate::state::{Commit, StateWriter, StoreError, Table, View};
use std::sync::{Arc, PoisonError, RwLock};

/// Reads one source when asked.
pub struct Reader(pub Box<dyn Source>);

impl Actor for Reader {
    fn step(&mut self, message: Message, _: i64, out: &mut Vec<Envelope>) {
        if let Message::Read { partition, offset, bytes_max } = message {
            let answer = match self.0.read(partition, offset, bytes_max) {
                Ok(block) => Message::Block(block),
                Err(error) => Message::Failed(Box::new(error.into())),
            };
            out.push(answer.to(Address::Pipeline));
        }
    }
}

/// The latest durable view, for readers on any thread.
#[derive(Clone)]
pub struct SharedView(Arc<RwLock<Arc<View>>>);

impl SharedView {
    /// Begins with `view`.
    #[must_use]
    pub fn new(view: Arc<View>) -> Self {
        Self(Arc::new(RwLock::new(view)))
    }

    /// The latest view.
    #[must_use]
    pub fn get(&self) -> Arc<View> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, view: Arc<View>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

/// The only writer of the store: commits, and between commits folds blocks into pages.
pub struct Writer {
    writer: StateWriter,
    shared: SharedView,
}

impl Writer {
    /// A writer that shows its views to readers through `shared`.
    #[must_use]
    pub fn new(writer: StateWriter, shared: SharedView) -> Self {
        Self { writer, shared }
    }

    fn commit(&mut self, commit: Commit) -> Result<Arc<View>, StoreError> {
        while self.writer.must_fold() && self.writer.fold_step()?.is_some() {}
        failpoint::hit(Step::BlockWrite);
        self.writer.commit(commit)
    }
}

impl Actor for Writer {
    fn step(&mut self, message: Message, _: i64, out: &mut Vec<Envelope>) {
        let done = match message {
            Message::Commit(commit) => self.commit(*commit).map(|view| {
                self.shared.set(view.clone());
                out.push(Message::Durable(view).to(Address::Pipeline));
                out.push(Message::Fold.to(Address::Committer));
            }),
            Message::Fold => self.writer.fold_step().map(|folded| {
                if folded.is_some() {
                    let view = self.writer.view().clone();
                    self.shared.set(view.clone());
                    out.push(Message::Folded(view).to(Address::Pipeline));
                    out.push(Message::Fold.to(Address::Committer));
                }
            }),
            _ => Ok(()),
        };
        if let Err(error) = done {
            out.push(Message::Failed(Box::new(Failure::State(error))).to(Address::Pipeline));
        }
    }
}

/// Most rows of the outbox in one delivery.
const ROWS_PER_DELIVERY: usize = 8;

/// Delivers the outbox to one sink, in order, from its cursor on.
pub struct Deliverer {
    number: usize,
    sink: Box<dyn Sink>,
    state_id: String,
    epoch: u64,
    /// First place that is not delivered yet.
    cursor: Place,
}

impl Deliverer {
    /// A deliverer that goes on behind what the state and the sink itself know to be delivered.
    ///
    /// # Errors
    /// A sink that is not this state's.
    pub fn open(
        number: usize,
        mut sink: Box<dyn Sink>,
        state: (&str, u64),
        (cursor, last): (Place, u64),
    ) -> Result<Self, Failure> {
        let own = sink.resume(state.0)?;
        if let Some(own) = own.filter(|own| own.commit > last) {
            return Err(SinkError::Ahead { number, commit: own.commit, last }.into());
        }
        let behind = own.map_or(cursor, |last| Place { commit: last.commit, index: last.index + 1 });
        Ok(Self { number, sink, state_id: state.0.to_owned(), epoch: state.1, cursor: cursor.max(behind) })
    }

    fn deliver(&mut self, view: &View) -> Result<bool, Failure> {
        let mut rows = Vec::new();
        // A row may begin before the cursor when the sink took only a part of it.
        let first = self.cursor.index / CHUNK_INDEX * CHUNK_INDEX;
        let from = Place { commit: self.cursor.commit, index: first }.key();
        let to = Place { commit: view.commit() + 1, index: 0 }.key();
        let mut more = false;
        view.rows(Table::Outbox, &from, Some(&to), &mut |key, row| {
            if let Some(place) = Place::from_key(key) {
                more = rows.len() == ROWS_PER_DELIVERY;
                if !more {
                    rows.push((place, row.to_vec()));
                }
            }
            !more
        })?;
        let registry = view.row(Table::Meta, META_KEY)?;
        let registry = Registry::read(registry.as_deref())
            .map_err(|error| Failure::Internal(format!("the stored registry does not read: {error}")))?;
        let mut behind = self.cursor;
        let mut decoded = Vec::new();
        for (place, row) in rows {
            let (time, transitions) = decode(place, &row).map_err(damaged)?;
            let time = clock::rfc3339(time);
            for (n, transition) in (0u32..).zip(transitions) {
                let at = Place { commit: place.commit, index: place.index + n };
                behind = behind.max(Place { commit: at.commit, index: at.index + 1 });
                if at >= self.cursor {
                    decoded.push((at, time.clone(), transition));
                }
            }
        }
        let messages: Vec<_> = decoded
            .iter()
            .filter_map(|(at, time, transition)| {
                let origin = Origin { state_id: &self.state_id, epoch: self.epoch, time };
                Outgoing::of(&registry, origin, *at, transition)
            })
            .collect();
        if !messages.is_empty() {
            self.sink.deliver(&messages)?;
            failpoint::hit(Step::Delivery);
        }
        self.cursor = if more { behind } else { Place { commit: view.commit() + 1, index: 0 } };
        Ok(more)
    }
}

fn damaged(error: Damaged) -> Failure {
    Failure::State(StoreError::Corrupt { place: "the outbox".into(), reason: error.to_string() })
}

impl Actor for Deliverer {
    fn step(&mut self, message: Message, _: i64, out: &mut Vec<Envelope>) {
        if let Message::Deliver(view) = message {
            let answer = match self.deliver(&view) {
                Ok(more) => Message::Delivered { sink: self.number, cursor: self.cursor, more },
                Err(failure) => Message::Failed(Box::new(failure)),
            };
            out.push(answer.to(Address::Pipeline));
        }
    }
}
