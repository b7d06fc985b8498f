//! What the coordinator knows of sinks: how far each is, when it is to go on, and what becomes of one that is too far behind.

use super::coordinator::Pipeline;
use super::dead_letters::{self, LetterChange};
use super::deliver::{Known, KnownSinks, Report};
use super::message::{Address, Envelope, Message};
use crate::config::WhenFull;
use crate::label::outbox::Place;
use crate::sink::progress::Progress;
use crate::state::{Row, Table};
use std::sync::Arc;

/// Between two looks at a state sink for which nothing waits, µs.
const LOOK_US: i64 = 5_000_000;

/// What a sink is to the coordinator.
#[derive(Clone, Debug)]
pub struct Served {
    /// What becomes of one that is too far behind.
    pub when_full: WhenFull,
    /// What it is doing, and what people ask of it.
    pub progress: Arc<Progress>,
}

/// One sink.
pub(super) struct SinkRun {
    pub(super) name: String,
    /// First place that it has not got.
    pub(super) cursor: Place,
    pub(super) served: Served,
    /// It has been told to go on and has not answered.
    pub(super) busy: bool,
    /// It has more to do, whatever the outbox holds.
    more: bool,
    /// Not before this moment, µs.
    not_before: i64,
    /// When it is looked at though nothing waits, µs: a state sink may have lost what it had.
    look_at: i64,
    /// What the outbox let go of, not said yet.
    skip_to: Option<Place>,
    known: Option<Known>,
    /// Dead letters that the state is to keep, or not to keep any more.
    letters: Vec<LetterChange>,
    /// The commit that says what it never got, where its batch ends, what it refused: before that is durable it gets nothing that
    /// comes later.
    counted_in: u64,
}

/// What the state must know of a sink before the sink goes on: messages that it never got, how its batch is cut.
fn facts(known: Option<&Known>) -> (u64, [Option<Place>; 2]) {
    known.map(|known| (known.dropped, [known.planned, known.alone])).unwrap_or_default()
}

impl SinkRun {
    pub(super) fn new(name: String, cursor: Place, served: Served, known: Option<Known>) -> Self {
        Self {
            name,
            cursor,
            served,
            busy: false,
            more: true,
            not_before: i64::MIN,
            look_at: i64::MAX,
            skip_to: None,
            known,
            letters: Vec::new(),
            counted_in: 0,
        }
    }

    /// The state knows what it must, as of `known`, which it says, or will say with the next commit.
    fn is_counted(&self, known: &KnownSinks) -> bool {
        self.letters.is_empty() && facts(self.known.as_ref()) == facts(known.get(&self.name))
    }

    /// It has something to do, whatever the outbox holds.
    fn has_more(&self) -> bool {
        self.more || self.skip_to.is_some()
    }

    fn take(&mut self, report: Report) {
        self.busy = false;
        self.cursor = self.cursor.max(report.cursor);
        self.more = report.more;
        self.not_before = report.not_before.unwrap_or(i64::MIN);
        let skips = self.skip_to.is_some();
        let whole = |known: Known| Known { whole: known.whole && !skips, ..known };
        self.known = report.known.map(whole).or(self.known.take());
        self.letters.extend(report.letters);
    }
}

impl Pipeline {
    /// Takes what a sink says.
    pub(super) fn delivered_by(&mut self, sink: usize, report: Report) {
        if let Some(sink) = self.sinks.get_mut(sink) {
            sink.take(report);
        }
        let delivered = self.delivered();
        self.book.outbox.serve(delivered);
    }

