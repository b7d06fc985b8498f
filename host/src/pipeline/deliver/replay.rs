//! What people ask for dead letters: to be sent again, one by one, or dropped. A step of it changes a part of them; the next
//! one begins when that is durable, so that what it finds in the view is what is kept.

use crate::label::outbox::Place;
use crate::pipeline::dead_letters::{self, Letter, LetterChange};
use crate::pipeline::failure::Failure;
use crate::sink::batch::{Answer, BatchSink, Item};
use crate::sink::progress::{Which, Wish, Worked};
use crate::state::View;
use serde_json::Value;

/// Most letters that are dropped in one commit.
const DROPS_PER_STEP: usize = 1_000;

/// What is asked, under way.
pub(super) struct Replay {
    wish: Wish,
    /// Behind this letter it goes on.
    behind: Option<Place>,
    worked: Worked,
}

/// What a step came to.
pub(super) enum Stepped {
    /// Letters are to be changed.
    Changed(Vec<LetterChange>),
    /// It is over.
    Ended(Worked),
}

impl Replay {
    pub(super) fn new(wish: Wish) -> Self {
        Self { wish, behind: None, worked: Worked::default() }
    }

    /// Does a part of it for the sink `name`.
    pub(super) fn step(
        &mut self,
        name: &str,
        sink: &mut dyn BatchSink,
        (view, now): (&View, i64),
    ) -> Result<Stepped, Failure> {
        let sends = matches!(self.wish, Wish::Replay(_));
        let letters = self.next(view, name, if sends { 1 } else { DROPS_PER_STEP })?;
        self.behind = letters.last().map(|(place, _)| *place).or(self.behind);
        if !sends {
            self.worked.dropped += letters.len() as u64;
            let gone: Vec<LetterChange> = letters.into_iter().map(|(place, _)| (place, None)).collect();
            return Ok(if gone.is_empty() { self.ended(None) } else { Stepped::Changed(gone) });
        }
        let Some((place, letter)) = letters.into_iter().next() else { return Ok(self.ended(None)) };
        self.send(sink, (place, letter), now)
    }

    /// The next letters that it is about.
    fn next(&self, view: &View, name: &str, limit: usize) -> Result<Vec<(Place, Letter)>, Failure> {
        let (Wish::Replay(which) | Wish::Drop(which)) = &self.wish;
        let Which::At(places) = which else {
            return Ok(dead_letters::behind(view, name, self.behind, limit)?);
        };
        let mut letters = Vec::new();
        for place in places.iter().filter(|place| self.behind.is_none_or(|behind| **place > behind)) {
            if letters.len() == limit {
                break;
            }
            letters.extend(dead_letters::at(view, name, *place)?.map(|letter| (*place, letter)));
        }
        Ok(letters)
    }

    /// Sends a letter again: its message as it was, under an id of this try.
    fn send(
        &mut self,
        sink: &mut dyn BatchSink,
        (place, letter): (Place, Letter),
        now: i64,
    ) -> Result<Stepped, Failure> {
        let message = letter.message.get("id").and_then(Value::as_str).unwrap_or_default();
        let id = format!("{message}-again-{}", letter.refusals);
        let json = serde_json::to_vec(&letter.message)
            .map_err(|error| Failure::Internal(format!("a letter that is no JSON: {error}")))?;
        let after = match sink.send(&id, &[Item { place, json }], now)? {
            Answer::Taken => {
                self.worked.taken += 1;
                None
            }
            Answer::Refused { status, reason } => {
                self.worked.refused += 1;
                let refusals = letter.refusals.saturating_add(1);
                Some(Letter { time_us: now, status: Some(status), reason, refusals, ..letter })
            }
            // Nobody is held up by a letter that makes the receiver fail: what is left stays as it is.
            Answer::Later { reason, .. } => return Ok(self.ended(Some(reason))),
        };
        Ok(Stepped::Changed(vec![(place, after)]))
    }

    fn ended(&mut self, broke_off: Option<String>) -> Stepped {
        self.worked.broke_off = broke_off;
        Stepped::Ended(std::mem::take(&mut self.worked))
    }
}
