//! The strict reader: any message, by a JSON library that validates every byte, one object level at a time.
//!
//! Bytes that are no UTF-8 are masked for the library, one byte for one byte, so that places found in the masked text
//! hold in the line: text that rules read is judged by its own bytes, the rest does not matter.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::foreign;
use super::judge::{Stop, refuse};
use super::layout::{Layout, Span, Spans, TableLayout};
use super::message::{self, Identity, Kind, Message, Shape};
use super::{Seen, ddl};
use crate::decode::Skip;
use crate::decode::text;

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Row(Kind),
    Skip(Skip),
}

/// The line as text, with each byte that is no UTF-8 masked by one DEL.
pub(super) fn readable(line: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = simdutf8::basic::from_utf8(line) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n('\u{7f}', chunk.invalid().len()));
    }
    Cow::Owned(text)
}

/// Code and message for a line that is no JSON object.
pub(super) fn unreadable(error: &serde_json::Error, ended: bool) -> (&'static str, String) {
    match (ended, error.classify()) {
        (_, serde_json::error::Category::Data) => {
            ("not-a-change", format!("the line is JSON but no object: {error}; check what writes this file"))
        }
        (false, _) => (
            "truncated-line",
            format!(
                "the last line has no end and is no whole message: {error}; let its writer finish it, or cut it off"
            ),
        ),
        (true, _) => {
            ("not-json", format!("the line is no JSON: {error}; find out what broke it and send it again"))
        }
    }
}

/// One JSON object: its members in order, values as raw tokens.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    text: &'a str,
    members: Vec<(Cow<'a, str>, &'a str)>,
}

struct Members;
struct Key;

impl<'de> Visitor<'de> for Members {
    type Value = Option<Vec<(Cow<'de, str>, &'de str)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            members.push((key, map.next_value::<&RawValue>()?.get()));
        }
        Ok(Some(members))
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

impl<'a> Envelope<'a> {
    /// Reads `text`; `None` for an empty line and for `null`.
    pub(super) fn read(text: &'a str) -> Result<Option<Self>, serde_json::Error> {
        if text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            return Ok(None);
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let members = deserializer.deserialize_any(Members)?;
        deserializer.end()?;
        Ok(members.map(|members| Self { text, members }))
    }

    /// Whether it has the member `name`, be it null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(known, _)| known == name)
    }

    /// Token of the member `name`; null counts as none.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.token(name).filter(|t| *t != "null")
    }

    /// Token of the member `name`, be it null.
    pub(super) fn token(&self, name: &str) -> Option<&'a str> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, token)| *token)
    }

    /// The member `name` if it is a string.
    pub(super) fn string(&self, name: &str) -> Option<String> {
        let content = text::content(self.get(name)?.as_bytes())?;
        let mut bytes = Vec::new();
        text::unescape(content, &mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `database.table`, as far as the message says.
    pub(super) fn table_name(&self) -> String {
        match (self.string("database"), self.string("table")) {
            (Some(database), Some(table)) => format!("{database}.{table}"),
            (Some(database), None) => database,
            _ => String::new(),
        }
    }

    /// What the message says of its transaction; `line` is the message.
    pub(super) fn seen<'l>(&self, line: &'l [u8]) -> Seen<'l> {
        Seen { transaction: self.transaction().of(line), commit: self.get("commit") == Some("true") }
    }

    fn transaction(&self) -> Span {
        let gtid = self.get("gtid").filter(|token| token.starts_with('"'));
        gtid.or_else(|| self.get("xid")).map_or(Span::ABSENT, |token| self.span(token))
    }

    /// Where a token of this message stands in its line.
    fn span(&self, token: &str) -> Span {
        let start = (token.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        Span::new(start, start + token.len())
    }
}

/// What the message is, by its envelope alone.
pub(super) fn classify(envelope: &Envelope<'_>, layout: &Layout) -> Result<Reading, Stop> {
    if let Some(name) = message::FIELDS.iter().find(|name| twice(&envelope.members, name)) {
        return refuse(
            "duplicate-key",
            format!("field `{name}` stands in the message twice: which one holds?"),
        );
    }
    foreign::check(envelope, layout)?;
    let (Some(database), Some(kind)) = (envelope.string("database"), envelope.string("type")) else {
        return refuse(
            "not-a-change",
            "the message has no `database` and `type`, so it is no change that Maxwell writes; check what writes \
             this topic or file",
        );
    };
    if database == "maxwell" {
        return Ok(Reading::Skip(Skip::ControlTable));
    }
    if let Some(kind) = Kind::from_type(kind.as_bytes()) {
        let Some(table) = envelope.string("table") else {
            return refuse("not-a-change", "the row has no `table`; check what writes this topic or file");
        };
        let read = layout.find(database.as_bytes(), table.as_bytes()).is_some();
        return if foreign::is_dead_letter(envelope) {
            dead_letter(envelope, read)
        } else {
            Ok(Reading::Row(kind))
        };
    }
    match kind.as_str() {
        "bootstrap-start" | "bootstrap-insert" | "bootstrap-complete" => Ok(Reading::Skip(Skip::Bootstrap)),
        "table-create" | "table-alter" | "table-drop" | "database-create" | "database-alter"
        | "database-drop" => {
            ddl::check(&kind, envelope, layout)?;
            Ok(Reading::Skip(Skip::Ddl))
        }
        other => refuse(
            "unknown-type",
            format!(
                "type `{other}` is none that Maxwell is known to write; nothing is guessed: report the message"
            ),
        ),
    }
}

