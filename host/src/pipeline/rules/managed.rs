//! `[registry] manage = "config"`: the configuration decides which rules run.
//!
//! A start brings in what needs no history, as it does for rules that no command has changed. What `retag apply` brought in stays
//! as it is, with its ways back and what it has under way; a configuration that has gone on since is reported until the
//! next `retag apply`. So such a host comes up whatever the configuration asks for: the log is read while it runs.

use super::{Attached, Loaded, RulesError, stored};
use crate::config::Manage;
use crate::pipeline::setup::Options;
use crate::registry::Registry;
use crate::registry::revision::{Release, file_key};
use crate::state::{Table, View};

/// Gives the rules back to the configuration that others than `retag apply` decided on.
pub(super) fn give_back_all(attached: &mut Attached) -> Result<(), RulesError> {
    let registry = &attached.registry;
    let names: Vec<String> = registry.taken_over.difference(&registry.applied).cloned().collect();
    names.iter().try_for_each(|name| stored::give_back(attached, name))
}

/// Leaves to `retag apply` what a start cannot do for a rule: read its history, or take it out. Until then it runs from the
/// state, or not yet. False = it is not to be left: nobody applies to a job that ends with its files, or the state does
/// not hold the rule's file.
pub(super) fn leave(
    attached: &mut Attached,
    rule: &str,
    (options, view): (&Options, &View),
) -> Result<bool, RulesError> {
    if options.manage != Manage::Config || !runs_from_state(attached, rule, (options, view))? {
        return Ok(false);
    }
    if attached.registry.taken_over.contains(rule) {
        attached.registry.applied.insert(rule.to_owned());
    }
    Ok(true)
}

/// Whoever decides: a file that the state holds as a revision is on its way by commands, a `retag apply` that was killed, say. Until
/// they have brought it in the rule runs from the state, or not yet.
pub(super) fn is_brought_in(
    attached: &mut Attached,
    rule: &Loaded,
    (options, view): (&Options, &View),
) -> Result<bool, RulesError> {
    let registry = &attached.registry;
    let same = registry.same_revision(&rule.revision("", ""));
    let pushed = same.is_some_and(|r| registry.release(&rule.name, r.number) != Release::Retired);
    Ok(pushed && runs_from_state(attached, &rule.name, (options, view))?)
}

/// Lets a rule run as the state has it, where it does; false = the state does not hold its file, or the files end.
fn runs_from_state(
    attached: &mut Attached,
    rule: &str,
    (options, view): (&Options, &View),
) -> Result<bool, RulesError> {
    let registry = &mut attached.registry;
    let Some(live) = registry.live(rule) else {
        return Ok(!options.until_end && registry.namespace(rule).is_none());
    };
    let kept = !live.file.is_empty() && view.row(Table::Meta, &file_key(&live.file))?.is_some();
    if options.until_end || !kept {
        return Ok(false);
    }
    registry.taken_over.insert(rule.to_owned());
    Ok(true)
}

/// Notes that the configured rules run as the configuration has it: what people may still do is let one stand still.
pub(super) fn note_all(configured: &[Loaded], registry: &mut Registry) {
    let live = configured.iter().map(|rule| &rule.name).filter(|name| registry.live.contains_key(*name));
    let live: Vec<String> = live.cloned().collect();
    registry.applied.extend(live);
}
