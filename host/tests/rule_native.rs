//! Native and Wasm agree: the example rules, built by the command, give on each scenario and on 10,000 random images
//! the contribution bytes that the same source gives natively; and their scenarios pass through Wasm in every order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::fs;
use std::path::Path;
use std::sync::Arc;

use retag_host::cli::rule::{build, test};
use retag_host::decode::{Fit, ImageBatch, Values};
use retag_host::rule::scenario::{self, Feed, fuel_per_row, images};
use retag_host::rule::{CompiledRule, Contributions, Limits, RuleEngine, batch_bytes, synthetic_images};
use retag_sdk::testing::{Mode, Native};

/// Rows that reach the rule: their values fit and their key is not NULL.
fn rows_that_fit(rule: &Arc<CompiledRule>, table: usize, batch: &ImageBatch) -> Vec<u32> {
    let columns: Vec<usize> = (0..batch.columns.len()).collect();
    let all: Vec<u32> = (0..u32::try_from(batch.rows()).unwrap()).collect();
    let mut out = Contributions::default();
    rule.mapper().unwrap().map(table, batch, &columns, &all, &mut out).unwrap();
    let key = rule.manifest.tables[table].key_column().unwrap();
    let bad = |row: u32| out.bad.iter().any(|bad| bad.row == row);
    let null = |row: u32| batch.columns[key].fits[row as usize] == Fit::Null;
    all.into_iter().filter(|row| !bad(*row) && !null(*row)).collect()
}

/// Number of images compared.
fn compare(rule: &Arc<CompiledRule>, native: Native, table: usize, batch: &ImageBatch) -> usize {
    let columns: Vec<usize> = (0..batch.columns.len()).collect();
    let rows = rows_that_fit(rule, table, batch);
    for rows in rows.chunks(256) {
        let bytes = batch_bytes(table, batch, &columns, rows).unwrap();
        assert_eq!(
            rule.map_bytes(&bytes).unwrap(),
            (native.map)(&bytes),
            "{} table {table}",
            rule.manifest.name
        );
    }
    rows.len()
}

fn check(name: &str, native: Native) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules").join(name);
    let out = tempfile::tempdir().unwrap();
    let built = build::build(&folder, Some(&out.path().join("rule.wasm"))).unwrap();
    assert_eq!(built.panic_locations, [] as [String; 0], "{name}");
    let bytes = built.file.bytes;
    let rule = RuleEngine::new().unwrap().compile(built.file, Limits::default()).unwrap();

    let mut compared = 0;
    let scenarios = test::scenario_files(&folder.join("scenarios")).unwrap();
    assert!(!scenarios.is_empty(), "{name} has no scenario");
    let mut fuel = 0;
    for file in &scenarios {
        test::check_file(&rule, file, false).unwrap_or_else(|error| panic!("{}: {error:#}", file.display()));
        let scenario = retag_scenario::parse(&fs::read_to_string(file).unwrap()).unwrap();
        let wasm = scenario::run(&rule, &scenario, Feed::Batch).unwrap().blocks;
        let wasm: Vec<_> = wasm.iter().map(|(_, block)| retag_scenario::sorted(block)).collect();
        let blocks = (native.scenario)(&scenario, Mode::Batched).unwrap().0;
        assert_eq!(wasm, blocks.iter().map(retag_scenario::sorted).collect::<Vec<_>>(), "{}", file.display());
        for (table, batch) in images(&rule, &scenario).iter().enumerate() {
            compared += compare(&rule, native, table, batch);
        }
        fuel = fuel.max(fuel_per_row(&rule, &scenario).unwrap());
    }
    let in_scenarios = compared;
    let mut seed = 0;
    while compared - in_scenarios < 10_000 {
        seed += 1;
        for (table, declared) in rule.manifest.tables.iter().enumerate() {
            compared += compare(&rule, native, table, &synthetic_images(declared, 1000, seed));
        }
        assert!(seed < 100, "{name}: hardly any image fits");
    }
    println!(
        "{name}: {in_scenarios} images of {} scenarios and {} random ones equal; {bytes} bytes, fuel per row {fuel}",
        scenarios.len(),
        compared - in_scenarios
    );
}

/// Time that this thread has run on a processor, in ns (Linux).
fn cpu_nanos() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Prints what an image costs, packing and checking included; fails only where something is badly wrong, for the
/// build may be without optimisation and the machine busy.
#[test]
fn payer_maps_an_image_in_little_time() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/payer");
    let out = tempfile::tempdir().unwrap();
    let built = build::build(&folder, Some(&out.path().join("payer.wasm"))).unwrap();
    let rule = RuleEngine::new().unwrap().compile(built.file, Limits::default()).unwrap();
    let table = rule.manifest.tables.iter().position(|table| table.table == "shop.orders").unwrap();
    let mut images = synthetic_images(&rule.manifest.tables[table], 16_384, 5);
    let state = rule.manifest.tables[table].columns.iter().position(|column| column.name == "state").unwrap();
    let Values::I64(states) = &mut images.columns[state].values else { panic!() };
    states.iter_mut().enumerate().for_each(|(n, state)| *state = [0, 1, 1, 3, 6][n % 5]);
    let columns: Vec<usize> = (0..images.columns.len()).collect();
    let contiguous: Vec<u32> = (0..16_384).collect();
    let gathered: Vec<u32> = (0..16_384).filter(|row| row % 3 != 0).collect();
    let (mut mapper, mut contributions) = (rule.mapper().unwrap(), Contributions::default());
    for (how, rows) in [("contiguous", contiguous), ("gathered", gathered)] {
        let start = cpu_nanos();
        let rounds = 30;
        for _ in 0..rounds {
            contributions.clear();
            mapper.map(table, &images, &columns, &rows, &mut contributions).unwrap();
        }
        let per_image = (cpu_nanos() - start) / (rounds * rows.len() as u64);
        let records = contributions.records.len();
        println!("payer, {how} rows: {per_image} ns an image, {records} records of {} images", rows.len());
        assert!(per_image < 5_000, "{per_image} ns an image");
    }
}

#[test]
fn payer_is_the_same_natively_and_through_wasm() {
    check("payer", payer::native());
}

#[test]
fn red_packet_is_the_same_natively_and_through_wasm() {
    check("red_packet", red_packet::native());
}

#[test]
fn senior_is_the_same_natively_and_through_wasm() {
    check("senior", senior::native());
}
