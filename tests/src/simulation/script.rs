//! A script of commands at random moments: what a campaign team does to rule payer while the stream flows. Its files differ in
//! labels, and in what they count.
//!
//! Commands may be refused; those that are carried out must leave the state and the sink as the model says.

use super::check::{MapSides, registry};
use super::scheduler::{Random, Schedule};
use super::world::{Fate, Rules, World};
use crate::model::MapSide;
use crate::rule_file::{baskets, changed};
use retag_host::pipeline::command::Outcome;
use retag_host::pipeline::rules::{Loaded, load};
use retag_host::registry::Registry;
use retag_host::registry::command::Command;
use retag_host::rule::RuleEngine;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Labels that the second file of the script renames, with the new names.
pub const RENAMED: &[(&str, &str)] = &[("refunder", "refundee")];
const MINIMA: [&str; 4] = ["5000.00", "300.00", "1000.00", "80.00"];

/// Files of rule payer under some parameters, and what became of the commands.
pub struct Script {
    choices: Vec<Loaded>,
    /// What each namespace counts.
    pub sides: MapSides,
    answers: Vec<Receiver<Outcome>>,
    /// Names of the commands that were carried out and changed something, with their number.
    pub done: BTreeMap<&'static str, u64>,
    /// Codes of the refusals, with their number.
    pub refused: BTreeMap<&'static str, u64>,
    /// Switches that were asked for and moved the rule to another namespace.
    pub moved: u64,
    /// Times that the stream stood back for a switch, in runs that came to their end.
    pub stood_back: u64,
    names: Vec<&'static str>,
    /// It pauses the rule too, and lets it go on.
    pub pauses: bool,
}

