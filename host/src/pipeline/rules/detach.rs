//! Rules of the state that the configuration does not name: those that may go do, any other one stops the start.

use super::{Attached, Loaded, RulesError, is_taken_over, managed, stored};
use crate::label::Cause;
use crate::pipeline::setup::Options;
use crate::pipeline::sweep::Pair;
use crate::registry::{Generation, NO_SPACE};
use crate::state::View;
use std::collections::BTreeSet;

/// Drops the rules that were asked to go; refuses where one is missing unasked.
pub(super) fn detach(
    rules: &[Loaded],
    (options, view): (&Options, &View),
    attached: &mut Attached,
) -> Result<(), RulesError> {
    let names: BTreeSet<String> = attached.registry.namespaces.iter().map(|n| n.rule.clone()).collect();
    for name in names.iter().filter(|name| !rules.iter().any(|r| r.name == **name)) {
        if !options.remove.contains(name) {
            if is_taken_over(attached, name) || managed::leave(attached, name, (options, view))? {
                continue; // it runs from the state, and is drift
            }
            return Err(RulesError::Missing { rule: name.clone() });
        }
        attached.registry.pauses.remove(name);
        stored::give_back(attached, name)?;
        // Its sums go at once; its labels by a sweep, so that everyone is told.
        let registry = &mut attached.registry;
        let namespace = registry.namespace(name).map_or(NO_SPACE, |n| n.space);
        let entity = registry.entity_of(namespace).map_or(0, |(number, _)| number);
        if let Some(old) = registry.live(name).cloned() {
            attached.pairs.push(Pair {
                entity,
                old,
                new: Generation::nothing(name, namespace),
                cause: Cause::Swap,
                announced: false,
            });
        }
        attached.dropped.push(namespace);
        registry.namespaces.retain(|n| n.rule != *name);
    }
    for name in &options.remove {
        if rules.iter().any(|r| r.name == *name) {
            return Err(RulesError::StillConfigured { rule: name.clone() });
        }
        if !names.contains(name) {
            let what = format!("--remove {name}: the state has no rule {name}; nothing is dropped");
            attached.notes.push(what);
        }
    }
    Ok(())
}
