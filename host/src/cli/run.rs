//! `retag run`: the engine from a configuration to its end, with progress for people.

use super::ConfigArg;
use crate::clock;
use crate::config::Config;
use crate::pipeline::coordinator::Pipeline;
use crate::pipeline::setup::{self, Options};
use crate::pipeline::threads::{self, Watch};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Read the history of a rule anew before anything else: one that is new to the state, or has another map side.
    #[arg(long, value_name = "RULE")]
    rebuild: Vec<String>,
    /// Print one line of JSON with totals and time by stage at the end.
    #[arg(long)]
    stats: bool,
}

/// Runs the engine.
///
/// # Errors
/// Why it stopped.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::read(&args.config.config)?;
    let options = Options {
        until_end: args.until_end,
        remove: args.remove.clone(),
        drop_sinks: args.drop_sink.clone(),
    };
    let stop = stop_flag()?;
    for rule in &args.rebuild {
        if !rebuild(&config, &options, rule, &stop)? {
            return Ok(());
        }
    }
    let engine = setup::open(&config, &options)?;
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
    let begin = clock::moment();
    let mut stats = serde_json::Value::Null;
    let bad_before = engine.pipeline.status().bad_images;
    let mut bad = 0;
    let mut show = |pipeline: &Pipeline| {
        progress.show(pipeline);
        stats = pipeline.stats();
        bad = pipeline.status().bad_images.saturating_sub(bad_before);
    };
    let watch = Watch { stop: &|| stop.load(Ordering::Relaxed), progress: &mut show };
    let about = crate::api::About::new(&config, &engine.dir, true);
    let server = crate::api::serve(setup::socket_path(engine.dir.path()), engine.view.clone(), about)?;
    let result = threads::run(engine.pipeline, engine.parts, tick, watch);
    server.stop();
    progress.end();
    if bad > 0 {
        eprintln!(
            "retag: {bad} row image(s) did not fit their rule and count nothing; see `retag quarantine ls`"
        );
    }
    if args.stats {
        if let Some(object) = stats.as_object_mut() {
            object.insert("seconds".into(), begin.elapsed().as_secs_f64().into());
        }
        println!("{stats}");
    }
    result.map_err(anyhow::Error::from)
}

/// Reads a rule's history anew; false when it was told to stop before the end (the next start goes on).
fn rebuild(config: &Config, options: &Options, rule: &str, stop: &AtomicBool) -> anyhow::Result<bool> {
    while let Some(engine) = setup::open_rebuild(config, options, rule)? {
        eprintln!("retag: reading the history of rule {rule}");
        let mut progress = Progress::new();
        let watch = Watch {
            stop: &|| stop.load(Ordering::Relaxed),
            progress: &mut |pipeline: &Pipeline| progress.show(pipeline),
        };
        threads::run(engine.pipeline, engine.parts, Duration::from_millis(20), watch)?;
        progress.end();
        if stop.load(Ordering::Relaxed) {
            eprintln!("retag: stopped; the next start with --rebuild {rule} goes on where this one was");
            return Ok(false);
        }
    }
    eprintln!("retag: rule {rule} holds its history");
    Ok(true)
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
