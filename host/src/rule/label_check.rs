//! The check of the label side before it is used: what an empty batch costs, and that a key's labels depend on that key
//! alone: equal one by one, in one batch, reversed and in a fresh instance.

use std::sync::Arc;

use retag_abi::label::OUTPUT_HEADER_LEN;
use serde_json::Map;

use super::check::memory_after_start;
use super::engine::CompiledRule;
use super::error::{Fault, RuleError};
use super::guest::Guest;
use super::label::{LabelAnswers, Labeler, ReadingColumn, Readings, Span};
use super::label_pack::LabelPacker;
use super::params::ParamValues;
use super::synthetic::Random;

const KEYS: usize = 64;
/// 2026-01-01 00:00:00 in µs.
const NOW: i64 = 1_767_225_600_000_000;

/// Start, `reserve` and an empty batch within a quarter of fuel and memory.
pub(super) fn start(rule: &CompiledRule) -> Result<(), Fault> {
    let params = ParamValues::new(&rule.manifest, &Map::new());
    let params = params.map_err(|error| Fault::new("bad-param", error.to_string()))?.to_bytes();
    let mut guest = Guest::new(&rule.label_part, rule.limits.start_fuel())?;
    let columns = rule.manifest.aggregates.iter().map(ReadingColumn::for_aggregate).collect();
    let readings = Readings { keys: 0, columns };
    let mut packer = LabelPacker::for_manifest(&rule.manifest);
    let input = packer.pack(Span { readings: &readings, now: NOW, at: 0, keys: 0 }, &params);
    let at = guest.input(input.len(), |place| place.copy_from_slice(input))?;
    let header = guest.run(at, input.len())?;
    let length = super::answer::slice(guest.memory(), header, "header")?.len();
    if length != OUTPUT_HEADER_LEN {
        return Err(Fault::new(
            "bad-length",
            format!("the output header of `label` has {length} bytes, not 16"),
        ));
    }
    memory_after_start(rule, &guest)
}

/// Refuses a rule whose labels of a key depend on other keys.
pub(super) fn purity(rule: &Arc<CompiledRule>) -> Result<(), RuleError> {
    let params = ParamValues::new(&rule.manifest, &Map::new())?;
    let mut labeler = rule.labeler(&params)?;
    let readings = synthetic_readings(rule, false);
    let reversed = synthetic_readings(rule, true);
    let alone = one_by_one(&mut labeler, rule, &readings);
    let mut answers = LabelAnswers::default();
    for (how, readings, turn) in [
        ("in one batch", &readings, false),
        ("in a second batch", &readings, false),
        ("in reverse", &reversed, true),
        ("in a fresh instance", &readings, false),
    ] {
        if how == "in a fresh instance" {
            labeler.recycle();
        }
        labeler.label(readings, NOW, &mut answers)?;
        let mut found = spell_out(rule, &answers);
        if turn {
            found.reverse();
        }
        if found != alone {
            let message = format!("synthetic keys get other labels {how}");
            return Err(RuleError::Impure { rule: rule.manifest.name.clone(), part: "label", message });
        }
    }
    Ok(())
}

/// Per key its labels and wake time; `None` where the call fails.
type Answers = Vec<Option<(Vec<u16>, i64)>>;

fn one_by_one(labeler: &mut Labeler, rule: &CompiledRule, readings: &Readings) -> Answers {
    let one = |at| {
        let mut out = LabelAnswers::default();
        labeler.alone(Span { readings, now: NOW, at, keys: 1 }, &mut out).ok()?;
        spell_out(rule, &out).pop().flatten()
    };
    (0..readings.keys).map(one).collect()
}

fn spell_out(rule: &CompiledRule, answers: &LabelAnswers) -> Answers {
    let labels = rule.manifest.labels.len();
    let set = |key: usize| answers.sets.get(key * labels..(key + 1) * labels).unwrap_or_default().to_vec();
    let mut all: Answers =
        answers.wake.iter().enumerate().map(|(key, wake)| Some((set(key), *wake))).collect();
    for (key, _) in &answers.errors {
        if let Some(place) = all.get_mut(*key) {
            *place = None;
        }
    }
    all
}

fn synthetic_readings(rule: &CompiledRule, reverse: bool) -> Readings {
    let mut random = Random(7);
    let mut numbers = |signed: bool| -> Vec<i64> {
        let mut list: Vec<i64> = (0..KEYS)
            .map(|n| {
                let number = i64::try_from(random.next() >> (1 + random.next() % 63)).unwrap_or_default();
                if signed && n % 5 == 4 { -number } else { number }
            })
            .collect();
        if reverse {
            list.reverse();
        }
        list
    };
    let columns = rule.manifest.aggregates.iter().map(|aggregate| {
        let list = numbers(aggregate.kind != "count" && aggregate.kind != "distinct");
        let some = |n: i64| (n % 7 != 0).then_some(n);
        match ReadingColumn::for_aggregate(aggregate) {
            ReadingColumn::Bool(_) => ReadingColumn::Bool(list.iter().map(|n| n % 2 == 0).collect()),
            ReadingColumn::I64(_) => ReadingColumn::I64(list),
            ReadingColumn::U64(_) => ReadingColumn::U64(list.iter().map(|n| n.unsigned_abs()).collect()),
            ReadingColumn::I128(_) => ReadingColumn::I128(list.iter().map(|n| i128::from(*n)).collect()),
            ReadingColumn::OptI64(_) => ReadingColumn::OptI64(list.into_iter().map(some).collect()),
            ReadingColumn::OptU64(_) => {
                ReadingColumn::OptU64(list.into_iter().map(|n| some(n).map(i64::unsigned_abs)).collect())
            }
            ReadingColumn::OptI128(_) => {
                ReadingColumn::OptI128(list.into_iter().map(|n| some(n).map(i128::from)).collect())
            }
            ReadingColumn::OptI32(_) => {
                let day = |n: i64| i32::try_from(n % 100_000).unwrap_or_default();
                ReadingColumn::OptI32(list.into_iter().map(|n| some(n).map(day)).collect())
            }
            ReadingColumn::OptBytes(_) => {
                let text = |n: i64| n.to_string().into_bytes();
                ReadingColumn::OptBytes(list.into_iter().map(|n| some(n).map(text)).collect())
            }
        }
    });
    Readings { keys: KEYS, columns: columns.collect() }
}
