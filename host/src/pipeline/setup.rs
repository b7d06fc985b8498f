//! From a configuration and a state directory to an engine that is ready to run.
//!
//! The configuration decides which rules run; the state decides where reading goes on. Whatever the two disagree on is
//! refused by name before anything is read.

use super::assemble::Book;
use super::coordinator::{Pipeline, Settings};
use super::deliver::{Batches, Deliverer, Delivery, Events, States};
use super::drift::Drift;
use super::failure::Failure;
use super::forms;
use super::lane::{Lane, left_lanes};
use super::ledger::Ledger;
use super::message::Address;
use super::outbox::WAITING_ROWS_MAX;
use super::parts::{Reader, SharedView, Writer};
use super::program::{Program, SourceProgram};
use super::rows::{LOGS, POSITIONS, Positions, Scope};
use super::rules::{Attached, ConfiguredRules, RulesError, attach, load_all};
use super::sinks::{Served, SinkRun};
use super::sources::{SourceInput, open_sources};
use super::sweep::{Pair, SLICE_KEYS, SWEEP, Stage, Sweep};
use super::threads::Parts;
use super::worker::Worker;
use crate::aggregate::SET_ENTRIES_MAX;
use crate::config::{Config, Manage};
use crate::label::outbox::Place;
use crate::registry::command::Audience;
use crate::registry::revision::audit_configured;
use crate::registry::{Gap, META_KEY, NO_SPACE, Registry};
use crate::sink::opened::{Opened, SinkInput, open_sinks};
use crate::sink::progress::Progress;
use crate::sink::{Owner, SinkError};
use crate::source::SourceError;
use crate::source::observed::Observed;
use crate::state::ledger::{Id, LogTable, decode_ids};
use crate::state::{Commit, FjallStore, StateDir, StateWriter, Store, StoreError, Table, View};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Why an engine cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The state.
    #[error(transparent)]
    State(#[from] StoreError),
    /// A source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A sink.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A rule.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Anything that the engine says while it starts.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// A stored fact that does not read.
    #[error("state-corrupt: {0} does not read; restore the state directory from a savepoint")]
    Damaged(&'static str),
    /// Labels change again while the last change is still being told.
    #[error(
        "the last change of labels is still being told; start once with the rules and parameters as they were then, \
         afterwards change them again"
    )]
    SweepFirst,
    /// Two partitions are one file, or of one topic.
    #[error("same-file: {0} and {1} are one file or topic, and would count twice; name it once")]
    SameFile(String, String),
    /// A sink that still has something to get is not configured.
    #[error(
        "sink-missing: sink {0} has not got everything of the outbox yet, or has dead letters, and is not configured; \
         name it again, or start once with --drop-sink {0} to give up what it has not got"
    )]
    SinkMissing(String),
    /// A rule to rebuild that the configuration does not have.
    #[error("--rebuild {0}: there is no [rules.{0}] in the configuration")]
    NoSuchRule(String),
    /// An option for a source that the configuration does not have.
    #[error("{0} {1}: there is no [sources.{1}] in the configuration")]
    NoSuchSource(&'static str, String),
    /// The state has read a source that the configuration does not have.
    #[error(
        "source {0} was read into this state but is not configured; name it again, or use another state directory"
    )]
    SourceGone(String),
}

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop at the end of the sources.
    pub until_end: bool,
    /// Rules whose state may be dropped.
    pub remove: Vec<String>,
    /// Sinks that are no longer configured and may lose what they have not got.
    pub drop_sinks: Vec<String>,
    /// Sources whose topics may have more partitions than they had.
    pub accept_partitions: Vec<String>,
    /// Sources that another host said lately it reads, and that are read all the same.
    pub take_over: Vec<String>,
    /// Who decides which rules run.
    pub manage: Manage,
    /// Wall time of the start, µs.
    pub started_us: i64,
    /// The state directory, where compiled code is kept.
    pub cache: Option<PathBuf>,
}

/// An engine that is ready to run.
pub struct Engine {
    /// The coordinator.
    pub pipeline: Pipeline,
    /// All other parts.
    pub parts: Parts,
    /// The latest durable view, for readers.
    pub view: SharedView,
    /// Random id of the state, and its epoch.
    pub state_id: String,
    /// What sources see of their logs, by name.
    pub observed: BTreeMap<String, Arc<Observed>>,
    /// What sinks are doing, by name.
    pub delivery: BTreeMap<String, Arc<Progress>>,
    /// Held as long as the engine runs.
    pub dir: StateDir,
}

