//! One rule with every column type, kind, parameter type and key: manifest, bytes and readings of all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use retag_abi::contribution::{KeyEntry, Record};
use retag_abi::unpack;
use retag_sdk::prelude::*;
use retag_sdk::testing::{Cell, Harness, batch, label_bytes, label_input, map_bytes};
use retag_sdk::{Rule, ValueType};

#[derive(Row)]
#[row(table = "test.everything", key = name)]
struct Everything<'a> {
    name: &'a str,
    flag: bool,
    signed: i64,
    unsigned: u64,
    narrow: Decimal<4>,
    wide: WideDecimal<6>,
    raw: &'a [u8],
    #[column(name = "type")]
    kind: Option<&'a str>,
    at: Timestamp,
    day: Option<Date>,
    note: Absentable<Option<i64>>,
    extra: Absentable<bool>,
}

#[derive(Row)]
#[row(table = "test.keyless", key = name)]
struct Keyless<'a> {
    name: Option<&'a str>,
}

#[derive(Aggregates)]
struct All {
    any: Any,
    rows: Count,
    signed: Sum<i64>,
    unsigned: Sum<u64>,
    narrow: Sum<Decimal<4>>,
    wide: Sum<WideDecimal<6>>,
    least: Min<u64>,
    greatest: Max<Decimal<4>>,
    last: Max<Timestamp>,
    first_day: Min<Date>,
    names: Distinct<str>,
    raws: Distinct<[u8]>,
    #[window(last = "7d", tile = "1h", by = Everything::at)]
    recent: Count,
}

#[derive(Params)]
struct Params {
    /// A "quoted" doc.
    #[param(default = "12.5")]
    decimal: Decimal<4>,
    #[param(default = -3)]
    signed: i64,
    #[param(default = 18446744073709551615)]
    unsigned: u64,
    #[param(default = true)]
    flag: bool,
    #[param(default = "2026-01-31 23:59:59.5")]
    moment: Timestamp,
    #[param(default = "90m")]
    span: Duration,
}

#[derive(LabelValue, Clone, Copy, PartialEq, Debug)]
enum Size {
    VerySmall,
    #[label(name = "large")]
    Big,
}

#[derive(Labels, PartialEq, Debug)]
struct Tags {
    /// Any row.
    seen: bool,
    #[label(name = "bulk")]
    size: Option<Size>,
    totals: bool,
    params: bool,
}

#[rule(name = "all", entity = "thing", owner = "ops", description = "Everything at once")]
impl All {
    fn map_everything(row: &Everything, add: &mut Add<All>) {
        if row.flag {
            add.any.yes();
        }
        add.rows.one();
        add.signed.add(row.signed);
        add.unsigned.add(row.unsigned);
        add.narrow.add(row.narrow);
        add.wide.add(row.wide);
        add.least.insert(row.unsigned);
        add.greatest.insert(row.narrow);
        add.last.insert(row.at);
        if let Some(day) = row.day {
            add.first_day.insert(day);
        }
        if let Some(kind) = row.kind {
            add.names.insert(kind);
            let other = add.at(kind);
            other.rows.add(2);
            other.raws.insert(row.raw);
        }
        match (row.note, row.extra) {
            (Absentable::Present(Some(note)), Absentable::Present(true)) => add.at("noted").signed.add(note),
            (Absentable::Present(None), _) => add.at("null").any.yes(),
            (Absentable::Absent, _) => add.at("absent").any.yes(),
            _ => {}
        }
    }

    fn map_keyless(_: &Keyless, add: &mut Add<All>) {
        add.any.yes();
    }

