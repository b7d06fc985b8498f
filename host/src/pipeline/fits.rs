//! Whether rules fit what they are given: better to stop than to hold no sums.

use super::coordinator::Pipeline;
use super::failure::Failure;
use crate::rule::COLUMN_ABSENT;

impl Pipeline {
    /// A rule that refuses most of what it is given does not fit its tables: better to stop than to hold no sums.
    pub(super) fn check_fits(&self) -> Result<(), Failure> {
        for ((rule, table), (images, bad)) in &self.cycle.counters().fits {
            let (before, bad_before) = self.book.fits.get(&(*rule, *table)).copied().unwrap_or_default();
            let (images, bad) = (&(images + before), &(bad + bad_before));
            if *images < 100 || bad * 2 <= *images {
                continue;
            }
            let name = self.program.rules.get(*rule).map_or("", |r| r.name.as_str());
            let plan = self.program.sources.first().and_then(|s| s.plan.tables.get(*table));
            let last = self.cycle.published.iter().flat_map(|p| &p.quarantine).rfind(|b| b.rule == name);
            return Err(Failure::BadImages {
                rule: name.to_owned(),
                table: plan.map_or_else(String::new, |t| t.table.clone()),
                images: *images,
                bad: *bad,
                code: last.map_or("", |b| b.code),
                message: last.map_or_else(String::new, |b| b.message.clone()),
            });
        }
        Ok(())
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
            let rule = self.program.rules.get(*rule).map_or_else(String::new, |r| r.name.clone());
            let Some((code, message)) = self.book.last_bad.get(&rule) else { continue };
            if images != bad || *code != COLUMN_ABSENT {
                continue;
            }
            let plan = self.program.sources.first().and_then(|s| s.plan.tables.get(*table));
            let table = plan.map_or_else(String::new, |t| t.table.clone());
            return Err(Failure::NoneFit { rule, table, images: *images, message: message.clone() });
        }
        Ok(())
    }
}
