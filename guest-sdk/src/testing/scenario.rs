//! Scenario files run natively: each file three ways, and each way must give the transitions that the file lists.
//!
//! A block's transitions are the net difference of all keys' labels between two `=>` lines. `RETAG_BLESS=1` rewrites
//! the files with what the run gave.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::path::{Path, PathBuf};

use retag_scenario::{Scenario, Step, Transitions, difference, parse};

use super::totals::Leg;
use super::{Cell, KeyValue, Totals, json, label_bytes, label_input};
use crate::{Label, LabelInfo, LabelSet, Map, ParamSet, TableInfo, ValueType};

/// How the rows of a block are fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each image in a batch of its own.
    OneByOne,
    /// All images of a table in one batch.
    Batched,
    /// As `Batched`, last image first.
    Reversed,
}

/// The transitions of each block, and notes on images that the host would keep from the rule.
pub type Blocks = (Vec<Transitions>, String);

const MODES: [Mode; 3] = [Mode::OneByOne, Mode::Batched, Mode::Reversed];

/// Runs every `*.scenario` file of `folder` natively, in every [`Mode`].
///
/// # Panics
/// When a file does not read or its transitions differ, with the difference; and when there is no file.
#[allow(clippy::disallowed_methods)] // tests only
pub fn run_scenarios<R: Map + Label>(folder: impl AsRef<Path>) {
    let files = files(folder.as_ref());
    assert!(!files.is_empty(), "no *.scenario file in {}", folder.as_ref().display());
    let bless = std::env::var_os("RETAG_BLESS").is_some_and(|value| value == "1");
    let mut failures = String::new();
    for file in files {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => panic!("{}: {error}", file.display()),
        };
        match check::<R>(&text, bless) {
            Ok(Some(blessed)) if blessed != text => {
                if let Err(error) = std::fs::write(&file, blessed) {
                    panic!("{}: {error}", file.display());
                }
            }
            Ok(_) => {}
            Err(message) => failures.push_str(&format!("{}: {message}\n", file.display())),
        }
    }
    assert!(failures.is_empty(), "\n{failures}RETAG_BLESS=1 rewrites the files with what the rule gave\n");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "scenario"));
    files.sort();
    files
}

/// Checks a file's text in every mode; the blessed text if asked for.
fn check<R: Map + Label>(text: &str, bless: bool) -> Result<Option<String>, String> {
    let scenario = parse(text).map_err(|error| error.to_string())?;
    let mut first: Option<Vec<Transitions>> = None;
    for mode in MODES {
        let (blocks, notes) = run_scenario::<R>(&scenario, mode)?;
        let expected = scenario.steps.iter().filter_map(|step| match step {
            Step::Expect { line, transitions } => Some((*line, transitions)),
            _ => None,
        });
        for ((line, wanted), got) in expected.zip(&blocks).filter(|_| !bless) {
            if let Some(text) = difference(wanted, got) {
                return Err(format!("line {line}, {mode:?}: {text}{notes}"));
            }
        }
        match &first {
            Some(first) if *first != blocks => {
                return Err(format!("{mode:?} gives other transitions: {blocks:?}"));
            }
            Some(_) => {}
            None => first = Some(blocks),
        }
    }
    Ok(first.filter(|_| bless).map(|blocks| retag_scenario::bless(text, &blocks)))
}

/// Runs a scenario: the transitions of each block, and notes on images that the host would keep from the rule.
///
/// # Errors
/// A parameter that the rule does not have, or whose value does not fit.
pub fn run_scenario<R: Map + Label>(scenario: &Scenario, mode: Mode) -> Result<Blocks, String> {
    let mut run =
        Run { totals: Totals::default(), labels: BTreeMap::new(), params: params::<R>(scenario)?, now: 0 };
    let (mut legs, mut blocks, mut notes) = (Vec::new(), Vec::new(), String::new());
    for step in &scenario.steps {
        match step {
            Step::Change { line, table, before, after } => {
                for (row, sign) in [(before, -1), (after, 1)] {
                    match row.as_ref().map(|row| leg(R::TABLES, table, row, sign)) {
                        Some(Ok(found)) => legs.extend(found),
                        Some(Err(why)) => {
                            notes
                                .push_str(&format!("  note: line {line}: {why}; the image counts nothing\n"));
                        }
                        None => {}
                    }
                }
            }
            Step::Advance { micros, .. } => run.now += micros,
            Step::Expect { .. } => {
                run.apply::<R>(core::mem::take(&mut legs), mode);
                blocks.push(run.transitions::<R>());
            }
        }
    }
    Ok((blocks, notes))
}

