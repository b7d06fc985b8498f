//! The laws of sinks: each gets all that was told, once and in order, or it is counted what it never got; however often it fails,
//! however long it is away, whatever crashes.

use super::{RULES, rules};
use retag_host::config::WhenFull;
use retag_host::pipeline::deliver::SINKS;
use retag_host::pipeline::rows::TOTALS;
use retag_host::sink::batch::Terms;
use retag_host::sink::progress::{Which, Wish};
use retag_host::state::Table;
use retag_tests::shop::Config;
use retag_tests::simulation::{Fate, HOOK, Hook, Random, World, assert_digests, assert_exact};
use std::collections::BTreeSet;

/// One commit with more transitions than a sink takes at once: all of them, once, in order.
#[test]
fn a_commit_with_many_transitions_is_delivered_whole() {
    let mut random = Random(3);
    let mut world = World::new(&Config { seed: 3, events: 80_000, users: 100_000, ..Config::default() });
    world.block_bytes = 1 << 20;
    world.cycle_bytes_max = 1 << 30;
    assert!(matches!(world.run(rules(), 100_000, &mut random), Fate::Ended));
    let most = world.delivered.lock().unwrap().iter().map(|(place, _)| place.index).max();
    assert!(most > Some(8_500), "only {most:?} transitions in a commit");
    assert_exact(&world, RULES);
}

/// Sinks that are away for half an hour: each is tried every two seconds and no more often, nothing grows meanwhile but what
/// the settings allow, and everything is there soon after.
#[test]
fn sinks_that_are_away_for_half_an_hour_are_tried_now_and_then_and_get_everything() {
    const TRIES: u32 = 900;
    let minutes = |n: i64| n * 60_000_000;
    for when_full in [WhenFull::Hold, WhenFull::DropOldest] {
        let mut random = Random(5);
        let mut world = World::new(&Config { seed: 5, events: 2_000, users: 60, ..Config::default() });
        world.pace_us = 20_000;
        world.when_full = (when_full, TRIES);
        world.held.leave(TRIES.into());
        let begin = world.now;
        assert!(matches!(world.run(rules(), 10_000_000, &mut random), Fate::Ended));
        let took = world.now - begin;
        // 50 ms, then twice that each time up to 2 s: half an hour less a few seconds.
        assert!(took > minutes(29), "{TRIES} tries in {} s", took / 1_000_000);
        assert!(took < minutes(33), "{} s for {TRIES} tries", took / 1_000_000);
        if when_full == WhenFull::Hold {
            assert_exact(&world, RULES);
        }
    }
}

/// A sink that loses the oldest messages when too much waits: those that it got and those that are counted are all there were.
#[test]
fn what_a_sink_never_got_is_counted() {
    let mut lost = 0;
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut world = World::new(&Config { seed, events: 1_500, users: 200, ..Config::default() });
        world.when_full = (WhenFull::DropOldest, 4);
        while matches!(world.run(rules(), 3_000 + random.below(3_000), &mut random), Fate::Killed) {}
        let view = world.view();
        let read = |key: &[u8]| -> serde_json::Value {
            let row = view.row(Table::Meta, key).unwrap();
            row.map_or(serde_json::Value::Null, |row| serde_json::from_slice(&row).unwrap())
        };
        let dropped = read(SINKS)["out"]["dropped"].as_u64().unwrap_or(0);
        let delivered = world.delivered.lock().unwrap();
        let places: BTreeSet<_> = delivered.iter().map(|(place, _)| *place).collect();
        assert_eq!(places.len(), delivered.len(), "delivered twice");
        // The end of the first reading is told as a whole, a message for each rule, to who hears of changes alone.
        let told = read(TOTALS)["transitions"].as_u64().unwrap() - RULES.len() as u64;
        assert_eq!(delivered.len() as u64 + dropped, told, "seed {seed}");
        assert_digests(&view);
        lost += dropped;
    }
    assert!(lost > 0, "nothing was ever lost");
}

