//! What a Kafka source refuses, by name, each with a real broker; and the way out of each.

use super::client::{self, message, produce};
use super::host::{Stream, assert_model, ends, folder, read_up_to};
use crate::following::{follow, status};
use crate::harness::Folder;
use crate::message::{order, update_without_old, user};
use retag_servers::{Kafka, Service as _};
use retag_tests::rule_file::baskets;

/// A run that ends with an error that says all of this.
fn refused(folder: &Folder, said: &[&str]) {
    folder.run().assert_error(1, said);
}

pub(crate) fn topics_that_cannot_be_read_are_named() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic("compacted", 1, &[("cleanup.policy", "compact,delete")]).unwrap();
    kafka.create_topic("orders", 1, &[]).unwrap();
    let of = |topics: &[&str], more: &str| folder(&kafka, topics, more);
    refused(
        &of(&["orders", "nowhere"], ""),
        &["topic-missing", "source orders", "topic nowhere", "make the topic"],
    );
    let compacted =
        ["topic-compacted", "compacted", "cleanup.policy=compact,delete", "cleanup.policy=delete"];
    refused(&of(&["compacted"], ""), &compacted);
    refused(&of(&["orders"], "librdkafka = { \"no.such\" = 1 }"), &["kafka-setting", "no.such"]);
    let secret = "librdkafka = { \"sasl.password\" = { env = \"RETAG_TEST_NOT_SET\" } }";
    refused(&of(&["orders"], secret), &["kafka-setting", "sasl.password", "RETAG_TEST_NOT_SET"]);
    let bad = "librdkafka = { \"enable.auto.commit\" = true }";
    refused(
        &of(&["orders"], bad),
        &["enable.auto.commit", "not to be set here", "positions are those of the state"],
    );
    let pattern = of(&["orders"], "");
    pattern.configure("topics = [\"orders\"]", "topic_pattern = \"nothing.*\"");
    refused(&pattern, &["topic-missing", "nothing.*", "no topic matches"]);
    pattern.configure("nothing.*", "ord[a-z]+");
    pattern.run().assert_ok();
    let checked = pattern.retag(&["config", "check"]).assert_ok().out;
    assert!(checked.contains("orders/0"), "{checked}");
    let start = of(&["orders"], "start = { offsets = { \"orders/1\" = 0 } }");
    start.configure("\"complete\"", "\"none\"");
    refused(&start, &["start-offset-missing", "orders/1", "orders/0"]);
    let nowhere = "start = { offsets = { \"orders/0\" = 0, \"orders/1\" = 0, \"ordres/2\" = 0 } }";
    let misspelt = of(&["orders"], nowhere);
    misspelt.configure("\"complete\"", "\"none\"");
    refused(&misspelt, &["start-offset-missing", "ordres/2", "no other"]);
    start.configure("\"orders/1\" = 0", "\"orders/0\" = 7");
    refused(&start, &["offset-out-of-range", "orders/0", "offset 7"]);
    // The same topic in two sources would count twice.
    let twice = of(&["orders"], "");
    let section = twice.read("retag.toml");
    let section = section.split("[sources.orders]").nth(1).unwrap().split("[rules").next().unwrap();
    twice.configure("[rules.payer]", &format!("[sources.other]{section}[rules.payer]"));
    refused(&twice, &["same-file", "orders/0 of source orders"]);
    // A sink in it would feed labels back.
    let loops = of(&["orders"], "");
    let bootstrap = kafka.bootstrap();
    let sink = format!(
        "[sinks.back]\ntype = \"kafka\"\nbootstrap_servers = \"{bootstrap}, other:9092\"\ntopic = \"orders\"\n"
    );
    loops.append("retag.toml", sink);
    refused(&loops, &["same-file", "sink back", "source orders", "come back as changes"]);
    loops.configure("topics = [\"orders\"]", "topic_pattern = \"ord.*\"");
    refused(&loops, &["same-file", "sink back", "source orders"]);
    for option in ["--accept-partitions", "--take-over"] {
        let unknown = of(&["orders"], "").run_with(&[option, "nosuch"]);
        unknown.assert_error(1, &[option, "no [sources.nosuch]"]);
    }
}

pub(crate) fn a_topic_that_is_removed_while_it_is_read_is_named() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic("shop", 2, &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "");
    let mut stream = Stream::new(9);
    stream.write(&kafka, "shop", 500);
    let mut host = follow(&folder);
    read_up_to(&mut host, &folder, &ends(&kafka, "shop", 2));
    kafka.delete_topic("shop").unwrap();
    host.wait().assert_error(1, &["topic-missing", "topic shop", "removed while it was read"]);
    assert_model(&folder, &stream.messages, &["payer"]);
}

