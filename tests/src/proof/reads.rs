//! Reads of labels over HTTP in an open loop, beside the stream: each request is timed from the moment at which it was due,
//! so that a host that stalls is charged with everybody who had to wait.

use super::client::Client;
use super::figures::percentile;
use super::flow::{Flow, Kept};
use super::host::{Host, LIMIT, Setup};
use super::kill::Draw;
use super::open_loop::{self, Schedule};
use super::options::Options;
use super::variant::Workshop;
use super::watch::Watcher;
use crate::shop::{Config, Live};
use anyhow::{Context, Result, bail};
use retag_host::clock::moment;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The lowest id that the generator gives to users.
const FIRST_USER: u64 = 10_000;
/// One token asks for everything, so its rate is lifted.
const HTTP: &str = "listen = \"127.0.0.1:0\"\nrate_per_second = 1000000\nrate_burst = 1000000\n\
    connections_per_address_max = 1000";
/// Most that a sleep may be late at p99 for the schedule to count as kept, µs.
const LATE_MAX_US: u64 = 500;

#[derive(Debug)]
struct Plan {
    retag: PathBuf,
    dir: PathBuf,
    rate: u64,
    reads: u64,
    seconds: u64,
    keys: u64,
    unknown_percent: u64,
    connections: u64,
    workers: u64,
    seed: u64,
}

/// Times of requests.
#[derive(Debug, Default)]
struct Reads {
    /// From the moment at which each was due to its answer, µs.
    took_us: Vec<u64>,
    /// From that moment to when it was sent, µs.
    late_us: Vec<u64>,
    /// The first again, by the second in which each was due.
    by_second: BTreeMap<u64, Vec<u64>>,
    unknown: u64,
    errors: u64,
    first_error: String,
}

/// Runs the proof.
///
/// # Errors
/// A request failed, or the bar was not held.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut options = Options::read(arguments)?;
    let plan = Plan {
        retag: options.take("retag", PathBuf::new())?,
        dir: options.take("dir", PathBuf::new())?,
        rate: options.take("rate", 100_000)?,
        reads: options.take("reads", 10_000)?,
        seconds: options.take("seconds", 60)?,
        keys: options.take("keys", 1_000_000)?,
        unknown_percent: options.take("unknown-percent", 10)?,
        connections: options.take("connections", 64)?,
        workers: options.take("workers", 0)?,
        seed: options.take("seed", u64::from(std::process::id()))?,
    };
    let bar_ms: f64 = options.take("bar-ms", 2.0)?;
    options.end()?;
    if plan.reads == 0 || plan.connections == 0 || plan.seconds == 0 {
        bail!("--reads, --connections and --seconds are at least 1");
    }
    let (mut reads, mut kept, lag) = plan.measure()?;
    plan.report(&mut reads, &mut kept, lag, bar_ms)
}

impl Plan {
    fn measure(&self) -> Result<(Reads, Kept, u64)> {
        let workshop = Workshop::open(&self.retag, &self.dir.join("rules"))?;
        let dir = self.dir.join("host");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        let (users, seed) = (self.keys, self.seed);
        let config = Config {
            seed,
            events: u64::MAX,
            users,
            register_first: users,
            huge_ids: false,
            ..Config::default()
        };
        let mut live = Live::create(&dir.join("stream"), config, None)?;
        live.append(users)?;
        let host = Host::start(
            &self.retag,
            &dir,
            &workshop,
            Setup { http: HTTP, grace_s: 10, workers: self.workers, more: "" },
        )?;
        let watcher = Watcher::start(&host.socket());
        caught_up(&watcher, live.written(), &host)?;
        let (address, token) = (address(&host)?, self.token(&host)?);
        println!(
            "== {} reads/s for {} s over {} connections, {} keys, {} % unknown, beside {} messages/s; seed {seed}",
            self.reads, self.seconds, self.connections, self.keys, self.unknown_percent, self.rate
        );
        let before = watcher.now();
        let flow = (self.rate > 0).then_some(()).map(|()| Flow::start(live, self.rate));
        std::thread::sleep(Duration::from_secs(1));
        let reads = self.read_all(address, &token);
        let lag = watcher.seen();
        let lag = lag.samples.iter().filter(|s| s.at >= before).map(|s| s.lag_bytes).max().unwrap_or(0);
        let kept = flow.map_or(Ok(Kept::default()), |flow| flow.stop().map(|(_, kept)| kept))?;
        drop(watcher);
        host.stop()?;
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        Ok((reads?, kept, lag))
    }

