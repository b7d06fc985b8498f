//! A rule reads its history anew: (0, F] of every partition, F = the stored positions, for this rule alone, with a set
//! of ids of its own and an empty namespace. Progress is committed; at F one commit attaches the namespace and drops
//! the old one. Labels follow by a sweep at the next start. Sources and consumers notice nothing until then.

use super::assemble::Book;
use super::coordinator::Pipeline;
use super::message::Address;
use super::parts::{SharedView, Writer};
use super::program::Program;
use super::rows::{LOGS, POSITIONS, Positions, Scope, TOTALS, Totals};
use super::rules::{Attached, Loaded, RulesError, new_namespace, stored};
use super::setup::{Inputs, SetupError, core_parts, load_ledger, program, stored_registry};
use super::threads::Parts;
use crate::registry::{META_KEY, Namespace, Registry};
use crate::rule::Manifest;
use crate::source::Position;
use crate::state::{Commit, Row, StateWriter, Table, View};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Key of the stored rebuild in the `Meta` table.
const REBUILD: &[u8] = b"rebuild";

/// A rebuild under way, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rebuild {
    /// The namespace that is filled.
    namespace: Namespace,
    /// Where it ends, per partition.
    until: Vec<Position>,
}

/// Builds the engine that fills the namespace; `None` when it was filled up to F: then it is attached by now.
///
/// # Errors
/// A rule that is not configured; a state that does not read.
pub fn build(inputs: Inputs, rule: &str) -> Result<Option<(Pipeline, Parts, SharedView)>, SetupError> {
    let Inputs { mut writer, view, positions, rules, sources, settings, .. } = inputs;
    let loaded = rules.rules.into_iter().find(|r| r.name == rule);
    let loaded = loaded.ok_or_else(|| SetupError::NoSuchRule(rule.to_owned()))?;
    let mut registry = stored_registry(&view)?;
    if registry.leaving.contains(rule) {
        return Err(RulesError::StillTelling { rule: rule.to_owned() }.into());
    }
    if registry.namespace(rule).is_some_and(|n| n.counts(&loaded.namespace_id))
        && !registry.pauses.contains_key(rule)
    {
        return Ok(None); // attached by an earlier start
    }
    let (view, rebuild) = begin(&mut writer, &view, &mut registry, &loaded, &positions)?;
    let progress = stored_progress(&view, &positions)?;
    let reached = progress.partitions.iter().zip(&rebuild.until).all(|((_, at), until)| at >= until);
    if reached {
        attach(&mut writer, &view, registry, rebuild)?;
        return Ok(None);
    }
    let mut attached = Attached::new(registry);
    attached.rules.push(loaded.live_for(&rebuild.namespace));
    let program = program(&sources, &progress, attached);
    let program = Arc::new(Program { set_entries_max: settings.set_entries_max, ..program });
    let ledger = Arc::new(load_ledger(&view, Scope::Rebuild)?);
    let mut book = Book::open(&view, Scope::Rebuild, progress, &[])?;
    book.registry.pauses.remove(rule); // what is filled anew does not stand still
    let shared = SharedView::new(view.clone());
    let mut parts = core_parts(sources, (&program, &ledger, None), settings.workers)?;
    parts.push((Address::Committer, Box::new(Writer::new(writer, shared.clone()))));
    let pipeline = Pipeline::new(program, settings, ledger, view, book).bounded(&rebuild.until);
    Ok(Some((pipeline, parts, shared)))
}

fn stored(view: &View) -> Result<Option<Rebuild>, SetupError> {
    let Some(bytes) = view.row(Table::Meta, REBUILD)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|_| SetupError::Damaged("the rebuild"))
}

/// The rule whose rebuild was broken off; none too where the state does not read, which its next use says.
#[must_use]
pub fn unfinished(view: &View) -> Option<String> {
    stored(view).ok().flatten().map(|rebuild| rebuild.namespace.rule)
}

/// Finds the stored rebuild of this very namespace, or begins one (and forgets another).
fn begin(
    writer: &mut StateWriter,
    view: &Arc<View>,
    registry: &mut Registry,
    loaded: &Loaded,
    positions: &Positions,
) -> Result<(Arc<View>, Rebuild), SetupError> {
    let stored = stored(view)?;
    if let Some(rebuild) = &stored
        && rebuild.namespace.rule == loaded.name
        && rebuild.namespace.namespace_id == loaded.namespace_id
    {
        // The stream may have gone on since: F is where it is now.
        let until = positions.partitions.iter().map(|(_, position)| *position).collect();
        return Ok((view.clone(), Rebuild { until, ..rebuild.clone() }));
    }
    // The entity and the number are taken from the registry; the namespace itself is attached at the end.
    let mut taken = registry.clone();
    new_namespace(&mut taken, loaded, &loaded.compiled.manifest)?;
    let namespace = taken.namespaces.pop().ok_or(SetupError::Damaged("the registry"))?;
    *registry = taken;
    let until = positions.partitions.iter().map(|(_, position)| *position).collect();
    let rebuild = Rebuild { namespace, until };
    let mut rows = forget(view)?;
    rows.push((Table::Meta, META_KEY.to_vec(), Some(registry.to_bytes())));
    rows.push((Table::Meta, REBUILD.to_vec(), serde_json::to_vec(&rebuild).ok()));
    let drop_spaces = stored.iter().map(|r| r.namespace.space).collect();
    let view = writer.commit(next(view, rows, drop_spaces))?;
    Ok((view, rebuild))
}

