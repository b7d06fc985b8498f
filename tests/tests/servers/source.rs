//! A host that reads real topics: what it computes is what the model says, whatever happens to it and to the broker.

use super::client::{self, Message, message, produce};
use super::host::{Stream, assert_model, ends, folder, partitions, read_up_to};
use crate::following::{cpu_ms, end, follow, status};
use crate::message::{order, told, user};
use retag_host::clock::moment;
use retag_servers::{Kafka, Service as _};
use serde_json::Value;
use std::time::Duration;

const SMALL: &str = "[engine]\ncycle_bytes_max = 20000\nblock_bytes = 4000";

pub(crate) fn what_is_read_is_what_the_model_says_and_a_restart_goes_on() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic("shop", 2, &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "group = \"retag.orders\"");
    let mut stream = Stream::new(3);
    for count in [3_000, 0, 2_000, 1] {
        stream.write(&kafka, "shop", count);
        folder.run().assert_ok();
        assert_model(&folder, &stream.messages, &["payer"]);
    }
    // What a host read is committed for lag tools, and never read back.
    let mut host = follow(&folder);
    stream.write(&kafka, "shop", 500);
    read_up_to(&mut host, &folder, &ends(&kafka, "shop", 2));
    for (n, end) in (0..).zip(ends(&kafka, "shop", 2)) {
        host.until("committed offsets", || {
            let committed = client::committed(&kafka.bootstrap(), "retag.orders", "shop", n);
            (committed == i64::try_from(end).ok()).then_some(())
        });
    }
    end(host);
    folder.run().assert_ok();
    assert_model(&folder, &stream.messages, &["payer"]);
}

pub(crate) fn a_killed_host_goes_on_where_its_last_commit_was() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic("shop", 2, &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "");
    folder.configure("[engine]", SMALL);
    let mut stream = Stream::new(4);
    for step in ["decode:20", "block-write:6", "fsync:5", "delivery:4", "signal"] {
        stream.write(&kafka, "shop", 2_000);
        if step == "signal" {
            let mut host = follow(&folder);
            host.until("a commit", || (status(&folder)?["commit"].as_u64()? > 0).then_some(()));
            host.signal("KILL");
            assert!(!host.wait().status.success());
            continue;
        }
        let args = ["run", "--until-end"];
        let killed = folder.start(&args, &[("RETAG_FAILPOINT", step)]).wait();
        assert!(!killed.status.success(), "{step}: it was over before it could be killed");
    }
    folder.run().assert_ok();
    assert_model(&folder, &stream.messages, &["payer"]);
}

