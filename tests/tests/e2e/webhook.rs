//! Webhooks against a real receiver: whatever happens to the host and to the receiver, each message is taken or becomes a dead
//! letter, a batch is the same under its id however often it comes, and what is wrong says so without telling a secret.

use crate::following::{Shop, cpu_ms, follow, status};
use crate::harness::{Folder, Host};
use crate::receiver::{Got, Receiver, Reply, SECRET, id_of};
use retag_host::label::outbox::Place;
use retag_host::sink::message::parse_id;
use retag_tests::simulation::Random;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Of the shop.
pub(crate) const USERS: u64 = 200;

/// A folder whose host posts to `url` too.
pub(crate) fn folder(url: &str, more: &str) -> Folder {
    let folder = Folder::new();
    let sink = format!(
        "[sinks.hook]\ntype = \"webhook\"\nurl = \"{url}\"\nsecret = {{ file = \"secret\" }}\n\
         deliver = \"all\"\n{more}\n[sinks."
    );
    folder.configure("[sinks.", &sink);
    folder.write("secret", format!("{SECRET}\n"));
    folder.write("o.p0.json", "");
    folder.write("o.p1.json", "");
    folder
}

/// The address of a receiver.
fn url(receiver: &Receiver) -> String {
    format!("http://{}/hooks/labels", receiver.address)
}

/// The webhook as the host shows it.
pub(crate) fn hook(folder: &Folder) -> Option<Value> {
    status(folder)?["sinks"].as_array()?.iter().find(|sink| sink["sink"] == "hook").cloned()
}

/// Waits until it waits, and says what for.
pub(crate) fn waits(host: &mut Host, folder: &Folder) -> String {
    host.until("what it waits for", || hook(folder)?["now"]["waits_for"].as_str().map(str::to_owned))
}

/// Waits until everything is read, and the sink beside it has it all; how many messages that are.
pub(crate) fn read(host: &mut Host, folder: &Folder) -> usize {
    host.until("all is read", || {
        let status = status(folder)?;
        let read = status["sources"][0]["partitions"].as_array()?.iter().all(|p| p["lag_bytes"] == 0);
        let written = written(folder).len();
        // The end of the first reading is one more, which is told to who hears of changes alone.
        let told = status["totals"]["transitions"].as_u64()? <= written as u64 + 1;
        (read && told && written > 0).then_some(written)
    })
}

/// Waits until everything is read, and taken or a dead letter.
pub(crate) fn settled(host: &mut Host, folder: &Folder, receiver: &Receiver) {
    let written = read(host, folder);
    host.until("all is delivered", || {
        let taken: BTreeSet<String> = receiver.taken().iter().map(id_of).collect();
        let hook = hook(folder)?;
        let dead = usize::try_from(hook["dead_letters"].as_u64()?).ok()?;
        (taken.len() + dead >= written && hook["now"]["waits_for"].is_null()).then_some(())
    });
}

