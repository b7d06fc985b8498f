//! Goes over everything that lies in Redis: bucket by bucket the records, then the sets of members.

use super::connection::Connection;
use super::layout::{Layout, stored};
use super::script::{ASTRAY, DROP};
use crate::sink::SinkError;
use crate::sink::label_set::{Stored, Version};
use std::collections::VecDeque;

/// About so many entries at once.
const ENTRIES: usize = 1_000;

/// A field of a hash with its value.
type Field = (String, Vec<u8>);

/// How far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    bucket: u16,
    /// What there is in the bucket and was not gone over; none = it has not been asked.
    parts: Option<VecDeque<Part>>,
    /// Cursor of Redis in the first part.
    cursor: u64,
}

/// A hash or a set of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Records of an entity.
    Records(String),
    /// Who carries a label (with a value).
    Members { entity: String, label: String },
}

impl Part {
    fn read(name: &str) -> Option<Self> {
        if let Some(entity) = name.strip_prefix("records:") {
            return Some(Self::Records(entity.to_owned()));
        }
        let (entity, label) = name.strip_prefix("members:")?.split_once(':')?;
        Some(Self::Members { entity: entity.to_owned(), label: label.to_owned() })
    }
}

impl Listing {
    /// The next entries; none when that was all. Buckets that `skips` names are passed by. Members that are wrong, and records
    /// newer than `newest`, are taken out where `mends`.
    pub(super) fn next(
        &mut self,
        connection: &mut Connection,
        (layout, skips): (&Layout, &[bool]),
        (newest, mends): (Version, bool),
    ) -> Result<Option<Vec<Stored>>, SinkError> {
        while self.bucket < layout.buckets {
            let bucket = self.bucket;
            if skips.get(usize::from(bucket)) == Some(&true) {
                self.bucket += 1;
                continue;
            }
            let parts = match &mut self.parts {
                Some(parts) => parts,
                None => self.parts.insert(parts_of(connection, layout, bucket)?),
            };
            let (found, cursor) = match parts.front() {
                Some(Part::Records(entity)) => {
                    let newest = Some(newest).filter(|_| mends);
                    records(connection, layout, (bucket, entity), (self.cursor, newest))?
                }
                Some(Part::Members { entity, label }) => {
                    members(connection, layout, (bucket, entity, label), (self.cursor, mends))?
                }
                None => {
                    (self.bucket, self.parts) = (bucket + 1, None);
                    continue;
                }
            };
            self.cursor = cursor;
            if cursor == 0 {
                parts.pop_front();
            }
            return Ok(Some(found)); // though nothing was found: a call ends soon
        }
        Ok(None)
    }
}

fn parts_of(connection: &mut Connection, layout: &Layout, bucket: u16) -> Result<VecDeque<Part>, SinkError> {
    let mut command = redis::cmd("HKEYS");
    command.arg(layout.facts(bucket));
    let names: Vec<Vec<String>> = connection.run(&[command])?;
    let mut parts: Vec<Part> = names.iter().flatten().filter_map(|name| Part::read(name)).collect();
    parts.sort_by_key(|part| matches!(part, Part::Members { .. }));
    Ok(parts.into())
}

/// Records; those newer than `newest` are taken away, and given as of before everything. Nothing older than one of them could be
/// stored in its place, and the host has written none that is newer: somebody else has.
fn records(
    connection: &mut Connection,
    layout: &Layout,
    (bucket, entity): (u16, &str),
    (cursor, newest): (u64, Option<Version>),
) -> Result<(Vec<Stored>, u64), SinkError> {
    let mut command = redis::cmd("HSCAN");
    command.arg(layout.records(bucket, entity)).arg(cursor).arg("COUNT").arg(ENTRIES);
    let mut answers: Vec<(u64, Vec<Field>)> = connection.run(&[command])?;
    let (cursor, found) = answers.pop().unwrap_or_default();
    let mut drop = DROP.on(&[&layout.records(bucket, entity)]);
    let mut drops = false;
    let mut read = |(key, record): &Field| {
        let mut stored = stored(entity, key, record);
        if newest.is_some_and(|newest| stored.version > newest) {
            drop.arg(key).arg(record.as_slice());
            drops = true;
            (stored.version, stored.labels) = (Version::default(), Default::default());
        }
        stored
    };
    let found = found.iter().map(&mut read).collect();
    if drops {
        connection.run::<u64>(&[drop])?;
    }
    Ok((found, cursor))
}

/// Members whose record does not carry the label: as something that is stored with it, as of before everything.
fn members(
    connection: &mut Connection,
    layout: &Layout,
    (bucket, entity, label): (u16, &str, &str),
    (cursor, mends): (u64, bool),
) -> Result<(Vec<Stored>, u64), SinkError> {
    let set = format!("{}{label}", layout.members(bucket, entity));
    let mut command = redis::cmd("SSCAN");
    command.arg(&set).arg(cursor).arg("COUNT").arg(ENTRIES);
    let mut answers: Vec<(u64, Vec<String>)> = connection.run(&[command])?;
    let (cursor, members) = answers.pop().unwrap_or_default();
    if members.is_empty() {
        return Ok((Vec::new(), cursor));
    }
    let (name, value) = label.split_once('=').unwrap_or((label, ""));
    let mut command = ASTRAY.on(&[&layout.records(bucket, entity), &set]);
    command.arg(name).arg(value).arg(u8::from(mends)).arg(&members);
    let astray: Vec<Vec<String>> = connection.run(&[command])?;
    let stored = |key: &String| Stored {
        entity: entity.to_owned(),
        key: key.clone(),
        labels: [(name.to_owned(), Some(value.to_owned()).filter(|value| !value.is_empty()))].into(),
        version: Version::default(),
    };
    // What is taken out is done with; what is only looked at is told.
    let told = astray.iter().flatten().filter(|_| !mends).map(stored).collect();
    Ok((told, cursor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_read() {
        let members =
            |entity: &str, label: &str| Part::Members { entity: entity.into(), label: label.into() };
        assert_eq!(Part::read("records:user"), Some(Part::Records("user".into())));
        assert_eq!(Part::read("members:user:tier=gold"), Some(members("user", "tier=gold")));
        assert_eq!((Part::read("state"), Part::read("members:user")), (None, None));
    }
}
