//! The laws under the simulation: any order, batching, block size, worker count and crash point gives what the model
//! gives. A failure prints its case; the same case fails again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

#[path = "laws/sinks.rs"]
mod sinks;

use proptest::prelude::*;
use retag_host::pipeline::failure::Failure;
use retag_host::pipeline::setup::Options;
use retag_host::registry::{META_KEY, OVERFLOW, Registry, STATUS_INDEX};
use retag_host::state::{CountedSet, Slot, Table, entity_key, key_hash, shard_of, u64_key};
use retag_tests::model::Params;
use retag_tests::shop::Config;
use retag_tests::simulation::{
    Fate, Outcome, Random, Rules, World, assert_digests, assert_exact, assert_labels, delivered_labels,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

const RULES: &[&str] = &["payer", "red_packet", "senior"];

fn rules() -> &'static Rules {
    static LOADED: OnceLock<Rules> = OnceLock::new();
    LOADED.get_or_init(|| Rules::load(RULES))
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    events: u64,
    users: u64,
    partitions: u32,
    gtid: bool,
    resend_percent: u32,
    shuffled: bool,
    forgetful: bool,
    workers: usize,
    block_bytes: usize,
    cycle_bytes_max: u64,
    hot_percent: u32,
    set_in_place_max: usize,
    /// Steps until each kill.
    kills: Vec<u64>,
    /// Store writes until each failure.
    failures: Vec<u64>,
}

fn case() -> impl Strategy<Value = Case> {
    let log = (any::<u64>(), 200u64..400, 3u64..40, 1u32..4, any::<bool>(), 0u32..20);
    let run = (any::<bool>(), any::<bool>(), 1usize..5, 200usize..20_000, 500u64..100_000);
    // The hot user's merchants pass the real bound; a small bound is passed up and down by all.
    let sets = prop_oneof![Just((0u32, 64usize)), Just((90, 64)), (0..60u32, 1..6usize)];
    let faults = (prop::collection::vec(1u64..800, 0..4), prop::collection::vec(1u64..30, 0..3));
    (log, run, sets, faults).prop_map(|(log, run, (hot_percent, set_in_place_max), faults)| {
        let (seed, events, users, partitions, gtid, resend_percent) = log;
        let (shuffled, forgetful, workers, block_bytes, cycle_bytes_max) = run;
        let (kills, failures) = faults;
        Case {
            seed,
            events,
            users,
            partitions,
            gtid,
            resend_percent,
            shuffled,
            forgetful,
            workers,
            block_bytes,
            cycle_bytes_max,
            hot_percent,
            set_in_place_max,
            kills,
            failures,
        }
    })
}

fn world(case: &Case, random: &mut Random) -> World {
    let mut world = World::new(&Config {
        seed: case.seed,
        events: case.events,
        users: case.users,
        partitions: case.partitions,
        gtid: case.gtid,
        resend_percent: case.resend_percent,
        hot_percent: case.hot_percent,
        ..Config::default()
    });
    if case.shuffled {
        world.shuffle(random);
    }
    world.forgetful = case.forgetful;
    world.block_bytes = case.block_bytes;
    world.cycle_bytes_max = case.cycle_bytes_max;
    world.workers = case.workers;
    world.limits.set_in_place_max = case.set_in_place_max;
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Laws 1, 3, 4 and 5.
    #[test]
    fn any_order_batching_worker_count_and_crash_gives_the_same(case in case()) {
        let mut random = Random(case.seed);
        let mut world = world(&case, &mut random);
        for steps in &case.kills {
            world.workers = usize::try_from(1 + random.below(4)).unwrap();
            let fate = world.run(rules(), *steps, &mut random);
            prop_assert!(matches!(fate, Fate::Killed | Fate::Ended), "{fate:?}");
            if random.below(2) == 0 {
                world.fold();
            }
        }
        for writes in &case.failures {
            world.store.fail_after(*writes);
            let fate = world.run(rules(), u64::MAX, &mut random);
            prop_assert!(matches!(fate, Fate::Failed(_) | Fate::Ended), "{fate:?}");
            world.store.heal();
        }
        let fate = world.run(rules(), 1_000_000, &mut random);
        prop_assert!(matches!(fate, Fate::Ended), "{fate:?}");
        assert_exact(&world, RULES);
    }
}

