//! Random histories of rows, printed as Maxwell prints them, against images that this file knows without decoding.

use super::fuzz::Random;
use super::*;

/// A value: what the images must say, and how a message may print it.
#[derive(Clone, PartialEq)]
struct Cell {
    text: String,
    tokens: Vec<String>,
}

fn cell(text: impl Into<String>, tokens: &[&str]) -> Cell {
    Cell { text: text.into(), tokens: tokens.iter().map(|token| (*token).to_owned()).collect() }
}

fn number(n: i128, scale: u32) -> Cell {
    let unit = 10_i128.pow(scale);
    let sign = if n < 0 { "-" } else { "" };
    let (whole, part) = (n.abs() / unit, n.abs() % unit);
    let width = scale as usize;
    let plain = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part:0width$}") };
    let tokens = [
        plain.clone(),
        format!("{n}e-{scale}"),
        if scale == 0 { format!("{plain}.00") } else { format!("{plain}0") },
    ];
    Cell { text: n.to_string(), tokens: tokens.to_vec() }
}

/// A value of column `column`, from a small set so that values meet again.
fn random_cell(column: usize, random: &mut Random) -> Cell {
    let n = random.below(4);
    if random.below(5) == 0 {
        return cell("NULL", &["null"]);
    }
    match column {
        0 => number([0, 1, 77, i128::from(u64::MAX)][n], 0),
        1 => number([0, -1, 77, i128::from(i64::MIN)][n], 0),
        2 => number([0, -101, 1250, 999_999_999_999_999_999][n], 2),
        3 => [
            cell("\"\"", &["\"\""]),
            cell("\"null\"", &["\"null\"", "\"\\u006eull\""]),
            cell("\"日本😀\"", &["\"日本😀\"", "\"日\\u672c\\uD83D\\uDE00\""]),
            cell("\"a\\\"}b\"", &["\"a\\\"}b\"", "\"\\u0061\\u0022}b\""]),
        ][n]
            .clone(),
        4 => [
            cell("0", &["\"1970-01-01 00:00:00\"", "\"1970-01-01 00:00:00.000\""]),
            cell("-1", &["\"1969-12-31 23:59:59.999999\""]),
            cell("1709251199500000", &["\"2024-02-29 23:59:59.5\"", "\"2024-02-29 23:59:59.500000\""]),
            cell("NULL", &["\"0000-00-00 00:00:00\"", "\"2024-00-10 01:02:03\"", "null"]),
        ][n]
            .clone(),
        5 => [cell("0", &["0", "false"]), cell("1", &["1", "true", "1.0"])][n % 2].clone(),
        6 => [cell("x", &["\"\""]), cell("xdeadbeef00", &["\"3q2+7wA=\"", "\"3q2+7wA\\u003d\""])][n % 2]
            .clone(),
        7 => [cell("0", &["\"1970-01-01\""]), cell("19782", &["\"2024-02-29\""])][n % 2].clone(),
        _ => number([0, 7, -12_345_678_901_234_567_890_123_456_789, 10_i128.pow(37)][n], 4),
    }
}

const NAMES: [&str; 9] = ["id", "uid", "amt", "note", "at", "flag", "raw", "day", "wide"];

fn plan() -> Plan {
    use Physical::{Bool, Bytes, Date, Decimal, I64, Text, Timestamp, U64, WideDecimal};
    let kinds = [U64, I64, Decimal, Text, Timestamp, Bool, Bytes, Date, WideDecimal];
    let columns = NAMES.iter().zip(kinds).map(|(name, kind)| {
        column(
            name,
            kind,
            match kind {
                Decimal => 2,
                WideDecimal => 4,
                _ => 0,
            },
        )
    });
    Plan { tables: vec![table("shop.orders", columns.collect())] }
}

fn image(sign: char, row: &[Cell]) -> String {
    NAMES.iter().zip(row).fold(sign.to_string(), |text, (name, cell)| format!("{text} {name}={}", cell.text))
}

/// An object of the columns `which`, in any order, with traps in columns that nobody reads.
fn object(row: &[Cell], which: &[usize], random: &mut Random) -> String {
    let mut members: Vec<String> = which
        .iter()
        .map(|at| format!("\"{}\":{}", NAMES[*at], row[*at].tokens[random.below(row[*at].tokens.len())]))
        .collect();
    let traps = [
        r#""profile":{"id":9,"old":{"uid":5},"data":{"amt":1}}"#,
        r#""remark":"\",\"amt\":7,\"old\":{\"id\":3}""#,
        r#""ids":[{"id":1},[2,"}"]]"#,
        r#""uid2":1e400"#,
    ];
    for trap in traps {
        if random.below(3) == 0 {
            members.insert(random.below(members.len() + 1), trap.to_owned());
        }
    }
    if random.below(4) == 0 && !members.is_empty() {
        let by = random.below(members.len());
        members.rotate_left(by);
    }
    format!("{{{}}}", members.join(","))
}

#[test]
fn images_are_the_rows_before_and_after() {
    let plan = plan();
    for seed in 0..3000 {
        let mut random = Random(seed);
        let all: Vec<usize> = (0..NAMES.len()).collect();
        let (mut lines, mut expect): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut row: Vec<Cell> = all.iter().map(|at| random_cell(*at, &mut random)).collect();
        let envelope = r#"{"database":"shop","table":"orders","ts":1,"type":"#;
        lines.push(format!("{envelope}\"insert\",\"data\":{}}}", object(&row, &all, &mut random)));
        expect.push(image('+', &row));
        for _ in 0..random.below(4) {
            let before = row.clone();
            for _ in 0..random.below(3) {
                let at = random.below(NAMES.len());
                row[at] = random_cell(at, &mut random);
            }
            let changed = |at: &usize| row[*at].text != before[*at].text;
            // Columns that did not change may stand in `old` too; one that nobody reads always does.
            let old: Vec<usize> =
                all.iter().filter(|at| changed(at) || random.below(9) == 0).copied().collect();
            let old =
                object(&before, &old, &mut random).replacen('{', "{\"version\":1,", 1).replace(",}", "}");
            lines.push(format!(
                "{envelope}\"update\",\"data\":{},\"old\":{old}}}",
                object(&row, &all, &mut random)
            ));
            if all.iter().any(changed) {
                expect.extend([image('-', &before), image('+', &row)]);
            }
        }
        lines.push(format!("{envelope}\"delete\",\"data\":{}}}", object(&row, &all, &mut random)));
        expect.push(image('-', &row));
        let out = decode_lines(&plan, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(out.refusal, None, "seed {seed}");
        assert_eq!(
            (images(&plan, &out, 0), out.changes.len()),
            (expect, lines.len()),
            "seed {seed}: {lines:#?}"
        );
    }
}
