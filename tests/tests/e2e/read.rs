//! The reading commands, asked while nobody runs and while a host does: both answer the same.

use crate::harness::Folder;
use crate::message::{order, told, user};
use crate::run::shop;
use retag_tests::model::{Model, Params, PayerRow};

/// Users of which the model says that they carry the flag.
fn carriers(model: &Model, label: &str) -> usize {
    model.payer_labels(&Params::default()).values().filter(|of_key| of_key.contains_key(label)).count()
}

/// Export, members and one key against the model.
pub(crate) fn assert_reads(folder: &Folder, model: &Model) {
    let ask = |args: &[&str]| folder.retag(&[args, &["--config", "retag.toml"]].concat()).assert_ok().out;
    let csv = ask(&["export", "aggregates", "payer", "-o", "csv"]).replace("\r\n", "\n");
    let mut rows: Vec<&str> = csv.lines().skip(1).collect();
    rows.sort_unstable();
    let expect = PayerRow::to_csv(&model.payer());
    let mut expected: Vec<&str> = expect.lines().skip(1).collect();
    expected.sort_unstable();
    assert_eq!(csv.lines().next(), expect.lines().next());
    assert_eq!(rows, expected);
    for label in ["never_paid", "refunder", "tier"] {
        let expect = carriers(model, label);
        assert_eq!(ask(&["members", label, "--count"]).trim(), expect.to_string(), "{label}");
        assert_eq!(ask(&["members", label]).lines().count(), expect, "{label}");
    }
    let (key, row) = model.payer().into_iter().find(|(_, row)| row.spent > 0).expect("somebody who paid");
    let shown = ask(&["get", &format!("user/{key}")]);
    let spent = format!("{}.{:02}", row.spent / 100, row.spent % 100);
    assert!(shown.contains(&spent) && shown.contains("paid_orders"), "{spent} is not in\n{shown}");
    assert!(ask(&["status"]).contains("payer"));
}

#[test]
fn a_stopped_state_and_a_running_host_answer_what_the_model_says() {
    let folder = Folder::new();
    let mut model = Model::new();
    shop(&folder, 2_000).iter().for_each(|message| model.apply(message).unwrap());
    folder.run().assert_ok();
    assert_reads(&folder, &model);
    let before = folder.read("labels.ndjson").lines().count();
    let new = user(5_000_000, 77) + &order(5_000_001, (900_000_000, 78), "9000.00");
    new.lines().for_each(|line| model.apply(line.as_bytes()).unwrap());
    folder.append("o.p0.json", new);
    let mut host = folder.start(&["run", "--config", "retag.toml"], &[]);
    let arrived = || (folder.read("labels.ndjson").lines().count() >= before + 3).then_some(());
    host.until("the new labels", arrived);
    assert_reads(&folder, &model);
    host.signal("INT");
    host.wait().assert_ok();
    assert_reads(&folder, &model);
}

#[test]
fn what_is_asked_for_and_not_there_is_named() {
    let folder = Folder::new();
    folder.write("o.p0.json", "");
    folder.write("o.p1.json", user(1, 42));
    folder.run().assert_ok();
    assert_eq!(told(&folder), ["42 never_paid"]);
    let ask = |args: &[&str]| folder.retag(&[args, &["--config", "retag.toml"]].concat());
    ask(&["members", "never_payed", "--count"]).assert_error(1, &["never_payed"]);
    ask(&["export", "aggregates", "buyer"]).assert_error(1, &["buyer"]);
    ask(&["get", "merchant/42"]).assert_error(1, &["merchant"]);
    ask(&["get", "user/forty-two"]).assert_error(1, &["forty-two"]);
    ask(&["get", "42"]).assert_error(64, &["user/42"]);
}

#[test]
fn a_state_that_does_not_exist_is_named() {
    let folder = Folder::new();
    folder.retag(&["get", "user/42", "--config", "retag.toml"]).assert_error(1, &["data"]);
}
