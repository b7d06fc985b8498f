//! Delivery to a receiver: what an event sink gets, in batches that are cut the same way however often they are sent.
//!
//! Where a batch ends follows from where it begins, unless it is the end of the outbox that cuts it: that end is made
//! known to the state before the batch is sent. So a batch that is sent again, by whichever process, has the same messages
//! under the same id. One request is one step; a batch that is refused goes message by message, which the state knows too
//! before the first of them goes, and a message that is refused alone becomes a dead letter in the commit that moves the
//! cursor past it.

use super::replay::{Replay, Stepped};
use super::rows::Waiting;
use super::{Delivery, Known, LastRegistry};
use crate::clock;
use crate::config::Deliver;
use crate::failpoint::{self, Step};
use crate::label::outbox::Place;
use crate::label::{SWITCH, Transition};
use crate::pipeline::dead_letters::{Letter, LetterChange};
use crate::pipeline::failure::Failure;
use crate::registry::Registry;
use crate::sink::batch::{Answer, BatchSink, Item, Terms};
use crate::sink::message::{Message, Origin, Summary};
use crate::sink::progress::{Doing, Progress};
use crate::sink::{Owner, SinkError, hears};
use crate::state::View;
use std::sync::Arc;

/// Most rows of the outbox in one batch, the last number; fewer are read where they are enough to fill it.
const ROWS_PER_BATCH: [usize; 3] = [1, 8, 64];
/// Between two tries: at first and at most, µs.
const RETRY_US: (i64, i64) = (100_000, 10_000_000);

/// The delivery.
pub struct Batches {
    name: String,
    sink: Box<dyn BatchSink>,
    deliver: Deliver,
    terms: Terms,
    owner: Owner,
    /// First place that is not delivered yet.
    cursor: Place,
    known: Known,
    /// Since when the batch at the cursor is tried, µs.
    trying_since: Option<i64>,
    leave_alone_us: i64,
    letters: Vec<LetterChange>,
    /// What is asked for dead letters, under way.
    replay: Option<Replay>,
    waiting: Waiting,
    registry: LastRegistry,
    progress: Arc<Progress>,
}

/// The next batch.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    /// Where to go on behind it.
    end: Place,
    /// Nothing more goes into it.
    is_full: bool,
    /// It ends there whatever comes.
    is_cut: bool,
}

impl Batches {
    /// A delivery to `sink`, which is called `name`, from `cursor` on.
    #[must_use]
    pub fn new(
        (name, owner): (&str, Owner),
        (sink, deliver, terms): (Box<dyn BatchSink>, Deliver, Terms),
        cursor: Place,
        known: Known,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            sink,
            deliver,
            terms,
            owner,
            cursor,
            known,
            trying_since: None,
            leave_alone_us: 0,
            letters: Vec::new(),
            replay: None,
            waiting: Waiting::default(),
            registry: LastRegistry::default(),
            progress,
        }
    }

    /// The batch behind the cursor.
    fn cut(&mut self, view: &View) -> Result<Batch, Failure> {
        let mut batch = Batch::default();
        for rows in ROWS_PER_BATCH {
            batch = self.cut_from(view, rows)?;
            if batch.is_full || !self.waiting.more {
                break;
            }
        }
        Ok(batch)
    }

    /// The batch behind the cursor, should it be no longer than so many rows.
    fn cut_from(&mut self, view: &View, rows_max: usize) -> Result<Batch, Failure> {
        let planned = self.known.planned.filter(|until| self.cursor < *until);
        let until = planned.unwrap_or(end_of(view));
        let is_alone = self.known.alone.is_some_and(|until| self.cursor < until);
        let most = if is_alone { 1 } else { self.terms.messages_max };
        self.waiting.read(view, self.cursor, rows_max)?;
        let registry = self.registry.read(view)?;
        let is_cut = self.waiting.more || planned.is_some();
        let end = self.waiting.behind.min(until);
        let mut batch = Batch { end, is_cut, ..Batch::default() };
        let times: Vec<String> = self.waiting.times.iter().map(|time| clock::rfc3339(*time)).collect();
        let heard =
            self.waiting.transitions.iter().filter(|(at, _, t)| *at < until && hears(self.deliver, t));
        let mut bytes = 0;
        for (place, time, transition) in heard {
            let origin = Origin {
                state_id: &self.owner.state_id,
                epoch: self.owner.epoch,
                time: times.get(*time).map_or("", String::as_str),
            };
            let Some(json) = json(registry, origin, *place, transition)? else { continue };
            bytes += json.len();
            if bytes > self.terms.bytes_max && !batch.items.is_empty() {
                batch.close();
                break;
            }
            batch.items.push(Item { place: *place, json });
            if batch.items.len() >= most {
                batch.close();
                break;
            }
        }
        Ok(batch)
    }

    /// Sends a batch, and notes what became of it; false = it is to be sent in smaller ones.
    fn send(&mut self, batch: &Batch, now: i64) -> Result<bool, Failure> {
        let id = self.id(&batch.items);
        let answer = self.sink.send(&id, &batch.items, now)?;
        failpoint::hit(Step::Delivery);
        match answer {
            Answer::Taken => {}
            Answer::Refused { .. } if batch.items.len() > 1 => {
                (self.known.alone, self.trying_since) = (Some(batch.end), None);
                return Ok(false);
            }
            Answer::Refused { status, reason } => self.give_up(batch, (Some(status), reason), now)?,
            Answer::Later { reason, after_us } => {
                let since = *self.trying_since.get_or_insert(now);
                let tried_us = now.saturating_sub(since);
                if self.terms.retry_for_us.is_none_or(|most| tried_us < most) {
                    self.leave_alone_us = after_us;
                    return Err(self.away(reason));
                }
                let reason = format!("tried for {} s: {reason}", tried_us / 1_000_000);
                self.give_up(batch, (None, reason), now)?;
            }
        }
        (self.cursor, self.trying_since) = (batch.end, None);
        Ok(true)
    }

    /// Makes dead letters of a batch, where there is room for them.
    fn give_up(
        &mut self,
        batch: &Batch,
        (status, reason): (Option<u16>, String),
        now: i64,
    ) -> Result<(), Failure> {
        let (kept, most) = (self.known.dead_letters, self.terms.dead_letters_max);
        if kept + batch.items.len() as u64 > most {
            return Err(self.away(format!(
                "it would be a dead letter, and {kept} of at most {most} are kept (dead_letters_max): \
                 `retag sink dead ls {}`; {reason}",
                self.name
            )));
        }
        for item in &batch.items {
            let message = serde_json::from_slice(&item.json).unwrap_or_default();
            let letter = Letter { time_us: now, status, reason: reason.clone(), refusals: 1, message };
            self.letters.push((item.place, Some(letter)));
        }
        self.known.dead_letters += batch.items.len() as u64;
        Ok(())
    }

    /// Goes on with what is asked for dead letters; true while there is something.
    fn replay_on(&mut self, view: &View, now: i64) -> Result<bool, Failure> {
        if self.replay.is_none() {
            self.replay = self.progress.take_letters().map(Replay::new);
        }
        let Some(replay) = &mut self.replay else { return Ok(false) };
        self.progress.show(|shown| shown.doing = Doing::Replaying);
        match replay.step(&self.name, &mut *self.sink, (view, now))? {
            Stepped::Changed(letters) => {
                let gone = letters.iter().filter(|(_, letter)| letter.is_none()).count() as u64;
                self.known.dead_letters = self.known.dead_letters.saturating_sub(gone);
                self.letters.extend(letters);
            }
            // What it changed before is durable: no step begins before that.
            Stepped::Ended(worked) => {
                self.replay = None;
                self.progress.show(|shown| {
                    let ended = shown.letters.ended + 1;
                    (shown.doing, shown.letters) = (Doing::Delivering, worked);
                    shown.letters.ended = ended;
                });
            }
        }
        Ok(true)
    }

    /// The same for the same messages, whenever they are sent together.
    fn id(&self, items: &[Item]) -> String {
        let place = |item: Option<&Item>| item.map(|item| item.place).unwrap_or_default();
        let (first, last) = (place(items.first()), place(items.last()));
        let Owner { state_id, epoch, .. } = &self.owner;
        format!("{state_id}-{epoch}-{}-{}-{}-{}", first.commit, first.index, last.commit, last.index)
    }

    fn away(&self, reason: String) -> Failure {
        SinkError::Away { sink: self.name.clone(), target: self.sink.target(), reason }.into()
    }
}

