//! DDL messages (M18): harmless where no column that rules read is touched, else refused, for rows summed before would
//! be retracted in another form (B04, B05) or never (B06).

use serde_json::Value;

use super::judge::{Stop, refuse};
use super::layout::{Layout, TableLayout};
use super::strict::Envelope;

/// Refuses the DDL message of type `kind` if it may change what rows of a planned table look like, or drops some.
pub(super) fn check(kind: &str, envelope: &Envelope<'_>, layout: &Layout) -> Result<(), Stop> {
    let sql = envelope.string("sql").unwrap_or_default();
    let lower = sql.to_lowercase();
    let database = envelope.string("database").unwrap_or_default();
    let table = envelope.string("table").unwrap_or_default();
    let planned = |database: &str, table: &str| {
        layout.find(database.as_bytes(), table.as_bytes()).and_then(|found| layout.tables.get(found))
    };
    match kind {
        "database-drop" => {
            let prefix = format!("{database}.");
            match layout.tables.iter().find(|layout| layout.name.starts_with(&prefix)) {
                Some(layout) => stop(layout, "its database is dropped", &sql),
                None => Ok(()),
            }
        }
        "table-drop" => match planned(&database, &table) {
            Some(layout) => stop(layout, "the table is dropped", &sql),
            None => Ok(()),
        },
        "table-create" => match planned(&database, &table) {
            Some(layout) if lower.contains("or replace") => stop(layout, "the table may be replaced", &sql),
            _ => Ok(()),
        },
        "table-alter" => {
            let definition = object(envelope, "def");
            let target = definition.as_ref().and_then(|definition| {
                Some((
                    definition.get("database")?.as_str()?.to_owned(),
                    definition.get("table")?.as_str()?.to_owned(),
                ))
            });
            let (new_database, new_table) = target.unwrap_or_else(|| (database.clone(), table.clone()));
            let renamed = (&new_database, &new_table) != (&database, &table);
            match (planned(&database, &table), planned(&new_database, &new_table)) {
                (Some(layout), _) | (None, Some(layout)) if renamed => {
                    stop(layout, "a table is renamed", &sql)
                }
                (Some(layout), _) => alter(layout, object(envelope, "old"), definition, &sql),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn object(envelope: &Envelope<'_>, name: &str) -> Option<Value> {
    envelope.get(name).and_then(|token| serde_json::from_str(token).ok())
}

fn alter(layout: &TableLayout, old: Option<Value>, new: Option<Value>, sql: &str) -> Result<(), Stop> {
    let (Some(old), Some(new)) = (old, new) else {
        return stop(layout, "the message does not say how the columns were and are", sql);
    };
    let changed = layout.slots.iter().find(|column| definition(&old, column) != definition(&new, column));
    if let Some(column) = changed {
        return stop(layout, &format!("column `{column}` is not what it was"), sql);
    }
    // Maxwell's definitions carry no precision, and partitions are in none of them: these show in the statement only.
    let lower = sql.to_lowercase();
    if lower.contains("partition") || lower.contains("tablespace") {
        return stop(layout, "rows may leave the table without a change of their own (B06)", sql);
    }
    let redefines = lower.contains("modify") || lower.contains("change");
    let named = layout.slots.iter().find(|column| lower.contains(&column.to_lowercase()));
    match named {
        Some(column) if redefines => stop(layout, &format!("column `{column}` may be redefined"), sql),
        _ => Ok(()),
    }
}

/// The definition of `column`, if the table has it.
fn definition<'a>(table: &'a Value, column: &str) -> Option<&'a Value> {
    table.get("columns")?.as_array()?.iter().find(|c| c.get("name").and_then(Value::as_str) == Some(column))
}

fn stop(layout: &TableLayout, why: &str, sql: &str) -> Result<(), Stop> {
    let sql: String = sql.chars().take(200).collect();
    refuse(
        "ddl",
        format!(
            "DDL on `{}`, which rules read: {why}. Sums of rows from before would no longer match their retraction; \
             whether they do only you can say. To go on behind it as if they did: on_refusal = \"quarantine\", and the rules that \
             read the table are called approximate; exact again: a log that begins behind it. Statement: {sql}",
            layout.name
        ),
    )
}
