//! What people may ask of the registry, and what it answers. A command changes the registry whole or is refused by name;
//! the commit that carries it carries its line of the audit too.
//!
//! Pure: the caller says the time, the commit and the view, and stores what comes out. So a running host and a stopped
//! directory obey alike.

use super::moves::Moves;
use super::preview;
use super::refusal::Refusal;
use super::revision::{
    AuditEntry, Operation, OperationKind, OperationState, Preview, Revision, SWITCHES_MAX, Switch, audit_key,
    file_key,
};
use super::{Compared, Generation, GenerationState, META_KEY, NO_SPACE, Registry, Retained};
use crate::config::Deliver;
use crate::label::{Cause, Transition};
use crate::state::View;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Revisions of one rule.
pub const REVISIONS_MAX: usize = 1000;
/// Who asks for what the host does by itself.
pub const HOST: &str = "retag";
/// Previews that a revision keeps.
const PREVIEWS_MAX: usize = 5;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Command {
    /// Keep a checked file as a revision (its number is given here).
    Push(Box<Revision>, Arc<Vec<u8>>),
    /// Evaluate all keys for a revision.
    Prepare {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
    },
    /// Evaluate all keys for a revision by the live one's sums: its `map` was found to count the same.
    Adopt {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// What that was found by.
        compared: Compared,
    },
    /// Keep the same file with other parameters as a revision, and prepare it.
    Params(Box<Revision>),
    /// Keep a preview with its revision.
    Keep {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// The preview.
        preview: Box<Preview>,
        /// Who would get or lose what; none where it is estimated.
        moves: Box<Moves>,
    },
    /// Make a prepared revision live.
    Activate {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
        /// Only if what it changes is still what a preview said.
        bound: Option<Bound>,
        /// Those who hear of changes alone get each key too, and no summary.
        announce: bool,
    },
    /// Make the revision live that was live before.
    Rollback {
        /// Rule.
        rule: String,
        /// Those who hear of changes alone get each key too, and no summary.
        announce: bool,
    },
    /// Drop a revision's labels that never were live.
    Cancel {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
    },
    /// Stop feeding a rule's namespaces; its labels stay.
    Pause {
        /// Rule.
        rule: String,
        /// Who, as status shows it.
        by: String,
        /// Why, as status shows it.
        why: String,
        /// It waits for nothing, and gives up what is being prepared; so does every pause by the host itself.
        forced: bool,
    },
    /// Feed them again, and read what they missed.
    Resume {
        /// Rule.
        rule: String,
    },
    /// Take a rule out: its labels are unset, its sums go.
    Remove {
        /// Rule.
        rule: String,
    },
    /// Forget a revision that nothing is read by.
    Forget {
        /// Rule.
        rule: String,
        /// Revision.
        revision: u32,
    },
    /// Drop a replaced generation whose grace is over.
    Retire {
        /// Rule.
        rule: String,
        /// Generation.
        space: u32,
    },
    /// Something is asked of a sink, which the audit says; whoever asks sees to it that it is done.
    Sink {
        /// Sink.
        sink: String,
        /// Name of what is asked.
        what: &'static str,
        /// Of what.
        of: String,
    },
    /// Drop a namespace that is not live, with its labels: it cannot go on.
    GiveUp {
        /// Rule.
        rule: String,
        /// Namespace.
        space: u32,
        /// Why.
        why: String,
    },
}

/// How far what an activation changes may have moved since a preview.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// The preview.
    pub preview: String,
    /// Percent of the keys that it said would enter or leave.
    pub max_change_percent: f64,
}

