//! What outlives a crash: the store, the logs, what sinks have taken, the time. And how one run of the engine ends.

use super::check::registry;
use super::holder::Holder;
use super::hook::{HOOK, Hook};
use super::scheduler::{Random, Schedule};
use super::source::Texts;
use crate::shop::{Config, Generator};
use retag_host::aggregate::SET_ENTRIES_MAX;
use retag_host::config::{Deliver, OnRefusal, WhenFull};
use retag_host::decode::Format;
use retag_host::label::outbox::Place;
use retag_host::pipeline::coordinator::Settings;
use retag_host::pipeline::failure::Failure;
use retag_host::pipeline::program::Code;
use retag_host::pipeline::rules::{ConfiguredRules, Loaded, load};
use retag_host::pipeline::setup::{Inputs, Options, SetupError, build, stored_positions};
use retag_host::pipeline::sources::SourceInput;
use retag_host::registry::command::Command;
use retag_host::rule::{RuleEngine, RuleFile};
use retag_host::sink::batch::Terms;
use retag_host::sink::message::{Message, Summary, parse_id};
use retag_host::sink::opened::{Opened, SinkInput};
use retag_host::sink::progress::{Asked, Progress, Wish};
use retag_host::sink::{Owner, Sink, SinkError};
use retag_host::state::{Limits, MemStore, StateWriter, Store, View};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The example rules, compiled once for all runs.
pub struct Rules(Vec<Loaded>);

impl Rules {
    /// Loads `rules/NAME/NAME.wasm` for each name.
    ///
    /// # Panics
    /// When a rule is not built: `cargo xtask test` builds them.
    #[must_use]
    pub fn load(names: &[&str]) -> Self {
        Self::with_params(names, &BTreeMap::new())
    }

    /// As [`Rules::load`], with parameters (for the rules that have them).
    ///
    /// # Panics
    /// As [`Rules::load`].
    #[must_use]
    pub fn with_params(names: &[&str], params: &BTreeMap<String, serde_json::Value>) -> Self {
        let engine = RuleEngine::new().expect("a Wasm engine");
        let mut rules = Vec::new();
        for name in names {
            let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../rules");
            let path = root.join(name).join(format!("{name}.wasm"));
            let bytes = std::fs::read(&path)
                .unwrap_or_else(|e| panic!("{}: {e}; build it with `cargo xtask test`", path.display()));
            let manifest = RuleFile::read(&bytes).expect("a rule that reads").manifest;
            let mut params = params.clone();
            params.retain(|param, _| manifest.params.iter().any(|p| p.name == *param));
            rules.push(load(&engine, name, (path, bytes), &params).expect("a rule that loads"));
        }
        Self(rules)
    }
}

impl Rules {
    /// The rule of that name.
    ///
    /// # Panics
    /// When it is not one of them.
    #[must_use]
    pub fn get(&self, name: &str) -> &Loaded {
        let of = |rule: &&Loaded| rule.revision("", "").rule == name;
        self.0.iter().find(of).expect("a rule of that name")
    }
}

/// How one run of the engine ended.
#[derive(Debug)]
pub enum Fate {
    /// It reached the end of the logs, everything committed and delivered.
    Ended,
    /// It was killed.
    Killed,
    /// It stopped with a failure.
    Failed(Failure),
}

