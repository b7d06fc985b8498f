//! Sums → transitions: what a key carries now against what it carried before this commit.
//!
//! Labels are evaluated once per touched key at a commit's end, so a flip inside one commit emits nothing.

pub mod outbox;
pub mod readings;

use serde::{Deserialize, Serialize};

/// Why a label changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Cause {
    /// A row changed.
    Change = 0,
    /// Time went on.
    Time = 1,
    /// The rule was still reading its history.
    Catchup = 2,
    /// Another revision went live.
    Swap = 3,
    /// An earlier revision went live again.
    Rollback = 4,
    /// Its parameters changed.
    Params = 5,
    /// Its history was read beside the stream.
    Backfill = 6,
    /// Missed changes were added.
    Repair = 7,
}

impl Cause {
    /// The cause with that number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Change,
            1 => Self::Time,
            2 => Self::Catchup,
            3 => Self::Swap,
            4 => Self::Rollback,
            5 => Self::Params,
            6 => Self::Backfill,
            7 => Self::Repair,
            _ => return None,
        })
    }

    /// Its name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Time => "time",
            Self::Catchup => "catchup",
            Self::Swap => "swap",
            Self::Rollback => "rollback",
            Self::Params => "params",
            Self::Backfill => "backfill",
            Self::Repair => "repair",
        }
    }
}

/// In place of a label's index: not a key's transition but a rule's switch of generations, without a key.
pub const SWITCH: u16 = u16::MAX;

/// A label set, changed or unset for a key. Marks: 0 = not carried; a flag is 1; value v of the manifest is v + 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Number of the label generation.
    pub generation: u32,
    /// Index of the label in it.
    pub label: u16,
    /// Mark before.
    pub from: u16,
    /// Mark now.
    pub to: u16,
    /// Why.
    pub cause: Cause,
    /// Number of the entity.
    pub entity: u16,
    /// Whatever the cause, also for those who hear of changes alone.
    pub announced: bool,
    /// Key bytes.
    pub key: Box<[u8]>,
}

impl Transition {
    /// That members of `generation`'s rule are others, as a whole.
    #[must_use]
    pub fn switch(generation: u32, entity: u16, cause: Cause) -> Self {
        Self {
            generation,
            label: SWITCH,
            from: 0,
            to: 0,
            cause,
            entity,
            announced: false,
            key: Box::default(),
        }
    }
}
