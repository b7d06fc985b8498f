//! From a finished cycle to a commit: blocks, positions, ledger, timers, outbox, quarantine and totals in one step.
//!
//! [`Book`] holds what the pipeline remembers between commits; all of it can be read back from the state.

use super::coordinator::Pipeline;
use super::cycle::Cycle;
use super::dead_letters;
use super::deliver::{KnownSinks, SINKS};
use super::failure::Failure;
use super::outbox::{Outbox, places};
use super::quarantine;
use super::rows::{self, Cursors, Positions, Scope, Totals};
use super::shard::ShardOutput;
use super::swap_times::SwapTimes;
use super::sweep::{SWEEP, Sweep, Work};
use super::worker::{Applied, Counters, IdLists};
use crate::label::outbox::{self, Place};
use crate::label::{Cause, Transition};
use crate::registry::command::Command;
use crate::registry::revision::audit_configured;
use crate::registry::{META_KEY, Registry};
use crate::state::{Commit, StoreError, Table, View};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// How far ahead timers are held in memory, in µs.
const TIMERS_AHEAD: i64 = 3_600_000_000;
/// Most timers that one commit answers.
const DUE_MAX: usize = 100_000;

/// A timer in memory: moment, generation, shard, state key.
type Timer = (i64, u32, u8, Box<[u8]>);

/// What the pipeline remembers between commits.
pub struct Book {
    scope: Scope,
    /// How far every partition is applied.
    pub positions: Positions,
    /// What is known of state sinks, by name.
    pub(super) known_sinks: KnownSinks,
    /// How far every sink is served, by name, in the order of the sinks.
    pub cursors: Cursors,
    /// Counters.
    pub totals: Totals,
    /// Per (namespace, table): images and bad ones since start.
    pub(super) fits: BTreeMap<(u32, String), (u64, u64)>,
    /// Per rule: code and message of the last bad image since start.
    pub(super) last_bad: BTreeMap<(String, String), (&'static str, String)>,
    /// The registry as of the last assembled commit.
    pub registry: Registry,
    /// The sweep of the start.
    pub sweep: Option<Sweep>,
    /// Operations under way, oldest first.
    pub(super) works: Vec<Work>,
    /// Rows of timers whose generation is gone.
    dead_timers: Vec<Vec<u8>>,
    /// Ids of the open cycle, by worker: of the stream, of the lane.
    pub(super) ids: (IdLists, IdLists),
    /// Nanoseconds by stage.
    pub stage_ns: BTreeMap<&'static str, u64>,
    /// What swaps took of workers' time.
    pub(super) swap_times: SwapTimes,
    /// Entries of the quarantine, oldest first.
    pub(super) quarantine: VecDeque<Place>,
    pub(super) outbox: Outbox,
    /// Keys of dead letters whose sink is gone.
    pub(super) orphans: Vec<Vec<u8>>,
    timers: BTreeSet<Timer>,
    horizon: i64,
    engine_time: i64,
    commit: u64,
    logs: Vec<u8>,
    working: HashMap<usize, u64>,
}

impl Book {
    /// Reads what the state holds.
    ///
    /// # Errors
    /// What the store says, or facts that do not read.
    pub fn open(view: &View, scope: Scope, positions: Positions, sinks: &[String]) -> Result<Self, Failure> {
        let stored: Cursors = read(view, rows::CURSORS)?.unwrap_or_default();
        // A new sink begins behind what is there: state sinks are filled by a resync, not by the outbox.
        let next = Place { commit: view.commit() + 1, index: 0 };
        let cursors: Cursors =
            sinks.iter().map(|s| (s.clone(), stored.get(s).copied().unwrap_or(next))).collect();
        let live = scope == Scope::Live;
        let totals: Totals = read(view, &scope.meta(rows::TOTALS))?.unwrap_or_default();
        let outbox = if live {
            Outbox::open(view, totals.transitions, places(&stored, &cursors))?
        } else {
            Outbox::default()
        };
        let mut quarantine = VecDeque::new();
        view.rows(Table::Quarantine, &[], None, &mut |key, _| {
            quarantine.extend(Place::from_key(key));
            true
        })?;
        let registry = stored_registry(view)?;
        // Timers, sweeps and the outbox are the stream's.
        Ok(Self {
            fits: BTreeMap::new(),
            last_bad: BTreeMap::new(),
            scope,
            positions,
            cursors,
            known_sinks: read(view, SINKS)?.unwrap_or_default(),
            totals,
            works: if live { Work::stored(view, &registry)? } else { Vec::new() },
            dead_timers: Vec::new(),
            registry,
            sweep: if live { read(view, SWEEP)? } else { None },
            ids: Default::default(),
            stage_ns: BTreeMap::new(),
            swap_times: SwapTimes::default(),
            quarantine,
            outbox,
            orphans: if live { dead_letters::orphans(view, sinks)? } else { Vec::new() },
            timers: BTreeSet::new(),
            horizon: if live { i64::MIN } else { i64::MAX },
            engine_time: view.engine_time(),
            commit: view.commit(),
            logs: Vec::new(),
            working: HashMap::new(),
        })
    }