fn dead_letter(envelope: &Envelope<'_>, read: bool) -> Result<Reading, Stop> {
    if !read {
        return Ok(Reading::Skip(Skip::DeadLetter));
    }
    let reason = envelope.string("reason").unwrap_or_default();
    refuse(
        "dead-letter",
        format!(
            "Maxwell could not deliver this change ({reason}) and left a dead letter with its key only: a hole in the \
             log; find the change in the binlog and replay it, or rebuild"
        ),
    )
}

fn twice(members: &[(Cow<'_, str>, &str)], name: &str) -> bool {
    members.iter().filter(|(known, _)| known == name).nth(1).is_some()
}

/// The strings of an envelope, unescaped.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) database: String,
    pub(super) table: String,
    gtid: Option<String>,
    position: Option<String>,
}

impl Owned {
    pub(super) fn read(envelope: &Envelope<'_>) -> Self {
        Self {
            database: envelope.string("database").unwrap_or_default(),
            table: envelope.string("table").unwrap_or_default(),
            gtid: envelope.string("gtid"),
            position: envelope.string("position"),
        }
    }
}

/// The row message, with the tokens of the planned columns in `spans`.
pub(super) fn message<'a>(
    envelope: &Envelope<'a>,
    owned: &'a Owned,
    kind: Kind,
    planned: Option<&TableLayout>,
    spans: &mut Spans,
) -> Result<Message<'a>, Stop> {
    let mut message = Message {
        kind,
        ts: envelope.get("ts").and_then(|token| message::ts(token.as_bytes())),
        identity: Identity {
            gtid: owned.gtid.as_ref().map(String::as_bytes),
            position: owned.position.as_ref().map(String::as_bytes),
            server: envelope.get("server_id").map(str::as_bytes).filter(|token| message::is_whole(token)),
            xoffset: envelope.get("xoffset").and_then(|token| message::xoffset(token.as_bytes())),
            commit: envelope.get("commit") == Some("true"),
        },
        transaction: envelope.transaction(),
        data: Shape::Other,
        old: Shape::Other,
        key_only: false,
    };
    if let Some(planned) = planned {
        spans.reset(planned.slots.len());
        let data = object(envelope, "data", planned, &mut spans.data)?;
        let old = object(envelope, "old", planned, &mut spans.old)?;
        (message.data, message.old) = (data.0, old.0);
        let incomplete = spans.data.iter().any(|span| span.is_absent());
        message.key_only = incomplete && is_key_only(envelope, &data.1);
    }
    Ok(message)
}

/// Shape and column names of member `name`, with the planned tokens written to `spans`.
fn object<'a>(
    envelope: &Envelope<'a>,
    name: &str,
    planned: &TableLayout,
    spans: &mut [Span],
) -> Result<(Shape, Vec<Cow<'a, str>>), Stop> {
    let Some(token) = envelope.get(name) else { return Ok((Shape::Missing, Vec::new())) };
    if !token.starts_with('{') {
        return Ok((Shape::Other, Vec::new()));
    }
    let Ok(Some(object)) = Envelope::read(token) else { return Err(Stop::Malformed) };
    for (slot, span) in spans.iter_mut().enumerate() {
        let Some(column) = planned.slots.get(slot) else { continue };
        if twice(&object.members, column) {
            return refuse(
                "duplicate-key",
                format!(
                    "column `{column}` stands in `{name}` twice: which value holds? Check what writes this topic"
                ),
            );
        }
        if let Some((_, value)) = object.members.iter().find(|(known, _)| known == column) {
            *span = envelope.span(value);
        }
    }
    let shape = if object.members.is_empty() { Shape::Empty } else { Shape::Object };
    Ok((shape, object.members.into_iter().map(|(column, _)| column).collect()))
}

/// Whether an image holds nothing but its key: its columns are among `primary_key_columns`, or, where Maxwell does not
/// print those, it has one column only.
fn is_key_only(envelope: &Envelope<'_>, columns: &[Cow<'_, str>]) -> bool {
    let keys =
        envelope.get("primary_key_columns").and_then(|token| serde_json::from_str::<Vec<String>>(token).ok());
    match keys {
        Some(keys) if !keys.is_empty() => columns.iter().all(|column| keys.iter().any(|key| key == column)),
        Some(_) => false,
        None => columns.len() == 1,
    }
}
