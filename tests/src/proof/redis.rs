//! How fast labels come to Redis: a whole state into an empty server, then single changes beside a stream at a steady rate,
//! each timed from the moment at which its message is appended to the moment at which its label is read from Redis.
//!
//! Server, host, stream and readers share the machine.

use super::figures::percentile;
use super::flow::Flow;
use super::host::{Host, LIMIT, Setup};
use super::options::Options;
use super::variant::Workshop;
use crate::shop::{Config, Live};
use ::redis::{Connection, cmd, pipe};
use anyhow::{Context, Result, bail, ensure};
use retag_host::clock::moment;
use retag_servers::Redis;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const HTTP: &str = "listen = \"off\"";
/// Label sets a second at least.
const FILL_BAR: f64 = 200_000.0;
/// Rates of the stream, and ms that 99 of 100 changes may take at most.
const RATES: [(u64, u64); 2] = [(10_000, 30), (100_000, 100)];
/// Between two changes that are timed, and between two looks at Redis.
const PROBE_EVERY: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_micros(300);
/// The lowest id of users that are timed: far from those of the stream.
const FIRST_PROBE: u64 = 5_000_000_000;
/// In one bucket all keys lie in one place, which no user would want: as by default.
const BUCKETS: u32 = 256;

#[derive(Debug)]
struct Plan {
    retag: PathBuf,
    dir: PathBuf,
    keys: u64,
    seconds: u64,
    seed: u64,
}

/// Runs the proof.
///
/// # Errors
/// Redis is not installed, something is missing in it, or a bar was not held.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut options = Options::read(arguments)?;
    let plan = Plan {
        retag: options.take("retag", PathBuf::new())?,
        dir: options.take("dir", PathBuf::new())?,
        keys: options.take("keys", 1_000_000)?,
        seconds: options.take("seconds", 20)?,
        seed: options.take("seed", u64::from(std::process::id()))?,
    };
    options.end()?;
    plan.measure()
}

impl Plan {
    fn measure(&self) -> Result<()> {
        let server = Redis::start()?;
        let workshop = Workshop::open(&self.retag, &self.dir.join("rules"))?;
        let dir = self.dir.join("host");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        let config = Config {
            seed: self.seed,
            events: u64::MAX,
            users: self.keys,
            register_first: self.keys,
            huge_ids: false,
            ..Config::default()
        };
        let mut live = Live::create(&dir.join("stream"), config, None)?;
        std::fs::File::create(dir.join("stream/shop.p9.json"))?;
        live.append(self.keys)?;
        let sink =
            format!("[sinks.redis]\ntype = \"redis\"\nurl = \"{}\"\nbuckets = {BUCKETS}\n", server.url());
        let setup = Setup { http: HTTP, grace_s: 10, workers: 0, more: &sink };
        let mut host = Host::start(&self.retag, &dir, &workshop, setup)?;
        let mut failed = Vec::new();
        settled(&mut host)?;
        println!("== {} keys, stream of seed {}", self.keys, self.seed);
        failed.extend(self.fill(&mut host, &server)?);
        let mut connection = ::redis::Client::open(server.url())?.get_connection()?;
        println!(
            "\n| stream, messages/s | changes timed | p50, ms | p99, ms | max, ms | bar for p99, ms |\n|---|---|---|---|---|---|"
        );
        let mut probes = Probes { next: FIRST_PROBE, file: dir.join("stream/shop.p9.json") };
        for (rate, bar_ms) in RATES {
            let flow = Flow::start(live, rate);
            std::thread::sleep(Duration::from_secs(2)); // until it flows evenly
            let mut took = probes.time(&mut connection, Duration::from_secs(self.seconds))?;
            let (stream, mut kept) = flow.stop()?;
            live = stream;
            let [p50, p99, max] = [500, 990, 1_000].map(|p| percentile(&mut took, p) as f64 / 1_000.0);
            println!("| {rate} | {} | {p50:.1} | {p99:.1} | {max:.1} | {bar_ms} |", took.len());
            eprintln!("{}", kept.line());
            settled(&mut host)?;
            if p99 > bar_ms as f64 {
                failed.push(format!("p99 at {rate} messages/s is {p99:.1} ms, the bar is {bar_ms} ms"));
            }
        }
        let verified = asked(&mut host, "verify", "comparisons")?;
        let found = &verified["now"]["verified"];
        println!("\ncompared with the state: {found}");
        ensure!(["missing", "differing", "extra"].iter().all(|what| found[what] == 0), "Redis is not right");
        host.stop()?;
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        if !failed.is_empty() {
            bail!("{}", failed.join("; "));
        }
        Ok(())
    }

