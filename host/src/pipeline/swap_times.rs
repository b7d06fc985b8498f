//! How long swaps keep workers from the stream, piece by piece: slices of a sweep, going over to another program, blocks
//! of the lane. Workers note what a piece took, the coordinator adds it up, `/metrics` and `--stats` show it.
//!
//! Bounded: counts by upper bound, a sum and the longest. What compiles a rule is not in it: it runs on other threads.

use super::coordinator::Pipeline;
use serde_json::{Value, json};
use std::time::Duration;

/// What a worker does for a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Part {
    /// A slice of a sweep over one shard.
    Sweep,
    /// Going over to another program: instances of rules, forgotten spaces.
    Program,
    /// A block of the lane, decoded and given to its rule.
    Lane,
}

impl Part {
    /// All of them, with their names in metrics.
    pub const ALL: [(&'static str, Self); 3] =
        [("sweep", Self::Sweep), ("program", Self::Program), ("lane", Self::Lane)];
}

/// Upper bounds of a piece's time: in µs, and in seconds as they are printed.
pub const BOUNDS: [(u64, &str); 12] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_000, "0.002"),
    (3_000, "0.003"),
    (5_000, "0.005"),
    (7_500, "0.0075"),
    (10_000, "0.01"),
    (20_000, "0.02"),
    (50_000, "0.05"),
    (100_000, "0.1"),
];

/// Times of one kind of pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Pieces by bound, each counted once; the last are those above all bounds.
    pub counts: [u64; BOUNDS.len() + 1],
    /// All together, in µs.
    pub sum_us: u64,
    /// The longest, in µs.
    pub max_us: u64,
}

impl Times {
    fn note(&mut self, us: u64) {
        let at = BOUNDS.iter().position(|(bound, _)| us <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }
}

/// Times of all kinds of pieces, each by the wall and by the processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwapTimes([[Times; 2]; Part::ALL.len()]);

impl SwapTimes {
    /// A piece took so long by the wall, and so much of the processor.
    pub fn note(&mut self, part: Part, took: [Duration; 2]) {
        for (times, took) in self.0.get_mut(part as usize).into_iter().flatten().zip(took) {
            times.note(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Adds what another worker noted.
    pub fn add(&mut self, other: &Self) {
        let all = self.0.as_flattened_mut().iter_mut().zip(other.0.as_flattened());
        all.for_each(|(times, more)| times.add(more));
    }

    /// By name: by the wall, by the processor.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &[Times; 2])> {
        Part::ALL.iter().map(|(name, _)| *name).zip(&self.0)
    }

    /// For `--stats`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let part = |(name, [wall, cpu]): (&'static str, &[Times; 2])| {
            let pieces: u64 = wall.counts.iter().sum();
            let of = json!({ "pieces": pieces, "sum_us": wall.sum_us, "max_us": wall.max_us, "cpu_us": cpu.sum_us });
            (name.to_owned(), of)
        };
        Value::Object(self.parts().map(part).collect())
    }
}

impl Pipeline {
    /// What swaps took of workers' time since the start.
    #[must_use]
    pub fn swap_times(&self) -> &SwapTimes {
        &self.book.swap_times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_counted_under_the_first_bound_that_it_does_not_pass() {
        let mut times = SwapTimes::default();
        for us in [0, 100, 101, 5_000, 5_001, 100_000, 100_001] {
            times.note(Part::Lane, [us, us / 2].map(Duration::from_micros));
        }
        let mut other = SwapTimes::default();
        other.note(Part::Sweep, [7, 3].map(Duration::from_micros));
        times.add(&other);
        let [[sweep, cpu_of_sweep], [program, _], [lane, _]] = &times.0;
        assert_eq!(lane.counts, [2, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1]);
        assert_eq!((lane.max_us, lane.sum_us), (100_001, 210_203));
        assert_eq!((sweep.counts[0], sweep.max_us, cpu_of_sweep.max_us), (1, 7, 3));
        assert_eq!(*program, Times::default());
        assert_eq!(times.to_json()["lane"]["pieces"], 7);
        assert_eq!(times.to_json()["lane"]["cpu_us"], 105_100);
        for (us, seconds) in BOUNDS {
            assert_eq!(seconds.parse::<f64>().unwrap(), us as f64 / 1e6);
        }
    }
}
