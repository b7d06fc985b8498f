//! From SQL statements to labels: MariaDB, Maxwell and Kafka in front of a host, Redis and topics behind it. What it computes
//! and what its sinks hold is what the database itself answers, though everything in between is killed and started again.
//!
//! A round in the test run is short. `cargo xtask sql` runs long ones: `RETAG_SQL_SECONDS`, `RETAG_SQL_CHANGES` and
//! `RETAG_SQL_SEED` say for how long, how many changes at least, and where the random numbers begin.

use super::host::{ends, folder, read_up_to, served};
use super::sink_redis;
use super::sql::{TABLES, Workload, labels, rules, sums};
use super::topic::{Full, Read, compacted, read_all};
use crate::following::{end, follow, status};
use crate::harness::{Folder, Host};
use retag_host::clock::moment;
use retag_servers::{Kafka, MariaDb, Maxwell, Redis, Service};
use retag_tests::simulation::{LabelSets, Random};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Statements handed over at once.
const BATCH: usize = 400;
/// Between two faults, s.
const FAULT_PAUSE_S: (u64, u64) = (2, 6);
/// Longest that the end of a round may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(180);
const TOLD: (&str, i32) = ("told", 2);
const HELD: (&str, i32) = ("held", 2);

/// How large a round is.
struct Size {
    seconds: u64,
    changes: u64,
    seed: u64,
    /// Statements of each kind, at least.
    of_kind: u64,
    /// Kills of the host, and faults of each other part, at least.
    faults: (u64, u64),
    users: u64,
}

impl Size {
    fn asked() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seconds = number("RETAG_SQL_SECONDS");
        Self {
            seconds: seconds.unwrap_or(40),
            changes: number("RETAG_SQL_CHANGES").unwrap_or(10_000),
            seed: number("RETAG_SQL_SEED").unwrap_or(1),
            of_kind: if seconds.is_some() { 100 } else { 20 },
            faults: if seconds.is_some() { (5, 2) } else { (2, 1) },
            users: 300,
        }
    }

    /// The round was long enough.
    fn is_reached(&self, line: &Line, begin: Instant, faults: &BTreeMap<&str, u64>) -> bool {
        let of = |part: &str| -> u64 {
            faults.iter().filter(|(name, _)| name.starts_with(part)).map(|(_, count)| count).sum()
        };
        let (kills, others) = self.faults;
        begin.elapsed().as_secs() >= self.seconds
            && of("host") >= kills
            && ["broker", "redis", "maxwell"].iter().all(|part| of(part) >= others)
            && line.totals().is_some_and(|totals| totals["changes"].as_u64() >= Some(self.changes))
    }
}

/// Everything between the statements and the labels.
struct Line {
    database: MariaDb,
    kafka: Kafka,
    maxwell: Maxwell,
    redis: Redis,
    folder: Folder,
    host: Option<Host>,
    partitions: i32,
}

impl Line {
    fn start(partitions: i32, of_maxwell: &[(&str, &str)]) -> Self {
        let database = MariaDb::start().unwrap();
        let kafka = Kafka::start().unwrap();
        let redis = Redis::start().unwrap();
        kafka.create_topic("shop", partitions, &[]).unwrap();
        kafka.create_topic(TOLD.0, TOLD.1, &[]).unwrap();
        kafka.create_topic(HELD.0, HELD.1, &[("cleanup.policy", "compact")]).unwrap();
        database.sql(TABLES).unwrap();
        let maxwell = Maxwell::start(&database, &kafka, "shop", of_maxwell).unwrap();
        let folder = folder(&kafka, &["shop"], "");
        let more: String = rules()
            .filter(|r| *r != "payer")
            .map(|r| format!("[rules.{r}]\npath = \"{r}.wasm\"\n"))
            .collect();
        let topic = |form: &str, topic: &str| {
            let bootstrap = kafka.bootstrap();
            format!(
                "[sinks.{topic}]\ntype = \"kafka\"\nform = \"{form}\"\nbootstrap_servers = \"{bootstrap}\"\ntopic = \"{topic}\"\n"
            )
        };
        let redis_sink = format!("[sinks.redis]\ntype = \"redis\"\nurl = \"{}\"\n", redis.url());
        folder.append("retag.toml", more + &topic("events", TOLD.0) + &topic("state", HELD.0) + &redis_sink);
        let mut line = Self { database, kafka, maxwell, redis, folder, host: None, partitions };
        line.host = Some(follow(&line.folder));
        line
    }

    fn totals(&self) -> Option<Value> {
        Some(status(&self.folder)?["totals"].clone())
    }

