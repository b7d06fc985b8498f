//! What a read can be refused with: a stable code, what is wrong, and what to do.

use super::access::TokenFault;
use crate::pipeline::rules::RulesError;
use crate::registry::Refusal;
use crate::state::StoreError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// No sink of that name.
    #[error("no sink `{name}`; known: {known}")]
    UnknownSink {
        /// As asked.
        name: String,
        /// Names of all sinks.
        known: String,
    },
    /// A sink that holds no label sets.
    #[error(
        "sink `{name}` is told what changes and holds no label sets: there is nothing to compare or to bring again"
    )]
    NoStateSink {
        /// Its name.
        name: String,
    },
    /// A sink without dead letters.
    #[error("sink `{name}` keeps no dead letters; a webhook does")]
    NoDeadLetters {
        /// Its name.
        name: String,
    },
    /// No dead letter of that id.
    #[error("sink `{sink}` has no dead letter `{id}`")]
    UnknownLetter {
        /// The sink.
        sink: String,
        /// As asked.
        id: String,
    },
    /// Something else is asked of a sink and has not begun.
    #[error("something else that was asked of sink `{name}` has not begun")]
    SinkBusy {
        /// Its name.
        name: String,
    },
    /// What only a running host does.
    #[error("no host runs on this state")]
    NoHost,
    /// No operation of that number.
    #[error("no operation {0}")]
    UnknownOperation(u64),
    /// A command that the registry refuses.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// A file that is no rule, or one that this host refuses.
    #[error("{}", of_file(.0))]
    Rule(#[from] RulesError),
    /// Transitions that are not kept.
    #[error(
        "transitions behind commit {after} are not all there: those of this state are, behind commit {oldest}"
    )]
    Gone {
        /// As asked.
        after: u64,
        /// The least commit that can be asked for.
        oldest: u64,
    },
    /// No such route.
    #[error("no route {0}")]
    NoRoute(String),
    /// A route with another method.
    #[error("{0} is not a method of this route")]
    Method(String),
    /// As many long answers are under way as may be.
    #[error("{limit} such requests are under way already")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// What only a rule under rebuild will answer.
    #[error("the history of rule {rule} is being read, {percent} % so far; it gives no answers before")]
    Rebuilding {
        /// The rule.
        rule: String,
        /// How far it is.
        percent: u64,
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
    /// No token, or one that does not count.
    #[error("{}", .0.map_or("this route needs a token", TokenFault::text))]
    Unauthorized(Option<TokenFault>),
    /// A token whose role is too small.
    #[error("this route needs the role {needed}; the token has {role}")]
    Forbidden {
        /// Of the token.
        role: &'static str,
        /// Of the route.
        needed: &'static str,
    },
    /// Without tokens, a request for another host or from a foreign web page.
    #[error("without tokens only this machine may ask; the request names {0}")]
    Foreign(&'static str),
    /// More requests than allowed.
    #[error("more than {per_second} requests a second")]
    RateLimited {
        /// The rate.
        per_second: u32,
        /// When to ask again.
        after: Duration,
    },
    /// A body that comes too slowly.
    #[error("the body did not come within {0:?}")]
    SlowBody(Duration),
    /// An answer that takes too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// A body of another kind.
    #[error("a body of type {expected} is expected")]
    MediaType {
        /// What is.
        expected: &'static str,
    },
    /// An `Idempotency-Key` that stands for another request.
    #[error("this idempotency-key was sent with another body, If-Match or parameters")]
    KeyReused,
    /// An `Idempotency-Key` whose first request is under way.
    #[error("the request with this idempotency-key is under way")]
    KeyBusy,
    /// No token of that id.
    #[error("no token `{id}`")]
    UnknownToken {
        /// As asked.
        id: String,
    },
    /// A token that is to revoke itself.
    #[error("a token does not revoke itself: nobody locks himself out by mistake")]
    OwnToken,
    /// As many tokens as may be.
    #[error("there are {limit} valid tokens")]
    TooManyTokens {
        /// The limit.
        limit: usize,
    },
    /// The file of tokens.
    #[error("{}: {reason}", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A certificate or key that cannot be used.
    #[error("http.tls.{key}: {}: {reason}", path.display())]
    Tls {
        /// Key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
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
            Self::BadKey { .. } => (404, "bad-key", "Not a key"),
            Self::UnknownLabel { .. } => (404, "unknown-label", "Unknown label"),
            Self::UnknownValue { .. } => (404, "unknown-value", "Unknown value of a label"),
            Self::UnknownRule { .. } => (404, "unknown-rule", "Unknown rule"),
            Self::BadCursor { .. } => (409, "bad-cursor", "Not a cursor"),
            Self::BadRequest(_) => (400, "bad-request", "Malformed request"),
            Self::TooLarge(_) => (413, "too-large", "Too large"),
            Self::UnknownEntry { .. } => (404, "unknown-entry", "Unknown entry of the quarantine"),
            Self::UnknownSink { .. } => (404, "unknown-sink", "Unknown sink"),
            Self::NoStateSink { .. } => (409, "no-state-sink", "No sink that holds label sets"),
            Self::NoDeadLetters { .. } => (409, "no-dead-letters", "No sink with dead letters"),
            Self::UnknownLetter { .. } => (404, "unknown-letter", "Unknown dead letter"),
            Self::SinkBusy { .. } => (409, "sink-busy", "Something else comes first"),
            Self::NoHost => (409, "no-host", "No host runs"),
            Self::UnknownOperation(_) => (404, "unknown-operation", "Unknown operation"),
            Self::Refused(refusal) => refusal.kind(),
            Self::Rule(_) => (422, "rule-refused", "The rule is refused"),
            Self::Gone { .. } => (410, "transitions-gone", "No longer kept"),
            Self::NoRoute(_) => (404, "unknown-route", "Unknown route"),
            Self::Method(_) => (405, "bad-method", "Method not allowed"),
            Self::Busy { .. } => (503, "busy", "Busy"),
            Self::Rebuilding { .. } => (503, "rebuilding", "A rule reads its history"),
            Self::State(_) => (500, "state", "The state cannot be read"),
            Self::Damaged(_) => (500, "state-corrupt", "The state cannot be read"),
            Self::Socket { .. } => (500, "socket", "The socket cannot be opened"),
            Self::Unauthorized(_) => (401, "unauthorized", "Not authenticated"),
            Self::Forbidden { .. } => (403, "forbidden", "Not allowed"),
            Self::Foreign(_) => (403, "foreign", "Not allowed"),
            Self::RateLimited { .. } => (429, "rate-limited", "Too many requests"),
            Self::SlowBody(_) => (408, "slow-body", "The body is too slow"),
            Self::Timeout(_) => (503, "timeout", "The answer takes too long"),
            Self::MediaType { .. } => (415, "bad-media-type", "Another kind of body"),
            Self::KeyReused => (422, "idempotency-key-reused", "Another request had this key"),
            Self::KeyBusy => (409, "idempotency-key-busy", "Under way"),
            Self::UnknownToken { .. } => (404, "unknown-token", "Unknown token"),
            Self::OwnToken => (409, "own-token", "The token that asks"),
            Self::TooManyTokens { .. } => (409, "too-many-tokens", "Too many tokens"),
            Self::Access { .. } => (500, "access", "The file of tokens cannot be used"),
            Self::Listen { .. } => (500, "listen", "The address cannot be listened on"),
            Self::Tls { .. } => (500, "tls", "The certificate cannot be used"),
            Self::Internal(_) => (500, "internal", "Internal error"),
        }
    }

    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::UnknownEntity { .. } => "use an entity of a running rule; `retag status` lists the rules",
            Self::BadKey { .. } => "write the key as the rule's key column has it, e.g. user/42",
            Self::UnknownValue { .. } => "`retag rule show RULE` lists the values of its labels",
            Self::UnknownLabel { .. } | Self::UnknownRule { .. } => {
                "`retag status` lists rules and labels; `retag rule push FILE` and `prepare` bring a new one in"
            }
            Self::BadCursor { .. } => "ask again without a cursor: labels may have got a new revision",
            Self::UnknownSink { .. } => "`retag sink ls` lists them",
            Self::NoStateSink { .. } => {
                "events are sent again by no one: read the members, or the transitions that are kept"
            }
            Self::NoDeadLetters { .. } | Self::UnknownLetter { .. } => {
                "`retag sink ls` says which sinks have some, `retag sink dead ls SINK` lists them"
            }
            Self::SinkBusy { .. } => "ask again in a moment",
            Self::NoHost => "start one with `retag run`; what a sink lacks it gets then by itself",
            Self::UnknownOperation(_) => "`retag rule show RULE` names the operation under way",
            Self::Refused(refusal) => refusal.hint(),
            Self::Rule(_) => "`retag rule inspect FILE` checks a file without a host",
            Self::BadRequest(_) | Self::NoRoute(_) | Self::Method(_) => {
                "docs/http.md lists routes and parameters"
            }
            Self::Gone { .. } => {
                "read the members again and follow behind their commit; state.transitions_bytes_max sets what is kept"
            }
            Self::TooLarge(_) => {
                "send less at once; http.upload_bytes_max is the limit of a rule file, http.body_bytes_max of other bodies"
            }
            Self::UnknownEntry { .. } => "`retag quarantine ls` lists the ids",
            Self::Busy { .. } => "ask again when one of them has ended",
            Self::Rebuilding { .. } => "ask again when it is done; `retag status` says how long that takes",
            Self::State(_) | Self::Damaged(_) => {
                "stop the host and look at its log; restore the state directory from a backup if it stays so"
            }
            Self::Socket { .. } => {
                "check the rights of the state directory and the length of its path (about 100 bytes)"
            }
            Self::Unauthorized(_) => {
                "`retag token create` makes one; send it as `Authorization: Bearer TOKEN`"
            }
            Self::Forbidden { .. } => "ask an admin for a token of that role; docs/security.md has the table",
            Self::Foreign(_) => "use http://127.0.0.1 or http://localhost, or set http.auth = \"token\"",
            Self::RateLimited { .. } => {
                "ask again after the seconds in `retry-after`; http.rate_per_second sets the rate"
            }
            Self::SlowBody(_) | Self::Timeout(_) => {
                "ask for less at once; http.request_timeout_ms sets the time"
            }
            Self::MediaType { .. } => "set the header `content-type`",
            Self::KeyReused => "take a new key for a new request",
            Self::KeyBusy => "ask again in a moment: the answer will be that of the first",
            Self::UnknownToken { .. } => "`retag token ls` lists the ids",
            Self::OwnToken => "revoke it with another admin's token, or as the owner of the state directory",
            Self::TooManyTokens { .. } => "revoke those that nobody uses: `retag token ls`",
            Self::Access { .. } => {
                "repair the line or put back a copy; docs/security.md says what the file holds"
            }
            Self::Listen { .. } => {
                "set `listen` in [http] to another address (port 0 = any free one), or to \"off\""
            }
            Self::Tls { .. } => "name PEM files of a certificate and its key in [http] tls",
            Self::Internal(_) => "please report this",
        }
    }
}

/// What is wrong with a file that came or lies in the state, which has no path, with the code of its own.
fn of_file(error: &RulesError) -> String {
    match error {
        RulesError::Refused { error, .. } => format!("{error} [{}]", error.code()),
        RulesError::Name { rule, found, .. } => {
            format!("the file holds the rule `{found}`, not `{rule}`: send it to /v1/rules/{found}/revisions")
        }
        other => other.to_string(),
    }
}

/// Names for a message, bounded.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const LISTED_MAX: usize = 20;
    let mut all: Vec<&str> = names.collect();
    all.sort_unstable();
    all.dedup();
    let more = all.len().saturating_sub(LISTED_MAX);
    all.truncate(LISTED_MAX);
    match (all.is_empty(), more) {
        (true, _) => "none yet".to_owned(),
        (false, 0) => all.join(", "),
        (false, more) => format!("{} and {more} more", all.join(", ")),
    }
}
