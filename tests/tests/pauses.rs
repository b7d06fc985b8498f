//! Pauses and resumes while the stream flows: at random moments among all other commands, with crashes anywhere and re-sends
//! over pause and resume in both directions. A rule that has caught up is as if it had never been paused. And rules that go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

use retag_host::config::Deliver;
use retag_host::pipeline::program::Code;
use retag_host::registry::command::Command;
use retag_host::registry::revision::{OperationKind, OperationState};
use retag_tests::model::Params;
use retag_tests::shop::Config;
use retag_tests::simulation::{
    Fate, Outcome, RENAMED, Random, Rules, Script, World, assert_digests, assert_generations, assert_labels,
    delivered_labels, registry, small_shop,
};
use std::collections::BTreeMap;
use std::sync::Arc;

fn pause() -> (Command, Option<Code>) {
    let (by, why) = ("test".to_owned(), String::new());
    (Command::Pause { rule: "payer".into(), by, why, forced: false }, None)
}

fn resume() -> (Command, Option<Code>) {
    (Command::Resume { rule: "payer".into() }, None)
}

fn world(seed: u64, random: &mut Random) -> World {
    let mut world = World::new(&small_shop(seed, 15, random));
    world.cycle_bytes_max = 1_000 + random.below(20_000);
    world.grace_us = if random.below(2) == 0 { 200_000 } else { 3_600_000_000 };
    world.forgetful = random.below(4) == 0;
    world.deliver = if random.below(4) == 0 { Deliver::Changes } else { Deliver::All };
    world
}

/// Everything is as the model says, and nothing is left over.
fn assert_caught_up(world: &World, script: &Script) {
    let at_end = registry(&world.view());
    assert!(at_end.pauses.is_empty() && at_end.running().count() == 0, "{:?}", at_end.pauses);
    assert_generations(world, &script.sides, RENAMED);
    if world.deliver == Deliver::All {
        assert_labels(world, "red_packet", &Params::default());
    }
}

