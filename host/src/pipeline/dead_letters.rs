//! Dead letters: messages that a sink's receiver refused, as they stand in the state until somebody sends them again or drops
//! them.
//!
//! A letter is written in the commit that moves its sink's cursor past it, and taken out in one that comes after it was taken:
//! a crash neither loses nor doubles it.

use crate::label::outbox::Place;
use crate::state::{StoreError, Table, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A message that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Letter {
    /// When it was refused last, µs since 1970.
    pub time_us: i64,
    /// Status of that answer; null where there was none.
    pub status: Option<u16>,
    /// Why, in words.
    pub reason: String,
    /// How often it was given up: once, and once more for each replay.
    pub refusals: u32,
    /// The message or summary, as it was sent.
    pub message: Value,
}

/// What a delivery changes of its letters: a place, and the letter there or none.
pub type LetterChange = (Place, Option<Letter>);

/// What the keys of a sink's letters begin with.
#[must_use]
pub fn prefix(sink: &str) -> Vec<u8> {
    // The length in front keeps `a` apart from `ab`.
    let length = u32::try_from(sink.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), sink.as_bytes()].concat()
}

/// Key of a letter.
#[must_use]
pub fn key(sink: &str, place: Place) -> Vec<u8> {
    [prefix(sink).as_slice(), &place.key()].concat()
}

/// Whose letter has this key.
#[must_use]
pub fn sink_of(key: &[u8]) -> Option<&str> {
    let (length, rest) = key.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

/// Up to `limit` letters of a sink behind a place, in the order of their places.
///
/// # Errors
/// What the store says; a row that does not read.
pub fn behind(
    view: &View,
    sink: &str,
    after: Option<Place>,
    limit: usize,
) -> Result<Vec<(Place, Letter)>, StoreError> {
    let prefix = prefix(sink);
    // The least key greater than a place's is that key with a zero byte behind.
    let from = after.map_or_else(|| prefix.clone(), |place| [key(sink, place).as_slice(), &[0]].concat());
    let (mut letters, mut damaged) = (Vec::new(), false);
    view.rows(Table::DeadLetters, &from, None, &mut |key, row| {
        let Some(place) = key.strip_prefix(prefix.as_slice()) else { return false };
        let letter =
            Place::from_key(place).and_then(|place| Some((place, serde_json::from_slice(row).ok()?)));
        damaged = letter.is_none();
        letters.extend(letter);
        !damaged && letters.len() < limit
    })?;
    if damaged { Err(does_not_read()) } else { Ok(letters) }
}

/// The letter at a place.
///
/// # Errors
/// As of [`behind`].
pub fn at(view: &View, sink: &str, place: Place) -> Result<Option<Letter>, StoreError> {
    let row = view.row(Table::DeadLetters, &key(sink, place))?;
    row.map(|row| serde_json::from_slice(&row).map_err(|_| does_not_read())).transpose()
}

/// Keys of letters whose sink is none of these.
///
/// # Errors
/// What the store says.
pub(super) fn orphans(view: &View, sinks: &[String]) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut orphans = Vec::new();
    view.rows(Table::DeadLetters, &[], None, &mut |key, _| {
        if !sink_of(key).is_some_and(|sink| sinks.iter().any(|known| known == sink)) {
            orphans.push(key.to_vec());
        }
        true
    })?;
    Ok(orphans)
}

fn does_not_read() -> StoreError {
    let reason = "it is no JSON of a dead letter".into();
    StoreError::Corrupt { place: "a dead letter".into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letters_of_a_sink_stand_together_in_the_order_of_their_places() {
        let at = |sink, commit, index| key(sink, Place { commit, index });
        let keys = [at("a", 1, 2), at("a", 1, 300), at("a", 2, 0), at("b", 1, 0), at("ab", 1, 0)];
        assert!(keys.is_sorted());
        assert!(!at("ab", 1, 0).starts_with(&prefix("a")));
        assert_eq!(sink_of(&at("ab", 1, 0)), Some("ab"));
        assert_eq!((sink_of(b""), sink_of(&[0, 0, 0, 9, b'a'])), (None, None));
    }
}
