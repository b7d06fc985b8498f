//! What all workers run: plans per source, rules with their places in records, entities with their layouts.

use super::sweep::Pair;
use crate::aggregate::value::physical;
use crate::aggregate::{Aggregate, Shape};
use crate::config::OnRefusal;
use crate::decode::{ColumnType, Format, Plan, PlannedColumn, TablePlan};
use crate::label::Cause;
use crate::registry::{Generation, GenerationState, KeyType, Namespace, Registry};
use crate::rule::manifest::{Table, ValueType};
use crate::rule::{CompiledRule, ParamValues};
use crate::state::Slot;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Everything a worker needs to know; replaced as a whole when rules change.
#[derive(Clone)]
pub struct Program {
    /// One per source.
    pub sources: Vec<SourceProgram>,
    /// Source of each partition.
    pub partitions: Vec<usize>,
    /// Rules that run.
    pub rules: Vec<LiveRule>,
    /// Rules that stand still; nothing feeds them.
    pub stopped: Vec<LiveRule>,
    /// Entities, by their number.
    pub entities: Vec<Layout>,
    /// Most entries of a counted set.
    pub set_entries_max: usize,
}

/// The code of a label generation.
#[derive(Clone, Debug)]
pub struct Code {
    /// The rule's code; the label side is used.
    pub compiled: Arc<CompiledRule>,
    /// Its parameters.
    pub params: ParamValues,
}

impl Program {
    /// The same with the namespaces and label generations that `registry` keeps up to date; `code` is that of one that is
    /// new to the program. `None` = one has no code.
    #[must_use]
    pub fn with(&self, registry: &Registry, code: Option<&Code>) -> Option<Self> {
        let all = || self.rules.iter().chain(&self.stopped);
        let new = code.map(|code| code.compiled.manifest.name.as_str());
        let names: BTreeSet<&str> = all().map(|r| r.name.as_str()).chain(new).collect();
        let (mut rules, mut stopped) = (Vec::new(), Vec::new());
        for namespace in registry.namespaces.iter().filter(|n| names.contains(n.rule.as_str())) {
            if registry.leaving.contains(&namespace.rule) {
                continue;
            }
            let known = all().find(|r| r.namespace == namespace.space).cloned();
            let mut rule = known.or_else(|| code.and_then(|code| LiveRule::new(namespace, code)))?;
            rule.take_generations(registry, code)?;
            if registry.is_stopped(&rule.name) { &mut stopped } else { &mut rules }.push(rule);
        }
        rules.sort_by(|a, b| (&a.name, a.namespace).cmp(&(&b.name, b.namespace)));
        Some(Self { rules, stopped, ..self.clone() }.bound(registry.entities.iter().map(|e| e.name.as_str())))
    }

    /// The same without the rules that stand still, and without labels of those that lack something.
    #[must_use]
    pub fn awake(mut self, registry: &Registry) -> Self {
        let (stopped, mut rules): (Vec<_>, Vec<_>) =
            self.rules.into_iter().partition(|r| registry.is_stopped(&r.name));
        for rule in rules.iter_mut().filter(|r| registry.lacks(&r.name)) {
            rule.filling.append(&mut rule.generations);
        }
        (self.rules, self.stopped) = (rules, stopped);
        self.bound(registry.entities.iter().map(|e| e.name.as_str()))
    }

    /// What runs for rule `rule` alone, into the same buffers, without labels. `None` = it does not run.
    #[must_use]
    pub fn of_rule(&self, rule: &str) -> Option<Self> {
        let mut rules: Vec<_> = self.rules.iter().filter(|r| r.name == rule).cloned().collect();
        rules.iter_mut().for_each(|rule| rule.generations.clear());
        let mut program = Self { rules, ..self.clone() };
        program.bind_tables();
        (!program.rules.is_empty()).then_some(program)
    }

    /// Numbers of the label generations that wait until their sums are whole.
    #[must_use]
    pub fn parked(&self) -> BTreeSet<u32> {
        let stopped = self.stopped.iter().flat_map(|r| r.generations.iter().chain(&r.filling));
        stopped.chain(self.rules.iter().flat_map(|r| &r.filling)).map(|g| g.space).collect()
    }

    /// What runs for namespace `space` alone: its rule's tables and columns, into the same buffers, without labels.
    /// `None` = it does not run.
    #[must_use]
    pub fn of_namespace(&self, space: u32) -> Option<Self> {
        let mut rule = self.rules.iter().find(|r| r.namespace == space)?.clone();
        rule.generations.clear();
        let mut program = Self { rules: vec![rule], ..self.clone() };
        program.bind_tables();
        Some(program)
    }

    /// What consumers read alone.
    #[must_use]
    pub fn live_alone(&self) -> Self {
        let rules = self.rules.iter().filter(|r| r.is_live()).cloned().collect();
        let mut program = Self { rules, ..self.clone() };
        program.bind_tables();
        program
    }

