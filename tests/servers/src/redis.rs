//! Redis servers with an append-only file: one alone, or a cluster of primaries without replicas.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::Server;
use crate::folder;
use crate::install::debs;
use crate::port::Port;
use crate::process::{self, Process, Service};

const OPTIONS: [&str; 12] = [
    "--bind",
    "127.0.0.1",
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "everysec",
    "--daemonize",
    "no",
    "--dir",
    "data",
];
const CLUSTER_OPTIONS: [&str; 8] = [
    "--cluster-enabled",
    "yes",
    "--cluster-config-file",
    "nodes.conf",
    "--cluster-node-timeout",
    "2000",
    "--cluster-require-full-coverage",
    "no",
];
const SLOTS: usize = 16_384;

/// A server.
pub struct Redis {
    process: Process,
    port: Port,
    /// Of a node of a cluster: where the other nodes reach it.
    bus: Option<Port>,
    installed: PathBuf,
}

impl Redis {
    /// Starts an empty one.
    ///
    /// # Errors
    /// It is not installed or does not come up; the message ends with its log.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with options of its own, for example `["--maxmemory", "10mb"]`.
    ///
    /// # Errors
    /// As for [`Redis::start`].
    pub fn start_with(own: &[&str]) -> Result<Self> {
        Self::up(None, own)
    }

    fn up(bus: Option<Port>, own: &[&str]) -> Result<Self> {
        let installed = Server::Redis.installed()?;
        let (home, port) = (folder::temporary("redis")?, Port::reserve()?);
        std::fs::create_dir(home.path().join("data"))?;
        let mut command = Command::new(installed.join("usr/bin/redis-server"));
        command.env("LD_LIBRARY_PATH", debs::libraries(&installed)).current_dir(home.path());
        command.args(["--port", &port.number.to_string()]).args(OPTIONS);
        if let Some(bus) = &bus {
            command.args(["--cluster-port", &bus.number.to_string()]).args(CLUSTER_OPTIONS);
        }
        command.args(own);
        let process = Process::new("redis", home, command)?;
        let mut redis = Self { process, port, bus, installed };
        redis.restart()?;
        Ok(redis)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Its address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port.number)
    }

    /// Runs one command, for example `["FLUSHALL"]`; what `redis-cli` prints of the answer.
    ///
    /// # Errors
    /// The server refuses it or does not answer.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(self.installed.join("usr/bin/redis-cli"));
        command.env("LD_LIBRARY_PATH", debs::libraries(&self.installed));
        command.args(["-e", "-p", &self.port.number.to_string()]).args(words);
        Ok(process::output(&mut command)?.trim_end().to_owned())
    }
}

impl Service for Redis {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn answers(&mut self) -> Result<()> {
        // Not while it still loads its file.
        let answer = self.command(&["PING"])?;
        ensure!(answer == "PONG", "{answer}");
        Ok(())
    }
}

/// Primaries that share the slots evenly.
pub struct RedisCluster {
    /// The nodes, in order of their slots; each may be stopped, killed and started again.
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts an empty cluster and waits until every node sees it whole.
    ///
    /// # Errors
    /// It is not installed or does not come up.
    pub fn start(primaries: usize) -> Result<Self> {
        ensure!((1..=16).contains(&primaries), "a cluster of {primaries}: 1 to 16 are possible");
        let nodes =
            (0..primaries).map(|_| Redis::up(Some(Port::reserve()?), &[])).collect::<Result<Vec<_>>>()?;
        let cluster = Self { nodes };
        for (at, node) in cluster.nodes.iter().enumerate() {
            let (from, to) = (SLOTS * at / primaries, SLOTS * (at + 1) / primaries - 1);
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()])?;
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()])?;
        }
        let first = cluster.nodes.first().context("a cluster without nodes")?;
        for node in cluster.nodes.iter().skip(1) {
            let bus = node.bus.as_ref().context("a node without a bus")?.number.to_string();
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &node.port.number.to_string(), &bus])?;
        }
        cluster.until_whole()?;
        Ok(cluster)
    }

    /// Addresses of all nodes for clients.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// Waits until every node sees all slots served.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn until_whole(&self) -> Result<()> {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        let slots = format!("cluster_slots_ok:{SLOTS}");
        let wanted = ["cluster_state:ok", known.as_str(), slots.as_str()];
        process::until("every node sees the whole cluster", || {
            for node in &self.nodes {
                let info = node.command(&["CLUSTER", "INFO"])?;
                if !wanted.iter().all(|wanted| info.lines().any(|line| line.trim_end() == *wanted)) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}
