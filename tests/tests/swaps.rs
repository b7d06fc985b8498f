//! Swaps of revisions while the stream flows, with labels alone and with new aggregates: commands at random moments, crashes
//! anywhere, a failing store. After each run every generation that is kept carries what the model says, every namespace holds
//! what it says of its map side, and a consumer who followed holds the live one's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

use retag_host::config::Deliver;
use retag_host::pipeline::program::Code;
use retag_host::pipeline::rules::Loaded;
use retag_host::registry::command::Command;
use retag_host::registry::revision::OperationState;
use retag_tests::model::MapSide;
use retag_tests::shop::Config;
use retag_tests::simulation::{
    Fate, Outcome, RENAMED, Random, Rules, Script, World, assert_generations, assert_kept, assert_summaries,
    push, registry, small_shop,
};
use std::collections::BTreeMap;
use std::sync::Arc;

fn world(seed: u64, random: &mut Random) -> World {
    let mut world = World::new(&small_shop(seed, 5, random));
    world.workers = 1 + usize::try_from(random.below(4)).unwrap();
    world.cycle_bytes_max = 1_000 + random.below(20_000);
    world.grace_us = if random.below(2) == 0 { 200_000 } else { 3_600_000_000 };
    world.forgetful = random.below(4) == 0;
    world.deliver = if random.below(4) == 0 { Deliver::Changes } else { Deliver::All };
    world
}

