//! Transitions as they wait in the state until every sink has them: rows of at most [`CHUNK`] transitions,
//! keyed by (commit, index of the first), big-endian, so that their order is the order of delivery.
//!
//! Row: version u8, time of the commit i64, then per transition: generation u32, label u16, from u16, to u16, cause u8 (its
//! highest bit says announced), entity u16, key length u8, key. All numbers little-endian.

use super::{Cause, Transition};
use retag_abi::bytes::{i64_at, u16_at, u32_at};

/// Most transitions in one row.
pub const CHUNK: usize = 1000;
/// [`CHUNK`] as an index.
pub const CHUNK_INDEX: u32 = 1000;
const VERSION: u8 = 1;
/// Bit of the byte of the cause.
const ANNOUNCED: u8 = 0x80;
const FIXED: usize = 14;

/// Place of a transition: its commit and its index there.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct Place {
    /// Commit.
    pub commit: u64,
    /// Index in the commit.
    pub index: u32,
}

impl Place {
    /// The key of a row that begins here.
    #[must_use]
    pub fn key(self) -> [u8; 12] {
        let mut key = [0; 12];
        let (commit, index) = key.split_at_mut(8);
        commit.copy_from_slice(&self.commit.to_be_bytes());
        index.copy_from_slice(&self.index.to_be_bytes());
        key
    }

    /// The place in a row's key.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        Some(Self {
            commit: u64::from_be_bytes(*key.first_chunk()?),
            index: u32::from_be_bytes(*key.get(8..)?.first_chunk()?),
        })
    }
}

/// Outbox rows that do not read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("outbox row {commit}/{index} is damaged; restore the state directory from a savepoint")]
pub struct Damaged {
    /// Commit of the row.
    pub commit: u64,
    /// Index of its first transition.
    pub index: u32,
}

/// Writes the transitions of one commit as rows.
#[must_use]
pub fn encode(commit: u64, time_us: i64, transitions: &[Transition]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for (n, chunk) in (0u32..).zip(transitions.chunks(CHUNK)) {
        let mut row = Vec::with_capacity(9 + chunk.len() * 24);
        row.push(VERSION);
        row.extend_from_slice(&time_us.to_le_bytes());
        for t in chunk {
            row.extend_from_slice(&t.generation.to_le_bytes());
            for number in [t.label, t.from, t.to] {
                row.extend_from_slice(&number.to_le_bytes());
            }
            row.push(t.cause as u8 | if t.announced { ANNOUNCED } else { 0 });
            row.extend_from_slice(&t.entity.to_le_bytes());
            // Keys have at most 255 bytes (KEY_BYTES_MAX).
            row.push(u8::try_from(t.key.len()).unwrap_or(u8::MAX));
            row.extend_from_slice(t.key.get(..t.key.len().min(255)).unwrap_or(&[]));
        }
        let index = n * CHUNK_INDEX;
        rows.push((Place { commit, index }.key().to_vec(), row));
    }
    rows
}

/// Reads a row: the time of its commit and its transitions.
///
/// # Errors
/// A damaged row.
pub fn decode(place: Place, row: &[u8]) -> Result<(i64, Vec<Transition>), Damaged> {
    let damaged = Damaged { commit: place.commit, index: place.index };
    read(row).ok_or(damaged)
}

fn read(row: &[u8]) -> Option<(i64, Vec<Transition>)> {
    if row.first() != Some(&VERSION) {
        return None;
    }
    let time = i64_at(row, 1)?;
    let mut rest = row.get(9..)?;
    let mut transitions = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(*rest.get(FIXED - 1)?);
        transitions.push(Transition {
            generation: u32_at(rest, 0)?,
            label: u16_at(rest, 4)?,
            from: u16_at(rest, 6)?,
            to: u16_at(rest, 8)?,
            cause: Cause::from_number(*rest.get(10)? & !ANNOUNCED)?,
            announced: rest.get(10)? & ANNOUNCED != 0,
            entity: u16_at(rest, 11)?,
            key: Box::from(rest.get(FIXED..FIXED + length)?),
        });
        rest = rest.get(FIXED + length..)?;
    }
    Some((time, transitions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(n: u16) -> Transition {
        Transition {
            generation: 7,
            label: n,
            from: 0,
            to: 1,
            cause: Cause::Time,
            entity: 0,
            announced: n.is_multiple_of(3),
            key: vec![1; usize::from(n % 256)].into(),
        }
    }

    #[test]
    fn rows_round_trip_and_keep_their_order() {
        let transitions: Vec<_> = (0..2500).map(transition).collect();
        let rows = encode(9, 55, &transitions);
        assert_eq!(rows.len(), 3);
        assert!(rows.is_sorted());
        let read: Vec<_> = rows
            .iter()
            .flat_map(|(key, row)| {
                let place = Place::from_key(key).unwrap();
                assert_eq!(place.commit, 9);
                decode(place, row).unwrap().1
            })
            .collect();
        assert_eq!(read, transitions);
    }

    #[test]
    fn a_cut_row_is_damaged_not_a_panic() {
        let (_, row) = encode(1, 0, &[transition(3)]).remove(0);
        for end in (0..row.len()).filter(|end| *end != 9) {
            assert!(decode(Place::default(), &row[..end]).is_err(), "{end}");
        }
    }
}
