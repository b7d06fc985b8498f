//! Hostile guests: each is refused, or its row or key is, by its code; the rest stays exact; beside it a good rule
//! finishes exact, and the host's memory grows by less than 10 MB.
#![allow(clippy::cast_possible_truncation)] // small numbers of tests
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod hostile;

use std::collections::BTreeSet;
use std::sync::Arc;

use hostile::{Expect, Hostile};
use retag_abi::contribution::Record;
use retag_host::decode::{Fit, ImageBatch, Side, TablePlan, Values};
use retag_host::rule::{
    CompiledRule, Contributions, LabelAnswers, Limits, Mapper, ReadingColumn, Readings, RuleEngine,
    RuleError, RuleFile,
};

fn compile(engine: &RuleEngine, wasm: &[u8]) -> Result<Arc<CompiledRule>, RuleError> {
    engine.compile(RuleFile::read(wasm)?, Limits::default())
}

fn images(rule: &CompiledRule, values: &[i64]) -> ImageBatch {
    let table = &rule.manifest.tables[0];
    let plan =
        TablePlan { table: table.table.clone(), columns: table.planned_columns(), hidden_columns: false };
    let mut batch = ImageBatch::new(0, &plan);
    for (n, value) in values.iter().enumerate() {
        match &mut batch.columns[0].values {
            Values::U64(keys) => keys.push(n as u64),
            Values::Heap { ends, heap } => {
                heap.extend_from_slice(n.to_string().as_bytes());
                ends.push(heap.len() as u32);
            }
            other => panic!("{other:?}"),
        }
        let Values::I64(list) = &mut batch.columns[1].values else { panic!() };
        list.push(*value);
        batch.columns.iter_mut().for_each(|column| column.fits.push(Fit::Value));
        batch.sides.push(Side::After);
        batch.changes.push(0);
    }
    batch
}

fn expected(values: &[i64]) -> Vec<Record> {
    let pair = |(row, value): (usize, &i64)| {
        let row = row as u32;
        [Record { row, aggregate: 0, key: 0, value: 1 }, Record { row, aggregate: 1, key: 0, value: *value }]
    };
    values.iter().enumerate().filter(|(_, v)| **v != 666).flat_map(pair).collect()
}

fn map(mapper: &mut Mapper, rule: &CompiledRule, values: &[i64]) -> Contributions {
    let batch = images(rule, values);
    let rows: Vec<u32> = (0..values.len() as u32).collect();
    let mut out = Contributions::default();
    mapper.map(0, &batch, &[0, 1], &rows, &mut out).unwrap();
    out
}

fn check_good(rule: &Arc<CompiledRule>, mapper: &mut Mapper) {
    let values: Vec<i64> = (0..5000).map(|n| n * 7 - 900).filter(|v| *v != 666).collect();
    let out = map(mapper, rule, &values);
    assert_eq!(out.records, expected(&values));
    assert_eq!(out.bad, []);
}

fn check(engine: &RuleEngine, hostile: &Hostile) -> String {
    let wasm = if hostile.guest == "no wasm" { b"not wasm".to_vec() } else { hostile.wasm() };
    let compiled = compile(engine, &wasm);
    let rule = match (compiled, hostile.expect) {
        (Err(error), Expect::Refused(code)) => {
            assert_eq!(error.code(), code, "{}: {error}", hostile.guest);
            return error.to_string();
        }
        (Err(error), _) => panic!("{}: refused by {}: {error}", hostile.guest, error.code()),
        (Ok(_), Expect::Refused(code)) => panic!("{}: not refused ({code})", hostile.guest),
        (Ok(rule), _) => rule,
    };
    let mut values: Vec<i64> = (0..100).collect();
    values[41] = 666;
    if let Expect::BadRow(code) = hostile.expect {
        let mut mapper = rule.mapper().unwrap();
        let out = map(&mut mapper, &rule, &values);
        let codes: Vec<_> = out.bad.iter().map(|bad| (bad.row, bad.code)).collect();
        assert_eq!(codes, [(41, code)], "{}", hostile.guest);
        assert_eq!(out.records, expected(&values), "{}", hostile.guest);
        return out.bad[0].message.clone();
    }
    let Expect::BadKey(code) = hostile.expect else { panic!() };
    let params = rule.params(&serde_json::Map::new()).unwrap();
    let totals = values.iter().map(|v| i128::from(*v)).collect();
    let readings =
        Readings { keys: 100, columns: vec![ReadingColumn::I64(vec![1; 100]), ReadingColumn::I128(totals)] };
    let mut out = LabelAnswers::default();
    rule.labeler(&params).unwrap().label(&readings, 0, &mut out).unwrap();
    assert_eq!(out.errors.len(), 1, "{}: {:?}", hostile.guest, out.errors);
    assert!(out.errors[0].0 == 41 && out.errors[0].1.contains(code), "{}: {:?}", hostile.guest, out.errors);
    let sets: Vec<u16> = (0..200).map(|n| u16::from(n % 2 == 0 && n != 82)).collect();
    assert_eq!(out.sets, sets, "{}", hostile.guest);
    out.errors[0].1.clone()
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

#[test]
fn a_file_that_is_no_wasm_is_refused_in_one_line() {
    let said = RuleFile::read(b"#!/bin/sh\n").unwrap_err().to_string();
    let expect = "rule file: not a WebAssembly module (magic header not detected: bad magic number). Build it with `retag rule build`";
    assert_eq!(said, expect);
    let cut = RuleFile::read(b"\0as").unwrap_err().to_string();
    assert!(cut.contains("not a WebAssembly module (unexpected end"), "{cut}");
}

#[test]
fn hostile_guests_are_refused_by_name_and_hurt_nobody() {
    let engine = RuleEngine::new().unwrap();
    let good = compile(&engine, &wat::parse_str(hostile::good()).unwrap()).unwrap();
    let mut mapper = good.mapper().unwrap();
    check_good(&good, &mut mapper);
    let table = hostile::rows();
    for hostile in table.iter().take(6) {
        check(&engine, hostile); // the first traps load what they need once
    }
    let before = resident_bytes();
    let mut codes = BTreeSet::new();
    println!("{:<28} {:<28} {:<22} what the host says", "guest", "attacks", "code");
    for hostile in &table {
        let said = check(&engine, hostile);
        check_good(&good, &mut mapper);
        let (Expect::Refused(code) | Expect::BadRow(code) | Expect::BadKey(code)) = hostile.expect;
        codes.insert(code);
        println!("{:<28} {:<28} {code:<22} {}", hostile.guest, hostile.attacks, said.replace('\n', " "));
    }
    let grown = resident_bytes().saturating_sub(before);
    println!("{} guests, {} codes, host memory grew by {} KiB", table.len(), codes.len(), grown / 1024);
    assert!(table.len() >= 46 && codes.len() >= 29, "{} guests, {} codes", table.len(), codes.len());
    assert!(grown < 10 * 1024 * 1024, "host memory grew by {grown} bytes");
}
