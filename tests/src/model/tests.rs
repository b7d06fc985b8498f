//! The model against rows counted by hand, and proof that it notices what a wrong engine would do.

use super::message::{cents, micros};
use super::{Model, PacketRow, Params, PayerRow, member_counts};
use crate::shop::{Config, Generator};

fn order(kind: &str, row: u32, data: &str, old: &str) -> String {
    let old = if old.is_empty() { String::new() } else { format!(",\"old\":{old}") };
    format!(
        "{{\"database\":\"shop\",\"table\":\"orders\",\"type\":\"{kind}\",\"ts\":1,\"xid\":1,\"xoffset\":{row},\
         \"position\":\"b.1:4\",\"server_id\":7,\"data\":{data}{old}}}"
    )
}

fn user(row: u32, kind: &str, id: u64) -> String {
    order(kind, row, &format!("{{\"user_id\":{id}}}"), "").replace("orders", "users")
}

fn data(id: u64, user: u64, merchant: i64, state: i64, amount: &str) -> String {
    format!(
        "{{\"order_id\":{id},\"user_id\":{user},\"merchant_id\":{merchant},\"state\":{state},\"amount\":{amount},\
         \"ctime\":\"2026-03-01 00:00:00\"}}"
    )
}

fn model(messages: &[String]) -> Model {
    let mut model = Model::new();
    for message in messages {
        model.apply(message.as_bytes()).unwrap();
    }
    model
}

#[test]
fn sums_follow_an_order_through_its_life() {
    let mut messages = vec![
        user(0, "insert", 42),
        order("insert", 1, &data(1, 42, 7, 1, "5000.00"), ""),
        order("insert", 2, &data(2, 42, 7, 3, "7000.50"), ""),
    ];
    let row = PayerRow { paid_orders: 2, spent: 1_200_050, refunded: 0, merchants: 1, registered: true };
    assert_eq!(model(&messages).payer()[&42], row);
    let labels = model(&messages).payer_labels(&Params::default());
    assert_eq!(labels[&42].keys().copied().collect::<Vec<_>>(), ["big_spender", "tier"]);
    assert_eq!(labels[&42]["tier"], Some("gold"));

    messages.push(order("update", 3, &data(2, 42, 7, 6, "7000.50"), "{\"state\":3}"));
    messages.push(order("update", 4, &data(1, 43, 7, 1, "5000.00"), "{\"user_id\":42}"));
    let after = model(&messages);
    let labels = after.payer_labels(&Params::default());
    assert_eq!(labels[&42].keys().copied().collect::<Vec<_>>(), ["never_paid", "refunder"]);
    assert_eq!(labels[&43]["tier"], Some("silver"));
    assert_eq!(
        PayerRow::to_csv(&after.payer()),
        "user_id,paid_orders,spent,refunded,merchants,registered\n42,0,0.00,1,0,1\n43,1,5000.00,0,1,0\n"
    );
    after.settled().unwrap();
}

#[test]
fn a_key_without_anything_left_does_not_exist() {
    let messages = [
        user(0, "insert", 42),
        order("insert", 1, &data(1, 42, 7, 1, "1.00"), ""),
        order("delete", 2, &data(1, 42, 7, 1, "1.00"), ""),
        user(3, "delete", 42),
    ];
    assert!(model(&messages).payer().is_empty());
    assert!(model(&messages).payer_labels(&Params::default()).is_empty());
}

#[test]
fn a_change_sent_twice_counts_once_and_another_row_of_its_event_counts() {
    let first = order("insert", 1, &data(1, 42, 7, 1, "1.00"), "");
    let second = order("insert", 2, &data(2, 42, 7, 1, "1.00"), "");
    let model = model(&[first.clone(), second, first]);
    assert_eq!((model.payer()[&42].paid_orders, model.duplicates()), (2, 1));
}

#[test]
fn an_image_that_a_rule_cannot_read_counts_nothing() {
    let unreadable = order("insert", 1, &data(1, 42, 7, 1, "null"), "");
    let repaired = order("update", 2, &data(1, 42, 7, 1, "3.00"), "{\"amount\":null}");
    assert!(model(std::slice::from_ref(&unreadable)).payer().is_empty());
    let model = model(&[unreadable, repaired]);
    model.settled().unwrap();
    assert_eq!(model.payer()[&42].spent, 300);
}

#[test]
fn null_and_absent_in_old_are_kept_apart() {
    let packet = |row, kind: &str, receiver: &str, old: &str| {
        let data = format!(
            "{{\"packet_id\":1,\"sender_id\":5,\"receiver_id\":{receiver},\"amount\":2.50,\"state\":\"SENT\"}}"
        );
        order(kind, row, &data, old).replace("orders", "red_packets")
    };
    let messages = [
        packet(0, "insert", "null", ""),
        packet(1, "update", "6", "{\"receiver_id\":null}"),
        packet(2, "update", "6", "{\"mtime\":null}"),
    ];
    let model = model(&messages);
    model.settled().unwrap();
    assert_eq!((model.red_packet()[&5].sent, model.red_packet()[&6].received), (250, 250));
    let csv = "sender_id,sent,received,packets_sent,packets_received\n5,2.50,0.00,1,0\n6,0.00,2.50,0,1\n";
    assert_eq!(PacketRow::to_csv(&model.red_packet()), csv);
}

