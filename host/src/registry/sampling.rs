//! How much a count over some of the keys says of all of them.

use super::revision::{Estimate, HeldKeys, LabelPreview, LabelSpan, Sampling};
use std::collections::BTreeMap;

/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// `hits` of `looked_at` things, taken by chance from `all`: how many of all there are, and bounds that hold the truth in 95 of
/// 100 cases. Wilson's interval of a share, with the sample as large as the finite population makes it count.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an estimate
pub fn estimate(hits: u64, looked_at: u64, all: u64) -> Estimate {
    if looked_at == 0 {
        return Estimate { about: 0, from: 0, to: all };
    }
    if looked_at >= all {
        return Estimate { about: hits, from: hits, to: hits };
    }
    let (h, m, n) = (hits as f64, looked_at as f64, all as f64);
    let share = h / m;
    let counts_as = m * (n - 1.0) / (n - m);
    let middle = share + Z * Z / (2.0 * counts_as);
    let reach = Z * (share * (1.0 - share) / counts_as + Z * Z / (4.0 * counts_as * counts_as)).sqrt();
    let scale = n / (1.0 + Z * Z / counts_as);
    // What was seen is there, and what was seen otherwise is not.
    let most = all - (looked_at - hits);
    Estimate {
        about: (share * n).round() as u64,
        from: (((middle - reach) * scale).floor().max(0.0) as u64).clamp(hits, most),
        to: (((middle + reach) * scale).ceil() as u64).clamp(hits, most),
    }
}

/// Counts over the keys that were looked at.
#[derive(Debug, Default)]
pub struct Tally {
    /// Places of keys looked at, empty ones too.
    pub looked_at: u64,
    /// Those of them whose labels are held.
    pub held: HeldKeys,
    changed: u64,
    labels: BTreeMap<(String, Option<String>), [u64; 3]>,
}

/// Labels of a key: each with its value, where it has values.
pub type Carried = BTreeMap<String, Option<String>>;

impl Tally {
    /// A label is there, with these values: what none of the keys carries has bounds all the same.
    pub fn know(&mut self, label: &str, values: &[String]) {
        for value in std::iter::once(None).chain(values.iter().cloned().map(Some)) {
            self.labels.entry((label.to_owned(), value)).or_default();
        }
    }

    /// Adds a key with its labels on both sides. Says whether they differ.
    pub fn add(&mut self, before: &Carried, after: &Carried) -> bool {
        let pairs = |of: &Carried| -> Vec<(String, Option<String>)> {
            let value = of.iter().filter(|(_, v)| v.is_some()).map(|(l, v)| (l.clone(), v.clone()));
            of.keys().map(|l| (l.clone(), None)).chain(value).collect()
        };
        let (was, is) = (pairs(before), pairs(after));
        for pair in &is {
            let at = if was.contains(pair) { 2 } else { 0 };
            self.count(pair, at);
        }
        for pair in was.iter().filter(|pair| !is.contains(pair)) {
            self.count(pair, 1);
        }
        let differs = before != after;
        self.changed += u64::from(differs);
        differs
    }

    fn count(&mut self, pair: &(String, Option<String>), at: usize) {
        if let Some(n) = self.labels.entry(pair.clone()).or_default().get_mut(at) {
            *n += 1;
        }
    }

    /// Held keys of all places, of which there are `all`.
    #[must_use]
    pub fn held_of_all(&self, all: u64) -> HeldKeys {
        let of = |hits| estimate(hits, self.looked_at, all).about;
        let HeldKeys { pending, error, overflow } = self.held;
        HeldKeys { pending: of(pending), error: of(error), overflow: of(overflow) }
    }

    /// The labels of all places, of which there are `all`.
    #[must_use]
    pub fn of_all(&self, all: u64) -> (u64, Vec<LabelPreview>, Sampling) {
        let of = |hits| estimate(hits, self.looked_at, all);
        let changed = of(self.changed);
        let (mut labels, mut spans) = (Vec::new(), Vec::new());
        for ((label, value), [entered, left, kept]) in &self.labels {
            let [entered, left, kept] = [of(*entered), of(*left), of(*kept)];
            let (label, value) = (label.clone(), value.clone());
            let span = LabelSpan { label: label.clone(), value: value.clone(), entered, left, kept };
            spans.push(span);
            labels.push(LabelPreview {
                label,
                value,
                entered: entered.about,
                left: left.about,
                kept: kept.about,
            });
        }
        (changed.about, labels, Sampling { keys: self.looked_at, of: all, changed, labels: spans })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_looked_at_is_exact_and_nothing_says_nothing() {
        assert_eq!(estimate(3, 10, 10), Estimate { about: 3, from: 3, to: 3 });
        assert_eq!(estimate(0, 0, 10), Estimate { about: 0, from: 0, to: 10 });
        let none = estimate(0, 1000, 1_000_000);
        assert!(none.about == 0 && none.from == 0 && (3_000..5_000).contains(&none.to), "{none:?}");
        let all = estimate(1000, 1000, 1_000_000);
        assert!(all.to == 1_000_000 && all.from > 995_000, "{all:?}");
    }

    #[test]
    fn the_truth_lies_inside_as_often_as_it_should() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for (all, hits, looked_at) in
            [(5_000, 500, 400), (5_000, 40, 1000), (100_000, 50_000, 300), (700, 350, 600)]
        {
            let mut inside = 0;
            for _ in 0..1000 {
                // Drawn without putting back.
                let (mut left, mut good, mut found) = (all, hits, 0);
                for _ in 0..looked_at {
                    let hit = random(left) < good;
                    (left, good, found) = (left - 1, good - u64::from(hit), found + u64::from(hit));
                }
                let of = estimate(found, looked_at, all);
                inside += u32::from((of.from..=of.to).contains(&hits));
            }
            assert!(inside >= 930, "{inside} of 1000 for {hits} of {all}, {looked_at} looked at");
        }
    }

    #[test]
    fn values_count_beside_their_label() {
        let carried = |list: &[(&str, Option<&str>)]| -> Carried {
            list.iter().map(|(l, v)| ((*l).to_owned(), v.map(str::to_owned))).collect()
        };
        let mut tally = Tally { looked_at: 2, ..Tally::default() };
        assert!(
            tally.add(
                &carried(&[("tier", Some("gold"))]),
                &carried(&[("tier", Some("silver")), ("big", None)])
            )
        );
        assert!(!tally.add(&carried(&[("big", None)]), &carried(&[("big", None)])));
        let (changed, labels, _) = tally.of_all(2);
        let found: Vec<_> = labels
            .iter()
            .map(|l| (l.label.as_str(), l.value.as_deref(), [l.entered, l.left, l.kept]))
            .collect();
        let expect = [
            ("big", None, [1, 0, 1]),
            ("tier", None, [0, 0, 1]),
            ("tier", Some("gold"), [0, 1, 0]),
            ("tier", Some("silver"), [1, 0, 0]),
        ];
        assert_eq!((changed, found), (1, expect.to_vec()));
    }
}