    fn label(clock: &Clock, params: &Params, sums: &Sums<All>) -> Tags {
        let size = match sums.rows {
            0 => None,
            1..=2 => Some(Size::VerySmall),
            _ => Some(Size::Big),
        };
        let totals = sums.signed == -14
            && sums.unsigned == i128::from(u64::MAX) * 2
            && sums.narrow == Decimal::lit("-0.0002")
            && sums.wide == Decimal::lit("24000000000000000000000000.000002")
            && sums.least == Some(u64::MAX)
            && sums.greatest == Some(Decimal::lit("-0.0001"))
            && sums.last == Some(Timestamp::lit("1969-12-31 23:59:59"))
            && sums.first_day == Some(Date::lit("1969-12-31"))
            && sums.names == 1
            && sums.raws == 0
            && !clock.reached(Timestamp::lit("2026-01-01 00:00:00"));
        let read = params.decimal == Decimal::lit("12.5")
            && params.signed == -3
            && params.unsigned == u64::MAX
            && params.flag
            && params.moment == Timestamp::lit("2026-01-31 23:59:59.5")
            && params.span == Duration::minutes(90);
        Tags { seen: sums.any, size, totals, params: read }
    }
}

fn row<'a>() -> Everything<'a> {
    Everything {
        name: "é",
        flag: true,
        signed: -7,
        unsigned: u64::MAX,
        narrow: Decimal::lit("-0.0001"),
        wide: WideDecimal::lit("12000000000000000000000000.000001"),
        raw: &[0, 255],
        kind: Some("k"),
        at: Timestamp::lit("1969-12-31 23:59:59"),
        day: Some(Date::lit("1969-12-31")),
        note: Absentable::Present(Some(5)),
        extra: Absentable::Present(true),
    }
}

