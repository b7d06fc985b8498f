//! Rules and revisions that go.
//!
//! A rule goes in two steps. The command takes its live labels away: consumers read none any more, nothing feeds its sums. Those
//! who want to hear of each key are then told that its labels are unset, slice by slice; its last generation and its
//! namespace go when that is done. Its revisions and its audit stay, and so does the fact that commands decide on it: a
//! configuration that names it still does not bring it back.

use super::command::{Command, Effect, Facts, busy};
use super::moves::Moves;
use super::refusal::Refusal;
use super::revision::{OperationKind, OperationState, file_key};
use super::{Generation, GenerationState, Registry};
use crate::label::Cause;

impl Generation {
    /// What it leaves behind: the same without labels.
    #[must_use]
    pub fn without_labels(&self) -> Self {
        Self { labels: Vec::new(), ..self.clone() }
    }
}

impl Registry {
    /// Takes a rule out.
    pub(super) fn remove(
        &mut self,
        rule: &str,
        facts: &Facts<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refusal> {
        let live = self.live(rule).cloned().ok_or_else(|| Refusal::UnknownRule(rule.to_owned()))?;
        effect.done.revision = live.revision;
        if let Some(operation) = self.running().find(|o| o.rule == rule && o.kind == OperationKind::Tell) {
            return Err(busy(operation));
        }
        let running: Vec<u64> = self.running().filter(|o| o.rule == rule).map(|o| o.id).collect();
        for id in running {
            self.end_operation(id, OperationState::Cancelled, (facts.now, 0));
        }
        if facts.audience.summary {
            let gone = live.without_labels();
            effect.switched = Some(self.summarize((&live, &gone), Cause::Swap, facts));
        }
        self.live.remove(rule);
        self.pauses.remove(rule);
        self.taken_over.insert(rule.to_owned());
        let told = facts.audience.each_key;
        let was_live = |g: &Generation| g.space == live.space || g.state == GenerationState::Retained;
        let never = |g: &Generation| g.rule == rule && g.state.is_kept() && !was_live(g);
        effect.dropped.extend(self.generations.iter().filter(|g| never(g)).map(|g| g.space));
        self.generations.retain(|g| !never(g));
        for generation in self.generations.iter_mut().filter(|g| g.rule == rule && g.state.is_kept()) {
            generation.retained = None;
            generation.state = GenerationState::Retired;
            if generation.space == live.space && told {
                generation.state = GenerationState::Retiring;
            } else {
                effect.dropped.push(generation.space);
            }
        }
        let goes = |n: &super::Namespace| n.rule == rule && !(told && n.space == live.namespace);
        effect.dropped.extend(self.namespaces.iter().filter(|n| goes(n)).map(|n| n.space));
        self.namespaces.retain(|n| !goes(n));
        if told {
            self.leaving.insert(rule.to_owned());
            let spaces = (live.space, live.space);
            effect.done.operation = Some(self.begin(OperationKind::Tell, spaces, Cause::Swap, facts));
        }
        Ok(())
    }

    /// The last generation of a rule that has gone, once everyone is told.
    pub(super) fn gone(&self) -> Option<Command> {
        let is_gone = |g: &&Generation| {
            g.state == GenerationState::Retiring && self.leaving.contains(&g.rule) && !self.is_needed(g.space)
        };
        let found = self.generations.iter().find(is_gone)?;
        Some(Command::Retire { rule: found.rule.clone(), space: found.space })
    }

    /// Forgets a revision that nothing is read by.
    pub(super) fn forget(&mut self, rule: &str, number: u32, effect: &mut Effect) -> Result<(), Refusal> {
        let known = self.known(rule, number)?;
        let file = known.file.clone();
        let moves = known.previews.iter().flat_map(|p| Moves::keys(rule, &p.id));
        effect.rows.extend(moves.map(|key| (key, None)));
        effect.done.revision = number;
        let leaving = |g: &Generation| g.state == GenerationState::Retiring && self.leaving.contains(rule);
        let mut of = self.generations.iter().filter(|g| g.rule == rule && g.revision == number);
        if of.any(|g| g.state.is_kept() || leaving(g)) {
            let release = serde_json::to_value(self.release(rule, number)).unwrap_or_default();
            let what = release.as_str().unwrap_or_default().to_owned();
            return Err(Refusal::InUse { rule: rule.to_owned(), revision: number, what });
        }
        let last = self.next_revision(rule) - 1;
        self.last_revisions.insert(rule.to_owned(), last);
        self.revisions.retain(|r| r.rule != rule || r.number != number);
        let needed = self.revisions.iter().any(|r| r.file == file)
            || self.generations.iter().any(|g| g.file == file && g.state.is_kept())
            || self.namespaces.iter().any(|n| n.file == file);
        if !needed {
            effect.rows.push((file_key(&file), None));
        }
        Ok(())
    }
}
