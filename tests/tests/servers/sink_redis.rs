//! Redis as a state sink, against real servers: whatever happens to the host and to Redis, in the end it holds what the state
//! says, and nothing in it ever turns back.

use crate::following::{Shop, cpu_ms, end, follow, status};
use crate::harness::{Folder, Host};
use redis::cluster::{ClusterClient, ClusterConnection};
use redis::{Connection, ConnectionLike, TypedCommands as _};
use retag_host::clock::moment;
use retag_host::state::{FjallStore, StateWriter};
use retag_servers::{Redis, RedisCluster, Service as _};
use retag_tests::simulation::{LabelSets, label_sets, registry};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const BUCKETS: u16 = 256;
/// Of the shop.
const USERS: u64 = 400;

/// A folder whose host keeps its labels in Redis too.
pub(crate) fn folder(url: &str, more: &str) -> Folder {
    let folder = Folder::new();
    let sink = format!("[sinks.redis]\ntype = \"redis\"\nurl = \"{url}\"\n{more}\n\n[sinks.");
    folder.configure("[sinks.", &sink);
    folder.write("o.p0.json", "");
    folder.write("o.p1.json", "");
    folder
}

/// What the state says; no host runs.
fn expected(folder: &Folder) -> LabelSets {
    let store = FjallStore::open(&folder.path("data/store")).unwrap();
    let view = StateWriter::open(Arc::new(store)).unwrap().1;
    label_sets(&registry(&view), &view)
}

/// What lies in Redis: records, checked against the sets of members.
pub(crate) fn held(connection: &mut impl ConnectionLike) -> LabelSets {
    let mut sets = LabelSets::new();
    let mut by_records: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut by_members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for bucket in 0..BUCKETS {
        let facts: BTreeMap<String, String> =
            query(connection, &["HGETALL", &format!("{{retag:{bucket}}}:facts")]);
        for name in facts.keys().filter_map(|name| name.strip_prefix("members:")) {
            let members: BTreeSet<String> =
                query(connection, &["SMEMBERS", &format!("{{retag:{bucket}}}:{name}")]);
            by_members.entry(name.to_owned()).or_default().extend(members);
        }
        for entity in facts.keys().filter_map(|name| name.strip_prefix("records:")) {
            let records: BTreeMap<String, String> =
                query(connection, &["HGETALL", &format!("{{retag:{bucket}}}:{entity}")]);
            for (key, record) in records {
                let record: Value = serde_json::from_str(&record).unwrap();
                let labels = record["labels"].as_object().unwrap();
                for (label, value) in labels {
                    let value = value.as_str().map(str::to_owned);
                    let set = value.as_ref().map_or(label.clone(), |value| format!("{label}={value}"));
                    by_records.entry(format!("{entity}:{set}")).or_default().insert(key.clone());
                    sets.entry((entity.to_owned(), key.clone())).or_default().insert(label.clone(), value);
                }
            }
        }
    }
    by_members.retain(|_, members| !members.is_empty());
    assert_eq!(by_members, by_records, "members and records differ");
    sets
}

fn query<T: redis::FromRedisValue>(connection: &mut impl ConnectionLike, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(connection).unwrap()
}

pub(crate) fn single(server: &Redis) -> Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

fn cluster(servers: &RedisCluster) -> ClusterConnection {
    ClusterClient::new(servers.urls()).unwrap().get_connection().unwrap()
}

/// The sink as the host shows it.
fn sink(folder: &Folder) -> Option<Value> {
    status(folder)?["sinks"].as_array()?.iter().find(|sink| sink["sink"] == "redis").cloned()
}

/// Waits until everything is read and delivered, and Redis is whole.
fn settled(host: &mut Host, folder: &Folder) {
    host.until("all is delivered", || {
        let status = status(folder)?;
        let read = status["sources"][0]["partitions"].as_array()?.iter().all(|p| p["lag_bytes"] == 0);
        let sink = sink(folder)?;
        let whole = sink["now"]["whole"] == true && sink["now"]["doing"] == "delivering";
        (read && whole && sink["now"]["waits_for"].is_null()).then_some(())
    });
}