/// What a receiver of batches takes in one request.
fn terms(random: &mut Random) -> Terms {
    let messages_max = usize::try_from(1 + random.below(9)).unwrap();
    Terms { messages_max, bytes_max: 1500, retry_for_us: None, dead_letters_max: 10_000 }
}

/// Ids of all messages that the event sink got, in order.
fn all_told(world: &World) -> Vec<String> {
    let id = |message: &serde_json::Value| message["id"].as_str().unwrap().to_owned();
    world.delivered.lock().unwrap().iter().map(|(_, message)| id(message)).collect()
}

/// A receiver that fails, refuses some messages and is away, through crashes: what it took and the dead letters are all there
/// was, each in one of the two, and a batch is the same under its id.
#[test]
fn messages_are_taken_or_dead_letters_through_crashes() {
    let (mut dead_in_all, mut killed) = (0, 0);
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut world = World::new(&Config { seed, events: 500, users: 120, ..Config::default() });
        world.pace_us = 20_000; // tries are far apart
        let terms = terms(&mut random);
        let hook = Hook::new(3 + random.below(9), 11);
        world.hook = Some((hook.clone(), terms, WhenFull::Hold));
        while matches!(world.run(rules(), 100 + random.below(900), &mut random), Fate::Killed) {
            killed += 1;
            assert!(killed < 10_000, "seed {seed} does not end");
        }
        let all: BTreeSet<String> = all_told(&world).into_iter().collect();
        let dead: BTreeSet<String> = Hook::dead(&world.view()).into_iter().collect();
        let taken: BTreeSet<String> = hook.taken().into_iter().collect();
        assert!(taken.is_disjoint(&dead), "seed {seed}: taken and dead");
        assert_eq!(taken.union(&dead).cloned().collect::<BTreeSet<_>>(), all, "seed {seed}");
        let order: Vec<String> = all_told(&world).into_iter().filter(|id| taken.contains(id)).collect();
        assert_eq!(hook.taken(), order, "seed {seed}: out of order");
        dead_in_all += dead.len();

        // Sent again to one that takes them, through crashes.
        let hook = hook.willing();
        world.hook = Some((hook.clone(), terms, WhenFull::Hold));
        world.hook_wish = Some(Wish::Replay(Which::All));
        let mut tries = 0;
        while !Hook::dead(&world.view()).is_empty() {
            let _ = world.run(rules(), 50 + random.below(1_000), &mut random);
            tries += 1;
            assert!(tries < 10_000, "seed {seed}: {:?} are left", Hook::dead(&world.view()));
        }
        assert_eq!(hook.taken().into_iter().collect::<BTreeSet<_>>(), all, "seed {seed}");
        assert_digests(&world.view());
    }
    println!("{dead_in_all} dead letters, killed {killed} times");
    assert!(dead_in_all > 50 && killed > 24);
}

/// A receiver for which too much waits loses the oldest: what it took, its dead letters and what is counted are all there was.
#[test]
fn what_a_receiver_never_got_is_counted() {
    let mut lost = 0;
    for seed in 0..6 {
        let mut random = Random(seed);
        let mut world = World::new(&Config { seed, events: 1_500, users: 200, ..Config::default() });
        let (terms, mut hook) = (terms(&mut random), Hook::new(2 + random.below(3), 11));
        hook.answers = true; // what is taken and not answered counts as dropped where it is not sent again
        world.hook = Some((hook.clone(), terms, WhenFull::DropOldest));
        assert!(matches!(world.run(rules(), u64::MAX, &mut random), Fate::Ended));
        let view = world.view();
        let known: serde_json::Value =
            serde_json::from_slice(&view.row(Table::Meta, SINKS).unwrap().unwrap()).unwrap();
        let dropped = usize::try_from(known[HOOK]["dropped"].as_u64().unwrap()).unwrap();
        let (taken, dead) = (hook.taken().len(), Hook::dead(&view).len());
        assert_eq!(known[HOOK]["dead_letters"], dead);
        assert_eq!(taken + dead + dropped, all_told(&world).len(), "seed {seed}: {taken}, {dead}, {dropped}");
        lost += dropped;
    }
    assert!(lost > 0, "nothing was ever lost");
}
