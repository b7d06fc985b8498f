//! A slice of a shard: every stored key, not only the touched ones. Keys that are not held are read for the slice and
//! forgotten again: it must not fill the memory with keys that nothing touches.
//!
//! Evaluate: the new generation's labels are set, nothing is told. Tell: what differs between the old generation and the
//! new one is told, and the old one's labels go. Renew: labels are set anew and what the live generation changes is told.
//! Announce: the same for those that are not marked as told; the old
//! generation stays.

use super::super::sweep::{Pair, Stage, SweepSlice};
use super::carry::mark_before;
use super::{Context, Evaluation, Held, LabelChange, Shard, ShardOutput, TimerChange, Touched, moment};
use crate::label::Transition;
use crate::pipeline::failure::Failure;
use crate::registry::{Generation, STATUS_INDEX, TOLD_INDEX, WAKE_INDEX};
use crate::rule::Labeler;
use crate::state::{BlockWriter, ShortBytes, Slot};

impl Shard {
    /// Does one slice. What is held equals the view, for no commit is in flight.
    pub(in crate::pipeline) fn sweep(
        &mut self,
        slice: &SweepSlice,
        context: &Context<'_>,
        labelers: &mut [Vec<Labeler>],
    ) -> Result<ShardOutput, Failure> {
        let records = context.view.scan_brief(self.number, slice.after.as_deref(), slice.limit)?;
        let swept = (records.len() == slice.limit).then(|| records.last().map(|(key, _)| key.clone()));
        let mut output = ShardOutput { shard: self.number, keys: records.len() as u64, ..Default::default() };
        let (held_before, mut touched) = (self.held.len(), Vec::new());
        for (key, record) in records {
            let Some(hash) = context.hash(&key) else { continue };
            let held = match self.lookup(hash, &key) {
                Some(held) => held,
                None => {
                    self.held.push(Held { hash, key: ShortBytes::new(&key), record, exists: true });
                    self.held.len() - 1
                }
            };
            self.purge(held);
            touched.push(Touched::untold(held));
        }
        for pair in slice.pairs.iter() {
            match slice.stage {
                Stage::Evaluate | Stage::Renew => {
                    self.evaluate_pair((pair, slice.stage), context, labelers, &mut touched, &mut output)?
                }
                Stage::Tell => self.tell_and_clear(pair, &mut touched, &mut output),
                Stage::Announce => self.announce(pair, &mut touched, &mut output),
            }
        }
        if slice.stage == Stage::Renew {
            self.carry_all(context, &mut touched);
        }
        output.transitions.sort_by(|a, b| (a.entity, &a.key).cmp(&(b.entity, &b.key)));
        output.block = self.write(&touched, &[], BlockWriter::new(context.commit))?;
        output.swept = Some(swept.flatten());
        self.held.truncate(held_before);
        Ok(output)
    }

    fn evaluate_pair(
        &mut self,
        (pair, stage): (&Pair, Stage),
        context: &Context<'_>,
        labelers: &mut [Vec<Labeler>],
        touched: &mut [Touched],
        output: &mut ShardOutput,
    ) -> Result<(), Failure> {
        for (rule, labelers) in context.program.rules.iter().zip(labelers) {
            for (generation, labeler) in rule.generations.iter().zip(labelers) {
                if generation.space == pair.new.space {
                    let evaluation = Evaluation {
                        rule,
                        cause: pair.cause,
                        now: context.now,
                        generation: generation.space,
                        live: generation.live && stage == Stage::Renew,
                        labels: generation.labels,
                    };
                    self.evaluate(&evaluation, labeler, (touched, &[]), output)?;
                    if stage == Stage::Evaluate {
                        self.carry(generation.replaces.as_deref().unwrap_or(pair), touched);
                    }
                }
            }
        }
        Ok(())
    }

    fn tell_and_clear(&self, pair: &Pair, touched: &mut [Touched], output: &mut ShardOutput) {
        for t in touched {
            let Some(held) = self.held.get(t.held) else { continue };
            tell(pair, held, output);
            let marks = (0u16..).take(pair.old.labels.len()).chain([STATUS_INDEX]);
            for slot in marks.map(|index| Slot { space: pair.old.space, index }) {
                let from = held.record.mark(slot);
                if from != 0 {
                    t.labels.push((slot, LabelChange::Mark(from, 0)));
                }
            }
            let slot = Slot { space: pair.old.space, index: WAKE_INDEX };
            if let Some(before) = moment(held.record.register(slot)) {
                t.labels.push((slot, LabelChange::Wake(None)));
                let (generation, key) = (pair.old.space, (&*held.key).into());
                output.timers.push(TimerChange { generation, key, before: Some(before), after: None });
            }
        }
    }

    /// Tells those that no commit since the switch has touched; of the others the mark that says so goes.
    fn announce(&self, pair: &Pair, touched: &mut [Touched], output: &mut ShardOutput) {
        for t in touched {
            let Some(held) = self.held.get(t.held) else { continue };
            let slot = Slot { space: pair.new.space, index: TOLD_INDEX };
            match held.record.mark(slot) {
                0 => tell(pair, held, output),
                told => t.labels.push((slot, LabelChange::Mark(told, 0))),
            }
        }
    }

    /// Tells the touched keys of switches that they have not been told of, before anything of this commit is told.
    pub(super) fn tell_touched(
        &self,
        context: &Context<'_>,
        touched: &mut [Touched],
        output: &mut ShardOutput,
    ) {
        for telling in context.tellings {
            let pair = &telling.pair;
            let slot = Slot { space: pair.new.space, index: TOLD_INDEX };
            for t in touched.iter_mut() {
                let Some(held) = self.held.get(t.held) else { continue };
                let of_entity = held.key.starts_with(&pair.entity.to_be_bytes());
                // A timer of a key that is gone: nothing to tell, and no mark may bring it back.
                let is_there = held.exists || !held.record.is_empty();
                if !of_entity || !is_there || held.record.mark(slot) != 0 {
                    continue;
                }
                if !telling.has_told(self.number, &held.key) {
                    tell(pair, held, output);
                    t.labels.push((slot, LabelChange::Mark(0, 1)));
                }
            }
        }
    }
}

/// Tells what differs for a key between the marks of the old generation and those of the new one.
fn tell(pair: &Pair, held: &Held, output: &mut ShardOutput) {
    let mark = |g: &Generation, index| held.record.mark(Slot { space: g.space, index });
    let mut tell = |generation: &Generation, label, from, to| {
        output.transitions.push(Transition {
            generation: generation.space,
            label,
            from,
            to,
            cause: pair.cause,
            announced: pair.announced,
            entity: pair.entity,
            key: held.key.get(2..).unwrap_or(&[]).into(),
        });
    };
    for (index, label) in (0u16..).zip(&pair.new.labels) {
        let now = mark(&pair.new, index);
        let before = mark_before(pair, &|slot| held.record.mark(slot), index, &label.name);
        if before != now {
            tell(&pair.new, index, before, now);
        }
    }
    for (index, label) in (0u16..).zip(&pair.old.labels) {
        let before = mark(&pair.old, index);
        if before != 0 && !pair.new.labels.iter().any(|l| l.name == label.name) {
            tell(&pair.old, index, before, 0);
        }
    }
}
