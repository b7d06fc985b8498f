//! Row images that a rule refused, as they stand in the state: listed oldest first, shown by their id.

use super::error::ApiError;
use super::reader::Reader;
use crate::label::outbox::Place;
use crate::pipeline::rows::{TOTALS, Totals};
use crate::state::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most entries in one answer.
pub const LIMIT_MAX: usize = 1_000;
/// Most entries looked at for one answer; where the filter leaves few, the cursor leads on.
const LOOKED_AT_MAX: usize = 100_000;

/// An entry: its id, then what was stored of it (rule, code, message, table, source, partition, position, image).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedImage {
    /// `COMMIT-INDEX`.
    pub id: String,
    /// The rest.
    #[serde(flatten)]
    pub image: Map<String, Value>,
}

/// Some entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BadImages {
    /// Commit of the answer.
    pub commit: u64,
    /// Images refused since the state was made; of many in one commit only the first are kept as entries.
    pub bad_images: u64,
    /// The entries.
    pub entries: Vec<ListedImage>,
    /// Where to go on; none = these were the last.
    pub next: Option<String>,
}

/// Lists entries behind `cursor`, of one rule or all.
///
/// # Errors
/// A cursor that is no id, entries that do not read, what the store says.
pub fn list(
    reader: &Reader,
    rule: Option<&str>,
    limit: usize,
    cursor: Option<&str>,
) -> Result<BadImages, ApiError> {
    let bad = |text: &str| ApiError::BadCursor { cursor: text.chars().take(80).collect() };
    let from = cursor.map(|text| parse(text).ok_or_else(|| bad(text))).transpose()?;
    // The least key greater than the cursor's is that key with a zero byte behind.
    let from = from.map_or_else(Vec::new, |place| [&place.key()[..], &[0]].concat());
    let limit = limit.clamp(1, LIMIT_MAX);
    let (mut entries, mut last, mut looked_at) = (Vec::new(), None, 0);
    let mut next = None;
    let mut damaged = false;
    reader.view.rows(Table::Quarantine, &from, None, &mut |key, row| {
        if entries.len() == limit || looked_at == LOOKED_AT_MAX {
            next = last.map(text);
            return false;
        }
        let Some((place, entry)) = Place::from_key(key).and_then(|place| Some((place, read(place, row)?)))
        else {
            damaged = true;
            return false;
        };
        looked_at += 1;
        last = Some(place);
        if rule.is_none_or(|rule| entry.image.get("rule").and_then(Value::as_str) == Some(rule)) {
            entries.push(entry);
        }
        true
    })?;
    if damaged {
        return Err(ApiError::Damaged("an entry of the quarantine"));
    }
    let totals: Option<Totals> = reader.fact(TOTALS, "the row of totals")?;
    let bad_images = totals.unwrap_or_default().bad_images;
    Ok(BadImages { commit: reader.commit(), bad_images, entries, next })
}

/// The entry of that id.
///
/// # Errors
/// No such entry, one that does not read, what the store says.
pub fn show(reader: &Reader, id: &str) -> Result<ListedImage, ApiError> {
    let unknown = || ApiError::UnknownEntry { id: id.chars().take(80).collect() };
    let place = parse(id).ok_or_else(unknown)?;
    let row = reader.view.row(Table::Quarantine, &place.key())?.ok_or_else(unknown)?;
    read(place, &row).ok_or(ApiError::Damaged("an entry of the quarantine"))
}

fn text(place: Place) -> String {
    format!("{}-{}", place.commit, place.index)
}

fn parse(id: &str) -> Option<Place> {
    let (commit, index) = id.split_once('-')?;
    Some(Place { commit: commit.parse().ok()?, index: index.parse().ok()? })
}

fn read(place: Place, row: &[u8]) -> Option<ListedImage> {
    Some(ListedImage { id: text(place), image: serde_json::from_slice(row).ok()? })
}
