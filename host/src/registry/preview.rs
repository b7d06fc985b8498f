//! What a switch of label generations would change: the member bitmaps of both, compared. Reads no key; exact at the
//! view's commit when both generations are.

use super::Generation;
use super::revision::{HeldKeys, LabelPreview, Preview};
use crate::state::{Members, SHARDS, View};
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the two generations say of one label (and value) among some of a shard's keys.
pub struct Compared<'a> {
    /// Label.
    pub label: &'a str,
    /// Value; `None` = the label with whatever value.
    pub value: Option<&'a str>,
    /// The shard.
    pub shard: usize,
    /// To be added to these ordinals.
    pub base: u32,
    /// Ordinals that would get it.
    pub entered: &'a RoaringBitmap,
    /// Ordinals that would lose it.
    pub left: &'a RoaringBitmap,
}

/// Who carries a label in one shard: by value, which a flag has none of.
type Carried<'a> = BTreeMap<&'a str, Vec<(Option<&'a str>, Arc<Members>)>>;

/// Compares `old` with `new`; `take` sees every label and value that somebody would get or lose.
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
    let count_of = |(label, value): (&str, Option<&str>)| LabelPreview {
        label: label.to_owned(),
        value: value.map(str::to_owned),
        ..LabelPreview::default()
    };
    let names: BTreeSet<&str> = old.labels.iter().chain(&new.labels).map(|l| l.name.as_str()).collect();
    let mut counts: BTreeMap<(&str, Option<&str>), LabelPreview> =
        names.iter().map(|label| ((*label, None), count_of((label, None)))).collect();
    for shard in 0..SHARDS {
        let (before, after) = (carried(view, shard, old), carried(view, shard, new));
        let all = || before.values().chain(after.values()).flatten();
        let highs: BTreeSet<u16> = all().flat_map(|(_, members)| members.highs()).collect();
        for high in highs {
            let mut changed = RoaringBitmap::new();
            for label in &names {
                let of_label = || before.get(label).into_iter().chain(after.get(label)).flatten();
                let values: BTreeSet<Option<&str>> =
                    of_label().map(|(value, _)| *value).chain([None]).collect();
                for value in values {
                    let (was, is) =
                        (chunk(&before, (label, value), high), chunk(&after, (label, value), high));
                    let count = counts.entry((label, value)).or_insert_with_key(|key| count_of(*key));
                    if was == is {
                        count.kept += was.len();
                        continue; // most labels of most revisions
                    }
                    let (entered, left) = (&*is - &*was, &*was - &*is);
                    count.entered += entered.len();
                    count.left += left.len();
                    count.kept += is.len() - entered.len();
                    changed |= &entered;
                    changed |= &left;
                    let base = u32::from(high) << 16;
                    take(&Compared { label, value, shard, base, entered: &entered, left: &left });
                }
            }
            preview.changed_keys += changed.len();
        }
    }
    preview.labels = counts.into_values().collect();
    preview
}

fn carried<'a>(view: &View, shard: usize, generation: &'a Generation) -> Carried<'a> {
    let mut all = Carried::new();
    for (index, label) in (0u16..).zip(&generation.labels) {
        let of_label = all.entry(label.name.as_str()).or_default();
        let marks = u16::try_from(label.values.len().max(1)).unwrap_or(u16::MAX);
        for mark in 1..=marks {
            let members = view.members(shard, generation.space, index, mark);
            of_label.extend(members.map(|members| (generation.value_name(index, mark), members)));
        }
    }
    all
}

/// Who carries a label with this value, or with whatever value, in one chunk.
fn chunk<'a>(
    carried: &'a Carried<'_>,
    (label, value): (&str, Option<&str>),
    high: u16,
) -> Cow<'a, RoaringBitmap> {
    let of_label = carried.get(label).map_or(&[][..], |of| of);
    let wanted = of_label.iter().filter(|(of, _)| value.is_none() || *of == value);
    let mut chunks = wanted.filter_map(|(_, members)| members.chunk(high));
    let Some(first) = chunks.next() else { return Cow::Owned(RoaringBitmap::new()) };
    chunks.fold(Cow::Borrowed(first), |all, more| Cow::Owned(&*all | more))
}

/// How far `now` is from what `then` said, in percent of the keys that `then` said would enter or leave a label.
#[must_use]
#[allow(clippy::cast_precision_loss)] // a percentage
pub fn moved_percent(then: &Preview, now: &Preview) -> f64 {
    let all = |p: &Preview| -> BTreeMap<(String, Option<String>), (u64, u64)> {
        p.labels.iter().map(|l| ((l.label.clone(), l.value.clone()), (l.entered, l.left))).collect()
    };
    let (then, now) = (all(then), all(now));
    let keys: BTreeSet<_> = then.keys().chain(now.keys()).collect();
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