    /// Everything into an empty server; what was below its bar.
    fn fill(&self, host: &mut Host, server: &Redis) -> Result<Option<String>> {
        server.command(&["FLUSHALL"])?;
        server.command(&["CONFIG", "RESETSTAT"])?;
        let begin = moment();
        asked(host, "resync", "resyncs")?;
        let took = begin.elapsed().as_secs_f64();
        let sets = self.keys as f64;
        let stats = server.command(&["INFO", "commandstats"])?;
        let scripts =
            stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).unwrap_or_default();
        let micros = scripts.split(',').find_map(|part| part.strip_prefix("usec=")?.parse::<f64>().ok());
        let used = server.command(&["INFO", "memory"])?;
        let used = used.lines().find_map(|l| l.strip_prefix("used_memory:")?.trim().parse::<f64>().ok());
        println!(
            "filled: {:.0} label sets/s ({took:.2} s), of Redis {:.2} µs a set in its scripts, {:.0} bytes a key",
            sets / took,
            micros.unwrap_or(f64::NAN) / sets,
            used.unwrap_or(f64::NAN) / sets
        );
        let rate = sets / took;
        Ok((rate < FILL_BAR).then(|| format!("{rate:.0} label sets/s, the bar is {FILL_BAR}")))
    }
}

/// Asks something of the sink and waits for its end.
fn asked(host: &mut Host, what: &str, count: &str) -> Result<Value> {
    let path = "/v1/sinks/redis";
    let before = host.read(path)?["now"][count].as_u64().unwrap_or(0);
    host.post(&format!("{path}/{what}"), b"{\"label\":null}", "application/json")?.success(what)?;
    waits(|| {
        let sink = host.read(path)?;
        let ended = sink["now"][count].as_u64() > Some(before) && sink["now"]["doing"] == "delivering";
        Ok(ended.then_some(sink))
    })
    .with_context(|| format!("the end of {what}"))
}

/// Waits until everything is read, and Redis has it.
fn settled(host: &mut Host) -> Result<()> {
    waits(|| {
        let status = host.read("/v1/status")?;
        let partitions = status["sources"][0]["partitions"].as_array().cloned().unwrap_or_default();
        let read = !partitions.is_empty() && partitions.iter().all(|p| p["lag_bytes"] == 0);
        let sink = &host.read("/v1/sinks/redis")?["now"];
        let whole = sink["whole"] == true && sink["doing"] == "delivering" && sink["waits_for"].is_null();
        Ok((read && whole).then_some(()))
    })
    .context("until everything is in Redis")
}

fn waits<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
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
struct Probes {
    next: u64,
    file: PathBuf,
}

impl Probes {
    /// One message every [`PROBE_EVERY`] for some time; from each to its label in Redis, µs.
    fn time(&mut self, connection: &mut Connection, length: Duration) -> Result<Vec<u64>> {
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
            let mut asks = pipe();
            for (user, _) in &waiting {
                let bucket = crc32fast::hash(user.to_string().as_bytes()) % BUCKETS;
                asks.add_command(cmd("HEXISTS").arg(format!("{{retag:{bucket}}}:user")).arg(*user).take());
            }
            let there: Vec<bool> = if waiting.is_empty() { Vec::new() } else { asks.query(connection)? };
            let mut there = there.into_iter();
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