/// A user with more merchants than a page holds: in rows by the bounds of the program, exact through crashes, and read
/// again at every start; in a shuffled log with entries below 0 on the way, which hold its labels only until then.
#[test]
fn a_set_in_rows_is_exact_through_crashes() {
    for shuffled in [false, true] {
        let mut random = Random(5);
        let config =
            Config { events: 3_000, users: 20, hot_percent: 80, resend_percent: 5, ..Config::default() };
        let mut world = World::new(&config);
        if shuffled {
            world.shuffle(&mut random);
        }
        let mut in_rows = 0;
        for round in 0..10 {
            let fate = world.run(rules(), 350 + round * 40, &mut random);
            assert!(matches!(fate, Fate::Killed | Fate::Ended), "{fate:?}");
            world.fold();
            in_rows += u32::from(world.store.rows(Table::Sets) > 0);
        }
        assert!(in_rows > 2, "rows in {in_rows} of 10 rounds");
        assert!(matches!(world.run(rules(), u64::MAX, &mut random), Fate::Ended));
        assert!(world.store.rows(Table::Sets) > 1);
        assert_exact(&world, RULES);
    }
}

/// A set past its limit is given up: the labels of that key stand still, its other sums and all other keys are exact,
/// and it stays so through crashes and shrinking.
#[test]
fn a_set_past_its_limit_holds_the_labels_of_its_key_alone() {
    let payer = Rules::load(&["payer"]);
    for seed in 0..6 {
        let mut random = Random(seed);
        let config = Config { seed, events: 900, users: 40, hot_percent: 60, ..Config::default() };
        let mut world = World::new(&config);
        world.set_entries_max = 20;
        // In place, in rows, and across.
        world.limits.set_in_place_max = [64, 4, 19][usize::try_from(seed % 3).unwrap()];
        for steps in [200, 250, 300] {
            assert!(matches!(world.run(&payer, steps, &mut random), Fate::Killed));
            world.fold();
        }
        assert!(matches!(world.run(&payer, u64::MAX, &mut random), Fate::Ended));
        let outcome = Outcome::from(&world);
        assert_digests(&outcome.view);
        let stored = outcome.view.row(Table::Meta, META_KEY).unwrap();
        let registry = Registry::read(stored.as_deref()).unwrap();
        let (live, namespace) = (registry.live("payer").unwrap(), registry.namespace("payer").unwrap());
        let (model, mut held) = (outcome.model(), 0);
        let expect_labels = model.payer_labels(&Params::default());
        for (user, row) in model.payer() {
            let key = entity_key(namespace.entity, &u64_key(user));
            let shard = shard_of(key_hash("user", &u64_key(user)));
            let record = outcome.view.get(shard, &key).unwrap().unwrap();
            let slot = |index| Slot { space: namespace.space, index };
            assert_eq!(record.sum(slot(0)), i128::from(row.paid_orders), "user {user}");
            assert_eq!(record.sum(slot(1)), row.spent);
            let set = record.set(slot(3));
            let status = record.mark(Slot { space: live.space, index: STATUS_INDEX });
            if set.is_some_and(CountedSet::is_overflow) {
                held += 1;
                assert_eq!(status, OVERFLOW, "user {user}");
                continue;
            }
            assert_eq!((set.map_or(0, CountedSet::positive) as u64, status), (row.merchants, 0));
            assert!(row.merchants <= 20);
            let marks = (0u16..).take(live.labels.len());
            let carried = marks.filter(|n| record.mark(Slot { space: live.space, index: *n }) != 0).count();
            assert_eq!(carried, expect_labels.get(&user).map_or(0, BTreeMap::len), "labels of user {user}");
        }
        assert!(held > 0 && held < 5, "{held} users held");
        assert_eq!(outcome.view.count(live.space, STATUS_INDEX, OVERFLOW), held);
    }
}