    /// A sink of the state that is not configured, may not be dropped and has not got everything, or has dead letters.
    pub(super) fn missing_sink(&self, view: &View, dropped: &[String]) -> Result<Option<String>, Failure> {
        let stored: Cursors = read(view, rows::CURSORS)?.unwrap_or_default();
        let has_letters =
            |name: &String| self.known_sinks.get(name).is_some_and(|known| known.dead_letters > 0);
        let missing = stored.into_iter().find(|(name, cursor)| {
            let is_gone = !self.cursors.contains_key(name) && !dropped.contains(name);
            is_gone && (self.outbox.waits_from(*cursor) || has_letters(name))
        });
        Ok(missing.map(|(name, _)| name))
    }

    /// What there is to say of sinks that shall be given up although the state does not know them, or that are configured.
    pub(super) fn idle_drops(&self, view: &View, dropped: &[String]) -> Result<Vec<String>, Failure> {
        let stored: Cursors = read(view, rows::CURSORS)?.unwrap_or_default();
        let say = |name: &String| {
            let why = match (self.cursors.contains_key(name), stored.contains_key(name)) {
                (true, _) => "is configured and keeps what waits for it",
                (false, false) => "is not known to the state",
                (false, true) => return None,
            };
            Some(format!("--drop-sink {name}: sink {name} {why}; nothing is given up"))
        };
        Ok(dropped.iter().filter_map(say).collect())
    }

    /// The commit that is assembled, or was last.
    pub(super) fn commit(&self) -> u64 {
        self.commit
    }

    /// What number and engine time the next commit would have.
    pub(super) fn next(&self, durable: u64, now: i64) -> (u64, i64) {
        (self.commit.max(durable) + 1, self.engine_time.max(now))
    }

    /// Number and engine time of the next commit, which begins.
    pub(super) fn begin(&mut self, durable: u64, now: i64) -> (u64, i64) {
        (self.commit, self.engine_time) = self.next(durable, now);
        (self.commit, self.engine_time)
    }

    /// What drops a generation whose grace is over.
    pub(super) fn expired(&self, now: i64) -> Option<Command> {
        let live = self.scope == Scope::Live;
        self.registry.expired(now.max(self.engine_time)).filter(|_| live)
    }

    /// Takes what a worker reports beside its shards.
    pub(super) fn applied(&mut self, applied: &Applied, limit: u64) -> Result<(), Failure> {
        self.working.insert(applied.worker, applied.working_bytes);
        applied.stage_ns.iter().for_each(|(stage, ns)| *self.stage_ns.entry(stage).or_default() += ns);
        self.swap_times.add(&applied.swap_times);
        let used = self.working_bytes();
        if used > limit { Err(Failure::Memory { used, limit }) } else { Ok(()) }
    }