/// Opens everything.
///
/// # Errors
/// The first thing that stands in the way, by name.
pub fn open(config: &Config, options: &Options) -> Result<Engine, SetupError> {
    let (dir, inputs) = inputs(config, options)?;
    let state_id = dir.id().to_owned();
    let options = Options { cache: Some(dir.path().to_owned()), ..options.clone() };
    let observed = observed(&inputs.sources);
    let delivery = inputs.sinks.iter().map(|sink| (sink.name.clone(), sink.progress.clone())).collect();
    let (pipeline, parts, view) = build(inputs, &options)?;
    Ok(Engine { pipeline, parts, view, state_id, observed, delivery, dir })
}

/// Opens the engine that reads the history of rule `rule` anew; `None` when there is nothing left to read.
///
/// # Errors
/// As [`open`].
pub fn open_rebuild(config: &Config, options: &Options, rule: &str) -> Result<Option<Engine>, SetupError> {
    let options = Options { until_end: true, ..options.clone() };
    let (dir, inputs) = inputs(config, &options)?;
    let state_id = dir.id().to_owned();
    let observed = observed(&inputs.sources);
    let built = super::rebuild::build(inputs, rule)?;
    let delivery = BTreeMap::new();
    Ok(built.map(|(pipeline, parts, view)| Engine {
        pipeline,
        parts,
        view,
        state_id,
        observed,
        delivery,
        dir,
    }))
}

fn observed(sources: &[SourceInput]) -> BTreeMap<String, Arc<Observed>> {
    sources.iter().filter_map(|source| Some((source.name.clone(), source.observed.clone()?))).collect()
}

/// How long a start waits for commands that read the stopped state.
const STATE_PATIENCE: Duration = Duration::from_secs(2);

/// Opens what an engine is built from.
fn inputs(config: &Config, options: &Options) -> Result<(StateDir, Inputs), SetupError> {
    let dir = StateDir::open_when_read(&config.resolve(&config.state.dir), STATE_PATIENCE)?;
    let store: Arc<dyn Store> = Arc::new(FjallStore::open(&dir.store_path())?);
    let (writer, view) = StateWriter::open(store)?;
    let (positions, sources) = open_sources(config, options, (stored_positions(&view)?, &dir))?;
    let sinks = open_sinks(config)?;
    let rules = load_all(config, &stored_registry(&view)?.taken_over, Some(dir.path()))?;
    let owner = Owner { state_id: dir.id().to_owned(), epoch: dir.epoch(), hosts: dir.enlist()?.into() };
    let inputs = Inputs {
        owner,
        writer,
        view,
        positions,
        rules,
        sources,
        sinks,
        settings: Settings {
            workers: config.engine.workers,
            cycle_bytes_max: config.engine.cycle_bytes_max,
            block_bytes: config.engine.block_bytes,
            until_end: options.until_end,
            memory_max_bytes: config.state.memory_max_bytes,
            quarantine_entries_max: config.state.quarantine_entries_max,
            transitions_bytes_max: config.state.transitions_bytes_max,
            outbox_rows_max: WAITING_ROWS_MAX,
            sweep_keys: SLICE_KEYS,
            set_entries_max: SET_ENTRIES_MAX,
            grace_us: config.registry.grace_us(),
        },
    };
    Ok((dir, inputs))
}

/// Everything that an engine is built from.
pub struct Inputs {
    /// Whose transitions the sinks are given.
    pub owner: Owner,
    /// The state's writer.
    pub writer: StateWriter,
    /// Its view.
    pub view: Arc<View>,
    /// Partitions with their positions.
    pub positions: Positions,
    /// Rules.
    pub rules: ConfiguredRules,
    /// Sources, by name.
    pub sources: Vec<SourceInput>,
    /// Sinks, by name.
    pub sinks: Vec<SinkInput>,
    /// How it runs.
    pub settings: Settings,
}

