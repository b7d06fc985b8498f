//! How fast labels come to Redis: a whole state into an empty server, then single changes beside a stream at a steady rate,
//! each timed from the moment at which its message is appended to the moment at which its label is read from Redis.
//!
//! Server, host, stream and readers share the machine.

use super::host::Host;
use super::options::Options;
use super::probes::{Looks, Probes, RATES, stage, waits};
use ::redis::{Connection, cmd, pipe};
use anyhow::{Context, Result, bail, ensure};
use retag_host::clock::moment;
use retag_servers::Redis;
use serde_json::Value;
use std::path::PathBuf;

/// Label sets a second at least.
const FILL_BAR: f64 = 200_000.0;
/// By rate: ms that 99 of 100 changes may take at most.
const BARS_MS: [f64; RATES.len()] = [30.0, 100.0];
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
        let section =
            format!("[sinks.redis]\ntype = \"redis\"\nurl = \"{}\"\nbuckets = {BUCKETS}\n", server.url());
        let (mut host, live) = stage(&self.retag, &self.dir, (self.keys, self.seed), ("redis", &section))?;
        let mut failed = Vec::new();
        println!("== {} keys, stream of seed {}", self.keys, self.seed);
        failed.extend(self.fill(&mut host, &server)?);
        let mut records = Records(::redis::Client::open(server.url())?.get_connection()?);
        let all = Probes::of(&host).table((&mut host, live, "redis"), &mut records, self.seconds)?;
        for ((rate, p99), bar) in RATES.iter().zip(all).zip(BARS_MS) {
            if p99 > bar {
                failed.push(format!("p99 at {rate} messages/s is {p99:.1} ms, the bar is {bar} ms"));
            }
        }
        let verified = asked(&mut host, "verify", "comparisons")?;
        let found = &verified["now"]["verified"];
        println!("\ncompared with the state: {found}");
        ensure!(["missing", "differing", "extra"].iter().all(|what| found[what] == 0), "Redis is not right");
        let dir = host.dir.clone();
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
        let ended = sink["now"][count].as_u64() > Some(before)
            && sink["now"]["doing"] == "delivering"
            && sink["now"]["asked"] == false;
        Ok(ended.then_some(sink))
    })
    .with_context(|| format!("the end of {what}"))
}

/// Records of users in Redis.
struct Records(Connection);

impl Looks for Records {
    fn look(&mut self, users: &mut dyn Iterator<Item = u64>) -> Result<Vec<bool>> {
        let mut asks = pipe();
        for user in users {
            let bucket = crc32fast::hash(user.to_string().as_bytes()) % BUCKETS;
            asks.add_command(cmd("HEXISTS").arg(format!("{{retag:{bucket}}}:user")).arg(user).take());
        }
        Ok(if asks.is_empty() { Vec::new() } else { asks.query(&mut self.0)? })
    }
}
