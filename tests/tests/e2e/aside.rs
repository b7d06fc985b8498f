//! Messages put aside, sources that share a table, states that were begun in the middle: what is not exact is said.

use crate::harness::Folder;
use crate::message::{order, packet, shop, told, update_without_old, user};
use serde_json::Value;

fn json(folder: &Folder, args: &[&str]) -> Value {
    serde_json::from_str(&folder.retag(&[args, &["-o", "json"]].concat()).assert_ok().out).expect("JSON")
}

fn data_state(folder: &Folder, rule: &str) -> String {
    let status = json(folder, &["status"]);
    let rules = status["rules"].as_array().expect("rules").iter();
    let found =
        rules.filter(|r| r["rule"] == rule).map(|r| r["data_state"].as_str().unwrap_or_default().to_owned());
    found.collect::<Vec<_>>().pop().expect("the rule")
}

#[test]
fn a_refused_message_is_put_aside_where_the_source_says_so() {
    let folder = shop();
    folder.configure("[sinks.out]", "[rules.red_packet]\npath = \"red_packet.wasm\"\n[sinks.out]");
    folder.configure("[rules.payer]", "on_refusal = \"quarantine\"\n[rules.payer]");
    let ddl = "{\"type\":\"table-alter\",\"database\":\"shop\",\"table\":\"orders\",\"sql\":\"ALTER TABLE orders MODIFY amount \
               DECIMAL(20,2)\",\"ts\":1772323200000,\"old\":{\"columns\":[{\"name\":\"amount\"}]},\"def\":{\"database\":\"shop\",\
               \"table\":\"orders\",\"columns\":[{\"name\":\"amount\",\"x\":1}]}}\n";
    folder.append(
        "o.p0.json",
        update_without_old(11, (1, 1), "3000.00") + ddl + &order(12, (12, 2), "9000.00"),
    );
    folder.append("o.p0.json", packet(13));
    folder.run().assert_ok();
    assert!(
        told(&folder).contains(&"2 big_spender".to_owned()),
        "what is behind counts: {:?}",
        told(&folder)
    );
    let listed = json(&folder, &["quarantine", "ls", "--oldest-first"]);
    let entries: Vec<_> = listed["entries"].as_array().expect("entries").iter().collect();
    let of = |name: &str| entries.iter().map(|e| e[name].as_str().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!((of("code"), of("image")), (vec!["update-without-old", "ddl"], vec!["message", "message"]));
    assert_eq!(of("table"), ["shop.orders", "shop.orders"]);
    let id = entries[0]["id"].as_str().expect("an id");
    let shown = folder.retag(&["quarantine", "show", id]).assert_ok().out;
    assert!(shown.contains("update-without-old") && !shown.contains("sign"), "{shown}");
    assert_eq!([data_state(&folder, "payer"), data_state(&folder, "red_packet")], ["approximate", "exact"]);
    // What concerns the ids stops all the same.
    folder.append("o.p0.json", user(20, 20).replace("\"position\"", "\"no_position\""));
    folder.run().assert_error(1, &["id-form-changed"]);
}

#[test]
fn two_sources_with_one_table_must_say_whose_changes_they_have() {
    const SECOND: &str = "[sources.copy]\ntype = \"files\"\nformat = \"maxwell\"\npaths = [\"copy.json\"]\nhistory = \"complete\"\n";
    let folder = shop();
    folder.write("copy.json", folder.read("o.p0.json"));
    folder.configure("[rules.payer]", &format!("{SECOND}[rules.payer]"));
    for _ in 0..2 {
        folder.run().assert_error(1, &["two-sources", "shop.orders", "orders", "copy", "producer"]);
    }
    folder.configure("[sources.copy]", "producer = \"one\"\n[sources.copy]");
    folder.configure("[rules.payer]", "producer = \"one\"\n[rules.payer]");
    folder.run().assert_ok();
    assert_eq!(told(&folder), ["1 tier=silver", "2 never_paid"], "it counts once");
}

#[test]
fn a_state_that_was_begun_in_the_middle_stays_approximate() {
    let folder = shop();
    folder.configure("history = \"complete\"", "history = \"none\"");
    folder.run().assert_ok();
    folder.configure("history = \"none\"", "history = \"complete\"");
    folder.append("o.p1.json", user(20, 20));
    folder.run().assert_ok();
    assert_eq!(data_state(&folder, "payer"), "approximate");
    let status = folder.retag(&["status"]).assert_ok().out;
    assert!(status.contains("first read with history = \"none\""), "{status}");
}

#[test]
fn a_state_without_its_format_file_is_not_taken_for_a_new_one() {
    let folder = shop();
    folder.run().assert_ok();
    std::fs::remove_file(folder.path("data/format")).expect("the file");
    folder.run().assert_error(1, &["state-corrupt", "format", "beside a store"]);
}

#[test]
fn a_hidden_columns_table_that_no_rule_reads_is_named() {
    let folder = shop();
    folder.configure("[rules.payer]", "hidden_columns = [\"shop.ordrs\"]\n[rules.payer]");
    let ended = folder.run().assert_ok();
    assert!(ended.err.contains("hidden_columns names shop.ordrs, which no rule reads"), "{}", ended.err);
}