/// Builds the parts of an engine.
///
/// # Errors
/// Rules and state that disagree; a state that does not read; a sink that is another state's.
pub fn build(inputs: Inputs, options: &Options) -> Result<(Pipeline, Parts, SharedView), SetupError> {
    let Inputs { owner, mut writer, view, mut positions, rules, mut sources, sinks, settings } = inputs;
    let attached = attach(&rules.rules, options, stored_registry(&view)?, &positions, &view)?;
    let mut drift = Drift::new(options.manage, &rules);
    drift.note(attached.notes.clone());

    let begun = sources.iter().filter(|source| !source.complete);
    positions.incomplete.extend(begun.map(|source| source.name.clone()));
    forms::settle_first(&mut sources, &mut positions)?;
    let sweep = next_sweep(&view, &attached)?;
    let view = begin(&mut writer, &view, &positions, (&attached, sweep.as_ref()), options.started_us)?;
    let registry = attached.registry.clone();
    let program = program(&sources, &positions, attached).awake(&registry);
    let program = Arc::new(Program { set_entries_max: settings.set_entries_max, ..program });
    let ledger = Arc::new(load_ledger(&view, Scope::Live)?);
    let names: Vec<String> = sinks.iter().map(|s| s.name.clone()).collect();
    let audience = Audience::of(sinks.iter().map(SinkInput::deliver), settings.transitions_bytes_max > 0);
    let book = Book::open(&view, Scope::Live, positions, &names)?;
    if let Some(missing) = book.missing_sink(&view, &options.drop_sinks)? {
        return Err(SetupError::SinkMissing(missing));
    }
    drift.note(book.idle_drops(&view, &options.drop_sinks)?);
    drift.note(unread_hidden(&program));

    let shared = SharedView::new(view.clone());
    let mut parts: Parts = Vec::new();
    let mut runs = Vec::new();
    for (number, sink) in sinks.into_iter().enumerate() {
        let (run, deliverer) = serve(number, sink, &owner, (&book, view.commit()))?;
        runs.push(run);
        parts.push((Address::Sink(number), Box::new(deliverer)));
    }
    let workers = settings.workers;
    let mut pipeline = Pipeline::new(program.clone(), settings, ledger.clone(), view, book);
    (pipeline.drift, pipeline.audience, pipeline.sinks) = (drift, audience, runs);
    pipeline.hold = writer.hold();
    let incomplete = sources.iter().filter(|source| !source.complete);
    pipeline.incomplete = incomplete.map(|source| source.name.clone()).collect();
    pipeline.next_lane()?;
    let lane = pipeline.lane();
    parts.append(&mut core_parts(sources, (&program, &ledger, lane.as_ref()), workers)?);
    parts.push((Address::Committer, Box::new(Writer::new(writer, shared.clone()))));
    Ok((pipeline, parts, shared))
}

/// Tables in `hidden_columns` that no rule reads: perhaps misspelled.
fn unread_hidden(program: &Program) -> Vec<String> {
    let read = |table: &String| {
        let rules = program.rules.iter().chain(&program.stopped);
        rules.flat_map(|r| &r.compiled.manifest.tables).any(|t| t.table == *table)
    };
    let of_source = |source: &SourceProgram| {
        let unread = source.hidden_columns.iter().filter(|table| !read(table));
        unread
            .map(|t| format!("source {}: hidden_columns names {t}, which no rule reads", source.name))
            .collect()
    };
    program.sources.iter().flat_map(|source| -> Vec<String> { of_source(source) }).collect()
}

/// The readers of the sources and the workers.
pub(super) fn core_parts(
    sources: Vec<SourceInput>,
    (program, ledger, lane): (&Arc<Program>, &Arc<Ledger>, Option<&Lane>),
    workers: usize,
) -> Result<Parts, SetupError> {
    let mut parts: Parts = Vec::new();
    for (number, source) in sources.into_iter().enumerate() {
        parts.push((Address::Source(number), Box::new(Reader(source.reader))));
    }
    for number in 0..workers {
        let worker = Worker::new(number, (program.clone(), ledger.clone()), lane)?;
        parts.push((Address::Worker(number), Box::new(worker)));
    }
    Ok(parts)
}

/// The registry in a view.
///
/// # Errors
/// What the store says, or a row that does not read.
pub fn stored_registry(view: &View) -> Result<Registry, SetupError> {
    let stored = view.row(Table::Meta, META_KEY)?;
    Registry::read(stored.as_deref()).map_err(|_| SetupError::Damaged("the registry"))
}