/// What a command needs to know.
pub struct Facts<'a> {
    /// The commit that will carry it.
    pub commit: u64,
    /// Engine time, µs.
    pub now: i64,
    /// The latest durable view; no commit is in flight.
    pub view: &'a View,
    /// How long a replaced generation is kept, µs.
    pub grace_us: i64,
    /// Who hears of a switch.
    pub audience: Audience,
    /// How far every partition is applied as of that view.
    pub positions: &'a [u64],
    /// How far the lanes of operations that catch up are, by operation.
    pub reached: &'a BTreeMap<u64, Vec<u64>>,
    /// Sources that do not hold their whole history.
    pub incomplete: &'a [String],
}

/// Who hears of a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Somebody wants to hear of every key that it changes.
    pub each_key: bool,
    /// Somebody wants to hear of it as a whole.
    pub summary: bool,
}

impl Audience {
    /// Those that sinks with these wishes make; who follows transitions that are `kept` may want either.
    #[must_use]
    pub fn of(wishes: impl Iterator<Item = Deliver>, kept: bool) -> Self {
        wishes.fold(Self { each_key: kept, summary: kept }, |all, wish| Self {
            each_key: all.each_key || wish == Deliver::All,
            summary: all.summary || wish == Deliver::Changes,
        })
    }
}

/// Who asks, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub why: String,
    /// Tags of the rule of which one must be what there is now (`*` = any); none = it may be whatever it is.
    pub seen: Option<Vec<String>>,
    /// They bring in what the configuration says (`retag apply`).
    pub applies: bool,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Done {
    /// The commit that carries it, or the last one when there was nothing to do.
    pub commit: u64,
    /// Rule.
    pub rule: String,
    /// Revision that it was about.
    pub revision: u32,
    /// The work that it began, or that is under way already.
    pub operation: Option<u64>,
    /// Something changed.
    pub changed: bool,
    /// The rule's tag afterwards.
    #[serde(skip)]
    pub tag: String,
}

/// What a command leaves to be stored.
#[derive(Debug)]
pub struct Effect {
    /// Rows of the `Meta` table.
    pub rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Spaces that end.
    pub dropped: Vec<u32>,
    /// What sinks hear of it as a whole.
    pub switched: Option<Transition>,
    /// The answer.
    pub done: Done,
}

