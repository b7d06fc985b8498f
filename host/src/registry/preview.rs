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
    let names = old.labels.iter().chain(&new.labels).map(|label| (label.name.as_str(), None));
    let mut counts: Counts<'_> = names.map(|key| (key, count_of(&key))).collect();
    for shard in 0..SHARDS {
        let (before, after) = (carried(view, shard, old), carried(view, shard, new));
        preview.changed_keys += compare_shard(shard, (&before, &after), &mut counts, take);
    }
    preview.labels = counts.into_values().collect();
    preview
}

/// What is counted, by label and value.
type Counts<'a> = BTreeMap<(&'a str, Option<&'a str>), LabelPreview>;

fn count_of((label, value): &(&str, Option<&str>)) -> LabelPreview {
    LabelPreview { label: (*label).to_owned(), value: value.map(str::to_owned), ..LabelPreview::default() }
}

/// Compares one shard, chunk by chunk; how many of its keys change.
fn compare_shard<'a>(
    shard: usize,
    (before, after): (&Carried<'a>, &Carried<'a>),
    counts: &mut Counts<'a>,
    take: &mut dyn FnMut(&Compared<'_>),
) -> u64 {
    let all = || before.iter().chain(after);
    let highs: BTreeSet<u16> =
        all().flat_map(|(_, of)| of).flat_map(|(_, members)| members.highs()).collect();
    let whatever = all().map(|(label, _)| (*label, None));
    let by_value = all().flat_map(|(label, of)| of.iter().map(move |(value, _)| (*label, *value)));
    let keys: BTreeSet<(&str, Option<&str>)> = whatever.chain(by_value).collect();
    let mut changed_keys = 0;
    for high in highs {
        let mut changed = RoaringBitmap::new();
        for key in &keys {
            let (was, is) = (chunk(before, *key, high), chunk(after, *key, high));
            let count = counts.entry(*key).or_insert_with_key(count_of);
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
            let ((label, value), base) = (*key, u32::from(high) << 16);
            take(&Compared { label, value, shard, base, entered: &entered, left: &left });
        }
        changed_keys += changed.len();
    }
    changed_keys
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Ordinals of more than one chunk, a flag and a label with values, against sets.
    #[test]
    fn shards_are_compared_over_all_their_chunks() {
        let of = |ordinals: &[u32]| Arc::new(Members::of(ordinals));
        let side = |paid: &[u32], gold: &[u32], silver: &[u32]| {
            let tier = vec![(Some("gold"), of(gold)), (Some("silver"), of(silver))];
            Carried::from([("paid", vec![(None, of(paid))]), ("tier", tier)])
        };
        let before = side(&[1, 70_000, 200_000], &[5, 65_536], &[6]);
        let after = side(&[1, 70_001, 200_000], &[5], &[6, 65_536, 131_073]);
        let (mut counts, mut seen) = (Counts::new(), BTreeMap::new());
        let changed = compare_shard(3, (&before, &after), &mut counts, &mut |c| {
            assert_eq!(c.shard, 3);
            let of = |ordinals: &RoaringBitmap| ordinals.iter().map(|o| c.base + o).collect::<Vec<_>>();
            let found: &mut [Vec<u32>; 2] =
                seen.entry((c.label.to_owned(), c.value.map(str::to_owned))).or_default();
            found[0].extend(of(c.entered));
            found[1].extend(of(c.left));
        });
        assert_eq!(changed, 4, "70,000, 70,001, 65,536 and 131,073");
        let seen = |label: &str, value: Option<&str>| {
            seen.get(&(label.to_owned(), value.map(str::to_owned))).cloned().unwrap_or_default()
        };
        assert_eq!(seen("paid", None), [vec![70_001], vec![70_000]]);
        assert_eq!(seen("tier", None), [vec![131_073], vec![]]);
        assert_eq!(seen("tier", Some("gold")), [vec![], vec![65_536]]);
        assert_eq!(seen("tier", Some("silver")), [vec![65_536, 131_073], vec![]]);
        let count = |label, value| counts.get(&(label, value)).map(|c| (c.entered, c.left, c.kept));
        assert_eq!(count("paid", None), Some((1, 1, 2)));
        assert_eq!(count("tier", None), Some((1, 0, 3)));
        assert_eq!(count("tier", Some("gold")), Some((0, 1, 1)));
        assert_eq!(count("tier", Some("silver")), Some((2, 0, 1)));
    }
}
