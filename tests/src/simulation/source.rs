//! Scripted sources: texts whose positions are bytes, as files have them, and logs that number their messages with gaps, as
//! Kafka has them.

use retag_host::decode::boundary;
use retag_host::source::{Block, Index, Partition, Source, SourceError, Unit};
use std::sync::Arc;

/// A source that holds its texts.
pub(super) struct Texts {
    /// One text per partition.
    pub(super) logs: Vec<Arc<Vec<u8>>>,
    /// Positions are numbers of messages, not bytes.
    pub(super) numbered: bool,
}

/// Number of message `n`: after each third one some are missing. A log ends where its next message may stand.
fn number_of(n: usize) -> u64 {
    n as u64 + n as u64 / 3 * 4
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|b| *b == b'\n').collect()
}

impl Texts {
    /// Partition `n`, and where it is read from.
    pub(super) fn partition(&self, n: usize) -> (Partition, u64) {
        let partition = Partition {
            source: "shop".into(),
            name: format!("p{n}"),
            fingerprint: String::new(),
            fingerprint_len: 0,
            first_size: self.end(n),
            begins: 0,
            unit: if self.numbered { Unit::Messages } else { Unit::Bytes },
        };
        (partition, 0)
    }

    fn end(&self, n: usize) -> u64 {
        match self.numbered {
            true => number_of(lines(&self.logs[n]).len()),
            false => self.logs[n].len() as u64,
        }
    }

    fn bytes(&self, partition: usize, offset: u64, (bytes_max, until): (usize, u64)) -> Block {
        let rest = &self.logs[partition][..until.min(self.end(partition)) as usize][offset as usize..];
        let at_end = rest.len() <= bytes_max;
        let whole = if at_end {
            rest.len()
        } else {
            let line = rest[..bytes_max].iter().rposition(|b| *b == b'\n');
            let line = line.or_else(|| rest.iter().position(|b| *b == b'\n')).expect("a line end") + 1;
            boundary::transaction(&rest[..line]).unwrap_or(line)
        };
        let bytes = Arc::new(rest[..whole].to_vec());
        Block { partition, start: offset, bytes, index: None, at_end }
    }

    fn numbers(&self, partition: usize, offset: u64, (bytes_max, until): (usize, u64)) -> Block {
        let (mut bytes, mut index) = (Vec::new(), Index::default());
        index.restart(offset);
        let mut all = lines(&self.logs[partition]).into_iter().enumerate();
        let mut wanted = all.by_ref().map(|(n, line)| (number_of(n), line)).filter(|(n, _)| *n >= offset);
        let end = self.end(partition).min(until);
        let next = loop {
            match wanted.next().filter(|(number, _)| *number < end) {
                None => break None,
                Some((number, _)) if !bytes.is_empty() && bytes.len() >= bytes_max => break Some(number),
                Some((number, line)) => {
                    index.push(bytes.len(), number);
                    bytes.extend_from_slice(line);
                }
            }
        };
        index.reach(next.unwrap_or(end.max(offset)));
        let at_end = next.is_none();
        Block { partition, start: offset, bytes: Arc::new(bytes), index: Some(Arc::new(index)), at_end }
    }

    fn block(&self, partition: usize, offset: u64, bounds: (usize, u64)) -> Block {
        if self.numbered {
            self.numbers(partition, offset, bounds)
        } else {
            self.bytes(partition, offset, bounds)
        }
    }
}

impl Source for Texts {
    fn read(&mut self, partition: usize, offset: u64, bytes_max: usize) -> Result<Block, SourceError> {
        Ok(self.block(partition, offset, (bytes_max, u64::MAX)))
    }

    fn read_again(
        &mut self,
        partition: usize,
        offset: u64,
        bounds: (usize, u64),
    ) -> Result<Block, SourceError> {
        Ok(self.block(partition, offset, bounds))
    }
}