pub(crate) fn a_log_that_lost_its_beginning_makes_sums_approximate() {
    let kafka = Kafka::start().unwrap();
    let bootstrap = kafka.bootstrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    produce(&bootstrap, "shop", "none", &[message("1", &user(1, 42)), message("2", &user(2, 43))]);
    client::delete_before(&bootstrap, "shop", 0, 1);
    let whole = folder(&kafka, &["shop"], "");
    whole.run().assert_ok();
    let said = whole.retag(&["status"]).out;
    assert!(said.contains("did not hold its whole history") && said.contains("approximate"), "{said}");
    // Where reading begins can be chosen, where labels may stay approximate.
    for (start, labels) in
        [("\"latest\"", 0), ("\"earliest\"", 1), ("{ timestamp = \"2020-01-01T00:00:00Z\" }", 1)]
    {
        let folder = folder(&kafka, &["shop"], &format!("start = {start}"));
        folder.configure("\"complete\"", "\"none\"");
        folder.run().assert_ok();
        assert_eq!(folder.read("labels.ndjson").lines().count(), labels, "{start}");
    }
}

pub(crate) fn an_offset_that_is_gone_stops_the_source_for_good() {
    let kafka = Kafka::start().unwrap();
    let bootstrap = kafka.bootstrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    let users: Vec<_> = (1..=4).map(|n| message("k", &user(n, 40 + n))).collect();
    produce(&bootstrap, "shop", "none", &users[..2]);
    let folder = folder(&kafka, &["shop"], "");
    folder.run().assert_ok();
    produce(&bootstrap, "shop", "none", &users[2..]);
    client::delete_before(&bootstrap, "shop", 0, 3);
    for _ in 0..2 {
        refused(
            &folder,
            &["offset-out-of-range", "source orders", "shop/0", "offset 2", "new state directory"],
        );
    }
    let followed = folder.retag(&["run"]);
    followed.assert_error(1, &["offset-out-of-range"]);
    // The topic made anew begins at 0 again: another log under the same name.
    kafka.delete_topic("shop").unwrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    produce(&bootstrap, "shop", "none", &users);
    refused(&folder, &["topic-replaced", "topic shop", "new state directory"]);
}

pub(crate) fn a_topic_that_grows_is_refused_until_somebody_takes_it() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "");
    let mut stream = Stream::new(8);
    let next = stream.next(1_000, 1);
    produce(&kafka.bootstrap(), "shop", "lz4", &next);
    let mut host = follow(&folder);
    read_up_to(&mut host, &folder, &ends(&kafka, "shop", 1));
    client::grow(&kafka.bootstrap(), "shop", 2);
    stream.write(&kafka, "shop", 1_000);
    let said = ["partitions-changed", "topic shop has 2 partitions and had 1", "--accept-partitions"];
    host.wait().assert_error(1, &said);
    refused(&folder, &said);
    folder.run_with(&["--accept-partitions", "orders"]).assert_ok();
    assert_model(&folder, &stream.messages, &["payer"]);
    stream.write(&kafka, "shop", 500);
    folder.run().assert_ok();
    assert_model(&folder, &stream.messages, &["payer"]);
}

pub(crate) fn a_refused_message_is_named_by_its_offset_and_passed_when_mended() {
    let kafka = Kafka::start().unwrap();
    let bootstrap = kafka.bootstrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "on_refusal = \"pause\"");
    let refused = update_without_old(3, (1, 42), "10.00");
    let messages = [user(1, 42), order(2, (1, 42), "10.00"), refused, order(4, (2, 42), "3000.00")];
    let messages: Vec<_> = messages.iter().map(|text| message("k", text)).collect();
    produce(&bootstrap, "shop", "none", &messages);
    let mut host = follow(&folder);
    read_up_to(&mut host, &folder, &[4]);
    let said = folder.retag(&["status"]).out;
    for piece in ["rule payer stands still", "update-without-old", "shop/0 at offset 2", "rule resume payer"]
    {
        assert!(said.contains(piece), "`{piece}` is not in\n{said}");
    }
    host.signal("INT");
    host.wait().assert_ok();
    folder.configure("on_refusal = \"pause\"", "on_refusal = \"pause\"\nhidden_columns = [\"shop.orders\"]");
    let host = follow(&folder);
    folder.retag(&["rule", "resume", "payer"]).assert_ok();
    let got = folder.retag(&["get", "user/42", "-o", "json"]).assert_ok().out;
    assert!(got.contains("silver"), "{got}");
    host.signal("INT");
    host.wait().assert_ok();
    // The other ways of a refusal: to stop in front of it, or to put it aside.
    let stops = self::folder(&kafka, &["shop"], "");
    stops
        .run()
        .assert_error(1, &["update-without-old", "shop/0 at offset 2", "everything before it is committed"]);
    let aside = self::folder(&kafka, &["shop"], "on_refusal = \"quarantine\"");
    aside.run().assert_ok();
    let listed = aside.retag(&["quarantine", "ls"]).assert_ok().out;
    assert!(listed.contains("update-without-old"), "{listed}");
    assert_eq!(status(&aside).unwrap()["totals"]["skipped"]["refused"], 1);
}