    fn token(&self, host: &Host) -> Result<String> {
        let mut command = Command::new(&self.retag);
        command.args(["token", "create", "--role", "viewer", "--name", "bench", "--config", "retag.toml"]);
        let made = command.current_dir(&host.dir).env_remove("RETAG_URL").output()?;
        if !made.status.success() {
            bail!("retag token create: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    fn read_all(&self, address: SocketAddr, token: &str) -> Result<Reads> {
        Client::tcp(address, token)?.get("/healthz")?.success("/healthz")?;
        let Self { connections, reads: rate, seconds, keys, unknown_percent, seed, .. } = *self;
        let schedule = Schedule { address, token, connections, rate, total: rate * seconds };
        // Of each request, whom it asks for, from its number alone.
        let asked = |number: u64| {
            let mut draw = Draw(seed ^ (number << 20));
            let unknown = draw.below(100) < unknown_percent;
            (FIRST_USER + draw.below(keys) + if unknown { 1 << 40 } else { 0 }, unknown)
        };
        let mut reads = Reads::default();
        let path = |number| format!("/v1/entities/user/keys/{}/labels", asked(number).0);
        open_loop::run(schedule, path, |one| {
            let (user, unknown) = asked(one.number);
            reads.late_us.push(one.late_us);
            reads.took_us.push(one.took_us);
            reads.by_second.entry(one.number / rate).or_default().push(one.took_us);
            reads.unknown += u64::from(unknown);
            let wrong = match &one.answer {
                Ok((200, body)) if names(body, user) => return,
                Ok((status, body)) => format!("user {user}: {status} {}", String::from_utf8_lossy(body)),
                Err(error) => format!("user {user}: {error}"),
            };
            reads.errors += 1;
            if reads.first_error.is_empty() {
                reads.first_error = wrong;
            }
        })?;
        Ok(reads)
    }

    fn report(&self, reads: &mut Reads, kept: &mut Kept, lag: u64, bar_ms: f64) -> Result<()> {
        let millis = |figures: &mut Vec<u64>, p| percentile(figures, p) as f64 / 1_000.0;
        let Reads { took_us, late_us, by_second, unknown, errors, first_error } = reads;
        println!("\n| | p50, ms | p99, ms | p99.9, ms | max, ms |\n|---|---|---|---|---|");
        for (name, figures) in [("from due to answer", &mut *took_us), ("of it: sent late", &mut *late_us)] {
            let [p50, p99, p999, max] = [500, 990, 999, 1_000].map(|p| millis(figures, p));
            println!("| {name} | {p50:.3} | {p99:.3} | {p999:.3} | {max:.3} |");
        }
        println!("\n{} reads, {unknown} of unknown keys, {errors} errors", took_us.len());
        let late = percentile(late_us, 990);
        if late <= LATE_MAX_US {
            println!("readers kept their schedule: 99 % were sent at most {late} µs late");
        } else {
            println!(
                "readers did NOT keep their schedule: p99 of sending is {late} µs late; with all {} connections busy the \
                 host is the cause, with a busy machine the readers are",
                self.connections
            );
        }
        println!("{}; at most {} KiB waited to be read", kept.line(), lag / 1_024);
        let mut worst: Vec<(u64, u64)> =
            by_second.iter_mut().map(|(second, took)| (percentile(took, 990), *second)).collect();
        worst.sort_unstable_by(|a, b| b.cmp(a));
        let named: Vec<String> = worst.iter().take(8).map(|(us, at)| format!("{at}: {us}")).collect();
        println!("worst seconds, p99 in µs: {}", named.join(", "));
        let p99 = millis(took_us, 990);
        if *errors > 0 {
            bail!("{errors} of {} reads failed; the first: {first_error}", took_us.len());
        }
        if p99 > bar_ms {
            bail!("p99 of reads is {p99:.3} ms, the bar is {bar_ms} ms");
        }
        Ok(())
    }
}

/// The answer is of this key.
fn names(body: &[u8], user: u64) -> bool {
    let head = body.get(..80.min(body.len())).unwrap_or(body);
    String::from_utf8_lossy(head).contains(&format!("\"key\":\"{user}\""))
}

fn address(host: &Host) -> Result<SocketAddr> {
    let url = std::fs::read_to_string(host.dir.join("data/http.url")).context("the host's address")?;
    url.trim().trim_start_matches("http://").parse().with_context(|| format!("the host's address {url}"))
}

/// Waits until so many messages are read.
fn caught_up(watcher: &Watcher, messages: u64, host: &Host) -> Result<()> {
    let begin = moment();
    while watcher.seen().samples.last().is_none_or(|s| s.lag_bytes > 0 || s.changes == 0) {
        if begin.elapsed() > LIMIT {
            bail!("{messages} messages are not read after {LIMIT:?}; the host said:\n{}", host.said());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_of_the_key_that_was_asked_for() {
        let body = br#"{"entity":"user","key":"42","commit":3,"labels":{}}"#;
        assert!(names(body, 42) && !names(body, 4) && !names(b"", 42));
    }
}
