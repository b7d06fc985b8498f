//! What all workers run: plans per source, rules with their places in records, entities with their layouts.

use crate::aggregate::{Aggregate, Shape};
use crate::decode::{Format, Plan};
use crate::registry::{KeyType, Registry};
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
    /// The same with the label generations that `registry` keeps up to date; `code` is that of one that is new to the
    /// program. `None` = one has no code.
    #[must_use]
    pub fn with_generations(&self, registry: &Registry, code: Option<&Code>) -> Option<Self> {
        let mut program = self.clone();
        for rule in &mut program.rules {
            let kept = registry.generations.iter().filter(|g| g.rule == rule.name && g.state.is_evaluated());
            let mut generations = Vec::new();
            for generation in kept {
                let live = registry.live.get(&rule.name) == Some(&generation.space);
                let known = rule.generations.iter().find(|g| g.space == generation.space).cloned();
                let of_code = |code: &Code| GenerationRun::new(generation.space, live, code.clone());
                let found = known.map(|g| GenerationRun { live, ..g }).or_else(|| code.map(of_code))?;
                generations.push(found);
            }
            rule.generations = generations;
        }
        Some(program)
    }

    /// Numbers of the label generations that are kept up to date.
    #[must_use]
    pub fn generations(&self) -> BTreeSet<u32> {
        self.rules.iter().flat_map(|r| &r.generations).map(|g| g.space).collect()
    }
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
    /// Format of its messages.
    pub format: Format,
    /// What is decoded. The tables are the same for all sources.
    pub plan: Arc<Plan>,
}

/// A rule that runs.
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
    /// The code of its label side.
    pub compiled: Arc<CompiledRule>,
    /// Its parameters.
    pub params: ParamValues,
}

impl GenerationRun {
    /// Generation `space` with its code.
    #[must_use]
    pub fn new(space: u32, live: bool, code: Code) -> Self {
        let labels = u16::try_from(code.compiled.manifest.labels.len()).unwrap_or(u16::MAX);
        Self { space, live, labels, compiled: code.compiled, params: code.params }
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
