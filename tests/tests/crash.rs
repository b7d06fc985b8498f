//! kill −9 of the real binary, over and over on one state: nothing is lost, nothing counts twice, and each transition is
//! delivered exactly once.
//!
//! Most kills are asked for by `RETAG_FAILPOINT`, so that it is known which step each fell into; the others come at
//! random times. Before every restart more than 1,000 applied messages are sent again at the end of the files, behind
//! them new ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

#[allow(dead_code)] // this binary needs only a part of it
#[path = "e2e/harness.rs"]
mod harness;

use harness::Folder;
use retag_host::clock::moment;
use retag_host::failpoint::Step;
use retag_host::label::outbox::Place;
use retag_host::pipeline::setup::stored_positions;
use retag_host::sink::message::parse_id;
use retag_host::state::{FjallStore, StateWriter, Table, View};
use retag_tests::model::{MapSide, Params};
use retag_tests::rule_file::baskets;
use retag_tests::shop::{Config, Generator};
use retag_tests::simulation::{Outcome, Random, assert_exact, assert_kept, assert_labels, registry};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::Duration;

const FILES: [&str; 2] = ["o.p0.json", "o.p1.json"];
const RULES: &[&str] = &["payer", "red_packet"];
/// Kills of each of the seven kinds: 56 in all.
const KILLS_EACH: u64 = 8;
/// Rounds in which that many must have been possible.
const ROUNDS_MAX: u64 = 200;
const SIGKILL: i32 = 9;
const RANDOM_TIME: &str = "random time";

/// What is read: the stream, what of it lies in the files, and where each line ends.
struct Log {
    stream: Generator,
    lines: [Vec<(u64, Vec<u8>)>; 2],
}

impl Log {
    fn append(&mut self, folder: &Folder, partition: usize, messages: &[Vec<u8>]) {
        let lines = &mut self.lines[partition];
        let mut end = lines.last().map_or(0, |(end, _)| *end);
        let mut text = Vec::new();
        for message in messages {
            end += message.len() as u64 + 1;
            lines.push((end, message.clone()));
            text.extend_from_slice(message);
            text.push(b'\n');
        }
        folder.append(FILES[partition], text);
    }

    /// Appends new messages of the stream.
    fn append_new(&mut self, folder: &Folder, count: usize) {
        let mut new = [Vec::new(), Vec::new()];
        for message in self.stream.by_ref().take(count) {
            new[message.partition as usize].push(message.json);
        }
        for (partition, messages) in new.iter().enumerate() {
            self.append(folder, partition, messages);
        }
    }

    /// Appends the last messages below the applied positions again, to their own partition or to the other one;
    /// returns how many.
    fn append_again(&mut self, folder: &Folder, applied: [u64; 2], shift: usize) -> usize {
        let tails = [0, 1].map(|partition| {
            let lines = &self.lines[partition];
            let known = lines.partition_point(|(end, _)| *end <= applied[partition]);
            let tail = &lines[known.saturating_sub(510)..known];
            tail.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>()
        });
        for (partition, tail) in tails.iter().enumerate() {
            self.append(folder, (partition + shift) % 2, tail);
        }
        tails.iter().map(Vec::len).sum()
    }
}

/// What a kill left in the store.
struct Found {
    commit: u64,
    applied: [u64; 2],
    /// Oldest block by shard: it moves up when a fold of the shard is complete.
    oldest: BTreeMap<u8, u64>,
}

/// The durable view; it holds the store open.
fn view(folder: &Folder) -> Arc<View> {
    let store = FjallStore::open(&folder.path("data/store")).expect("a store that opens after a kill");
    StateWriter::open(Arc::new(store)).expect("a state that opens after a kill").1
}

fn look(folder: &Folder) -> Found {
    let view = view(folder);
    let positions = stored_positions(&view).expect("positions that read");
    let applied = FILES.map(|file| {
        let found = positions.partitions.iter().find(|(partition, _)| partition.name == file);
        found.map_or(0, |(_, position)| *position)
    });
    let mut oldest = BTreeMap::new();
    view.rows(Table::Blocks, &[], None, &mut |key, _| {
        oldest.entry(key[0]).or_insert(u64::from_be_bytes(key[1..].try_into().expect("a commit")));
        true
    })
    .expect("blocks that read");
    Found { commit: view.commit(), applied, oldest }
}

/// Folds that were completed between two looks, at least.
fn folds(before: &BTreeMap<u8, u64>, after: &BTreeMap<u8, u64>) -> usize {
    before.iter().filter(|(shard, oldest)| after.get(shard).is_none_or(|now| now > oldest)).count()
}

/// The whole lines of the sink's file: (place, message).
fn delivered(text: &str) -> Vec<(Place, serde_json::Value)> {
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let read = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).expect("a line is a message");
        let place = parse_id(message["id"].as_str().expect("an id")).expect("an id of a state").1;
        (place, message)
    };
    whole.lines().map(read).collect()
}

