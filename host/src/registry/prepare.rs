//! Revisions on their way to be ready, and off it: label generations and namespaces that begin and end.
//!
//! A revision that counts what a namespace of its rule counts already only needs labels. Another one gets a namespace of
//! its own, fed by the stream from the fence on, which is where the stream stands in the very commit of the command; what
//! lies before the fence is read beside the stream.

use super::command::{Command, Effect, Facts, busy};
use super::refusal::Refusal;
use super::revision::{Operation, OperationKind, OperationState, Revision};
use super::{
    ERROR, Generation, GenerationState, KeyType, LabelNames, NO_SPACE, Namespace, OVERFLOW, PENDING,
    Registry, STATUS_INDEX,
};
use crate::label::Cause;

/// Label generations of one rule that are kept up to date at once.
pub const GENERATIONS_MAX: usize = 4;

impl Registry {
    pub(super) fn prepare(
        &mut self,
        rule: &str,
        number: u32,
        facts: &Facts<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refusal> {
        let revision = self.known(rule, number)?.clone();
        effect.done.revision = number;
        let live = self.live(rule).map_or(NO_SPACE, |g| g.space);
        self.is_awake(rule)?;
        if self.leaving.contains(rule) {
            let operation = self.running().find(|o| o.rule == rule).map_or(0, |o| o.id);
            let what = "telling that its labels are gone".to_owned();
            return Err(Refusal::UnderWay { rule: rule.to_owned(), operation, what });
        }
        let under_way = self.running().find(|o| o.rule == rule && o.kind == OperationKind::Prepare);
        if self.generation_of(rule, number).is_some() {
            effect.done.operation = under_way.filter(|o| o.revision == number).map(|o| o.id);
            effect.done.changed &= false;
            return Ok(());
        }
        if let Some(operation) = under_way {
            return Err(busy(operation));
        }
        let kept = self.generations.iter().filter(|g| g.rule == rule && g.state.is_kept()).count();
        if kept >= GENERATIONS_MAX && !self.make_room(&revision, effect) {
            let what = "label generations that are kept up to date";
            return Err(Refusal::TooMany { rule: rule.to_owned(), limit: GENERATIONS_MAX, what });
        }
        let labels = revision.manifest.labels.iter();
        let mut generation = Generation {
            space: 0,
            rule: rule.to_owned(),
            namespace: 0,
            revision: number,
            label_id: revision.label_id.clone(),
            params: revision.params.clone(),
            labels: labels.map(|l| LabelNames { name: l.name.clone(), values: l.values.clone() }).collect(),
            state: GenerationState::Sweeping,
            file: revision.file.clone(),
            given: revision.given.clone(),
            retained: None,
        };
        self.labels_are_free(&generation)?;
        let same = |n: &&Namespace| n.rule == rule && n.counts(&revision.namespace_id);
        let filling;
        (generation.namespace, filling) = match self.namespaces.iter().find(same) {
            Some(found) => (found.space, found.filling),
            None => self.attach(&revision, facts)?,
        };
        if filling {
            generation.state = GenerationState::Filling;
        }
        let space = self.new_space();
        generation.space = space;
        self.generations.push(generation);
        self.taken_over.insert(rule.to_owned());
        self.note_failure(rule, number, "");
        effect.done.operation = Some(self.begin(OperationKind::Prepare, (live, space), Cause::Swap, facts));
        Ok(())
    }

    /// Ends the grace of what was replaced first, but for the last one, which is the way back, and for sums that `coming` needs and
    /// that nothing else holds. False = there is none other.
    fn make_room(&mut self, coming: &Revision, effect: &mut Effect) -> bool {
        let of = self.generations.iter().filter(|g| g.rule == coming.rule);
        let retained = of.filter(|g| g.state == GenerationState::Retained);
        let mut retained: Vec<&Generation> = retained.collect();
        retained.sort_by_key(|g| (g.retained.map(|r| r.since_us), g.space));
        retained.pop();
        let readers = |namespace: u32| {
            self.generations.iter().filter(|g| g.namespace == namespace && g.state.is_kept()).count()
        };
        let holds_sums = |g: &Generation| {
            let found = self.namespace_of(g.namespace);
            found.is_some_and(|n| n.counts(&coming.namespace_id)) && readers(g.namespace) == 1
        };
        let free = retained.into_iter().find(|g| !holds_sums(g) && !self.is_needed(g.space));
        let Some(space) = free.map(|g| g.space) else { return false };
        self.end_generation(space, effect);
        effect.done.revision = coming.number;
        true
    }

    /// A namespace for a revision, and whether it has a history to read.
    fn attach(&mut self, revision: &Revision, facts: &Facts<'_>) -> Result<(u32, bool), Refusal> {
        let (rule, number) = (&revision.rule, revision.number);
        if let Some(source_name) = facts.incomplete.first().cloned() {
            return Err(Refusal::NoHistory { rule: rule.clone(), revision: number, source_name });
        }
        let (manifest, of_rule) = (&revision.manifest, self.namespace(rule).map(|n| n.entity));
        let entity = KeyType::of(manifest.key).and_then(|key| self.entity(&manifest.entity, key));
        let Some(entity) = entity.filter(|entity| of_rule.is_none_or(|of_rule| of_rule == *entity)) else {
            let entity = manifest.entity.clone();
            return Err(Refusal::EntityChanged { rule: rule.clone(), revision: number, entity });
        };
        let filling = facts.positions.iter().any(|position| *position > 0);
        let space = self.new_space();
        self.namespaces.push(Namespace {
            space,
            rule: rule.clone(),
            namespace_id: revision.namespace_id.clone(),
            entity,
            aggregates: manifest.aggregates.clone(),
            key_column: manifest.tables.first().map_or_else(String::new, |t| t.key.clone()),
            fence: facts.positions.to_vec(),
            filling,
            file: revision.file.clone(),
            adopted: Vec::new(),
        });
        Ok((space, filling))
    }

    /// The namespace has its history: its labels can be evaluated.
    pub fn filled(&mut self, space: u32) {
        for namespace in self.namespaces.iter_mut().filter(|n| n.space == space) {
            namespace.filling = false;
        }
        let of = |g: &&mut Generation| g.namespace == space && g.state == GenerationState::Filling;
        for generation in self.generations.iter_mut().filter(of) {
            generation.state = GenerationState::Sweeping;
        }
    }

    pub(super) fn cancel(
        &mut self,
        rule: &str,
        number: u32,
        facts: &Facts<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refusal> {
        self.known(rule, number)?;
        effect.done.revision = number;
        let live = self.live.get(rule).copied();
        let found = self.generation_of(rule, number).filter(|g| Some(g.space) != live);
        let never_live = |g: &&Generation| g.state != GenerationState::Retained;
        let Some(found) = found.filter(never_live).cloned() else {
            let release = serde_json::to_value(self.release(rule, number)).unwrap_or_default();
            let what = release.as_str().unwrap_or_default().to_owned();
            return Err(Refusal::NotCancellable { rule: rule.to_owned(), revision: number, what });
        };
        self.end_prepares(found.space, OperationState::Cancelled, facts, effect);
        self.generations.retain(|g| g.space != found.space);
        effect.dropped.push(found.space);
        self.drop_unused(found.namespace, effect);
        Ok(())
    }

    fn end_prepares(&mut self, new: u32, state: OperationState, facts: &Facts<'_>, effect: &mut Effect) {
        let running: Vec<u64> = self.running().filter(|o| o.new == new).map(|o| o.id).collect();
        for id in running {
            self.end_operation(id, state, (facts.now, 0));
            effect.done.operation = Some(id);
        }
    }

    /// Gives up what is prepared for generation `new`.
    pub(super) fn fail_prepare(&mut self, new: u32, why: &str, facts: &Facts<'_>, effect: &mut Effect) {
        let of = self.generation(new).map(|g| (g.namespace, g.rule.clone(), g.revision));
        self.end_prepares(new, OperationState::Failed, facts, effect);
        for operation in self.operations.iter_mut().filter(|o| o.new == new) {
            if operation.state == OperationState::Failed && operation.failure.is_empty() {
                why.clone_into(&mut operation.failure);
            }
        }
        self.generations.retain(|g| g.space != new);
        effect.dropped.push(new);
        effect.done.operation = None;
        if let Some((namespace, rule, revision)) = of {
            self.note_failure(&rule, revision, why);
            self.drop_unused(namespace, effect);
        }
    }

    /// Why what was prepared for a revision was given up; empty = it is prepared anew.
    fn note_failure(&mut self, rule: &str, number: u32, why: &str) {
        let of = |r: &&mut Revision| r.rule == rule && r.number == number;
        if let Some(revision) = self.revisions.iter_mut().find(of) {
            why.clone_into(&mut revision.failure);
        }
    }

    /// A namespace goes with the last label generation that is read from it.
    fn drop_unused(&mut self, namespace: u32, effect: &mut Effect) {
        if !self.generations.iter().any(|g| g.namespace == namespace && g.state.is_kept()) {
            let rule = self.namespace_of(namespace).map(|n| n.rule.clone()).unwrap_or_default();
            self.namespaces.retain(|n| n.space != namespace);
            effect.dropped.push(namespace);
            // A rule that never was live is as if it had only been pushed.
            if self.namespace(&rule).is_none() && !self.generations.iter().any(|g| g.rule == rule) {
                self.taken_over.remove(&rule);
            }
        }
    }

    /// Another generation of the rule went live: where labels of those that are to go live are held, they stand for what keys
    /// carry now, so all keys are gone over once more.
    pub(super) fn prepare_anew(&mut self, rule: &str, facts: &Facts<'_>) {
        let of = self.generations.iter().filter(|g| g.rule == rule && self.is_to_go_live(g));
        let of: Vec<(u32, GenerationState)> = of.map(|g| (g.space, g.state)).collect();
        for (space, state) in of {
            let held = |mark: &u16| facts.view.count(space, STATUS_INDEX, *mark) > 0;
            if state == GenerationState::Sweeping {
                let of = |o: &&mut Operation| o.new == space && o.state == OperationState::Running;
                self.operations.iter_mut().filter_map(|o| Some(o).filter(of)).for_each(|o| o.again = true);
            } else if [PENDING, ERROR, OVERFLOW].iter().any(held) {
                let live = self.live.get(rule).copied().unwrap_or(NO_SPACE);
                self.begin(OperationKind::Prepare, (live, space), Cause::Swap, facts);
                self.generations
                    .iter_mut()
                    .filter(|g| g.space == space)
                    .for_each(|g| g.state = GenerationState::Sweeping);
            }
        }
    }

    /// A generation whose grace is over and that no telling needs any more.
    #[must_use]
    pub fn expired(&self, now: i64) -> Option<Command> {
        if let Some(gone) = self.gone() {
            return Some(gone);
        }
        let over = |g: &&Generation| {
            let due = g.retained.is_some_and(|r| r.until_us <= now);
            let awake = !self.pauses.contains_key(&g.rule);
            g.state == GenerationState::Retained && due && awake && !self.is_needed(g.space)
        };
        let found = self.generations.iter().find(over)?;
        Some(Command::Retire { rule: found.rule.clone(), space: found.space })
    }

    /// An operation under way needs the generation's labels.
    pub(super) fn is_needed(&self, generation: u32) -> bool {
        self.running().any(|o| o.old == generation || o.new == generation)
    }

    pub(super) fn retire(&mut self, space: u32, facts: &Facts<'_>, effect: &mut Effect) {
        effect.done.changed =
            matches!(self.expired(facts.now), Some(Command::Retire { space: s, .. }) if s == space);
        if effect.done.changed {
            self.end_generation(space, effect);
            if let Some(rule) = self.generation(space).map(|g| g.rule.clone()) {
                self.leaving.remove(&rule);
            }
        }
    }

    fn end_generation(&mut self, space: u32, effect: &mut Effect) {
        let Some(generation) = self.generations.iter_mut().find(|g| g.space == space) else { return };
        generation.state = GenerationState::Retired;
        generation.retained = None;
        effect.done.revision = generation.revision;
        let namespace = generation.namespace;
        effect.dropped.push(space);
        self.drop_unused(namespace, effect);
    }

    /// Nobody reads labels from the namespace.
    #[must_use]
    pub fn is_spare(&self, space: u32) -> bool {
        let mut of = self.generations.iter().filter(|g| g.namespace == space && g.state.is_kept()).peekable();
        of.peek().is_some() && of.all(|g| self.live.get(&g.rule) != Some(&g.space))
    }

    /// Nobody reads labels from the namespace, and no switch from or to it is being told.
    #[must_use]
    pub fn can_give_up(&self, space: u32) -> bool {
        let mut of = self.generations.iter().filter(|g| g.namespace == space && g.state.is_kept());
        let telling = |g: &Generation| {
            self.running().any(|o| o.kind == OperationKind::Tell && (o.old == g.space || o.new == g.space))
        };
        self.is_spare(space) && of.all(|g| !telling(g))
    }

    pub(super) fn give_up(&mut self, space: u32, why: &str, facts: &Facts<'_>, effect: &mut Effect) {
        effect.done.changed = self.can_give_up(space);
        if !effect.done.changed {
            return;
        }
        let of = self.generations.iter().filter(|g| g.namespace == space && g.state.is_kept());
        let of: Vec<Generation> = of.cloned().collect();
        for generation in of {
            self.end_prepares(generation.space, OperationState::Failed, facts, effect);
            for operation in self.operations.iter_mut().filter(|o| o.new == generation.space) {
                if operation.state == OperationState::Failed {
                    why.clone_into(&mut operation.failure);
                }
            }
            if generation.state != GenerationState::Retained {
                self.generations.retain(|g| g.space != generation.space);
                self.note_failure(&generation.rule, generation.revision, why);
                effect.done.revision = generation.revision;
                effect.dropped.push(generation.space);
                self.drop_unused(space, effect);
            } else {
                self.end_generation(generation.space, effect);
            }
        }
    }
}