/// User 1 pays 600.00 at a merchant; equal ids are one change sent twice.
fn paid(id: u64, merchant: u64) -> String {
    let image = serde_json::json!({"order_id": merchant, "user_id": 1, "merchant_id": merchant, "state": 1, "amount": 600.0});
    line(id, "orders", "insert", &image)
}

fn line(id: u64, table: &str, kind: &str, image: &serde_json::Value) -> String {
    let message = serde_json::json!({
        "database": "shop", "table": table, "type": kind, "ts": 1_772_323_200 + id, "xid": id, "commit": true,
        "position": format!("binlog.000012:{}", 1_000 + id), "server_id": 223_344, "data": image,
    });
    format!("{message}\n")
}

/// Merchants of user 1, and how many keys are held because a set overflowed.
fn merchants_and_held(world: &World) -> (CountedSet, u64) {
    let view = world.view();
    let registry = Registry::read(view.row(Table::Meta, META_KEY).unwrap().as_deref()).unwrap();
    let (live, namespace) = (registry.live("payer").unwrap(), registry.namespace("payer").unwrap());
    let key = entity_key(namespace.entity, &u64_key(1));
    let record = view.get(shard_of(key_hash("user", &u64_key(1))), &key).unwrap().unwrap();
    let set = record.set(Slot { space: namespace.space, index: 3 }).unwrap().clone();
    (set, view.count(live.space, STATUS_INDEX, OVERFLOW))
}

/// A cycle with one merchant too many that is voided, because that order's id is another's: shards were not touched, so
/// the set did not overflow, and the next merchant makes it.
#[test]
fn a_set_does_not_overflow_in_a_cycle_that_repeated_ids_void() {
    let payer = Rules::load(&["payer"]);
    for seed in 0..16 {
        let mut random = Random(seed);
        let user = line(90, "users", "insert", &serde_json::json!({"user_id": 2}));
        let orders: String = (1..=10).map(|n| paid(n, n)).collect();
        let mut world = World::of_logs(vec![orders.into(), (user + &paid(10, 11)).into()]);
        world.workers = 1 + usize::try_from(seed % 2).unwrap();
        world.set_entries_max = 10;
        world.limits.set_in_place_max = [64, 4][usize::try_from(seed / 2 % 2).unwrap()];
        assert!(matches!(world.run(&payer, u64::MAX, &mut random), Fate::Ended));
        let commits: BTreeSet<u64> =
            world.delivered.lock().unwrap().iter().map(|(place, _)| place.commit).collect();
        assert_eq!(commits.len(), 1, "both logs are in one cycle");
        world.fold();
        let (set, held) = merchants_and_held(&world);
        assert_eq!((set.entries(), set.is_overflow(), held), (10, false, 0));
        assert_exact(&world, &["payer"]);
        world.logs[1] = [&world.logs[1][..], paid(12, 12).as_bytes()].concat().into();
        assert!(matches!(world.run(&payer, u64::MAX, &mut random), Fate::Ended));
        let (set, held) = merchants_and_held(&world);
        assert!(set.is_overflow() && held == 1);
        assert_digests(&world.view());
    }
}

/// The same with a cycle that a refused message voids: what was decoded behind it goes.
#[test]
fn a_set_does_not_overflow_in_a_cycle_that_a_refusal_voids() {
    let payer = Rules::load(&["payer"]);
    for seed in 0..16 {
        let mut random = Random(seed);
        let before: String = (1..=10).map(|n| paid(n, n)).collect();
        let refused = line(50, "orders", "update", &serde_json::json!({"order_id": 1, "user_id": 1}));
        let behind: String = (11..=40).map(|n| paid(n, n)).collect();
        let mut world = World::of_logs(vec![(before.clone() + &refused + &behind).into()]);
        world.set_entries_max = 10;
        world.block_bytes = 600;
        world.cycle_bytes_max = 1 << 20;
        let fate = world.run(&payer, u64::MAX, &mut random);
        assert!(matches!(fate, Fate::Failed(Failure::Refused { .. })), "{fate:?}");
        let (set, held) = merchants_and_held(&world);
        assert_eq!((set.entries(), set.is_overflow(), held), (10, false, 0));
        // The log without it, one merchant for another.
        let image =
            serde_json::json!({"order_id": 1, "user_id": 1, "merchant_id": 1, "state": 1, "amount": 600.0});
        let mended = before + &line(50, "orders", "delete", &image) + &paid(51, 11);
        world.logs = vec![Arc::new(mended.into())];
        assert!(matches!(world.run(&payer, u64::MAX, &mut random), Fate::Ended));
        let (set, held) = merchants_and_held(&world);
        assert_eq!((set.entries(), set.is_overflow(), held), (10, false, 0));
        assert_exact(&world, &["payer"]);
    }
}

