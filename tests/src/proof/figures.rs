//! The arithmetic: when things are due, percentiles, rates in a window, and a host's histogram.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many things are due after `elapsed` at `rate` a second; the first at once.
#[must_use]
pub fn due(elapsed: Duration, rate: u64) -> u64 {
    let due = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// When thing `number` (from 0) is due at `rate` a second.
#[must_use]
pub fn moment_of(number: u64, rate: u64) -> Duration {
    let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The smallest figure that at least `per_mille` of 1,000 figures do not pass (nearest rank); 0 of none. Sorts them.
#[must_use]
pub fn percentile(figures: &mut [u64], per_mille: u64) -> u64 {
    figures.sort_unstable();
    let rank = (figures.len() as u64 * per_mille).div_ceil(1_000).max(1);
    figures.get(rank as usize - 1).copied().unwrap_or(0)
}

/// Figures of one histogram, from its cumulative buckets: (upper bound in µs, how many do not pass it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Figures by bound, each counted once; `u64::MAX` is the bound of the rest.
    pub counts: BTreeMap<u64, u64>,
    /// The longest, µs.
    pub max_us: u64,
}

impl Histogram {
    /// From cumulative buckets in the order of their bounds.
    #[must_use]
    pub fn cumulative(buckets: &[(u64, u64)], max_us: u64) -> Self {
        let mut below = 0;
        let mut counts = BTreeMap::new();
        for (bound, n) in buckets {
            counts.insert(*bound, n.saturating_sub(below));
            below = *n;
        }
        Self { counts, max_us }
    }

    /// Adds those of another life of the host.
    pub fn add(&mut self, other: &Self) {
        other.counts.iter().for_each(|(bound, n)| *self.counts.entry(*bound).or_default() += n);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// An upper bound of the percentile: the bound of its bucket, or the longest where that is less. 0 of none.
    #[must_use]
    pub fn percentile_us(&self, per_mille: u64) -> u64 {
        let rank = (self.total() * per_mille).div_ceil(1_000).max(1);
        let mut below = 0;
        for (bound, n) in &self.counts {
            below += n;
            if below >= rank {
                return self.max_us.min(*bound);
            }
        }
        0
    }
}

/// What was applied by a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Since the start of the measuring.
    pub at: Duration,
    /// Changes applied in all.
    pub changes: u64,
    /// Bytes that wait to be read.
    pub lag_bytes: u64,
}

/// The lowest rate (a second) in any window of at least `window` that touches `[from, to]`; `None` where the samples do not
/// cover one.
#[must_use]
pub fn lowest_rate(samples: &[Sample], (from, to): (Duration, Duration), window: Duration) -> Option<f64> {
    let mut lowest: Option<f64> = None;
    for (n, first) in samples.iter().enumerate() {
        let Some(last) = samples[n..].iter().find(|s| s.at >= first.at + window) else { break };
        if last.at < from || first.at > to {
            continue;
        }
        let seconds = (last.at - first.at).as_secs_f64();
        let rate = last.changes.saturating_sub(first.changes) as f64 / seconds;
        lowest = Some(lowest.map_or(rate, |low| low.min(rate)));
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_has_neither_drift_nor_rounding() {
        assert_eq!(due(Duration::ZERO, 100_000), 0);
        assert_eq!(due(Duration::from_micros(10), 100_000), 1);
        assert_eq!(due(Duration::from_micros(19), 100_000), 1);
        assert_eq!(due(Duration::from_secs(3_600), 100_000), 360_000_000);
        assert_eq!(due(Duration::from_secs(1), 3), 3);
        for (number, rate) in [(0, 1), (1, 3), (2, 3), (599_999, 10_000), (7, 100_000)] {
            let at = moment_of(number, rate) + Duration::from_nanos(1);
            assert_eq!(due(at, rate), number, "{number} at {rate}");
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut figures: Vec<u64> = (1..=1_000).rev().collect();
        let found = [500, 990, 999, 1_000].map(|p| percentile(&mut figures, p));
        assert_eq!(found, [500, 990, 999, 1_000]);
        assert_eq!(percentile(&mut [7, 3], 500), 3);
        assert_eq!(percentile(&mut [7, 3], 501), 7);
        assert_eq!(percentile(&mut [7], 0), 7);
        assert_eq!(percentile(&mut [], 990), 0);
    }

    #[test]
    fn a_histogram_gives_the_bound_of_the_bucket_or_the_longest() {
        let mut histogram = Histogram::cumulative(&[(1_000, 98), (5_000, 99), (u64::MAX, 100)], 70_000);
        assert_eq!(
            [500, 980, 981, 990, 1_000].map(|p| histogram.percentile_us(p)),
            [1_000, 1_000, 5_000, 5_000, 70_000]
        );
        histogram.add(&Histogram::cumulative(&[(1_000, 900), (5_000, 900), (u64::MAX, 900)], 400));
        assert_eq!((histogram.total(), histogram.max_us), (1_000, 70_000));
        assert_eq!(histogram.percentile_us(999), 5_000);
        assert_eq!(Histogram::default().percentile_us(990), 0);
        assert_eq!(Histogram::cumulative(&[(1_000, 5)], 20).percentile_us(500), 20);
    }

    #[test]
    fn a_dip_is_the_lowest_rate_of_a_window_that_touches_the_time() {
        let sample = |ms, changes| Sample { at: Duration::from_millis(ms), changes, lag_bytes: 0 };
        let samples = [sample(0, 0), sample(100, 0), sample(600, 50), sample(1_100, 60), sample(1_600, 160)];
        let ms = Duration::from_millis;
        let rate = |from, to| lowest_rate(&samples, (ms(from), ms(to)), ms(500));
        assert_eq!(rate(700, 900), Some(20.0));
        assert_eq!(rate(0, 50), Some(50.0 / 0.6));
        assert_eq!(rate(1_200, 1_300), Some(200.0));
        assert_eq!(rate(1_700, 1_800), None);
        assert_eq!(lowest_rate(&samples[..2], (ms(0), ms(100)), ms(500)), None);
    }
}