fn params<R: Label>(scenario: &Scenario) -> Result<Vec<i128>, String> {
    let known = R::Params::PARAMS;
    let mut values: Vec<i128> = known.iter().map(|param| param.default).collect();
    for (name, value) in &scenario.params {
        let found = known.iter().zip(&mut values).find(|(param, _)| param.name == name);
        let (param, place) = found.ok_or_else(|| format!("the rule has no parameter `{name}`"))?;
        *place = json::param(value, param.value_type).map_err(|why| format!("parameter `{name}`: {why}"))?;
    }
    Ok(values)
}

/// The image of `row` for the rule; none where the rule does not read the table.
fn leg(
    tables: &[TableInfo],
    name: &str,
    row: &retag_scenario::Row,
    sign: i64,
) -> Result<Option<Leg>, String> {
    let Some((at, table)) = tables.iter().enumerate().find(|(_, table)| table.name == name) else {
        return Ok(None);
    };
    let mut cells = Vec::new();
    for (n, column) in table.columns.iter().enumerate() {
        let named = |why: &str| format!("{name}.{}: {why}", column.name);
        let cell = json::cell(row.get(column.name), column.value_type).map_err(|why| named(&why))?;
        match cell {
            Cell::Null if n == table.key && !column.nullable => return Ok(None),
            Cell::Null if !column.nullable => return Err(named("is NULL, which the rule does not take")),
            Cell::Absent if !column.absentable => {
                return Err(named("is absent, which the rule does not take"));
            }
            cell => cells.push(cell),
        }
    }
    Ok(Some((at, cells, sign)))
}

struct Run {
    totals: Totals,
    /// The label sets that readers see.
    labels: BTreeMap<KeyValue, Vec<u16>>,
    params: Vec<i128>,
    now: i64,
}

impl Run {
    fn apply<R: Map>(&mut self, mut legs: Vec<Leg>, mode: Mode) {
        if mode == Mode::Reversed {
            legs.reverse();
        }
        let size = if mode == Mode::OneByOne { 1 } else { retag_abi::BATCH_ROWS_MAX };
        for table in 0..R::TABLES.len() {
            let of_table: Vec<&Leg> = legs.iter().filter(|(at, ..)| *at == table).collect();
            of_table.chunks(size).for_each(|legs| self.totals.add::<R>(table, legs));
        }
    }

    /// Labels all keys and says what changed; pending keys keep their labels.
    fn transitions<R: Label>(&mut self) -> Transitions {
        let types: Vec<ValueType> = R::AGGREGATES.iter().map(|info| info.reading).collect();
        let mut current = BTreeMap::new();
        for (key, reading) in self.totals.readings(R::AGGREGATES) {
            let set = if reading.pending {
                self.labels.get(key).cloned().unwrap_or_default()
            } else {
                label_bytes::<R>(&label_input(&types, &[reading.cells], &self.params, self.now)).0
            };
            if set.iter().any(|slot| *slot != 0) {
                current.insert(key.clone(), set);
            }
        }
        let before = core::mem::replace(&mut self.labels, current);
        let none = Vec::new();
        let mut keys: Vec<&KeyValue> = before.keys().chain(self.labels.keys()).collect();
        keys.sort();
        keys.dedup();
        let changed = keys.into_iter().map(|key| {
            let (old, new) = (before.get(key).unwrap_or(&none), self.labels.get(key).unwrap_or(&none));
            (key.to_string(), entries(R::Labels::LABELS, old, new))
        });
        changed.filter(|(_, entries)| !entries.is_empty()).collect()
    }
}

/// What changed between two label sets, as scenario files write it.
fn entries(labels: &[LabelInfo], old: &[u16], new: &[u16]) -> Vec<String> {
    let slot = |set: &[u16], n: usize| set.get(n).copied().unwrap_or(0);
    let changed = labels.iter().enumerate().filter(|(n, _)| slot(old, *n) != slot(new, *n));
    changed
        .map(|(n, label)| {
            let value = usize::from(slot(new, n)).checked_sub(1);
            let name = value.and_then(|value| label.values.get(value).copied());
            retag_scenario::entry(label.name, value.is_some(), name)
        })
        .collect()
}
