//! Servers that are away for a while: what waiting costs the host, and how soon after their return everything is there.
//!
//! For some seconds in the test run; `RETAG_AWAY_SECONDS=60` says for how long.

use super::host::{Stream, ends, folder, read_up_to, served};
use super::topic::{Read, read_all};
use crate::following::{cpu_ms, end, follow, status};
use crate::harness::{Folder, Host};
use retag_host::clock::moment;
use retag_servers::{Kafka, Redis, Service};
use serde_json::Value;
use std::time::Duration;

/// Of a processor, while it waits.
const CPU_MAX: f64 = 0.1;
/// All that was under way when the server went has found out.
const NOTICED: Duration = Duration::from_secs(1);
/// From the moment at which a server answers to the moment at which everything is there.
const SOON: Duration = Duration::from_secs(5);

/// Memory of a process.
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1_024
}

/// Everything is read, and sinks have it.
fn settled(host: &mut Host, folder: &Folder, kafka: &Kafka) {
    read_up_to(host, folder, &ends(kafka, "shop", 2));
    served(host, folder);
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
        std::thread::sleep(NOTICED); // what it costs to wait, not to notice
        let before = cpu_ms(host.pid());
        std::thread::sleep(Duration::from_secs(seconds)); // the event is the time itself
        let (used_ms, memory) = (cpu_ms(host.pid()) - before, resident_bytes(host.pid()));
        let server: &mut dyn Service = if which == "redis" { &mut redis } else { &mut kafka };
        server.restart().unwrap();
        let back = moment();
        settled(&mut host, &folder, &kafka);
        let (took, share) = (back.elapsed(), used_ms as f64 / 1_000.0 / seconds as f64);
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
