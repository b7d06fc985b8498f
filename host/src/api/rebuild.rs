//! A rebuild under way: which rule, and how far. The command that runs it writes, answers read.

use super::error::ApiError;
use crate::pipeline::coordinator::Status;
use crate::rule::Manifest;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A rebuild under way.
#[derive(Debug)]
pub struct Rebuild {
    rule: String,
    entity: String,
    labels: Vec<String>,
    /// Bytes that an earlier start had read already.
    bytes_before: u64,
    progress: Mutex<RebuildProgress>,
}

/// How far a rebuild is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RebuildProgress {
    /// The rule.
    pub rule: String,
    /// Part of its history that is read, 0 to 100.
    pub percent: u64,
    /// Changes read, by earlier starts too.
    pub rows: u64,
    /// Changes a second, since this start.
    pub rows_per_second: u64,
    /// Seconds until the end at this speed; null before anything is known.
    pub seconds_left: Option<u64>,
}

impl Rebuild {
    /// A rebuild of the rule with this manifest that stands at `status`.
    #[must_use]
    pub fn new(rule: &Manifest, status: &Status) -> Self {
        let rebuild = Self {
            rule: rule.name.clone(),
            entity: rule.entity.clone(),
            labels: rule.labels.iter().map(|label| label.name.clone()).collect(),
            bytes_before: status.bytes_read,
            progress: Mutex::default(),
        };
        rebuild.note(status, Duration::ZERO);
        rebuild
    }

    /// It stands at `status`, `elapsed` after it began.
    pub fn note(&self, status: &Status, elapsed: Duration) {
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let read = status.bytes_read.saturating_sub(self.bytes_before);
        let left = status.bytes_known.saturating_sub(status.bytes_read);
        let per =
            |n: u64, by: u64| u64::try_from(u128::from(n) * 1000 / u128::from(by.max(1))).unwrap_or(u64::MAX);
        let ms_left = u128::from(left) * u128::from(ms) / u128::from(read.max(1));
        let progress = RebuildProgress {
            rule: self.rule.clone(),
            percent: per(status.bytes_read, status.bytes_known) / 10,
            rows: status.changes,
            rows_per_second: per(status.changes_since_start, ms),
            seconds_left: (read > 0).then(|| u64::try_from(ms_left.div_ceil(1000)).unwrap_or(u64::MAX)),
        };
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> RebuildProgress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The refusal of a read that the rule will answer once its history is read.
    pub(super) fn refusal(&self, what: What<'_>) -> Option<ApiError> {
        let of_rule = match what {
            What::Rule(name) => self.rule == name,
            What::Entity(name) => self.entity == name,
            What::Label(name) => self.labels.iter().any(|label| label == name),
        };
        of_rule.then(|| ApiError::Rebuilding { rule: self.rule.clone(), percent: self.progress().percent })
    }
}

/// What a read asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'a> {
    /// A rule.
    Rule(&'a str),
    /// An entity.
    Entity(&'a str),
    /// A label.
    Label(&'a str),
}

impl std::fmt::Display for RebuildProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, percent, rows, rows_per_second, .. } = self;
        write!(f, "rebuilding {rule}: {percent} %, {rows} rows, {rows_per_second} rows/s, ")?;
        match self.seconds_left {
            Some(seconds) => write!(f, "about {seconds} s left"),
            None => write!(f, "time left not known yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_what_this_start_has_done() {
        let at = |bytes_read, changes| Status {
            changes,
            bad_images: 0,
            changes_since_start: changes - 100,
            transitions: 0,
            commit: 1,
            bytes_read,
            bytes_known: 1000,
        };
        let rebuild = Rebuild {
            rule: "payer".into(),
            entity: "user".into(),
            labels: Vec::new(),
            bytes_before: 200,
            progress: Mutex::default(),
        };
        let check = |status: Status, ms, expect: &str| {
            rebuild.note(&status, Duration::from_millis(ms));
            assert_eq!(rebuild.progress().to_string(), expect);
        };
        check(at(200, 100), 0, "rebuilding payer: 20 %, 100 rows, 0 rows/s, time left not known yet");
        check(at(400, 200), 2000, "rebuilding payer: 40 %, 200 rows, 50 rows/s, about 6 s left");
        check(at(1000, 500), 8000, "rebuilding payer: 100 %, 500 rows, 50 rows/s, about 0 s left");
    }
}
