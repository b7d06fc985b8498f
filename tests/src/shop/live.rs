//! A stream that grows while somebody reads it: messages at the end of the partitions' files, as many as asked for.
//!
//! Beside the tails that the generator sends again it can send old messages again, from anywhere before and to whatever
//! partition, so that copies lie on both sides of any fence.

use super::random::Random;
use super::{Config, Generator};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Old messages that are remembered for a second sending.
const OLD_LIMIT: usize = 1_024;
/// Messages that are written to the files at once.
const CHUNK: u64 = 4_096;

/// A stream that grows.
#[derive(Debug)]
pub struct Live {
    generator: Generator,
    files: Vec<File>,
    paths: Vec<PathBuf>,
    buffers: Vec<Vec<u8>>,
    random: Random,
    /// One of so many messages is followed by an old one.
    old_every: Option<u64>,
    old: Vec<Vec<u8>>,
    line: Vec<u8>,
    written: u64,
}

impl Live {
    /// Makes `dir/shop.p0.json`, …, empty. One of `old_every` messages is followed by an old one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(dir: &Path, config: Config, old_every: Option<u64>) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let paths: Vec<PathBuf> =
            (0..config.partitions).map(|p| dir.join(format!("shop.p{p}.json"))).collect();
        let files = paths.iter().map(File::create).collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            buffers: files.iter().map(|_| Vec::new()).collect(),
            random: Random(config.seed ^ 0x6f6c_6421),
            generator: Generator::new(config),
            files,
            paths,
            old_every: old_every.filter(|every| *every > 0),
            old: Vec::new(),
            line: Vec::with_capacity(4_096),
            written: 0,
        })
    }

    /// The partitions' files.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Messages written so far, those that were sent again included.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends `messages` messages; fewer at the end of the configured stream.
    ///
    /// # Errors
    /// What the file system says.
    pub fn append(&mut self, messages: u64) -> io::Result<()> {
        let mut left = messages;
        while left > 0 {
            let chunk = left.min(CHUNK);
            left -= chunk;
            for _ in 0..chunk {
                self.next_message();
            }
            for (file, buffer) in self.files.iter_mut().zip(&mut self.buffers) {
                file.write_all(buffer)?;
                buffer.clear();
            }
        }
        Ok(())
    }

    fn next_message(&mut self) {
        let due = self.old_every.is_some_and(|every| self.random.below(every) == 0);
        if due && !self.old.is_empty() {
            let which = self.random.below(self.old.len() as u64) as usize;
            let partition = self.random.below(self.buffers.len() as u64) as usize;
            self.buffers[partition].extend_from_slice(&self.old[which]);
            self.written += 1;
            return;
        }
        let Some(partition) = self.generator.next_into(&mut self.line) else { return };
        self.line.push(b'\n');
        self.buffers[partition as usize].extend_from_slice(&self.line);
        self.written += 1;
        if self.old_every.is_some() && self.random.below(64) == 0 {
            if self.old.len() < OLD_LIMIT {
                self.old.push(self.line.clone());
            } else {
                // Any age: what is remembered is replaced at random.
                let which = self.random.below(OLD_LIMIT as u64) as usize;
                self.old[which].clone_from(&self.line);
            }
        }
    }
}
