//! A line of `access.ndjson`. Fields may be added; a line of a kind that is not known is refused, for it may take rights.

use super::super::role::Role;
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A token was made.
    Created(Created),
    /// It was taken back.
    Revoked {
        /// Which.
        id: String,
        /// When, microseconds since 1970.
        time_us: i64,
        /// By whom.
        by: String,
    },
}

/// A token as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// SHA-256 of the token, hexadecimal.
    pub sha256: String,
    /// When, microseconds since 1970.
    pub time_us: i64,
    /// When it ends by itself, microseconds since 1970.
    pub expires_us: Option<i64>,
    /// By whom.
    pub by: String,
}
