//! What the pipeline itself keeps in the state: positions, sink cursors, totals, timers. Rows of a commit beside the
//! shards' blocks, written in the same atomic step.

use crate::label::outbox::Place;
use crate::source::{Partition, Position};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Key of [`Positions`] in the `Meta` table.
pub const POSITIONS: &[u8] = b"positions";
/// Key of [`Totals`] in the `Meta` table.
pub const TOTALS: &[u8] = b"totals";
/// Key of the sinks' cursors in the `Meta` table.
pub const CURSORS: &[u8] = b"cursors";
/// Key of the last commit whose transitions are gone, in the `Meta` table.
pub const FLOOR: &[u8] = b"transitions-floor";
/// Name of the table of id logs in the `Ledger` table; the ids of a commit stand under (commit, piece).
pub const LOGS: &[u8] = b"logs";

/// Whose facts these are: the stream's, or those of a rule that reads its history. All live in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The stream.
    Live,
    /// A rebuild; its ids are its own.
    Rebuild,
    /// The lane of an operation; its ids are its own.
    Lane(u64),
}

/// Keys of the ledger rows of all lanes begin with this.
pub const LANES: &[u8] = b"lane/";

impl Scope {
    /// A key of the `Meta` table in this scope.
    #[must_use]
    pub fn meta(self, key: &[u8]) -> Vec<u8> {
        match self {
            Self::Live => key.to_vec(),
            scope => [&scope.ledger(), key].concat(),
        }
    }

    /// Keys of the ledger rows of this scope begin with this.
    #[must_use]
    pub fn ledger(self) -> Vec<u8> {
        match self {
            Self::Live => b"live/".to_vec(),
            Self::Rebuild => b"rebuild/".to_vec(),
            Self::Lane(operation) => format!("lane/{operation:020}/").into_bytes(),
        }
    }

    /// The operation whose lane a key of the ledger is of.
    #[must_use]
    pub fn lane_of(key: &[u8]) -> Option<u64> {
        let digits = key.strip_prefix(LANES)?.split(|b| *b == b'/').next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Key of a row of the ledger: a commit's ids, or [`LOGS`].
    #[must_use]
    pub fn ledger_key(self, name: &[u8]) -> Vec<u8> {
        [&self.ledger(), name].concat()
    }

    /// First key behind all ledger rows of this scope.
    #[must_use]
    pub fn ledger_end(self) -> Vec<u8> {
        let mut end = self.ledger();
        end.pop();
        end.push(b'/' + 1);
        end
    }
}

/// How far every partition is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Partitions in the order of their numbers.
    pub partitions: Vec<(Partition, Position)>,
    /// Form of the ids of each producer: `gtid`, `position` or `none`.
    pub id_forms: BTreeMap<String, String>,
    /// Rules whose sources have not yet been read to their first end.
    pub catching_up: bool,
    /// Sources that did not hold their whole history when they were read, whatever is said of them now.
    #[serde(default)]
    pub incomplete: BTreeSet<String>,
}

/// Counters since the state was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Totals {
    /// Changes applied.
    pub changes: u64,
    /// Commit time of the newest of them as the database says, in seconds since 1970.
    pub newest: Option<i64>,
    /// Changes that came again and were not applied.
    pub resent: u64,
    /// Images given to rules.
    pub images: u64,
    /// Images that a rule refused.
    pub bad_images: u64,
    /// Messages that were put aside.
    pub aside: u64,
    /// Those of the rules that there are, and whole messages that they lack, by number of their namespace.
    pub refused: BTreeMap<u32, u64>,
    /// Entries of the quarantine that were dropped for newer ones.
    pub quarantine_dropped: u64,
    /// Rows whose key is NULL.
    pub null_keys: u64,
    /// Messages passed over, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Changes by table.
    pub tables: BTreeMap<String, u64>,
    /// Sources that carried each table.
    pub carried: BTreeMap<String, BTreeSet<String>>,
    /// Transitions made.
    pub transitions: u64,
}

/// What every sink has, by its name: the first place not delivered yet.
pub type Cursors = BTreeMap<String, Place>;

/// Key of a timer: moment (big-endian, sign flipped), generation, shard, state key.
#[must_use]
#[allow(clippy::cast_sign_loss)] // bits are taken on purpose
pub fn timer_key(moment: i64, generation: u32, shard: u8, key: &[u8]) -> Vec<u8> {
    let mut row = (moment as u64 ^ 1 << 63).to_be_bytes().to_vec();
    row.extend_from_slice(&generation.to_be_bytes());
    row.push(shard);
    row.extend_from_slice(key);
    row
}

/// Moment, generation, shard and state key of a timer's row.
#[must_use]
#[allow(clippy::cast_possible_wrap)] // bits are taken on purpose
pub fn parse_timer(row: &[u8]) -> Option<(i64, u32, u8, &[u8])> {
    let moment = (u64::from_be_bytes(*row.first_chunk()?) ^ 1 << 63) as i64;
    let generation = u32::from_be_bytes(*row.get(8..)?.first_chunk()?);
    Some((moment, generation, *row.get(12)?, row.get(13..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_lane_are_its_own() {
        let (lane, next) = (Scope::Lane(9), Scope::Lane(10));
        let key = lane.ledger_key(LOGS);
        assert!(lane.ledger() < key && key < lane.ledger_end() && lane.ledger_end() < next.ledger());
        assert_eq!((Scope::lane_of(&key), Scope::lane_of(&Scope::Live.ledger_key(LOGS))), (Some(9), None));
    }

    #[test]
    fn timers_stand_in_the_order_of_their_moments() {
        let rows: Vec<_> = [-5, 0, 7, i64::MAX].map(|m| timer_key(m, 3, 9, b"key")).into();
        assert!(rows.is_sorted());
        assert_eq!(parse_timer(&rows[2]), Some((7, 3, 9, &b"key"[..])));
        assert_eq!(parse_timer(&rows[2][..11]), None);
    }
}
