//! Scenario files through Wasm: rows in, transitions out, with the host's arithmetic in miniature.
//!
//! A file is run in three ways (rows one by one, a batch per block, reversed); all must give what it expects, for sums
//! know no order. A block's transitions are the labels at its end against those at the end of the block before.

mod row;
mod sums;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use retag_abi::{BATCH_ROWS_MAX, WAKE_NEVER};
use retag_scenario::{Row, Scenario, Step, Transitions};
use serde_json::Map;

use super::engine::CompiledRule;
use super::error::RuleError;
use super::label::{LabelAnswers, Labeler, Readings};
use super::manifest::Table;
use super::map::{BadImage, Contributions, Mapper};
use row::Images;
use sums::{Key, Sums};

use crate::decode::ImageBatch;

/// Engine time at the start of a scenario: 1970-01-01 00:00:00 UTC, in µs, as in the SDK's native run.
const START: i64 = 0;

/// How the rows of a block reach the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// A call per image.
    OneByOne,
    /// A batch per table and block.
    Batch,
    /// As `Batch`, last row first.
    Reversed,
}

impl Feed {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::OneByOne, Self::Batch, Self::Reversed];
}

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The rule or its parameters.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// `label` fails for a key.
    #[error("line {line}: `label` fails for key {key}: {message}")]
    Key {
        /// Line in the file.
        line: usize,
        /// Text of the key.
        key: String,
        /// What is wrong.
        message: String,
    },
}

/// What a run gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScenarioRun {
    /// Per block of `=>` lines its first line and the transitions.
    pub blocks: Vec<(usize, Transitions)>,
    /// A line per image that the rule does not take: it counts nothing.
    pub notes: Vec<String>,
    /// Images that were mapped.
    pub images: u64,
}

/// Runs `scenario` through `rule`.
///
/// # Errors
/// A parameter that the rule does not have, a key whose `label` call fails.
pub fn run(rule: &Arc<CompiledRule>, scenario: &Scenario, feed: Feed) -> Result<ScenarioRun, ScenarioError> {
    let mut given = Map::new();
    given.extend(scenario.params.iter().cloned());
    let params = rule.params(&given)?;
    let mut engine = Engine {
        rule,
        mapper: rule.mapper()?,
        labeler: rule.labeler(&params)?,
        feed,
        now: START,
        keys: BTreeMap::new(),
        touched: BTreeSet::new(),
        images: 0,
        notes: Vec::new(),
    };
    let mut run = ScenarioRun::default();
    let mut block: Vec<Leg<'_>> = Vec::new();
    for step in &scenario.steps {
        match step {
            Step::Change { line, table, before, after } => {
                let sides = [(before.as_ref(), -1), (after.as_ref(), 1)];
                block.extend(
                    sides
                        .into_iter()
                        .filter_map(|(row, sign)| Some(Leg { line: *line, table, row: row?, sign })),
                );
            }
            Step::Advance { micros, .. } => engine.now = engine.now.saturating_add(*micros),
            Step::Expect { line, .. } => {
                engine.map_block(&std::mem::take(&mut block))?;
                run.blocks.push((*line, engine.transitions(*line)?));
            }
        }
    }
    run.images = engine.images;
    run.notes = std::mem::take(&mut engine.notes);
    Ok(run)
}

/// The images of `scenario`, one batch per table of the manifest.
#[must_use]
pub fn images(rule: &CompiledRule, scenario: &Scenario) -> Vec<ImageBatch> {
    let of_table = |declared: &Table| {
        let rows = scenario.steps.iter().flat_map(|step| match step {
            Step::Change { table, before, after, .. } if *table == declared.table => {
                [before, after].map(Option::as_ref)
            }
            _ => [None, None],
        });
        let mut images = Images::new(declared);
        rows.flatten().for_each(|row| images.push(row));
        images.into_batch()
    };
    rule.manifest.tables.iter().map(of_table).collect()
}

/// Mean fuel of the images of `scenario`, each table's repeated to a full batch; the greatest of the tables.
///
/// # Errors
/// The rule cannot be started.
pub fn fuel_per_row(rule: &Arc<CompiledRule>, scenario: &Scenario) -> Result<u64, ScenarioError> {
    let mut most = 0;
    for (table, batch) in images(rule, scenario).iter().enumerate() {
        if batch.rows() == 0 {
            continue;
        }
        let rows: Vec<u32> = batch.changes.iter().copied().cycle().take(BATCH_ROWS_MAX).collect();
        let columns: Vec<usize> = (0..batch.columns.len()).collect();
        let mut mapper = rule.mapper()?;
        for _ in 0..2 {
            mapper.map(table, batch, &columns, &rows, &mut Contributions::default())?;
        }
        most = most.max(mapper.last_fuel_per_row());
    }
    Ok(most)
}

/// A signed image.
struct Leg<'a> {
    line: usize,
    table: &'a str,
    row: &'a Row,
    sign: i64,
}

/// What is kept of a key.
struct State {
    sums: Sums,
    labels: Vec<u16>,
    wake: i64,
}

