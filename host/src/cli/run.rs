//! `retag run`: the engine from a configuration to its end, with progress for people.

use super::ConfigArg;
use crate::api::access::AccessFile;
use crate::api::{self, About, Api, ApiError, Commands, Edge, Limits, Listening, Rebuild, ServerHandle};
use crate::clock;
use crate::config::Config;
use crate::pipeline::command::Submitter;
use crate::pipeline::coordinator::Pipeline;
use crate::pipeline::setup::{self, Engine, Options};
use crate::pipeline::swap_times::SwapTimes;
use crate::pipeline::threads::{self, Watch};
use crate::sink::progress::Progress as SinkProgress;
use crate::source::observed::Observed;
use anyhow::Context;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Stop at the end of the files, when everything is committed and delivered.
    #[arg(long)]
    until_end: bool,
    /// Drop the sums and labels of a rule that is no longer configured.
    #[arg(long, value_name = "RULE")]
    remove: Vec<String>,
    /// Give up what a sink that is no longer configured has not got.
    #[arg(long, value_name = "SINK")]
    drop_sink: Vec<String>,
    /// Read new partitions of a Kafka source's topics from their beginning.
    #[arg(long, value_name = "SOURCE")]
    accept_partitions: Vec<String>,
    /// Read a Kafka source although another host said lately that it reads it.
    #[arg(long, value_name = "SOURCE")]
    take_over: Vec<String>,
    /// Read the history of a rule anew before anything else: one that is new to the state, or has another map side.
    #[arg(long, value_name = "RULE")]
    rebuild: Vec<String>,
    /// Print one line of JSON at the end: totals, time by stage, seconds until everything was committed and delivered,
    /// fsyncs and bytes written to the store.
    #[arg(long)]
    stats: bool,
}

/// Runs the engine.
///
/// # Errors
/// Why it stopped.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let begin = clock::moment();
    let config = Config::read(&args.config.config)?;
    let options = options(args, &config);
    let stop = stop_flag()?;
    for rule in &args.rebuild {
        rebuild(&config, &options, rule, &stop)?;
    }
    let engine = setup::open(&config, &options)?;
    for drift in engine.pipeline.drift.of(&setup::stored_registry(&engine.view.get())?) {
        eprintln!("retag: drift: {drift}");
    }
    let mut progress = Progress::new();
    eprintln!(
        "retag: {} source(s), {} rule(s), {} sink(s); state {} in {}",
        config.sources.len(),
        config.rules.len(),
        config.sinks.len(),
        engine.state_id,
        engine.dir.path().display()
    );
    let tick = Duration::from_millis(config.engine.poll_ms.max(1));
    let mut stats = serde_json::Value::Null;
    let bad_before = engine.pipeline.status().bad_images;
    let (mut bad, mut said) = (0, 0);
    let mut waits = Waits::new(&engine);
    let swap_times = Arc::<Mutex<SwapTimes>>::default();
    let shown_times = swap_times.clone();
    let mut show = |pipeline: &Pipeline| {
        progress.show(pipeline);
        waits.show();
        shown_times.lock().unwrap_or_else(PoisonError::into_inner).clone_from(pipeline.swap_times());
        for given_up in pipeline.given_up.iter().skip(said) {
            eprintln!("retag: {given_up}");
            said += 1;
        }
        if args.stats {
            stats = pipeline.stats();
            if let Some(object) = stats.as_object_mut() {
                object.insert("seconds".into(), begin.elapsed().as_secs_f64().into());
            }
        }
        bad = pipeline.status().bad_images.saturating_sub(bad_before);
    };
    let watch =
        Watch { stop: &|| stop.load(Ordering::Relaxed), progress: &mut show, nice: config.engine.nice };
    let mailbox = channel();
    let about =
        About { drift: engine.pipeline.drift.clone(), swap_times, ..About::new(&config, &engine.dir, true) };
    let about = About { observed: engine.observed.clone(), delivery: engine.delivery.clone(), ..about };
    let commands = Commands::running(Submitter::new(mailbox.0.clone()), config.registry.manage);
    let served = Served::start(&config, &engine, about, commands)?;
    let result = threads::run(engine.pipeline, engine.parts, tick, mailbox, watch);
    served.stop();
    progress.end();
    if bad > 0 {
        eprintln!(
            "retag: {bad} row image(s) did not fit their rule and count nothing; see `retag quarantine ls`"
        );
    }
    if args.stats {
        if let Some(object) = stats.as_object_mut() {
            object.insert("disk_bytes".into(), disk_bytes(&engine.dir.store_path()).into());
        }
        println!("{stats}");
    }
    result.map_err(anyhow::Error::from)
}

/// What the command line adds to the configuration.
fn options(args: &Args, config: &Config) -> Options {
    Options {
        until_end: args.until_end,
        remove: args.remove.clone(),
        drop_sinks: args.drop_sink.clone(),
        accept_partitions: args.accept_partitions.clone(),
        take_over: args.take_over.clone(),
        manage: config.registry.manage,
        started_us: clock::wall_us(),
        cache: None,
    }
}

/// Says when a source or sink begins to wait for somebody, and when it is over.
struct Waits(Vec<Watched>);

struct Watched {
    name: String,
    /// What is said when it is over.
    again: &'static str,
    waits_for: Box<dyn Fn() -> Option<String>>,
    waited: bool,
}

