//! How soon labels are on a topic: single changes beside a stream at a steady rate, each timed from the moment at which its
//! message is appended to the moment at which Kafka's own consumer of committed messages prints it.
//!
//! Broker, consumer, host and stream share the machine.

use super::options::Options;
use super::probes::{FIRST_PROBE, Looks, Probes, stage};
use anyhow::{Context, Result};
use retag_servers::Kafka;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs the proof.
///
/// # Errors
/// Kafka is not installed, or a label does not come.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut options = Options::read(arguments)?;
    let (retag, dir) = (options.take("retag", PathBuf::new())?, options.take("dir", PathBuf::new())?);
    let keys: u64 = options.take("keys", 100_000)?;
    let seconds: u64 = options.take("seconds", 20)?;
    let seed: u64 = options.take("seed", u64::from(std::process::id()))?;
    options.end()?;
    let kafka = Kafka::start()?;
    println!("== {keys} keys, stream of seed {seed}");
    for transactional in [true, false] {
        let topic = if transactional { "exactly-once" } else { "at-least-once" };
        kafka.create_topic(topic, 1, &[])?;
        let section = format!(
            "[sinks.topic]\ntype = \"kafka\"\nbootstrap_servers = \"{}\"\ntopic = \"{topic}\"\ntransactional = {transactional}\n",
            kafka.bootstrap()
        );
        let (mut host, live) = stage(&retag, &dir, (keys, seed), ("topic", &section))?;
        println!("\ntransactional = {transactional}:");
        let mut printed = Printed::of(&kafka, topic)?;
        Probes::of(&host).table((&mut host, live, "topic"), &mut printed, seconds)?;
        let dir = host.dir.clone();
        host.stop()?;
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}

/// What a consumer has printed.
struct Printed {
    consumer: Child,
    /// Users that are timed.
    users: Arc<Mutex<BTreeSet<u64>>>,
}

impl Printed {
    fn of(kafka: &Kafka, topic: &str) -> Result<Self> {
        let mut command = kafka.follow(topic);
        let mut consumer = command.stdout(Stdio::piped()).spawn().context("start the consumer")?;
        let users = Arc::<Mutex<BTreeSet<u64>>>::default();
        let (lines, into) = (consumer.stdout.take().context("its output")?, users.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let user = line.split_once("\"key\":\"").and_then(|(_, rest)| rest.split_once('"'));
                let user =
                    user.and_then(|(user, _)| user.parse().ok()).filter(|user: &u64| *user >= FIRST_PROBE);
                into.lock().unwrap_or_else(PoisonError::into_inner).extend(user);
            }
        });
        Ok(Self { consumer, users })
    }
}

impl Looks for Printed {
    fn look(&mut self, users: &mut dyn Iterator<Item = u64>) -> Result<Vec<bool>> {
        let seen = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(users.map(|user| seen.contains(&user)).collect())
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        let _ = self.consumer.kill(); // it would follow for good
        let _ = self.consumer.wait();
    }
}
