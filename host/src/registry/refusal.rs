//! Why a command is refused: a stable code, what is wrong, and what to do.

use crate::state::StoreError;

/// A command that is refused. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No rule of that name.
    #[error("no rule `{0}` in this state")]
    UnknownRule(String),
    /// No such revision.
    #[error("rule {rule} has no revision {revision}")]
    UnknownRevision {
        /// Rule.
        rule: String,
        /// As asked.
        revision: u32,
    },
    /// The rule is not what whoever asks has seen.
    #[error("rule {0} has changed since: its tag is another one than `If-Match` names")]
    Changed(String),
    /// Another operation on the rule is under way.
    #[error("rule {rule}: operation {operation} ({what}) is under way")]
    UnderWay {
        /// Rule.
        rule: String,
        /// Its number.
        operation: u64,
        /// What it does.
        what: String,
    },
    /// The revision cannot go live yet.
    #[error("{rule}@{revision} {what}")]
    NotReady {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// What is missing and the next command.
        what: String,
    },
    /// The revision counts other things than the live one, and what they were cannot be read.
    #[error(
        "{rule}@{revision} has new aggregates, and source {source_name} has history = \"none\": their sums would lack \
         everything before"
    )]
    NoHistory {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// The source.
        source_name: String,
    },
    /// The revision counts other things than the live one, and a source does not hold its beginning any more.
    #[error("{rule}@{revision} has new aggregates, but their history cannot be read: {why}")]
    HistoryGone {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// What is wrong with the source.
        why: String,
    },
    /// The revision cannot label by the live one's sums.
    #[error("{rule}@{revision} cannot keep the live revision's sums: {why}")]
    NotAdoptable {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// What is in the way.
        why: String,
    },
    /// The revision's keys are others than the live one's.
    #[error(
        "{rule}@{revision} is of entity `{entity}` or has another key type: a rule keeps its entity, and an entity its key type"
    )]
    EntityChanged {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// Its entity.
        entity: String,
    },
    /// A label of that name belongs to another rule.
    #[error("label `{label}` of {rule} belongs to rule {other} already")]
    LabelTaken {
        /// Rule.
        rule: String,
        /// Label.
        label: String,
        /// The other rule.
        other: String,
    },
    /// The rule stands still, or catches up with what it missed.
    #[error("rule {rule} is paused{}", .operation.map_or_else(String::new, |id| format!(" and catches up: operation {id}")))]
    Paused {
        /// Rule.
        rule: String,
        /// The operation that catches up.
        operation: Option<u64>,
    },
    /// What a paused rule missed cannot be read any more.
    #[error("rule {rule} cannot go on where it was paused: {why}")]
    PositionGone {
        /// Rule.
        rule: String,
        /// What is wrong with the source.
        why: String,
    },
    /// No earlier generation is kept.
    #[error("rule {0} has no earlier revision that is still kept")]
    NothingBefore(String),
    /// The revision is live, or kept for a way back.
    #[error("{rule}@{revision} is {what}: only a revision that was prepared and never live can be cancelled")]
    NotCancellable {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// How far it is.
        what: String,
    },
    /// The revision is read by.
    #[error("{rule}@{revision} is {what}: only a revision that nothing is read by can be forgotten")]
    InUse {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// How far it is.
        what: String,
    },
    /// No such preview.
    #[error("{rule}@{revision} has no preview `{preview}` against the live revision")]
    UnknownPreview {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// As asked.
        preview: String,
    },
    /// What would change is no longer what the preview said.
    #[error("what {rule}@{revision} changes has moved since preview {preview}: {}", by(*.moved, *.max))]
    Moved {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// The preview.
        preview: String,
        /// Percent.
        moved: f64,
        /// The bound.
        max: f64,
    },
    /// A limit.
    #[error("rule {rule} has {limit} {what} already")]
    TooMany {
        /// Rule.
        rule: String,
        /// The limit.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// The configuration decides which rules run.
    #[error("[registry] manage = \"config\": the configuration decides which rules run, so `{0}` is refused")]
    ManagedByConfig(&'static str),
    /// As many commands wait as may.
    #[error("{0} commands wait already")]
    Full(usize),
    /// The host stops, or is not there any more.
    #[error("the host stops; the command was not carried out")]
    Stopping,
    /// The state.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The host contradicts itself.
    #[error("internal: {0}")]
    Internal(String),
}

fn by(moved: f64, max: f64) -> String {
    match moved.is_finite() {
        true => format!("by {moved:.2} %, more than {max:.2} %"),
        false => "nothing would have changed then, and something would now".to_owned(),
    }
}

impl Refusal {
    /// Status, code and title in answers. Codes are stable.
    #[must_use]
    pub const fn kind(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::UnknownRule(_) => (404, "unknown-rule", "Unknown rule"),
            Self::UnknownRevision { .. } => (404, "unknown-revision", "Unknown revision"),
            Self::Changed(_) => (412, "changed", "Changed by someone else"),
            Self::UnderWay { .. } => (409, "operation-under-way", "Another operation is under way"),
            Self::NotReady { .. } => (409, "not-ready", "Not ready"),
            Self::NoHistory { .. } => (409, "no-history", "A source does not hold its history"),
            Self::HistoryGone { .. } => (409, "history-gone", "A source does not hold its beginning"),
            Self::NotAdoptable { .. } => (409, "not-adoptable", "The sums cannot be kept"),
            Self::EntityChanged { .. } => (409, "entity-changed", "Another entity"),
            Self::LabelTaken { .. } => (409, "label-taken", "Label of another rule"),
            Self::Paused { .. } => (409, "rule-paused", "The rule is paused"),
            Self::PositionGone { .. } => (409, "position-gone", "A source does not hold what was missed"),
            Self::NothingBefore(_) => (409, "nothing-before", "No earlier revision"),
            Self::NotCancellable { .. } => (409, "not-cancellable", "Nothing to cancel"),
            Self::InUse { .. } => (409, "revision-in-use", "The revision is in use"),
            Self::UnknownPreview { .. } => (404, "unknown-preview", "Unknown preview"),
            Self::Moved { .. } => (409, "preview-moved", "The preview does not hold any more"),
            Self::TooMany { .. } => (409, "too-many-revisions", "Too many"),
            Self::ManagedByConfig(_) => (409, "managed-by-config", "Managed by the configuration"),
            Self::Full(_) => (503, "busy", "Busy"),
            Self::Stopping => (503, "stopping", "Stopping"),
            Self::State(_) => (500, "state", "The state cannot be read"),
            Self::Internal(_) => (500, "internal", "Internal error"),
        }
    }

    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::UnknownRule(_) => {
                "`retag rule ls` lists the rules; `retag rule push FILE` brings a new one in"
            }
            Self::UnknownRevision { .. } => "`retag rule ls RULE` lists its revisions",
            Self::Changed(_) => "read its revisions again (`retag rule ls RULE`), then decide again",
            Self::UnderWay { .. } => {
                "wait until it has ended (`retag rule show RULE` says how far it is; on a stopped directory it goes on with the next \
                 `retag run`); what is being prepared can be cancelled, and `retag rule pause RULE --force` gives it up"
            }
            Self::NotReady { .. } => "`retag rule show RULE` says how far it is",
            Self::NoHistory { .. } => {
                "set history = \"complete\" once the source holds every change since its tables were empty, and restart; \
                 or read such a log into a new state directory"
            }
            Self::HistoryGone { .. } => "bring back what the source held, and prepare again",
            Self::NotAdoptable { .. } => "`retag rule prepare RULE@N` reads its history into sums of its own",
            Self::EntityChanged { .. } => {
                "name the entity and key type of the live one; other keys are another entity, in a rule of another name"
            }
            Self::LabelTaken { .. } => "rename the label in one of them",
            Self::Paused { .. } => {
                "`retag rule resume RULE` lets it go on; wait until it has caught up. While it stands still `retag rule rollback RULE` goes \
                 back to the revision before; where none is kept, name a mended file in [rules.RULE] and start once with \
                 --rebuild RULE, which reads all history anew"
            }
            Self::PositionGone { .. } => {
                "bring back what the source held and resume again; or start once with --rebuild RULE, which reads all history"
            }
            Self::NothingBefore(_) => {
                "activate another revision by its number (`retag rule ls RULE`), or take the rule out: `retag rule rm RULE`. Where it \
                 stands still, name a mended file in [rules.RULE] and start once with --rebuild RULE, which reads all history anew"
            }
            Self::NotCancellable { .. } => "`retag rule rollback RULE` goes back from a live one",
            Self::InUse { .. } => {
                "activate another one and wait for the end of its grace, or cancel what is prepared"
            }
            Self::UnknownPreview { .. } => "`retag rule preview RULE@N` makes one",
            Self::Moved { .. } => "look at a new preview: `retag rule preview RULE@N`",
            Self::TooMany { .. } => {
                "cancel what is prepared and not wanted (`retag rule cancel RULE@N`), or wait until the last switch is told; of 1,000 \
                 revisions forget some: `retag rule rm RULE@N`"
            }
            Self::ManagedByConfig(_) => {
                "change [rules.RULE] or the file that it names, then `retag apply`; the way back is the same with what \
                 was configured before"
            }
            Self::Full(_) => "ask again when they are done",
            Self::Stopping => "ask again when it runs, or of the stopped directory",
            Self::State(_) => "stop the host and look at its log",
            Self::Internal(_) => "please report this",
        }
    }
}
