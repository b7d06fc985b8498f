//! A shop's change stream as Maxwell prints it: users, orders and red packets of the example database.
//!
//! Deterministic: equal [`Config`]s give equal bytes, and fewer events give a prefix of more (the
//! last message commits). Streaming: memory holds the
//! live rows and, where re-sends are asked for, the last few hundred messages. Every stream holds what makes change
//! streams hard: multi-row events that share a binlog position, key changes, NULLs, updates of columns nobody reads,
//! deletes and returning users, escaped and unicode text, re-sent tails.

mod generator;
mod live;
mod maxwell;
mod order;
mod packet;
mod random;
mod text;
mod user;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub use generator::Generator;
pub use live::Live;

/// What stream to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Equal seeds give equal streams.
    pub seed: u64,
    /// Messages in all, re-sent ones included.
    pub events: u64,
    /// Users that orders, packets and registrations are drawn from; a few of them buy much, most of them little.
    pub users: u64,
    /// Partitions of the log; a row goes to the partition of its (new) primary key.
    pub partitions: u32,
    /// About how many of 100 messages are re-sent ones.
    pub resend_percent: u32,
    /// How many of 100 statements touch `shop.users`.
    pub users_percent: u32,
    /// How many of 100 statements touch `shop.red_packets`; the rest touches `shop.orders`.
    pub packets_percent: u32,
    /// Messages carry server id and binlog position.
    pub ids: bool,
    /// Messages carry a gtid too (needs `ids`).
    pub gtid: bool,
    /// About one user in 1,000 has an id above 2^63.
    pub huge_ids: bool,
    /// How many of 100 orders and packets are of the first user, whose orders are all of different merchants.
    pub hot_percent: u32,
    /// The stream begins with the registrations of so many users.
    pub register_first: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            events: 10_000,
            users: 1_000,
            partitions: 2,
            resend_percent: 3,
            users_percent: 12,
            packets_percent: 12,
            ids: true,
            gtid: false,
            huge_ids: true,
            hot_percent: 0,
            register_first: 0,
        }
    }
}

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Partition of the log that it lies in.
    pub partition: u32,
    /// The message, without a line end.
    pub json: Vec<u8>,
}

/// Writes the stream to `dir/shop.p0.json`, `dir/shop.p1.json`, …, one message a line, and names the files.
///
/// # Errors
/// What the file system says.
pub fn write_files(dir: &Path, config: &Config) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    let paths: Vec<PathBuf> = (0..config.partitions).map(|p| dir.join(format!("shop.p{p}.json"))).collect();
    let mut files = Vec::new();
    for path in &paths {
        files.push(BufWriter::with_capacity(1 << 20, File::create(path)?));
    }
    let mut generator = Generator::new(config.clone());
    let mut line = Vec::with_capacity(4096);
    while let Some(partition) = generator.next_into(&mut line) {
        line.push(b'\n');
        files[partition as usize].write_all(&line)?;
    }
    for mut file in files {
        file.flush()?;
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
