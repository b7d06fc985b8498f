//! Row images that a rule refused, as they stand in the state: listed by age, shown by their id. Values of rows are
//! masked unless they are asked for.

use super::error::ApiError;
use super::reader::Reader;
use crate::label::outbox::Place;
use crate::pipeline::rows::Totals;
use crate::state::{StoreError, Table};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most entries in one answer.
pub const LIMIT_MAX: usize = 1_000;
/// Most entries looked at for one answer; where the filter leaves few, the cursor leads on.
const LOOKED_AT_MAX: usize = 100_000;

/// An entry: its id, then what was stored of it (rule, code, message, table, source, partition, position, image,
/// values, columns_left_out; the last two are missing in old entries), and the sign that the image would have counted with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListedImage {
    /// `COMMIT-INDEX`.
    pub id: String,
    /// The rest.
    #[serde(flatten)]
    pub image: Map<String, Value>,
}

/// Some entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BadImages {
    /// Commit of the answer.
    pub commit: u64,
    /// Images refused since the state was made; of many in one commit only the first are kept as entries.
    pub bad_images: u64,
    /// Messages put aside since then.
    pub messages_aside: u64,
    /// Entries that were dropped for newer ones.
    pub dropped: u64,
    /// The entries.
    pub entries: Vec<ListedImage>,
    /// Where to go on; none = these were the last.
    pub next: Option<String>,
}

/// Which come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The newest.
    #[default]
    Newest,
    /// The oldest.
    Oldest,
}

/// What is listed.
#[derive(Clone, Debug)]
pub struct Question {
    /// Only of this rule.
    pub rule: Option<String>,
    /// Which come first.
    pub order: Order,
    /// Most entries.
    pub limit: usize,
    /// The id behind which to go on.
    pub cursor: Option<String>,
    /// Show values of rows.
    pub values: bool,
}

/// Lists entries.
///
/// # Errors
/// A cursor that is no id, entries that do not read, what the store says.
pub fn list(reader: &Reader, question: &Question) -> Result<BadImages, ApiError> {
    let bad = |text: &str| ApiError::BadCursor { cursor: text.chars().take(80).collect() };
    let cursor = question.cursor.as_deref();
    let from = cursor.map(|text| parse(text).ok_or_else(|| bad(text))).transpose()?;
    let (mut entries, mut last, mut looked_at) = (Vec::new(), None, 0);
    let mut next = None;
    let mut damaged = false;
    walk(reader, question.order, from, &mut |key, row| {
        if entries.len() == question.limit || looked_at == LOOKED_AT_MAX {
            next = last.map(text);
            return false;
        }
        let Some((place, entry)) =
            Place::from_key(key).and_then(|place| Some((place, read(place, row, question.values)?)))
        else {
            damaged = true;
            return false;
        };
        looked_at += 1;
        last = Some(place);
        let rule = entry.image.get("rule").and_then(Value::as_str);
        if question.rule.is_none() || question.rule.as_deref() == rule {
            entries.push(entry);
        }
        true
    })?;
    if damaged {
        return Err(ApiError::Damaged("an entry of the quarantine"));
    }
    let Totals { bad_images, aside: messages_aside, quarantine_dropped: dropped, .. } = reader.totals()?;
    Ok(BadImages { commit: reader.commit(), bad_images, messages_aside, dropped, entries, next })
}

/// Visits the rows behind `from` until `visit` answers false.
fn walk(
    reader: &Reader,
    order: Order,
    from: Option<Place>,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), StoreError> {
    if order == Order::Oldest {
        // The least key greater than a place's is that key with a zero byte behind.
        let from = from.map_or_else(Vec::new, |place| [&place.key()[..], &[0]].concat());
        return reader.view.rows(Table::Quarantine, &from, None, visit);
    }
    let mut at = from.map_or(Some(Place { commit: u64::MAX, index: u32::MAX }), before);
    while let Some(place) = at {
        let Some((key, row)) = reader.view.last_row(Table::Quarantine, &place.key())? else { break };
        if !visit(&key, &row) {
            break;
        }
        at = Place::from_key(&key).and_then(before);
    }
    Ok(())
}

/// The place just before.
fn before(place: Place) -> Option<Place> {
    match place.index.checked_sub(1) {
        Some(index) => Some(Place { index, ..place }),
        None => Some(Place { commit: place.commit.checked_sub(1)?, index: u32::MAX }),
    }
}

/// The entry of that id.
///
/// # Errors
/// No such entry, one that does not read, what the store says.
pub fn show(reader: &Reader, id: &str, values: bool) -> Result<ListedImage, ApiError> {
    let unknown = || ApiError::UnknownEntry { id: id.chars().take(80).collect() };
    let place = parse(id).ok_or_else(unknown)?;
    let row = reader.view.row(Table::Quarantine, &place.key())?.ok_or_else(unknown)?;
    read(place, &row, values).ok_or(ApiError::Damaged("an entry of the quarantine"))
}

/// A place as people write it.
pub(super) fn text(place: Place) -> String {
    format!("{}-{}", place.commit, place.index)
}

/// The place that people wrote.
pub(super) fn parse(id: &str) -> Option<Place> {
    let (commit, index) = id.split_once('-')?;
    Some(Place { commit: commit.parse().ok()?, index: index.parse().ok()? })
}

fn read(place: Place, row: &[u8], values: bool) -> Option<ListedImage> {
    let mut image: Map<String, Value> = serde_json::from_slice(row).ok()?;
    let sign = match image.get("image").and_then(Value::as_str) {
        Some("before") => -1,
        Some("message") => 0,
        _ => 1,
    };
    image.insert("sign".into(), sign.into());
    if let Some(Value::Object(of_row)) = image.get_mut("values").filter(|_| !values) {
        of_row.values_mut().for_each(mask);
    }
    Some(ListedImage { id: text(place), image })
}

/// Leaves of a value only what kind it is.
fn mask(value: &mut Value) {
    let kind = match value.as_str().and_then(|token| token.as_bytes().first()) {
        None => return, // the message has no such column
        Some(b'"') => "<text>",
        Some(b'n') => "<null>",
        Some(b't' | b'f') => "<boolean>",
        Some(b'{' | b'[') => "<object>",
        Some(_) => "<number>",
    };
    *value = kind.into();
}
