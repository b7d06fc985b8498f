//! Whether two files' `map` count the same: both are given the same images.

use std::sync::Arc;

use super::engine::CompiledRule;
use super::error::RuleError;
use super::map::{Contributions, Mapper};
use super::synthetic;
use super::verdict::{Verdict, verdicts};
use crate::decode::ImageBatch;

/// Images that both are given at once.
const ROWS: usize = 256;

/// Two files of one rule whose manifests declare the same tables, keys and aggregates.
pub struct Comparison {
    old: (Arc<CompiledRule>, Mapper),
    new: (Arc<CompiledRule>, Mapper),
}

impl Comparison {
    /// Starts both.
    ///
    /// # Errors
    /// One does not start.
    pub fn new(old: &Arc<CompiledRule>, new: &Arc<CompiledRule>) -> Result<Self, RuleError> {
        Ok(Self { old: (old.clone(), old.mapper()?), new: (new.clone(), new.mapper()?) })
    }

    /// Gives both the images of `batch`, of which the columns are those of table `table` of the manifest in its order; the
    /// first one that they disagree on, with what they disagree about.
    ///
    /// # Errors
    /// The columns are others.
    pub fn images(&mut self, table: usize, batch: &ImageBatch) -> Result<Option<(usize, String)>, RuleError> {
        let columns: Vec<usize> = (0..batch.columns.len()).collect();
        let rows: Vec<u32> = (0..u32::try_from(batch.sides.len()).unwrap_or(u32::MAX)).collect();
        for rows in rows.chunks(ROWS) {
            let run = |(rule, mapper): &mut (Arc<CompiledRule>, Mapper)| {
                let mut out = Contributions::default();
                mapper.map(table, batch, &columns, rows, &mut out)?;
                let first = rows.first().copied().unwrap_or(0);
                Ok::<_, RuleError>(verdicts(&rule.manifest, &out, (first, rows.len())))
            };
            let (old, new) = (run(&mut self.old)?, run(&mut self.new)?);
            for (row, (old, new)) in rows.iter().zip(old.into_iter().zip(new)) {
                if let Some(about) = self.differs(old, new) {
                    return Ok(Some((*row as usize, about)));
                }
            }
        }
        Ok(None)
    }

    /// Gives both `rows` images made up from table `table` of the manifest; the same for the same `seed`.
    ///
    /// # Errors
    /// There is no such table.
    pub fn made_up(&mut self, table: usize, rows: usize, seed: u64) -> Result<Option<String>, RuleError> {
        let Some(declared) = self.old.0.manifest.tables.get(table) else { return Ok(None) };
        let batch = synthetic::images(declared, rows, seed);
        Ok(self.images(table, &batch)?.map(|(_, about)| about))
    }

    /// What two verdicts differ in; the order of contributions does not count.
    fn differs(&self, old: Verdict, new: Verdict) -> Option<String> {
        let (mut old, mut new) = match (old, new) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(old), Err(new)) => return (old != new).then(|| format!("`{old}` before, `{new}` now")),
            (Err(code), Ok(_)) => return Some(format!("`{code}` before, taken now")),
            (Ok(_), Err(code)) => return Some(format!("taken before, `{code}` now")),
        };
        old.sort_unstable();
        new.sort_unstable();
        if old == new {
            return None;
        }
        let only = old.iter().filter(|c| !new.contains(c)).chain(new.iter().filter(|c| !old.contains(c)));
        let mut names: Vec<&str> = only
            .filter_map(|(n, ..)| self.old.0.manifest.aggregates.get(usize::from(*n)))
            .map(|aggregate| aggregate.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        Some(match names.as_slice() {
            [] => "other numbers of equal contributions".to_owned(),
            names => format!("other contributions to {}", names.join(", ")),
        })
    }
}
