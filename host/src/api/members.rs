//! Who carries a label: count, list and sample from the bitmaps that every commit keeps; only listed keys are read.
//!
//! Lists go by value, shard and ordinal. Ordinals are never given out twice, so a cursor stays good over commits: going on
//! from it misses no key that carried the label all along and repeats none.

use super::error::ApiError;
use super::reader::{LiveLabel, Reader};
use crate::registry::{ERROR, Entity, NO_SPACE, OVERFLOW, PENDING, STATUS_INDEX};
use crate::state::{Members as Bitmap, SHARDS, split_entity_key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most keys in one answer.
pub const LIMIT_MAX: usize = 10_000;

/// How many carry a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// Label.
    pub label: String,
    /// What its keys identify.
    pub entity: String,
    /// Rule that gives it.
    pub rule: String,
    /// Its revision.
    pub revision: u32,
    /// Commit of the answer.
    pub commit: u64,
    /// Engine time of the commit, RFC 3339.
    pub time: String,
    /// Keys that carry it (with the value asked for).
    pub count: u64,
    /// The same by value; empty for a flag.
    pub values: BTreeMap<String, u64>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// The key as text.
    pub key: String,
    /// Name of the value; null for a flag.
    pub value: Option<String>,
}

/// Some who carry a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Members {
    /// Label; for held keys the rule and `pending` or `error`.
    pub label: String,
    /// What its keys identify.
    pub entity: String,
    /// Commit of the answer.
    pub commit: u64,
    /// Engine time of the commit, RFC 3339.
    pub time: String,
    /// How many there are in all (with the value asked for).
    pub count: u64,
    /// The members.
    pub members: Vec<Member>,
    /// Where to go on; none = these were the last.
    pub next: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Only with this value.
    pub value: Option<String>,
    /// Most members in the answer.
    pub limit: usize,
    /// Behind this cursor.
    pub cursor: Option<String>,
}

/// Marks of one index of one generation.
struct Marks<'a> {
    reader: &'a Reader,
    entity: &'a Entity,
    space: u32,
    index: u16,
    marks: Vec<u16>,
}

/// A mark, and a key that carries it as text.
type Marked = (u16, String);

/// Place behind a member: index in the generation, mark, shard and ordinal. Text: `SPACE-INDEX-MARK-SHARD-ORDINAL`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    mark: u16,
    shard: usize,
    ordinal: u32,
}

/// Counts the members of a label; reads no keys.
///
/// # Errors
/// An unknown label or value.
pub fn count(reader: &Reader, label: &str, value: Option<&str>) -> Result<Count, ApiError> {
    let found = reader.label(label)?;
    let marks = marks_of(reader, label, value)?;
    let named = |mark: &u16| {
        let name = found.generation.value_name(found.index, *mark)?;
        Some((name.to_owned(), reader.view.count(marks.space, marks.index, *mark)))
    };
    Ok(Count {
        label: label.to_owned(),
        entity: found.entity.name.clone(),
        rule: found.generation.rule.clone(),
        revision: found.generation.revision,
        commit: reader.commit(),
        time: reader.time(),
        count: marks.count(),
        values: marks.marks.iter().filter_map(named).collect(),
    })
}

/// Lists members of a label.
///
/// # Errors
/// An unknown label or value, a cursor of another list, what the store says.
pub fn list(reader: &Reader, label: &str, page: &Page) -> Result<Members, ApiError> {
    let found = reader.label(label)?;
    let (members, next) = marks_of(reader, label, page.value.as_deref())?.page(page)?;
    Ok(answer(reader, &found, label, page.value.as_deref(), named(&found, members), next))
}

/// `size` members chosen at random; the same `seed` at the same commit chooses the same.
///
/// # Errors
/// An unknown label or value, what the store says.
pub fn sample(
    reader: &Reader,
    label: &str,
    value: Option<&str>,
    size: usize,
    seed: u64,
) -> Result<Members, ApiError> {
    let found = reader.label(label)?;
    let members = marks_of(reader, label, value)?.sample(size.min(LIMIT_MAX), seed)?;
    Ok(answer(reader, &found, label, value, named(&found, members), None))
}

/// Keys whose labels a rule holds: `pending`, `error` or `overflow`.
///
/// # Errors
/// An unknown rule, a cursor of another list, what the store says.
pub fn held(reader: &Reader, rule: &str, status: &str, page: &Page) -> Result<Members, ApiError> {
    let namespace = reader.namespace(rule)?;
    let Some((_, entity)) = reader.registry.entity_of(namespace.space) else {
        return Err(ApiError::Damaged("the entity of a rule"));
    };
    // Before a rule is live nothing is held.
    let space = reader.registry.live(rule).map_or(NO_SPACE, |g| g.space);
    let mark = match status {
        "pending" => PENDING,
        "error" => ERROR,
        "overflow" => OVERFLOW,
        other => {
            let expected = "pending, error or overflow is expected";
            return Err(ApiError::BadRequest(format!("status `{other}`: {expected}")));
        }
    };
    let marks = Marks { reader, entity, space, index: STATUS_INDEX, marks: vec![mark] };
    let (members, next) = marks.page(page)?;
    Ok(Members {
        label: format!("{rule}:{status}"),
        entity: entity.name.clone(),
        commit: reader.commit(),
        time: reader.time(),
        count: marks.count(),
        members: members.into_iter().map(|(_, key)| Member { key, value: None }).collect(),
        next,
    })
}