/// A changed parameter makes a new label generation: swept over all keys, flipped in one commit, told once; a crash
/// anywhere in it goes on where it was.
#[test]
fn changed_parameters_are_swept_flipped_and_told_through_crashes() {
    let params = [("big_spender_min".to_owned(), serde_json::json!("300.00"))].into();
    let lower = Rules::with_params(&["payer"], &params);
    let payer = Rules::load(&["payer"]);
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut world = World::new(&Config { seed, events: 400, users: 30, ..Config::default() });
        assert!(matches!(world.run(&payer, u64::MAX, &mut random), Fate::Ended));
        assert_exact(&world, &["payer"]);
        let before = world.delivered.lock().unwrap().len();
        let mut killed = 0;
        for steps in [3, 8, 13, 18, 23, 28].map(|n| n + seed) {
            killed += u32::from(matches!(world.run(&lower, steps, &mut random), Fate::Killed));
        }
        assert!(killed >= 2, "the sweep was over before it could be killed");
        assert!(matches!(world.run(&lower, u64::MAX, &mut random), Fate::Ended));
        let expect = Params { big_spender_min: 30_000, ..Params::default() };
        assert_labels(&world, "payer", &expect);
        let delivered = world.delivered.lock().unwrap();
        assert!(delivered.len() > before, "nobody was told");
        assert!(
            delivered.iter().skip(before).all(|(_, m)| m["cause"] == "params" && m["label"] == "big_spender")
        );
    }
}

/// `clock.reached`: a label that time alone sets, by a durable timer.
#[test]
fn time_sets_a_label_without_a_change() {
    let senior = Rules::load(&["senior"]);
    let mut random = Random(7);
    let mut world = World::new(&Config { seed: 7, events: 300, users: 20, ..Config::default() });
    world.now = 1_000_000_000_000_000; // long before the orders
    assert!(matches!(world.run(&senior, u64::MAX, &mut random), Fate::Ended));
    assert!(world.delivered.lock().unwrap().is_empty());
    world.now = 4_000_000_000_000_000; // long after them
    assert!(matches!(world.run(&senior, u64::MAX, &mut random), Fate::Ended));
    assert_exact(&world, &["senior"]);
    let delivered = world.delivered.lock().unwrap();
    assert!(!delivered.is_empty());
    assert!(delivered.iter().all(|(_, m)| m["cause"] == "time"));
}

/// Ctrl-C in a sweep while timers are due: the engine stops as it is, and the next start goes on with both.
#[test]
fn a_sweep_that_is_stopped_while_timers_are_due_goes_on_at_the_next_start() {
    let params = [("big_spender_min".to_owned(), "300.00".into()), ("senior_after".to_owned(), "8d".into())];
    let before = Rules::with_params(&["payer", "senior"], &params.into());
    let after = Rules::load(&["payer", "senior"]);
    let mut stopped_in_sweep = 0;
    for seed in 0..24 {
        let mut random = Random(seed);
        let mut world = World::new(&Config { seed, events: 300, users: 30, ..Config::default() });
        world.now = 1_000_000_000_000_000; // long before the orders
        assert!(matches!(world.run(&before, u64::MAX, &mut random), Fate::Ended));
        world.now = 4_000_000_000_000_000; // long after them: all timers are due
        let told = world.delivered.lock().unwrap().len();
        let mut schedule = world.start(&after, false).unwrap();
        for _ in 0..seed * 3 {
            assert!(schedule.step(&mut random).is_none());
        }
        schedule.stop();
        let stopped = (0..10_000).find_map(|_| schedule.step(&mut random)).expect("it does not stop");
        stopped.expect("it stops in peace");
        drop(schedule);
        stopped_in_sweep += u32::from(world.delivered.lock().unwrap().len() == told);
        assert!(matches!(world.run(&after, u64::MAX, &mut random), Fate::Ended));
        assert_exact(&world, &["payer", "senior"]);
        assert!(!delivered_labels(&Outcome::from(&world), "senior").is_empty());
    }
    assert!(stopped_in_sweep >= 2, "the sweep was over before it could be stopped");
}

