//! Delivery to an event sink: every transition that it wants to hear of, in order, from its cursor on.

use super::rows::Waiting;
use super::{Delivery, Known, LastRegistry};
use crate::clock;
use crate::config::Deliver;
use crate::failpoint::{self, Step};
use crate::label::outbox::Place;
use crate::label::{SWITCH, Transition};
use crate::pipeline::failure::Failure;
use crate::sink::message::{Message, Origin, Summary};
use crate::sink::{Owner, Sink, SinkError, hears};
use crate::state::View;

/// Most rows of the outbox in one delivery.
const ROWS_PER_DELIVERY: usize = 8;

/// The delivery.
pub struct Events {
    name: String,
    sink: Box<dyn Sink>,
    deliver: Deliver,
    owner: Owner,
    /// First place that is not delivered yet.
    cursor: Place,
    /// The state's last commit when the host started.
    last: u64,
    known: Known,
    resumed: bool,
    waiting: Waiting,
    registry: LastRegistry,
}

impl Events {
    /// A delivery to `sink`, which is called `name`, from `cursor` on, for a state whose last commit is `last`.
    #[must_use]
    pub fn new(
        name: &str,
        (mut sink, deliver): (Box<dyn Sink>, Deliver),
        owner: Owner,
        (cursor, last): (Place, u64),
        known: Known,
    ) -> Self {
        if let Some(memory) = &known.memory {
            sink.remember(memory);
        }
        let (waiting, registry) = (Waiting::default(), LastRegistry::default());
        let name = name.to_owned();
        Self { name, sink, deliver, owner, cursor, last, known, resumed: false, waiting, registry }
    }

    /// Gives the sink what it wants to hear, in order: messages, and summaries of switches between them.
    fn hand_over(&mut self, view: &View) -> Result<(), Failure> {
        let registry = self.registry.read(view)?;
        let (sink, owner, deliver) = (&mut self.sink, &self.owner, self.deliver);
        let times: Vec<String> = self.waiting.times.iter().map(|time| clock::rfc3339(*time)).collect();
        let origin = |time: &usize| Origin {
            state_id: &owner.state_id,
            epoch: owner.epoch,
            time: times.get(*time).map_or("", String::as_str),
        };
        let transitions = &mut self.waiting.transitions;
        transitions.retain(|(.., transition)| hears(deliver, transition));
        let is_switch = |t: &Transition| t.label == SWITCH;
        for piece in transitions.chunk_by(|(.., a), (.., b)| is_switch(a) == is_switch(b)) {
            if piece.first().is_some_and(|(.., t)| is_switch(t)) {
                for (at, time, transition) in piece {
                    if let Some(summary) = Summary::of(registry, origin(time), *at, transition) {
                        sink.summarize(&summary)?;
                    }
                }
            } else {
                let of =
                    |(at, time, t): &(Place, usize, Transition)| Message::of(registry, origin(time), *at, t);
                sink.deliver(&mut piece.iter().filter_map(of))?;
            }
            failpoint::hit(Step::Delivery);
        }
        Ok(())
    }
}

impl Delivery for Events {
    fn resume(&mut self) -> Result<(), Failure> {
        if self.resumed {
            return Ok(());
        }
        let own = self.sink.resume(&self.owner)?;
        let last = self.last;
        if let Some(own) = own.filter(|own| own.commit > last) {
            let sink = self.name.clone();
            return Err(SinkError::Ahead { sink, commit: own.commit, last }.into());
        }
        let behind = own.map(|last| Place { commit: last.commit, index: last.index + 1 });
        self.cursor = self.cursor.max(behind.unwrap_or_default());
        self.resumed = true;
        Ok(())
    }

    fn step(&mut self, view: &View, _: i64) -> Result<bool, Failure> {
        self.last = view.commit();
        self.waiting.read(view, self.cursor, ROWS_PER_DELIVERY)?;
        // What fails half-way is told by the sink itself, where it can tell.
        self.resumed = false;
        self.hand_over(view)?;
        self.resumed = true;
        self.cursor = self.waiting.behind;
        Ok(self.waiting.more)
    }

    fn cursor(&self) -> Place {
        self.cursor
    }

    fn known(&self) -> Option<Known> {
        let memory = self.sink.memory().or_else(|| self.known.memory.clone());
        let known = Known { memory, ..self.known.clone() };
        (known != Known::default()).then_some(known)
    }

    fn skip(&mut self, view: &View, to: Place) -> Result<(), Failure> {
        self.known.dropped += self.waiting.skip(view, (self.cursor, to), self.deliver)?;
        self.cursor = self.cursor.max(to);
        Ok(())
    }
}
