//! Servers that are away for a while: what waiting costs the host, and how soon after their return everything is there.
//!
//! For some seconds in the test run; `RETAG_AWAY_SECONDS=60` says for how long.

use super::host::{Stream, end, ends, folder, follow, read_up_to, status};
use super::topic::{Read, read_all};
use crate::harness::{Folder, Host};
use retag_host::clock::moment;
use retag_servers::{Kafka, Redis, Service};
use serde_json::Value;
use std::time::Duration;

/// Of the processor's time, while it waits. (What a release takes is in docs/performance.md.)
const CPU_MAX: f64 = 0.1;
/// From the moment at which a server answers to the moment at which everything is there.
const SOON: Duration = Duration::from_secs(5);

/// Processor time of a process so far, and its memory.
fn used(host: &Host) -> (Duration, u64) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", host.pid())).unwrap();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = [11, 12].map(|n: usize| fields[n].parse::<u64>().unwrap()).iter().sum();
    let status = read("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes = resident.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    (Duration::from_millis(ticks * 10), kilobytes * 1_024) // a tick is 10 ms
}

/// Everything is read, and sinks have it.
fn settled(host: &mut Host, folder: &Folder, kafka: &Kafka) {
    read_up_to(host, folder, &ends(kafka, "shop", 2));
    host.until("all sinks to be served", || {
        let status = status(folder)?;
        let served = |sink: &Value| {
            let now = &sink["now"];
            now["waits_for"].is_null() && now["doing"] == "delivering" && now["whole"] != false
        };
        status["sinks"].as_array()?.iter().all(served).then_some(())
    });
}

pub(crate) fn servers_that_are_away_cost_little_and_get_everything_soon_after() {
    let seconds = std::env::var("RETAG_AWAY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let (mut kafka, mut redis) = (Kafka::start().unwrap(), Redis::start().unwrap());
    kafka.create_topic("shop", 2, &[]).unwrap();
    kafka.create_topic("told", 2, &[]).unwrap();
    kafka.create_topic("held", 2, &[("cleanup.policy", "compact")]).unwrap();
    let folder = folder(&kafka, &["shop"], "");
    for (form, topic) in [("events", "told"), ("state", "held")] {
        let bootstrap = kafka.bootstrap();
        let sink = format!(
            "[sinks.{topic}]\ntype = \"kafka\"\nform = \"{form}\"\nbootstrap_servers = \"{bootstrap}\"\n"
        );
        folder.append("retag.toml", sink + &format!("topic = \"{topic}\"\n"));
    }
    folder.append("retag.toml", format!("[sinks.redis]\ntype = \"redis\"\nurl = \"{}\"\n", redis.url()));
    let mut stream = Stream::new(41);
    stream.write(&kafka, "shop", 2_000);
    let mut host = follow(&folder);
    settled(&mut host, &folder, &kafka);
    for which in ["redis", "kafka"] {
        // While Redis is away the stream goes on; Kafka takes the stream with it.
        stream.write(&kafka, "shop", 1_000);
        let server: &mut dyn Service = if which == "redis" { &mut redis } else { &mut kafka };
        server.stop().unwrap();
        let waits = |status: &Value| status.to_string().contains("\"waits_for\":\"");
        host.until("what it waits for", || status(&folder).filter(waits).map(drop));
        let (before, _) = used(&host);
        std::thread::sleep(Duration::from_secs(seconds)); // the event is the time itself
        let (after, memory) = used(&host);
        let server: &mut dyn Service = if which == "redis" { &mut redis } else { &mut kafka };
        server.restart().unwrap();
        let back = moment();
        settled(&mut host, &folder, &kafka);
        let (took, share) = (back.elapsed(), (after - before).as_secs_f64() / seconds as f64);
        println!(
            "{which} away for {seconds} s: {:.1} % of a processor, {} MB; everything was there {took:?} after its return",
            share * 100.0,
            memory >> 20
        );
        assert!(share < CPU_MAX && memory < 1 << 30, "{share} of a processor, {memory} bytes");
        assert!(took < SOON, "{took:?}");
    }
    folder.retag(&["sink", "verify", "redis"]).assert_ok();
    folder.retag(&["sink", "verify", "held"]).assert_ok();
    end(host);
    let told = read_all(&kafka.bootstrap(), "told", 2, Read::Committed).len();
    let written = folder.read("labels.ndjson").lines().count();
    assert_eq!(told, written, "the topic and the file were told the same");
}
