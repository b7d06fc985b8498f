//! The aggregates of a rule for all its keys, as CSV (RFC 4180) or NDJSON, in pieces of bounded size from one view.
//!
//! Rows stand in the order of shard and key bytes: the same for the same keys, whatever the history. Columns are the
//! key, named as the rule's key column, then the aggregates in manifest order.

use super::error::ApiError;
use super::reader::Reader;
use super::value::Columns;
use crate::label::readings::exists;
use crate::registry::KeyType;
use crate::state::{KEY_BYTES_MAX, Record, SHARDS, View, entity_key, split_entity_key};
use serde_json::Value;
use std::sync::Arc;

/// Keys read at once.
const KEYS_AT_ONCE: usize = 512;
/// Size from which a piece is handed out.
const PIECE_BYTES: usize = 64 << 10;

/// Form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180 with a heading; lines end with LF.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

/// An export under way.
pub struct Export {
    view: Arc<View>,
    columns: Columns,
    format: Format,
    entity: u16,
    key: KeyType,
    key_column: String,
    shard: usize,
    /// The last key read in the shard.
    after: Option<Box<[u8]>>,
    begun: bool,
}

impl Export {
    /// An export of a rule's aggregates from the reader's commit.
    ///
    /// # Errors
    /// An unknown rule.
    pub fn new(reader: &Reader, rule: &str, format: Format) -> Result<Self, ApiError> {
        let namespace = reader.namespace(rule)?;
        let (entity, found) = reader
            .registry
            .entity_of(namespace.space)
            .ok_or(ApiError::Damaged("the entity of a namespace"))?;
        let key_column = match namespace.key_column.as_str() {
            "" => found.name.clone(),
            name => name.to_owned(),
        };
        Ok(Self {
            view: reader.view.clone(),
            columns: Columns::of(namespace)?,
            format,
            entity,
            key: found.key,
            key_column,
            shard: 0,
            after: before(entity),
            begun: false,
        })
    }

    /// The next piece; none = that was all.
    ///
    /// # Errors
    /// What the store says.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.begun, true) && self.format == Format::Csv {
            csv_row(&mut out, std::iter::once(self.key_column.as_str()).chain(self.columns.names()))?;
        }
        while out.len() < PIECE_BYTES && self.shard < SHARDS {
            let records = self.view.scan_brief(self.shard, self.after.as_deref(), KEYS_AT_ONCE)?;
            let mut ended = records.len() < KEYS_AT_ONCE;
            for (state_key, record) in &records {
                match split_entity_key(state_key) {
                    Some((entity, key)) if entity == self.entity => self.row(key, record, &mut out)?,
                    _ => ended = true, // keys of an entity stand together; we began at its first
                }
            }
            self.after = records.into_iter().next_back().map(|(key, _)| key);
            if ended {
                self.shard += 1;
                self.after = before(self.entity);
            }
        }
        Ok((!out.is_empty()).then_some(out))
    }

    fn row(&self, key: &[u8], record: &Record, out: &mut Vec<u8>) -> Result<(), ApiError> {
        if !exists(record, self.columns.space()) {
            return Ok(());
        }
        let key = self.key.text(key);
        match self.format {
            Format::Csv => csv_row(out, std::iter::once(key).chain(self.columns.texts(record))),
            Format::Ndjson => {
                let mut object = serde_json::Map::new();
                object.insert(self.key_column.clone(), Value::String(key));
                object.extend(self.columns.object(Some(record)));
                serde_json::to_writer(&mut *out, &object).map_err(|e| ApiError::Internal(e.to_string()))?;
                out.push(b'\n');
                Ok(())
            }
        }
    }
}

/// The greatest state key before those of `entity`; none = there are none before.
fn before(entity: u16) -> Option<Box<[u8]>> {
    let number = entity.checked_sub(1)?;
    Some(entity_key(number, &[u8::MAX; KEY_BYTES_MAX]).into())
}

fn csv_row<T: AsRef<[u8]>>(out: &mut Vec<u8>, fields: impl Iterator<Item = T>) -> Result<(), ApiError> {
    let mut writer = csv::WriterBuilder::new().buffer_capacity(1 << 10).from_writer(out);
    writer
        .write_record(fields)
        .and_then(|()| Ok(writer.flush()?))
        .map_err(|e| ApiError::Internal(e.to_string()))
}
