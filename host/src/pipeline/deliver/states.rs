//! Delivery to a state sink: the label sets of the keys that changed, as of the commit at which it is served.
//!
//! However many transitions of a key wait, it is given once. A sink that is new, lost something or got too far behind is
//! filled from the state, beside what changes meanwhile ([`super::fill`]).

use super::fill::{Fill, Purpose};
use super::rows::Waiting;
use super::{Delivery, Known, LastRegistry};
use crate::failpoint::{self, Step};
use crate::label::SWITCH;
use crate::label::outbox::Place;
use crate::pipeline::failure::Failure;
use crate::registry::{Entity, Registry};
use crate::sink::progress::{Asked, Doing, Progress};
use crate::sink::{LabelSet, Labels, Owner, StateSink, Version};
use crate::state::{Record, Slot, View, entity_key, key_hash, shard_of};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most rows of the outbox in one delivery.
const ROWS_PER_DELIVERY: usize = 32;

/// The delivery.
pub struct States {
    pub(super) sink: Box<dyn StateSink>,
    owner: Owner,
    cursor: Place,
    known: Known,
    last: u64,
    resumed: bool,
    /// What is under way beside deliveries.
    fill: Option<Fill>,
    waiting: Waiting,
    registry: LastRegistry,
    progress: Arc<Progress>,
}

impl States {
    /// A delivery to `sink` from `cursor` on, for a state whose last commit is `last`.
    #[must_use]
    pub fn new(
        sink: Box<dyn StateSink>,
        owner: Owner,
        (cursor, last): (Place, u64),
        known: Known,
        progress: Arc<Progress>,
    ) -> Self {
        progress.show(|shown| shown.whole = Some(known.whole));
        let (waiting, registry) = (Waiting::default(), LastRegistry::default());
        Self { sink, owner, cursor, known, last, resumed: false, fill: None, waiting, registry, progress }
    }

    /// Stores the label sets of the keys of the next rows.
    fn catch_up(&mut self, view: &View) -> Result<bool, Failure> {
        self.waiting.read(view, self.cursor, ROWS_PER_DELIVERY)?;
        let transitions = self.waiting.transitions.iter().filter(|(.., t)| t.label != SWITCH);
        let keys: BTreeSet<(u16, &[u8])> = transitions.map(|(.., t)| (t.entity, &*t.key)).collect();
        if !keys.is_empty() {
            let sets = Sets::new(self.registry.read(view)?, view, self.owner.epoch);
            let sets: Result<Vec<LabelSet<'_>>, Failure> =
                keys.into_iter().filter_map(|(entity, key)| sets.of_key(entity, key).transpose()).collect();
            self.sink.put(&sets?, false)?;
            failpoint::hit(Step::Delivery);
        }
        self.cursor = self.waiting.behind;
        Ok(self.waiting.more)
    }

    /// Begins what is asked, or what the sink needs.
    fn begin(&mut self, view: &View) -> Result<(), Failure> {
        let is_filling = self.fill.as_ref().is_some_and(Fill::is_resync);
        let is_whole = self.known.whole && self.sink.is_whole();
        let needs = !is_filling && !is_whole;
        let purpose = match self.progress.take(needs || self.fill.is_some()) {
            Some(Asked::Resync) => Purpose::Resync { everything: true },
            Some(Asked::Repair(label)) => Purpose::Repair { label },
            Some(Asked::Verify) => Purpose::Verify,
            None if needs => Purpose::Resync { everything: !self.known.whole },
            None => return Ok(()),
        };
        if let Purpose::Resync { everything } = purpose {
            if let Err(error) = self.sink.begin_fill(everything) {
                if everything {
                    self.progress.ask(Asked::Resync); // again, once it is there
                }
                return Err(error.into());
            }
            self.known.whole &= !everything;
            self.give_way();
        }
        let fill = Fill::new(purpose, view.commit());
        self.progress.begins(fill.doing());
        self.fill = Some(fill);
        Ok(())
    }

    /// Ends what is under way; what people asked for comes again after the resync that takes its place.
    fn give_way(&mut self) {
        if let Some(asked) = self.fill.take().and_then(|fill| fill.asked()) {
            self.progress.ask(asked);
        }
    }