pub(crate) fn a_broker_that_is_away_is_waited_for() {
    let mut kafka = Kafka::start().unwrap();
    kafka.create_topic("shop", 2, &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "");
    let mut stream = Stream::new(5);
    stream.write(&kafka, "shop", 2_000);
    let mut host = follow(&folder);
    read_up_to(&mut host, &folder, &ends(&kafka, "shop", 2));
    for kill in [false, true] {
        if kill { kafka.kill() } else { kafka.stop() }.unwrap();
        let waits = host.until("what it waits for", || {
            let status = status(&folder)?;
            status["sources"][0]["waits_for"].as_str().map(str::to_owned)
        });
        assert!(waits.contains(&kafka.bootstrap()), "{waits}");
        let problems = folder.retag(&["status"]).out;
        assert!(problems.starts_with("error: source orders waits for the brokers"), "{problems}");
        let before = cpu_ms(host.pid());
        std::thread::sleep(Duration::from_secs(3)); // the event is the time itself
        let used = cpu_ms(host.pid()) - before;
        assert!(used < 300, "{used} ms of processor time in 3 s of waiting");
        kafka.restart().unwrap();
        let back = moment();
        stream.write(&kafka, "shop", 1_000);
        read_up_to(&mut host, &folder, &ends(&kafka, "shop", 2));
        println!(
            "{used} ms of processor time in 3 s of waiting; all was read {:?} after the return",
            back.elapsed()
        );
        host.until("no more waiting", || status(&folder)?["sources"][0]["waits_for"].is_null().then_some(()));
    }
    host.signal("TERM");
    let said = host.wait().assert_ok().err;
    assert!(said.contains("source orders waits for") && said.contains("source orders reads on"), "{said}");
    assert_model(&folder, &stream.messages, &["payer"]);
    // Without a broker what is known goes on, and waits.
    kafka.stop().unwrap();
    let begin = moment();
    let host = follow(&folder);
    println!("without a broker the host answered after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(15), "it answers after {:?}", begin.elapsed());
    let begin = moment();
    end(host);
    assert!(begin.elapsed() < Duration::from_secs(3), "ended after {:?}", begin.elapsed());
    kafka.restart().unwrap();
    stream.write(&kafka, "shop", 100);
    folder.run().assert_ok();
    assert_model(&folder, &stream.messages, &["payer"]);
}

pub(crate) fn messages_of_every_shape_are_read() {
    let kafka = Kafka::start().unwrap();
    let bootstrap = kafka.bootstrap();
    for (topic, partitions) in [("users", 1), ("orders", 3)] {
        kafka.create_topic(topic, partitions, &[]).unwrap();
    }
    let folder = folder(&kafka, &["users", "orders"], "");
    let payload = |partition: i32, text: String| Message { partition, key: None, payload: Some(text) };
    // One topic has one table, the other two; a tombstone, an empty message, line ends inside and behind, and headers' place.
    let pretty = |line: String| line.replace(",\"", ",\n \"").replace('{', "{\r\n");
    let tombstone = |partition: i32| Message { partition, key: Some("k".into()), payload: None };
    produce(
        &bootstrap,
        "users",
        "none",
        &[message("1", &user(1, 42)), tombstone(0), payload(0, user(2, 43))],
    );
    let orders = [
        payload(0, pretty(order(3, (1, 42), "2000.00"))),
        tombstone(1),
        payload(1, String::new()),
        payload(1, order(4, (2, 42), "9000.00").trim_end().to_owned()),
        payload(2, user(5, 44)),
        payload(2, "\n".into()),
    ];
    produce(&bootstrap, "orders", "zstd", &orders);
    // What a producer takes back was never there; its marks are no messages, and no losses.
    let aborted = [payload(0, order(6, (3, 43), "9000.00")), payload(2, order(7, (4, 44), "9000.00"))];
    client::produce_transaction(&bootstrap, "orders", false, &aborted);
    client::produce_transaction(&bootstrap, "orders", true, &[payload(0, order(8, (5, 43), "10.00"))]);
    client::produce_transaction(&bootstrap, "orders", false, &aborted);
    for _ in 0..2 {
        folder.run().assert_ok();
        let mut told = told(&folder);
        told.sort();
        let told: Vec<&str> = told.iter().map(String::as_str).filter(|t| !t.contains("never_paid")).collect();
        assert_eq!(told, ["42 big_spender", "42 tier=gold"]);
    }
    for (user, labels) in [("42", "big_spender"), ("43", "{}"), ("44", "never_paid")] {
        let got = folder.retag(&["get", &format!("user/{user}"), "-o", "json"]).assert_ok().out;
        assert!(labels == "{}" || got.contains(labels), "{got}");
    }
    // The positions lead over the marks: nothing waits.
    let mut host = follow(&folder);
    let mut expect = ends(&kafka, "users", 1);
    expect.extend(ends(&kafka, "orders", 3));
    host.until("nothing that waits", || {
        let mut partitions = partitions(&status(&folder)?);
        partitions.sort_by_key(|p| std::cmp::Reverse(p["partition"].as_str().unwrap().to_owned()));
        partitions.iter().all(|p| p["lag_messages"] == 0).then_some(())
    });
    let mut reached: Vec<u64> =
        partitions(&status(&folder).unwrap()).iter().map(|p| p["position"].as_u64().unwrap()).collect();
    reached.sort_unstable();
    expect.sort_unstable();
    assert_eq!(reached, expect);
    let skipped = |status: Value| status["totals"]["skipped"]["empty"].as_u64();
    assert_eq!(skipped(status(&folder).unwrap()), Some(4));
    end(host);
}

pub(crate) fn history_and_gaps_are_read_again_beside_the_stream() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic("shop", 2, &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "");
    folder.configure("[engine]", SMALL);
    let mut stream = Stream::new(6);
    stream.write(&kafka, "shop", 4_000);
    let mut host = follow(&folder);
    read_up_to(&mut host, &folder, &ends(&kafka, "shop", 2));
    // A rule that is new to the state: its history lies before the fence.
    folder.retag(&["rule", "push", "red_packet.wasm"]).assert_ok();
    folder.retag(&["rule", "prepare", "red_packet@1"]).assert_ok();
    folder.retag(&["rule", "activate", "red_packet@1"]).assert_ok();
    // A gap: what comes while a rule stands still.
    folder.retag(&["rule", "pause", "payer", "--reason", "test"]).assert_ok();
    stream.write(&kafka, "shop", 2_000);
    read_up_to(&mut host, &folder, &ends(&kafka, "shop", 2));
    let resumed = folder.retag(&["rule", "resume", "payer"]).assert_ok();
    assert!(resumed.out.contains("has caught up"), "{}", resumed.out);
    stream.write(&kafka, "shop", 500);
    read_up_to(&mut host, &folder, &ends(&kafka, "shop", 2));
    end(host);
    assert_model(&folder, &stream.messages, &["payer", "red_packet"]);
}

pub(crate) fn a_recompiled_rule_is_compared_on_what_the_topics_hold() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic("shop", 2, &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "");
    crate::builds::build(&["again", "other"])
        .iter()
        .for_each(|(name, wasm)| folder.write(&format!("{name}.wasm"), wasm));
    let orders: Vec<Message> = (1..=20_000_u64)
        .map(|n| {
            let of_merchant = format!("\"merchant_id\":{},", n % 10_000);
            let order = order(n, (n, n), "10.00").replace("\"merchant_id\":7,", &of_merchant);
            Message { partition: i32::try_from(n % 2).unwrap(), key: None, payload: Some(order) }
        })
        .collect();
    produce(&kafka.bootstrap(), "shop", "lz4", &orders);
    let mut host = follow(&folder);
    read_up_to(&mut host, &folder, &ends(&kafka, "shop", 2));
    for wasm in ["other.wasm", "again.wasm"] {
        folder.retag(&["rule", "push", wasm]).assert_ok();
    }
    let adopt = |revision| ["rule", "prepare", revision, "--adopt-aggregates", "--reason", "compiler update"];
    // Orders 7777 and 17777 stand in partition 1, every second order there.
    let said = ["not-adoptable", "shop.orders in shop/1 at offset 8888", "merchants, paid_orders, spent"];
    folder.retag(&adopt("payer@2")).assert_error(1, &said);
    folder.retag(&adopt("payer@3")).assert_ok();
    let shown = folder.retag(&["rule", "show", "payer@3", "-o", "json"]).assert_ok().out;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["adopted"]["recorded"], 20_000);
    folder.retag(&["rule", "activate", "payer@3"]).assert_ok();
    end(host);
}
