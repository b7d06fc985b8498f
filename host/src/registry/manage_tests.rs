//! Who decides, announced ways back, and the releases of what stands still or was given up.

use super::*;
use crate::registry::revision::AUDIT_PREFIX;

fn applying() -> Asker {
    Asker { by: "ci".into(), applies: true, ..Asker::default() }
}

fn pause() -> Command {
    Command::Pause { rule: "payer".into(), by: "ann".into(), why: String::new(), forced: false }
}

/// Name of the command in the line of the audit.
fn audited(effect: &Effect) -> String {
    let line = effect.rows.iter().find(|(key, _)| key.starts_with(AUDIT_PREFIX)).unwrap();
    serde_json::from_slice::<AuditEntry>(line.1.as_ref().unwrap()).unwrap().command
}

#[test]
fn what_apply_did_is_known_until_others_decide() {
    let mut world = World::new();
    let is_applied = |world: &World| world.registry.applied.contains("payer");
    let effect = world.ask_as(push("l2", "n", &["a"]), applying()).unwrap();
    assert_eq!((audited(&effect).as_str(), is_applied(&world)), ("apply push", false));
    let effect = world.ask_as(prepare(2), applying()).unwrap();
    assert_eq!((audited(&effect).as_str(), is_applied(&world)), ("apply prepare", true));
    world.finish();
    world.ask_as(activate(2), applying()).unwrap();
    world.finish();
    let effect = world.ask(pause()).unwrap();
    assert_eq!(
        (audited(&effect).as_str(), is_applied(&world)),
        ("pause", true),
        "a pause changes no release"
    );
    world.ask(Command::Resume { rule: "payer".into() }).unwrap();
    world.registry.pauses.clear();
    world.finish();
    let effect = world.ask(rollback()).unwrap();
    assert_eq!((audited(&effect).as_str(), is_applied(&world)), ("rollback", false));
}

#[test]
fn commands_that_change_releases_are_those_that_a_configuration_takes_to_itself() {
    let (rule, revision) = (|| "payer".to_owned(), 1);
    let changes = [
        push("l2", "n", &["a"]),
        prepare(1),
        Command::Params(self::super::revision("l2", "n", &["a"])),
        activate(1),
        rollback(),
        Command::Remove { rule: rule() },
    ];
    assert!(changes.iter().all(Command::changes_releases));
    let allowed = [
        pause(),
        Command::Resume { rule: rule() },
        Command::Cancel { rule: rule(), revision },
        Command::Forget { rule: rule(), revision },
        Command::Retire { rule: rule(), space: 1 },
        Command::GiveUp { rule: rule(), space: 1, why: String::new() },
    ];
    assert!(!allowed.iter().any(Command::changes_releases));
}

#[test]
fn a_way_back_may_be_announced() {
    for announce in [false, true] {
        let mut world = World::new();
        world.ask(push("l2", "n", &["a", "b"])).unwrap();
        world.ask(prepare(2)).unwrap();
        world.finish();
        world.ask(activate(2)).unwrap();
        world.finish();
        let back = world.ask(Command::Rollback { rule: "payer".into(), announce }).unwrap();
        assert_eq!(back.switched.is_some(), !announce, "one summary, or each key");
        let told = world.registry.running().next().unwrap();
        assert_eq!((told.announced, told.cause), (announce, Cause::Rollback));
    }
}

#[test]
fn a_revision_that_was_given_up_reads_failed_until_it_is_prepared_again() {
    use Release::{Checked, Failed, Live, Preparing, Ready};
    let mut world = World::new();
    world.ask(push("l2", "other", &["a"])).unwrap();
    for ready in [false, true] {
        world.ask(prepare(2)).unwrap();
        assert_eq!(world.releases(), [Live, Preparing]);
        assert!(world.registry.revision("payer", 2).unwrap().failure.is_empty());
        if ready {
            world.finish();
            assert_eq!(world.releases(), [Live, Ready]);
        }
        let space = world.registry.generation_of("payer", 2).unwrap().namespace;
        let why = "rule-does-not-fit: shop.orders".to_owned();
        world.ask(Command::GiveUp { rule: "payer".into(), space, why: why.clone() }).unwrap();
        assert_eq!(world.releases(), [Live, Failed]);
        assert_eq!(world.registry.revision("payer", 2).unwrap().failure, why);
        assert_eq!(world.code(activate(2)), "not-ready");
    }
    world.ask(prepare(2)).unwrap();
    let forced = Command::Pause { rule: "payer".into(), by: "retag".into(), why: "ddl".into(), forced: true };
    world.ask(forced).unwrap();
    assert_eq!(world.releases(), [Release::Paused, Failed], "a pause by the host gives up what is prepared");
    world.registry.pauses.clear();
    world.ask(prepare(2)).unwrap();
    world.ask(Command::Cancel { rule: "payer".into(), revision: 2 }).unwrap();
    assert_eq!(world.releases(), [Live, Checked], "who cancels knows why");
}

#[test]
fn the_live_revision_of_a_rule_that_stands_still_reads_paused() {
    use Release::{Live, Paused, Retained};
    let mut world = World::new();
    world.ask(push("l2", "n", &["a"])).unwrap();
    world.ask(prepare(2)).unwrap();
    world.finish();
    world.ask(activate(2)).unwrap();
    world.finish();
    world.ask(pause()).unwrap();
    assert_eq!(world.releases(), [Retained, Paused]);
    world.ask(Command::Resume { rule: "payer".into() }).unwrap();
    assert_eq!(world.releases(), [Retained, Live], "it catches up");
}
