//! What a namespace that is not live cannot take never stops the stream: the namespace is given up, by name, and what was
//! decoded for it is decoded again without it.

use super::command::Submitted;
use super::coordinator::Pipeline;
use super::cycle::{Cycle, LaneFault};
use super::message::{Address, Envelope, Message};
use super::program::LiveRule;
use crate::registry::command::{Asker, Command, HOST};
use std::collections::BTreeMap;

impl Pipeline {
    /// Gives a namespace up at the next barrier, before any other command.
    pub(super) fn give_up(&mut self, space: u32, why: String) {
        let Some(namespace) = self.book.registry.namespace_of(space) else { return };
        let asker = Asker { by: HOST.into(), why: why.clone(), ..Asker::default() };
        let command = Command::GiveUp { rule: namespace.rule.clone(), space, why };
        self.commands.push_first(Submitted { command, code: None, asker, reply: None });
    }

    /// Pauses a rule at the next barrier, before any other command.
    pub(super) fn pause_rule(&mut self, rule: String, why: String) {
        let by = HOST.to_owned();
        let asker = Asker { by: by.clone(), why: why.clone(), ..Asker::default() };
        let command = Command::Pause { rule, by, why, forced: true };
        self.commands.push_first(Submitted { command, code: None, asker, reply: None });
    }

    /// Deals with what the decoded blocks of the open cycle brought to light, once all are decoded.
    pub(super) fn settle_faults(&mut self, out: &mut Vec<Envelope>) {
        if !self.is_idle() || self.cycle.decoding() > 0 {
            return;
        }
        if let Some(fault) = self.cycle.lane_fault.take() {
            let spare = self.lane_culprits(&fault);
            if !spare.is_empty() {
                self.cycle.refusals.clear(); // they are found again
                return self.give_back(spare, out);
            }
            self.halt_lane(self.fault_in_words(fault));
            self.drop_lane_blocks();
            self.cycle.refusals.clear(); // they are found again
            self.discard(out);
            self.again(out);
            return;
        }
        let culprits = if self.stopping.is_none() { self.culprits() } else { BTreeMap::new() };
        if !culprits.is_empty() {
            self.give_back(culprits, out);
        }
    }

    /// Namespaces of a rule that nobody reads and without which the lane would pass a refused message: no other reads its table.
    fn lane_culprits(&self, fault: &LaneFault) -> BTreeMap<u32, String> {
        let (LaneFault::Refused(_, refusal), Some(lane)) = (fault, self.lane()) else {
            return BTreeMap::new();
        };
        let reads = |rule: &&LiveRule| rule.compiled.manifest.tables.iter().any(|t| t.table == refusal.table);
        let readers: Vec<u32> = lane.program.rules.iter().filter(reads).map(|r| r.namespace).collect();
        if readers.iter().any(|space| !self.book.registry.is_spare(*space)) {
            return BTreeMap::new();
        }
        let why = self.fault_in_words(fault.clone());
        readers.into_iter().map(|space| (space, why.clone())).collect()
    }

    /// Namespaces that are not live and without which a refused message would not be refused, with the reason.
    fn culprits(&self) -> BTreeMap<u32, String> {
        let mut culprits = BTreeMap::new();
        if self.cycle.refusals.is_empty() || self.program.rules.iter().all(|rule| rule.is_live()) {
            return culprits;
        }
        let without = self.program.live_alone();
        for refusal in self.cycle.refusals.values() {
            let plan = |program: &super::program::Program| {
                let source = program.sources.first()?;
                source.plan.tables.iter().find(|t| t.table == refusal.table).cloned()
            };
            if plan(&without) == plan(&self.program) {
                continue;
            }
            let reads = |r: &&LiveRule| r.compiled.manifest.tables.iter().any(|t| t.table == refusal.table);
            for rule in self.program.rules.iter().filter(|r| !r.is_live()).filter(reads) {
                if self.book.registry.is_spare(rule.namespace) {
                    let why = format!("{}: {}: {}", refusal.code, refusal.table, refusal.message);
                    culprits.insert(rule.namespace, why);
                }
            }
        }
        culprits
    }

    /// Gives up namespaces that are not live, as soon as no switch from or to them is being told any more; nothing is decoded before.
    pub(super) fn give_up_condemned(&mut self) {
        let registry = &self.book.registry;
        let waits = |space: &u32| registry.is_spare(*space) && !registry.can_give_up(*space);
        let (waiting, settled): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.condemned).into_iter().partition(|(space, _)| waits(space));
        self.condemned = waiting;
        for (space, why) in settled {
            // One that has gone live since is judged as such.
            if self.book.registry.can_give_up(space) {
                self.give_up(space, why);
            }
        }
    }

    /// Gives namespaces up, or pauses their rules where they are live: the open cycle's blocks wait until the program is without them.
    pub(super) fn give_back(&mut self, culprits: BTreeMap<u32, String>, out: &mut Vec<Envelope>) {
        for (namespace, why) in culprits {
            match self.rule_of(namespace) {
                (rule, true) => {
                    self.book.fits.retain(|(of, _), _| *of != namespace); // it is judged anew when it goes on
                    self.stand_still(rule, why);
                }
                (_, false) => _ = self.condemned.insert(namespace, why),
            }
        }
        self.drop_lane_blocks();
        let cycle = std::mem::replace(&mut self.cycle, Cycle::new(self.settings.workers));
        for task in cycle.tasks.into_iter().rev() {
            self.held.push_front(task.block);
        }
        self.discard(out);
    }

    /// Tells the workers to forget the open cycle.
    pub(super) fn discard(&self, out: &mut Vec<Envelope>) {
        out.extend((0..self.settings.workers).map(|w| Message::Discard.to(Address::Worker(w))));
    }
}