#[test]
fn the_manifest_says_everything() {
    let manifest: serde_json::Value = serde_json::from_str(All::MANIFEST).unwrap();
    let text = |path: &str| manifest.pointer(path).unwrap_or_else(|| panic!("no {path}")).to_string();
    assert_eq!(text("/abi"), "\"retag_1\"");
    assert_eq!(text("/entity"), "\"thing\"");
    assert_eq!(text("/key/type"), "\"text\"");
    assert_eq!(text("/tables/0/columns/4/is/scale"), "4");
    assert_eq!(text("/tables/0/columns/5/is/digits"), "38");
    assert_eq!(text("/tables/0/columns/7/name"), "\"type\"");
    assert_eq!(text("/tables/0/columns/7/nullable"), "true");
    assert_eq!(text("/tables/0/columns/10/nullable"), "true");
    assert_eq!(text("/tables/0/columns/10/absentable"), "true");
    assert_eq!(manifest.pointer("/tables/0/columns/11/nullable"), None);
    let window = r#"{"last":"7d","tile":"1h","by":{"table":"test.everything","column":"at"}}"#;
    let window: serde_json::Value = serde_json::from_str(window).unwrap();
    assert_eq!(manifest.pointer("/aggregates/12/window"), Some(&window));
    assert_eq!(manifest.pointer("/aggregates/1/value"), None);
    assert_eq!(text("/aggregates/10/value/type"), "\"text\"");
    assert_eq!(text("/labels/1"), r#"{"name":"bulk","values":["very_small","large"],"doc":""}"#);
    assert_eq!(text("/params/0/default"), "\"12.5000\"");
    assert_eq!(text("/params/0/doc"), r#""A \"quoted\" doc.""#);
    let defaults: Vec<String> = (1..6).map(|n| text(&format!("/params/{n}/default"))).collect();
    assert_eq!(
        defaults,
        ["-3", "18446744073709551615", "true", "\"2026-01-31 23:59:59.500000\"", "\"5400.000000\""]
    );
}

#[test]
fn computed_keys_leave_the_guest_numbered_per_row() {
    let columns: Vec<ValueType> = All::TABLES[0].columns.iter().map(|column| column.value_type).collect();
    let cells = retag_sdk::TableRow::cells(&row());
    let rows = 300;
    let bytes = batch(0, &columns, &vec![cells; rows]);
    let (records, keys, heap) = map_bytes::<All>(&bytes);
    let keys: Vec<KeyEntry> = keys.chunks(16).map(|bytes| KeyEntry::read(bytes, 0).unwrap()).collect();
    assert_eq!(keys.len(), 2 * rows);
    for (at, key) in keys.iter().enumerate() {
        assert_eq!((key.row as usize, key.n as usize), (at / 2, at % 2 + 1));
        let text = &heap[usize::try_from(key.value).unwrap()..][..key.length as usize];
        assert_eq!(text, if key.n == 1 { "k".as_bytes() } else { "noted".as_bytes() });
    }
    let records: Vec<Record> = records.chunks(16).map(|bytes| Record::read(bytes, 0).unwrap()).collect();
    assert!(records.is_sorted_by_key(|record| record.row));
    let (offset, length) = unpack(records.iter().find(|record| record.aggregate == 5).unwrap().value);
    let wide = &heap[offset as usize..][..length as usize];
    assert_eq!(wide, 12_000_000_000_000_000_000_000_000_000_001_i128.to_le_bytes());
}

#[test]
fn every_kind_reads_back_through_the_bytes() {
    let mut things = Harness::<All>::new();
    things.insert(&row()).insert(&Everything { note: Absentable::Present(None), ..row() });
    let wanted = Tags { seen: true, size: Some(Size::VerySmall), totals: true, params: true };
    assert_eq!(things.labels("é"), Tags { size: Some(Size::VerySmall), ..wanted });
    assert_eq!(things.labels("k").size, Some(Size::Big));
    assert!(things.labels("null").seen && things.exists("noted"));
    things.delete(&row()).delete(&Everything { note: Absentable::Present(None), ..row() });
    assert!(!things.exists("é") && !things.exists("k") && !things.exists("noted"));
    things.insert(&Everything { kind: None, day: None, note: Absentable::Absent, ..row() });
    assert!(things.labels("absent").seen && !things.exists("k"));
}

#[test]
fn a_row_without_a_key_contributes_nothing() {
    let mut things = Harness::<All>::new();
    things.insert(&Keyless { name: None });
    assert!(!things.exists(""));
    things.insert(&Keyless { name: Some("x") });
    assert!(things.exists("x"));
}

#[test]
fn labels_of_many_keys_keep_their_places() {
    let types: Vec<ValueType> =
        <All as retag_sdk::AggregateSet>::AGGREGATES.iter().map(|info| info.reading).collect();
    let key = |rows: i128| {
        let mut cells = vec![Cell::Number(0); types.len()];
        cells[1] = Cell::Number(rows);
        cells[6..10].fill(Cell::Null);
        cells
    };
    let params: Vec<i128> =
        <Params as retag_sdk::ParamSet>::PARAMS.iter().map(|param| param.default).collect();
    let input = label_input(&types, &[key(0), key(1), key(3)], &params, 0);
    let (sets, wake) = label_bytes::<All>(&input);
    assert_eq!(sets, [0, 0, 0, 1, 0, 1, 0, 1, 0, 2, 0, 1]);
    assert_eq!(wake, [retag_abi::WAKE_NEVER; 3]);
}

#[test]
fn a_rule_runs_without_its_type() {
    let native = native();
    assert_eq!(native.manifest, All::MANIFEST);
    let cells = retag_sdk::TableRow::cells(&Keyless { name: Some("x") });
    let bytes = batch(1, &[native.tables[1].columns[0].value_type], &[cells]);
    assert_eq!((native.map)(&bytes), map_bytes::<All>(&bytes));
    assert_eq!((native.map)(&bytes).0.len(), 16);
}

#[test]
#[should_panic(expected = "more than 255 computed keys")]
fn the_256th_key_of_a_row_fails() {
    let out = retag_sdk::Out::new();
    for n in 0..256_u64 {
        let _ = retag_sdk::To::own(&out).at(n.into());
    }
}

#[test]
#[should_panic(expected = "malformed batch")]
fn a_batch_of_another_type_is_refused() {
    let columns = vec![ValueType::of(retag_abi::column::Physical::I64)];
    let _ = map_bytes::<All>(&batch(1, &columns, &[vec![Cell::Number(1)]]));
}