/// Everything that outlives a crash.
pub struct World {
    /// The store.
    pub store: MemStore,
    /// One text per partition.
    pub logs: Vec<Arc<Vec<u8>>>,
    /// What the sink has, in order: (place, whole message).
    pub delivered: Arc<Mutex<Vec<(Place, serde_json::Value)>>>,
    /// What becomes of the event sink when too much waits for it, and how many deliveries fail before one succeeds.
    pub when_full: (WhenFull, u32),
    /// What the state sink has.
    pub held: Holder,
    /// A receiver of batches beside them, with what becomes of what it does not take.
    pub hook: Option<(Hook, Terms, WhenFull)>,
    /// What is asked of its dead letters, each time the engine starts.
    pub hook_wish: Option<Wish>,
    /// What the state sink is asked, each time the engine starts: to be compared.
    held_progress: Arc<Progress>,
    /// Engine time in µs.
    pub now: i64,
    /// Most µs between two steps.
    pub pace_us: u64,
    /// Number of workers; may differ from run to run.
    pub workers: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Bytes of a cycle.
    pub cycle_bytes_max: u64,
    /// Bounds of overlay and pages.
    pub limits: Limits,
    /// Most entries of a counted set.
    pub set_entries_max: usize,
    /// The sink forgets where it was: it is told again what it had.
    pub forgetful: bool,
    /// How long a replaced label generation is kept, µs.
    pub grace_us: i64,
    /// Which transitions the sink gets.
    pub deliver: Deliver,
    /// What a refused message does.
    pub on_refusal: OnRefusal,
    /// Tables with columns that the producer hides.
    pub hidden_columns: Vec<String>,
    /// Positions are numbers of messages, as Kafka has them, not bytes.
    pub numbered: bool,
}

/// A small shop of random size, in up to three logs.
///
/// # Panics
/// Never: the numbers are small.
#[must_use]
pub fn small_shop(seed: u64, resend_percent: u32, random: &mut Random) -> Config {
    Config {
        seed,
        events: 300 + random.below(300),
        users: 5 + random.below(40),
        partitions: 1 + u32::try_from(random.below(3)).expect("a small number"),
        resend_percent,
        ..Config::default()
    }
}

