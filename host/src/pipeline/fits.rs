//! Whether rules fit what they are given: better to stop than to hold no sums.

use super::coordinator::Pipeline;
use super::failure::Failure;
use crate::rule::COLUMN_ABSENT;

impl Pipeline {
    /// A rule that refuses most of what it is given does not fit its tables: better to stop than to hold no sums.
    pub(super) fn check_fits(&self) -> Result<(), Failure> {
        for ((rule, table), (images, bad)) in self.cycle.counters().fits {
            let before = self.book.fits.get(&(rule, table)).copied().unwrap_or_default();
            let (images, bad) = (images + before.0, bad + before.1);
            if images < 100 || bad * 2 <= images {
                continue;
            }
            let rule = self.rule_name(rule);
            let of_cycle = self.cycle.published.iter().flat_map(|p| &p.quarantine).rfind(|b| b.rule == rule);
            let of_cycle = of_cycle.map(|b| (b.code, b.message.clone()));
            let last = of_cycle.or_else(|| self.book.last_bad.get(&rule).cloned());
            let (code, message) = last.unwrap_or_default();
            return Err(Failure::BadImages {
                table: self.table_name(table),
                rule,
                images,
                bad,
                code,
                message,
            });
        }
        Ok(())
    }

    fn rule_name(&self, rule: usize) -> String {
        self.program.rules.get(rule).map_or_else(String::new, |r| r.name.clone())
    }

    /// The tables are the same for all sources.
    fn table_name(&self, table: usize) -> String {
        let plan = self.program.sources.first().and_then(|s| s.plan.tables.get(table));
        plan.map_or_else(String::new, |t| t.table.clone())
    }

    /// At the end of the sources every rule must have seen at least one of its tables.
    pub(super) fn check_seen(&self) -> Result<(), Failure> {
        let seen = &self.book.totals.tables;
        if self.book.totals.changes == 0 {
            return Ok(()); // an empty log says nothing about a rule
        }
        for rule in &self.program.rules {
            let mut tables = rule.compiled.manifest.tables.iter().map(|t| t.table.as_str());
            if !tables.clone().any(|table| seen.contains_key(table)) {
                let tables: Vec<&str> = tables.by_ref().collect();
                return Err(Failure::TablesNotSeen { rule: rule.name.clone(), tables: tables.join(", ") });
            }
        }
        Ok(())
    }

    /// At the end of the sources a rule that could read no image of a table at all does not fit it.
    pub(super) fn check_none_fit(&self) -> Result<(), Failure> {
        for ((rule, table), (images, bad)) in &self.book.fits {
            let rule = self.rule_name(*rule);
            let Some((code, message)) = self.book.last_bad.get(&rule) else { continue };
            if images != bad || *code != COLUMN_ABSENT {
                continue;
            }
            let table = self.table_name(*table);
            return Err(Failure::NoneFit { rule, table, images: *images, message: message.clone() });
        }
        Ok(())
    }
}