#[test]
fn decimals_and_times_are_read_from_their_text() {
    assert_eq!(cents("12.5").unwrap(), 1_250);
    assert_eq!(cents("-0.05").unwrap(), -5);
    assert_eq!(cents("3").unwrap(), 300);
    assert_eq!(cents("1.2E+3").unwrap(), 120_000);
    assert_eq!(cents("1.230").unwrap(), 123);
    assert!(cents("1.234").is_err() && cents("x").is_err());
    assert_eq!(micros("1970-01-01 00:00:01.5").unwrap(), Some(1_500_000));
    assert_eq!(micros("2026-03-01 00:00:00").unwrap(), Some(1_772_323_200_000_000));
    assert_eq!(micros("1969-12-31 23:59:59").unwrap(), Some(-1_000_000));
    assert_eq!(micros("0000-00-00 00:00:00").unwrap(), None);
    assert!(micros("soon").is_err());
}

#[test]
fn seniority_comes_seven_days_after_the_first_order_left() {
    let model = model(&[order("insert", 1, &data(1, 42, 7, 0, "1.00"), "")]);
    let reached = 1_772_323_200_000_000 + 7 * 86_400_000_000;
    assert!(model.senior_labels(reached - 1).is_empty());
    assert!(model.senior_labels(reached)[&42].contains_key("senior"));
}

fn stream(config: &Config) -> Vec<Vec<u8>> {
    Generator::new(config.clone()).map(|message| message.json).collect()
}

fn recompute(messages: &[Vec<u8>]) -> Model {
    let mut model = Model::new();
    for message in messages {
        model.apply(message).unwrap();
    }
    model
}

#[test]
fn a_generated_stream_is_complete_in_any_order_and_its_resends_change_nothing() {
    let config = Config { events: 20_000, users: 500, resend_percent: 10, ..Config::default() };
    let mut messages = stream(&config);
    let model = recompute(&messages);
    model.settled().unwrap();
    assert!(model.duplicates() > 200);
    messages.reverse();
    let reversed = recompute(&messages);
    reversed.settled().unwrap();
    assert_eq!(model.payer(), reversed.payer());
    assert_eq!(model.red_packet(), reversed.red_packet());
    let counts = member_counts(&model.payer_labels(&Params::default()));
    let named = [
        ("never_paid", None),
        ("big_spender", None),
        ("refunder", None),
        ("tier", Some("silver")),
        ("tier", Some("gold")),
    ];
    assert!(named.iter().all(|label| counts.contains_key(label)), "{counts:?}");
    let counts = member_counts(&model.red_packet_labels(&Params::default()));
    assert_eq!(counts.len(), 4, "generous, only_takes, balance giver and taker: {counts:?}");
}

/// The faults that a wrong engine could have, made here in the messages: each must show in the sums or in `settled`.
#[test]
fn faults_are_noticed() {
    let config = Config { events: 20_000, users: 500, resend_percent: 0, ..Config::default() };
    let messages = stream(&config);
    let right = recompute(&messages);

    // A retraction is dropped: every delete of an order is lost.
    let is_delete =
        |m: &Vec<u8>| m.starts_with(b"{\"database\":\"shop\",\"table\":\"orders\",\"type\":\"delete\"");
    let kept: Vec<_> = messages.iter().filter(|m| !is_delete(m)).cloned().collect();
    assert!(kept.len() < messages.len());
    assert_ne!(recompute(&kept).payer(), right.payer());

    // The before leg of one key change is taken from the after image.
    let wrong_key: Vec<_> = messages
        .iter()
        .map(|m| {
            let text = String::from_utf8(m.clone()).unwrap();
            text.replace("\"old\":{\"user_id\":", "\"old\":{\"user_id_was\":").into_bytes()
        })
        .collect();
    assert_ne!(wrong_key, messages);
    assert!(recompute(&wrong_key).settled().is_err());

    // The ledger is not asked: one change counts twice under a new identity.
    let paid = |m: &&Vec<u8>| {
        let text = String::from_utf8_lossy(m);
        text.contains("\"table\":\"orders\",\"type\":\"update\"") && text.contains("\"old\":{\"state\":0")
    };
    let mut doubled = messages.clone();
    let copy = String::from_utf8(messages.iter().find(paid).unwrap().clone()).unwrap();
    doubled.push(copy.replace("binlog.000012", "binlog.000099").into_bytes());
    assert!(recompute(&doubled).settled().is_err());

    // One change is lost.
    let mut lost = messages;
    lost.remove(10_000);
    assert!(recompute(&lost).settled().is_err() || recompute(&lost).payer() != right.payer());
}