/// One run that is to be killed: by the fail point at its `number`-th hit, or at a random time. False = it ended before.
fn kill(folder: &Folder, kind: &str, number: u64) -> bool {
    kill_with(folder, &[], kind, number)
}

/// [`kill`] with more arguments.
fn kill_with(folder: &Folder, more: &[&str], kind: &str, number: u64) -> bool {
    let args = [&["run", "--config", "retag.toml", "--until-end"], more].concat();
    let ended = if kind == RANDOM_TIME {
        let host = folder.start(&args, &[]);
        std::thread::sleep(Duration::from_millis(number)); // the event is the time itself
        host.signal("KILL");
        host.wait()
    } else {
        folder.start(&args, &[("RETAG_FAILPOINT", &format!("{kind}:{number}"))]).wait()
    };
    let killed = ended.status.signal() == Some(SIGKILL);
    assert!(killed || ended.status.success(), "{kind}:{number}: {:?}: {}", ended.status, ended.err);
    killed
}

/// Hits that a round surely has, or milliseconds.
fn number_max(kind: &str) -> u64 {
    match kind {
        "decode" => 60,
        "block-write" | "fsync" => 25,
        "delivery" | "torn-line" => 8,
        "fold" => 3,
        _ => 500,
    }
}

fn folder() -> Folder {
    let folder = Folder::new();
    let engine = "[engine]\ncycle_bytes_max = 16000\nblock_bytes = 4000";
    folder.configure("[engine]", engine);
    folder.configure("[sinks.out]", "[rules.red_packet]\npath = \"red_packet.wasm\"\n[sinks.out]");
    folder
}

#[test]
fn kills_in_every_step_lose_nothing_and_double_nothing() {
    let folder = folder();
    let config = Config { seed: 11, events: 10_000_000, users: 400, ..Config::default() };
    let mut log = Log { stream: Generator::new(config), lines: [Vec::new(), Vec::new()] };
    log.append_new(&folder, 2_000);
    folder.run().assert_ok();
    // No lane is open here: `kills_in_a_lane_lose_nothing_and_double_nothing`.
    let steps = Step::ALL.iter().map(|(name, _)| *name).filter(|name| *name != "lane");
    let kinds: Vec<&str> = steps.chain([RANDOM_TIME]).collect();
    let mut kills: BTreeMap<&str, u64> = kinds.iter().map(|kind| (*kind, 0)).collect();
    let mut random = Random(5);
    let (mut turn, mut rounds, mut folded, mut resent) = (0, 0, 0, 0);
    let mut found = look(&folder);
    let begin = moment();
    while kills.values().any(|kills| *kills < KILLS_EACH) {
        let kind = kinds[turn % kinds.len()];
        turn += 1;
        if kills[kind] >= KILLS_EACH {
            continue;
        }
        rounds += 1;
        assert!(rounds <= ROUNDS_MAX, "too few kills in {ROUNDS_MAX} rounds: {kills:?}");
        let again = log.append_again(&folder, found.applied, usize::from(random.below(2) == 1));
        assert!(again >= 1_000, "{again} messages were sent again");
        resent += again;
        log.append_new(&folder, 700);
        let told = folder.read("labels.ndjson");
        if kill(&folder, kind, 1 + random.below(number_max(kind))) {
            *kills.entry(kind).or_default() += 1;
        }
        let whole = &told[..told.rfind('\n').map_or(0, |end| end + 1)];
        assert!(folder.read("labels.ndjson").starts_with(whole), "what was delivered changed");
        let now = look(&folder);
        let went_on = now.applied.iter().zip(found.applied).all(|(now, before)| *now >= before);
        assert!(went_on && now.commit >= found.commit, "a kill took a commit back");
        folded += folds(&found.oldest, &now.oldest);
        found = now;
    }
    folder.run().assert_ok();
    report(&kills, rounds, resent, begin.elapsed());
    check(&folder, &log, folded);
}

fn report(kills: &BTreeMap<&str, u64>, rounds: u64, resent: usize, took: Duration) {
    println!("kills by step, {rounds} rounds, {resent} messages sent again, {took:.1?}:");
    kills.iter().for_each(|(kind, kills)| println!("  {kind:<12} {kills:>3}"));
}

fn check(folder: &Folder, log: &Log, folded: usize) {
    let outcome = outcome(folder, log);
    println!("{} commits, at least {folded} folds", outcome.view.commit());
    println!("{} transitions delivered", outcome.delivered.len());
    assert!(outcome.view.commit() >= 100, "{} commits", outcome.view.commit());
    assert!(folded >= 3, "{folded} folds");
    assert_exact(outcome, RULES);
}

fn outcome(folder: &Folder, log: &Log) -> Outcome {
    let delivered = delivered(&folder.read("labels.ndjson"));
    let lines = log.lines.iter().flatten().map(|(_, line)| line.clone());
    Outcome { view: view(folder), messages: lines.collect(), delivered, forgetful: false }
}

