//! Swaps of label generations while the stream flows: commands at random moments, crashes anywhere, a failing store. After
//! each run every generation that is kept carries what the model says, and a consumer who followed holds the live one's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

use retag_host::config::Deliver;
use retag_host::registry::revision::OperationState;
use retag_tests::shop::Config;
use retag_tests::simulation::{
    Fate, RENAMED, Random, Rules, Script, World, assert_generations, assert_summaries, registry,
};
use std::collections::BTreeMap;

fn world(seed: u64, random: &mut Random) -> World {
    let mut world = World::new(&Config {
        seed,
        events: 300 + random.below(300),
        users: 5 + random.below(40),
        partitions: 1 + u32::try_from(random.below(3)).unwrap(),
        resend_percent: 5,
        ..Config::default()
    });
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
    let (mut killed, mut failed) = (0, 0);
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
        assert_generations(&world, RENAMED);
        if world.deliver == Deliver::Changes {
            assert_summaries(&world);
        }
        script.done.iter().for_each(|(name, n)| *done.entry(*name).or_insert(0) += n);
        script.refused.iter().for_each(|(code, n)| *refused.entry(*code).or_insert(0) += n);
        let ended = at_end.operations.iter().filter(|o| o.state == OperationState::Done).count();
        *done.entry("operations").or_insert(0) += ended as u64;
        script.clear();
    }
    println!("done {done:?}\nrefused {refused:?}\nkilled {killed}, failed {failed}");
    for name in ["push", "prepare", "params set", "activate", "rollback", "cancel"] {
        assert!(done.get(name).is_some_and(|n| *n >= 10), "too few of {name}: {done:?}");
    }
    assert!(killed >= 20 && failed >= 10, "killed {killed}, failed {failed}");
}
