//! Messages that look like something else, or like Maxwell under settings that make exact retraction impossible:
//! recognised and named, so that a person knows at once what to change.

use super::judge::{Stop, refuse};
use super::layout::Layout;
use super::strict::Envelope;

/// Envelope fields that only output_naming_strategy=underscore_to_camelcase writes (M30).
pub(super) const CAMEL_CASE: [&str; 6] =
    ["primaryKey", "primaryKeyColumns", "serverId", "threadId", "schemaId", "pushTs"];

/// Refuses what is no Maxwell message, or one that hides what must be known.
pub(super) fn check(envelope: &Envelope<'_>, layout: &Layout) -> Result<(), Stop> {
    let has = |name| envelope.has(name);
    let any = |names: &[&str]| names.iter().any(|name| envelope.has(name));
    if let Some(name) = CAMEL_CASE.iter().find(|name| has(name)) {
        return refuse(
            "camel-case-naming",
            format!(
                "field `{name}`: output_naming_strategy=underscore_to_camelcase renames columns too, and two may become \
                 one; switch it off in Maxwell and rebuild"
            ),
        );
    }
    let named = envelope.string("database").is_some() && envelope.string("type").is_some();
    let data_is_array = envelope.get("data").is_some_and(|token| token.starts_with('['));
    if has("isDdl") || data_is_array || (!named && any(&["mysqlType", "sqlType", "pkNames"])) {
        return not_yet("looks-like-canal", "Canal");
    }
    let read = layout.find(
        envelope.string("database").unwrap_or_default().as_bytes(),
        envelope.string("table").unwrap_or_default().as_bytes(),
    );
    if has("encrypted") && envelope.get("data").is_none() && (read.is_some() || !named) {
        return refuse(
            "encrypted",
            "the message is encrypted and this host has no key; set encrypt=none in Maxwell",
        );
    }
    if named {
        return Ok(());
    }
    let operation = has("op") && any(&["before", "after", "source"]);
    // With schemas.enable=false the envelope may still stand in `payload`, alone.
    let wrapped = envelope.get("payload").is_some_and(|token| has("schema") || token.starts_with('{'));
    let around = has("tableChanges") || (has("source") && any(&["ts_ms", "before", "after"]));
    let marks = any(&["__op", "__deleted", "__table", "__source_ts_ms"]);
    let transaction = has("status") && has("id") && has("event_count");
    if operation || wrapped || around || marks || transaction {
        return not_yet("looks-like-debezium", "Debezium");
    }
    if envelope.string("type").is_some() && has("data") {
        return not_yet("looks-like-flink", "Maxwell as Flink writes it, with neither `database` nor ids");
    }
    if has("value") && any(&["key", "topic"]) {
        return refuse(
            "wrapped-record",
            "the line is a whole record (key and value) and not a message; write the values only, one a line",
        );
    }
    Ok(())
}

/// A dead letter: a reason, and no commit time as each row has (M33).
pub(super) fn is_dead_letter(envelope: &Envelope<'_>) -> bool {
    envelope.has("reason") && envelope.get("ts").is_none()
}

fn not_yet(code: &'static str, what: &str) -> Result<(), Stop> {
    refuse(
        code,
        format!(
            "this looks like {what}, not supported yet, and the source says format = \"maxwell\"; check what it reads"
        ),
    )
}