    /// The same with a place for every aggregate and a plan that has what the rules read.
    #[must_use]
    pub fn bound<'e>(mut self, entities: impl Iterator<Item = &'e str>) -> Self {
        let layout = |name: &str| Layout { name: name.to_owned(), ..Layout::default() };
        self.entities = entities.map(layout).collect();
        for rule in &mut self.rules {
            if let Some(layout) = self.entities.get_mut(usize::from(rule.entity)) {
                rule.targets = layout.add(rule.namespace, &rule.aggregates);
            }
        }
        self.bind_tables();
        self
    }

    fn bind_tables(&mut self) {
        let mut tables: Vec<TablePlan> = Vec::new();
        for rule in &mut self.rules {
            rule.tables.clear();
            for (number, table) in rule.compiled.manifest.tables.iter().enumerate() {
                let (place, binding) = bind(&mut tables, number, table);
                if rule.tables.len() <= place {
                    rule.tables.resize_with(place + 1, || None);
                }
                if let Some(entry) = rule.tables.get_mut(place) {
                    *entry = Some(binding);
                }
            }
        }
        for source in &mut self.sources {
            let mut tables = tables.clone();
            for table in &mut tables {
                table.hidden_columns = source.hidden_columns.contains(&table.table);
            }
            source.plan = Arc::new(Plan { tables });
        }
    }

    /// Names of the tables of the plan; they are the same for all sources.
    #[must_use]
    pub fn tables(&self) -> Vec<String> {
        let plan = self.sources.first().map(|s| &s.plan.tables);
        plan.into_iter().flatten().map(|t| t.table.clone()).collect()
    }

    /// Numbers of the label generations that are kept up to date.
    #[must_use]
    pub fn generations(&self) -> BTreeSet<u32> {
        self.rules.iter().flat_map(|r| &r.generations).map(|g| g.space).collect()
    }
}

/// Adds the columns that a rule reads of a table to the plan: (index of the table in the plan, how the rule reads it).
fn bind(tables: &mut Vec<TablePlan>, number: usize, table: &Table) -> (usize, TableBinding) {
    let place = tables.iter().position(|t| t.table == table.table).unwrap_or_else(|| {
        let plan = TablePlan { table: table.table.clone(), columns: Vec::new(), hidden_columns: false };
        tables.push(plan);
        tables.len() - 1
    });
    let mut columns = Vec::new();
    let mut key = 0;
    for column in &table.columns {
        let scale = match column.value_type {
            ValueType::Decimal { scale, .. } => scale,
            _ => 0,
        };
        let column_type = ColumnType { physical: physical(column.value_type), scale };
        let planned = PlannedColumn { name: column.name.clone(), column_type };
        let Some(plan) = tables.get_mut(place) else { continue };
        let found = plan.columns.iter().position(|c| *c == planned).unwrap_or_else(|| {
            plan.columns.push(planned);
            plan.columns.len() - 1
        });
        if column.name == table.key {
            key = found;
        }
        columns.push(found);
    }
    (place, TableBinding { table: number, columns, key })
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("generations", &self.generations()).finish_non_exhaustive()
    }
}

/// How one source is decoded.
#[derive(Clone)]
pub struct SourceProgram {
    /// Its name.
    pub name: String,
    /// Name of its producer (design section 7, ledger).
    pub producer: String,
    /// The producer is written in the configuration, not the source's own name.
    pub says_producer: bool,
    /// Format of its messages.
    pub format: Format,
    /// Tables with columns that the producer hides.
    pub hidden_columns: Vec<String>,
    /// What a refused message does.
    pub on_refusal: OnRefusal,
    /// What is decoded. The tables are the same for all sources.
    pub plan: Arc<Plan>,
}

/// A rule that runs on one of its namespaces. While a revision with new aggregates is prepared, or the one before is kept
/// for a way back, a rule runs twice.
#[derive(Clone)]
pub struct LiveRule {
    /// Its name.
    pub name: String,
    /// Its code.
    pub compiled: Arc<CompiledRule>,
    /// Number of its namespace.
    pub namespace: u32,
    /// Number of its entity.
    pub entity: u16,
    /// Type of its keys.
    pub key: KeyType,
    /// Its aggregates, in manifest order.
    pub aggregates: Vec<Aggregate>,
    /// Where each aggregate goes in the entity's buffers.
    pub targets: Vec<Target>,
    /// For each table of the plan: how the rule reads it.
    pub tables: Vec<Option<TableBinding>>,
    /// Label generations that are kept up to date.
    pub generations: Vec<GenerationRun>,
    /// Those that are evaluated once the namespace has its history, or what it missed.
    pub filling: Vec<GenerationRun>,
}