    /// Bytes of working state, of all workers.
    pub(super) fn working_bytes(&self) -> u64 {
        self.working.values().sum()
    }

    /// Loads the timers of the next hour.
    pub(super) fn refresh_timers(&mut self, view: &View, now: i64) -> Result<(), StoreError> {
        let now = now.max(self.engine_time);
        if self.horizon != i64::MIN && now.saturating_add(TIMERS_AHEAD / 2) < self.horizon {
            return Ok(());
        }
        let until = now.saturating_add(TIMERS_AHEAD);
        let (from, to) = (rows::timer_key(self.horizon, 0, 0, &[]), rows::timer_key(until, 0, 0, &[]));
        let timers = &mut self.timers;
        view.rows(Table::Timers, &from, Some(&to), &mut |row, _| {
            if let Some((moment, generation, shard, key)) = rows::parse_timer(row) {
                timers.insert((moment, generation, shard, key.into()));
            }
            true
        })?;
        self.horizon = until;
        Ok(())
    }

    /// Whether a timer is due.
    pub(super) fn has_due(&self, now: i64) -> bool {
        self.timers.first().is_some_and(|(moment, ..)| *moment <= now.max(self.engine_time))
    }

    /// Reads all timers again: those of generations that stood still count again.
    pub(super) fn look_again(&mut self) {
        self.timers.clear();
        self.horizon = i64::MIN;
    }

    /// Takes the due timers out: their keys by shard. Those of generations that are neither `kept` nor `parked` any more are
    /// cleared; parked ones wait in the state.
    pub(super) fn due(
        &mut self,
        now: i64,
        (kept, parked): (&BTreeSet<u32>, &BTreeSet<u32>),
    ) -> BTreeMap<usize, Vec<Box<[u8]>>> {
        let mut due: BTreeMap<usize, Vec<Box<[u8]>>> = BTreeMap::new();
        for _ in 0..DUE_MAX {
            if !self.has_due(now) {
                break;
            }
            let Some((moment, generation, shard, key)) = self.timers.pop_first() else { break };
            if parked.contains(&generation) {
                continue;
            }
            if !kept.contains(&generation) {
                self.dead_timers.push(rows::timer_key(moment, generation, shard, &key));
                continue;
            }
            due.entry(usize::from(shard)).or_default().push(key);
        }
        due
    }

    /// Stores how far the sweep is; flips or ends it when all shards are done. What flipped is told to those who hear of
    /// changes alone: that members are others; how many is not counted.
    fn turn_sweep(&mut self, commit: &mut Commit) -> Vec<Transition> {
        let Some(sweep) = self.sweep.take() else { return Vec::new() };
        let before = sweep.all_done().then(|| (self.registry.clone(), sweep.flips()));
        let (sweep, dropped, turned) = sweep.turn(&mut self.registry);
        let row = sweep.as_ref().and_then(|sweep| serde_json::to_vec(sweep).ok());
        commit.rows.push((Table::Meta, SWEEP.to_vec(), row));
        commit.drop_spaces.extend(dropped);
        self.sweep = sweep;
        let Some((before, flips)) = before.filter(|_| turned) else { return Vec::new() };
        commit.rows.push((Table::Meta, META_KEY.to_vec(), Some(self.registry.to_bytes())));
        let place = (commit.id, commit.engine_time_us);
        let audit = audit_configured((&before, &self.registry), "configure", place);
        commit.rows.extend(audit.into_iter().map(|(key, row)| (Table::Meta, key, row)));
        flips
    }

    /// What those hear who hear of changes alone once the rules have read their history: that members are others.
    fn history_is_read(&self) -> Vec<Transition> {
        let live = self.registry.live.values().filter_map(|space| self.registry.generation(*space));
        let of = live.filter_map(|g| Some((g.space, self.registry.entity_of(g.namespace)?.0)));
        of.map(|(space, entity)| Transition::switch(space, entity, Cause::Catchup)).collect()
    }

