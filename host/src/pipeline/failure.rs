//! Why the engine stops, and the one place that says what an error means for it.

use crate::decode::Refusal;
use crate::rule::RuleError;
use crate::sink::SinkError;
use crate::source::SourceError;
use crate::state::StoreError;

/// Why the engine stops.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A message that cannot be applied exactly; everything before it is committed.
    #[error(
        "{code}: source {source_name}, {place}{table}: {message}\n\
         everything before it is committed; the host stops in front of it",
        code = refusal.code, message = refusal.message,
        table = if refusal.table.is_empty() { String::new() } else { format!(", table {}", refusal.table) }
    )]
    Refused {
        /// Name of the source.
        source_name: String,
        /// Partition and position.
        place: String,
        /// What and why.
        refusal: Refusal,
    },
    /// The state cannot be written or read: nothing of the open commit is kept.
    #[error("{0}\nthe commit that was open is not applied; it is read again at the next start")]
    State(#[from] StoreError),
    /// A sink cannot take messages.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A rule cannot run at all.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// Too many images of a rule are bad: it does not fit the data.
    #[error(
        "rule-does-not-fit: rule {rule} refused {bad} of {images} images of {table}, the last one with {code}: {message}\n\
         what was read since the last commit is not committed; mend the rule or the table's name and columns in it"
    )]
    BadImages {
        /// Name of the rule.
        rule: String,
        /// Table.
        table: String,
        /// Images since start.
        images: u64,
        /// Bad ones among them.
        bad: u64,
        /// Code of the last one.
        code: &'static str,
        /// Its message.
        message: String,
    },
    /// Two sources carry one table, and it is not said whether they have the same changes.
    #[error(
        "two-sources: table {table} is in source {other} and in source {source_name}, so a change that both have would count \
         twice; set `producer` of both: one name where they carry the same log, two where they do not \
         (what was read since the last commit is not committed)"
    )]
    TwoSources {
        /// Table.
        table: String,
        /// The source that carries it too.
        source_name: String,
        /// The source that carried it first.
        other: String,
    },
    /// The sources ended, and a rule has not read them to their end.
    #[error(
        "rule-paused: rule {rule} stands still: {why}\n\
         everything else is committed; mend the cause, then `retag rule resume {rule}` and start again"
    )]
    StoodStill {
        /// Name of the rule.
        rule: String,
        /// The refusal that paused it.
        why: String,
    },
    /// The sources ended and a rule could read no image of a table, for it lacks a column.
    #[error(
        "rule-does-not-fit: rule {rule} could read none of {images} images of {table}: {message}\n\
         they count nothing for it (`retag quarantine ls`); mend the rule or the table's name and columns in it"
    )]
    NoneFit {
        /// Name of the rule.
        rule: String,
        /// Table.
        table: String,
        /// Images since start.
        images: u64,
        /// What was wrong with the last one.
        message: String,
    },
    /// The sources ended and none of a rule's tables was in them.
    #[error(
        "tables-not-seen: rule {rule} reads {tables}, and the sources have no change of any of them; \
         look at the names in the rule and at what the producer captures (everything else is committed)"
    )]
    TablesNotSeen {
        /// Name of the rule.
        rule: String,
        /// Its tables.
        tables: String,
    },
    /// The working state does not fit in memory.
    #[error(
        "memory-limit: the working state takes {used} bytes, state.memory_max_bytes is {limit}; \
         everything committed is kept: raise the limit and start again"
    )]
    Memory {
        /// Bytes in use.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// The engine contradicts itself; nothing further is written.
    #[error("internal: {0}; nothing further was written, please report this")]
    Internal(String),
}