impl Waits {
    fn new(engine: &Engine) -> Self {
        let watched = |name: String, again, waits_for| Watched { name, again, waits_for, waited: false };
        let source = |(name, observed): (&String, &Arc<Observed>)| {
            let observed = observed.clone();
            watched(format!("source {name}"), "reads on", Box::new(move || observed.waits_for()))
        };
        let sink = |(name, progress): (&String, &Arc<SinkProgress>)| {
            let progress = progress.clone();
            watched(
                format!("sink {name}"),
                "takes messages again",
                Box::new(move || progress.shown().waits_for),
            )
        };
        Self(engine.observed.iter().map(source).chain(engine.delivery.iter().map(sink)).collect())
    }

    fn show(&mut self) {
        for Watched { name, again, waits_for, waited } in &mut self.0 {
            let waits_for = waits_for();
            match &waits_for {
                Some(what) if !*waited => eprintln!("retag: {name} waits for {what}"),
                None if *waited => eprintln!("retag: {name} {again}"),
                _ => {}
            }
            *waited = waits_for.is_some();
        }
    }
}

/// The socket in the state directory, and the listening side where there is one.
struct Served {
    socket: ServerHandle,
    network: Option<Listening>,
}

impl Served {
    fn start(config: &Config, engine: &Engine, about: About, commands: Commands) -> anyhow::Result<Self> {
        let dir = engine.dir.path();
        let api = Api::with(engine.view.clone(), about, AccessFile::open(dir)?, &config.http);
        let api = api.with_commands(commands);
        let edge = Arc::new(Edge::new(config.http.clone(), api.metrics()));
        let router = api::router(Arc::new(api));
        let told = |error: ApiError| anyhow::anyhow!("{error}; {}", error.hint());
        let mut network = api::listen(config, router.clone(), edge).map_err(told)?;
        if let Some(network) = &mut network {
            network.announce(dir).with_context(|| format!("cannot write into {}", dir.display()))?;
            eprintln!("retag: listening on {}", network.urls().join(", "));
        }
        let socket = api::serve_router(setup::socket_path(dir), router, Limits::default()).map_err(told)?;
        Ok(Self { socket, network })
    }

    fn stop(self) {
        if let Some(network) = self.network {
            network.stop();
        }
        self.socket.stop();
    }
}

/// A rebuild that was told to stop before its end.
#[derive(Debug, thiserror::Error)]
#[error(
    "stopped before rule {0} holds its history; the next start with --rebuild {0} goes on where this one was"
)]
pub(super) struct Unfinished(String);

/// Reads a rule's history anew.
///
/// # Errors
/// [`Unfinished`] when it was told to stop before the end; why it stopped, if not.
fn rebuild(config: &Config, options: &Options, rule: &str, stop: &AtomicBool) -> anyhow::Result<()> {
    while let Some(engine) = setup::open_rebuild(config, options, rule)? {
        eprintln!("retag: reading the history of rule {rule}");
        let mut progress = Progress::new();
        let mut about = About::new(config, &engine.dir, true);
        about.observed.clone_from(&engine.observed);
        about.rebuild = engine
            .pipeline
            .rebuilt_rule()
            .map(|rule| Arc::new(Rebuild::new(rule, &engine.pipeline.status())));
        let (shared, begin) = (about.rebuild.clone(), clock::moment());
        let mut show = |pipeline: &Pipeline| {
            progress.show(pipeline);
            if let Some(rebuild) = &shared {
                rebuild.note(&pipeline.status(), begin.elapsed());
            }
        };
        // Readers are served from the state as it is: its own facts do not change before the rebuild is attached.
        let served = Served::start(config, &engine, about, Commands::nowhere())?;
        let watch =
            Watch { stop: &|| stop.load(Ordering::Relaxed), progress: &mut show, nice: config.engine.nice };
        let tick = Duration::from_millis(20);
        let result = threads::run(engine.pipeline, engine.parts, tick, channel(), watch);
        served.stop();
        progress.end();
        result?;
        if stop.load(Ordering::Relaxed) {
            return Err(Unfinished(rule.to_owned()).into());
        }
    }
    eprintln!("retag: rule {rule} holds its history");
    Ok(())
}

/// What the files of a folder take on the disk; one that cannot be read counts nothing.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_entry = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * 512, // the unit of st_blocks, whatever the file system's own
        Err(_) => 0,
    };
    entries.map(of_entry).sum()
}

/// A flag that Ctrl-C and SIGTERM raise; a second one ends the process at once.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

/// Progress on a terminal as a line that changes, elsewhere a line every 10 s.
struct Progress {
    terminal: bool,
    begin: Instant,
    last: Option<Instant>,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), begin: clock::moment(), last: None, shown: false }
    }

    fn show(&mut self, pipeline: &Pipeline) {
        let every = if self.terminal { Duration::from_millis(200) } else { Duration::from_secs(10) };
        if self.last.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        if self.last.is_none() && !self.terminal {
            self.last = Some(clock::moment());
            return;
        }
        self.last = Some(clock::moment());
        self.print(pipeline, if self.terminal { "\r" } else { "" }, if self.terminal { "" } else { "\n" });
    }

    fn print(&mut self, pipeline: &Pipeline, before: &str, after: &str) {
        let status = pipeline.status();
        let rate = status.changes_since_start as f64 / self.begin.elapsed().as_secs_f64().max(0.001);
        let percent = 100.0 * status.bytes_read as f64 / (status.bytes_known.max(1)) as f64;
        eprint!(
            "{before}{:>12} changes  {:>10.0}/s  {percent:>5.1} % read  commit {:>6}  {:>10} transitions{after}",
            status.changes, rate, status.commit, status.transitions
        );
        self.shown = true;
    }

    fn end(&mut self) {
        if self.terminal && self.shown {
            eprintln!();
        }
    }
}