    /// Goes on with what is under way; true while it is.
    fn fill_on(&mut self, view: &View) -> Result<bool, Failure> {
        let Some(fill) = &mut self.fill else { return Ok(false) };
        let sets = Sets::new(self.registry.read(view)?, view, self.owner.epoch);
        let ended = fill.step(&mut *self.sink, &sets)?;
        let (doing, keys) = (fill.doing(), fill.keys());
        self.progress.show(|shown| (shown.doing, shown.keys) = (doing, keys));
        if !ended {
            return Ok(true);
        }
        let verified = fill.verified(view.commit());
        if fill.is_resync() {
            self.sink.end_fill()?;
            // A part that was lost meanwhile says so itself.
            self.known.whole = true;
        }
        self.fill = None;
        self.progress.show(|shown| {
            shown.doing = Doing::Delivering;
            match verified {
                Some(verified) => {
                    (shown.comparisons, shown.verified) = (shown.comparisons + 1, Some(verified))
                }
                None => shown.resyncs += 1,
            }
        });
        Ok(!self.sink.is_whole())
    }
}

impl Delivery for States {
    fn resume(&mut self) -> Result<(), Failure> {
        if !self.resumed {
            self.sink.resume(&self.owner, self.known.memory.as_ref(), self.last)?;
            self.resumed = true;
        }
        Ok(())
    }

    fn step(&mut self, view: &View, _: i64) -> Result<bool, Failure> {
        self.last = view.commit();
        self.resumed = false;
        if self.cursor.commit > view.commit() && self.fill.is_none() {
            self.sink.look(self.last)?;
        }
        let mut more = self.catch_up(view)?;
        if !more {
            // What lies in the sink now is as of this view: it may be compared.
            self.begin(view)?;
            more = self.fill_on(view)?;
        }
        self.resumed = true;
        self.known.memory = Some(self.sink.memory());
        let whole = self.known.whole && self.sink.is_whole();
        self.progress.show(|shown| shown.whole = Some(whole));
        Ok(more || !whole || self.progress.is_asked())
    }

    fn cursor(&self) -> Place {
        self.cursor
    }

    fn known(&self) -> Option<Known> {
        Some(self.known.clone())
    }

    fn skip(&mut self, _: &View, to: Place) -> Result<(), Failure> {
        self.cursor = self.cursor.max(to);
        self.known.whole = false;
        self.give_way();
        Ok(())
    }
}

/// Label sets as of a view.
pub(super) struct Sets<'a> {
    pub(super) registry: &'a Registry,
    pub(super) view: &'a View,
    pub(super) version: Version,
}

impl<'a> Sets<'a> {
    fn new(registry: &'a Registry, view: &'a View, epoch: u64) -> Self {
        Self { registry, view, version: Version { epoch, commit: view.commit() } }
    }

    /// Of a key; none where its entity is not known.
    fn of_key(&self, entity: u16, key: &[u8]) -> Result<Option<LabelSet<'a>>, Failure> {
        let Some(found) = self.registry.entities.get(usize::from(entity)) else { return Ok(None) };
        let shard = shard_of(key_hash(&found.name, key));
        let record = self.view.get_brief(shard, &entity_key(entity, key))?;
        Ok(Some(self.of_record((entity, found), key, record.as_ref())))
    }

    /// Of a key given as text; none where there is no such entity or key.
    pub(super) fn of_text(&self, entity: &str, key: &str) -> Result<Option<LabelSet<'a>>, Failure> {
        let mut entities = (0u16..).zip(&self.registry.entities);
        let found = entities.find(|(_, known)| known.name == entity);
        let Some((number, bytes)) = found.and_then(|(n, e)| Some((n, e.key.parse(key).ok()?))) else {
            return Ok(None);
        };
        self.of_key(number, &bytes)
    }

    /// Of a record.
    pub(super) fn of_record(
        &self,
        (number, entity): (u16, &'a Entity),
        key: &[u8],
        record: Option<&Record>,
    ) -> LabelSet<'a> {
        let mut labels = Labels::new();
        let live = self.registry.live.values().filter_map(|space| self.registry.generation(*space));
        for generation in
            live.filter(|g| self.registry.entity_of(g.namespace).is_some_and(|(n, _)| n == number))
        {
            for (index, label) in (0u16..).zip(&generation.labels) {
                let mark = record.map_or(0, |r| r.mark(Slot { space: generation.space, index }));
                if mark != 0 {
                    labels.insert(&label.name, generation.value_name(index, mark));
                }
            }
        }
        LabelSet { entity: &entity.name, key: entity.key.text(key), labels, version: self.version }
    }
}