#[test]
fn a_rule_that_was_paused_at_any_moment_is_as_if_it_never_had_been() {
    let rules = Rules::load(&["payer", "red_packet"]);
    let mut script = Script::load();
    script.pauses = true;
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut killed, mut stopped, mut in_lane, mut gaps, mut lanes) = (0, 0, 0, 0, 0);
    for seed in 0..100 {
        let mut random = Random(seed);
        let mut world = world(seed, &mut random);
        for _ in 0..random.below(5) {
            world.workers = 1 + usize::try_from(random.below(4)).unwrap();
            if random.below(3) == 0 {
                world.store.fail_after(1 + random.below(30));
            }
            let steps = 20 + random.below(600);
            let fate = world.run_script(&rules, steps, &mut script, (25, 40), &mut random);
            world.store.heal();
            killed += u32::from(!matches!(fate, Fate::Ended));
            if let Some(pause) = registry(&world.view()).pauses.get("payer") {
                stopped += u32::from(pause.operation.is_none());
                in_lane += u32::from(pause.operation.is_some() && !pause.gaps.is_empty());
                gaps = gaps.max(pause.gaps.len());
            }
        }
        let fate = world.run_script(&rules, u64::MAX, &mut script, (25, 40), &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        let fate = world.run_asked(&rules, u64::MAX, vec![resume()], &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        assert_caught_up(&world, &script);
        script.done.iter().for_each(|(name, n)| *done.entry(*name).or_insert(0) += n);
        script.clear();
        let resumes = registry(&world.view()).operations.into_iter();
        let resumes = resumes.filter(|o| o.kind == OperationKind::Resume && o.read.is_some());
        lanes += resumes.filter(|o| o.state == OperationState::Done).count();
    }
    println!(
        "done {done:?}\nkilled {killed}: {stopped} stopped, {in_lane} in a lane; {gaps} gaps, {lanes} lanes"
    );
    for name in ["pause", "resume", "prepare", "activate"] {
        assert!(done.get(name).is_some_and(|n| *n >= 5), "too few of {name}: {done:?}");
    }
    assert!(killed >= 20 && stopped >= 10 && in_lane >= 10 && gaps >= 2 && lanes >= 20);
}

/// What was known at the pause comes again while the rule stands still and behind the resume; what comes while it stands
/// still comes again behind the resume, in either partition. Each change counts once.
#[test]
fn what_is_sent_again_across_pause_and_resume_counts_once() {
    let (rules, script) = (Rules::load(&["payer", "red_packet"]), Script::load());
    let (mut in_lane, mut killed) = (0, 0);
    for seed in 0..40 {
        let mut random = Random(seed);
        let whole = World::new(&Config { seed, events: 450, users: 30, partitions: 2, ..Config::default() });
        let lines = |n: usize| -> Vec<Vec<u8>> {
            whole.logs[n].split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
        };
        let thirds = |lines: &[Vec<u8>]| -> [Vec<Vec<u8>>; 3] {
            let third = lines.len() / 3;
            [lines[..third].to_vec(), lines[third..2 * third].to_vec(), lines[2 * third..].to_vec()]
        };
        let parts = [thirds(&lines(0)), thirds(&lines(1))];
        let copies =
            |of: &[Vec<u8>], every: usize| of.iter().step_by(every).flatten().copied().collect::<Vec<u8>>();
        let mut world = World::of_logs(vec![parts[0][0].concat(), parts[1][0].concat()]);
        (world.cycle_bytes_max, world.block_bytes) = (2_000, 700);
        assert!(matches!(world.run(&rules, u64::MAX, &mut random), Fate::Ended));
        // While it stands still: the second third, and some of the first again, some of the second twice.
        let more = |world: &mut World, n: usize, pieces: &[&[u8]]| {
            world.logs[n] = Arc::new([&[&world.logs[n][..]], pieces].concat().concat());
        };
        for n in 0..2 {
            let again = [copies(&parts[1 - n][0], 2), copies(&parts[n][0], 3), copies(&parts[1 - n][1], 4)];
            more(&mut world, n, &[&again[0], &parts[n][1].concat(), &again[1], &again[2]]);
        }
        let fate = world.run_asked(&rules, u64::MAX, vec![pause()], &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        assert!(registry(&world.view()).is_stopped("payer"), "seed {seed}");
        // Behind the resume: the last third, and much of both others again.
        for n in 0..2 {
            let again = [copies(&parts[1 - n][1], 1), copies(&parts[n][1], 2), copies(&parts[1 - n][0], 3)];
            more(&mut world, n, &[&again[0], &parts[n][2].concat(), &again[1], &again[2]]);
        }
        for _ in 0..1 + random.below(3) {
            world.workers = 1 + usize::try_from(random.below(4)).unwrap();
            let fate = world.run_asked(&rules, 60 + random.below(400), vec![resume()], &mut random);
            killed += u32::from(matches!(fate, Fate::Killed));
            let at = registry(&world.view());
            in_lane += u32::from(
                at.pauses.get("payer").is_some_and(|p| p.operation.is_some() && !p.gaps.is_empty()),
            );
        }
        let fate = world.run_asked(&rules, u64::MAX, vec![resume()], &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        assert_caught_up(&world, &script);
    }
    println!("killed {killed}, {in_lane} in a lane");
    assert!(killed >= 20 && in_lane >= 15, "{killed}, {in_lane}");
}

/// A rule goes while the stream flows: whoever followed it holds none of its labels, nothing of it is left, the other rule does
/// not notice, and a configuration that names it does not bring it back.
#[test]
fn a_rule_that_goes_leaves_nothing_behind() {
    let rules = Rules::load(&["payer", "red_packet"]);
    let remove = || (Command::Remove { rule: "payer".into() }, None);
    let (mut killed, mut in_telling, mut unset) = (0, 0, 0);
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut world = world(seed, &mut random);
        world.deliver = Deliver::All;
        world.run(&rules, 200 + random.below(600), &mut random);
        if random.below(3) == 0 {
            world.run_asked(&rules, 100 + random.below(200), vec![pause()], &mut random);
        }
        for _ in 0..1 + random.below(3) {
            world.workers = 1 + usize::try_from(random.below(4)).unwrap();
            let fate = world.run_asked(&rules, 20 + random.below(200), vec![remove()], &mut random);
            killed += u32::from(matches!(fate, Fate::Killed));
            in_telling += u32::from(registry(&world.view()).leaving.contains("payer"));
        }
        let fate = world.run_asked(&rules, u64::MAX, vec![remove()], &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        assert_labels(&world, "red_packet", &Params::default());
        let outcome = Outcome::from(&world);
        assert!(delivered_labels(&outcome, "payer").is_empty(), "seed {seed}");
        let gone = |m: &serde_json::Value| m["rule"] == "payer" && m["cause"] == "swap" && m["op"] == "unset";
        unset += outcome.delivered.iter().filter(|(_, message)| gone(message)).count();
        let at_end = registry(&outcome.view);
        assert!(at_end.leaving.is_empty() && at_end.running().count() == 0, "seed {seed}: {at_end:?}");
        assert!(at_end.namespaces.iter().all(|n| n.rule != "payer"), "seed {seed}");
        assert_digests(&outcome.view);
    }
    println!("killed {killed}, {in_telling} while it is told, {unset} labels unset");
    assert!(killed >= 20 && in_telling >= 10 && unset >= 100, "{killed}, {in_telling}, {unset}");
}