impl LiveRule {
    /// A rule on a namespace that is new to the program; `None` for aggregates that the host does not know.
    fn new(namespace: &Namespace, code: &Code) -> Option<Self> {
        let manifest = &code.compiled.manifest;
        let aggregates: Result<Vec<_>, _> =
            manifest.aggregates.iter().map(Aggregate::from_manifest).collect();
        Some(Self {
            name: namespace.rule.clone(),
            compiled: code.compiled.clone(),
            namespace: namespace.space,
            entity: namespace.entity,
            key: KeyType::of(manifest.key)?,
            aggregates: aggregates.ok()?,
            targets: Vec::new(),
            tables: Vec::new(),
            generations: Vec::new(),
            filling: Vec::new(),
        })
    }

    /// Goes over to the generations that `registry` keeps on the namespace; `None` = one has no code.
    fn take_generations(&mut self, registry: &Registry, code: Option<&Code>) -> Option<()> {
        let mut before = std::mem::take(&mut self.generations);
        before.append(&mut self.filling);
        let live = registry.live.get(&self.name).copied();
        let run = |g: &Generation| {
            let live = live == Some(g.space);
            let known = before.iter().find(|run| run.space == g.space).cloned();
            let run = known.or_else(|| code.map(|code| GenerationRun::new(g.space, live, code.clone())))?;
            Some(GenerationRun { live, replaces: to_replace(registry, g), ..run })
        };
        for generation in registry.generations.iter().filter(|g| g.namespace == self.namespace) {
            let waits = generation.state == GenerationState::Filling
                || generation.state.is_evaluated() && registry.lacks(&self.name);
            if waits {
                self.filling.push(run(generation)?);
            } else if generation.state.is_evaluated() {
                self.generations.push(run(generation)?);
            }
        }
        Some(())
    }

    /// Consumers read its labels, though it may still catch up with what it missed, or it has none at all.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let mut all = self.generations.iter().chain(&self.filling).peekable();
        all.peek().is_none() || all.any(|generation| generation.live)
    }
}

/// A label generation that is kept up to date.
#[derive(Clone)]
pub struct GenerationRun {
    /// Its number.
    pub space: u32,
    /// Its transitions are told.
    pub live: bool,
    /// Number of labels.
    pub labels: u16,
    /// With what it replaces, where it never was live.
    pub replaces: Option<Arc<Pair>>,
    /// The code of its label side.
    pub compiled: Arc<CompiledRule>,
    /// Its parameters.
    pub params: ParamValues,
}

/// A generation that never was live with the live one of its rule, or nothing, which it is to replace.
pub(super) fn to_replace(registry: &Registry, new: &Generation) -> Option<Arc<Pair>> {
    if !registry.is_to_go_live(new) {
        return None;
    }
    let (old, (entity, _)) = (registry.live_before(new), registry.entity_of(new.namespace)?);
    Some(Arc::new(Pair { entity, old, new: new.clone(), cause: Cause::Swap, announced: false }))
}

impl GenerationRun {
    /// Generation `space` with its code.
    #[must_use]
    pub fn new(space: u32, live: bool, code: Code) -> Self {
        let labels = u16::try_from(code.compiled.manifest.labels.len()).unwrap_or(u16::MAX);
        Self { space, live, labels, replaces: None, compiled: code.compiled, params: code.params }
    }
}

/// How a rule reads a table of the plan.
#[derive(Clone)]
pub struct TableBinding {
    /// Index of the table in the manifest.
    pub table: usize,
    /// For each column of the manifest: its index in the plan.
    pub columns: Vec<usize>,
    /// Index of the key column in the plan.
    pub key: usize,
}

/// Where an aggregate goes in an entity's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Linear aggregate n.
    Linear(u16),
    /// Counted set n.
    Set(u16),
}

/// An entity's aggregates in buffers and in records.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Name of the entity.
    pub name: String,
    /// Place of each linear aggregate in records.
    pub linear: Vec<Slot>,
    /// Place of each counted set in records.
    pub sets: Vec<Slot>,
}

impl Layout {
    /// Makes room for a namespace's aggregates.
    pub fn add(&mut self, namespace: u32, aggregates: &[Aggregate]) -> Vec<Target> {
        let mut targets = Vec::new();
        for (index, aggregate) in (0u16..).zip(aggregates) {
            let slot = Slot { space: namespace, index };
            targets.push(match aggregate.kind.shape() {
                Shape::Linear => {
                    self.linear.push(slot);
                    Target::Linear(u16::try_from(self.linear.len() - 1).unwrap_or(u16::MAX))
                }
                Shape::Set => {
                    self.sets.push(slot);
                    Target::Set(u16::try_from(self.sets.len() - 1).unwrap_or(u16::MAX))
                }
            });
        }
        targets
    }
}