    /// Kills something, or ends it well, and starts it again. Its name.
    fn fault(&mut self, which: Fault, random: &mut Random) -> &'static str {
        let (gently, away) = (random.below(2) == 0, Duration::from_millis(random.below(1_500)));
        let service: &mut dyn Service = match which {
            Fault::Host => {
                let host = self.host.take().unwrap();
                host.signal("KILL");
                host.wait();
                std::thread::sleep(away); // the fault itself
                self.host = Some(follow(&self.folder));
                return "host killed";
            }
            Fault::Kafka => &mut self.kafka,
            Fault::Redis => &mut self.redis,
            Fault::Maxwell => &mut self.maxwell,
        };
        let ended = if gently { service.stop() } else { service.kill() };
        assert!(ended.is_ok() || which == Fault::Maxwell, "{ended:?}"); // Maxwell may have ended by itself
        std::thread::sleep(away); // the fault itself
        service.restart().unwrap();
        match (which, gently) {
            (Fault::Kafka, true) => "broker restarted",
            (Fault::Kafka, false) => "broker killed",
            (Fault::Redis, true) => "redis restarted",
            (Fault::Redis, false) => "redis killed",
            (_, true) => "maxwell restarted",
            (_, false) => "maxwell killed",
        }
    }

    /// Maxwell ends when the broker is away for too long; whoever runs it starts it again.
    fn tend(&mut self) {
        if !self.maxwell.process().runs() {
            self.maxwell.restart().unwrap();
        }
    }

    /// Waits until the host has what the database has; Maxwell tells nothing of how far it is.
    fn arrived(&mut self) {
        let begin = moment();
        for rule in rules() {
            let expect = sums(&self.database, rule);
            loop {
                self.tend();
                let csv = self.folder.retag(&["export", "aggregates", rule, "-o", "csv"]).assert_ok().out;
                let found: BTreeSet<String> =
                    csv.lines().skip(1).map(|line| line.replace(',', "\t")).collect();
                if found == expect {
                    break;
                }
                let differ: Vec<_> = expect.symmetric_difference(&found).take(20).collect();
                assert!(begin.elapsed() < ARRIVAL, "{rule}: the database and the host differ in {differ:#?}");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        let ends = ends(&self.kafka, "shop", self.partitions);
        let folder = &self.folder;
        let host = self.host.as_mut().unwrap();
        read_up_to(host, folder, &ends);
        served(host, folder);
    }

    /// What the sinks hold is what the database says.
    fn assert_held(&mut self) {
        self.arrived();
        for sink in ["redis", HELD.0] {
            self.folder.retag(&["sink", "verify", sink]).assert_ok();
        }
        end(self.host.take().unwrap());
        self.folder.run().assert_ok(); // what was on its way to a sink
        let expect = labels(&self.database);
        assert!(expect.len() > 50, "only {} keys have labels", expect.len());
        assert_same("redis", &sink_redis::held(&mut sink_redis::single(&self.redis)), &expect);
        let bootstrap = self.kafka.bootstrap();
        assert_same("the state topic", &of_state_topic(&bootstrap), &expect);
        let told = read_all(&bootstrap, TOLD.0, TOLD.1, Read::Committed);
        assert_same("the events topic", &of_events(&told), &expect);
    }
}

/// What is killed or restarted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Host,
    Kafka,
    Redis,
    Maxwell,
}

fn assert_same(what: &str, found: &LabelSets, expect: &LabelSets) {
    let wrong: Vec<_> = found.iter().filter(|(key, set)| expect.get(*key) != Some(*set)).take(5).collect();
    let missing: Vec<_> = expect.keys().filter(|key| !found.contains_key(*key)).take(5).collect();
    assert!(wrong.is_empty() && missing.is_empty(), "{what}: wrong {wrong:?}, missing {missing:?}");
}

fn of_state_topic(bootstrap: &str) -> LabelSets {
    let mut sets = LabelSets::new();
    for value in compacted(bootstrap, HELD.0, HELD.1).values() {
        let value: Value = serde_json::from_str(value).unwrap();
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        let labels = value["labels"].as_object().unwrap().iter();
        let set = labels.map(|(label, value)| (label.clone(), value.as_str().map(str::to_owned))).collect();
        sets.insert((text("entity"), text("key")), set);
    }
    sets
}

