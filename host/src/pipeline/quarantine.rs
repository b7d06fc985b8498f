//! Row images that rules refused: what is kept of one, how much, and of how many.
//!
//! Declared columns only, spelled as in the message, so that the value that did not fit can be seen. Counters hold all
//! refused images; entries are kept up to limits.

use super::assemble::Book;
use super::cycle::Cycle;
use crate::decode::{Format, Refusal, Side};
use crate::label::outbox::Place;
use crate::source::Block;
use crate::state::{Commit, Table};
use serde_json::{Map, Value};

/// Most entries that are kept of one worker and cycle.
pub(super) const CYCLE_ENTRIES_MAX: usize = 1000;
/// Most bytes that the values of one image take, with their names.
pub const IMAGE_BYTES_MAX: usize = 4 << 10;
/// Most bytes of one value; the rest is cut off, and marked.
pub const VALUE_BYTES_MAX: usize = 1 << 10;
/// Most old entries that one commit drops.
const DROPS_MAX: usize = 10_000;

/// A row image that a rule refused, or could not be given to it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct BadImage {
    /// Rule; empty where a whole message was refused.
    pub rule: String,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// `database.table`.
    pub table: String,
    /// Name of the source.
    pub source: String,
    /// Partition number.
    pub partition: usize,
    /// Position of the message.
    pub position: u64,
    /// `before` or `after`; `message` where a whole message was refused.
    pub image: &'static str,
    /// The columns that the rule declares, each as the JSON text that the message has; null where it has none.
    pub values: Map<String, Value>,
    /// Declared columns that did not fit into [`IMAGE_BYTES_MAX`].
    pub columns_left_out: usize,
}

impl BadImage {
    /// A whole message that was refused: nothing of it is kept, for it was not understood.
    pub(super) fn of_message(refusal: &Refusal, source: String, partition: usize) -> Self {
        Self {
            rule: String::new(),
            code: refusal.code,
            message: refusal.message.clone(),
            table: refusal.table.clone(),
            source,
            partition,
            position: refusal.position,
            image: "message",
            values: Map::new(),
            columns_left_out: 0,
        }
    }
}

/// The line of a block at `position`.
pub(super) fn line_at(block: &Block, position: u64) -> &[u8] {
    let rest = block.bytes.get(block.byte_of(position)..).unwrap_or(&[]);
    rest.get(..memchr::memchr(b'\n', rest).unwrap_or(rest.len())).unwrap_or(&[])
}

/// The values of `columns` within the limits, and how many columns are left out.
pub(super) fn values(
    format: Format,
    line: &[u8],
    side: Side,
    columns: &[&str],
) -> (Map<String, Value>, usize) {
    let mut kept = Map::new();
    let mut left = IMAGE_BYTES_MAX;
    for (name, token) in columns.iter().zip(format.tokens(line, side, columns)) {
        let token = token.map(|token| cut(token, VALUE_BYTES_MAX));
        let bytes = stored(name) + token.as_deref().map_or(4, stored);
        let Some(rest) = left.checked_sub(bytes) else { continue };
        left = rest;
        kept.insert((*name).to_owned(), token.map_or(Value::Null, Value::String));
    }
    let left_out = columns.len() - kept.len();
    (kept, left_out)
}

/// Bytes of a text in a stored entry: quotes and separator, and escapes, of which JSON text needs only two.
fn stored(text: &str) -> usize {
    3 + text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// A token of at most about `bytes_max` bytes. A cut one is no JSON any more, so nobody takes it for the value.
fn cut(token: String, bytes_max: usize) -> String {
    if token.len() <= bytes_max {
        return token;
    }
    let head = token.get(..token.floor_char_boundary(bytes_max)).unwrap_or_default();
    format!("{head}… (cut, {} bytes)", token.len())
}

/// The entries of a cycle as rows of its commit, and the oldest ones out where there are more than may be kept.
pub(super) fn note(book: &mut Book, cycle: &Cycle, entries_max: usize, commit: &mut Commit) {
    let new: Vec<&BadImage> = cycle.published.iter().flat_map(|p| &p.quarantine).collect();
    let dropped_unwritten = new.len().saturating_sub(entries_max);
    let surplus = (book.quarantine.len() + new.len() - dropped_unwritten).saturating_sub(entries_max);
    let old = surplus.min(book.quarantine.len()).min(DROPS_MAX);
    book.totals.quarantine_dropped += (dropped_unwritten + old) as u64;
    for place in book.quarantine.drain(..old) {
        commit.rows.push((Table::Quarantine, place.key().to_vec(), None));
    }
    for (index, bad) in (0u32..).zip(new).skip(dropped_unwritten) {
        let place = Place { commit: commit.id, index };
        let row = serde_json::to_vec(bad).unwrap_or_default();
        commit.rows.push((Table::Quarantine, place.key().to_vec(), Some(row)));
        book.quarantine.push_back(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(data: &str, columns: &[&str]) -> (Map<String, Value>, usize) {
        let line = format!("{{\"type\":\"insert\",\"data\":{data}}}");
        values(Format::Maxwell, line.as_bytes(), Side::After, columns)
    }

    #[test]
    fn declared_columns_are_kept_as_spelled() {
        let (values, left_out) = kept(r#"{"a":"x","b":2.50,"secret":1,"n":null}"#, &["a", "b", "n", "none"]);
        let expect = serde_json::json!({"a": "\"x\"", "b": "2.50", "n": "null", "none": null});
        assert_eq!((Value::Object(values), left_out), (expect, 0));
    }

    #[test]
    fn a_long_value_is_cut_and_marked_and_an_image_is_bounded() {
        let (values, left_out) = kept(&format!("{{\"a\":\"{}\"}}", "ü".repeat(3000)), &["a"]);
        let text = values["a"].as_str().unwrap();
        assert!(text.ends_with("ü… (cut, 6002 bytes)") && text.len() < VALUE_BYTES_MAX + 40, "{text}");
        assert_eq!(left_out, 0);
        let names: Vec<String> = (0..600).map(|n| format!("column_{n:03}")).collect();
        let columns: Vec<&str> = names.iter().map(String::as_str).collect();
        for value in
            ["7".to_owned(), format!("\"{}\"", "\\\"".repeat(400)), format!("\"{}\"", "x".repeat(9000))]
        {
            let data: Vec<String> = names.iter().map(|name| format!("\"{name}\":{value}")).collect();
            let (values, left_out) = kept(&format!("{{{}}}", data.join(",")), &columns);
            assert!(!values.is_empty() && values.len() + left_out == 600);
            assert!(serde_json::to_vec(&values).unwrap().len() <= IMAGE_BYTES_MAX, "{value:.20}");
        }
    }

    #[test]
    fn the_line_is_found_by_its_position() {
        let bytes = b"one\ntwo\nthree".to_vec().into();
        let block = Block { partition: 0, start: 100, bytes, index: None, at_end: true };
        let texts = [100, 104, 108, 50, 500].map(|position| line_at(&block, position));
        assert_eq!(texts, [&b"one"[..], b"two", b"three", b"one", b""]);
    }
}