fn assert_holds(folder: &Folder, connection: &mut impl ConnectionLike) {
    folder.run().assert_ok();
    let expected = expected(folder);
    assert!(expected.len() > 50, "only {} keys have labels", expected.len());
    assert_eq!(held(connection), expected);
}

/// Portions of a log, each read by a host that is killed somewhere.
fn killed(folder: &Folder, seed: u64) {
    let mut shop = Shop::new(seed, USERS);
    folder.configure("[engine]", "[engine]\ncycle_bytes_max = 20000\nblock_bytes = 4000");
    for step in ["delivery:1", "delivery:7", "block-write:6", "fsync:5", "delivery:3", "signal"] {
        shop.write(folder, 1_500);
        if step == "signal" {
            let mut host = follow(folder);
            host.until("a commit", || (status(folder)?["commit"].as_u64()? > 0).then_some(()));
            host.signal("KILL");
            assert!(!host.wait().status.success());
            continue;
        }
        let killed = folder.start(&["run", "--until-end"], &[("RETAG_FAILPOINT", step)]).wait();
        assert!(!killed.status.success(), "{step}: it was over before it could be killed");
    }
}

pub(crate) fn labels_are_there_however_the_host_is_killed() {
    let server = Redis::start().unwrap();
    let folder = folder(&server.url(), "");
    killed(&folder, 11);
    assert_holds(&folder, &mut single(&server));
    // One round trip for the labels of a key, as the documentation has it.
    let (place, labels) = expected(&folder).pop_first().unwrap();
    let bucket = crc32(place.1.as_bytes()) % u32::from(BUCKETS);
    let record = single(&server).hget(format!("{{retag:{bucket}}}:{}", place.0), &place.1).unwrap().unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["labels"].as_object().unwrap().len(), labels.len());
}

pub(crate) fn a_cluster_holds_the_same_however_host_and_nodes_are_killed() {
    let mut servers = RedisCluster::start(3).unwrap();
    let folder = folder(&servers.urls().join(","), "cluster = true");
    killed(&folder, 12);
    assert_holds(&folder, &mut cluster(&servers));
    let mut shop = Shop::new(13, USERS);
    let mut host = follow(&folder);
    for node in 0..3 {
        shop.write(&folder, 1_000);
        servers.nodes[node].kill().unwrap();
        servers.nodes[node].restart().unwrap();
        servers.until_whole().unwrap();
    }
    // One node forgets everything: its buckets are filled again, the others stay as they are.
    servers.nodes[1].command(&["FLUSHALL"]).unwrap();
    shop.write(&folder, 1_000);
    settled(&mut host, &folder);
    folder.retag(&["sink", "verify", "redis"]).assert_ok();
    end(host);
    assert_holds(&folder, &mut cluster(&servers));
}

/// CRC-32 (ISO-HDLC), as docs/redis.md says it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & 0_u32.wrapping_sub(crc & 1)))
    };
    !bytes.iter().fold(!0, step)
}