/// Time that leaps while a commit is on its way loses none of the timers in it and fires none of them twice.
#[test]
fn timers_that_are_written_while_time_leaps_fire_once_each() {
    let senior = Rules::load(&["senior"]);
    for leap in 0..120 {
        let mut random = Random(leap);
        let mut world = World::new(&Config { seed: leap, events: 150, users: 60, ..Config::default() });
        world.now = *Outcome::from(&world).model().first_order().values().min().unwrap();
        let mut schedule = world.start(&senior, false).unwrap();
        for step in 0..2_000 {
            if step == 40 + leap {
                assert!(world.delivered.lock().unwrap().is_empty());
                schedule.now += 8 * 86_400_000_000; // a week is over for all orders read by now
            }
            assert!(schedule.step(&mut random).is_none());
        }
        schedule.stop();
        let stopped = (0..10_000).find_map(|_| schedule.step(&mut random)).expect("it does not stop");
        stopped.expect("it stops in peace");
        drop(schedule);
        assert_exact(&world, &["senior"]);
        assert!(!world.delivered.lock().unwrap().is_empty());
    }
}

/// A rule new to a state that has read something is refused; a rebuild reads its history beside the old sums, through
/// crashes, and attaches it exactly; labels follow.
#[test]
fn a_rebuild_gives_a_new_rule_its_history_through_crashes() {
    let payer = Rules::load(&["payer"]);
    let both = Rules::load(&["payer", "red_packet"]);
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut world =
            World::new(&Config { seed, events: 400, users: 30, resend_percent: 10, ..Config::default() });
        assert!(matches!(world.run(&payer, u64::MAX, &mut random), Fate::Ended));
        let refused = world.start(&both, true).err().expect("refused").to_string();
        assert!(
            refused.starts_with("needs-history") && refused.contains("--rebuild red_packet"),
            "{refused}"
        );
        let mut rounds = 0;
        while !world.rebuild(&both, "red_packet", 60 + seed * 10, &mut random) {
            rounds += 1;
            assert!(rounds < 1000, "no progress");
        }
        assert!(rounds > 2, "it was over before it could be killed");
        assert!(matches!(world.run(&both, u64::MAX, &mut random), Fate::Ended));
        assert_exact(&world, &["payer", "red_packet"]);
        let delivered = world.delivered.lock().unwrap();
        let causes = delivered.iter().filter(|(_, m)| m["rule"] == "red_packet").map(|(_, m)| &m["cause"]);
        assert!(causes.clone().count() > 0);
        assert!(causes.into_iter().all(|cause| cause == "backfill"));
    }
}

/// A change of parameters that was begun, killed and taken back leaves everything as it was.
#[test]
fn a_change_taken_back_in_the_middle_changes_nothing() {
    let payer = Rules::load(&["payer"]);
    let lower = Rules::with_params(&["payer"], &[("big_spender_min".to_owned(), "300.00".into())].into());
    for seed in 0..8 {
        let mut random = Random(seed);
        let mut world = World::new(&Config { seed, events: 300, users: 30, ..Config::default() });
        assert!(matches!(world.run(&payer, u64::MAX, &mut random), Fate::Ended));
        let told = world.delivered.lock().unwrap().len();
        assert!(matches!(world.run(&lower, 4 + seed * 2, &mut random), Fate::Killed));
        assert!(matches!(world.run(&payer, u64::MAX, &mut random), Fate::Ended));
        assert_exact(&world, &["payer"]);
        assert_eq!(world.delivered.lock().unwrap().len(), told);
    }
}