/// A changed parameter is swept over all keys; killed in each of its commits, it goes on and tells each change once.
#[test]
fn kills_in_a_sweep_lose_nothing_and_double_nothing() {
    let folder = folder();
    let config = Config { seed: 12, events: 3_000, users: 400, ..Config::default() };
    let mut log = Log { stream: Generator::new(config), lines: [Vec::new(), Vec::new()] };
    log.append_new(&folder, 3_000);
    folder.run().assert_ok();
    let mut min = 500_000;
    for kind in ["block-write", "fsync", "delivery", "torn-line"] {
        let before = format!("\"{}.00\"", min / 100);
        min -= 100_000;
        folder.configure(&before, &format!("\"{}.00\"", min / 100));
        let killed = (1..=3).filter(|number| kill(&folder, kind, *number)).count();
        assert!(killed >= 1, "{kind}: the sweep was over before it could be killed");
        folder.run().assert_ok();
        let params = Params { big_spender_min: min, ..Params::default() };
        assert_labels(outcome(&folder, &log), "payer", &params);
    }
}

/// A rebuild of a rule's history, killed in each step, goes on where its last commit was.
#[test]
fn kills_in_a_rebuild_lose_nothing_and_double_nothing() {
    let folder = folder();
    let config = folder.read("retag.toml");
    let rule = "[rules.red_packet]\npath = \"red_packet.wasm\"\n";
    folder.configure(rule, "");
    let stream = Config { seed: 13, events: 3_000, users: 400, resend_percent: 30, ..Config::default() };
    let mut log = Log { stream: Generator::new(stream), lines: [Vec::new(), Vec::new()] };
    log.append_new(&folder, 3_000);
    folder.run().assert_ok();
    folder.write("retag.toml", config);
    let rebuild = ["--rebuild", "red_packet"];
    let mut killed = 0;
    for kind in ["decode", "block-write", "fsync"].repeat(3) {
        killed += usize::from(kill_with(&folder, &rebuild, kind, 7));
    }
    assert!(killed >= 6, "{killed} kills: the rebuild was over before it could be killed");
    log.append_again(&folder, look(&folder).applied, 1);
    folder.run_with(&rebuild).assert_ok();
    assert_exact(outcome(&folder, &log), RULES);
}

/// History that is read beside the stream, killed in each step, while messages from before the fence are sent again behind
/// it: both revisions are exact, and the sink.
#[test]
fn kills_in_a_lane_lose_nothing_and_double_nothing() {
    let folder = folder();
    let stream = Config { seed: 14, events: 10_000_000, users: 400, resend_percent: 30, ..Config::default() };
    let mut log = Log { stream: Generator::new(stream), lines: [Vec::new(), Vec::new()] };
    log.append_new(&folder, 4_000);
    folder.run().assert_ok();
    let payer = std::fs::read(folder.path("payer.wasm")).unwrap();
    folder.write("baskets.wasm", baskets(&payer));
    folder.retag(&["rule", "push", "baskets.wasm"]).assert_ok();
    folder.retag(&["rule", "prepare", "payer@2"]).assert_ok();
    let filling = |folder: &Folder| registry(&view(folder)).namespaces.iter().any(|n| n.filling);
    let mut random = Random(6);
    let mut in_lane = 0;
    for kind in ["lane", "block-write", "fsync"].repeat(3) {
        log.append_again(&folder, look(&folder).applied, usize::from(random.below(2) == 1));
        log.append_new(&folder, 100);
        let killed = kill(&folder, kind, 1 + random.below(8));
        in_lane += usize::from(killed && filling(&folder));
    }
    assert!(in_lane >= 8, "{in_lane} kills: the lane was over before it could be killed");
    folder.run().assert_ok();
    assert!(!filling(&folder));
    let exact = |log: &Log| {
        let outcome = outcome(&folder, log);
        let side = |number| if number == 1 { MapSide::States } else { MapSide::Baskets };
        let of_state = registry(&outcome.view);
        let revisions = of_state.revisions.iter().filter(|r| r.rule == "payer");
        let sides = revisions.map(|r| (r.namespace_id.clone(), side(r.number))).collect();
        assert_kept(&outcome, true, &sides, &[]);
    };
    exact(&log);
    folder.retag(&["rule", "activate", "payer@2"]).assert_ok();
    for kind in ["delivery", "fsync", "block-write"] {
        kill(&folder, kind, 2);
    }
    log.append_new(&folder, 300);
    folder.run().assert_ok();
    exact(&log);
    folder.retag(&["rule", "rollback", "payer"]).assert_ok();
    kill(&folder, "fsync", 3);
    folder.run().assert_ok();
    exact(&log);
}

/// A test that asks for a kill and gets none would prove nothing.
#[test]
fn a_fail_point_that_does_not_exist_is_refused() {
    let folder = folder();
    folder.write(FILES[0], "");
    folder.write(FILES[1], "");
    let host =
        folder.start(&["run", "--config", "retag.toml", "--until-end"], &[("RETAG_FAILPOINT", "fsink:3")]);
    host.wait().assert_error(64, &["fsink:3", "fsync"]);
}