fn answer(
    reader: &Reader,
    found: &LiveLabel<'_>,
    label: &str,
    value: Option<&str>,
    members: Vec<Member>,
    next: Option<String>,
) -> Members {
    Members {
        label: label.to_owned(),
        entity: found.entity.name.clone(),
        commit: reader.commit(),
        time: reader.time(),
        count: marks_of(reader, label, value).map_or(0, |marks| marks.count()),
        members,
        next,
    }
}

fn named(found: &LiveLabel<'_>, members: Vec<Marked>) -> Vec<Member> {
    let value = |mark| found.generation.value_name(found.index, mark).map(str::to_owned);
    members.into_iter().map(|(mark, key)| Member { key, value: value(mark) }).collect()
}

/// The marks of a label: all, or the one of a value.
fn marks_of<'a>(reader: &'a Reader, label: &str, value: Option<&str>) -> Result<Marks<'a>, ApiError> {
    let LiveLabel { generation, index, entity } = reader.label(label)?;
    let values = generation.labels.get(usize::from(index)).map_or(&[][..], |names| &names.values);
    let unknown = |value: &str| ApiError::UnknownValue {
        label: label.to_owned(),
        value: value.to_owned(),
        known: if values.is_empty() { "it has none".into() } else { format!("it has {}", values.join(", ")) },
    };
    let marks = match value {
        // A flag is mark 1, as is the first value.
        None => (1..=u16::try_from(values.len().max(1)).unwrap_or(u16::MAX)).collect(),
        Some(value) => {
            let at = values.iter().position(|v| v == value).ok_or_else(|| unknown(value))?;
            vec![u16::try_from(at + 1).unwrap_or(u16::MAX)]
        }
    };
    Ok(Marks { reader, entity, space: generation.space, index, marks })
}

impl Marks<'_> {
    fn count(&self) -> u64 {
        self.marks.iter().map(|mark| self.reader.view.count(self.space, self.index, *mark)).sum()
    }

    /// Bitmaps by mark and shard, from `from` on.
    fn bitmaps(&self, from: Option<Cursor>) -> impl Iterator<Item = (u16, usize, Arc<Bitmap>)> + '_ {
        let first = from.map(|c| (c.mark, c.shard));
        let places = self.marks.iter().flat_map(|mark| (0..SHARDS).map(move |shard| (*mark, shard)));
        places.filter(move |place| first.is_none_or(|first| *place >= first)).filter_map(|(mark, shard)| {
            Some((mark, shard, self.reader.view.members(shard, self.space, self.index, mark)?))
        })
    }

    /// Members with their marks, and the cursor to go on from.
    fn page(&self, page: &Page) -> Result<(Vec<Marked>, Option<String>), ApiError> {
        let from = page.cursor.as_deref().map(|text| self.parse(text)).transpose()?;
        let mut members = Vec::new();
        let mut last = None;
        for (mark, shard, bitmap) in self.bitmaps(from) {
            for ordinal in bitmap.iter() {
                let place = Cursor { mark, shard, ordinal };
                if from.is_some_and(|from| place <= from) {
                    continue;
                }
                if members.len() == page.limit {
                    return Ok((members, last.map(|place| self.text(place))));
                }
                members.push((mark, self.key(shard, ordinal)?));
                last = Some(place);
            }
        }
        Ok((members, None))
    }

    fn sample(&self, size: usize, seed: u64) -> Result<Vec<Marked>, ApiError> {
        let total = self.count();
        let wanted = u64::try_from(size).unwrap_or(u64::MAX).min(total);
        // Floyd's sampling without repetition: as many draws as members are wanted.
        let mut ranks = BTreeSet::new();
        let mut random = seed;
        for top in total - wanted..total {
            let drawn = below(&mut random, top + 1);
            if !ranks.insert(drawn) {
                ranks.insert(top);
            }
        }
        let mut ranks = ranks.into_iter().peekable();
        let (mut members, mut before) = (Vec::new(), 0);
        for (mark, shard, bitmap) in self.bitmaps(None) {
            let behind = before + bitmap.len();
            if ranks.peek().is_some_and(|rank| *rank < behind) {
                for (rank, ordinal) in (before..).zip(bitmap.iter()) {
                    if ranks.next_if_eq(&rank).is_some() {
                        members.push((mark, self.key(shard, ordinal)?));
                    }
                }
            }
            before = behind;
        }
        Ok(members)
    }

    fn key(&self, shard: usize, ordinal: u32) -> Result<String, ApiError> {
        let state_key = self.reader.view.key_of(shard, ordinal)?;
        let key = state_key.as_deref().and_then(split_entity_key);
        let (_, key) = key.ok_or(ApiError::Damaged("the key of a member"))?;
        Ok(self.entity.key.text(key))
    }

    fn text(&self, place: Cursor) -> String {
        format!("{}-{}-{}-{}-{}", self.space, self.index, place.mark, place.shard, place.ordinal)
    }

    fn parse(&self, text: &str) -> Result<Cursor, ApiError> {
        let read = || {
            let mut parts = text.split('-');
            let (space, index): (u32, u16) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let mark = parts.next()?.parse().ok().filter(|mark| self.marks.contains(mark))?;
            let shard = parts.next()?.parse().ok().filter(|shard| *shard < SHARDS)?;
            let ordinal = parts.next()?.parse().ok()?;
            let same = (space, index) == (self.space, self.index) && parts.next().is_none();
            same.then_some(Cursor { mark, shard, ordinal })
        };
        read().ok_or_else(|| ApiError::BadCursor { cursor: text.chars().take(80).collect() })
    }
}

/// A number below `bound`, and the next state. Source: splitmix64, S. Vigna; the bias of the remainder is below 2^-30
/// for any number of members.
fn below(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % bound.max(1)
}
