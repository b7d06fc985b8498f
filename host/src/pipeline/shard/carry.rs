//! What a key carries of one label generation, as marks of another one.
//!
//! A generation that is to go live and cannot be evaluated for a key stands for what the key has: it carries the marks of the
//! live one, commit by commit, so that a switch leaves them. One that was live once holds its own, as if it had never left.

use super::{Context, Held, LabelChange, Shard, Touched};
use crate::pipeline::sweep::Pair;
use crate::registry::STATUS_INDEX;
use crate::state::Slot;

impl Shard {
    /// For all generations that are to go live, once the live ones have been evaluated.
    pub(super) fn carry_all(&self, context: &Context<'_>, touched: &mut [Touched]) {
        for generation in context.program.rules.iter().flat_map(|rule| &rule.generations) {
            if let Some(pair) = &generation.replaces {
                self.carry(pair, touched);
            }
        }
    }

    /// Keys whose labels of the new generation are held get what they carry of the old one.
    pub(super) fn carry(&self, pair: &Pair, touched: &mut [Touched]) {
        for t in touched {
            let Some(held) = self.held.get(t.held) else { continue };
            let status = Slot { space: pair.new.space, index: STATUS_INDEX };
            if !held.key.starts_with(&pair.entity.to_be_bytes()) || t.mark(held, status) == 0 {
                continue;
            }
            for (index, to) in (0u16..).zip(carried(pair, &|slot| t.mark(held, slot))) {
                let slot = Slot { space: pair.new.space, index };
                let from = t.mark(held, slot);
                if from != to {
                    t.labels.push((slot, LabelChange::Mark(from, to)));
                }
            }
        }
    }
}

impl Touched {
    /// The mark of the key with what this commit has changed so far.
    fn mark(&self, held: &Held, slot: Slot) -> u16 {
        let changed = self.labels.iter().rev().find_map(|(of, change)| match change {
            LabelChange::Mark(_, to) if *of == slot => Some(*to),
            _ => None,
        });
        changed.unwrap_or_else(|| held.record.mark(slot))
    }
}

/// What a key with marks `mark` carries of the old generation as marks of the labels of the new one. A label or value that
/// the new one does not have cannot be carried.
fn carried(pair: &Pair, mark: &dyn Fn(Slot) -> u16) -> Vec<u16> {
    let marks =
        (0u16..).zip(&pair.new.labels).map(|(index, label)| mark_before(pair, mark, index, &label.name));
    marks.map(|mark| if mark == NO_MARK { 0 } else { mark }).collect()
}

/// The mark of label `index` of the new generation, called `name`, that stands for what the key carries of the old one.
pub(super) fn mark_before(pair: &Pair, mark: &dyn Fn(Slot) -> u16, index: u16, name: &str) -> u16 {
    let Some(place) = pair.old.labels.iter().position(|l| l.name == name) else { return 0 };
    let old = u16::try_from(place).unwrap_or(u16::MAX);
    same_value(pair, old, index, mark(Slot { space: pair.old.space, index: old }))
}

/// The mark that no value of a label has.
const NO_MARK: u16 = u16::MAX;

/// The mark of the new label that stands for mark `mark` of the old one: the value of the same name, else the mark that
/// no value of the new label has, so that it differs from whatever the key carries now.
fn same_value(pair: &Pair, old: u16, new: u16, mark: u16) -> u16 {
    if mark == 0 {
        return 0;
    }
    let values = pair.new.labels.get(usize::from(new)).map(|l| l.values.as_slice()).unwrap_or_default();
    match pair.old.value_name(old, mark) {
        None if values.is_empty() => 1,
        None => NO_MARK,
        Some(name) => {
            let place = values.iter().position(|v| v == name);
            place.and_then(|p| u16::try_from(p + 1).ok()).unwrap_or(NO_MARK)
        }
    }
}
