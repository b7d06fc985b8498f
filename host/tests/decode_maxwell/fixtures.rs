//! Each message of the real Maxwell as a snapshot reviewed by eye; other projects' messages by path.

use std::path::{Path, PathBuf};

use super::*;

/// Every column type over the table with every MySQL type, and all other tables but `nopk`.
fn shop() -> Plan {
    use Physical::{Bool, Bytes, Date, Decimal, I64, Text, Timestamp, U64, WideDecimal};
    let all = [
        ("id", U64, 0),
        ("name", Text, 0),
        ("price", Decimal, 2),
        ("rate", Decimal, 6),
        ("big_dec", WideDecimal, 10),
        ("state", Text, 0),
        ("tags", Text, 0),
        ("b1", Bool, 0),
        ("b10", I64, 0),
        ("flag", I64, 0),
        ("tiny_u", U64, 0),
        ("d", Date, 0),
        ("t3", Text, 0),
        ("dt6", Timestamp, 0),
        ("dt0", Timestamp, 0),
        ("ts3", Timestamp, 0),
        ("y", I64, 0),
        ("j", Text, 0),
        ("bin4", Bytes, 0),
        ("vbin", Bytes, 0),
        ("bl", Bytes, 0),
        ("int_u", U64, 0),
        ("med", I64, 0),
        ("ch", Text, 0),
        ("latin", Text, 0),
        ("txt", Text, 0),
    ];
    let columns = |list: &[(&str, Physical, u8)]| list.iter().map(|(n, p, s)| column(n, *p, *s)).collect();
    Plan {
        tables: vec![
            table("shop.t_all", columns(&all)),
            table("shop.parent", columns(&[("id", I64, 0), ("v", Text, 0)])),
            table("shop.child", columns(&[("id", I64, 0), ("pid", I64, 0)])),
            table("shop.comp", columns(&[("k1", I64, 0), ("k2", Text, 0), ("v", Decimal, 2)])),
            table("shop.tmp2", columns(&[("id", I64, 0)])),
        ],
    }
}

/// Decodes each line alone, so that a refusal does not hide what follows it.
fn snapshot(plan: &Plan, name: &str, content: &str) {
    let mut text = String::new();
    for (n, line) in content.lines().enumerate() {
        let line = line.trim();
        let value = line.strip_prefix(r#"{"key":"#).and_then(|rest| Some(rest.split_once(r#","value":"#)?.1));
        let line = value.map_or(line, |value| value.strip_suffix('}').unwrap());
        let kind = line.split_once(r#""type":""#).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("");
        write!(text, "{} {kind}\n{}", n + 1, describe(plan, &decode_lines(plan, &[line]))).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/maxwell")
        .join(name)
        .with_extension("snap");
    if std::env::var_os("RETAG_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expect = std::fs::read_to_string(&path).unwrap();
    for (got, expect) in text.lines().zip(expect.lines()) {
        assert_eq!(got, expect, "{name}");
    }
    assert_eq!(text.lines().count(), expect.lines().count(), "{name}");
}

#[test]
fn real_messages_give_what_their_snapshots_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/maxwell");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            snapshot(&shop(), &name, &std::fs::read_to_string(&path).unwrap());
            seen += 1;
        }
    }
    assert_eq!(seen, 7);
}

/// Messages in the shared folder beside the workspace; `None`, with the reason printed, where it is absent.
fn shared(path: &str) -> Option<String> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures").join(path);
    match std::fs::read_to_string(&path) {
        Ok(content) => Some(content),
        Err(error) => {
            println!("SKIPPED: shared-fixtures-absent: {}: {error}", path.display());
            None
        }
    }
}

/// Messages of a file: one a line, or several behind one another on a line, or an array's elements.
fn messages(content: &str) -> Vec<String> {
    let values = serde_json::Deserializer::from_str(content).into_iter::<&serde_json::value::RawValue>();
    values.map(|value| value.unwrap().get().replace('\n', " ")).collect()
}

#[test]
fn maxwell_messages_of_other_projects_are_read() {
    use Physical::{Decimal, I64, Text};
    let columns = || vec![column("id", I64, 0), column("name", Text, 0), column("weight", Decimal, 3)];
    let plan =
        Plan { tables: vec![table("test.product", columns()), table("maxwell_eal7e6.products", columns())] };
    let files = [
        "cdc/flink/maxwell-data.txt",
        "cdc/seatunnel/maxwell-data-filter-table.txt",
        "cdc/seatunnel/maxwell/maxwell_data.txt",
    ];
    for (file, count) in files.into_iter().zip([20, 20, 12]) {
        let Some(content) = shared(file) else { continue };
        let messages = messages(&content);
        let out = decode_lines(&plan, &messages.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((out.refusal.as_ref(), out.changes.len()), (None, count), "{file}");
        assert!(out.changes.iter().all(|change| change.table.is_some()), "{file}");
        assert_eq!(out.form, Some(IdForm::None), "{file}");
        let fits =
            |fit| out.batches.iter().flat_map(|batch| &batch.columns[2].fits).filter(|f| **f == fit).count();
        let text_weights = file.contains("maxwell/");
        assert_eq!(fits(Fit::WrongShape) > 0, text_weights, "{file}: weight is text there");
        assert_eq!(fits(Fit::Value) > 0, !text_weights, "{file}");
    }
}

#[test]
fn messages_of_other_producers_are_named() {
    let plan = shop();
    let check = |file: &str, codes: &[&str]| {
        let Some(content) = shared(file) else { return };
        let mut seen = 0;
        for message in messages(&content) {
            let wrapped: serde_json::Value = serde_json::from_str(&message).unwrap();
            let message = match wrapped.get("topic").and(wrapped.get("value")) {
                Some(serde_json::Value::Null) => continue, // a tombstone
                Some(value) => value.to_string(),
                None => message,
            };
            let out = decode_lines(&plan, &[&message]);
            let code = out.refusal.as_ref().map(|refusal| refusal.code);
            assert!(code.is_some_and(|code| codes.contains(&code)), "{file}: {code:?} for {message:.300}");
            seen += 1;
        }
        assert!(seen > 0, "{file}");
    };
    for file in [
        "cdc/flink/canal-data-with-init.txt",
        "cdc/seatunnel/canal-data-filter-table.txt",
        "cdc/seatunnel/canal/canal_data.txt",
        "real/canal/flat-tsdb.jsonl",
        "real/canal/flat-notsdb.jsonl",
        "real/canal/flat-tsdb-noannotate.jsonl",
    ] {
        check(file, &["looks-like-canal"]);
    }
    for file in [
        "cdc/seatunnel/debezium-data.txt",
        "cdc/seatunnel/debezium/debezium_data.txt",
        "real/debezium/noschema.jsonl",
        "real/debezium/default.jsonl",
        "real/debezium/v27-default.jsonl",
        "real/debezium/incremental.jsonl",
    ] {
        check(file, &["looks-like-debezium"]);
    }
    check("real/debezium/unwrap.jsonl", &["looks-like-debezium", "not-a-change"]); // flattened: a bare row (D18)
}
