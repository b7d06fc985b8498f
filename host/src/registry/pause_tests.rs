//! Rules that stand still and go on.

use super::*;
use crate::registry::Gap;

fn pause(forced: bool) -> Command {
    let why = if forced { "ddl: shop.orders" } else { "" };
    Command::Pause { rule: "payer".into(), by: "ann".into(), why: why.into(), forced }
}

fn resume() -> Command {
    Command::Resume { rule: "payer".into() }
}

fn gaps(world: &World) -> Vec<(u64, Vec<u64>, Option<Vec<u64>>)> {
    let gap = |gap: &Gap| (gap.commit, gap.from.clone(), gap.until.clone());
    world.registry.pauses["payer"].gaps.iter().map(gap).collect()
}

#[test]
fn a_pause_is_a_place_and_a_resume_closes_the_gap_behind_it() {
    let mut world = World::new();
    let tag = world.registry.tag("payer");
    let done = world.ask(pause(false)).unwrap().done;
    assert!(done.changed && world.registry.is_stopped("payer") && world.registry.lacks("payer"));
    assert_ne!(world.registry.tag("payer"), tag);
    assert_eq!(gaps(&world), [(2, vec![7, 0], None)]);
    assert!(!world.ask(pause(true)).unwrap().done.changed, "it stands still already");
    world.positions = vec![9, 4, 3];
    let operation = world.ask(resume()).unwrap().done.operation.unwrap();
    assert_eq!(gaps(&world), [(2, vec![7, 0], Some(vec![9, 4, 3]))]);
    let stretches: Vec<_> = world.registry.pauses["payer"].gaps[0].stretches().collect();
    assert_eq!(stretches, [(7, 9), (0, 4), (0, 3)], "a partition that is new since lies wholly in the gap");
    assert!(!world.registry.is_stopped("payer") && world.registry.lacks("payer"));
    let again = world.ask(resume()).unwrap().done;
    assert_eq!((again.changed, again.operation), (false, Some(operation)));
    assert_eq!(world.registry.filled_gap("payer"), None);
    assert!(!world.registry.lacks("payer") && world.registry.pauses.contains_key("payer"));
}

#[test]
fn a_rule_that_missed_nothing_has_no_gap() {
    let mut world = World::new();
    world.ask(pause(false)).unwrap();
    assert!(world.ask(resume()).unwrap().done.operation.is_some(), "its timers may have come due");
    assert!(gaps(&world).is_empty());
    assert!(!world.ask(Command::Resume { rule: "payer".into() }).unwrap().done.changed);
}

#[test]
fn a_rule_that_is_paused_while_it_catches_up_keeps_what_it_still_lacks() {
    let mut world = World::new();
    world.ask(pause(false)).unwrap();
    world.positions = vec![90, 40];
    let operation = world.ask(resume()).unwrap().done.operation.unwrap();
    world.reached = [(operation, vec![50, 40])].into();
    world.positions = vec![100, 60];
    world.ask(pause(true)).unwrap();
    assert_eq!(gaps(&world), [(2, vec![50, 40], Some(vec![90, 40])), (4, vec![100, 60], None)]);
    let ended = world.registry.operations.iter().find(|o| o.id == operation).unwrap();
    assert_eq!((ended.state, ended.failure.as_str()), (OperationState::Failed, "ddl: shop.orders"));
    let lanes = world.registry.lanes();
    assert_eq!(lanes.len(), 2, "both gaps have a lane of their own: {lanes:?}");
    world.positions = vec![100, 61];
    world.ask(resume()).unwrap();
    assert_eq!(world.registry.filled_gap("payer").unwrap().commit, 4);
}

#[test]
fn releases_of_a_paused_rule_stay_as_they_are() {
    let mut world = World::new();
    let prepared = |world: &mut World| {
        world.ask(push("l2", "n", &["a"])).unwrap();
        world.ask(Command::Prepare { rule: "payer".into(), revision: 2 })
    };
    prepared(&mut world).unwrap();
    assert_eq!(world.code(pause(false)), "operation-under-way");
    let mut given_up = World::new();
    prepared(&mut given_up).unwrap();
    given_up.ask(pause(true)).unwrap();
    assert!(given_up.registry.is_stopped("payer"));
    assert_eq!(given_up.releases(), [Release::Paused, Release::Failed]);
    world.finish();
    world.ask(pause(false)).unwrap();
    world.ask(push("l3", "n", &["a"])).unwrap();
    for resumed in [false, true] {
        if resumed {
            world.ask(resume()).unwrap();
        }
        let rule = || "payer".to_owned();
        for command in [
            Command::Prepare { rule: rule(), revision: 3 },
            Command::Activate { rule: rule(), revision: 2, bound: None, announce: false },
            Command::Params(revision("l4", "n", &["a"])),
        ] {
            assert_eq!(world.code(command), "rule-paused");
        }
    }
    let unknown = Command::Resume { rule: "buyer".into() };
    assert_eq!(world.code(unknown), "unknown-rule");
}

#[test]
fn what_the_host_pauses_waits_for_nothing() {
    let mut world = World::new();
    world.ask(push("l2", "m", &["a"])).unwrap();
    world.ask(Command::Prepare { rule: "payer".into(), revision: 2 }).unwrap();
    let (filling, sweeping) = (world.registry.namespaces[1].space, world.registry.generations[1].space);
    let effect = world.ask(pause(true)).unwrap();
    assert_eq!(effect.dropped, [sweeping, filling]);
    assert_eq!(world.releases(), [Release::Paused, Release::Failed]);
    assert!(world.registry.is_stopped("payer") && world.registry.running().next().is_none());
    assert_eq!(world.registry.operations[0].failure, "the rule was paused: ddl: shop.orders");
}

#[test]
fn a_grace_does_not_end_while_the_rule_stands_still() {
    let mut world = World::new();
    world.ask(push("l2", "n", &["a"])).unwrap();
    world.ask(Command::Prepare { rule: "payer".into(), revision: 2 }).unwrap();
    world.finish();
    world.ask(Command::Activate { rule: "payer".into(), revision: 2, bound: None, announce: false }).unwrap();
    world.finish();
    assert!(world.registry.expired(2 * HOUR).is_some());
    world.ask(pause(false)).unwrap();
    assert!(world.registry.expired(2 * HOUR).is_none());
    // The way back is there all the while; only it, and not while the rule catches up.
    let back = || Command::Rollback { rule: "payer".into(), announce: false };
    world.ask(back()).unwrap();
    assert_eq!(world.releases(), [Release::Paused, Release::Retained]);
    let again = Command::Activate { rule: "payer".into(), revision: 2, bound: None, announce: false };
    assert_eq!(world.code(again), "rule-paused");
    world.ask(resume()).unwrap();
    assert_eq!(world.code(back()), "rule-paused");
}