pub(crate) fn a_server_that_is_away_holds_back_nothing_but_its_own() {
    let mut server = Redis::start().unwrap();
    let folder = folder(&server.url(), "");
    let mut shop = Shop::new(14, USERS);
    shop.write(&folder, 2_000);
    // It is away when the host starts.
    server.stop().unwrap();
    let mut host = follow(&folder);
    let changes = |folder: &Folder| status(folder)?["totals"]["changes"].as_u64();
    host.until("the first changes", || (changes(&folder)? > 1_000).then_some(()));
    for kill in [false, true] {
        let waits = host
            .until("what it waits for", || sink(&folder)?["now"]["waits_for"].as_str().map(str::to_owned));
        assert!(waits.contains("127.0.0.1"), "{waits}");
        let told = folder.retag(&["status"]).out;
        assert!(told.starts_with("error: sink redis waits for Redis at 127.0.0.1"), "{told}");
        let before = cpu_ms(host.pid());
        std::thread::sleep(Duration::from_secs(3)); // the event is the time itself
        let used = cpu_ms(host.pid()) - before;
        assert!(used < 300, "{used} ms of processor time in 3 s of waiting");
        let had = changes(&folder).unwrap();
        shop.write(&folder, 1_000);
        host.until("aggregates go on", || (changes(&folder)? > had + 500).then_some(()));
        server.restart().unwrap();
        let back = moment();
        settled(&mut host, &folder);
        println!(
            "{used} ms of processor time in 3 s of waiting; all was there {:?} after the return",
            back.elapsed()
        );
        assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
        if kill { server.kill() } else { server.stop() }.unwrap();
        shop.write(&folder, 500);
    }
    server.restart().unwrap();
    settled(&mut host, &folder);
    host.signal("TERM");
    let said = host.wait().assert_ok().err;
    assert!(
        said.contains("sink redis waits for") && said.contains("sink redis takes messages again"),
        "{said}"
    );
    assert_holds(&folder, &mut single(&server));
}

pub(crate) fn what_is_lost_comes_again_by_itself() {
    let server = Redis::start().unwrap();
    let folder = folder(&server.url(), "");
    let mut shop = Shop::new(15, USERS);
    shop.write(&folder, 2_000);
    let mut host = follow(&folder);
    settled(&mut host, &folder);
    for under_load in [true, true, false] {
        if under_load {
            shop.write(&folder, 500);
        }
        server.command(&["FLUSHALL"]).unwrap();
        if under_load {
            shop.write(&folder, 1_500);
        }
        let whole = |folder: &Folder| Some(sink(folder)?["now"]["whole"] == true);
        host.until("labels that came again", || {
            (whole(&folder)? && server.command(&["DBSIZE"]).ok()? != "0").then_some(())
        });
        settled(&mut host, &folder);
        folder.retag(&["sink", "verify", "redis"]).assert_ok();
    }
    // Lost while no host runs.
    end(host);
    server.command(&["FLUSHALL"]).unwrap();
    assert_holds(&folder, &mut single(&server));
}

/// Where the record of a user lies, and its key.
fn record_of(key: &str) -> (String, String) {
    let bucket = crc32(key.as_bytes()) % u32::from(BUCKETS);
    (format!("{{retag:{bucket}}}:user"), key.to_owned())
}

/// Writes a record behind the host's back.
fn record(server: &Redis, key: &str, text: &str) {
    let (hash, key) = record_of(key);
    server.command(&["HSET", &hash, &key, text]).unwrap();
    server.command(&["HSET", &hash.replace(":user", ":facts"), "records:user", "1"]).unwrap();
}