/// The positions in a view.
///
/// # Errors
/// What the store says, or a row that does not read.
pub fn stored_positions(view: &View) -> Result<Positions, SetupError> {
    let Some(bytes) = view.row(Table::Meta, POSITIONS)? else { return Ok(Positions::default()) };
    serde_json::from_slice(&bytes).map_err(|_| SetupError::Damaged("the row of positions"))
}

/// Makes what is new durable before anything is read: partitions, namespaces, label generations.
fn begin(
    writer: &mut StateWriter,
    view: &Arc<View>,
    positions: &Positions,
    (attached, sweep): (&Attached, Option<&Sweep>),
    started_us: i64,
) -> Result<Arc<View>, SetupError> {
    let stored = view.row(Table::Meta, POSITIONS)?;
    let bytes = serde_json::to_vec(positions).ok();
    let files = attached.files.iter().map(|(key, file)| (Table::Meta, key.clone(), Some(file.clone())));
    let sweep = sweep.and_then(|sweep| serde_json::to_vec(sweep).ok());
    let left = left_lanes(view, &attached.registry)?;
    if !attached.changed
        && left.is_empty()
        && attached.files.is_empty()
        && stored == bytes
        && view.row(Table::Meta, SWEEP)? == sweep
    {
        return Ok(view.clone());
    }
    let mut rows = vec![
        (Table::Meta, POSITIONS.to_vec(), bytes),
        (Table::Meta, META_KEY.to_vec(), Some(attached.registry.to_bytes())),
        (Table::Meta, SWEEP.to_vec(), sweep),
    ];
    rows.extend(files);
    let (id, before) = (view.commit() + 1, stored_registry(view)?);
    let changed = (&before, &attached.registry);
    let audit = audit_configured(changed, "configure", (id, started_us.max(view.engine_time())));
    rows.extend(audit.into_iter().map(|(key, row)| (Table::Meta, key, row)));
    rows.extend(left);
    let commit = Commit {
        id,
        engine_time_us: view.engine_time(),
        rows,
        drop_spaces: attached.dropped.clone(),
        ..Commit::default()
    };
    Ok(writer.commit(commit)?)
}

/// The sweep to go on with: the stored one while it still wants the same, else one for what changed.
pub(super) fn next_sweep(view: &View, attached: &Attached) -> Result<Option<Sweep>, SetupError> {
    let stored: Option<Sweep> = match view.row(Table::Meta, SWEEP)? {
        Some(bytes) => Some(serde_json::from_slice(&bytes).map_err(|_| SetupError::Damaged("the sweep"))?),
        None => None,
    };
    let mut pairs = attached.pairs.clone();
    if let Some(sweep) = &stored {
        let same = |pair: &&Pair| attached.pairs.iter().any(|p| p.new.space == pair.new.space);
        let mut changes = sweep.pairs.iter().filter(|pair| pair.new.space != NO_SPACE);
        let kept = match sweep.stage {
            Stage::Evaluate | Stage::Announce | Stage::Renew => {
                changes.clone().count() == attached.pairs.len() && changes.all(|pair| same(&pair))
            }
            // Flipped already: what differs must be told before anything else changes.
            Stage::Tell if attached.pairs.is_empty() => true,
            Stage::Tell => return Err(SetupError::SweepFirst),
        };
        if kept {
            return Ok(stored);
        }
        // A removal that was begun is known to the sweep alone: the registry has let go of the rule's sums.
        let of_rule = |removal: &&Pair| attached.pairs.iter().any(|pair| pair.new.rule == removal.new.rule);
        let removals = sweep.pairs.iter().filter(|pair| pair.new.space == NO_SPACE);
        pairs.extend(removals.filter(|removal| !of_rule(removal)).cloned());
    }
    Ok((!pairs.is_empty()).then(|| Sweep::new(pairs)))
}

/// Loads all ids of all commits.
pub(super) fn load_ledger(view: &View, scope: Scope) -> Result<Ledger, SetupError> {
    let mut ids: Vec<Id> = Vec::new();
    load_ids(view, scope, &scope.ledger_end(), &mut ids)?;
    Ok(Ledger::new(load_logs(view, scope)?.unwrap_or_default(), ids))
}

