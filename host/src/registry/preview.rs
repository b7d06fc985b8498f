//! What a switch of label generations would change: the member bitmaps of both, compared. Reads no key; exact at the
//! view's commit when both generations are.

use super::Generation;
use super::revision::{HeldKeys, LabelPreview, Preview};
use crate::state::{SHARDS, View};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

/// What the two generations say of one label (and value) in one shard.
pub struct Compared<'a> {
    /// Label.
    pub label: &'a str,
    /// Value; `None` = the label with whatever value.
    pub value: Option<&'a str>,
    /// The shard.
    pub shard: usize,
    /// Ordinals that would get it.
    pub entered: &'a RoaringBitmap,
    /// Ordinals that would lose it.
    pub left: &'a RoaringBitmap,
}

/// The members of one label in one shard: with whatever value, and by value.
#[derive(Default)]
struct Carried {
    any: RoaringBitmap,
    by_value: BTreeMap<String, RoaringBitmap>,
}

/// Compares `old` with `new`; `take` sees every label and value of every shard.
#[must_use]
pub fn compare(
    view: &View,
    old: &Generation,
    new: &Generation,
    take: &mut dyn FnMut(&Compared<'_>),
) -> Preview {
    let mut preview = Preview {
        id: format!("{}-{}", new.revision, view.commit()),
        commit: view.commit(),
        against: old.revision,
        changed_keys: 0,
        labels: Vec::new(),
        held: HeldKeys::of(view, new.space),
        sampled: None,
    };
    let mut counts: BTreeMap<(String, Option<String>), LabelPreview> = BTreeMap::new();
    for shard in 0..SHARDS {
        let (before, after) = (carried(view, shard, old), carried(view, shard, new));
        let none = Carried::default();
        let mut changed = RoaringBitmap::new();
        let mut names: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
        names.sort_unstable();
        names.dedup();
        for label in names {
            let (was, is) = (before.get(label).unwrap_or(&none), after.get(label).unwrap_or(&none));
            let empty = RoaringBitmap::new();
            let mut values: Vec<Option<&str>> = vec![None];
            values.extend(was.by_value.keys().chain(is.by_value.keys()).map(|v| Some(v.as_str())));
            values.sort_unstable();
            values.dedup();
            for value in values {
                let of = |carried: &Carried| -> RoaringBitmap {
                    value.map_or(&carried.any, |v| carried.by_value.get(v).unwrap_or(&empty)).clone()
                };
                let (was, is) = (of(was), of(is));
                let (entered, left) = (&is - &was, &was - &is);
                changed |= &entered | &left;
                let key = (label.to_owned(), value.map(str::to_owned));
                let count = counts.entry(key).or_insert_with(|| LabelPreview {
                    label: label.to_owned(),
                    value: value.map(str::to_owned),
                    entered: 0,
                    left: 0,
                    kept: 0,
                });
                count.entered += entered.len();
                count.left += left.len();
                count.kept += was.intersection_len(&is);
                take(&Compared { label, value, shard, entered: &entered, left: &left });
            }
        }
        preview.changed_keys += changed.len();
    }
    preview.labels = counts.into_values().collect();
    preview
}

fn carried<'a>(view: &View, shard: usize, generation: &'a Generation) -> BTreeMap<&'a str, Carried> {
    let mut all = BTreeMap::new();
    for (index, label) in (0u16..).zip(&generation.labels) {
        let mut carried = Carried::default();
        let marks = u16::try_from(label.values.len().max(1)).unwrap_or(u16::MAX);
        for mark in 1..=marks {
            let Some(members) = view.members(shard, generation.space, index, mark) else { continue };
            let members = members.to_bitmap();
            carried.any |= &members;
            if let Some(value) = generation.value_name(index, mark) {
                carried.by_value.insert(value.to_owned(), members);
            }
        }
        all.insert(label.name.as_str(), carried);
    }
    all
}

/// How far `now` is from what `then` said, in percent of the keys that `then` said would enter or leave a label.
#[must_use]
#[allow(clippy::cast_precision_loss)] // a percentage
pub fn moved_percent(then: &Preview, now: &Preview) -> f64 {
    let all = |p: &Preview| -> BTreeMap<(String, Option<String>), (u64, u64)> {
        p.labels.iter().map(|l| ((l.label.clone(), l.value.clone()), (l.entered, l.left))).collect()
    };
    let (then, now) = (all(then), all(now));
    let keys: std::collections::BTreeSet<_> = then.keys().chain(now.keys()).collect();
    let of = |from: &BTreeMap<_, (u64, u64)>, key| from.get(key).copied().unwrap_or_default();
    let mut moved = 0;
    for key in keys {
        let ((e1, l1), (e2, l2)) = (of(&then, key), of(&now, key));
        moved += e1.abs_diff(e2) + l1.abs_diff(l2);
    }
    let whole: u64 = then.values().map(|(entered, left)| entered + left).sum();
    match (moved, whole) {
        (0, _) => 0.0,
        (_, 0) => f64::INFINITY,
        (moved, whole) => 100.0 * moved as f64 / whole as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(counts: &[(&str, u64, u64)]) -> Preview {
        let labels = counts.iter().map(|(label, entered, left)| LabelPreview {
            label: (*label).to_owned(),
            value: None,
            entered: *entered,
            left: *left,
            kept: 7,
        });
        Preview {
            id: "2-9".into(),
            commit: 9,
            against: 1,
            changed_keys: 0,
            labels: labels.collect(),
            held: HeldKeys::default(),
            sampled: None,
        }
    }

    #[test]
    fn moving_is_measured_against_what_was_said() {
        let then = preview(&[("a", 90, 10), ("b", 0, 100)]);
        assert_eq!(moved_percent(&then, &then), 0.0);
        assert_eq!(moved_percent(&then, &preview(&[("a", 91, 10), ("b", 0, 99)])), 1.0);
        assert_eq!(moved_percent(&then, &preview(&[("a", 90, 10)])), 50.0);
        assert_eq!(moved_percent(&preview(&[]), &then), f64::INFINITY);
    }
}