    fn note_timers(&mut self, output: &ShardOutput, commit: &mut Commit) {
        let shard = u8::try_from(output.shard).unwrap_or(u8::MAX);
        for timer in &output.timers {
            if let Some(before) = timer.before {
                let row = rows::timer_key(before, timer.generation, shard, &timer.key);
                commit.rows.push((Table::Timers, row, None));
                self.timers.remove(&(before, timer.generation, shard, timer.key.clone()));
            }
            if let Some(after) = timer.after {
                let row = rows::timer_key(after, timer.generation, shard, &timer.key);
                commit.rows.push((Table::Timers, row, Some(Vec::new())));
                // An hour past the horizon too: the next refresh reads durable rows only.
                if after < self.horizon.saturating_add(TIMERS_AHEAD) {
                    self.timers.insert((after, timer.generation, shard, timer.key.clone()));
                }
            }
        }
    }

    fn count(&mut self, counters: &Counters, tables: &[String]) {
        let totals = &mut self.totals;
        totals.changes += counters.changes;
        totals.newest = totals.newest.max(counters.newest);
        totals.resent += counters.resent;
        totals.aside += counters.messages_aside;
        for (reason, n) in &counters.skipped {
            *totals.skipped.entry(format!("{reason:?}").to_lowercase()).or_default() += n;
        }
        for (table, n) in &counters.tables {
            let name = tables.get(*table as usize).cloned().unwrap_or_default();
            *totals.tables.entry(name).or_default() += n;
        }
        self.count_images(counters, tables);
    }

    /// Counts what rules were given, of the stream or of the lane.
    pub(super) fn count_images(&mut self, counters: &Counters, tables: &[String]) {
        let totals = &mut self.totals;
        totals.images += counters.images;
        totals.null_keys += counters.null_keys;
        for ((namespace, table), (images, bad)) in &counters.fits {
            let name = tables.get(*table).cloned().unwrap_or_default();
            let fits = self.fits.entry((*namespace, name)).or_default();
            *fits = (fits.0 + images, fits.1 + bad);
            totals.bad_images += bad;
            if *bad > 0 {
                *totals.refused.entry(*namespace).or_default() += bad;
            }
        }
        for (namespace, n) in &counters.aside {
            *totals.refused.entry(*namespace).or_default() += n;
        }
        counters.stage_ns.iter().for_each(|(stage, ns)| *self.stage_ns.entry(stage).or_default() += ns);
    }
}

fn stored_registry(view: &View) -> Result<Registry, Failure> {
    Ok(read(view, META_KEY)?.unwrap_or_default())
}

pub(super) fn read<T: serde::de::DeserializeOwned>(view: &View, key: &[u8]) -> Result<Option<T>, Failure> {
    let Some(bytes) = view.row(Table::Meta, key)? else { return Ok(None) };
    let name = String::from_utf8_lossy(key).into_owned();
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Failure::State(StoreError::Corrupt { place: format!("meta row {name}"), reason: error.to_string() })
    })
}

