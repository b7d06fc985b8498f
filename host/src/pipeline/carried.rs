//! Which source carries which table. A change that two of them have must be known by one id, or it counts twice.

use super::coordinator::Pipeline;
use super::failure::Failure;

impl Pipeline {
    /// Two sources that carry one table say whose ids they have, else a change that both have would count twice. Notes who
    /// carries what.
    ///
    /// # Errors
    /// Two that do not say so.
    pub(super) fn check_carried(&mut self) -> Result<(), Failure> {
        let tables = self.program.tables();
        for (table, source) in self.cycle.counters(false).carried {
            let (Some(table), Some(source)) = (tables.get(table as usize), self.program.sources.get(source))
            else {
                continue;
            };
            let carried = self.book.totals.carried.entry(table.clone()).or_default();
            let silent = |name: &String| {
                let other = self.program.sources.iter().find(|s| s.name == *name);
                other.is_some_and(|o| o.name != source.name && !(o.says_producer && source.says_producer))
            };
            if let Some(other) = carried.iter().find(|name| silent(name)) {
                let (table, other, source_name) = (table.clone(), other.clone(), source.name.clone());
                return Err(Failure::TwoSources { table, source_name, other });
            }
            carried.insert(source.name.clone());
        }
        Ok(())
    }
}
