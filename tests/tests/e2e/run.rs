//! `retag run` as it should go: to the end, following, stopped by a signal; labels come, change and go.

use crate::harness::Folder;
use crate::message::{order, state, told, user};
use retag_host::clock::moment;
use retag_host::label::outbox::Place;
use retag_host::sink::message::parse_id;
use retag_host::state::{FjallStore, StateWriter};
use retag_tests::shop::{Config, Generator};
use retag_tests::simulation::{Outcome, assert_exact};
use std::sync::Arc;
use std::time::Duration;

/// Ctrl-C must end the host within this time.
const STOP: Duration = Duration::from_secs(2);

/// Writes the stream of a shop into the two files and returns its messages.
pub(crate) fn shop(folder: &Folder, events: u64) -> Vec<Vec<u8>> {
    let config = Config { seed: 3, events, users: 300, ..Config::default() };
    let mut texts = [Vec::new(), Vec::new()];
    let mut messages = Vec::new();
    for message in Generator::new(config) {
        texts[message.partition as usize].extend_from_slice(&message.json);
        texts[message.partition as usize].push(b'\n');
        messages.push(message.json);
    }
    folder.write("o.p0.json", &texts[0]);
    folder.write("o.p1.json", &texts[1]);
    messages
}

fn assert_model(folder: &Folder, messages: Vec<Vec<u8>>) {
    assert_rules(folder, messages, &["payer"]);
}

/// Sums, labels, members and what was told are what the model says.
pub(crate) fn assert_rules(folder: &Folder, messages: Vec<Vec<u8>>, rules: &[&str]) {
    let store = FjallStore::open(&folder.path("data/store")).unwrap();
    let view = StateWriter::open(Arc::new(store)).unwrap().1;
    let read = |line: &str| -> (Place, serde_json::Value) {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        let place = parse_id(message["id"].as_str().unwrap()).unwrap().1;
        (place, message)
    };
    let delivered = folder.read("labels.ndjson").lines().map(read).collect();
    assert_exact(Outcome { view, messages, delivered, forgetful: false }, rules);
}

#[test]
fn until_end_commits_and_delivers_everything_and_a_second_run_adds_nothing() {
    let folder = Folder::new();
    let messages = shop(&folder, 3_000);
    folder.run().assert_ok();
    assert_model(&folder, messages.clone());
    let told = folder.read("labels.ndjson");
    folder.run().assert_ok();
    assert_eq!(folder.read("labels.ndjson"), told);
    assert_model(&folder, messages);
}

#[test]
fn empty_files_are_no_error() {
    let folder = Folder::new();
    folder.write("o.p0.json", "");
    folder.write("o.p1.json", "");
    folder.run().assert_ok();
    folder.append("o.p1.json", user(1, 42));
    folder.run().assert_ok();
    assert_eq!(told(&folder), ["42 never_paid"]);
}

#[test]
fn labels_are_set_change_and_disappear() {
    let folder = Folder::new();
    folder.write("o.p0.json", "");
    folder.write("o.p1.json", user(1, 42));
    let mut expect = vec!["42 never_paid"];
    folder.run().assert_ok();
    assert_eq!(told(&folder), expect);
    folder.append("o.p0.json", order(2, (1, 42), "2000.00"));
    folder.run().assert_ok();
    expect.extend(["42 -never_paid", "42 tier=silver"]);
    assert_eq!(told(&folder), expect);
    folder.append("o.p0.json", order(3, (2, 42), "8000.00"));
    folder.run().assert_ok();
    expect.extend(["42 big_spender", "42 tier=gold"]);
    assert_eq!(told(&folder), expect);
    folder.append("o.p0.json", state(4, (1, 42), "2000.00", 0) + &state(5, (2, 42), "8000.00", 6));
    folder.run().assert_ok();
    expect.extend(["42 never_paid", "42 -big_spender", "42 refunder", "42 -tier"]);
    assert_eq!(told(&folder), expect);
}

