//! Rules that are new to a running state: pushed, prepared and activated while the stream flows and the host is killed
//! anywhere. At the end they are as if they had been there from the start, and so are those that were.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

use retag_host::pipeline::program::Code;
use retag_host::pipeline::rules::Loaded;
use retag_host::registry::command::Command;
use retag_host::registry::revision::{OperationState, Release};
use retag_tests::shop::Config;
use retag_tests::simulation::{
    Fate, Outcome, Random, Rules, World, assert_exact, delivered_labels, push, registry,
};
use std::sync::Arc;

/// What brings `rule` in, step by step.
fn step(rules: &Rules, rule: &str, release: Release, live: bool) -> Vec<(Command, Option<Code>)> {
    let file = rules.get(rule);
    let (name, revision) = (rule.to_owned(), 1);
    match release {
        Release::Ready if live => {
            vec![(Command::Activate { rule: name, revision, bound: None, announce: false }, None)]
        }
        Release::Checked | Release::Failed | Release::Preparing => {
            vec![(push(file), None), (Command::Prepare { rule: name, revision }, Some(file.code()))]
        }
        _ => Vec::new(),
    }
}

/// The rule is taken out, killed anywhere; everyone has been told. Then the same file comes as a rule that is new.
fn goes_and_comes_again(
    world: &mut World,
    rules: &Rules,
    (file, rule): (&Loaded, &str),
    random: &mut Random,
) {
    let asked = |command: Command, code| vec![(command, code)];
    let name = || rule.to_owned();
    let gone = |world: &World| registry(&world.view()).live(rule).is_none();
    world.run_asked(rules, 20 + random.below(100), asked(Command::Remove { rule: name() }, None), random);
    while !gone(world) {
        let again = asked(Command::Remove { rule: name() }, None);
        assert!(matches!(world.run_asked(rules, u64::MAX, again, random), Fate::Ended));
    }
    while !registry(&world.view()).leaving.is_empty() {
        assert!(matches!(world.run_asked(rules, u64::MAX, vec![], random), Fate::Ended));
    }
    let left = registry(&world.view());
    assert!(
        left.namespace(rule).is_none() && left.live(rule).is_none() && left.leaving.is_empty(),
        "{left:?}"
    );
    assert!(delivered_labels(&Outcome::from(&*world), rule).is_empty(), "labels are left with a consumer");
    let prepare = Command::Prepare { rule: name(), revision: 1 };
    let activate = Command::Activate { rule: name(), revision: 1, bound: None, announce: false };
    // With nothing left to read an engine may end before it looks at what is asked; then it is asked again.
    for (command, code, until) in
        [(prepare, Some(file.code()), Release::Ready), (activate, None, Release::Live)]
    {
        while release(world, rule) != until {
            let commands = asked(command.clone(), code.clone());
            assert!(matches!(world.run_asked(rules, u64::MAX, commands, random), Fate::Ended));
        }
    }
}

/// The lines in the first `quarter` quarters of a log.
fn until(log: &[u8], quarter: usize) -> Arc<Vec<u8>> {
    let end = log.len() * quarter / 4;
    let mut bytes: Vec<u8> = log.iter().take(end).copied().collect();
    bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1));
    bytes.into()
}

fn release(world: &World, rule: &str) -> Release {
    registry(&world.view()).release(rule, 1)
}

#[test]
fn a_rule_that_comes_later_is_as_if_it_had_been_there_from_the_start() {
    let all = Rules::load(&["payer", "red_packet", "senior"]);
    let (mut killed, mut in_lane, mut cancelled, mut again) = (0, 0, 0, 0);
    for seed in 0..48 {
        let mut random = Random(seed);
        let (before, new) = match seed % 4 {
            0 => (vec!["payer"], "red_packet"),
            1 => (vec!["red_packet"], "payer"),
            2 => (vec!["red_packet"], "senior"),
            _ => (vec![], "payer"),
        };
        let rules = Rules::load(&before);
        let config =
            Config { seed, events: 400, users: 30, partitions: 2, resend_percent: 5, ..Config::default() };
        let mut world = World::new(&config);
        world.cycle_bytes_max = 1_000 + random.below(8_000);
        let logs = std::mem::take(&mut world.logs);
        for quarter in 1..=4 {
            world.logs = logs.iter().map(|log| until(log, quarter)).collect();
            for _ in 0..random.below(3) {
                world.workers = 1 + usize::try_from(random.below(4)).unwrap();
                if random.below(4) == 0 {
                    world.store.fail_after(1 + random.below(20));
                }
                let commands =
                    if quarter == 1 { vec![] } else { step(&all, new, release(&world, new), quarter > 2) };
                let fate = world.run_asked(&rules, 20 + random.below(300), commands, &mut random);
                world.store.heal();
                killed += u32::from(matches!(fate, Fate::Killed));
                in_lane += u32::from(registry(&world.view()).namespaces.iter().any(|n| n.filling));
            }
            let commands =
                if quarter == 1 { vec![] } else { step(&all, new, release(&world, new), quarter > 2) };
            let fate = world.run_asked(&rules, u64::MAX, commands, &mut random);
            assert!(matches!(fate, Fate::Ended), "seed {seed}: {fate:?}");
            if quarter == 2 && random.below(4) == 0 {
                let cancel = Command::Cancel { rule: new.into(), revision: 1 };
                assert!(matches!(
                    world.run_asked(&rules, u64::MAX, vec![(cancel, None)], &mut random),
                    Fate::Ended
                ));
                let left = registry(&world.view());
                assert!(left.namespace(new).is_none() && !left.taken_over.contains(new), "seed {seed}");
                let again = step(&all, new, release(&world, new), false);
                assert!(matches!(world.run_asked(&rules, u64::MAX, again, &mut random), Fate::Ended));
                cancelled += 1;
            }
        }
        let at_end = registry(&world.view());
        assert_eq!(at_end.release(new, 1), Release::Live, "seed {seed}: {:?}", at_end.operations);
        assert_eq!(at_end.running().count(), 0, "seed {seed}");
        assert!(
            at_end.operations.iter().all(|o| o.state != OperationState::Failed),
            "{:?}",
            at_end.operations
        );
        assert_exact(&world, &[before.clone(), vec![new]].concat());
        if seed % 3 == 0 {
            goes_and_comes_again(&mut world, &rules, (all.get(new), new), &mut random);
            assert_exact(&world, &[before, vec![new]].concat());
            again += 1;
        }
    }
    println!("killed {killed}, {in_lane} in a lane, {cancelled} cancelled, {again} gone and back");
    assert!(
        killed >= 40 && in_lane >= 10 && cancelled >= 3 && again == 16,
        "{killed}, {in_lane}, {cancelled}"
    );
}