/// A checksum does not fit: the client would go on behind the message.
pub(crate) fn a_damaged_message_stops_the_source_and_is_not_passed_over() {
    let mut kafka = Kafka::start().unwrap();
    let bootstrap = kafka.bootstrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    for n in 1..=3 {
        produce(&bootstrap, "shop", "none", &[message("k", &user(n, 40 + n))]);
    }
    kafka.stop().unwrap();
    let log = kafka.log("shop", 0).unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let second = b"\"user_id\":42";
    let at = bytes.windows(second.len()).position(|window| window == second).unwrap();
    bytes[at + second.len() - 1] = b'9';
    std::fs::write(&log, bytes).unwrap();
    kafka.restart().unwrap();
    let folder = folder(&kafka, &["shop"], "librdkafka = { \"check.crcs\" = true }");
    for _ in 0..2 {
        refused(&folder, &["kafka-error", "shop/0 at offset 1", "everything before it is committed"]);
    }
    for (user, is_counted) in [(41, true), (42, false), (43, false)] {
        let got = folder.retag(&["get", &format!("user/{user}"), "-o", "json"]).assert_ok().out;
        let got: serde_json::Value = serde_json::from_str(&got).unwrap();
        assert_eq!(got["labels"]["never_paid"] == true, is_counted, "{got}");
    }
}

pub(crate) fn without_any_broker_a_new_source_says_so() {
    let mut kafka = Kafka::start().unwrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "");
    kafka.stop().unwrap();
    // Why, as the client has heard it, not only that nothing was answered.
    let heard = format!("the brokers of {}: ", kafka.bootstrap());
    refused(&folder, &["kafka-unreachable", "source orders", &heard, "start again"]);
}

pub(crate) fn a_copy_of_a_state_is_refused_while_the_other_host_is_there() {
    let kafka = Kafka::start().unwrap();
    let bootstrap = kafka.bootstrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    produce(&bootstrap, "shop", "none", &[message("k", &user(1, 42))]);
    let ours = folder(&kafka, &["shop"], "group = \"labels\"");
    let mut host = follow(&ours);
    host.until("its offsets", || client::committed(&bootstrap, "labels", "shop", 0).filter(|at| *at == 1));
    host.signal("TERM");
    host.wait().assert_ok();
    let copy = folder(&kafka, &["shop"], "group = \"labels\"");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(ours.path("data")).arg(copy.path("data")).status();
    assert!(copied.unwrap().success());
    refused(&copy, &["group-in-use", "source orders", "group labels", "--take-over orders"]);
    ours.run().assert_ok();
    // One that takes over is told to nobody; the other one finds out, and stops.
    let mut host = follow(&ours);
    read_up_to(&mut host, &ours, &[1]);
    let mut other = copy.start(&["run", "--take-over", "orders"], &[]);
    let ended = host.wait();
    ended.assert_error(1, &["group-in-use", "another host"]);
    other.until("what it reads", || status(&copy).map(drop));
    other.signal("TERM");
    other.wait().assert_ok();
}

pub(crate) fn what_a_rule_missed_may_be_gone_from_its_topic() {
    let kafka = Kafka::start().unwrap();
    let bootstrap = kafka.bootstrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    let user_of = |n: u64| message("k", &user(n, 40 + n));
    produce(&bootstrap, "shop", "none", &[user_of(1)]);
    let folder = folder(&kafka, &["shop"], "");
    let mut host = follow(&folder);
    read_up_to(&mut host, &folder, &[1]);
    folder.retag(&["rule", "pause", "payer"]).assert_ok();
    produce(&bootstrap, "shop", "none", &[user_of(2), user_of(3)]);
    read_up_to(&mut host, &folder, &[3]);
    client::delete_before(&bootstrap, "shop", 0, 2);
    produce(&bootstrap, "shop", "none", &[user_of(4)]);
    read_up_to(&mut host, &folder, &[4]);
    // A host that reads the topic knows where it begins now, and says so before anything begins.
    let gone = ["history-gone", "shop/0", "offset 1", "keep its messages longer"];
    let refused = folder.retag(&["rule", "resume", "payer"]);
    refused.assert_error(1, &[&["position-gone", "begins at offset 2 now"], &gone[..]].concat());
    // So it does of a revision that would read everything.
    let next = baskets(&std::fs::read(folder.path("payer.wasm")).unwrap());
    folder.write("next.wasm", next);
    folder.retag(&["rule", "push", "next.wasm"]).assert_ok();
    let refused = folder.retag(&["rule", "prepare", "payer@2"]);
    refused.assert_error(1, &["history-gone", "from offset 0 on", "begins at offset 2 now"]);
    // One that does not finds out as it reads: the rule goes on standing still.
    host.signal("TERM");
    host.wait().assert_ok();
    folder.retag(&["rule", "resume", "payer"]).assert_ok();
    let ended = folder.run();
    for piece in gone {
        assert!(ended.err.contains(piece), "{}", ended.err);
    }
    let said = folder.retag(&["status"]).assert_ok().out;
    assert!(said.contains("rule payer stands still") && said.contains("history-gone"), "{said}");
    assert_eq!(folder.read("labels.ndjson").lines().count(), 1);
}
