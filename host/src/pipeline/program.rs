//! What all workers run: plans per source, rules with their places in records, entities with their layouts.

use crate::aggregate::{Aggregate, Shape};
use crate::decode::Plan;
use crate::registry::KeyType;
use crate::rule::{CompiledRule, ParamValues};
use crate::state::Slot;
use std::sync::Arc;

/// Everything a worker needs to know; replaced as a whole when rules change.
pub struct Program {
    /// One per source.
    pub sources: Vec<SourceProgram>,
    /// Source of each partition.
    pub partitions: Vec<usize>,
    /// Rules that run.
    pub rules: Vec<LiveRule>,
    /// Entities, by their number.
    pub entities: Vec<Layout>,
}

/// How one source is decoded.
pub struct SourceProgram {
    /// Its name.
    pub name: String,
    /// Name of its producer (design section 7, ledger).
    pub producer: String,
    /// What is decoded. The tables are the same for all sources.
    pub plan: Arc<Plan>,
}

/// A rule that runs.
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

/// How a rule reads a table of the plan.
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
    Linear(usize),
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
                    Target::Linear(self.linear.len() - 1)
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
