//! The laws under the simulation: any order, batching, block size, worker count and crash point gives what the model
//! gives. A failure prints its case; the same case fails again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

use proptest::prelude::*;
use retag_host::pipeline::setup::Options;
use retag_tests::model::Params;
use retag_tests::shop::Config;
use retag_tests::simulation::{
    Fate, Outcome, Random, Rules, World, assert_exact, assert_labels, delivered_labels,
};
use std::sync::OnceLock;

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
    /// Steps until each kill.
    kills: Vec<u64>,
    /// Store writes until each failure.
    failures: Vec<u64>,
}

fn case() -> impl Strategy<Value = Case> {
    let log = (any::<u64>(), 200u64..400, 3u64..40, 1u32..4, any::<bool>(), 0u32..20);
    let run = (any::<bool>(), any::<bool>(), 1usize..5, 200usize..20_000, 500u64..100_000);
    let faults = (prop::collection::vec(1u64..800, 0..4), prop::collection::vec(1u64..30, 0..3));
    (log, run, faults).prop_map(|(log, run, faults)| {
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
        ..Config::default()
    });
    if case.shuffled {
        world.shuffle(random);
    }
    world.forgetful = case.forgetful;
    world.block_bytes = case.block_bytes;
    world.cycle_bytes_max = case.cycle_bytes_max;
    world.workers = case.workers;
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

/// One commit with more transitions than a sink takes at once: all of them, once, in order.
#[test]
fn a_commit_with_many_transitions_is_delivered_whole() {
    let mut random = Random(3);
    let mut world = World::new(&Config { seed: 3, events: 80_000, users: 100_000, ..Config::default() });
    world.block_bytes = 1 << 20;
    world.cycle_bytes_max = 1 << 30;
    assert!(matches!(world.run(rules(), 20_000, &mut random), Fate::Ended));
    let most = world.delivered.lock().unwrap().iter().map(|(place, _)| place.index).max();
    assert!(most > Some(8_500), "only {most:?} transitions in a commit");
    assert_exact(&world, RULES);
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