/// Loads what the lane of a gap knows: the stream's ids up to the pause, and those that the lane has met. Logs have the
/// numbers of the stream's table; those that only the lane meets come behind them.
pub(super) fn load_gap_ledger(view: &View, gap: &Gap) -> Result<Ledger, SetupError> {
    let (scope, mut ids) = (Scope::Lane(gap.lane), Vec::new());
    let behind = Scope::Live.ledger_key(&Place { commit: gap.commit.saturating_add(1), index: 0 }.key());
    load_ids(view, Scope::Live, &behind, &mut ids)?;
    load_ids(view, scope, &scope.ledger_end(), &mut ids)?;
    let logs = match load_logs(view, scope)? {
        Some(logs) => logs,
        None => load_logs(view, Scope::Live)?.unwrap_or_default(),
    };
    Ok(Ledger::new(logs, ids))
}

fn load_logs(view: &View, scope: Scope) -> Result<Option<LogTable>, SetupError> {
    let bytes = view.row(Table::Ledger, &scope.ledger_key(LOGS))?;
    let decode = |bytes: Vec<u8>| LogTable::decode(&bytes);
    bytes.map(decode).transpose().map_err(|_| SetupError::Damaged("the table of id logs"))
}

/// Reads the ids of the commits whose keys lie before `end`.
fn load_ids(view: &View, scope: Scope, end: &[u8], ids: &mut Vec<Id>) -> Result<(), SetupError> {
    let (logs_key, mut damaged) = (scope.ledger_key(LOGS), false);
    view.rows(Table::Ledger, &scope.ledger(), Some(end), &mut |key, row| {
        if key != logs_key {
            match decode_ids(row) {
                Ok(mut read) => ids.append(&mut read),
                Err(_) => damaged = true,
            }
        }
        !damaged
    })?;
    if damaged { Err(SetupError::Damaged("a ledger row")) } else { Ok(()) }
}

/// A sink, as the coordinator and its own thread see it.
fn serve(
    number: usize,
    input: SinkInput,
    owner: &Owner,
    (book, last): (&Book, u64),
) -> Result<(SinkRun, Deliverer), Failure> {
    let SinkInput { name, opened, when_full, progress } = input;
    let cursor = book.cursors.get(&name).copied().unwrap_or_default();
    let stored = book.known_sinks.get(&name).cloned();
    let owner = owner.clone();
    let delivery: Box<dyn Delivery> = match opened {
        Opened::Events { sink, deliver } => {
            Box::new(Events::new(&name, (sink, deliver), owner, (cursor, last), stored.unwrap_or_default()))
        }
        Opened::Batches { sink, deliver, terms } => {
            let stored = stored.unwrap_or_default();
            let sink = (sink, deliver, terms);
            Box::new(Batches::new((&name, owner), sink, cursor, stored, progress.clone()))
        }
        Opened::State(sink) => {
            Box::new(States::new(sink, owner, (cursor, last), stored.unwrap_or_default(), progress.clone()))
        }
    };
    let known = delivery.known();
    let deliverer = Deliverer::open(number, delivery, progress.clone())?;
    Ok((SinkRun::new(name, cursor, Served { when_full, progress }, known), deliverer))
}

/// The program of the attached rules.
pub(super) fn program(inputs: &[SourceInput], positions: &Positions, attached: Attached) -> Program {
    let source = |source: &SourceInput| SourceProgram {
        name: source.name.clone(),
        producer: source.producer.clone(),
        says_producer: source.says_producer,
        format: source.format,
        hidden_columns: source.hidden_columns.clone(),
        on_refusal: source.on_refusal,
        plan: Arc::default(),
    };
    let number = |name: &str| inputs.iter().position(|s| s.name == name).unwrap_or(0);
    Program {
        sources: inputs.iter().map(source).collect(),
        partitions: positions.partitions.iter().map(|(p, _)| number(&p.source)).collect(),
        rules: attached.rules,
        stopped: Vec::new(),
        entities: Vec::new(),
        set_entries_max: SET_ENTRIES_MAX,
    }
    .bound(attached.registry.entities.iter().map(|e| e.name.as_str()))
}

/// The path of the socket in a state directory.
#[must_use]
pub fn socket_path(dir: &Path) -> std::path::PathBuf {
    dir.join("retag.sock")
}