impl World {
    /// A world with the messages of a generated shop in `config.partitions` logs.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut logs = vec![Vec::new(); config.partitions as usize];
        for message in Generator::new(config.clone()) {
            let log: &mut Vec<u8> = &mut logs[message.partition as usize];
            log.extend_from_slice(&message.json);
            log.push(b'\n');
        }
        Self { numbered: config.seed % 3 == 1, ..Self::of_logs(logs) }
    }

    /// A world with these logs.
    #[must_use]
    pub fn of_logs(logs: Vec<Vec<u8>>) -> Self {
        Self {
            store: MemStore::new(),
            logs: logs.into_iter().map(Arc::new).collect(),
            delivered: Arc::default(),
            when_full: (WhenFull::Hold, 0),
            held: Holder::default(),
            hook: None,
            hook_wish: None,
            held_progress: Arc::default(),
            now: 1_772_323_200_000_000,
            pace_us: 1_000,
            workers: 2,
            block_bytes: 2000,
            cycle_bytes_max: 8000,
            limits: Limits {
                overlay_bytes: 4000,
                overlay_commits: 5,
                page_bytes: 400,
                page_bytes_max: 800,
                fold_pages: 2,
                page_cache_bytes: 1500,
                set_in_place_max: 64,
                set_row_bytes_max: 200,
            },
            set_entries_max: SET_ENTRIES_MAX,
            forgetful: false,
            grace_us: 3_600_000_000,
            deliver: Deliver::All,
            on_refusal: OnRefusal::Stop,
            hidden_columns: Vec::new(),
            numbered: false,
        }
    }

    /// Puts the lines of every log into another order.
    pub fn shuffle(&mut self, random: &mut Random) {
        for log in &mut self.logs {
            let mut lines: Vec<&[u8]> = log.split_inclusive(|b| *b == b'\n').collect();
            for n in (1..lines.len()).rev() {
                lines.swap(n, random.below(n as u64 + 1) as usize);
            }
            *log = Arc::new(lines.concat());
        }
    }

    /// Every line of every log.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.logs.iter().flat_map(|log| log.split(|b| *b == b'\n')).filter(|line| !line.is_empty())
    }

    /// The durable view.
    ///
    /// # Panics
    /// When the store does not open.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        StateWriter::open(Arc::new(self.store.clone())).expect("a store that opens").1
    }

    /// Folds all blocks into pages and rows, so that the next engine reads nothing else.
    ///
    /// # Panics
    /// When the store fails.
    pub fn fold(&self) {
        let limits = Limits { overlay_commits: 1, ..self.limits };
        let store = Arc::new(self.store.clone());
        let (mut writer, _) = StateWriter::open_with(store, limits).expect("a store that opens");
        while writer.fold_step().expect("a fold").is_some() {}
    }

    /// Starts an engine on this world.
    ///
    /// # Errors
    /// What set-up refuses.
    ///
    /// # Panics
    /// When the store does not open.
    pub fn start(&mut self, rules: &Rules, until_end: bool) -> Result<Schedule, SetupError> {
        self.start_with(rules, until_end, &Options { until_end, ..Options::default() })
    }

    /// Starts an engine with options of the command line.
    ///
    /// # Errors
    /// What set-up refuses.
    ///
    /// # Panics
    /// When the store does not open.
    pub fn start_with(
        &mut self,
        rules: &Rules,
        until_end: bool,
        options: &Options,
    ) -> Result<Schedule, SetupError> {
        self.held_progress = Arc::default();
        self.held_progress.ask(Asked::Verify);
        let inputs = self.inputs(rules, until_end)?;
        let (pipeline, parts, _) = build(inputs, options)?;
        let mut schedule = Schedule::new(pipeline, parts, self.now);
        schedule.pace_us = self.pace_us;
        Ok(schedule)
    }

    fn inputs(&self, rules: &Rules, until_end: bool) -> Result<Inputs, SetupError> {
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        let (writer, view) = StateWriter::open_with(store, self.limits).expect("a store that opens");
        let mut positions = stored_positions(&view)?;
        let texts = Texts { logs: self.logs.clone(), numbered: self.numbered };
        let known = positions.partitions.len();
        positions.partitions.extend((known..self.logs.len()).map(|n| texts.partition(n)));
        let source = SourceInput {
            name: "shop".into(),
            producer: "shop".into(),
            says_producer: true,
            format: Format::Maxwell,
            hidden_columns: self.hidden_columns.clone(),
            complete: true,
            on_refusal: self.on_refusal,
            observed: None,
            reader: Box::new(texts),
        };
        let (when_full, away) = self.when_full;
        let sink = Memory { delivered: self.delivered.clone(), forgetful: self.forgetful, away };
        let hook = self.hook.as_ref().map(|(hook, terms, when_full)| {
            let progress: Arc<Progress> = Arc::default();
            let asked = self.hook_wish.clone().map(|wish| progress.ask_letters(wish));
            assert_ne!(asked, Some(false), "nothing was asked before");
            let opened =
                Opened::Batches { sink: Box::new(hook.clone()), deliver: self.deliver, terms: *terms };
            SinkInput { name: HOOK.into(), opened, when_full: *when_full, progress }
        });
        Ok(Inputs {
            owner: Owner { state_id: "sim".into(), epoch: 1, ..Owner::default() },
            writer,
            view,
            positions,
            rules: ConfiguredRules { rules: rules.0.clone(), ..ConfiguredRules::default() },
            sources: vec![source],
            sinks: vec![
                SinkInput {
                    name: "held".into(),
                    opened: Opened::State(Box::new(self.held.again())),
                    when_full: WhenFull::Refill,
                    progress: self.held_progress.clone(),
                },
                SinkInput {
                    name: "out".into(),
                    opened: Opened::Events { sink: Box::new(sink), deliver: self.deliver },
                    when_full,
                    progress: Arc::default(),
                },
            ]
            .into_iter()
            .chain(hook)
            .collect(),
            settings: Settings {
                workers: self.workers,
                cycle_bytes_max: self.cycle_bytes_max,
                block_bytes: self.block_bytes,
                until_end,
                memory_max_bytes: 1 << 30,
                quarantine_entries_max: 100,
                transitions_bytes_max: 4 << 10,
                outbox_rows_max: 12,
                sweep_keys: 1,
                set_entries_max: self.set_entries_max,
                grace_us: self.grace_us,
            },
        })
    }

    /// Reads the history of `rule` anew, killed after `steps`; true when it is attached.
    ///
    /// # Panics
    /// When set-up refuses, or the engine fails.
    pub fn rebuild(&mut self, rules: &Rules, rule: &str, steps: u64, random: &mut Random) -> bool {
        let inputs = self.inputs(rules, true).expect("inputs");
        let Some((pipeline, parts, _)) =
            retag_host::pipeline::rebuild::build(inputs, rule).expect("a rebuild")
        else {
            return true;
        };
        let mut schedule = Schedule::new(pipeline, parts, self.now);
        while schedule.steps < steps {
            let outcome = schedule.step(random);
            self.now = schedule.now;
            if let Some(outcome) = outcome {
                outcome.expect("a rebuild that ends");
                return false; // the next call attaches it
            }
        }
        drop(schedule);
        self.store.crash();
        false
    }

    /// As [`World::run`], with commands that wait from the start.
    ///
    /// # Panics
    /// When set-up refuses.
    pub fn run_asked(
        &mut self,
        rules: &Rules,
        steps: u64,
        commands: Vec<(Command, Option<Code>)>,
        random: &mut Random,
    ) -> Fate {
        let mut schedule = self.start(rules, true).expect("an engine that starts");
        for (command, code) in commands {
            drop(schedule.ask(command, code)); // what became of it is in the registry
        }
        self.run_on(schedule, steps, random)
    }

    /// Runs the engine until it ends or `steps` are taken; then it is killed and the store loses what is not durable.
    ///
    /// # Panics
    /// When set-up refuses.
    pub fn run(&mut self, rules: &Rules, steps: u64, random: &mut Random) -> Fate {
        let schedule = self.start(rules, true).expect("an engine that starts");
        self.run_on(schedule, steps, random)
    }

    fn run_on(&mut self, mut schedule: Schedule, steps: u64, random: &mut Random) -> Fate {
        while schedule.steps < steps {
            let outcome = schedule.step(random);
            self.now = schedule.now;
            match outcome {
                Some(Ok(())) => {
                    let view = self.view();
                    self.held.assert_holds(&registry(&view), &view);
                    // What is asked is done, whatever came between.
                    assert!(self.held_progress.shown().comparisons > 0, "asked for, and not compared");
                    return Fate::Ended;
                }
                Some(Err(failure)) => {
                    self.store.crash();
                    return Fate::Failed(failure);
                }
                None => {}
            }
        }
        drop(schedule);
        self.store.crash();
        Fate::Killed
    }
}