/// F is reached: the namespace takes the place of the old one, in one commit.
fn attach(
    writer: &mut StateWriter,
    view: &Arc<View>,
    registry: Registry,
    rebuild: Rebuild,
) -> Result<(), SetupError> {
    let rule = rebuild.namespace.rule.clone();
    // The configured file was asked for: it decides again.
    let mut attached = Attached::new(registry);
    attached.registry.pauses.remove(&rule); // its new sums lack nothing
    stored::give_back(&mut attached, &rule)?;
    let Attached { mut registry, dropped, .. } = attached;
    let old =
        dropped.into_iter().chain(registry.namespaces.iter().filter(|n| n.rule == rule).map(|n| n.space));
    let old = old.collect();
    registry.namespaces.retain(|n| n.rule != rule);
    registry.namespaces.push(rebuild.namespace);
    let mut rows = forget(view)?;
    rows.push((Table::Meta, META_KEY.to_vec(), Some(registry.to_bytes())));
    rows.push((Table::Meta, REBUILD.to_vec(), None));
    // The stream has not counted the tables that only this rule reads.
    let mut totals = stored_totals(view, Scope::Live)?;
    let rebuilt = stored_totals(view, Scope::Rebuild)?;
    for (table, changes) in rebuilt.tables {
        totals.tables.entry(table).or_insert(changes);
    }
    totals.refused.extend(rebuilt.refused);
    rows.push((Table::Meta, TOTALS.to_vec(), serde_json::to_vec(&totals).ok()));
    writer.commit(next(view, rows, old))?;
    Ok(())
}

impl Pipeline {
    /// What the rule that a rebuild is of says of itself.
    #[must_use]
    pub fn rebuilt_rule(&self) -> Option<&Manifest> {
        self.program.rules.first().map(|rule| &*rule.compiled.manifest)
    }
}

fn stored_totals(view: &View, scope: Scope) -> Result<Totals, SetupError> {
    match view.row(Table::Meta, &scope.meta(TOTALS))? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| SetupError::Damaged("the row of totals")),
        None => Ok(Totals::default()),
    }
}

fn next(view: &View, rows: Vec<Row>, drop_spaces: Vec<u32>) -> Commit {
    Commit {
        id: view.commit() + 1,
        engine_time_us: view.engine_time(),
        rows,
        drop_spaces,
        ..Commit::default()
    }
}

/// Removes what an earlier rebuild left: its positions, totals and ids.
fn forget(view: &View) -> Result<Vec<Row>, SetupError> {
    let mut rows: Vec<Row> =
        [POSITIONS, TOTALS].map(|key| (Table::Meta, Scope::Rebuild.meta(key), None)).into();
    rows.push((Table::Ledger, Scope::Rebuild.ledger_key(LOGS), None));
    let (from, to) = (Scope::Rebuild.ledger(), Scope::Rebuild.ledger_end());
    view.rows(Table::Ledger, &from, Some(&to), &mut |key, _| {
        rows.push((Table::Ledger, key.to_vec(), None));
        true
    })?;
    Ok(rows)
}

/// How far the rebuild is: every partition of the stream, from its start or the stored place on.
fn stored_progress(view: &View, positions: &Positions) -> Result<Positions, SetupError> {
    let stored = view.row(Table::Meta, &Scope::Rebuild.meta(POSITIONS))?;
    let mut progress: Positions = match stored {
        Some(bytes) => {
            serde_json::from_slice(&bytes).map_err(|_| SetupError::Damaged("the positions of a rebuild"))?
        }
        None => Positions::default(),
    };
    let done = progress.partitions.len();
    for ((partition, _), (of_stream, _)) in progress.partitions.iter_mut().zip(&positions.partitions) {
        *partition = of_stream.clone();
    }
    let rest = positions.partitions.iter().skip(done).map(|(partition, _)| (partition.clone(), 0));
    progress.partitions.extend(rest);
    Ok(progress)
}