/// What a consumer of the events has at their end: each is told once, those of a key in order, none is missing between them.
fn of_events(told: &[Full]) -> LabelSets {
    let (mut sets, mut ids) = (LabelSets::new(), BTreeSet::new());
    for message in told {
        let message = message.json();
        assert!(ids.insert(message["id"].to_string()), "told twice: {message}");
        let text = |name: &str| message[name].as_str().map(str::to_owned);
        let (entity, key, label) = (text("entity").unwrap(), text("key").unwrap(), text("label").unwrap());
        let set: &mut BTreeMap<_, _> = sets.entry((entity, key)).or_default();
        // What it says was there before is what the message before left: nothing is missing, nothing is out of order.
        let before = match message["op"].as_str() {
            Some("set") => set.insert(label, text("value")),
            _ => Some(set.remove(&label).expect("it was told")),
        };
        assert_eq!(before.clone().flatten(), text("previous"), "{message}");
        assert!(before != Some(text("value")) || message["op"] == "unset", "nothing changed: {message}");
    }
    sets.retain(|_, set| !set.is_empty());
    sets
}

pub(crate) fn sums_and_labels_are_those_of_the_database() {
    let size = Size::asked();
    let mut line = Line::start(1, &[]);
    let mut random = Random(size.seed);
    let (mut workload, stop) = (Workload::new(size.seed + 1_000, size.users), AtomicBool::new(false));
    let (client, mut faults) = (line.database.client(), BTreeMap::<&str, u64>::new());
    let begin = moment();
    std::thread::scope(|scope| {
        let _stops = Stops(&stop); // or the scope would wait for the writer where something fails here
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let slice = moment();
                client.sql(&workload.next(BATCH)).unwrap();
                // Faults fall between statements too.
                std::thread::sleep(Duration::from_millis(400).saturating_sub(slice.elapsed()));
            }
        });
        let (mut bag, mut next) = (Vec::new(), moment());
        while !size.is_reached(&line, begin, &faults) && !writer.is_finished() {
            if bag.is_empty() {
                bag = vec![Fault::Host, Fault::Kafka, Fault::Host, Fault::Redis, Fault::Maxwell];
                shuffle(&mut bag, &mut random);
            }
            line.tend();
            if moment() >= next {
                let name = line.fault(bag.pop().unwrap(), &mut random);
                *faults.entry(name).or_default() += 1;
                let (least, most) = FAULT_PAUSE_S;
                next = moment() + Duration::from_secs(least + random.below(most - least));
            }
            assert!(begin.elapsed().as_secs() < size.seconds * 3 + 120, "the host does not keep up");
            std::thread::sleep(Duration::from_millis(200));
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    line.arrived();
    resend(&mut line, &mut workload);
    let totals = line.totals().unwrap();
    println!(
        "round {}: {} s, {} changes, {} of them sent again and recognised; {faults:?}; statements {:?}",
        size.seed,
        begin.elapsed().as_secs(),
        totals["changes"],
        totals["resent"],
        workload.counts
    );
    assert!(totals["resent"].as_u64() > Some(0), "nothing was sent again: {totals}");
    assert!(totals["changes"].as_u64() >= Some(size.changes), "{totals}");
    assert!(workload.counts.values().all(|count| *count >= size.of_kind), "{:?}", workload.counts);
    line.assert_held();
    println!("aggregates, Redis, the state topic and the events topic: those of the database");
}

/// Stops the writer, however its holder ends.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn shuffle(bag: &mut [Fault], random: &mut Random) {
    for n in (1..bag.len()).rev() {
        bag.swap(n, usize::try_from(random.below(n as u64 + 1)).unwrap());
    }
}

/// Maxwell, killed until it sends something again.
fn resend(line: &mut Line, workload: &mut Workload) {
    for _ in 0..8 {
        if line.totals().unwrap()["resent"].as_u64() > Some(0) {
            return;
        }
        let behind = ends(&line.kafka, "shop", line.partitions)[0];
        line.database.sql(&workload.next(100)).unwrap();
        let kafka = &line.kafka;
        line.host
            .as_mut()
            .unwrap()
            .until("new messages", || (ends(kafka, "shop", 1)[0] > behind).then_some(()));
        line.maxwell.kill().unwrap();
        line.maxwell.restart().unwrap();
        line.arrived();
    }
}

pub(crate) fn rows_spread_by_their_keys_are_those_of_the_database() {
    let mut line = Line::start(4, &[("producer_partition_by", "primary_key")]);
    let mut workload = Workload::new(77, 300);
    for _ in 0..8 {
        line.database.sql(&workload.next(BATCH)).unwrap();
    }
    line.arrived();
    let used = ends(&line.kafka, "shop", 4);
    assert!(used.iter().all(|end| *end > 100), "{used:?}");
    println!("{used:?} messages in the partitions, {} changes", line.totals().unwrap()["changes"]);
    line.assert_held();
}
