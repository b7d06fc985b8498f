//! The stream at a steady rate: a thread appends to the files what is due, whatever the host does.

use super::figures::{due, moment_of, percentile};
use crate::shop::Live;
use anyhow::{Context, Result};
use retag_host::clock::moment;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(4);

/// A stream that flows.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<(Live, Kept)>>,
}

/// How a schedule was kept.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// How late each step was, µs.
    pub late_us: Vec<u64>,
    /// Messages appended.
    pub messages: u64,
    /// Time that it took.
    pub time: Duration,
}

impl Kept {
    /// Adds another stretch.
    pub fn add(&mut self, other: &Self) {
        self.late_us.extend(&other.late_us);
        self.messages += other.messages;
        self.time += other.time;
    }

    /// In a line: rate, and how late.
    pub fn line(&mut self) -> String {
        let rate = self.messages as f64 / self.time.as_secs_f64().max(0.001);
        let [p50, p99, max] = [500, 990, 1_000].map(|p| percentile(&mut self.late_us, p) as f64 / 1_000.0);
        format!(
            "stream: {} messages, {rate:.0}/s on the average; behind its schedule by {p50:.1} ms (p50), {p99:.1} ms (p99), \
             {max:.1} ms (max)",
            self.messages
        )
    }
}

impl Flow {
    /// Begins to append to `live` at `rate` messages a second.
    #[must_use]
    pub fn start(live: Live, rate: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        Self { stop, thread: std::thread::spawn(move || run(live, rate, &stopped)) }
    }

    /// Ends the flow.
    ///
    /// # Errors
    /// What the file system said.
    pub fn stop(self) -> Result<(Live, Kept)> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().map_err(|_| anyhow::anyhow!("the stream's thread failed"))?;
        ended.context("append to the stream")
    }
}

fn run(mut live: Live, rate: u64, stop: &AtomicBool) -> io::Result<(Live, Kept)> {
    let mut kept = Kept::default();
    let begin = moment();
    while !stop.load(Ordering::Relaxed) {
        let due = due(begin.elapsed(), rate).saturating_sub(kept.messages);
        if due > 0 {
            live.append(due)?;
            kept.messages += due;
            let late = begin.elapsed().saturating_sub(moment_of(kept.messages, rate));
            kept.late_us.push(late.as_micros() as u64);
        }
        std::thread::sleep(TICK);
    }
    kept.time = begin.elapsed();
    Ok((live, kept))
}
