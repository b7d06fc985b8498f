//! The runtime with well-meaning rules: layouts, misfits, NULL keys, batches too dear for their fuel, parameters,
//! manifests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests
#![allow(dead_code)] // `hostile` has more than this file needs

mod hostile;

use std::sync::Arc;

use proptest::prelude::*;
use retag_host::decode::{Fit, ImageBatch, Values};
use retag_host::rule::{
    CompiledRule, Contributions, LabelAnswers, Limits, Manifest, ReadingColumn, Readings, RuleEngine,
    RuleError, RuleFile, batch_bytes, synthetic_images,
};
use retag_sdk::ValueType;
use retag_sdk::testing::{Cell, batch};
use serde_json::json;

fn compile(text: &str) -> Result<Arc<CompiledRule>, RuleError> {
    RuleEngine::new()?.compile(RuleFile::read(&wat::parse_str(text).unwrap())?, Limits::default())
}

/// All column types, each plain, nullable and absentable.
fn wide_manifest() -> Manifest {
    let types = [
        json!({"type":"bool"}),
        json!({"type":"i64"}),
        json!({"type":"u64"}),
        json!({"type":"decimal","scale":2}),
        json!({"type":"decimal","scale":4,"digits":38}),
        json!({"type":"bytes"}),
        json!({"type":"text"}),
        json!({"type":"timestamp"}),
        json!({"type":"date"}),
    ];
    let mut columns = vec![json!({"name":"k","is":{"type":"u64"}})];
    for (n, is) in types.iter().enumerate() {
        columns.push(json!({"name":format!("p{n}"),"is":is}));
        columns.push(json!({"name":format!("n{n}"),"is":is,"nullable":true}));
        columns.push(json!({"name":format!("a{n}"),"is":is,"nullable":true,"absentable":true}));
    }
    let mut manifest: serde_json::Value = serde_json::from_str(hostile::MANIFEST).unwrap();
    manifest["tables"][0]["columns"] = json!(columns);
    let manifest: Manifest = serde_json::from_value(manifest).unwrap();
    manifest.validate().unwrap();
    manifest
}

fn cells(images: &ImageBatch, row: u32) -> Vec<Cell> {
    let row = row as usize;
    let cell = |column: &retag_host::decode::ColumnBuffer| match (column.fits[row], &column.values) {
        (Fit::Null, _) => Cell::Null,
        (Fit::Absent, _) => Cell::Absent,
        (_, Values::Bool(v)) => Cell::Number(v[row].into()),
        (_, Values::I64(v)) => Cell::Number(v[row].into()),
        (_, Values::U64(v)) => Cell::Number(v[row].into()),
        (_, Values::I128(v)) => Cell::Number(v[row]),
        (_, Values::I32(v)) => Cell::Number(v[row].into()),
        (_, Values::Heap { .. }) => Cell::Bytes(column.heap_row(row).to_vec()),
    };
    images.columns.iter().map(cell).collect()
}