#[test]
fn commands_at_any_moment_leave_state_and_sink_as_the_model_says() {
    let rules = Rules::load(&["payer", "red_packet"]);
    let mut script = Script::load();
    let (mut done, mut refused) = (BTreeMap::new(), BTreeMap::new());
    let (mut killed, mut failed, mut in_lane) = (0, 0, 0);
    for seed in 0..120 {
        let mut random = Random(seed);
        let mut world = world(seed, &mut random);
        for _ in 0..random.below(4) {
            world.workers = 1 + usize::try_from(random.below(4)).unwrap();
            let steps = 20 + random.below(600);
            if random.below(3) == 0 {
                world.store.fail_after(1 + random.below(30));
            }
            let fate = world.run_script(&rules, steps, &mut script, (25, 40), &mut random);
            world.store.heal();
            let filling = registry(&world.view()).namespaces.iter().any(|n| n.filling);
            in_lane += u32::from(filling && !matches!(fate, Fate::Ended));
            match fate {
                Fate::Killed => killed += 1,
                Fate::Failed(_) => failed += 1,
                Fate::Ended => {}
            }
        }
        let fate = world.run_script(&rules, u64::MAX, &mut script, (25, 40), &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        let at_end = registry(&world.view());
        assert_eq!(at_end.running().count(), 0, "seed {seed}: operations are left");
        assert_generations(&world, &script.sides, RENAMED);
        if world.deliver == Deliver::Changes {
            assert_summaries(&world);
        }
        script.done.iter().for_each(|(name, n)| *done.entry(*name).or_insert(0) += n);
        script.refused.iter().for_each(|(code, n)| *refused.entry(*code).or_insert(0) += n);
        let lanes = at_end.operations.iter().filter(|o| o.read.is_some()).count();
        *done.entry("lanes").or_insert(0) += lanes as u64;
        *done.entry("switches before the open cycle").or_insert(0) += script.stood_back;
        let failed = at_end.operations.iter().filter(|o| o.state == OperationState::Failed).count();
        assert_eq!(failed, 0, "seed {seed}: {:?}", at_end.operations);
        *done.entry("switches of namespaces").or_insert(0) += script.moved;
        let ended = at_end.operations.iter().filter(|o| o.state == OperationState::Done).count();
        *done.entry("operations").or_insert(0) += ended as u64;
        script.clear();
    }
    println!(
        "done {done:?}\nrefused {refused:?}\nkilled {killed}, failed {failed}, {in_lane} of them in a lane"
    );
    for name in [
        "push",
        "prepare",
        "params set",
        "activate",
        "rollback",
        "cancel",
        "lanes",
        "switches before the open cycle",
    ] {
        assert!(done.get(name).is_some_and(|n| *n >= 10), "too few of {name}: {done:?}");
    }
    assert!(
        killed >= 20 && failed >= 10 && in_lane >= 10,
        "killed {killed}, failed {failed}, {in_lane} in a lane"
    );
}

/// Push and prepare of `file` as payer@2.
fn prepared(file: &Loaded) -> Vec<(Command, Option<Code>)> {
    let prepare = Command::Prepare { rule: "payer".into(), revision: 2 };
    vec![(push(file), None), (prepare, Some(file.code()))]
}

/// Everything that is before the fence is sent again behind it, in either partition, while the lane still reads, and so is
/// some of what is new: whichever copy is met first, each change counts once on both sides.
#[test]
fn what_is_sent_again_across_the_fence_counts_once_in_new_aggregates() {
    let (rules, script) = (Rules::load(&["payer"]), Script::load());
    let file = script.of_side(MapSide::Baskets);
    let mut in_lane = 0;
    for seed in 0..40 {
        let mut random = Random(seed);
        let whole = World::new(&Config { seed, events: 400, users: 30, partitions: 2, ..Config::default() });
        let lines = |n: usize| -> Vec<Vec<u8>> {
            whole.logs[n].split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
        };
        let (first, second) = (lines(0), lines(1));
        // Before the fence: the older half of both, and copies of the one in the other.
        let before = [&first[..first.len() / 2], &second[..second.len() / 2]];
        let copies = |of: &[Vec<u8>]| of.iter().step_by(3).flatten().copied().collect::<Vec<u8>>();
        let mut world = World::of_logs(vec![
            [before[0].concat(), copies(before[1])].concat(),
            [before[1].concat(), copies(before[0])].concat(),
        ]);
        world.cycle_bytes_max = 2_000;
        world.block_bytes = 700;
        assert!(matches!(world.run(&rules, u64::MAX, &mut random), Fate::Ended));
        // Behind it: all of that again in the other partition, and the newer half, a part of it twice.
        let behind = [&first[first.len() / 2..], &second[second.len() / 2..]];
        for n in 0..2 {
            let more =
                [&world.logs[n][..], &before[1 - n].concat(), &behind[n].concat(), &copies(behind[1 - n])];
            world.logs[n] = Arc::new(more.concat());
        }
        let mut commands = prepared(file);
        for _ in 0..random.below(3) {
            world.workers = 1 + usize::try_from(random.below(4)).unwrap();
            let steps = 100 + random.below(400);
            world.run_asked(&rules, steps, std::mem::take(&mut commands), &mut random);
            let at = registry(&world.view());
            in_lane += u32::from(at.namespaces.iter().any(|n| n.filling));
            if at.revisions.iter().all(|r| r.number != 2) || at.operations.is_empty() {
                commands = prepared(file); // killed before it was durable
            }
        }
        let fate = world.run_asked(&rules, u64::MAX, commands, &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        let at_end = registry(&world.view());
        assert_eq!(at_end.namespaces.len(), 2, "seed {seed}: {:?}", at_end.operations);
        assert_generations(&world, &script.sides, RENAMED);
    }
    assert!(in_lane >= 10, "{in_lane} crashes in a lane");
}

/// There and back between map sides while the stream flows, killed anywhere: whichever is live, both are as if they had been
/// it all along, and a consumer holds the live one's labels.
#[test]
fn a_rule_goes_to_another_map_side_and_back_through_crashes() {
    let (rules, script) = (Rules::load(&["payer", "red_packet"]), Script::load());
    let file = script.of_side(MapSide::Baskets);
    let rule = || "payer".to_owned();
    let (mut killed, mut flipped) = (0, 0);
    for seed in 0..16 {
        let mut random = Random(seed);
        let mut world = world(seed, &mut random);
        (world.grace_us, world.deliver) = (3_600_000_000, Deliver::All);
        let logs = std::mem::take(&mut world.logs);
        let cut = |log: &[u8], quarters: usize| {
            let at = log.len() * quarters / 4;
            log[..at].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1)
        };
        let mut commands = Vec::new();
        for quarter in 1..=4 {
            world.logs = logs.iter().map(|log| log[..cut(log, quarter)].to_vec().into()).collect();
            for _ in 0..random.below(3) {
                world.workers = 1 + usize::try_from(random.below(4)).unwrap();
                let steps = 20 + random.below(300);
                let fate = world.run_asked(&rules, steps, std::mem::take(&mut commands), &mut random);
                killed += u32::from(matches!(fate, Fate::Killed));
                // A command that a kill came before is asked again: prepare, activate and roll back are an operation each.
                if registry(&world.view()).operations.len() + 1 < quarter {
                    commands = step(quarter, file, rule());
                }
            }
            let fate = world.run_asked(&rules, u64::MAX, std::mem::take(&mut commands), &mut random);
            assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
            let live = registry(&world.view()).live("payer").unwrap().revision;
            assert_eq!(live, if quarter == 3 { 2 } else { 1 }, "seed {seed}, quarter {quarter}");
            flipped += u32::from(quarter > 2);
            assert_generations(&world, &script.sides, RENAMED);
            commands = step(quarter + 1, file, rule());
        }
    }
    assert!(killed >= 16 && flipped == 32, "{killed}, {flipped}");
}

/// What is asked when a quarter of the log begins.
fn step(quarter: usize, file: &Loaded, rule: String) -> Vec<(Command, Option<Code>)> {
    match quarter {
        2 => prepared(file),
        3 => vec![(Command::Activate { rule, revision: 2, bound: None, announce: false }, None)],
        4 => vec![(Command::Rollback { rule, announce: false }, None)],
        _ => Vec::new(),
    }
}

/// Who hears of changes alone holds the right labels behind a switch that is announced: each key once, touched before it is
/// told or not, through crashes, and no summary.
#[test]
fn an_announced_switch_reaches_who_hears_of_changes_alone() {
    let (rules, script) = (Rules::load(&["payer", "red_packet"]), Script::load());
    let file = script.of_side(MapSide::Baskets);
    let activate = || {
        let rule = "payer".to_owned();
        vec![(Command::Activate { rule, revision: 2, bound: None, announce: true }, None)]
    };
    let (mut killed, mut in_telling, mut announced) = (0, 0, 0);
    for seed in 0..24 {
        let mut random = Random(seed);
        let mut world = world(seed, &mut random);
        (world.grace_us, world.deliver) = (3_600_000_000, Deliver::All);
        let logs = std::mem::take(&mut world.logs);
        let part = |thirds: usize| {
            let cut = |log: &[u8]| {
                let at = log.len() * thirds / 3;
                log[..at].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1)
            };
            logs.iter().map(|log| log[..cut(log)].to_vec().into()).collect::<Vec<_>>()
        };
        world.logs = part(1);
        assert!(matches!(world.run(&rules, u64::MAX, &mut random), Fate::Ended), "seed {seed}");
        world.deliver = Deliver::Changes;
        world.logs = part(2);
        let fate = world.run_asked(&rules, u64::MAX, prepared(file), &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        world.logs = part(3);
        for _ in 0..random.below(4) {
            world.workers = 1 + usize::try_from(random.below(4)).unwrap();
            let fate = world.run_asked(&rules, 20 + random.below(200), activate(), &mut random);
            killed += u32::from(matches!(fate, Fate::Killed));
            in_telling += u32::from(registry(&world.view()).running().count() > 0);
        }
        for _ in 0..2 {
            let fate = world.run_asked(&rules, u64::MAX, activate(), &mut random);
            assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        }
        assert_eq!(registry(&world.view()).live("payer").unwrap().revision, 2, "seed {seed}");
        let outcome = Outcome::from(&world);
        assert_kept(&outcome, true, &script.sides, RENAMED);
        assert!(outcome.delivered.iter().all(|(_, message)| message["op"] != "switch"), "seed {seed}");
        announced += outcome.delivered.iter().filter(|(_, message)| message["cause"] == "swap").count();
    }
    println!("killed {killed}, {in_telling} while it was told, {announced} announced");
    assert!(killed >= 15 && in_telling >= 5 && announced >= 100, "{killed}, {in_telling}, {announced}");
}

/// A revision that does not fit what it reads is given up, through crashes, and the stream does not notice.
#[test]
fn a_revision_that_does_not_fit_is_given_up_and_the_stream_goes_on() {
    let (rules, script) = (Rules::load(&["payer", "red_packet"]), Script::load());
    let misfit = Script::misfit();
    let mut told = 0;
    for seed in 0..24 {
        let mut random = Random(seed);
        let mut world = world(seed, &mut random);
        world.run(&rules, 150 + random.below(400), &mut random);
        world.run_asked(&rules, 50 + random.below(300), prepared(&misfit), &mut random);
        let mut commands = prepared(&misfit);
        commands.push((Command::Rollback { rule: "payer".into(), announce: false }, None)); // refused, in between
        let fate = world.run_asked(&rules, u64::MAX, commands, &mut random);
        assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
        let at_end = registry(&world.view());
        assert_eq!(at_end.running().count(), 0, "seed {seed}");
        let failed = at_end.operations.iter().filter(|o| o.state == OperationState::Failed);
        told += failed.filter(|o| o.failure.contains("rule-does-not-fit")).count();
        assert_eq!((at_end.live("payer").unwrap().revision, at_end.namespaces.len()), (1, 2), "seed {seed}");
        assert_generations(&world, &script.sides, RENAMED);
    }
    assert!(told >= 20, "{told}");
}
