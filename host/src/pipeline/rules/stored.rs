//! Rules that commands have taken over: they run from the files in the state, whatever the configuration names.

use super::{Attached, Loaded, RulesError, is_taken_over, load, rule_engine};
use crate::pipeline::program::{GenerationRun, LiveRule, to_replace};
use crate::pipeline::setup::Options;
use crate::registry::revision::{OperationKind, OperationState, file_key};
use crate::registry::{Generation, GenerationState, Namespace};
use crate::rule::{CompiledRule, Limits, RuleEngine, RuleFile};
use crate::state::{Table, View};
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

/// Attaches the rules that commands have taken over.
pub(super) fn attach((view, options): (&View, &Options), attached: &mut Attached) -> Result<(), RulesError> {
    let names: Vec<String> = attached.registry.taken_over.iter().cloned().collect();
    if names.is_empty() {
        return Ok(());
    }
    let engine = rule_engine(options.cache.as_deref())?;
    for name in names {
        let runs = |g: &Generation| g.rule == name && g.state.is_kept();
        if attached.registry.generations.iter().any(runs) {
            restore(&engine, view, &name, attached)?;
        }
    }
    Ok(())
}

fn restore(engine: &RuleEngine, view: &View, name: &str, attached: &mut Attached) -> Result<(), RulesError> {
    let registry = &attached.registry;
    let of_rule = registry.generations.iter().filter(|g| g.rule == name && g.state.is_kept());
    let live = registry.live.get(name).copied();
    let mut runs: BTreeMap<u32, LiveRule> = BTreeMap::new();
    let mut files: BTreeMap<String, Loaded> = BTreeMap::new();
    for generation in of_rule {
        let mut loaded = match files.get(&generation.file) {
            Some(loaded) => loaded.clone(),
            None => {
                let loaded = stored_rule(engine, view, name, (&generation.file, &generation.given))?;
                files.insert(generation.file.clone(), loaded.clone());
                loaded
            }
        };
        let given = generation.given.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        loaded.params = loaded.compiled.params(&given).map_err(|error| RulesError::Refused {
            rule: name.to_owned(),
            path: PathBuf::from(&generation.file),
            error: Box::new(error),
        })?;
        let is_live = live == Some(generation.space);
        let run = GenerationRun::new(generation.space, is_live, loaded.code());
        let run = GenerationRun { replaces: to_replace(registry, generation), ..run };
        let namespace = generation.namespace;
        let entity = registry.entity_of(namespace).map_or(0, |(number, _)| number);
        let rule = match runs.entry(namespace) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let adopting = registry.namespace_of(namespace);
                let adopting = adopting.filter(|n| n.namespace_id != loaded.namespace_id);
                let map = adopting.map(|n| stored_map(engine, view, n)).transpose()?;
                let mut live = loaded.live((namespace, entity), Vec::new());
                live.compiled = map.unwrap_or(live.compiled);
                new.insert(live)
            }
        };
        if generation.state == GenerationState::Filling {
            rule.filling.push(run);
        } else {
            rule.generations.push(run);
        }
    }
    if live.is_some() && !runs.values().any(LiveRule::is_live) {
        return Err(RulesError::FileGone { rule: name.to_owned(), file: String::new() });
    }
    attached.rules.extend(runs.into_values());
    Ok(())
}

/// The code whose `map` feeds a namespace, which need not be that of any of its label generations.
///
/// # Errors
/// The state does not hold the file, or the host does not take it any more.
pub fn stored_map(
    engine: &RuleEngine,
    view: &View,
    namespace: &Namespace,
) -> Result<Arc<CompiledRule>, RulesError> {
    let (rule, file) = (namespace.rule.clone(), namespace.file.clone());
    let bytes = view.row(Table::Meta, &file_key(&file))?;
    let bytes = bytes.ok_or_else(|| RulesError::FileGone { rule: rule.clone(), file: file.clone() })?;
    let refused = |error| RulesError::Refused { rule, path: PathBuf::from(file), error: Box::new(error) };
    let read = RuleFile::read(&bytes).and_then(|file| engine.compile(file, Limits::default()));
    read.map_err(refused)
}

/// A rule from a file in the state, compiled and checked.
///
/// # Errors
/// The state does not hold the file, or the host does not take it any more.
pub fn stored_rule(
    engine: &RuleEngine,
    view: &View,
    name: &str,
    (file, given): (&str, &BTreeMap<String, Value>),
) -> Result<Loaded, RulesError> {
    let bytes = view.row(Table::Meta, &file_key(file))?;
    let gone = || RulesError::FileGone { rule: name.to_owned(), file: file.to_owned() };
    load(engine, name, (PathBuf::from(file), bytes.ok_or_else(gone)?), given)
}

/// Gives a rule back to the configuration: of its label generations only the live one stays.
///
/// # Errors
/// A switch that is still being told needs both sides.
pub fn give_back(attached: &mut Attached, rule: &str) -> Result<(), RulesError> {
    if !is_taken_over(attached, rule) {
        return Ok(());
    }
    let registry = &mut attached.registry;
    if registry.pauses.contains_key(rule) {
        return Err(RulesError::StillPaused(rule.to_owned()));
    }
    let telling = registry.running().any(|o| o.rule == rule && o.kind == OperationKind::Tell);
    if telling || registry.leaving.contains(rule) {
        return Err(RulesError::StillTelling { rule: rule.to_owned() });
    }
    let running: Vec<u64> = registry.running().filter(|o| o.rule == rule).map(|o| o.id).collect();
    for id in running {
        registry.end_operation(id, OperationState::Cancelled, (0, 0));
    }
    let live = registry.live.get(rule).copied();
    let other = |g: &Generation| g.rule == rule && g.state.is_kept() && Some(g.space) != live;
    attached.dropped.extend(registry.generations.iter().filter(|g| other(g)).map(|g| g.space));
    for generation in registry.generations.iter_mut().filter(|g| other(g)) {
        generation.state = GenerationState::Retired;
        generation.retained = None;
    }
    let fed = registry.namespace(rule).map(|n| n.space);
    let other = |n: &Namespace| n.rule == rule && Some(n.space) != fed;
    attached.dropped.extend(registry.namespaces.iter().filter(|n| other(n)).map(|n| n.space));
    registry.namespaces.retain(|n| !other(n));
    registry.taken_over.remove(rule);
    registry.applied.remove(rule);
    Ok(())
}
