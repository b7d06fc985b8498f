//! Rules that stand still: since when, and what their namespaces lack.
//!
//! A pause is a place: the positions of the commit that carries it. Behind it the stream feeds the rule's namespaces no
//! more; its labels stay. A resume closes the gap at its own commit; from there on the stream feeds them again, and what lies
//! in the gap is read beside the stream, with ids of its own: a change that was known at the pause has been counted, every
//! other one in the gap counts once. A rule that is paused again before its gap is filled has two.

use super::Registry;
use super::command::{Effect, Facts, busy};
use super::refusal::Refusal;
use super::revision::{OperationKind, OperationState};
use crate::label::Cause;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A rule that stands still, or catches up with what it missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The commit that paused it.
    pub commit: u64,
    /// Engine time of that, µs.
    pub since_us: i64,
    /// Who paused it.
    pub by: String,
    /// Why: as they said, or the refusal by name.
    pub why: String,
    /// What its namespaces lack, oldest first.
    pub gaps: Vec<Gap>,
    /// The operation that catches up; none = it stands still.
    pub operation: Option<u64>,
}

/// A stretch of every partition that a rule's namespaces lack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Number of the lane that reads it; its ids stand under it.
    pub lane: u64,
    /// Ids that this commit or one before it entered have been counted.
    pub commit: u64,
    /// Where it begins, per partition; one that is not listed lies wholly in it.
    pub from: Vec<u64>,
    /// Where it ends; none = the rule still stands still. A partition that is not listed lies wholly behind it.
    pub until: Option<Vec<u64>>,
}

impl Gap {
    /// Where it begins and ends in every partition that it touches.
    pub fn stretches(&self) -> impl Iterator<Item = (u64, u64)> {
        let from = self.from.iter().copied().chain(std::iter::repeat(0));
        from.zip(self.until.iter().flatten().copied())
    }

    fn is_empty(&self) -> bool {
        self.until.is_some() && self.stretches().all(|(from, until)| from >= until)
    }
}

impl Registry {
    /// The stream does not feed the rule's namespaces.
    #[must_use]
    pub fn is_stopped(&self, rule: &str) -> bool {
        self.pauses.get(rule).is_some_and(|pause| pause.operation.is_none())
    }

    /// The rule's namespaces lack something, so its labels are not evaluated.
    #[must_use]
    pub fn lacks(&self, rule: &str) -> bool {
        self.pauses.get(rule).is_some_and(|pause| !pause.gaps.is_empty())
    }

    /// Numbers of the lanes whose ids are still needed.
    #[must_use]
    pub fn lanes(&self) -> BTreeSet<u64> {
        let gaps = self.pauses.values().flat_map(|pause| &pause.gaps);
        self.running().map(|o| o.id).chain(gaps.map(|gap| gap.lane)).collect()
    }

    /// Refuses what a rule that stands still or catches up cannot take.
    pub(super) fn is_awake(&self, rule: &str) -> Result<(), Refusal> {
        let Some(pause) = self.pauses.get(rule) else { return Ok(()) };
        Err(Refusal::Paused { rule: rule.to_owned(), operation: pause.operation })
    }

    /// Pauses a rule; `who` and why. A forced pause, as every one by the host itself is, waits for nothing: revisions that
    /// are being prepared are given up.
    pub(super) fn pause(
        &mut self,
        rule: &str,
        (by, why, forced): (&str, &str, bool),
        facts: &Facts<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refusal> {
        let live = self.live(rule).ok_or_else(|| Refusal::UnknownRule(rule.to_owned()))?;
        effect.done.revision = live.revision;
        if self.is_stopped(rule) {
            effect.done.changed = false;
            return Ok(());
        }
        let preparing = self.running().filter(|o| o.rule == rule && o.kind == OperationKind::Prepare);
        for operation in preparing.cloned().collect::<Vec<_>>() {
            if !forced {
                return Err(busy(&operation));
            }
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            self.fail_prepare(operation.new, &format!("the rule was paused{why}"), facts, effect);
        }
        let mut gaps = Vec::new();
        if let Some(before) = self.pauses.remove(rule) {
            gaps = before.gaps;
            if let (Some(operation), Some(gap)) = (before.operation, gaps.first_mut())
                && let Some(reached) = facts.reached.get(&operation)
            {
                gap.from.clone_from(reached);
            }
            let state = if forced { OperationState::Failed } else { OperationState::Cancelled };
            if let Some(id) = before.operation {
                self.end_operation(id, state, (facts.now, 0));
                for operation in self.operations.iter_mut().filter(|o| o.id == id && forced) {
                    why.clone_into(&mut operation.failure);
                }
            }
        }
        self.last_operation += 1;
        let (lane, commit) = (self.last_operation, facts.commit);
        gaps.push(Gap { lane, commit, from: facts.positions.to_vec(), until: None });
        let (by, why, since_us) = (by.to_owned(), why.to_owned(), facts.now);
        self.pauses.insert(rule.to_owned(), Pause { commit, since_us, by, why, gaps, operation: None });
        self.taken_over.insert(rule.to_owned());
        Ok(())
    }

    pub(super) fn resume(
        &mut self,
        rule: &str,
        facts: &Facts<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refusal> {
        let live = self.live(rule).ok_or_else(|| Refusal::UnknownRule(rule.to_owned()))?;
        let space = live.space;
        effect.done.revision = live.revision;
        let pause = self.pauses.get(rule);
        effect.done.operation = pause.and_then(|pause| pause.operation);
        if pause.is_none_or(|pause| pause.operation.is_some()) {
            effect.done.changed = false;
            return Ok(());
        }
        let operation = self.begin(OperationKind::Resume, (space, space), Cause::Catchup, facts);
        effect.done.operation = Some(operation);
        if let Some(pause) = self.pauses.get_mut(rule) {
            pause.operation = Some(operation);
            if let Some(gap) = pause.gaps.last_mut() {
                gap.until = Some(facts.positions.to_vec());
            }
            pause.gaps.retain(|gap| !gap.is_empty());
        }
        Ok(())
    }

    /// The oldest gap of a rule is filled; the next one.
    pub fn filled_gap(&mut self, rule: &str) -> Option<Gap> {
        let gaps = &mut self.pauses.get_mut(rule)?.gaps;
        if !gaps.is_empty() {
            gaps.remove(0);
        }
        gaps.first().cloned()
    }
}
