//! Rule crates through the commands: init, build, test and inspect with the real cargo; equal sources give equal map
//! modules in any folder, and a changed threshold changes none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::fs;
use std::path::Path;

use retag_host::cli::rule::{build, init, inspect, test};

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} lacks {from}", file.display());
    fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn init_test_build_and_inspect_work_in_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("my-rule");
    init::init(&first).unwrap();
    assert!(init::init(&first).unwrap_err().to_string().contains("exists"));
    for name in ["9-lives", "self", "crate", "retag-sdk"] {
        let error = init::init(&folder.path().join(name)).unwrap_err().to_string();
        assert!(error.contains("name") && !folder.path().join(name).exists(), "{error}");
    }

    test::run(&test::Args { path: first.clone(), bless: false }).unwrap();
    let built = build::build(&first, None).unwrap();
    assert_eq!(built.output.file_name().unwrap(), "my-rule.wasm");
    assert!(!built.file.one_module);
    assert_eq!(built.panic_locations, [] as [String; 0]);
    a_table_that_the_rule_does_not_read_is_named(&first, &built.file);

    inspect_measures_on_the_crates_scenarios(&first, &built.output);
    let found = inspect::inspect(&built.output, Some(&first.join("scenarios/first.scenario"))).unwrap();
    assert_eq!(found["manifest"]["name"], "my_rule");
    assert_eq!(found["map_id"], built.file.map_id());
    assert!((1..1000).contains(&found["fuel_per_row"].as_u64().unwrap()), "{found}");
    for output in [inspect::Form::Table, inspect::Form::Json] {
        inspect::run(&inspect::Args { file: built.output.clone(), output, scenario: None }).unwrap();
    }

    // Another folder, deeper: the same bytes. One build folder, so that only what differs is compiled again.
    let second = folder.path().join("some/where/else/my-rule");
    init::init(&second).unwrap();
    let other = build::build(&second, Some(&folder.path().join("other.wasm"))).unwrap();
    assert_eq!(other.file.map_wasm, built.file.map_wasm);
    assert_eq!(fs::read(&other.output).unwrap(), fs::read(&built.output).unwrap());

    // A threshold and a comment above `map`: the label side changes, the map side does not.
    let source = first.join("src/lib.rs");
    replace(&source, "\"1000.00\"", "\"2000.00\"");
    replace(&source, "/// One row image:", "/// A comment.\n    ///\n    /// One row image:");
    let changed = build::build(&first, None).unwrap();
    assert_eq!(changed.file.map_id(), built.file.map_id());
    assert_ne!(changed.file.label_id(), built.file.label_id());
    let limits = retag_host::rule::Limits::default();
    assert_eq!(changed.file.namespace_id(&limits, ""), built.file.namespace_id(&limits, ""));

    // Another state counts as paid: a new namespace.
    replace(&source, "(1..=3)", "(1..=4)");
    let wider = build::build(&first, None).unwrap();
    assert_ne!(wider.file.map_id(), built.file.map_id());

    // A scenario that expects something else fails by line; --bless rewrites it.
    let scenario = first.join("scenarios/first.scenario");
    replace(&source, "sums.orders >= params.regular_min", "sums.orders > params.regular_min");
    let error = test::run(&test::Args { path: first.clone(), bless: false }).unwrap_err();
    assert!(error.to_string().contains("native tests"), "{error}");
    replace(&source, "assert!(shop.labels(42).regular);", "");
    test::run(&test::Args { path: first.clone(), bless: true }).unwrap();
    assert!(!fs::read_to_string(&scenario).unwrap().contains("42 regular"));
}

/// Without that, a mistyped table would make `=> nothing` come true.
fn a_table_that_the_rule_does_not_read_is_named(folder: &Path, file: &retag_host::rule::RuleFile) {
    let engine = retag_host::rule::RuleEngine::new().unwrap();
    let rule = engine.compile(file.clone(), retag_host::rule::Limits::default()).unwrap();
    let text = fs::read_to_string(folder.join("scenarios/first.scenario")).unwrap();
    assert!(text.contains("shop.orders"), "{text}");
    let path = folder.join("mistyped");
    fs::write(&path, text.replacen("shop.orders", "shop.orderz", 1)).unwrap();
    let error = test::check_file(&rule, &path, false).unwrap_err().to_string();
    assert!(error.contains("shop.orderz") && error.contains("it reads shop.orders"), "{error}");
    fs::remove_file(path).unwrap();
}

/// Fuel is measured on the costliest scenario of the crate around the file, or the given one, or made-up rows.
fn inspect_measures_on_the_crates_scenarios(folder: &Path, wasm: &Path) {
    let measured = |wasm: &Path, scenario: Option<&Path>| {
        let found = inspect::inspect(wasm, scenario).unwrap();
        (found["fuel_per_row"].as_u64().unwrap(), found["fuel_measured_on"].as_str().unwrap().to_owned())
    };
    let (fuel, on) = measured(wasm, None);
    assert!(on.ends_with("scenarios/first.scenario"), "{on}");
    assert_eq!(measured(wasm, Some(&folder.join("scenarios/first.scenario"))).0, fuel);
    // Below the crate it is the same crate.
    let below = folder.join("target/some/where/rule.wasm");
    fs::create_dir_all(below.parent().unwrap()).unwrap();
    fs::copy(wasm, &below).unwrap();
    assert_eq!(measured(&below, None), (fuel, on));
    // A scenario given by hand goes before the crate's; one of other tables measures nothing.
    let given = folder.join("given");
    fs::copy(folder.join("scenarios/first.scenario"), &given).unwrap();
    assert!(measured(wasm, Some(&given)).1.ends_with("given"));
    fs::write(&given, "").unwrap();
    assert!(inspect::inspect(wasm, Some(&given)).unwrap_err().to_string().contains("no row"));
    // No crate, no scenario.
    let away = folder.with_file_name("away.wasm");
    fs::copy(wasm, &away).unwrap();
    let (_, on) = measured(&away, None);
    assert!(on.starts_with("made-up rows") && on.contains("--scenario FILE"), "{on}");
}

#[test]
fn a_folder_without_a_crate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = build::build(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("no Cargo.toml") && error.contains("rule init"), "{error}");
}