proptest! {
    /// Two writers of ABI.md, the host's and the SDK's, agree on every byte, contiguous rows or gathered ones.
    #[test]
    fn host_and_sdk_lay_batches_out_alike(seed: u64, from in 0_u32..40, len in 0_u32..40, rows in prop::collection::vec(0_u32..80, 0..40)) {
        let manifest = wide_manifest();
        let images = synthetic_images(&manifest.tables[0], 80, seed);
        let columns: Vec<usize> = (0..images.columns.len()).collect();
        let types: Vec<ValueType> = images.columns.iter().map(|column| {
            ValueType { physical: column.column_type.physical, scale: column.column_type.scale }
        }).collect();
        for rows in [(from..from + len).collect(), rows] {
            let expected: Vec<Vec<Cell>> = rows.iter().map(|row| cells(&images, *row)).collect();
            let mut expected = batch(3, &types, &expected);
            let mut found = batch_bytes(3, &images, &columns, &rows).unwrap();
            let end = expected.len().max(found.len()); // padding behind the last buffer
            expected.resize(end, 0);
            found.resize(end, 0);
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn misfits_are_named_before_any_call_and_null_keys_count() {
    let rule = compile(&hostile::good()).unwrap();
    let mut images = synthetic_images(&rule.manifest.tables[0], 9, 1);
    let misfits =
        [Fit::Null, Fit::Absent, Fit::OutOfRange, Fit::TooManyDecimals, Fit::BadEncoding, Fit::WrongShape];
    for (row, fit) in misfits.into_iter().enumerate() {
        images.columns[1].fits[row] = fit;
    }
    images.columns[0].fits[6] = Fit::Null;
    let mut out = Contributions::default();
    let rows: Vec<u32> = (0..9).collect();
    rule.mapper().unwrap().map(0, &images, &[0, 1], &rows, &mut out).unwrap();
    let codes: Vec<_> = out.bad.iter().map(|bad| (bad.row, bad.code)).collect();
    let expected = [
        (0, "column-null"),
        (1, "column-absent"),
        (2, "column-out-of-range"),
        (3, "column-too-many-decimals"),
        (4, "column-bad-encoding"),
        (5, "column-wrong-shape"),
    ];
    assert_eq!(codes, expected);
    assert!(out.bad[0].message.contains("`v`"), "{}", out.bad[0].message);
    assert_eq!(out.null_keys, 1);
    assert_eq!(out.records.iter().map(|r| r.row).collect::<Vec<_>>(), [7, 7, 8, 8]);
    let error = rule.mapper().unwrap().map(0, &images, &[1, 0], &rows, &mut out).unwrap_err();
    assert_eq!(error.code(), "bad-call");
}

#[test]
fn a_batch_too_dear_for_its_fuel_is_exact_all_the_same() {
    let dear = "(if (i64.eq (local.get $x) (i64.const 777)) (then (local.set $hit (i32.const 100000))
        (loop $spin (local.set $hit (i32.sub (local.get $hit) (i32.const 1))) (br_if $spin (local.get $hit)))))";
    let plain = "(i32.store (local.get $o) (local.get $i))";
    let rule = compile(&hostile::good().replace(plain, &format!("{dear} {plain}"))).unwrap();
    let mut images = synthetic_images(&rule.manifest.tables[0], 500, 1);
    let Values::I64(values) = &mut images.columns[1].values else { panic!() };
    values.iter_mut().enumerate().for_each(|(n, value)| *value = if n % 5 == 0 { 777 } else { 1 });
    let rows: Vec<u32> = (0..500).collect();
    let (mut mapper, mut out) = (rule.mapper().unwrap(), Contributions::default());
    for _ in 0..3 {
        out.clear();
        mapper.map(0, &images, &[0, 1], &rows, &mut out).unwrap();
        assert_eq!(out.bad, []);
        assert_eq!(out.records.len(), 1000);
        assert!(out.records.iter().enumerate().all(|(n, record)| record.row as usize == n / 2));
    }
}

#[test]
fn labels_come_back_for_more_keys_than_a_batch_holds() {
    let rule = compile(&hostile::good()).unwrap();
    let params = rule.params(&serde_json::Map::new()).unwrap();
    let columns = vec![ReadingColumn::I64(vec![1; 3000]), ReadingColumn::I128(vec![5; 3000])];
    let mut out = LabelAnswers::default();
    rule.labeler(&params).unwrap().label(&Readings { keys: 3000, columns }, 7, &mut out).unwrap();
    assert_eq!(out.sets, [1, 0].repeat(3000));
    assert_eq!(out.wake, [i64::MAX].repeat(3000));
    let short = Readings { keys: 2, columns: vec![ReadingColumn::I64(vec![1])] };
    assert_eq!(rule.labeler(&params).unwrap().label(&short, 0, &mut out).unwrap_err().code(), "bad-call");
}

#[test]
fn parameters_are_typed_and_unknown_names_get_the_nearest() {
    let param = r#""params":[{"name":"big_spender_min","is":{"type":"decimal","scale":2},"default":"5000.00"}],"labels""#;
    let rule = compile(&hostile::with_manifest(&hostile::MANIFEST.replace("\"labels\"", param))).unwrap();
    let check = |given: serde_json::Value, expect: Result<&str, &str>| {
        let given = given.as_object().unwrap().clone();
        match (rule.params(&given), expect) {
            (Ok(found), Ok(canonical)) => assert_eq!(found.canonical(), canonical),
            (Err(error), Err(part)) => {
                assert!(error.code() == "bad-param" && error.to_string().contains(part), "{error}")
            }
            (found, _) => panic!("{given:?}: {found:?}"),
        }
    };
    check(json!({}), Ok(r#"{"big_spender_min":"500000"}"#));
    check(json!({"big_spender_min": "100.00"}), Ok(r#"{"big_spender_min":"10000"}"#));
    check(json!({"big_spender_min": 100}), Ok(r#"{"big_spender_min":"10000"}"#));
    check(json!({"big_spender_min": 100.5}), Err("write it as text, \"100.5\""));
    check(json!({"big_spender_min": "1.005"}), Err("at most 2 decimals"));
    check(json!({"big_spender_max": "1.00"}), Err("Did you mean `big_spender_min`?"));
    let bytes = rule.params(&serde_json::Map::new()).unwrap().to_bytes();
    assert_eq!(bytes, 500_000_i128.to_le_bytes());
}

#[test]
fn manifests_that_contradict_themselves_are_refused_by_name() {
    let check = |from: &str, to: &str, code: &str, part: &str| {
        assert!(hostile::MANIFEST.contains(from), "{from}");
        let manifest = hostile::MANIFEST.replace(from, to);
        let error = compile(&hostile::with_manifest(&manifest)).unwrap_err();
        assert!(error.code() == code && error.to_string().contains(part), "{to}: {} {error}", error.code());
    };
    check("\"retag_1\"", "\"retag_2\"", "unsupported-feature", "retag_2");
    check("\"guest\"", "\"Guest\"", "manifest-invalid", "[a-z]");
    check("\"entity\":\"user\"", "\"entity\":\"\"", "manifest-invalid", "entity");
    check("\"key\":{\"type\":\"u64\"}", "\"key\":{\"type\":\"date\"}", "manifest-invalid", "key");
    check("\"key\":{\"type\":\"u64\"}", "\"key\":{\"type\":\"i64\"}", "manifest-invalid", "another type");
    check("\"key\":\"k\"", "\"key\":\"kk\"", "manifest-invalid", "`kk`");
    check("\"name\":\"v\"", "\"name\":\"k\"", "manifest-invalid", "twice");
    check("shop.t", "shop", "manifest-invalid", "database.table");
    check("\"name\":\"total\"", "\"name\":\"n\"", "manifest-invalid", "twice");
    check("\"kind\":\"count\"", "\"kind\":\"avg\"", "unsupported-feature", "`avg` is not in this version");
    check(
        "\"kind\":\"count\"",
        "\"kind\":\"count\",\"window\":{\"last\":\"7d\"}",
        "unsupported-feature",
        "windows",
    );
    check(
        "\"kind\":\"count\"",
        "\"kind\":\"count\",\"value\":{\"type\":\"i64\"}",
        "manifest-invalid",
        "value type",
    );
    check(
        "\"value\":{\"type\":\"i64\"}",
        "\"value\":{\"type\":\"decimal\",\"scale\":19}",
        "manifest-invalid",
        "decimals",
    );
    check("\"silver\"", "\"gold\"", "manifest-invalid", "twice");
    check("\"version\"", "\"versions\"", "manifest-not-json", "versions");
    let many: Vec<String> = (0..257).map(|n| format!("\"v{n}\"")).collect();
    check("\"silver\"", &many.join(","), "manifest-invalid", "256");
}

#[test]
fn identities_change_with_what_gives_map_its_meaning_and_with_nothing_else() {
    let file =
        |manifest: &str| RuleFile::read(&wat::parse_str(hostile::with_manifest(manifest)).unwrap()).unwrap();
    let limits = Limits::default();
    let base = file(hostile::MANIFEST);
    let namespace = base.namespace_id(&limits, "");
    let with = |from: &str, to: &str| file(&hostile::MANIFEST.replace(from, to));
    let labels = with("\"silver\"", "\"bronze\"");
    assert_eq!(labels.namespace_id(&limits, ""), namespace);
    assert_ne!(labels.label_id(), base.label_id());
    assert_eq!(with("1.0.0", "1.0.1").namespace_id(&limits, ""), namespace);
    for other in [with("\"guest\"", "\"other\""), with("shop.t", "shop.u"), with("\"sum\"", "\"max\"")] {
        assert_ne!(other.namespace_id(&limits, ""), namespace);
        assert_eq!(other.map_id(), base.map_id());
    }
    assert_ne!(base.namespace_id(&Limits { fuel: 5, ..limits }, ""), namespace);
    assert_ne!(base.namespace_id(&limits, "zero_dates=epoch"), namespace);
}

#[test]
fn workers_may_take_mappers_and_labelers_to_their_threads() {
    fn send<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    send::<retag_host::rule::Mapper>();
    send::<retag_host::rule::Labeler>();
    shared::<CompiledRule>();
    shared::<RuleEngine>();
}
