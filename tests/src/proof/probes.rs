//! A host with a sink beside a stream that flows, and single changes in between, each timed from the moment at which its message
//! is appended to the moment at which its label is seen where the sink brings it.

use super::figures::percentile;
use super::flow::Flow;
use super::host::{Host, LIMIT, SOCKET_ONLY, Setup};
use super::variant::Workshop;
use crate::shop::{Config, Live};
use anyhow::{Context, Result, ensure};
use retag_host::clock::moment;
use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rates of the stream, messages a second.
pub const RATES: [u64; 2] = [10_000, 100_000];
/// Between two changes that are timed, and between two looks for them.
const PROBE_EVERY: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_micros(300);
/// The lowest id of users that are timed: far from those of the stream.
pub const FIRST_PROBE: u64 = 5_000_000_000;
/// File of the changes that are timed, beside the stream's.
const PROBES: &str = "stream/shop.p9.json";

/// Where labels are seen.
pub trait Looks {
    /// Which of these users have a label there by now, in their order.
    ///
    /// # Errors
    /// It cannot be asked.
    fn look(&mut self, users: &mut dyn Iterator<Item = u64>) -> Result<Vec<bool>>;
}

/// A host with so many keys and one more sink, whose section is given, in a folder of its own; everything is in the sink.
///
/// # Errors
/// It does not come up.
pub fn stage(
    retag: &Path,
    dir: &Path,
    (keys, seed): (u64, u64),
    (sink, section): (&str, &str),
) -> Result<(Host, Live)> {
    let workshop = Workshop::open(retag, &dir.join("rules"))?;
    let dir = dir.join("host");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
    }
    let config = Config {
        seed,
        events: u64::MAX,
        users: keys,
        register_first: keys,
        huge_ids: false,
        ..Config::default()
    };
    let mut live = Live::create(&dir.join("stream"), config, None)?;
    std::fs::File::create(dir.join(PROBES))?;
    live.append(keys)?;
    let setup = Setup { http: SOCKET_ONLY, grace_s: 10, workers: 0, more: section };
    let mut host = Host::start(retag, &dir, &workshop, setup)?;
    settled(&mut host, sink)?;
    Ok((host, live))
}

/// Waits until everything is read, and the sink has it.
///
/// # Errors
/// It does not come to that.
pub fn settled(host: &mut Host, sink: &str) -> Result<()> {
    waits(|| {
        let status = host.read("/v1/status")?;
        let partitions = status["sources"][0]["partitions"].as_array().cloned().unwrap_or_default();
        let read = !partitions.is_empty() && partitions.iter().all(|p| p["lag_bytes"] == 0);
        let sink = host.read(&format!("/v1/sinks/{sink}"))?;
        let now = &sink["now"];
        let whole = now["whole"] != false && now["doing"] == "delivering" && now["waits_for"].is_null();
        Ok((read && whole && status["outbox_rows"] == 0).then_some(()))
    })
    .context("until everything is in the sink")
}

/// Looks again and again.
///
/// # Errors
/// A look fails, or it takes too long.
pub fn waits<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begin = moment();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(begin.elapsed() < LIMIT, "not after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Changes that are timed: users that register, each in a message of its own at the end of a file of their own.
pub struct Probes {
    next: u64,
    file: PathBuf,
}

impl Probes {
    /// Those of a staged host.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        Self { next: FIRST_PROBE, file: host.dir.join(PROBES) }
    }

    /// Times changes beside each rate for so many seconds; prints a table; p99 of each rate, ms.
    ///
    /// # Errors
    /// A label does not come.
    pub fn table(
        &mut self,
        (host, mut live, sink): (&mut Host, Live, &str),
        looks: &mut dyn Looks,
        seconds: u64,
    ) -> Result<Vec<f64>> {
        println!(
            "\n| stream, messages/s | changes timed | p50, ms | p99, ms | max, ms |\n|---|---|---|---|---|"
        );
        let mut all = Vec::new();
        for rate in RATES {
            let flow = Flow::start(live, rate);
            std::thread::sleep(Duration::from_secs(2)); // until it flows evenly
            let mut took = self.time(looks, Duration::from_secs(seconds))?;
            let (stream, mut kept) = flow.stop()?;
            live = stream;
            let [p50, p99, max] = [500, 990, 1_000].map(|p| percentile(&mut took, p) as f64 / 1_000.0);
            println!("| {rate} | {} | {p50:.1} | {p99:.1} | {max:.1} |", took.len());
            eprintln!("{}", kept.line());
            settled(host, sink)?;
            all.push(p99);
        }
        Ok(all)
    }

    /// One message every [`PROBE_EVERY`] for some time; from each to its label, µs.
    fn time(&mut self, looks: &mut dyn Looks, length: Duration) -> Result<Vec<u64>> {
        let mut file = std::fs::OpenOptions::new().append(true).open(&self.file)?;
        let (begin, mut due, mut took) = (moment(), Duration::ZERO, Vec::new());
        let mut waiting: VecDeque<(u64, Instant)> = VecDeque::new();
        while begin.elapsed() < length || !waiting.is_empty() {
            if begin.elapsed() >= due && begin.elapsed() < length {
                let user = self.next;
                self.next += 1;
                file.write_all(message(user).as_bytes())?;
                waiting.push_back((user, moment()));
                due += PROBE_EVERY;
            }
            let mut there = looks.look(&mut waiting.iter().map(|(user, _)| *user))?.into_iter();
            waiting.retain(|(_, since)| {
                let is_there = there.next() == Some(true);
                if is_there {
                    took.push(since.elapsed().as_micros() as u64);
                }
                !is_there
            });
            ensure!(waiting.front().is_none_or(|(_, since)| since.elapsed() < LIMIT), "a label did not come");
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(took)
    }
}

/// A user registers; the change has an id of its own.
fn message(user: u64) -> String {
    let at = user - FIRST_PROBE;
    format!(
        "{{\"database\":\"shop\",\"table\":\"users\",\"type\":\"insert\",\"ts\":1772323200,\"xid\":{at},\"commit\":true,\
         \"position\":\"probe.000001:{}\",\"server_id\":9,\"primary_key\":[{user}],\"data\":{{\"user_id\":{user}}}}}\n",
        100 + at * 100
    )
}