impl Pipeline {
    /// The commit of a finished cycle.
    pub(super) fn assemble(&mut self, cycle: &mut Cycle, mut outputs: Vec<ShardOutput>) -> Commit {
        outputs.sort_by_key(|o| o.shard);
        let delivered = self.sinks.iter().map(|s| s.cursor).min();
        let book = &mut self.book;
        let mut commit = Commit { id: book.commit, engine_time_us: book.engine_time, ..Commit::default() };
        let mut transitions = Vec::new();
        let swept = book.sweep.is_some() && outputs.iter().any(|o| o.swept.is_some());
        for output in outputs {
            if let (Some(sweep), Some(last)) = (&mut book.sweep, &output.swept) {
                sweep.note(output.shard, last.as_deref());
            }
            book.note_timers(&output, &mut commit);
            transitions.extend(output.transitions);
            commit.shards.extend(output.block);
        }
        if swept {
            let flipped = book.turn_sweep(&mut commit);
            transitions.extend(flipped.into_iter().filter(|_| self.audience.summary));
        }
        let catches_up = self.partitions.iter().any(|p| p.applied < p.partition.first_size);
        if book.positions.catching_up && !catches_up && self.audience.summary {
            transitions.extend(book.history_is_read());
        }
        book.totals.transitions += transitions.len() as u64;
        let kept_max = self.settings.transitions_bytes_max;
        if !self.sinks.is_empty() || (kept_max > 0 && book.scope == Scope::Live) {
            let rows = outbox::encode(commit.id, commit.engine_time_us, &transitions);
            book.outbox.note(&rows, commit.id);
            commit.rows.extend(rows.into_iter().map(|(key, row)| (Table::Outbox, key, Some(row))));
        } else if !transitions.is_empty() {
            book.outbox.forget(commit.id);
        }
        let dead = std::mem::take(&mut book.dead_timers).into_iter();
        commit.rows.extend(dead.map(|row| (Table::Timers, row, None)));
        if book.scope == Scope::Live {
            let delivered = delivered.unwrap_or(Place { commit: u64::MAX, index: 0 });
            book.outbox.turn(delivered, kept_max, &mut commit);
        }
        book.count(&cycle.counters(false), &self.program.tables());
        self.note_ids(cycle, &mut commit);
        let bad = cycle.published.iter().flat_map(|p| &p.quarantine);
        let last: BTreeMap<_, _> = bad.map(|bad| ((&bad.rule, &bad.table), bad)).collect();
        for ((rule, table), bad) in last {
            self.book.last_bad.insert((rule.clone(), table.clone()), (bad.code, bad.message.clone()));
        }
        quarantine::note(&mut self.book, cycle, self.settings.quarantine_entries_max, &mut commit);
        self.note_meta(&mut commit);
        commit
    }

    fn note_ids(&mut self, cycle: &mut Cycle, commit: &mut Commit) {
        for (log, ts) in cycle.published.iter().flat_map(|p| &p.live.latest_ts) {
            self.ledger.entered(*log, *ts);
        }
        self.book.ids = Default::default();
        if cycle.ledger_rows.is_empty() {
            return;
        }
        let scope = self.book.scope;
        for (n, row) in (0u32..).zip(std::mem::take(&mut cycle.ledger_rows)) {
            let key = scope.ledger_key(&Place { commit: commit.id, index: n }.key());
            commit.rows.push((Table::Ledger, key, Some(row)));
        }
        let logs = self.ledger.logs();
        if logs != self.book.logs {
            commit.rows.push((Table::Ledger, scope.ledger_key(rows::LOGS), Some(logs.clone())));
            self.book.logs = logs;
        }
    }

    fn note_meta(&mut self, commit: &mut Commit) {
        let book = &mut self.book;
        for ((_, position), run) in book.positions.partitions.iter_mut().zip(&self.partitions) {
            *position = run.applied;
        }
        book.positions.catching_up = self.partitions.iter().any(|p| p.applied < p.partition.first_size);
        for sink in &self.sinks {
            book.cursors.insert(sink.name.clone(), sink.cursor);
        }
        let scope = book.scope;
        let known = self.turn_sinks().map(serde_json::to_vec);
        let book = &mut self.book;
        if scope == Scope::Live {
            let there = |space: &u32| book.registry.namespaces.iter().any(|n| n.space == *space);
            book.totals.refused.retain(|space, _| there(space));
        }
        let mut put = |key: &[u8], value: Option<Vec<u8>>| {
            commit.rows.push((Table::Meta, scope.meta(key), value));
        };
        put(rows::POSITIONS, serde_json::to_vec(&book.positions).ok());
        put(rows::TOTALS, serde_json::to_vec(&book.totals).ok());
        if scope == Scope::Live {
            put(rows::CURSORS, serde_json::to_vec(&book.cursors).ok());
            if let Some(Ok(known)) = known {
                put(SINKS, Some(known));
            }
            commit.rows.extend(self.letter_rows());
        }
    }
}
