//! Rows of the outbox behind a cursor.

use crate::config::Deliver;
use crate::label::Transition;
use crate::label::outbox::{CHUNK_INDEX, Damaged, Place, decode};
use crate::pipeline::failure::Failure;
use crate::sink::hears;
use crate::state::{StoreError, Table, View};

/// Rows that are read at once where they are only counted.
const SKIPPED_ROWS: usize = 8;

/// Transitions of some rows.
#[derive(Default)]
pub(super) struct Waiting {
    /// Times of commits, µs.
    pub(super) times: Vec<i64>,
    /// Place, index of the commit's time, transition: those from the cursor on, in order.
    pub(super) transitions: Vec<(Place, usize, Transition)>,
    /// Where to go on.
    pub(super) behind: Place,
    /// There is more in the view.
    pub(super) more: bool,
}

impl Waiting {
    /// Reads up to `rows_max` rows of `view` from `cursor` on. Buffers are kept from one read to the next: so much memory
    /// taken anew each time would cost more than the delivery.
    pub(super) fn read(&mut self, view: &View, cursor: Place, rows_max: usize) -> Result<(), Failure> {
        self.times.clear();
        self.transitions.clear();
        // A row may begin before the cursor when the sink took only a part of it.
        let first = cursor.index / CHUNK_INDEX * CHUNK_INDEX;
        let from = Place { commit: cursor.commit, index: first }.key();
        let end = Place { commit: view.commit() + 1, index: 0 };
        let mut rows = Vec::new();
        self.more = false;
        view.rows(Table::Outbox, &from, Some(&end.key()), &mut |key, row| {
            if let Some(place) = Place::from_key(key) {
                self.more = rows.len() == rows_max;
                if !self.more {
                    rows.push((place, row.to_vec()));
                }
            }
            !self.more
        })?;
        let mut behind = cursor;
        for (place, row) in rows {
            let (time, transitions) = decode(place, &row).map_err(damaged)?;
            self.times.push(time);
            for (n, transition) in (0u32..).zip(transitions) {
                let at = Place { commit: place.commit, index: place.index + n };
                behind = behind.max(Place { commit: at.commit, index: at.index + 1 });
                if at >= cursor {
                    self.transitions.push((at, self.times.len() - 1, transition));
                }
            }
        }
        self.behind = if self.more { behind } else { end.max(cursor) };
        Ok(())
    }

    /// How many transitions between two places somebody would have heard.
    pub(super) fn skip(
        &mut self,
        view: &View,
        (from, to): (Place, Place),
        deliver: Deliver,
    ) -> Result<u64, Failure> {
        let (mut at, mut heard) = (from, 0);
        while at < to {
            self.read(view, at, SKIPPED_ROWS)?;
            let transitions = self.transitions.iter();
            heard += transitions.filter(|(at, _, t)| *at < to && hears(deliver, t)).count() as u64;
            at = self.behind.min(to);
        }
        Ok(heard)
    }
}

fn damaged(error: Damaged) -> Failure {
    Failure::State(StoreError::Corrupt { place: "the outbox".into(), reason: error.to_string() })
}
