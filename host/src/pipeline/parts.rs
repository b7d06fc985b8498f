//! The parts at the edges: reader of a source, committer of the store, deliverer to a sink.

use super::failure::Failure;
use super::message::{Actor, Address, Envelope, Message};
use crate::clock;
use crate::config::Deliver;
use crate::failpoint::{self, Step};
use crate::label::outbox::{CHUNK_INDEX, Damaged, Place, decode};
use crate::label::{SWITCH, Transition};
use crate::registry::{META_KEY, Registry};
use crate::sink::message::{Message as Outgoing, Origin, Summary};
use crate::sink::{Sink, SinkError, hears};
use crate::source::Source;
use crate::state::{Commit, StateWriter, StoreError, Table, View};
use std::sync::Arc;
use tokio::sync::watch;

/// Reads one source when asked.
pub struct Reader(pub Box<dyn Source>);

impl Actor for Reader {
    fn step(&mut self, message: Message, _: i64, out: &mut Vec<Envelope>) {
        let answer = match message {
            Message::Read { partition, offset, bytes_max } => {
                match self.0.read(partition, offset, bytes_max) {
                    Ok(block) => Message::Block(block),
                    Err(error) => Message::Failed(Box::new(error.into())),
                }
            }
            Message::ReadAgain { lane, partition, offset, bytes_max, until } => {
                let block = self.0.read_again(partition, offset, (bytes_max, until));
                Message::BlockAgain { lane, partition, block }
            }
            Message::Safe(positions) => {
                self.0.safe(&positions);
                return;
            }
            _ => return,
        };
        out.push(answer.to(Address::Pipeline));
    }
}

/// The latest durable view, for readers on any thread.
#[derive(Clone)]
pub struct SharedView(Arc<watch::Sender<Arc<View>>>);

impl SharedView {
    /// Begins with `view`.
    #[must_use]
    pub fn new(view: Arc<View>) -> Self {
        Self(Arc::new(watch::Sender::new(view)))
    }

    /// The latest view.
    #[must_use]
    pub fn get(&self) -> Arc<View> {
        self.0.borrow().clone()
    }

    /// Tells whenever there is a later one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<View>> {
        self.0.subscribe()
    }

    /// Shows a later one from now on.
    pub(crate) fn set(&self, view: Arc<View>) {
        self.0.send_replace(view);
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
    deliver: Deliver,
    state_id: String,
    epoch: u64,
    /// First place that is not delivered yet.
    cursor: Place,
    /// Scratch: transitions to deliver, with the index of their commit's time.
    waiting: Vec<(Place, usize, Transition)>,
    /// As it was read last, with its bytes.
    registry: (Vec<u8>, Registry),
}

impl Deliverer {
    /// A deliverer that goes on behind what the state and the sink itself know to be delivered.
    ///
    /// # Errors
    /// A sink that is not this state's.
    pub fn open(
        (number, name): (usize, &str),
        (mut sink, deliver): (Box<dyn Sink>, Deliver),
        state: (&str, u64),
        (cursor, last): (Place, u64),
    ) -> Result<Self, Failure> {
        let own = sink.resume(state.0)?;
        if let Some(own) = own.filter(|own| own.commit > last) {
            let sink = name.to_owned();
            return Err(SinkError::Ahead { sink, commit: own.commit, last }.into());
        }
        let behind = own.map_or(cursor, |last| Place { commit: last.commit, index: last.index + 1 });
        Ok(Self {
            number,
            sink,
            deliver,
            state_id: state.0.to_owned(),
            epoch: state.1,
            cursor: cursor.max(behind),
            waiting: Vec::new(),
            registry: (Vec::new(), Registry::default()),
        })
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
        self.read_registry(view)?;
        let mut behind = self.cursor;
        // Kept from one delivery to the next: so much memory taken anew each time would cost more than the delivery.
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.clear();
        let mut times = Vec::new();
        for (place, row) in rows {
            let (time, transitions) = decode(place, &row).map_err(damaged)?;
            times.push(clock::rfc3339(time));
            for (n, transition) in (0u32..).zip(transitions) {
                let at = Place { commit: place.commit, index: place.index + n };
                behind = behind.max(Place { commit: at.commit, index: at.index + 1 });
                if at >= self.cursor && hears(self.deliver, &transition) {
                    waiting.push((at, times.len() - 1, transition));
                }
            }
        }
        self.hand_over(&waiting, &times)?;
        self.waiting = waiting;
        self.cursor = if more { behind } else { Place { commit: view.commit() + 1, index: 0 } };
        Ok(more)
    }

    /// The registry of a view; read anew only when it has changed.
    fn read_registry(&mut self, view: &View) -> Result<(), Failure> {
        let stored = view.row(Table::Meta, META_KEY)?.unwrap_or_default();
        if stored != self.registry.0 {
            let read = Registry::read(Some(&stored))
                .map_err(|error| Failure::Internal(format!("the stored registry does not read: {error}")));
            self.registry = (stored, read?);
        }
        Ok(())
    }

    /// Gives the sink what it wants to hear, in order: messages, and summaries of switches between them.
    fn hand_over(&mut self, waiting: &[(Place, usize, Transition)], times: &[String]) -> Result<(), Failure> {
        let Self { sink, registry: (_, registry), state_id, epoch, .. } = self;
        let origin = |time: &usize| Origin {
            state_id,
            epoch: *epoch,
            time: times.get(*time).map_or("", String::as_str),
        };
        let is_switch = |t: &Transition| t.label == SWITCH;
        for piece in waiting.chunk_by(|(.., a), (.., b)| is_switch(a) == is_switch(b)) {
            if piece.first().is_some_and(|(.., t)| is_switch(t)) {
                for (at, time, transition) in piece {
                    if let Some(summary) = Summary::of(registry, origin(time), *at, transition) {
                        sink.summarize(&summary)?;
                    }
                }
            } else {
                let of =
                    |(at, time, t): &(Place, usize, Transition)| Outgoing::of(registry, origin(time), *at, t);
                sink.deliver(&mut piece.iter().filter_map(of))?;
            }
            failpoint::hit(Step::Delivery);
        }
        Ok(())
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