/// Messages of the NDJSON sink beside it.
fn written(folder: &Folder) -> Vec<Value> {
    folder.read("labels.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The dead letters.
pub(crate) fn letters(folder: &Folder) -> Vec<Value> {
    let listed = folder.retag(&["sink", "dead", "ls", "hook", "--limit", "1000", "-o", "json"]).assert_ok();
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    let letters = listed["letters"].as_array().unwrap().clone();
    assert_eq!(listed["dead_letters"], letters.len());
    letters
}

fn place(message: &Value) -> Place {
    parse_id(&id_of(message)).unwrap().1
}

/// Messages that the receiver does not want, whatever they come with.
fn is_unwanted(message: &Value) -> bool {
    message["key"].as_str().unwrap().ends_with('7')
}

/// A receiver that takes what it wants if it is in the mood.
fn moody(seed: u64) -> impl FnMut(&Got) -> Reply + Send + 'static {
    let mut random = Random(seed);
    move |got| match random.below(20) {
        0 => 500.into(),
        1 => 0.into(),
        2 => Reply { status: 429, head: "retry-after: 0\r\n".into(), ..Reply::default() },
        3 => Reply { status: 503, body: "come back later".into(), ..Reply::default() },
        _ if got.messages.iter().any(is_unwanted) => {
            Reply { status: 400, body: "no".into(), ..Reply::default() }
        }
        // Taken, and nobody hears of it.
        4 => Reply { status: 204, delay: Duration::from_millis(400), ..Reply::default() },
        _ => 204.into(),
    }
}

/// All that was written is taken or a dead letter; in order of each key; the same under the same id.
fn assert_all_there(folder: &Folder, receiver: &Receiver) {
    let written = written(folder);
    let by_id: BTreeMap<String, &Value> = written.iter().map(|message| (id_of(message), message)).collect();
    let taken: BTreeSet<String> = receiver.taken().iter().map(id_of).collect();
    let dead: BTreeSet<String> = letters(folder).iter().map(|letter| id_of(&letter["message"])).collect();
    assert!(taken.len() > 100 && dead.len() > 5, "{} taken, {} dead", taken.len(), dead.len());
    assert!(taken.is_disjoint(&dead));
    assert_eq!(taken.union(&dead).cloned().collect::<BTreeSet<_>>(), by_id.keys().cloned().collect());
    let (mut of_batch, mut batches_of) = (BTreeMap::new(), BTreeMap::<String, BTreeSet<String>>::new());
    let mut last: BTreeMap<String, Place> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for got in receiver.got() {
        for message in &got.messages {
            assert_eq!(Some(&message), by_id.get(&id_of(message)), "another message under its id");
            if got.messages.len() > 1 {
                batches_of.entry(id_of(message)).or_default().insert(got.id().to_owned());
            }
            if got.is_taken() && seen.insert(id_of(message)) {
                let key = message["key"].as_str().unwrap().to_owned();
                let before = last.insert(key, place(message));
                assert!(before < Some(place(message)), "out of order: {message}");
            }
        }
        let before = of_batch.entry(got.id().to_owned()).or_insert(got.ids()).clone();
        assert_eq!(before, got.ids(), "other messages under the id of a batch");
    }
    let moved: Vec<_> = batches_of.iter().filter(|(_, batches)| batches.len() > 1).collect();
    assert!(moved.is_empty(), "messages in more than one batch: {moved:?}");
}

#[test]
fn webhook_messages_are_taken_or_dead_letters_however_host_and_receiver_fail() {
    for seed in [21, 22] {
        let receiver = Receiver::start(moody(seed));
        let folder = folder(&url(&receiver), "batch_max = 7\ntimeout_ms = 300");
        folder.configure("[engine]", "[engine]\ncycle_bytes_max = 20000\nblock_bytes = 4000");
        let (mut shop, mut random) = (Shop::new(seed, USERS), Random(seed));
        for step in ["delivery:1", "delivery:9", "block-write:6", "fsync:5", "delivery:4", "signal", "signal"]
        {
            shop.write(&folder, 250);
            if step == "signal" {
                let mut host = follow(&folder);
                let before = receiver.got().len() + usize::try_from(random.below(12)).unwrap();
                host.until("some requests", || (receiver.got().len() > before).then_some(()));
                host.signal("KILL");
                assert!(!host.wait().status.success());
                continue;
            }
            let killed = folder.start(&["run", "--until-end"], &[("RETAG_FAILPOINT", step)]).wait();
            assert!(!killed.status.success(), "{step}: it was over before it could be killed");
        }
        folder.run().assert_ok();
        assert_all_there(&folder, &receiver);
        println!("seed {seed}: {} requests", receiver.got().len());
    }
}

#[test]
fn webhook_receivers_that_are_away_hold_back_nothing_else() {
    let receiver = Receiver::start(|_| 200.into());
    let (address, to) = (receiver.address, url(&receiver));
    drop(receiver);
    let folder = folder(&to, "");
    let mut shop = Shop::new(31, USERS);
    shop.write(&folder, 500);
    let mut host = follow(&folder);
    let waits = waits(&mut host, &folder);
    assert!(waits.contains(&to) && waits.contains("no connection"), "{waits}");
    let told = folder.retag(&["status"]).out;
    assert!(told.starts_with(&format!("error: sink hook waits for {to}")), "{told}");
    let before = cpu_ms(host.pid());
    std::thread::sleep(Duration::from_secs(3)); // the event is the time itself
    let used = cpu_ms(host.pid()) - before;
    assert!(used < 300, "{used} ms of processor time in 3 s of waiting");
    let had = written(&folder).len();
    shop.write(&folder, 500);
    host.until("the sink beside it goes on", || (written(&folder).len() > had).then_some(()));
    let receiver = Receiver::listen(address, None, true, |_| 200.into());
    settled(&mut host, &folder, &receiver);
    host.signal("TERM");
    let said = host.wait().assert_ok().err;
    assert!(
        said.contains("sink hook waits for") && said.contains("sink hook takes messages again"),
        "{said}"
    );
    let ids = |messages: &[Value]| messages.iter().map(id_of).collect::<Vec<_>>();
    assert_eq!(ids(&receiver.taken()), ids(&written(&folder)), "all, in order, once");
}

#[test]
fn webhook_answers_about_the_address_make_no_dead_letters() {
    let elsewhere = Receiver::start(|_| 200.into());
    let receiver = Receiver::start(|_| 200.into());
    let folder = folder(&url(&receiver), "");
    Shop::new(32, USERS).write(&folder, 200);
    let target = url(&elsewhere);
    for (status, says) in [
        (401, "other rights"),
        (404, "nothing takes webhooks"),
        (410, "nothing takes webhooks"),
        (302, "redirects"),
        (409, "not now"),
        (503, "it fails (503): in a minute"),
    ] {
        let head = format!("location: {target}\r\n");
        receiver.answer(move |_| Reply {
            status,
            head: head.clone(),
            body: "in a minute".into(),
            ..Reply::default()
        });
        let mut host = follow(&folder);
        let waits = waits(&mut host, &folder);
        assert!(waits.contains(says), "{status}: {waits}");
        assert_eq!(hook(&folder).unwrap()["dead_letters"], 0);
        host.signal("TERM");
        host.wait().assert_ok();
    }
    assert!(elsewhere.got().is_empty(), "a redirect was followed");
    let ids: BTreeSet<String> = receiver.got().iter().map(|got| got.id().to_owned()).collect();
    assert_eq!(ids.len(), 1, "a batch that was never taken had more than one id");
    receiver.answer(|_| 202.into());
    folder.run().assert_ok();
    assert_eq!(receiver.taken().len(), written(&folder).len());
}

#[test]
fn webhook_receivers_are_left_alone_as_long_as_they_ask() {
    let (mut first, mut again) = (None, None);
    let (told, times) = std::sync::mpsc::channel();
    let receiver = Receiver::start(move |_| {
        let now = retag_host::clock::moment();
        if first.is_none() {
            first = Some(now);
            return Reply { status: 429, head: "retry-after: 2\r\n".into(), ..Reply::default() };
        }
        let again = *again.get_or_insert(now);
        let _ = told.send(again - first.unwrap());
        204.into()
    });
    let folder = folder(&url(&receiver), "");
    Shop::new(33, USERS).write(&folder, 100);
    folder.run().assert_ok();
    let waited = times.recv().unwrap();
    assert!((1_900..4_000).contains(&waited.as_millis()), "{waited:?}");
}

#[test]
fn webhook_batches_nobody_takes_in_time_become_dead_letters() {
    let fails = |message: &Value| message["key"].as_str().unwrap().ends_with(['3', '7']);
    let receiver =
        Receiver::start(move |got| if got.messages.iter().any(fails) { 500.into() } else { 200.into() });
    let folder = folder(&url(&receiver), "batch_max = 3\nretry_for_s = 1");
    Shop::new(34, USERS).write(&folder, 120);
    folder.run().assert_ok();
    let dead = letters(&folder);
    assert!(!dead.is_empty() && dead.iter().any(|letter| fails(&letter["message"])));
    let why = dead[0]["reason"].as_str().unwrap();
    assert!(why.contains("tried for 1 s") || why.contains("tried for 2 s"), "{why}");
    assert!(dead[0]["status"].is_null());
    assert_eq!(receiver.taken().len() + dead.len(), written(&folder).len());
}