/// A rebuild that was killed goes on to where the stream is by then, and leaves the outbox to its sinks.
#[test]
fn a_rebuild_reaches_a_stream_that_went_on_and_leaves_the_outbox_alone() {
    let payer = Rules::load(&["payer"]);
    let both = Rules::load(&["payer", "red_packet"]);
    for seed in 0..8 {
        let mut random = Random(seed);
        let whole = World::new(&Config { seed, events: 500, users: 30, ..Config::default() });
        let early = World::new(&Config { seed, events: 250, users: 30, ..Config::default() });
        // The last message of the shorter stream commits early: its log is the longer one up to there.
        let mut world = World::new(&Config { seed, events: 500, users: 30, ..Config::default() });
        world.logs = (whole.logs.iter().zip(&early.logs))
            .map(|(all, part)| {
                let end = part.len() * 9 / 10;
                let line = all[..end].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
                all[..line].to_vec().into()
            })
            .collect();
        // Killed late: transitions wait in the outbox.
        let _ = world.run(&payer, 150 + seed, &mut random);
        for _ in 0..3 {
            assert!(!world.rebuild(&both, "red_packet", 40, &mut random));
        }
        world.logs = whole.logs;
        let _ = world.run(&payer, 400, &mut random);
        while !world.rebuild(&both, "red_packet", 300, &mut random) {}
        assert!(matches!(world.run(&both, u64::MAX, &mut random), Fate::Ended));
        assert_exact(&world, &["payer", "red_packet"]);
    }
}

/// A removal that was begun is finished also when labels of another rule change, or a change is taken back, meanwhile.
#[test]
fn a_removal_is_not_lost_when_another_sweep_begins() {
    let both = Rules::load(&["payer", "red_packet"]);
    let payer = Rules::load(&["payer"]);
    let lower = Rules::with_params(&["payer"], &[("big_spender_min".to_owned(), "300.00".into())].into());
    let options = Options { until_end: true, remove: vec!["red_packet".into()], ..Options::default() };
    for seed in 0..16 {
        let mut random = Random(seed);
        let mut world = World::new(&Config { seed, events: 300, users: 30, ..Config::default() });
        assert!(matches!(world.run(&both, u64::MAX, &mut random), Fate::Ended));
        assert!(!delivered_labels(&Outcome::from(&world), "red_packet").is_empty());
        // Even: the removal alone, then a change. Odd: both at once, then the change is taken back.
        let (first, then, spent) =
            if seed % 2 == 0 { (&payer, &lower, 30_000) } else { (&lower, &payer, 500_000) };
        let mut schedule = world.start_with(first, true, &options).unwrap();
        for _ in 0..seed {
            assert!(schedule.step(&mut random).is_none());
        }
        drop(schedule);
        world.store.crash();
        assert!(matches!(world.run(then, u64::MAX, &mut random), Fate::Ended));
        assert_labels(&world, "payer", &Params { big_spender_min: spent, ..Params::default() });
        assert!(delivered_labels(&Outcome::from(&world), "red_packet").is_empty(), "labels are left");
    }
}

/// A removed rule takes its labels back, through crashes.
#[test]
fn a_removed_rule_takes_its_labels_back() {
    let both = Rules::load(&["payer", "red_packet"]);
    let payer = Rules::load(&["payer"]);
    for seed in 0..8 {
        let mut random = Random(seed);
        let mut world = World::new(&Config { seed, events: 300, users: 30, ..Config::default() });
        assert!(matches!(world.run(&both, u64::MAX, &mut random), Fate::Ended));
        let options = Options { until_end: true, remove: vec!["red_packet".into()], ..Options::default() };
        let mut schedule = world.start_with(&payer, true, &options).unwrap();
        for _ in 0..seed * 4 {
            assert!(schedule.step(&mut random).is_none());
        }
        drop(schedule);
        world.store.crash();
        assert!(matches!(world.run(&payer, u64::MAX, &mut random), Fate::Ended));
        assert_exact(&world, &["payer"]);
        assert!(delivered_labels(&Outcome::from(&world), "red_packet").is_empty());
    }
}
