//! Whether rules fit what they are given: better to stop than to hold no sums. A namespace that is not live is given up
//! instead.

use super::coordinator::Pipeline;
use super::failure::Failure;
use crate::rule::COLUMN_ABSENT;
use std::collections::BTreeMap;

impl Pipeline {
    /// A rule that refuses most of what it is given does not fit its tables: better to stand still than to hold no sums. Gives
    /// the namespaces that do not fit, with the reason.
    ///
    /// # Errors
    /// A live rule that does not fit, where the end of the sources is the end of the job.
    pub(super) fn check_fits(&self) -> Result<BTreeMap<u32, String>, Failure> {
        let mut misfits = BTreeMap::new();
        for ((namespace, table), (images, bad)) in self.fits_of_cycle() {
            if images < 100 || bad * 2 <= images {
                continue;
            }
            let (rule, is_live) = self.rule_of(namespace);
            let of_cycle = self
                .cycle
                .published
                .iter()
                .flat_map(|p| &p.quarantine)
                .rfind(|b| b.rule == rule && b.table == table);
            let of_cycle = of_cycle.map(|b| (b.code, b.message.clone()));
            let of = (rule.clone(), table.clone());
            let last = of_cycle.or_else(|| self.book.last_bad.get(&of).cloned());
            let (code, message) = last.unwrap_or_default();
            let registry = &self.book.registry;
            let goes_on_without = match is_live {
                // One that was resumed onto what it cannot read stands still again.
                true => !self.settings.until_end || registry.lacks(&rule),
                false => registry.is_spare(namespace),
            };
            if goes_on_without {
                let why =
                    format!("rule-does-not-fit: {bad} of {images} images of {table} with {code}: {message}");
                misfits.insert(namespace, why);
                continue;
            }
            return Err(Failure::BadImages { rule, table, images, bad, code, message });
        }
        Ok(misfits)
    }

    /// Images and bad ones since start, the open cycle's too, of what the cycle has.
    fn fits_of_cycle(&self) -> BTreeMap<(u32, String), (u64, u64)> {
        let mut all: BTreeMap<(u32, String), (u64, u64)> = BTreeMap::new();
        let lane = self.lane().map(|lane| lane.program);
        let tracks = [(false, Some(self.program.clone())), (true, lane)];
        for (lane, program) in tracks {
            let Some(tables) = program.map(|p| p.tables()) else { continue };
            for ((namespace, table), (images, bad)) in self.cycle.counters(lane).fits {
                let key = (namespace, tables.get(table).cloned().unwrap_or_default());
                let before = self.book.fits.get(&key).copied().unwrap_or_default();
                let fits = all.entry(key).or_insert(before);
                *fits = (fits.0 + images, fits.1 + bad);
            }
        }
        all
    }

    /// Name of the rule of a namespace, and whether it is live there.
    pub(super) fn rule_of(&self, namespace: u32) -> (String, bool) {
        let rule = self.program.rules.iter().find(|r| r.namespace == namespace);
        rule.map_or((String::new(), false), |r| (r.name.clone(), r.is_live()))
    }

    /// At the end of the sources every rule must have seen at least one of its tables.
    pub(super) fn check_seen(&self) -> Result<(), Failure> {
        let seen = &self.book.totals.tables;
        if self.book.totals.changes == 0 {
            return Ok(()); // an empty log says nothing about a rule
        }
        for rule in self.program.rules.iter().filter(|rule| rule.is_live()) {
            let mut tables = rule.compiled.manifest.tables.iter().map(|t| t.table.as_str());
            if !tables.clone().any(|table| seen.contains_key(table)) {
                let tables: Vec<&str> = tables.by_ref().collect();
                return Err(Failure::TablesNotSeen { rule: rule.name.clone(), tables: tables.join(", ") });
            }
        }
        Ok(())
    }

    /// At the end of the sources no rule may stand still that nobody paused.
    pub(super) fn check_awake(&self) -> Result<(), Failure> {
        match self.stood_still.first() {
            None => Ok(()),
            Some((rule, why)) => Err(Failure::StoodStill { rule: rule.clone(), why: why.clone() }),
        }
    }

    /// At the end of the sources a rule that could read no image of a table at all does not fit it.
    pub(super) fn check_none_fit(&self) -> Result<(), Failure> {
        for ((namespace, table), (images, bad)) in &self.book.fits {
            let (rule, is_live) = self.rule_of(*namespace);
            let of = (rule.clone(), table.clone());
            let Some((code, message)) = self.book.last_bad.get(&of) else { continue };
            if images != bad || *code != COLUMN_ABSENT || !is_live {
                continue;
            }
            let (table, message) = (table.clone(), message.clone());
            return Err(Failure::NoneFit { rule, table, images: *images, message });
        }
        Ok(())
    }
}
