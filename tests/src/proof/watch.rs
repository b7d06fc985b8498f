//! Looks at `/metrics` ten times a second: what was applied by when, and what swaps took of the workers' time.
//!
//! A host that is killed takes its figures with it; what was seen last counts, so at most a tenth of a second is missing.

use super::client::Client;
use super::figures::{Histogram, Sample};
use retag_host::clock::moment;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);

/// Times of pieces of swaps: by part, and whether it is processor time.
pub type Pieces = BTreeMap<(String, bool), Histogram>;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// In the order of time.
    pub samples: Vec<Sample>,
    /// By part and clock, of the lives that have ended.
    past: Pieces,
    /// By part and clock, of the life now.
    current: Pieces,
}

impl Seen {
    /// Times of pieces of swaps, of all lives of the host.
    #[must_use]
    pub fn pieces(&self) -> Pieces {
        let mut all = self.past.clone();
        for (part, histogram) in &self.current {
            all.entry(part.clone()).or_default().add(histogram);
        }
        all
    }

    fn end_life(&mut self) {
        self.past = self.pieces();
        self.current.clear();
    }
}

/// A thread that looks.
#[derive(Debug)]
pub struct Watcher {
    begin: Instant,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Looks at the host that listens on `socket`.
    #[must_use]
    pub fn start(socket: &Path) -> Self {
        let (begin, seen, stop) = (moment(), Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (shared, stopped, socket) = (seen.clone(), stop.clone(), socket.to_owned());
        let thread = std::thread::spawn(move || watch(&socket, begin, &shared, &stopped));
        Self { begin, seen, stop, thread: Some(thread) }
    }

    /// Time since its start, as in samples.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The host was killed: its figures begin anew.
    pub fn end_life(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).end_life();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join); // it has nothing to say any more
    }
}

fn watch(socket: &Path, begin: Instant, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let text = client.as_mut().and_then(|c| c.get("/metrics").ok()).filter(|a| a.status == 200);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(answer) => note(&mut seen, begin.elapsed(), &String::from_utf8_lossy(&answer.body)),
            None => client = Client::unix(socket).ok(),
        }
        drop(seen);
        std::thread::sleep(EVERY);
    }
}

fn note(seen: &mut Seen, at: Duration, text: &str) {
    let mut sample = Sample { at, changes: 0, lag_bytes: 0 };
    let mut buckets: BTreeMap<(&str, bool), Vec<(u64, u64)>> = BTreeMap::new();
    let mut longest: BTreeMap<(&str, bool), u64> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let micros = |text: &str| text.parse::<f64>().map_or(u64::MAX, |s| (s * 1e6).round() as u64);
        let is_cpu = name.starts_with("retag_swap_slice_cpu_");
        let part = || (label(name, "part").unwrap_or_default(), is_cpu);
        let family = name.split('{').next().unwrap_or(name).replace("_cpu_", "_");
        if name == "retag_changes_total" {
            sample.changes = value.parse().unwrap_or(0);
        } else if name.starts_with("retag_source_lag_bytes{") {
            sample.lag_bytes += value.parse::<u64>().unwrap_or(0);
        } else if family == "retag_swap_slice_seconds_bucket" {
            let bound =
                label(name, "le").map_or(u64::MAX, |le| if le == "+Inf" { u64::MAX } else { micros(le) });
            buckets.entry(part()).or_default().push((bound, value.parse().unwrap_or(0)));
        } else if family == "retag_swap_slice_max_seconds" {
            longest.insert(part(), micros(value));
        }
    }
    seen.samples.push(sample);
    for ((part, is_cpu), buckets) in buckets {
        let max = longest.get(&(part, is_cpu)).copied().unwrap_or(0);
        seen.current.insert((part.to_owned(), is_cpu), Histogram::cumulative(&buckets, max));
    }
}

fn label<'a>(name: &'a str, of: &str) -> Option<&'a str> {
    let (_, rest) = name.split_once(&format!("{of}=\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP x\nretag_changes_total 1200\nretag_source_lag_bytes{source=\"a\"} 5\n\
        retag_source_lag_bytes{source=\"b\"} 6\nretag_swap_slice_seconds_bucket{part=\"sweep\",le=\"0.005\"} 3\n\
        retag_swap_slice_seconds_bucket{part=\"sweep\",le=\"+Inf\"} 4\n\
        retag_swap_slice_max_seconds{part=\"sweep\"} 0.007\n\
        retag_swap_slice_cpu_seconds_bucket{part=\"sweep\",le=\"+Inf\"} 4\n\
        retag_swap_slice_cpu_max_seconds{part=\"sweep\"} 0.001\n";

    #[test]
    fn figures_are_read_and_added_over_the_lives_of_the_host() {
        let mut seen = Seen::default();
        for _ in 0..2 {
            note(&mut seen, Duration::from_millis(7), TEXT);
            note(&mut seen, Duration::from_millis(9), TEXT);
            seen.end_life();
        }
        assert_eq!(seen.samples.len(), 4);
        assert_eq!((seen.samples[0].changes, seen.samples[0].lag_bytes), (1_200, 11));
        let pieces = seen.pieces();
        let [wall, cpu] = [false, true].map(|is_cpu| &pieces[&("sweep".to_owned(), is_cpu)]);
        assert_eq!((wall.total(), wall.max_us, cpu.max_us), (8, 7_000, 1_000));
        assert_eq!(wall.percentile_us(750), 5_000);
    }
}
