//! Batches that come doubled, reversed and interleaved from two writers: no value in Redis ever turns back, and every one is one
//! that was written as of its version.

use redis::TypedCommands as _;
use retag_host::config::{RedisConfig, Setting};
use retag_host::sink::redis::Redis as Sink;
use retag_host::sink::{LabelSet, Labels, Owner, StateSink as _, Version};
use retag_servers::Redis;
use retag_tests::simulation::Random;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const KEYS: u64 = 12;
const COMMITS: u64 = 120;
const TIERS: [&str; 3] = ["bronze", "silver", "gold"];

/// The labels of a key as of a commit, as numbers: 0 = none, then a tier or a flag.
type History = BTreeMap<(u64, u64), u64>;

fn set(key: u64, commit: u64, labels: u64) -> LabelSet<'static> {
    let tier = |n: u64| Some(("tier", Some(TIERS[usize::try_from(n).unwrap()])));
    let of = match labels {
        0 => None,
        1..=3 => tier(labels - 1),
        _ => Some(("never_paid", None)),
    };
    let labels = of.into_iter().collect::<Labels<'static>>();
    LabelSet { entity: "user", key: key.to_string(), labels, version: Version { epoch: 1, commit } }
}

/// What a commit changed: keys with their labels.
type Batch = Vec<LabelSet<'static>>;

fn batches(random: &mut Random) -> (History, Vec<Batch>) {
    let (mut history, mut batches) = (History::new(), Vec::new());
    for commit in 1..=COMMITS {
        let mut batch = Batch::new();
        for key in (0..KEYS).filter(|_| random.below(3) == 0).collect::<Vec<_>>() {
            let labels = random.below(5);
            history.insert((key, commit), labels);
            batch.push(set(key, commit, labels));
        }
        batches.push(batch);
    }
    (history, batches)
}

/// Writes the batches in order, doubled, with old ones in between, and at last all of them in reverse.
fn write(sink: &mut Sink, batches: &[Batch], random: &mut Random) {
    for n in 0..batches.len() {
        let before = usize::try_from(random.below(n as u64 + 1)).unwrap();
        for at in [n, n, before, n.saturating_sub(1)] {
            sink.put(&batches[at], random.below(2) == 0).unwrap();
        }
    }
    batches.iter().rev().for_each(|batch| sink.put(batch, false).unwrap());
    assert!(sink.is_whole());
}

pub(crate) fn whatever_is_sent_again_no_value_turns_back() {
    let server = Redis::start().unwrap();
    let url = server.url();
    let config =
        RedisConfig { url: Setting::Text(url.clone()), cluster: false, prefix: "retag".into(), buckets: 4 };
    let owner = Owner { state_id: "replay".into(), epoch: 1, ..Owner::default() };
    let open = || {
        let mut sink = Sink::new("redis", &config, vec![url.clone()]).unwrap();
        sink.resume(&owner, None, COMMITS).unwrap();
        sink
    };
    for seed in 0..4 {
        server.command(&["FLUSHALL"]).unwrap();
        let mut reader = open();
        reader.begin_fill(true).unwrap();
        reader.end_fill().unwrap();
        let (history, batches) = batches(&mut Random(seed));
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(&url, &history, &ended));
            let writer = |n| {
                let (mut sink, mut random, batches) = (open(), Random(seed * 10 + n), &batches);
                scope.spawn(move || write(&mut sink, batches, &mut random))
            };
            let writers = [writer(0), writer(1)];
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            ended.store(true, Ordering::SeqCst);
            let looks = watcher.join().unwrap();
            assert!(looks > 20, "only {looks} looks");
        });
        for key in 0..KEYS {
            let last = history.range((key, 0)..=(key, COMMITS)).next_back();
            let Some(((_, commit), labels)) = last else { continue };
            let text = key.to_string();
            let found = reader.get(&[("user", &text)]).unwrap().remove(0).unwrap();
            assert!(set(key, *commit, *labels).is(Some(&found)), "key {key}: {found:?}");
            assert_eq!(found.version, Version { epoch: 1, commit: *commit });
        }
    }
}

/// Looks at all records until the end; how often.
fn watch(url: &str, history: &History, ended: &AtomicBool) -> u64 {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut looks = 0;
    while !ended.load(Ordering::SeqCst) {
        for bucket in 0..4 {
            for (key, record) in connection.hgetall(format!("{{retag:{bucket}}}:user")).unwrap() {
                let read: serde_json::Value = serde_json::from_str(&record).unwrap();
                let commit = read["v"][1].as_u64().unwrap();
                let labels = history[&(key.parse().unwrap(), commit)];
                let labels = set(key.parse().unwrap(), commit, labels).labels;
                let shown = labels.iter().map(|(label, value)| match value {
                    Some(value) => format!("\"{label}\":\"{value}\""),
                    None => format!("\"{label}\":true"),
                });
                let shown: Vec<String> = shown.collect();
                assert_eq!(record, format!(r#"{{"v":[1,{commit}],"labels":{{{}}}}}"#, shown.join(",")));
                let before = seen.insert(key.clone(), commit);
                assert!(before <= Some(commit), "key {key} turned back from {before:?} to {commit}");
            }
        }
        looks += 1;
        std::thread::sleep(Duration::from_micros(200));
    }
    looks
}