/// Follows growing files; `signal` ends it.
fn follows_until(signal: &str) {
    let folder = Folder::new();
    folder.write("o.p0.json", "");
    folder.write("o.p1.json", user(1, 42));
    let mut host = folder.start(&["run", "--config", "retag.toml"], &[]);
    host.until("the first label", || (told(&folder).len() == 1).then_some(()));
    for n in 0..5 {
        let begin = moment();
        folder.append("o.p0.json", user(10 + n, 100 + n));
        let expect = 2 + usize::try_from(n).unwrap();
        host.until("the label of an appended row", || (told(&folder).len() == expect).then_some(()));
        assert!(begin.elapsed() < Duration::from_secs(2), "delivered after {:?}", begin.elapsed());
    }
    let begin = moment();
    host.signal(signal);
    let ended = host.wait().assert_ok();
    assert!(begin.elapsed() < STOP, "SIG{signal}: {:?}, ran {:?}", begin.elapsed(), ended.took);
    let before = told(&folder);
    folder.run().assert_ok();
    assert_eq!(told(&folder), before, "what was told is told again");
}

#[test]
fn a_growing_file_is_followed_until_ctrl_c() {
    follows_until("INT");
}

#[test]
fn a_growing_file_is_followed_until_sigterm() {
    follows_until("TERM");
}

#[test]
fn half_a_line_waits_for_its_other_half() {
    let folder = Folder::new();
    folder.write("o.p0.json", "");
    folder.write("o.p1.json", user(1, 42));
    let mut host = folder.start(&["run", "--config", "retag.toml"], &[]);
    host.until("the first label", || (told(&folder).len() == 1).then_some(()));
    let (line, other) = (user(2, 43), user(3, 44));
    folder.append("o.p0.json", &line[..line.len() / 2]);
    folder.append("o.p1.json", &other);
    host.until("a label of the other file", || (told(&folder).len() == 2).then_some(()));
    folder.append("o.p0.json", &line[line.len() / 2..]);
    host.until("the label of both halves", || (told(&folder).len() == 3).then_some(()));
    host.signal("INT");
    host.wait().assert_ok();
    assert_eq!(told(&folder), ["42 never_paid", "44 never_paid", "43 never_paid"]);
}

#[test]
fn ctrl_c_in_the_middle_commits_what_is_begun_and_the_next_run_goes_on() {
    let folder = Folder::new();
    folder.configure("[engine]", "[engine]\ncycle_bytes_max = 4000\nblock_bytes = 2000");
    let messages = shop(&folder, 30_000);
    let mut host = folder.start(&["run", "--config", "retag.toml"], &[]);
    host.until("a label", || (!folder.read("labels.ndjson").is_empty()).then_some(()));
    let begin = moment();
    host.signal("INT");
    host.wait().assert_ok();
    assert!(begin.elapsed() < STOP, "{:?}", begin.elapsed());
    let before = folder.read("labels.ndjson");
    folder.configure("cycle_bytes_max = 4000", "cycle_bytes_max = 1000000");
    folder.run().assert_ok();
    let after = folder.read("labels.ndjson");
    assert!(after.starts_with(&before) && after.len() > before.len(), "it was over before the signal came");
    assert_model(&folder, messages);
}

#[test]
fn a_row_that_a_rule_cannot_read_is_counted_and_the_others_are_exact() {
    let folder = Folder::new();
    folder.write("o.p0.json", order(1, (1, 42), "2000.00") + &order(2, (2, 42), "\"much\""));
    folder.write("o.p1.json", user(3, 42) + &user(4, 43));
    let ended = folder.run_with(&["--stats"]).assert_ok();
    let stats: serde_json::Value = serde_json::from_str(&ended.out).expect("one line of JSON");
    assert_eq!(stats["totals"]["changes"], 4);
    assert_eq!(stats["totals"]["bad_images"], 1);
    let figure = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("{name} in {stats}"));
    // What is durable was waited for: each commit once, and nothing else.
    assert_eq!(figure("fsyncs"), figure("commits"));
    assert!(figure("bytes") > 200 && figure("disk_bytes") > figure("bytes"), "{stats}");
    assert!(ended.err.contains("1 row image(s) did not fit their rule"), "{}", ended.err);
    assert!(ended.err.contains("`retag quarantine ls`"), "{}", ended.err);
    let again = folder.run().assert_ok();
    assert!(!again.err.contains("did not fit"), "those of an earlier run are counted again: {}", again.err);
    assert_eq!(told(&folder), ["42 tier=silver", "43 never_paid"]);
}

#[test]
fn a_wrong_command_line_is_64() {
    let folder = Folder::new();
    folder.retag(&["run", "--until-then"]).assert_error(64, &["--until-then", "--until-end"]);
    folder.retag(&["walk"]).assert_error(64, &["walk"]);
}