/// A sink that keeps what it is told, through crashes.
struct Memory {
    delivered: Arc<Mutex<Vec<(Place, serde_json::Value)>>>,
    forgetful: bool,
    /// So many deliveries fail.
    away: u32,
}

impl Sink for Memory {
    fn resume(&mut self, _: &Owner) -> Result<Option<Place>, SinkError> {
        if self.forgetful {
            return Ok(None);
        }
        Ok(self.delivered.lock().expect("no panic").last().map(|(place, _)| *place))
    }

    fn deliver<'m>(&mut self, messages: &mut dyn Iterator<Item = Message<'m>>) -> Result<(), SinkError> {
        if let Some(left) = self.away.checked_sub(1) {
            self.away = left;
            let (sink, target) = ("out".into(), "the memory".into());
            return Err(SinkError::Away { sink, target, reason: "away".into() });
        }
        let mut delivered = self.delivered.lock().expect("no panic");
        for message in messages {
            let (_, place) = parse_id(&message.id).expect("an id");
            delivered.push((place, serde_json::to_value(message).expect("a message is JSON")));
        }
        Ok(())
    }

    fn summarize(&mut self, summary: &Summary<'_>) -> Result<(), SinkError> {
        let (_, place) = parse_id(&summary.id).expect("an id");
        let message = serde_json::to_value(summary).expect("a summary is JSON");
        self.delivered.lock().expect("no panic").push((place, message));
        Ok(())
    }
}
