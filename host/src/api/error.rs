//! What a read can be refused with: a stable code, what is wrong, and what to do.

use crate::state::StoreError;
use std::path::PathBuf;

/// A read that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No entity of that name.
    #[error("no entity `{name}`; known: {known}")]
    UnknownEntity {
        /// As asked.
        name: String,
        /// Names of all entities.
        known: String,
    },
    /// Text that is no key of the entity.
    #[error("entity `{entity}`: {reason}")]
    BadKey {
        /// Entity.
        entity: String,
        /// Why.
        reason: String,
    },
    /// No live rule gives that label.
    #[error("no live rule gives the label `{name}`; known: {known}")]
    UnknownLabel {
        /// As asked.
        name: String,
        /// Names of all labels.
        known: String,
    },
    /// The label has no such value.
    #[error("label `{label}` has no value `{value}`; {known}")]
    UnknownValue {
        /// Label.
        label: String,
        /// As asked.
        value: String,
        /// Its values, in words.
        known: String,
    },
    /// No rule of that name.
    #[error("no rule `{name}` in this state; known: {known}")]
    UnknownRule {
        /// As asked.
        name: String,
        /// Names of all rules.
        known: String,
    },
    /// A cursor that is none, or one of another revision or question.
    #[error("`{cursor}` is no cursor of this list")]
    BadCursor {
        /// As given.
        cursor: String,
    },
    /// A query or body that does not read.
    #[error("{0}")]
    BadRequest(String),
    /// A body beyond the limit.
    #[error("{0}")]
    TooLarge(String),
    /// No entry of that id in the quarantine.
    #[error("no entry `{id}` in the quarantine")]
    UnknownEntry {
        /// As asked.
        id: String,
    },
    /// No such route.
    #[error("no route {0}")]
    NoRoute(String),
    /// A route with another method.
    #[error("{0} is not a method of this route")]
    Method(String),
    /// As many long answers are under way as may be.
    #[error("{limit} exports are under way already")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The state.
    #[error(transparent)]
    State(#[from] StoreError),
    /// A stored fact that does not read.
    #[error("{0} does not read")]
    Damaged(&'static str),
    /// The socket cannot be opened.
    #[error("cannot {doing} the socket {}: {source}", path.display())]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The host contradicts itself.
    #[error("internal: {0}")]
    Internal(String),
}

impl ApiError {
    /// Status, code and title in answers. Codes are stable.
    #[must_use]
    pub const fn kind(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::UnknownEntity { .. } => (404, "unknown-entity", "Unknown entity"),
            Self::BadKey { .. } => (400, "bad-key", "Not a key"),
            Self::UnknownLabel { .. } => (404, "unknown-label", "Unknown label"),
            Self::UnknownValue { .. } => (400, "unknown-value", "Unknown value of a label"),
            Self::UnknownRule { .. } => (404, "unknown-rule", "Unknown rule"),
            Self::BadCursor { .. } => (400, "bad-cursor", "Not a cursor"),
            Self::BadRequest(_) => (400, "bad-request", "Malformed request"),
            Self::TooLarge(_) => (413, "too-large", "Too large"),
            Self::UnknownEntry { .. } => (404, "unknown-entry", "Unknown entry of the quarantine"),
            Self::NoRoute(_) => (404, "unknown-route", "Unknown route"),
            Self::Method(_) => (405, "bad-method", "Method not allowed"),
            Self::Busy { .. } => (503, "busy", "Busy"),
            Self::State(_) => (500, "state", "The state cannot be read"),
            Self::Damaged(_) => (500, "state-corrupt", "The state cannot be read"),
            Self::Socket { .. } => (500, "socket", "The socket cannot be opened"),
            Self::Internal(_) => (500, "internal", "Internal error"),
        }
    }

    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::UnknownEntity { .. } => "use an entity of a running rule; `retag status` lists the rules",
            Self::BadKey { .. } => "write the key as the rule's key column has it, e.g. user/42",
            Self::UnknownLabel { .. } | Self::UnknownValue { .. } | Self::UnknownRule { .. } => {
                "`retag status` lists rules and labels; a new rule is known once `retag run` has started with it"
            }
            Self::BadCursor { .. } => "ask again without a cursor: labels may have got a new revision",
            Self::BadRequest(_) | Self::NoRoute(_) | Self::Method(_) => {
                "docs/http.md lists routes and parameters"
            }
            Self::TooLarge(_) => "ask for fewer keys at once",
            Self::UnknownEntry { .. } => "`retag quarantine ls` lists the ids",
            Self::Busy { .. } => "ask again when one of them has ended",
            Self::State(_) | Self::Damaged(_) => {
                "stop the host and look at its log; restore the state directory from a backup if it stays so"
            }
            Self::Socket { .. } => {
                "check the rights of the state directory and the length of its path (about 100 bytes)"
            }
            Self::Internal(_) => "please report this",
        }
    }
}

/// Names for a message, bounded.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const LISTED_MAX: usize = 20;
    let mut all: Vec<&str> = names.collect();
    all.sort_unstable();
    let more = all.len().saturating_sub(LISTED_MAX);
    all.truncate(LISTED_MAX);
    match (all.is_empty(), more) {
        (true, _) => "none yet".to_owned(),
        (false, 0) => all.join(", "),
        (false, more) => format!("{} and {more} more", all.join(", ")),
    }
}
