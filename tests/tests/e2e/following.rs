//! A host that follows files which grow: what it reads, what it says of itself, what it costs, and its end.

use crate::harness::{Folder, Host};
use retag_tests::shop::{Config, Generator};
use serde_json::Value;

/// A shop whose log grows.
pub(crate) struct Shop(Generator);

impl Shop {
    pub(crate) fn new(seed: u64, users: u64) -> Self {
        Self(Generator::new(Config { seed, events: 10_000_000, users, ..Config::default() }))
    }

    /// Writes the next messages at the end of the two files.
    pub(crate) fn write(&mut self, folder: &Folder, count: usize) {
        let mut texts = [Vec::new(), Vec::new()];
        for message in self.0.by_ref().take(count) {
            let text = &mut texts[message.partition as usize % 2];
            text.extend_from_slice(&message.json);
            text.push(b'\n');
        }
        for (n, text) in texts.iter().enumerate() {
            folder.append(&format!("o.p{n}.json"), text);
        }
    }
}

/// A host that follows its sources and answers; asked before, the directory would be held by who asks.
pub(crate) fn follow(folder: &Folder) -> Host {
    let mut host = folder.start(&["run"], &[]);
    let pid = host.pid().to_string();
    host.until("its lock", || folder.read("data/lock").contains(&pid).then_some(()));
    host.until("its answer", || status(folder).map(drop));
    host
}

/// What the host says of itself; none while it does not answer.
pub(crate) fn status(folder: &Folder) -> Option<Value> {
    let asked = folder.retag(&["status", "-o", "json"]);
    serde_json::from_str(&asked.out).ok().filter(|_| asked.status.success())
}

/// Ends a host.
pub(crate) fn end(host: Host) {
    host.signal("TERM");
    host.wait().assert_ok();
}

/// Processor time of a process so far.
pub(crate) fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |n: usize| fields[n].parse::<u64>().unwrap();
    (ticks(11) + ticks(12)) * 10 // a tick is 10 ms
}