pub(crate) fn a_resync_makes_right_what_others_have_changed() {
    let server = Redis::start().unwrap();
    let folder = folder(&server.url(), "");
    Shop::new(16, USERS).write(&folder, 2_000);
    let mut host = follow(&folder);
    settled(&mut host, &folder);
    let verify = |folder: &Folder| -> Value {
        let asked = folder.retag(&["sink", "verify", "redis", "-o", "json"]);
        let answer: Value = serde_json::from_str(&asked.out).unwrap();
        let verified = answer["now"]["verified"].clone();
        let wrong = ["missing", "differing", "extra"].iter().any(|what| verified[what] != 0);
        assert_eq!(asked.status.success(), !wrong, "{}{}", asked.out, asked.err);
        verified
    };
    let right = verify(&folder);
    assert!(right["compared"].as_u64() > Some(50), "{right}");
    let sets = held(&mut single(&server));
    let mut keys = sets.iter();
    let ((_, gone), _) = keys.next().unwrap();
    let ((_, changed), labels) = keys.next().unwrap();
    let ((_, no_member), of_no_member) = keys.next().unwrap();
    let (hash, key) = record_of(gone);
    server.command(&["HDEL", &hash, &key]).unwrap();
    record(&server, changed, "nonsense");
    let (hash, key) = record_of(no_member);
    let (label, value) = of_no_member.first_key_value().unwrap();
    let set = value.as_ref().map_or(label.clone(), |value| format!("{label}={value}"));
    assert_eq!(server.command(&["SREM", &format!("{hash}:{set}"), &key]).unwrap(), "1");
    // A key that has no labels, and one that does not exist, as records and as members.
    record(&server, "999999999", r#"{"v":[1,1],"labels":{"never_paid":true}}"#);
    let (hash, _) = record_of(changed);
    let (other, _) = labels.first_key_value().unwrap();
    server.command(&["SADD", &format!("{hash}:{other}"), "888888888"]).unwrap();
    server
        .command(&["HSET", &hash.replace(":user", ":facts"), &format!("members:user:{other}"), "1"])
        .unwrap();

    // Newer than anything that the host has written, of a key with labels and of one without; and what nobody can read.
    let ((_, ahead), _) = keys.next().unwrap();
    record(&server, ahead, r#"{"v":[1,999999999],"labels":{"never_paid":true}}"#);
    record(&server, "777777777", r#"{"v":[1,999999999],"labels":{}}"#);
    record(&server, "666666666", "nonsense");

    let wrong = verify(&folder);
    let counts = ["missing", "differing", "extra"].map(|what| wrong[what].as_u64().unwrap());
    assert_eq!(counts, [1, 3, 4], "{wrong}");
    let unknown = ["999999999", "888888888", "777777777", "666666666"];
    for key in [gone, changed, no_member, ahead].into_iter().map(String::as_str).chain(unknown) {
        let samples = wrong["samples"].as_array().unwrap();
        assert!(samples.contains(&format!("user/{key}").into()), "{key}: {wrong}");
    }
    // Of one label first, then everything.
    let asked = folder.retag(&["sink", "resync", "redis", "--label", "never_paid"]).assert_ok();
    assert!(asked.out.contains("holds what the state says"), "{}", asked.out);
    assert!(
        !single(&server).hexists(record_of("999999999").0, "999999999").unwrap() || {
            let record = single(&server).hget(record_of("999999999").0, "999999999").unwrap().unwrap();
            record.contains("\"labels\":{}")
        }
    );
    folder.retag(&["sink", "resync", "redis", "--reason", "by hand"]).assert_ok();
    let again = verify(&folder);
    assert_eq!(again["compared"], right["compared"], "{again}");
    assert_eq!(held(&mut single(&server)), sets);
    let audit = folder.retag(&["rule", "history"]).assert_ok().out;
    assert!(audit.contains("sink resync --label never_paid") && audit.contains("by hand"), "{audit}");
    folder.retag(&["sink", "resync", "out"]).assert_error(1, &["no-state-sink"]);
    folder.retag(&["sink", "resync", "nobody"]).assert_error(1, &["unknown-sink", "out, redis"]);
    folder.retag(&["sink", "resync", "redis", "--label", "nothing"]).assert_error(1, &["unknown-label"]);
    let listed = folder.retag(&["sink", "ls"]).assert_ok().out;
    assert!(listed.contains("redis") && listed.contains("delivers"), "{listed}");
    end(host);
    folder.retag(&["sink", "resync", "redis"]).assert_error(1, &["no-host"]);
}

pub(crate) fn buckets_that_lost_only_their_facts_are_not_taken_for_empty_ones() {
    let server = Redis::start().unwrap();
    let folder = folder(&server.url(), "");
    Shop::new(18, USERS).write(&folder, 2_000);
    let mut host = follow(&folder);
    settled(&mut host, &folder);
    let sets = held(&mut single(&server));
    let (_, key) = sets.keys().next().unwrap();
    let bucket_of = |key: &str| crc32(key.as_bytes()) % u32::from(BUCKETS);
    let hash = format!("{{retag:{}}}:user", bucket_of(key));
    // Beside the keys that a bucket has: one that there is not.
    let mut others = (777_777_777_u64..).map(|n| n.to_string());
    let other = others.find(|other| bucket_of(other) == bucket_of(key)).unwrap();
    for bucket in 0..BUCKETS {
        server.command(&["DEL", &format!("{{retag:{bucket}}}:facts")]).unwrap();
    }
    server.command(&["HSET", &hash, &other, r#"{"v":[1,0],"labels":{"never_paid":true}}"#]).unwrap();
    server.command(&["SADD", &format!("{hash}:never_paid"), "888888888"]).unwrap();
    folder.retag(&["sink", "resync", "redis"]).assert_ok();
    assert_eq!(held(&mut single(&server)), sets);
    end(host);
}

pub(crate) fn what_is_not_ours_is_refused_by_name() {
    let server = Redis::start().unwrap();
    let first = folder(&server.url(), "");
    Shop::new(17, USERS).write(&first, 500);
    first.run().assert_ok();
    // Another state under the same prefix; another prefix is fine.
    let other = folder(&server.url(), "");
    other.run().assert_error(1, &["redis-foreign", "prefix"]);
    other.configure("type = \"redis\"", "type = \"redis\"\nprefix = \"other\"");
    other.run().assert_ok();
    first.configure("type = \"redis\"", "type = \"redis\"\nbuckets = 16");
    first.run().assert_error(1, &["redis-buckets", "256"]);
    first.configure("buckets = 16\n", "");
    // An older copy of the state was put back.
    let copy = |from: &Folder, to: &str, name: &str| {
        let copied =
            std::process::Command::new("cp").arg("-r").arg(from.path(name)).arg(from.path(to)).status();
        assert!(copied.unwrap().success());
    };
    copy(&first, "older", "data");
    Shop::new(18, USERS).write(&first, 500);
    first.run().assert_ok();
    std::fs::remove_dir_all(first.path("data")).unwrap();
    std::fs::rename(first.path("older"), first.path("data")).unwrap();
    first.configure("path = \"labels.ndjson\"", "path = \"others.ndjson\"");
    first.run().assert_error(1, &["sink-ahead", "older copy"]);
    let two = folder(&format!("{0},{0}", server.url()), "");
    two.run().assert_error(1, &["redis-url", "several addresses", "cluster = true"]);
    // Somebody else's key, a password, and no address at all.
    server.command(&["FLUSHALL"]).unwrap();
    server.command(&["SET", "{third:7}:facts", "x"]).unwrap();
    let third = folder(&server.url(), "prefix = \"third\"");
    third.run().assert_error(1, &["redis-foreign"]);
    server.command(&["CONFIG", "SET", "requirepass", "right"]).unwrap();
    let secret = folder(&server.url(), "");
    secret.run().assert_error(1, &["redis-auth"]);
    let url = format!("url = \"{}\"", server.url());
    secret.configure(&url, "url = { env = \"REDIS_URL\" }");
    secret.run().assert_error(1, &["REDIS_URL"]);
    let with = |password: &str| server.url().replace("redis://", &format!("redis://:{password}@"));
    let run = |password: &str| {
        let url = with(password);
        secret.start(&["run", "--until-end"], &[("REDIS_URL", &url)]).wait()
    };
    let refused = run("hunter2").assert_error(1, &["redis-auth"]);
    assert!(!refused.err.contains("hunter2"), "{}", refused.err);
    run("right").assert_ok();
    secret.configure("url = { env = \"REDIS_URL\" }", &format!("url = \"{}\"", with("right")));
    secret.run().assert_error(1, &["a password does not stand in the configuration"]);
}