impl Batch {
    /// Nothing more goes into it.
    fn close(&mut self) {
        if let Some(Place { commit, index }) = self.items.last().map(|item| item.place) {
            (self.end, self.is_full, self.is_cut) = (Place { commit, index: index + 1 }, true, true);
        }
    }
}

/// Behind everything that a view has.
fn end_of(view: &View) -> Place {
    Place { commit: view.commit() + 1, index: 0 }
}

/// A message, or a summary where it stands for one; none where the registry does not know its generation any more.
fn json(
    registry: &Registry,
    origin: Origin<'_>,
    place: Place,
    transition: &Transition,
) -> Result<Option<Vec<u8>>, Failure> {
    let json = if transition.label == SWITCH {
        Summary::of(registry, origin, place, transition).map(|summary| serde_json::to_vec(&summary))
    } else {
        Message::of(registry, origin, place, transition).map(|message| serde_json::to_vec(&message))
    };
    json.transpose().map_err(|error| Failure::Internal(format!("a message that is no JSON: {error}")))
}

impl Delivery for Batches {
    fn resume(&mut self) -> Result<(), Failure> {
        Ok(()) // the state alone knows what was taken
    }

    fn step(&mut self, view: &View, now: i64) -> Result<bool, Failure> {
        self.leave_alone_us = 0;
        if self.replay_on(view, now)? {
            return Ok(true);
        }
        let batch = self.cut(view)?;
        if batch.items.is_empty() {
            self.cursor = batch.end;
        } else if !batch.is_cut {
            self.known.planned = Some(batch.end);
            return Ok(true); // once that is durable
        } else if !self.send(&batch, now)? {
            return Ok(true);
        }
        Ok(self.cursor < end_of(view))
    }

    fn cursor(&self) -> Place {
        self.cursor
    }

    fn known(&self) -> Option<Known> {
        (self.known != Known::default()).then(|| self.known.clone())
    }

    fn skip(&mut self, view: &View, to: Place) -> Result<(), Failure> {
        if self.cursor < to {
            self.known.dropped += self.waiting.skip(view, (self.cursor, to), self.deliver)?;
            (self.cursor, self.trying_since) = (to, None);
        }
        Ok(())
    }

    fn take_letters(&mut self) -> Vec<LetterChange> {
        std::mem::take(&mut self.letters)
    }

    fn retry_us(&self) -> (i64, i64) {
        RETRY_US
    }

    fn leave_alone_us(&self) -> i64 {
        self.leave_alone_us
    }
}
