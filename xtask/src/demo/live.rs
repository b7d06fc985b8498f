//! `demo --kafka`: a statement typed into MariaDB, through Maxwell and Kafka, changes a label in Redis. All of them run on
//! this machine, from packages in the user's cache folder, with their data under the system's temporary folder; what is
//! Retag's lies under `target/demo-kafka`. Everything ends with the demo.

use std::collections::BTreeMap;
use std::io::{BufRead, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use retag_servers::{Kafka, MariaDb, Maxwell, Redis};

use crate::process::{cargo, release_binary, root, run as run_command, target_dir};
use crate::{ready, servers};

const TABLES: &str = "CREATE DATABASE shop; USE shop; CREATE TABLE users (user_id BIGINT UNSIGNED PRIMARY KEY); \
    CREATE TABLE orders (order_id BIGINT UNSIGNED PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, \
    merchant_id BIGINT NOT NULL, state INT NOT NULL, amount DECIMAL(12,2) NOT NULL)";
const TOPIC: &str = "shop";
/// What the life of one customer looks like.
const STORY: [(&str, &str); 6] = [
    ("a user registers", "INSERT INTO users VALUES (7)"),
    ("an order, not paid yet", "INSERT INTO orders VALUES (1, 7, 3, 0, 6000.00)"),
    ("it is paid", "UPDATE orders SET state = 1 WHERE order_id = 1"),
    ("a second one", "INSERT INTO orders VALUES (2, 7, 4, 1, 4500.00)"),
    ("the first is refunded", "UPDATE orders SET state = 6 WHERE order_id = 1"),
    ("and it is as if it had never been", "DELETE FROM orders WHERE order_id = 1"),
];
/// Updates whose way into Redis is measured.
const MEASURED: u32 = 20;
/// Longest that a label may take to change.
const BAR: Duration = Duration::from_secs(1);
/// Longest that a change is waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a typed statement is given to change a label.
const TYPED: Duration = Duration::from_secs(2);

/// Labels in Redis, by user.
type Labels = BTreeMap<String, String>;

/// Runs the demo: a story, a measurement, then what is typed.
///
/// # Errors
/// A server cannot be had, a step failed, or a label took longer than a second.
pub(crate) fn run() -> Result<()> {
    ready::wasm_target()?;
    servers::run(&["install".to_owned()])?;
    run_command(&mut cargo(["build", "--release", "-p", "retag-host", "--features", "kafka-tls"]))?;
    let retag = release_binary("retag");
    ready::rules_by(&retag)?;
    println!("\n== MariaDB, Kafka, Maxwell and Redis start\n");
    let mut shop = Shop::open(&retag)?;
    shop.wait()?;
    shop.tell()?;
    shop.measure()?;
    shop.typed()
}

/// Everything that runs.
struct Shop {
    // In the order in which they end.
    host: Host,
    _maxwell: Maxwell,
    database: MariaDb,
    _kafka: Kafka,
    redis: Redis,
}

/// The host's process; ends with this value.
struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

#[allow(clippy::disallowed_methods)] // a chore measures what it shows
fn now() -> Instant {
    Instant::now()
}

impl Shop {
    fn open(retag: &PathBuf) -> Result<Self> {
        let (database, kafka, redis) = (MariaDb::start()?, Kafka::start()?, Redis::start()?);
        database.sql(TABLES)?;
        kafka.create_topic(TOPIC, 1, &[])?;
        let maxwell = Maxwell::start(&database, &kafka, TOPIC, &[])?;
        let dir = target_dir().join("demo-kafka");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir)?;
        std::fs::copy(root().join("rules/payer/payer.wasm"), dir.join("payer.wasm"))?;
        let config = format!(
            "[state]\ndir = \"data\"\n\n[http]\nlisten = \"off\"\n\n\
             [sources.shop]\ntype = \"kafka\"\nformat = \"maxwell\"\nbootstrap_servers = \"{}\"\ntopics = [\"{TOPIC}\"]\n\
             start = \"earliest\"\nhistory = \"complete\"\n\n\
             [rules.payer]\npath = \"payer.wasm\"\n\n\
             [sinks.redis]\ntype = \"redis\"\nurl = \"{}\"\nbuckets = 1  # one place for all keys: easy to look at by hand\n",
            kafka.bootstrap(),
            redis.url()
        );
        let path = dir.join("retag.toml");
        std::fs::write(&path, &config).with_context(|| format!("write {}", path.display()))?;
        println!("retag.toml:");
        config.lines().for_each(|line| println!("    {line}"));
        let log = std::fs::File::create(dir.join("host.log"))?;
        let mut host = Command::new(retag);
        host.arg("run").arg("--config").arg(&path).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let host = Host(host.spawn().context("start the host")?);
        println!(
            "\nthe host runs (its log: {}); look for yourself:\n    redis-cli -p {} HGETALL '{{retag:0}}:user'",
            dir.join("host.log").display(),
            redis.port()
        );
        Ok(Self { host, _maxwell: maxwell, database, _kafka: kafka, redis })
    }

    /// Waits until the host follows the topic and Redis has what the state has: nothing.
    fn wait(&mut self) -> Result<()> {
        let begin = now();
        while self.redis.command(&["HGET", "{retag:0}:facts", "whole"])? != "1" {
            self.labels()?;
            ensure!(begin.elapsed() < LIMIT, "the host is not ready after {LIMIT:?}; its log says why");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The labels that lie in Redis, as `redis-cli` shows them.
    fn labels(&mut self) -> Result<Labels> {
        let ended = self.host.0.try_wait()?;
        ensure!(ended.is_none(), "the host has ended; its log says why");
        let told = self.redis.command(&["HGETALL", "{retag:0}:user"])?;
        let (mut labels, mut lines) = (Labels::new(), told.lines());
        while let (Some(user), Some(record)) = (lines.next(), lines.next()) {
            let from = record.find("\"labels\":").map_or(record, |at| &record[at + "\"labels\":".len()..]);
            labels.insert(user.to_owned(), from.trim_end_matches('}').trim_start_matches('{').to_owned());
        }
        labels.retain(|_, labels| !labels.is_empty());
        Ok(labels)
    }

    /// Runs a statement and waits until labels in Redis have changed; how long that took, and what they are.
    fn change(&mut self, statement: &str, limit: Duration) -> Result<Option<(Duration, Labels)>> {
        let before = self.labels()?;
        let begin = now();
        self.database.sql(&format!("USE shop; {statement}"))?;
        while begin.elapsed() < limit {
            let labels = self.labels()?;
            if labels != before {
                return Ok(Some((begin.elapsed(), labels)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }

    fn tell(&mut self) -> Result<()> {
        println!("\n== the life of a customer: statements, and what Redis has of user 7\n");
        for (what, statement) in STORY {
            println!("{what}\n  sql> {statement}");
            // An order that is not paid changes nothing.
            let limit = if what.contains("not paid") { BAR } else { LIMIT };
            match self.change(statement, limit)? {
                Some((took, labels)) => {
                    println!("       {}   ({} ms)", shown(&labels, "7"), took.as_millis())
                }
                None if limit == BAR => println!("       no label changes"),
                None => bail!("no label in Redis changed within {LIMIT:?}"),
            }
        }
        Ok(())
    }

    fn measure(&mut self) -> Result<()> {
        println!("\n== {MEASURED} updates, each typed into the database and waited for in Redis\n");
        let mut times = Vec::new();
        for n in 0..MEASURED {
            let statement = format!("UPDATE orders SET state = {} WHERE order_id = 2", 1 + 5 * ((n + 1) % 2));
            let (took, _) =
                self.change(&statement, LIMIT)?.with_context(|| format!("`{statement}` changed nothing"))?;
            times.push(took);
        }
        times.sort_unstable();
        let at = |place: usize| times.get(place).copied().unwrap_or_default();
        let (median, most) = (at(times.len() / 2), at(times.len() - 1));
        println!(
            "from the UPDATE to the label in Redis: median {} ms, most {} ms",
            median.as_millis(),
            most.as_millis()
        );
        ensure!(median < BAR, "a label took longer than {BAR:?}");
        Ok(())
    }

    /// Statements of the user, until there are no more.
    fn typed(&mut self) -> Result<()> {
        println!(
            "\n== now you: statements for the tables users and orders, a line each; Ctrl-D ends\n\n\
             \x20    INSERT INTO users VALUES (8)\n\
             \x20    INSERT INTO orders VALUES (3, 8, 1, 1, 2500.00)   -- order, user, merchant, state (1–3 paid, 6 refunded), amount\n"
        );
        let mut lines = std::io::stdin().lock().lines();
        loop {
            print!("  sql> ");
            std::io::stdout().flush()?;
            let Some(line) = lines.next() else { break };
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            match self.change(&line, TYPED) {
                Ok(Some((took, labels))) => {
                    for user in labels.keys() {
                        println!("       user/{user}: {}", shown(&labels, user));
                    }
                    println!("       ({} ms)", took.as_millis());
                }
                Ok(None) => println!("       no label changed"),
                Err(error) => println!("       {error:#}"),
            }
        }
        println!("\ndemo: done; all servers are stopped");
        Ok(())
    }
}

fn shown(labels: &Labels, user: &str) -> String {
    labels
        .get(user)
        .map_or_else(|| "(no label)".to_owned(), |labels| labels.replace(":true", "").replace('"', ""))
}