impl Registry {
    /// Carries a command out: the registry after it is `self`, what is to be stored is in the effect.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub fn execute(
        &mut self,
        command: &Command,
        asker: &Asker,
        facts: &Facts<'_>,
    ) -> Result<Effect, Refusal> {
        let rule = command.rule();
        let tag = self.tag(rule);
        let is_seen = |seen: &String| tag.as_ref().is_some_and(|tag| seen == "*" || seen == tag);
        let is_of_rule = !matches!(command, Command::Sink { .. });
        if is_of_rule && asker.seen.as_ref().is_some_and(|seen| !seen.iter().any(is_seen)) {
            return Err(Refusal::Changed(rule.to_owned()));
        }
        let mut after = self.clone();
        let mut effect = after.change(command, facts)?;
        after.note_decider(command, asker.applies);
        effect.done.tag = after.tag(rule).unwrap_or_default();
        if !effect.done.changed {
            effect.done.commit = facts.view.commit();
            return Ok(effect);
        }
        let revision = Some(effect.done.revision).filter(|number| *number > 0);
        // What is forgotten is in the registry before alone.
        let of = |registry: &Self| registry.revision(rule, revision?).map(|r| r.file.clone());
        let entry = AuditEntry {
            commit: facts.commit,
            time_us: facts.now,
            by: asker.by.clone(),
            why: asker.why.clone(),
            command: if asker.applies { format!("apply {}", command.name()) } else { command.name().into() },
            with: command.with(),
            rule: rule.to_owned(),
            revision,
            file: of(&after).or_else(|| of(self)),
            sink: command.sink(),
            before: self.summary(rule),
            after: after.summary(rule),
        };
        effect.rows.push((audit_key(facts.commit), serde_json::to_vec(&entry).ok()));
        effect.rows.push((META_KEY.to_vec(), Some(after.to_bytes())));
        *self = after;
        Ok(effect)
    }

    fn change(&mut self, command: &Command, facts: &Facts<'_>) -> Result<Effect, Refusal> {
        let mut effect = Effect {
            rows: Vec::new(),
            dropped: Vec::new(),
            switched: None,
            done: Done {
                commit: facts.commit,
                rule: command.rule().to_owned(),
                revision: 0,
                operation: None,
                changed: true,
                tag: String::new(),
            },
        };
        match command {
            Command::Push(revision, bytes) => {
                let stored = self.keep(revision, facts.now, &mut effect)?;
                if stored {
                    effect.rows.push((file_key(&revision.file), Some(bytes.to_vec())));
                }
            }
            Command::Params(revision) => {
                self.is_awake(&revision.rule)?;
                self.keep(revision, facts.now, &mut effect)?;
                effect.done.changed = true;
                self.prepare(&revision.rule, effect.done.revision, facts, &mut effect)?;
            }
            Command::Prepare { rule, revision } => self.prepare(rule, *revision, facts, &mut effect)?,
            Command::Adopt { rule, revision, compared } => {
                self.adopt(rule, *revision, *compared, (facts, &mut effect))?;
            }
            Command::Keep { rule, revision, preview, moves } => {
                effect.done.revision = *revision;
                self.keep_preview((rule, *revision), (preview, moves), &mut effect)?;
            }
            Command::Activate { rule, revision, bound, announce } => {
                let new = self.activatable(rule, *revision)?;
                effect.done.revision = *revision;
                if let Some(bound) = bound {
                    self.check_bound(&new, bound, facts.view)?;
                }
                self.switch(&new, (None, *announce), facts, &mut effect)?;
            }
            Command::Rollback { rule, announce } => {
                let new = self.before(rule)?;
                effect.done.revision = new.revision;
                self.labels_are_free(&new)?;
                self.switch(&new, (Some(Cause::Rollback), *announce), facts, &mut effect)?;
            }
            Command::Cancel { rule, revision } => self.cancel(rule, *revision, facts, &mut effect)?,
            Command::Pause { rule, by, why, forced } => {
                self.pause(rule, (by, why, *forced), facts, &mut effect)?;
            }
            Command::Resume { rule } => self.resume(rule, facts, &mut effect)?,
            Command::Remove { rule } => self.remove(rule, facts, &mut effect)?,
            Command::Forget { rule, revision } => self.forget(rule, *revision, &mut effect)?,
            Command::Retire { space, .. } => self.retire(*space, facts, &mut effect),
            Command::GiveUp { space, why, .. } => self.give_up(*space, why, facts, &mut effect),
            Command::Sink { .. } => {}
        }
        Ok(effect)
    }

    /// Keeps a revision; false when it is there already.
    fn keep(&mut self, revision: &Revision, now: i64, effect: &mut Effect) -> Result<bool, Refusal> {
        if let Some(found) = self.same_revision(revision) {
            (effect.done.revision, effect.done.changed) = (found.number, false);
            return Ok(false);
        }
        if self.revisions_of(&revision.rule).count() >= REVISIONS_MAX {
            let (rule, what) = (revision.rule.clone(), "revisions");
            return Err(Refusal::TooMany { rule, limit: REVISIONS_MAX, what });
        }
        let number = self.next_revision(&revision.rule);
        effect.done.revision = number;
        self.revisions.push(Revision { number, uploaded_us: now, ..revision.clone() });
        Ok(true)
    }

    pub(super) fn known(&self, rule: &str, number: u32) -> Result<&Revision, Refusal> {
        let known = self.revisions.iter().any(|r| r.rule == rule) || self.namespace(rule).is_some();
        self.revision(rule, number).ok_or_else(|| match known {
            true => Refusal::UnknownRevision { rule: rule.to_owned(), revision: number },
            false => Refusal::UnknownRule(rule.to_owned()),
        })
    }

    pub(super) fn begin(
        &mut self,
        kind: OperationKind,
        (old, new): (u32, u32),
        cause: Cause,
        facts: &Facts<'_>,
    ) -> u64 {
        self.last_operation += 1;
        let of = self.generation(new);
        self.operations.push(Operation {
            id: self.last_operation,
            kind,
            rule: of.map_or_else(String::new, |g| g.rule.clone()),
            revision: of.map_or(0, |g| g.revision),
            old,
            new,
            cause,
            state: OperationState::Running,
            commit: facts.commit,
            began_us: facts.now,
            ended_us: None,
            keys: 0,
            read: None,
            announced: false,
            again: false,
            failure: String::new(),
        });
        self.last_operation
    }

    /// A label name belongs to one live rule.
    pub(super) fn labels_are_free(&self, generation: &Generation) -> Result<(), Refusal> {
        for label in &generation.labels {
            if let Some((other, _)) = self.label(&label.name).filter(|(g, _)| g.rule != generation.rule) {
                return Err(Refusal::LabelTaken {
                    rule: generation.rule.clone(),
                    label: label.name.clone(),
                    other: other.rule.clone(),
                });
            }
        }
        Ok(())
    }

    fn keep_preview(
        &mut self,
        (rule, number): (&str, u32),
        (preview, moves): (&Preview, &Moves),
        effect: &mut Effect,
    ) -> Result<(), Refusal> {
        self.known(rule, number)?;
        let of = |r: &&mut Revision| r.rule == rule && r.number == number;
        if let Some(revision) = self.revisions.iter_mut().find(of) {
            revision.previews.retain(|p| p.id != preview.id);
            revision.previews.push(preview.clone());
            let more = revision.previews.len().saturating_sub(PREVIEWS_MAX);
            let dropped = revision.previews.drain(..more).flat_map(|p| Moves::keys(rule, &p.id));
            effect.rows.extend(dropped.map(|key| (key, None)));
        }
        effect.rows.extend(moves.rows(rule, &preview.id).map(|(key, row)| (key, Some(row))));
        Ok(())
    }

    /// The generation of a revision that can go live now.
    fn activatable(&self, rule: &str, number: u32) -> Result<Generation, Refusal> {
        self.known(rule, number)?;
        let not = |what: String| Refusal::NotReady { rule: rule.to_owned(), revision: number, what };
        let Some(found) = self.generation_of(rule, number) else {
            return Err(not(format!("is not prepared: `retag rule prepare {rule}@{number}`")));
        };
        if matches!(found.state, GenerationState::Filling | GenerationState::Sweeping) {
            let operation = self.running().find(|o| o.new == found.space).map_or(0, |o| o.id);
            return Err(not(format!("is being prepared (operation {operation}): wait until it is ready")));
        }
        self.labels_are_free(found)?;
        Ok(found.clone())
    }

    fn check_bound(&self, new: &Generation, bound: &Bound, view: &View) -> Result<(), Refusal> {
        let live = self.live_before(new);
        let previews = self.revision(&new.rule, new.revision).map(|r| r.previews.as_slice());
        let found =
            previews.unwrap_or_default().iter().find(|p| p.id == bound.preview && p.sampled.is_none());
        let Some(found) = found.filter(|p| live.revision == p.against) else {
            return Err(Refusal::UnknownPreview {
                rule: new.rule.clone(),
                revision: new.revision,
                preview: bound.preview.clone(),
            });
        };
        let mut now = Moves::default();
        let _ = preview::compare(view, &live, new, &mut |c| now.add(c)); // its counts are not asked
        let moved = now.distance(view, &new.rule, &found.id)?.percent();
        if moved <= bound.max_change_percent {
            return Ok(());
        }
        Err(Refusal::Moved {
            rule: new.rule.clone(),
            revision: new.revision,
            preview: bound.preview.clone(),
            moved,
            max: bound.max_change_percent,
        })
    }

    /// Moves the pointer: all keys at once.
    fn switch(
        &mut self,
        new: &Generation,
        (cause, announce): (Option<Cause>, bool),
        facts: &Facts<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refusal> {
        // The way back is there for a rule that stands still, too: labels of both are as of its pause.
        let goes_back = cause == Some(Cause::Rollback) && self.is_stopped(&new.rule);
        if !goes_back {
            self.is_awake(&new.rule)?;
        }
        let old = self.live_before(new);
        if old.space == new.space {
            effect.done.changed = false;
            return Ok(());
        }
        // A key carries one mark per generation that says "told", so the way to it may be told once at a time.
        if let Some(operation) = self.running().find(|o| o.kind == OperationKind::Tell && o.new == new.space)
        {
            return Err(busy(operation));
        }
        self.live.insert(new.rule.clone(), new.space);
        self.taken_over.insert(new.rule.clone());
        let until_us = facts.now.saturating_add(facts.grace_us);
        for generation in &mut self.generations {
            if generation.space == old.space {
                generation.state = GenerationState::Retained;
                generation.retained = Some(Retained { since_us: facts.now, until_us });
            } else if generation.space == new.space {
                generation.state = GenerationState::Ready;
                generation.retained = None;
            }
        }
        if !goes_back {
            self.prepare_anew(&new.rule, facts); // what stands still is evaluated anew when it has caught up
        }
        let cause = cause.unwrap_or(match &old {
            old if old.space == NO_SPACE => Cause::Backfill,
            old if old.label_id == new.label_id && old.namespace == new.namespace => Cause::Params,
            _ => Cause::Swap,
        });
        if facts.audience.summary && !announce {
            effect.switched = Some(self.summarize((&old, new), cause, facts));
        }
        if facts.audience.each_key || announce {
            let told = self.begin(OperationKind::Tell, (old.space, new.space), cause, facts);
            for operation in self.operations.iter_mut().filter(|o| o.id == told) {
                operation.announced = announce;
            }
            effect.done.operation = Some(told);
        }
        Ok(())
    }

    /// Remembers what a switch changes, for those who hear of it as a whole.
    pub(super) fn summarize(
        &mut self,
        (old, new): (&Generation, &Generation),
        cause: Cause,
        facts: &Facts<'_>,
    ) -> Transition {
        let counts = preview::compare(facts.view, old, new, &mut |_| ());
        self.switches.push(Switch {
            commit: facts.commit,
            generation: new.space,
            changed_keys: counts.changed_keys,
            labels: counts.labels,
        });
        let more = self.switches.len().saturating_sub(SWITCHES_MAX);
        self.switches.drain(..more);
        let entity = self.entity_of(new.namespace).map_or(0, |(number, _)| number);
        Transition::switch(new.space, entity, cause)
    }

    /// The generation that was replaced last and is still kept.
    fn before(&self, rule: &str) -> Result<Generation, Refusal> {
        if self.live(rule).is_none() && self.revisions_of(rule).next().is_none() {
            return Err(Refusal::UnknownRule(rule.to_owned()));
        }
        let kept = self.generations.iter().filter(|g| g.rule == rule && g.state == GenerationState::Retained);
        let last = kept.max_by_key(|g| (g.retained.map(|r| r.since_us), g.space)).cloned();
        last.ok_or_else(|| Refusal::NothingBefore(rule.to_owned()))
    }
}

pub(super) fn busy(operation: &Operation) -> Refusal {
    let what = match operation.kind {
        OperationKind::Prepare => format!("preparing {}@{}", operation.rule, operation.revision),
        OperationKind::Tell => format!("telling the switch to {}@{}", operation.rule, operation.revision),
        OperationKind::Resume => format!("catching up with what {} missed", operation.rule),
    };
    Refusal::UnderWay { rule: operation.rule.clone(), operation: operation.id, what }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