struct Engine<'a> {
    rule: &'a Arc<CompiledRule>,
    mapper: Mapper,
    labeler: Labeler,
    feed: Feed,
    now: i64,
    keys: BTreeMap<Key, State>,
    touched: BTreeSet<Key>,
    images: u64,
    notes: Vec<String>,
}

impl Engine<'_> {
    fn map_block(&mut self, legs: &[Leg<'_>]) -> Result<(), ScenarioError> {
        let rule = Arc::clone(self.rule);
        for (table, declared) in rule.manifest.tables.iter().enumerate() {
            let mut of_table: Vec<&Leg<'_>> = legs.iter().filter(|leg| leg.table == declared.table).collect();
            if self.feed == Feed::Reversed {
                of_table.reverse();
            }
            let chunk = if self.feed == Feed::OneByOne { 1 } else { of_table.len().max(1) };
            for legs in of_table.chunks(chunk) {
                self.map_legs(table, legs)?;
            }
        }
        Ok(())
    }

    fn map_legs(&mut self, table: usize, legs: &[&Leg<'_>]) -> Result<(), ScenarioError> {
        let rule = Arc::clone(self.rule);
        let Some(declared) = rule.manifest.tables.get(table) else { return Ok(()) };
        let mut images = Images::new(declared);
        legs.iter().for_each(|leg| images.push(leg.row));
        let rows: Vec<u32> = (0..u32::try_from(legs.len()).unwrap_or(u32::MAX)).collect();
        let columns: Vec<usize> = (0..declared.columns.len()).collect();
        let mut out = Contributions::default();
        self.mapper.map(table, images.batch(), &columns, &rows, &mut out)?;
        self.images += legs.len() as u64;
        for (bad, leg) in out.bad.iter().filter_map(|bad| Some((bad, legs.get(bad.row as usize)?))) {
            let (line, table) = (leg.line, leg.table);
            let BadImage { code, message, .. } = bad;
            self.notes.push(format!("line {line}: {table}: {message} [{code}]; the image counts nothing"));
        }
        for record in &out.records {
            let Some(leg) = legs.get(record.row as usize) else { continue };
            let Some(key) = Key::of(&rule.manifest, declared, images.batch(), &out, record) else { continue };
            let blank = || State {
                sums: Sums::new(&rule.manifest),
                labels: vec![0; rule.manifest.labels.len()],
                wake: WAKE_NEVER,
            };
            self.keys.entry(key.clone()).or_insert_with(blank).sums.add(
                &rule.manifest,
                record,
                &out.heap,
                leg.sign,
            );
            self.touched.insert(key);
        }
        Ok(())
    }

    /// Labels what was touched or is due, and says what changed.
    fn transitions(&mut self, line: usize) -> Result<Transitions, ScenarioError> {
        let mut due = std::mem::take(&mut self.touched);
        due.extend(self.keys.iter().filter(|(_, state)| state.wake <= self.now).map(|(key, _)| key.clone()));
        let mut transitions = Transitions::new();
        for key in due {
            let Some(state) = self.keys.get_mut(&key) else { continue };
            if state.sums.is_pending() {
                continue; // its labels are held
            }
            let blank = vec![0; self.rule.manifest.labels.len()];
            let (labels, wake) = if state.sums.is_zero() {
                (blank, WAKE_NEVER)
            } else {
                label_one(&mut self.labeler, self.rule, &state.sums, self.now)
                    .map_err(|message| ScenarioError::Key { line, key: key.text(), message })?
            };
            let entries = entries(self.rule, &state.labels, &labels);
            if !entries.is_empty() {
                transitions.push((key.text(), entries));
            }
            (state.labels, state.wake) = (labels, wake);
            if state.sums.is_zero() {
                self.keys.remove(&key);
            }
        }
        Ok(transitions)
    }
}

fn label_one(
    labeler: &mut Labeler,
    rule: &CompiledRule,
    sums: &Sums,
    now: i64,
) -> Result<(Vec<u16>, i64), String> {
    let readings = Readings { keys: 1, columns: sums.readings(&rule.manifest) };
    let mut answers = LabelAnswers::default();
    labeler.label(&readings, now, &mut answers).map_err(|error| error.to_string())?;
    match answers.errors.pop() {
        Some((_, message)) => Err(message),
        None => Ok((answers.sets, answers.wake.first().copied().unwrap_or(WAKE_NEVER))),
    }
}

/// `never_paid`, `-big_spender`, `tier=gold` for what differs.
fn entries(rule: &CompiledRule, before: &[u16], after: &[u16]) -> Vec<String> {
    let changed = rule.manifest.labels.iter().zip(before.iter().zip(after)).filter(|(_, (b, a))| b != a);
    let entry = |(label, (_, after)): (&super::manifest::Label, (&u16, &u16))| match *after {
        0 => format!("-{}", label.name),
        value => match label.values.get(usize::from(value) - 1) {
            Some(name) => format!("{}={name}", label.name),
            None => label.name.clone(),
        },
    };
    changed.map(entry).collect()
}
