//! Who a preview said would get or lose a label: kept beside the preview, so that an activation can tell how many of its keys
//! are others by now.
//!
//! A row of the `Meta` table per shard in which anything moves, `moves/RULE/PREVIEW/` and the shard's number:
//! for each label and value a flag (1 = with a value), label, value, and the ordinals that enter and leave as bitmaps.
//! Ordinals are never given to another key.

use super::preview::Compared;
use super::refusal::Refusal;
use crate::state::{Malformed, Reader, SHARDS, Table, View, put_bytes};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

const PREFIX: &[u8] = b"moves/";

/// Who enters and who leaves, by label and value (`None` = whatever value).
type Shard = BTreeMap<(String, Option<String>), [RoaringBitmap; 2]>;

/// Who would get or lose which label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moves {
    shards: BTreeMap<usize, Shard>,
}

/// Keys that enter or leave a label, each counted per label and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Distance {
    /// Those of the preview.
    pub(super) whole: u64,
    /// Those that are in one of the two alone.
    pub(super) moved: u64,
}

impl Distance {
    #[allow(clippy::cast_precision_loss)] // a percentage
    pub(super) fn percent(self) -> f64 {
        match (self.moved, self.whole) {
            (0, _) => 0.0,
            (_, 0) => f64::INFINITY,
            (moved, whole) => 100.0 * moved as f64 / whole as f64,
        }
    }
}

impl Moves {
    /// Adds what a comparison found; chunks of a shard come in order.
    pub fn add(&mut self, found: &Compared<'_>) {
        let of_shard = self.shards.entry(found.shard).or_default();
        let sides = of_shard.entry((found.label.to_owned(), found.value.map(str::to_owned))).or_default();
        for (side, ordinals) in sides.iter_mut().zip([found.entered, found.left]) {
            side.extend(ordinals.iter().map(|ordinal| found.base + ordinal));
        }
    }

    /// Rows that keep it.
    pub(super) fn rows(&self, rule: &str, preview: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.shards.iter().map(move |(shard, moves)| (key(rule, preview, *shard), encode(moves)))
    }

    /// Keys of all the rows that may be there.
    pub(super) fn keys(rule: &str, preview: &str) -> Vec<Vec<u8>> {
        (0..SHARDS).map(|shard| key(rule, preview, shard)).collect()
    }

    /// How far it is from what a preview said.
    pub(super) fn distance(&self, view: &View, rule: &str, preview: &str) -> Result<Distance, Refusal> {
        let (mut distance, nobody) = (Distance { whole: 0, moved: 0 }, Shard::new());
        for shard in 0..SHARDS {
            let then = match view.row(Table::Meta, &key(rule, preview, shard))? {
                Some(row) => decode(&row).map_err(|Malformed(what)| {
                    Refusal::Internal(format!(
                        "what preview {preview} of {rule} keeps cannot be read: {what}"
                    ))
                })?,
                None => Shard::new(),
            };
            let now = self.shards.get(&shard).unwrap_or(&nobody);
            distance.whole += then.values().flatten().map(RoaringBitmap::len).sum::<u64>();
            distance.moved += differ(&then, now);
        }
        Ok(distance)
    }
}

fn key(rule: &str, preview: &str, shard: usize) -> Vec<u8> {
    let shard = u8::try_from(shard).unwrap_or(u8::MAX); // there are 64
    [PREFIX, rule.as_bytes(), b"/", preview.as_bytes(), b"/", &[shard]].concat()
}

fn differ(then: &Shard, now: &Shard) -> u64 {
    let nobody = <[RoaringBitmap; 2]>::default();
    let of_then = then.iter().map(|(key, was)| (was, now.get(key).unwrap_or(&nobody)));
    let new = now.iter().filter(|(key, _)| !then.contains_key(*key)).map(|(_, is)| (&nobody, is));
    of_then.chain(new).flat_map(|(was, is)| was.iter().zip(is)).map(|(was, is)| (was ^ is).len()).sum()
}

fn encode(moves: &Shard) -> Vec<u8> {
    let mut row = Vec::new();
    for ((label, value), sides) in moves {
        row.push(u8::from(value.is_some()));
        put_bytes(&mut row, label.as_bytes());
        put_bytes(&mut row, value.as_deref().unwrap_or_default().as_bytes());
        for side in sides {
            let mut bytes = Vec::with_capacity(side.serialized_size());
            let _ = side.serialize_into(&mut bytes); // a vector takes all
            put_bytes(&mut row, &bytes);
        }
    }
    row
}

fn decode(row: &[u8]) -> Result<Shard, Malformed> {
    let (mut reader, mut moves) = (Reader::new(row), Shard::new());
    while !reader.is_empty() {
        let has_value = reader.u8()? != 0;
        let mut text = || -> Result<String, Malformed> {
            let text = std::str::from_utf8(reader.bytes()?).map_err(|_| Malformed("not UTF-8"))?;
            Ok(text.to_owned())
        };
        let (label, value) = (text()?, text()?);
        let mut side =
            || RoaringBitmap::deserialize_from(reader.bytes()?).map_err(|_| Malformed("not a bitmap"));
        let sides = [side()?, side()?];
        moves.insert((label, has_value.then_some(value)), sides);
    }
    Ok(moves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// (shard, label, value, enters, ordinal), small so that they meet.
    type Move = (usize, u8, Option<u8>, bool, u32);

    fn moves(of: &[Move]) -> Moves {
        let (mut moves, mut sorted) = (Moves::default(), of.to_vec());
        sorted.sort_by_key(|m| m.4);
        for (shard, label, value, enters, ordinal) in sorted {
            let (one, none) = (RoaringBitmap::from([ordinal & 0xffff]), RoaringBitmap::new());
            let (entered, left) = if enters { (&one, &none) } else { (&none, &one) };
            let (label, value) = (label.to_string(), value.map(|v| v.to_string()));
            let (label, value) = (label.as_str(), value.as_deref());
            moves.add(&Compared { label, value, shard, base: ordinal & !0xffff, entered, left });
        }
        moves
    }

    fn some() -> impl Strategy<Value = Vec<Move>> {
        let one = (0..3usize, 0..2u8, proptest::option::of(0..2u8), any::<bool>(), 65_530..65_542u32);
        proptest::collection::vec(one, 0..40)
    }

    proptest! {
        /// What is kept is what was found, and what differs is the keys that are in one of the two.
        #[test]
        fn the_distance_is_that_of_sets(then in some(), now in some()) {
            let kept = moves(&then);
            for of_shard in kept.shards.values() {
                prop_assert_eq!(&decode(&encode(of_shard)).unwrap(), of_shard);
            }
            let (a, b): (std::collections::BTreeSet<_>, std::collections::BTreeSet<_>) =
                (then.into_iter().collect(), now.iter().copied().collect());
            let (now, none) = (moves(&now), Shard::new());
            let of = |m: &Moves, shard: usize| m.shards.get(&shard).unwrap_or(&none).clone();
            let moved: u64 = (0..3).map(|s| differ(&of(&kept, s), &of(&now, s))).sum();
            prop_assert_eq!(moved, a.symmetric_difference(&b).count() as u64);
        }
    }

    #[test]
    fn a_row_that_is_cut_off_is_said() {
        let of_shard = moves(&[(0, 1, Some(1), true, 7)]).shards.remove(&0).unwrap();
        let row = encode(&of_shard);
        for end in 1..row.len() {
            assert!(decode(&row[..end]).is_err(), "{end}");
        }
    }
}
