//! What a refused message does: the host stops in front of it, or the rules that read its table stand still from there on and
//! everything else goes on (`on_refusal`).
//!
//! Either way the open cycle is voided and decoded again, cut before the message, so that a commit ends right there.

use super::coordinator::Pipeline;
use super::cycle::LaneFault;
use super::failure::Failure;
use super::message::Envelope;
use super::quarantine::line_at;
use crate::config::OnRefusal;
use crate::decode::{Decoded, Decoder, OF_THE_LOG, Plan, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Pipeline {
    /// Voids the cycle: its blocks are decoded again, cut before the refused messages. Behind that commit the host stops, or
    /// goes on without the rules that read their tables.
    pub(super) fn cut(&mut self, out: &mut Vec<Envelope>) {
        let refusals: Vec<(usize, Refusal)> =
            self.cycle.refusals.iter().map(|(partition, refusal)| (*partition, refusal.clone())).collect();
        let readers = refusals.iter().map(|(partition, refusal)| self.readers_to_pause(*partition, refusal));
        match readers.collect::<Option<Vec<Vec<String>>>>() {
            Some(readers) if self.stopping.is_none() => {
                let mut why = BTreeMap::new();
                for ((partition, refusal), rules) in refusals.iter().zip(readers) {
                    let text = self.in_words(*partition, refusal);
                    why.extend(rules.into_iter().map(|rule| (rule, text.clone())));
                    self.read_again(*partition, refusal.position);
                }
                for (rule, why) in why {
                    self.stand_still(rule, why);
                }
            }
            _ => {
                let first = refusals.into_iter().next();
                if let Some((partition, refusal)) = first.filter(|_| self.stopping.is_none()) {
                    let (source_name, place) = self.place(partition, refusal.position);
                    self.stopping = Some(Err(Failure::Refused { source_name, place, refusal }));
                }
                self.held.clear();
            }
        }
        self.discard(out);
        self.again(out);
    }

    /// Pauses a rule at the next barrier for good: until somebody resumes it.
    pub(super) fn stand_still(&mut self, rule: String, why: String) {
        self.given_up
            .push(format!("rule {rule} stands still: {why}; `retag rule resume {rule}` goes on there"));
        self.stood_still.push((rule.clone(), why.clone()));
        self.pause_rule(rule, why);
    }

    /// Live rules without which the message would pass; `None` where the host has to stop.
    fn readers_to_pause(&self, partition: usize, refusal: &Refusal) -> Option<Vec<String>> {
        let source = self.program.sources.get(self.partitions.get(partition)?.source)?;
        if source.on_refusal != OnRefusal::Pause || OF_THE_LOG.contains(&refusal.code) {
            return None;
        }
        let reads = |r: &&super::program::LiveRule| {
            r.is_live() && r.compiled.manifest.tables.iter().any(|t| t.table == refusal.table)
        };
        let readers: Vec<String> = self.program.rules.iter().filter(reads).map(|r| r.name.clone()).collect();
        if readers.is_empty() {
            return None;
        }
        // Does it pass where nobody reads its table?
        let tables = source.plan.tables.iter().filter(|t| t.table != refusal.table).cloned().collect();
        let is_in = |start: u64, end: u64| (start..end).contains(&refusal.position);
        let mut blocks = self.cycle.tasks.iter().map(|task| &task.block);
        let block = blocks.find(|b| b.partition == partition && is_in(b.start, b.end()))?;
        let mut decoded = Decoded::default();
        let line = line_at(block, refusal.position);
        Decoder::new(source.format, Arc::new(Plan { tables })).decode(line, refusal.position, &mut decoded);
        decoded.refusal.is_none().then_some(readers)
    }

    /// Name of the source of a partition, and the place in that in words.
    fn place(&self, partition: usize, position: u64) -> (String, String) {
        let run = self.partitions.get(partition);
        let source = run.and_then(|p| self.program.sources.get(p.source));
        let place = run.map_or_else(String::new, |p| p.partition.place(position));
        (source.map_or_else(String::new, |s| s.name.clone()), place)
    }

    /// The refusal with its place.
    fn in_words(&self, partition: usize, refusal: &Refusal) -> String {
        let Refusal { code, position, table, message } = refusal;
        let table = if table.is_empty() { String::new() } else { format!(", table {table}") };
        let (source, place) = self.place(partition, *position);
        format!("{code}: source {source}, {place}{table}: {message}")
    }

    /// Why the lane cannot go on, with its place.
    pub(super) fn fault_in_words(&self, fault: LaneFault) -> String {
        match fault {
            // What stands in an old log cannot be mended where it was written.
            LaneFault::Refused(partition, refusal) => format!(
                "{}; with `on_refusal = \"quarantine\"` of the source it is put aside, and the rule lacks it",
                self.in_words(partition, &refusal)
            ),
            LaneFault::Other(why) => why,
        }
    }

    /// Reads a partition again from `position` on: what was read behind it is dropped.
    fn read_again(&mut self, partition: usize, position: u64) {
        self.held.retain(|block| block.partition != partition);
        if let Some(run) = self.partitions.get_mut(partition) {
            run.next = position; // a block that is on its way does not begin there, and is dropped
            run.at_end = false;
        }
    }
}
