//! ABI.md and the code agree: the page names every value of `retag-abi`, and its examples are the bytes that the code
//! writes. The generated blocks are rewritten with `RETAG_BLESS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::fmt::Write as _;

use retag_abi::column::{self, Physical};
use retag_abi::{contribution, label};
use retag_sdk::ValueType;
use retag_sdk::testing::{Cell, batch};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ABI.md");

fn page() -> String {
    std::fs::read_to_string(PATH).unwrap()
}

/// The text between two headings.
fn section(page: &str, number: usize) -> &str {
    let from = page.find(&format!("\n## {number}. ")).unwrap_or_else(|| panic!("no section {number}"));
    let rest = &page[from + 1..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn the_page_names_every_value() {
    let page = page();
    let check = |number: usize, text: String| {
        assert!(section(&page, number).contains(&text), "section {number} of ABI.md does not say `{text}`");
    };
    check(1, format!("`{}`", retag_abi::ABI_NAME));
    check(1, format!("`{}`", retag_abi::MAP_SECTION));
    check(2, format!("## 2. Imports, from module `{}`", retag_abi::ABI_NAME));
    check(2, format!("| `{}` | (level i32, ptr i32, len i32) |", retag_abi::IMPORT_LOG));
    check(2, format!("| `{}` | (ptr i32, len i32) |", retag_abi::IMPORT_FAIL));
    let levels = [retag_abi::LOG_ERROR, retag_abi::LOG_WARN, retag_abi::LOG_INFO, retag_abi::LOG_DEBUG];
    let [error, warn, info, debug] = levels;
    check(2, format!("{error} error, {warn} warning, {info} information, {debug} debug"));
    check(3, format!("| `{}` | memory |", retag_abi::EXPORT_MEMORY));
    check(3, format!("| `{}` | (bytes i32) → ptr i32 |", retag_abi::EXPORT_RESERVE));
    for export in [retag_abi::EXPORT_MAP, retag_abi::EXPORT_LABEL] {
        check(3, format!("| `{export}` | (ptr i32, len i32) → packed i64 |"));
    }
    check(5, format!("header ({} bytes)", column::BATCH_HEADER_LEN));
    check(5, format!("**descriptor** of {} bytes", column::DESCRIPTOR_LEN));
    check(5, format!("At most {} rows", retag_abi::BATCH_ROWS_MAX));
    check(5, format!("at most {} bytes", retag_abi::BATCH_BYTES_MAX));
    check(5, format!("multiple of {}", retag_abi::BUFFER_ALIGN));
    check(6, format!("header of {} bytes", contribution::HEADER_LEN));
    check(6, format!("**record** is {} bytes", contribution::RECORD_LEN));
    check(6, format!("**computed key** is {} bytes", contribution::KEY_ENTRY_LEN));
    check(6, format!("more than {} fails", contribution::KEYS_PER_ROW_MAX));
    check(6, format!("at most {}", retag_abi::KEY_BYTES_MAX));
    check(7, format!("header ({} bytes)", label::INPUT_HEADER_LEN));
    check(7, format!("**parameter** takes {}\nbytes", label::PARAM_LEN));
    check(8, format!("header of {} bytes", label::OUTPUT_HEADER_LEN));
    check(8, format!("At most {} values", retag_abi::LABEL_VALUES_MAX));
    check(8, format!("{} = never", retag_abi::WAKE_NEVER));
    for limit in [retag_abi::BATCH_ROWS_MAX, retag_abi::BATCH_BYTES_MAX, retag_abi::KEY_BYTES_MAX] {
        check(10, format!("| {limit} |"));
    }
}

#[test]
fn the_page_lists_every_type() {
    let page = page();
    let names = [
        (Physical::Bool, "bool"),
        (Physical::I64, "i64"),
        (Physical::U64, "u64"),
        (Physical::Decimal, "decimal, 18 digits"),
        (Physical::WideDecimal, "decimal, 38 digits"),
        (Physical::Bytes, "bytes"),
        (Physical::Text, "text"),
        (Physical::Timestamp, "timestamp"),
        (Physical::Date, "date"),
    ];
    for (physical, name) in names {
        let row = format!("\n| {} | {name} |", physical as u32);
        assert!(section(&page, 5).contains(&row), "section 5 of ABI.md has no row `{}`", row.trim());
    }
    assert_eq!(
        (1..=255).filter_map(Physical::from_tag).count(),
        names.len(),
        "a type is missing in this test"
    );
}

#[test]
fn the_page_knows_every_kind_of_the_sdk() {
    let page = page();
    for kind in ["any", "count", "sum", "min", "max", "distinct"] {
        assert!(section(&page, 4).contains(&format!("`{kind}`")), "section 4 of ABI.md does not list {kind}");
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (n, line) in bytes.chunks(16).enumerate() {
        let shown: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{:04x}  {}", n * 16, shown.join(" ")).unwrap();
    }
    text
}

#[test]
fn the_examples_are_what_the_code_writes() {
    let types = [ValueType::of(Physical::U64), ValueType::decimal(2), ValueType::of(Physical::Text)];
    let row = |user, amount, state: &str| vec![Cell::Number(user), amount, Cell::Bytes(state.into())];
    let rows = [row(42, Cell::Number(12_000), "PAID"), row(43, Cell::Null, "SENT")];
    let records = [
        contribution::Record { row: 0, aggregate: 1, key: 0, value: 12_000 },
        contribution::Record { row: 0, aggregate: 2, key: 1, value: 1 },
    ];
    let key = contribution::KeyEntry { row: 0, n: 1, length: 8, value: 7 };
    let examples = [
        ("batch", hex(&batch(1, &types, &rows))),
        ("records", hex(&records.map(contribution::Record::to_bytes).concat())),
        ("keys", hex(&key.to_bytes())),
    ];
    let mut page = page();
    for (name, text) in examples {
        let open = format!("```{name}\n");
        let from = page.find(&open).unwrap() + open.len();
        let to = from + page[from..].find("```").unwrap();
        if std::env::var_os("RETAG_BLESS").is_some() {
            page.replace_range(from..to, &text);
        } else {
            assert_eq!(&page[from..to], text, "the {name} example of ABI.md");
        }
    }
    if std::env::var_os("RETAG_BLESS").is_some() {
        std::fs::write(PATH, &page).unwrap();
    }
}