impl Script {
    /// Loads rules/payer, the same with a label renamed, and both with another map side.
    ///
    /// # Panics
    /// When the rule is not built.
    #[must_use]
    pub fn load() -> Self {
        let engine = RuleEngine::new().expect("a Wasm engine");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../rules/payer/payer.wasm");
        let bytes = std::fs::read(&path).expect("a rule that is built: `cargo xtask test`");
        let mut renamed = bytes.clone();
        for (from, to) in RENAMED {
            let quoted = format!("\"{from}\"");
            let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(quoted.as_bytes()));
            let at = at.expect("the label in the manifest") + 1;
            renamed[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        let (mut choices, mut sides) = (Vec::new(), MapSides::new());
        for (bytes, side) in [
            (baskets(&bytes), MapSide::Baskets),
            (baskets(&renamed), MapSide::Baskets),
            (bytes, MapSide::States),
            (renamed, MapSide::States),
        ] {
            for minimum in MINIMA {
                let params = [("big_spender_min".to_owned(), minimum.into())].into();
                let loaded = load(&engine, "payer", (path.clone(), bytes.clone()), &params);
                let loaded = loaded.expect("a rule that loads");
                sides.insert(loaded.revision("", "").namespace_id, side);
                choices.push(loaded);
            }
        }
        let (done, refused) = (BTreeMap::new(), BTreeMap::new());
        Self {
            choices,
            sides,
            answers: Vec::new(),
            done,
            refused,
            moved: 0,
            stood_back: 0,
            names: Vec::new(),
            pauses: false,
        }
    }

    /// A file of rule payer that reads a column of orders that none has.
    ///
    /// # Panics
    /// When the rule is not built.
    #[must_use]
    pub fn misfit() -> Loaded {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../rules/payer/payer.wasm");
        let bytes = std::fs::read(&path).expect("a rule that is built: `cargo xtask test`");
        let bytes = changed(&bytes, |manifest| {
            manifest["tables"][1]["columns"][1]["name"] = "merchant_no".into();
        });
        let engine = RuleEngine::new().expect("a Wasm engine");
        load(&engine, "payer", (path, bytes), &BTreeMap::new()).expect("a rule that loads")
    }

    /// A file of rule payer with map side `side`.
    ///
    /// # Panics
    /// When the script has none.
    #[must_use]
    pub fn of_side(&self, side: MapSide) -> &Loaded {
        let has = |c: &&Loaded| self.sides.get(&c.revision("", "").namespace_id) == Some(&side);
        self.choices.iter().find(has).expect("a file of each side")
    }

    /// Forgets what became of earlier commands.
    pub fn clear(&mut self) {
        self.done.clear();
        self.moved = 0;
        self.stood_back = 0;
        self.refused.clear();
    }

    /// Submits a random command that fits more or less what the registry says.
    pub fn ask(&mut self, registry: &Registry, schedule: &mut Schedule, random: &mut Random) {
        let rule = "payer".to_owned();
        let last = u64::from(registry.next_revision("payer"));
        let revision = u32::try_from(1 + random.below(last)).expect("few revisions");
        let chosen = self.choices[random.below(self.choices.len() as u64) as usize].clone();
        let record = Box::new(chosen.revision("script", ""));
        let choice = if self.pauses { random.below(14) } else { random.below(10) };
        let (command, code) = match choice {
            0 => (push(&chosen), None),
            1 | 2 => {
                let stored = registry.revision("payer", revision);
                let code = self.choices.iter().find(|c| {
                    let of = c.revision("", "");
                    stored.is_some_and(|r| (&r.file, &r.params) == (&of.file, &of.params))
                });
                // As the API does: a command for a revision that is not there never gets so far.
                let Some(code) = code.map(Loaded::code) else { return };
                (Command::Prepare { rule, revision }, Some(code))
            }
            3 | 4 => {
                // The registry keeps the file of a push only; parameters change on a file that is kept.
                if !registry.revisions.iter().any(|r| r.file == record.file) {
                    return;
                }
                (Command::Params(record), Some(chosen.code()))
            }
            5..=7 => {
                let ready =
                    registry.generations.iter().filter(|g| g.rule == "payer" && g.state.is_evaluated());
                let ready: Vec<u32> = ready.map(|g| g.revision).collect();
                let revision = ready.get(random.below(ready.len() as u64) as usize).copied();
                let of = |number| registry.revision("payer", number).map(|r| &r.namespace_id);
                let live = registry.live("payer").map(|g| g.revision);
                self.moved += u64::from(live.and_then(of) != revision.and_then(of));
                (
                    Command::Activate { rule, revision: revision.unwrap_or(1), bound: None, announce: false },
                    None,
                )
            }
            8 => (Command::Rollback { rule, announce: false }, None),
            10 => {
                let forced = random.below(4) == 0;
                (Command::Pause { rule, by: "script".into(), why: String::new(), forced }, None)
            }
            11.. => (Command::Resume { rule }, None),
            _ => (Command::Cancel { rule, revision }, None),
        };
        self.names.push(command.name());
        self.answers.push(schedule.ask(command, code));
    }

    /// Counts the answers that have come.
    fn count(&mut self) {
        let names = std::mem::take(&mut self.names);
        for (name, answer) in names.into_iter().zip(std::mem::take(&mut self.answers)) {
            match answer.try_recv() {
                Ok(Ok(done)) if done.changed => *self.done.entry(name).or_default() += 1,
                Ok(Err(refusal)) => *self.refused.entry(refusal.kind().1).or_default() += 1,
                _ => {}
            }
        }
    }
}

/// The command that brings a file.
#[must_use]
pub fn push(file: &Loaded) -> Command {
    let bytes = Arc::new(file.code().compiled.file.label_wasm.clone());
    Command::Push(Box::new(file.revision("script", "")), bytes)
}

impl World {
    /// As [`World::run`], with a command about every `every` steps, `most` of them at most.
    ///
    /// # Panics
    /// When set-up refuses.
    pub fn run_script(
        &mut self,
        rules: &Rules,
        steps: u64,
        script: &mut Script,
        (every, most): (u64, u64),
        random: &mut Random,
    ) -> Fate {
        let mut schedule = self.start(rules, true).expect("an engine that starts");
        let mut asked = 0;
        while schedule.steps < steps {
            if asked < most && random.below(every) == 0 {
                asked += 1;
                script.ask(&registry(&self.view()), &mut schedule, random);
            }
            let outcome = schedule.step(random);
            self.now = schedule.now;
            match outcome {
                Some(Ok(())) => {
                    script.stood_back += schedule.stood_back();
                    script.count();
                    return Fate::Ended;
                }
                Some(Err(failure)) => {
                    script.count();
                    self.store.crash();
                    return Fate::Failed(failure);
                }
                None => {}
            }
        }
        script.count();
        drop(schedule);
        self.store.crash();
        Fate::Killed
    }
}
