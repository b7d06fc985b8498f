//! One test per M-row of the catalogue, named after it.

use super::*;
use retag_host::decode::{Decoder, Format, MESSAGE_BYTES_MAX, Skip};

fn orders() -> Plan {
    let columns = vec![
        column("id", Physical::U64, 0),
        column("uid", Physical::I64, 0),
        column("amt", Physical::Decimal, 2),
        column("note", Physical::Text, 0),
    ];
    Plan { tables: vec![table("shop.orders", columns)] }
}

fn orders_with_hidden_columns() -> Plan {
    let mut plan = orders();
    plan.tables[0].hidden_columns = true;
    plan
}

/// A row of shop.orders: type, and what follows `ts`.
fn row(kind: &str, rest: &str) -> String {
    format!(r#"{{"database":"shop","table":"orders","type":"{kind}","ts":1767225600,{rest}}}"#)
}

fn check(line: &str, expect: &[&str]) {
    let plan = orders();
    let out = decode_lines(&plan, &[line]);
    assert_eq!(out.refusal, None, "{line}");
    assert_eq!(out.changes.len(), 1, "{line}");
    assert_eq!(out.changes[0].ts, 1_767_225_600);
    assert_eq!(images(&plan, &out, 0), expect, "{line}");
}

fn check_refused(plan: &Plan, line: &str, code: &str, says: &str) {
    let good = row("insert", r#""xid":1,"data":{"id":1}"#);
    let out = decode_lines(plan, &[&good, line, &good]);
    let refusal = out.refusal.as_ref().unwrap_or_else(|| panic!("not refused: {line}"));
    assert_eq!(refusal.code, code, "{line}: {}", refusal.message);
    assert!(refusal.message.contains(says), "{}", refusal.message);
    assert_eq!((refusal.position, out.end), (good.len() as u64 + 1, good.len() as u64 + 1));
    assert_eq!(out.changes.len(), 1, "what stands before is kept, nothing behind: {line}");
    assert_eq!(out.batches[0].rows(), 1);
}

fn check_skipped(line: &str, skip: Skip) {
    let out = decode_lines(&orders(), &[line]);
    assert_eq!((out.refusal.as_ref(), out.changes.len()), (None, 0), "{line}");
    assert_eq!(out.skipped, [(skip, 1)], "{line}");
    assert_eq!(out.end, line.len() as u64 + 1);
}

#[test]
fn m01_an_insert_is_one_image_after() {
    check(
        &row("insert", r#""xid":90211,"commit":true,"data":{"id":7,"uid":42,"amt":12.50,"note":null}"#),
        &["+ id=7 uid=42 amt=1250 note=NULL"],
    );
}

#[test]
fn m02_the_row_before_is_data_overlaid_with_old() {
    check(
        &row("update", r#""data":{"id":7,"uid":42,"amt":9.00,"note":null},"old":{"amt":12.50}"#),
        &["- id=7 uid=42 amt=1250 note=NULL", "+ id=7 uid=42 amt=900 note=NULL"],
    );
}

#[test]
fn m03_present_null_and_absent_in_old_are_two_things() {
    check(
        &row("update", r#""data":{"id":7,"uid":42,"amt":9.00,"note":"x"},"old":{"note":null}"#),
        &["- id=7 uid=42 amt=900 note=NULL", "+ id=7 uid=42 amt=900 note=\"x\""],
    );
    check(
        &row("update", r#""data":{"id":7,"uid":42,"amt":9.00,"note":"x"},"old":{"uid":41}"#),
        &["- id=7 uid=41 amt=900 note=\"x\"", "+ id=7 uid=42 amt=900 note=\"x\""],
    );
    check(&row("insert", r#""data":{"id":7,"note":null}"#), &["+ id=7 uid=ABSENT amt=ABSENT note=NULL"]);
}

#[test]
fn m04_nested_keys_are_never_searched() {
    check(
        &row(
            "update",
            r#""data":{"id":7,"uid":1,"amt":5,"note":"n","profile":{"amt":2,"old":{"amt":3}}},"old":{"profile":{"amt":1,"data":{"uid":9}}}"#,
        ),
        &[],
    );
    check(
        &row(
            "update",
            r#""data":{"id":7,"uid":2,"profile":{"uid":2},"amt":5,"note":"n"},"old":{"profile":{"amt":1},"uid":1}"#,
        ),
        &["- id=7 uid=1 amt=500 note=\"n\"", "+ id=7 uid=2 amt=500 note=\"n\""],
    );
}

#[test]
fn m05_an_update_without_old_needs_hidden_columns() {
    let line = row("update", r#""xid":1,"data":{"id":7,"uid":42,"amt":9,"note":null}"#);
    check_refused(&orders(), &line, "update-without-old", "hidden_columns");
    let out = decode_lines(&orders_with_hidden_columns(), &[&line]);
    assert_eq!((out.refusal.as_ref(), out.changes.len(), out.batches[0].rows()), (None, 1, 0));
}

#[test]
fn m06_an_incomplete_update_without_old_is_named_minimal() {
    let line = row("update", r#""xid":1,"data":{"id":7,"amt":9}"#);
    check_refused(&orders(), &line, "update-without-old", "MINIMAL");
    check_refused(&orders_with_hidden_columns(), &line, "update-without-old", "MINIMAL");
}

#[test]
fn m07_a_complete_before_image_without_a_key_is_taken() {
    check(
        &row(
            "update",
            r#""primary_key":[],"primary_key_columns":[],"data":{"id":7,"uid":42,"amt":9,"note":"b"},"old":{"note":"a"}"#,
        ),
        &["- id=7 uid=42 amt=900 note=\"a\"", "+ id=7 uid=42 amt=900 note=\"b\""],
    );
}

#[test]
fn m08_an_empty_old_is_refused() {
    let line = row("update", r#""xid":1,"data":{"id":7,"uid":42,"amt":9,"note":"x"},"old":{}"#);
    check_refused(&orders(), &line, "empty-old", "output_nulls");
    check_refused(&orders_with_hidden_columns(), &line, "empty-old", "output_nulls");
}

#[test]
fn m09_a_planned_key_in_old_only_is_refused() {
    let line = row("update", r#""xid":1,"data":{"id":7,"uid":42,"amt":9},"old":{"note":"x"}"#);
    check_refused(&orders(), &line, "key-only-in-old", "`note`");
    check(&row("update", r#""data":{"id":7,"uid":42,"amt":9,"note":"n"},"old":{"unread":"x"}"#), &[]);
}

#[test]
fn m10_a_key_change_is_one_update() {
    check(
        &row("update", r#""data":{"id":8,"uid":42,"amt":1,"note":""},"old":{"id":7}"#),
        &["- id=7 uid=42 amt=100 note=\"\"", "+ id=8 uid=42 amt=100 note=\"\""],
    );
}

#[test]
fn m11_both_images_of_an_aggregation_key_change_belong_to_one_change() {
    let plan = orders();
    let line = row("update", r#""data":{"id":8,"uid":43,"amt":1,"note":""},"old":{"uid":42}"#);
    let out = decode_lines(&plan, &[&line]);
    assert_eq!(out.batches[0].changes, [0, 0]);
    assert_eq!(
        images(&plan, &out, 0),
        ["- id=8 uid=42 amt=100 note=\"\"", "+ id=8 uid=43 amt=100 note=\"\""]
    );
}

#[test]
fn m12_a_delete_is_one_image_before_and_key_only_is_refused() {
    check(
        &row("delete", r#""data":{"id":7,"uid":42,"amt":1.1,"note":"a"}"#),
        &["- id=7 uid=42 amt=110 note=\"a\""],
    );
    check_refused(&orders(), &row("delete", r#""xid":1,"data":{"id":7}"#), "incomplete-image", "MINIMAL");
    let keys = r#""xid":1,"primary_key_columns":["id","uid"],"data":{"id":7,"uid":1}"#;
    check_refused(&orders(), &row("delete", keys), "incomplete-image", "MINIMAL");
    // A column that this table had not yet: absent, not MINIMAL.
    check(
        &row("delete", r#""primary_key_columns":["id"],"data":{"id":7,"uid":42,"amt":1.1}"#),
        &["- id=7 uid=42 amt=110 note=ABSENT"],
    );
}

#[test]
fn m13_m14_bootstrap_rows_are_skipped_and_counted() {
    let lines = ["bootstrap-start", "bootstrap-insert", "bootstrap-complete"]
        .map(|kind| row(kind, r#""data":{"id":7,"uid":42},"comment":"c""#));
    for line in &lines {
        check_skipped(line, Skip::Bootstrap);
    }
    let out = decode_lines(&orders(), &lines.each_ref().map(String::as_str));
    assert_eq!(out.skipped, [(Skip::Bootstrap, 3)]);
}

#[test]
fn m15_a_row_without_id_among_rows_with_ids_is_refused() {
    let id = r#""xid":5,"commit":true,"position":"bin.000001:4","server_id":1,"data":{"id":7}"#;
    let (good, queued) =
        (row("insert", id), row("insert", r#""position":"bin.000001:2","xoffset":9,"data":{"id":7}"#));
    let out = decode_lines(&orders(), &[&good, &queued]);
    assert_eq!(out.refusal.unwrap().code, "missing-id");
    let out = decode_lines(&orders(), &[&queued, &good]);
    assert_eq!(out.refusal.unwrap().code, "id-form-changed");
    let gtid = row("insert", r#""xid":5,"commit":true,"gtid":"a:4","data":{"id":7}"#);
    assert_eq!(decode_lines(&orders(), &[&good, &gtid]).refusal.unwrap().code, "id-form-changed");
}

#[test]
fn m16_the_control_tables_of_maxwell_are_skipped() {
    let line = r#"{"database":"maxwell","table":"bootstrap","type":"insert","ts":1,"xid":3,"commit":true,"data":{"id":1}}"#;
    check_skipped(line, Skip::ControlTable);
    let out = decode_lines(&orders(), &[line]);
    assert_eq!(out.transaction_end, Some(line.len() as u64 + 1));
}

/// DDL of shop.orders with column definitions before and after.
fn alter(old: &str, new: &str, table: &str, sql: &str) -> String {
    format!(
        r#"{{"type":"table-alter","database":"shop","table":"orders","old":{{"database":"shop","table":"orders","columns":[{old}]}},"def":{{"database":"shop","table":"{table}","columns":[{new}]}},"ts":1767225600000,"sql":"{sql}"}}"#
    )
}

#[test]
fn m18_ddl_of_read_columns_is_refused_and_other_ddl_skipped() {
    let id = r#"{"type":"bigint","name":"id","signed":false}"#;
    let note = r#"{"type":"varchar","name":"note","charset":"utf8mb4"}"#;
    let both = format!("{id},{note}");
    let unread = format!(r#"{both},{{"type":"int","name":"extra"}}"#);
    check_skipped(&alter(&both, &unread, "orders", "ALTER TABLE orders ADD COLUMN extra INT"), Skip::Ddl);
    check_skipped(&alter(&both, &both, "orders", "ALTER TABLE orders ADD INDEX ix(note)"), Skip::Ddl);
    let latin = format!(r#"{id},{{"type":"varchar","name":"note","charset":"latin1"}}"#);
    for (line, says) in [
        (alter(&both, &latin, "orders", "ALTER TABLE orders CONVERT TO ..."), "`note` is not what it was"),
        (alter(id, &both, "orders", "ALTER TABLE orders ADD COLUMN note ..."), "`note` is not what it was"), // B04
        (alter(&both, id, "orders", "ALTER TABLE orders DROP COLUMN note"), "`note` is not what it was"),
        (alter(&both, &both, "orders_old", "RENAME TABLE orders TO orders_old"), "renamed"),
        (alter(&both, &both, "orders", "ALTER TABLE orders MODIFY note VARCHAR(9)"), "redefined"),
        (alter(&both, &both, "orders", "ALTER TABLE orders DROP PARTITION p0"), "B06"),
        (
            r#"{"type":"table-drop","database":"shop","table":"orders","ts":1767225600000,"sql":"DROP"}"#
                .to_owned(),
            "dropped",
        ),
        (
            r#"{"type":"database-drop","database":"shop","ts":1767225600000,"sql":"DROP"}"#.to_owned(),
            "dropped",
        ),
    ] {
        check_refused(&orders(), &line, "ddl", says);
    }
    for line in [
        r#"{"type":"table-drop","database":"shop","table":"other","ts":1767225600000,"sql":"DROP"}"#,
        r#"{"type":"table-create","database":"shop","table":"orders","def":{},"ts":1767225600000,"sql":"CREATE"}"#,
        r#"{"type":"database-create","database":"shop","ts":1767225600000,"sql":"CREATE"}"#,
    ] {
        check_skipped(line, Skip::Ddl);
    }
    let into =
        alter(&both, &both, "orders", "RENAME").replacen(r#""table":"orders""#, r#""table":"ghost""#, 1);
    check_refused(&orders(), &into, "ddl", "renamed"); // B15
}

#[test]
fn m21_ids_name_log_place_and_row() {
    let plan = orders();
    let text = |rest: &str| describe(&plan, &decode_lines(&plan, &[&row("insert", rest)]));
    let position = r#""xid":1,"position":"bin.000031:884120","server_id":101,"data":{"id":7}"#;
    assert!(text(&format!(r#""xoffset":3,{position}"#)).contains("position:101:bin.000031 @884120 row 3"));
    assert!(
        text(&format!(r#""commit":true,{position}"#)).contains("position:101:bin.000031 @884120 row COMMIT")
    );
    assert!(text(position).contains("no id"));
    let gtid = |gtid: &str| text(&format!(r#""gtid":"{gtid}","xoffset":0,{position}"#));
    assert!(
        gtid("3e11fa47-71ca-11e1-9e33-c80aa9429562:77")
            .contains("gtid:3e11fa47-71ca-11e1-9e33-c80aa9429562 @77 row 0")
    );
    assert!(gtid("0-101-77").contains("gtid:0-101 @77 row 0"));
    let out = decode_lines(&plan, &[&row("insert", r#""xid":1,"data":{"id":1}"#)]);
    assert_eq!((out.form, out.changes[0].id.as_ref()), (Some(IdForm::None), None));
}

#[test]
fn m22_primary_key_fields_are_ignored() {
    check(
        &row(
            "insert",
            r#""primary_key":[7],"primary_key_columns":["uid"],"data":{"id":1,"uid":2,"amt":3,"note":"n"}"#,
        ),
        &["+ id=1 uid=2 amt=300 note=\"n\""],
    );
}

#[test]
fn m23_m24_numbers_never_pass_through_a_float() {
    check(
        &row(
            "insert",
            r#""data":{"id":18446744073709551615,"uid":-9223372036854775808,"amt":-1.0E1,"note":"n"}"#,
        ),
        &["+ id=18446744073709551615 uid=-9223372036854775808 amt=-1000 note=\"n\""],
    );
    check(
        &row(
            "insert",
            r#""data":{"id":18446744073709551616,"uid":5.0,"amt":0.30000000000000000001,"note":12}"#,
        ),
        &["+ id=!OutOfRange uid=5 amt=!TooManyDecimals note=!WrongShape"],
    );
}

#[test]
fn m25_bools_labels_and_sets_are_as_they_are() {
    let columns = vec![
        column("flag", Physical::Bool, 0),
        column("state", Physical::Text, 0),
        column("tags", Physical::Text, 0),
    ];
    let plan = Plan { tables: vec![table("shop.orders", columns)] };
    let text =
        |data: &str| images(&plan, &decode_lines(&plan, &[&row("insert", &format!(r#""data":{data}"#))]), 0);
    assert_eq!(
        text(r#"{"flag":1,"state":"it''s, ok","tags":["a","c"]}"#),
        ["+ flag=1 state=\"it''s, ok\" tags=!WrongShape"]
    );
    assert_eq!(text(r#"{"flag":127,"state":null,"tags":null}"#), ["+ flag=!OutOfRange state=NULL tags=NULL"]);
    assert_eq!(text(r#"{"flag":false,"state":"","tags":"x"}"#), ["+ flag=0 state=\"\" tags=\"x\""]);
}

#[test]
fn m26_times_are_the_printed_digits_and_zero_dates_are_null() {
    let columns = vec![column("t", Physical::Timestamp, 0), column("d", Physical::Date, 0)];
    let plan = Plan { tables: vec![table("shop.orders", columns)] };
    let text = |t: &str, d: &str| {
        images(
            &plan,
            &decode_lines(&plan, &[&row("insert", &format!(r#""data":{{"t":"{t}","d":"{d}"}}"#))]),
            0,
        )
    };
    assert_eq!(text("2026-01-01 08:00:00.000123", "2026-01-01"), ["+ t=1767254400000123 d=20454"]);
    assert_eq!(text("0000-00-00 00:00:00", "0000-00-00"), ["+ t=NULL d=NULL"]);
    assert_eq!(text("2024-00-10 01:02:03", "2024-01-00"), ["+ t=NULL d=NULL"]);
    assert_eq!(text("2024-13-10 01:02:03", "yesterday"), ["+ t=!OutOfRange d=!WrongShape"]);
}

#[test]
fn m27_json_columns_do_not_fit_text() {
    check(
        &row("insert", r#""data":{"id":1,"uid":2,"amt":3,"note":{"tags":["a"]}}"#),
        &["+ id=1 uid=2 amt=300 note=!WrongShape"],
    );
}

#[test]
fn m28_bytes_are_base64() {
    let plan = Plan { tables: vec![table("shop.orders", vec![column("b", Physical::Bytes, 0)])] };
    let line = row("insert", r#""data":{"b":"3q2+7wA="}"#);
    assert_eq!(images(&plan, &decode_lines(&plan, &[&line]), 0), ["+ b=xdeadbeef00"]);
}

#[test]
fn m29_encrypted_messages_are_refused() {
    let field = r#""encrypted":{"iv":"aa","bytes":"bb"}"#;
    check_refused(&orders(), &row("insert", field), "encrypted", "encrypt=none");
    check_refused(&orders(), &format!("{{{field}}}"), "encrypted", "encrypt=none");
}

#[test]
fn m30_camel_case_names_are_refused() {
    let line = row("insert", r#""primaryKeyColumns":["userId"],"data":{"userId":7}"#);
    check_refused(&orders(), &line, "camel-case-naming", "underscore_to_camelcase");
}

#[test]
fn m31_unknown_fields_of_the_envelope_are_ignored() {
    check(
        &row(
            "insert",
            r#""region":"eu","op":{"before":1},"data":{"id":1,"uid":2,"amt":3,"note":""},"reason":"why not""#,
        ),
        &["+ id=1 uid=2 amt=300 note=\"\""],
    );
}

#[test]
fn m33_dead_letters_are_holes() {
    let line = r#"{"database":"shop","table":"orders","type":"update","reason":"RecordTooLargeException","data":{"id":7}}"#;
    check_refused(&orders(), line, "dead-letter", "RecordTooLargeException");
    check_skipped(&line.replace("orders", "other"), Skip::DeadLetter);
}

#[test]
fn m34_m35_a_resent_row_has_its_id_again() {
    let plan = orders();
    let line = row("insert", r#""xid":1,"commit":true,"position":"b.1:4","server_id":1,"data":{"id":7}"#);
    let out = decode_lines(&plan, &[&line, &line]);
    assert_eq!(out.changes[0].id, out.changes[1].id);
    let mut decoder = MaxwellDecoder::new(Arc::new(plan));
    let (block, mut out) = (format!("{line}\n{line}\n"), Decoded::default());
    decoder.decode_without(block.as_bytes(), 1000, &[1000 + line.len() as u64 + 1], &mut out);
    assert_eq!((out.changes.len(), out.skipped.as_slice()), (1, &[(Skip::Duplicate, 1)][..]));
    assert_eq!(out.end, 1000 + block.len() as u64);
}

#[test]
fn m36_the_query_is_ignored() {
    check(
        &row(
            "insert",
            r#""query":"update orders set a='\"}' /* \u00e9 */","data":{"id":1,"uid":2,"amt":3,"note":""}"#,
        ),
        &["+ id=1 uid=2 amt=300 note=\"\""],
    );
}

#[test]
fn m37_other_producers_are_recognised() {
    for (line, code) in [
        (r#"{"data":{"id":7},"type":"insert"}"#, "looks-like-flink"),
        (r#"{"before":null,"after":{"id":7},"op":"c"}"#, "looks-like-debezium"),
        (r#"{"schema":{},"payload":{"op":"c"}}"#, "looks-like-debezium"),
        (
            r#"{"data":[{"id":"7"}],"old":null,"type":"INSERT","isDdl":false,"database":"shop","table":"orders"}"#,
            "looks-like-canal",
        ),
        (r#"{"data":[{"id":"7"}],"type":"INSERT"}"#, "looks-like-canal"),
        (r#"{"key":["shop","orders"],"value":{}}"#, "wrapped-record"),
    ] {
        check_refused(
            &orders(),
            line,
            code,
            if code == "wrapped-record" { "values" } else { "not supported yet" },
        );
    }
}

#[test]
fn what_is_no_change_at_all_is_refused_by_name() {
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for (line, code) in [
        ("{\"database\":".to_owned(), "not-json"),
        ("nonsense".to_owned(), "not-json"),
        (row("insert", r#""data":{"id":1}"#) + "}", "not-json"),
        ("[1]".to_owned(), "not-a-change"),
        ("7".to_owned(), "not-a-change"),
        ("{}".to_owned(), "not-a-change"),
        (r#"{"id":7,"uid":42}"#.to_owned(), "not-a-change"),
        (row("insert", r#""xid":1"#), "not-a-change"),
        (row("insert", r#""data":[]"#), "looks-like-canal"),
        (row("insert", &format!(r#""data":{deep}"#)), "looks-like-canal"),
        (row("upsert", r#""data":{"id":1}"#), "unknown-type"),
        (row("insert", r#""data":{"id":1}"#).replace("1767225600", "\"soon\""), "missing-ts"),
        (row("insert", r#""data":{"id":1},"data":{"id":2}"#), "duplicate-key"),
        (row("insert", r#""data":{"id":1,"id":2}"#), "duplicate-key"),
        (row("insert", r#""data":{"id":1,"\u0069d":2}"#), "duplicate-key"),
        (row("update", r#""data":{"id":1},"old":[1]"#), "not-a-change"),
    ] {
        check_refused(&orders(), &line, code, "");
    }
}

#[test]
fn escaped_and_reordered_fields_are_read_the_strict_way() {
    let line = r#" { "data" : {"uid":2,"\u0069d":1,"note":"a\u00e9", "amt" : 3 } ,"ts":1767225600, "t\u0061ble":"orders","type":"ins\u0065rt","database":"shop" } "#;
    check(line, &["+ id=1 uid=2 amt=300 note=\"aé\""]);
}

#[test]
fn bytes_that_are_no_utf8_matter_only_where_they_are_read() {
    let plan = orders();
    let mut line = row("insert", r#""data":{"id":1,"uid":2,"amt":3,"note":"a?","else":"b?"}"#).into_bytes();
    let marks: Vec<usize> = (0..line.len()).filter(|at| line[*at] == b'?').collect();
    line[marks[1]] = 0xff;
    assert_eq!(images(&plan, &decode_block(&plan, &line, 0), 0), ["+ id=1 uid=2 amt=300 note=\"a?\""]);
    line[marks[0]] = 0xff;
    assert_eq!(images(&plan, &decode_block(&plan, &line, 0), 0), ["+ id=1 uid=2 amt=300 note=!BadEncoding"]);
    let surrogate = row("insert", r#""data":{"id":1,"uid":2,"amt":3,"note":"a\ud800"}"#);
    check(&surrogate, &["+ id=1 uid=2 amt=300 note=!BadEncoding"]);
}

#[test]
fn the_no_op_is_judged_by_values_of_planned_columns() {
    for same in
        [r#"{"amt":3}"#, r#"{"amt":3.0,"uid":2}"#, r#"{"amt":30e-1}"#, r#"{"note":"\u0061"}"#, r#"{"x":1}"#]
    {
        check(
            &row("update", &format!(r#""data":{{"id":1,"uid":2,"amt":3.00,"note":"a"}},"old":{same}"#)),
            &[],
        );
    }
    check(
        &row("update", r#""data":{"id":1,"uid":2,"amt":3.00,"note":null},"old":{"note":"null"}"#),
        &["- id=1 uid=2 amt=300 note=\"null\"", "+ id=1 uid=2 amt=300 note=NULL"],
    );
}

#[test]
fn one_name_may_be_read_as_two_types() {
    let columns = vec![column("amt", Physical::Decimal, 2), column("amt", Physical::WideDecimal, 4)];
    let plan = Plan { tables: vec![table("shop.orders", columns)] };
    let out = decode_lines(&plan, &[&row("update", r#""data":{"amt":1.005},"old":{"amt":1}"#)]);
    assert_eq!(images(&plan, &out, 0), ["- amt=100 amt=10000", "+ amt=!TooManyDecimals amt=10050"]);
}

#[test]
fn the_last_line_may_lack_its_end_but_not_its_rest() {
    let (plan, line) = (orders(), row("insert", r#""data":{"id":1}"#));
    let out = decode_block(&plan, line.as_bytes(), 5);
    assert_eq!((out.changes.len(), out.end, out.changes[0].position), (1, 5 + line.len() as u64, 5));
    let block = format!("{line}\n{}", &line[..40]);
    let out = decode_block(&plan, block.as_bytes(), 5);
    let refusal = out.refusal.unwrap();
    assert_eq!((refusal.code, refusal.position), ("truncated-line", 6 + line.len() as u64));
    assert_eq!(out.end, refusal.position);
}

#[test]
fn empty_lines_and_tombstones_are_skipped() {
    for line in ["", "  ", "null", "\r"] {
        check_skipped(line, Skip::Empty);
    }
    assert_eq!(decode_block(&orders(), b"", 9).end, 9);
}

#[test]
fn a_message_beyond_the_limit_is_refused() {
    let line = row("insert", &format!(r#""query":"{}","data":{{"id":1}}"#, "x".repeat(MESSAGE_BYTES_MAX)));
    check_refused(&orders(), &line, "message-too-large", "no setting takes more");
}

#[test]
fn transactions_end_at_commit_and_before_another_xid() {
    let plan = orders();
    let row = |rest: &str| row("insert", &format!(r#"{rest},"data":{{"id":1}}"#));
    let (a0, a1, b0) =
        (row(r#""xid":1,"xoffset":0"#), row(r#""xid":1,"commit":true"#), row(r#""xid":2,"xoffset":0"#));
    let end = |lines: &[&str]| decode_lines(&plan, lines).transaction_end;
    assert_eq!(end(&[&a0]), None);
    assert_eq!(end(&[&a0, &a1]), Some((a0.len() + a1.len() + 2) as u64));
    assert_eq!(end(&[&a0, &a1, &b0]), Some((a0.len() + a1.len() + 2) as u64));
    assert_eq!(end(&[&a0, &b0]), Some(a0.len() as u64 + 1));
}

#[test]
fn unread_tables_give_changes_without_images() {
    let plan = orders();
    let line = r#"{"database":"shop","table":"other","type":"update","ts":5,"xid":1,"commit":true,"gtid":"a:1","data":{"x":[{"y":"}"}]}}"#;
    let out = decode_lines(&plan, &[line]);
    assert_eq!((out.refusal, out.changes.len(), out.changes[0].table), (None, 1, None));
    assert!(out.changes[0].id.is_some());
}

#[test]
fn what_was_learnt_from_one_message_never_changes_the_next() {
    let plan = orders();
    let lines = [
        row("insert", r#""xid":1,"data":{"id":1,"uid":2,"amt":3,"note":"a"}"#),
        row("insert", r#""xid":1,"data":{"uid":1,"id":2,"amt":3,"note":"a"}"#),
        row("insert", r#""xid":1,"data":{"id":1,"uid2":2,"amt":3,"note":"a"}"#),
        row("insert", r#""thread_id":4,"xid":1,"data":{"note":"a"}"#),
        row("insert", r#""xid":1,"data":{"id":1,"uid":2,"amt":3,"note":"a"}"#),
    ];
    let out = decode_lines(&plan, &lines.each_ref().map(String::as_str));
    assert_eq!(
        images(&plan, &out, 0),
        [
            "+ id=1 uid=2 amt=300 note=\"a\"",
            "+ id=2 uid=1 amt=300 note=\"a\"",
            "+ id=1 uid=ABSENT amt=300 note=\"a\"",
            "+ id=ABSENT uid=ABSENT amt=ABSENT note=\"a\"",
            "+ id=1 uid=2 amt=300 note=\"a\"",
        ]
    );
}

#[test]
fn a_decoder_of_a_named_format_decodes_and_reuses_its_output() {
    assert_eq!(Format::from_name("maxwel"), None);
    let mut decoder = Decoder::new(Format::from_name("maxwell").unwrap(), Arc::new(orders()));
    let (mut out, line) = (Decoded::default(), row("insert", r#""data":{"id":1,"note":"abc"}"#) + "\n");
    decoder.decode(line.repeat(2).as_bytes(), 0, &mut out);
    assert_eq!((out.changes.len(), out.batches[0].rows()), (2, 2));
    decoder.decode(line.as_bytes(), 0, &mut out);
    assert_eq!((out.changes.len(), images(&orders(), &out, 0).len()), (1, 1));
    decoder.decode_without(line.as_bytes(), 9, &[9], &mut out);
    assert_eq!((out.changes.len(), out.batches[0].rows(), out.end), (0, 0, 9 + line.len() as u64));
}