    /// Tells every sink that has something to do to go on.
    pub(super) fn deliver(&mut self, now: i64, out: &mut Vec<Envelope>) {
        if matches!(self.stopping, Some(Ok(()))) {
            return; // told to stop: the outbox keeps the rest for the next start
        }
        self.let_go();
        let (outbox, durable) = (&self.book.outbox, self.view.commit());
        for (number, sink) in self.sinks.iter_mut().enumerate() {
            let is_asked = sink.served.progress.is_asked() || now >= sink.look_at;
            let has_to = sink.has_more() || is_asked || outbox.waits_for(sink.cursor, durable);
            let is_counted = sink.is_counted(&self.book.known_sinks) && sink.counted_in <= durable;
            let is_due = now >= sink.not_before || sink.served.progress.has_letters_asked();
            if has_to && is_counted && !sink.busy && is_due {
                sink.busy = true;
                if sink.served.when_full == WhenFull::Refill {
                    sink.look_at = now.saturating_add(LOOK_US);
                }
                let deliver = Message::Deliver { view: self.view.clone(), skip_to: sink.skip_to.take() };
                out.push(deliver.to(Address::Sink(number)));
            }
        }
    }

    /// Where the outbox is full, a sink that would rather be filled again, or lose the oldest, is taken on.
    fn let_go(&mut self) {
        let rows_max = self.settings.outbox_rows_max;
        if !self.book.outbox.is_full(rows_max) {
            return;
        }
        let outbox = &self.book.outbox;
        for sink in &mut self.sinks {
            let Some(half) = outbox.half_of(sink.cursor, rows_max) else { continue };
            match sink.served.when_full {
                WhenFull::Hold => {}
                // Its cursor moves with the count of what it never got.
                WhenFull::DropOldest => sink.skip_to = Some(half.max(sink.cursor)),
                WhenFull::Refill => {
                    let cursor = Place { commit: self.view.commit() + 1, index: 0 };
                    (sink.cursor, sink.skip_to) = (cursor, Some(cursor));
                    if let Some(known) = &mut sink.known {
                        known.whole = false;
                    }
                }
            }
        }
        let delivered = self.delivered();
        self.book.outbox.serve(delivered);
    }

    /// Sinks have something to do that the end waits for.
    pub(super) fn sinks_work(&self) -> bool {
        let told_to_stop = self.stopping.is_some();
        self.sinks.iter().any(|sink| sink.busy || (sink.has_more() && !told_to_stop))
    }

    /// What is known of sinks says otherwise than the state whether they are whole, or what they must wait for; or the state keeps
    /// letters of sinks that are gone.
    pub(super) fn sinks_turned(&self) -> bool {
        let stored = &self.book.known_sinks;
        let whole = |known: Option<&Known>| known.is_some_and(|known| known.whole);
        let turned =
            |s: &SinkRun| whole(s.known.as_ref()) != whole(stored.get(&s.name)) || !s.is_counted(stored);
        self.sinks.iter().any(turned) || !self.book.orphans.is_empty()
    }

    /// Rows of dead letters that go out with the open commit, once it knows of sinks what they must wait for.
    pub(super) fn letter_rows(&mut self) -> Vec<Row> {
        let mut rows: Vec<Row> = std::mem::take(&mut self.book.orphans)
            .into_iter()
            .map(|key| (Table::DeadLetters, key, None))
            .collect();
        for sink in &mut self.sinks {
            for (place, letter) in sink.letters.drain(..) {
                let row = letter.and_then(|letter| serde_json::to_vec(&letter).ok());
                rows.push((Table::DeadLetters, dead_letters::key(&sink.name, place), row));
            }
        }
        rows
    }

    /// What the state is to know of sinks; none where it knows that.
    pub(super) fn turn_sinks(&mut self) -> Option<&KnownSinks> {
        for sink in &mut self.sinks {
            if !sink.is_counted(&self.book.known_sinks) {
                sink.counted_in = self.book.commit();
            }
        }
        let known = self.sinks.iter().filter_map(|sink| Some((sink.name.clone(), sink.known.clone()?)));
        let known: KnownSinks = known.collect();
        let is_new = known != self.book.known_sinks;
        self.book.known_sinks = known;
        is_new.then_some(&self.book.known_sinks)
    }
}
