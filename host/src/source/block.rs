//! Whole messages of one partition as they go to a decoder: text with a line for each message, and where each stands.
//!
//! In a file a position is a byte, and nothing else is needed. In a log of messages (Kafka) a position is the number that
//! the log gives a message; numbers have gaps, so a block has an index, and it ends where the next message may stand, which
//! can be further on than its last message.

use super::Position;
use std::sync::Arc;

/// Whole messages of one partition, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Partition that it is of.
    pub partition: usize,
    /// Position that it was asked for; its first message stands there or behind it.
    pub start: Position,
    /// Its bytes, a line for each message; empty when there was nothing more to read.
    pub bytes: Arc<Vec<u8>>,
    /// Where its messages stand; none where a position is a byte.
    pub index: Option<Arc<Index>>,
    /// Nothing stood behind it when it was read.
    pub at_end: bool,
}

/// Positions of the messages of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Where each message begins, in bytes of the block, ascending.
    starts: Vec<usize>,
    /// Its position, ascending.
    positions: Vec<Position>,
    /// Position behind the block.
    end: Position,
}

impl Index {
    /// Forgets everything and keeps the memory; the block begins and ends at `start`.
    pub fn restart(&mut self, start: Position) {
        self.starts.clear();
        self.positions.clear();
        self.end = start;
    }

    /// The message at `position` begins at byte `at`.
    pub fn push(&mut self, at: usize, position: Position) {
        self.starts.push(at);
        self.positions.push(position);
        self.end = position + 1;
    }

    /// Nothing more stands in front of `end`.
    pub fn reach(&mut self, end: Position) {
        self.end = self.end.max(end);
    }

    /// Position behind the block.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// Position of the first message.
    #[must_use]
    pub fn first(&self) -> Option<Position> {
        self.positions.first().copied()
    }

    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// It has no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Number of the first message that stands at `position` or behind it.
    fn first_at(&self, position: Position) -> usize {
        self.positions.partition_point(|other| *other < position)
    }

    /// Takes the messages from number `from` on out, which begin at byte `at`, as an index of their own.
    pub fn split_off(&mut self, from: usize, at: usize) -> Self {
        let mut rest = Self { starts: Vec::new(), positions: Vec::new(), end: self.end };
        rest.starts.extend(self.starts.drain(from.min(self.starts.len())..).map(|start| start - at));
        rest.positions.extend(self.positions.drain(from.min(self.positions.len())..));
        self.end = rest.positions.first().copied().unwrap_or(self.end);
        rest
    }

    /// Number of the message that begins at byte `at`, or of the first one behind it.
    #[must_use]
    pub fn number_at(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start < at)
    }
}

impl Block {
    /// Position behind it.
    #[must_use]
    pub fn end(&self) -> Position {
        match &self.index {
            Some(index) => index.end,
            None => self.start + self.bytes.len() as u64,
        }
    }

    /// Reading goes on behind it: it has messages, or leads over a gap.
    #[must_use]
    pub fn advances(&self) -> bool {
        self.end() > self.start
    }

    /// What a decoder counts the bytes of this block from.
    #[must_use]
    pub fn base(&self) -> u64 {
        if self.index.is_some() { 0 } else { self.start }
    }

    /// Byte of the block where the first message begins that stands at `position` or behind it.
    #[must_use]
    pub fn byte_of(&self, position: Position) -> usize {
        let at = match &self.index {
            Some(index) => index.starts.get(index.first_at(position)).copied().unwrap_or(usize::MAX),
            None => usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX),
        };
        at.min(self.bytes.len())
    }

    /// Turns what a decoder counted from [`base`](Self::base) on into positions; asked in ascending order.
    pub fn places(&self) -> impl FnMut(u64) -> Position {
        let index = self.index.clone();
        let mut number = 0;
        move |byte| {
            let Some(index) = &index else { return byte };
            let at = usize::try_from(byte).unwrap_or(usize::MAX);
            while index.starts.get(number).is_some_and(|start| *start < at) {
                number += 1;
            }
            index.positions.get(number).copied().unwrap_or(index.end)
        }
    }

    /// Drops what stands at `until` or behind it.
    pub fn truncate(&mut self, until: Position) {
        if self.end() <= until {
            return;
        }
        let length = self.byte_of(until);
        Arc::make_mut(&mut self.bytes).truncate(length);
        if let Some(index) = &mut self.index {
            let index = Arc::make_mut(index);
            let kept = index.first_at(until);
            index.starts.truncate(kept);
            index.positions.truncate(kept);
            index.end = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages at 10, 11 and 14; the log goes on at 17.
    fn indexed() -> Block {
        let mut index = Index::default();
        index.restart(9);
        [(0, 10), (3, 11), (6, 14)].into_iter().for_each(|(at, position)| index.push(at, position));
        index.reach(17);
        let bytes = Arc::new(b"aa\nbb\ncc\n".to_vec());
        Block { partition: 0, start: 9, bytes, index: Some(Arc::new(index)), at_end: false }
    }

    #[test]
    fn positions_with_gaps_are_found_both_ways() {
        let block = indexed();
        assert_eq!((block.end(), block.base(), block.advances()), (17, 0, true));
        assert_eq!([9, 10, 11, 12, 14, 15, 17].map(|p| block.byte_of(p)), [0, 0, 3, 6, 6, 9, 9]);
        let mut places = block.places();
        assert_eq!([0, 3, 6, 9].map(&mut places), [10, 11, 14, 17]);
    }

    #[test]
    fn a_block_is_cut_in_front_of_a_position() {
        for (until, text, end) in
            [(17, "aa\nbb\ncc\n", 17), (14, "aa\nbb\n", 14), (12, "aa\nbb\n", 12), (9, "", 9)]
        {
            let mut block = indexed();
            block.truncate(until);
            assert_eq!((block.bytes.as_slice(), block.end()), (text.as_bytes(), end));
        }
        let bytes = Arc::new(b"aa\nbb\n".to_vec());
        let mut block = Block { partition: 0, start: 100, bytes, index: None, at_end: false };
        block.truncate(103);
        assert_eq!((block.bytes.as_slice(), block.end(), block.base()), (&b"aa\n"[..], 103, 100));
        assert_eq!((block.byte_of(103), block.byte_of(50)), (3, 0));
    }

    #[test]
    fn the_end_of_an_index_is_split_off() {
        let Block { index: Some(index), .. } = indexed() else { panic!("an index") };
        let mut index = Arc::unwrap_or_clone(index);
        assert_eq!([0, 1, 3, 6, 9].map(|at| index.number_at(at)), [0, 1, 1, 2, 3]);
        let rest = index.split_off(1, 3);
        assert_eq!((index.end(), index.len(), rest.end(), rest.len()), (11, 1, 17, 2));
        assert_eq!((rest.starts, rest.positions), (vec![0, 3], vec![11, 14]));
    }

    #[test]
    fn a_block_without_messages_may_lead_over_a_gap() {
        let mut index = Index::default();
        index.restart(5);
        index.reach(7);
        let block = Block {
            partition: 0,
            start: 5,
            bytes: Arc::default(),
            index: Some(Arc::new(index)),
            at_end: true,
        };
        assert!(block.advances());
        assert_eq!((block.end(), block.byte_of(5), block.places()(0)), (7, 0, 7));
    }
}
