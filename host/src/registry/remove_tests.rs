//! Rules and revisions that go.

use super::*;
use crate::registry::revision::file_key;

fn remove() -> Command {
    Command::Remove { rule: "payer".into() }
}

fn forget(revision: u32) -> Command {
    Command::Forget { rule: "payer".into(), revision }
}

#[test]
fn a_rule_goes_when_everyone_is_told() {
    let mut world = World::new();
    world.ask(push("l2", "m", &["b"])).unwrap();
    world.ask(Command::Prepare { rule: "payer".into(), revision: 2 }).unwrap();
    let (old, new) = (world.registry.live["payer"], world.registry.generations[1].space);
    let (namespace, filling) = (world.registry.namespaces[0].space, world.registry.namespaces[1].space);
    let effect = world.ask(remove()).unwrap();
    assert_eq!(effect.dropped, [new, filling]);
    assert_eq!(effect.switched.unwrap().generation, old);
    assert!(world.registry.live("payer").is_none() && world.registry.label("a").is_none());
    assert!(world.registry.expired(0).is_none(), "it is being told");
    assert_eq!(world.code(remove()), "unknown-rule");
    assert_eq!(world.code(forget(1)), "revision-in-use");
    assert_eq!(world.code(Command::Prepare { rule: "payer".into(), revision: 1 }), "operation-under-way");
    world.finish();
    let Some(retire @ Command::Retire { space, .. }) = world.registry.expired(0) else {
        panic!("nothing goes")
    };
    assert_eq!(space, old);
    assert_eq!(world.ask(retire).unwrap().dropped, [old, namespace]);
    assert!(world.registry.namespaces.is_empty() && world.registry.leaving.is_empty());
    assert!(world.registry.expired(i64::MAX).is_none());
    // Its revisions stay, the configuration does not bring it back, and its name can be pushed again.
    assert_eq!(world.releases(), [Release::Retired, Release::Checked]);
    assert!(world.registry.taken_over.contains("payer"));
    assert_eq!(world.ask(push("l3", "m", &["a"])).unwrap().done.revision, 3);
    world.ask(Command::Prepare { rule: "payer".into(), revision: 3 }).unwrap();
    assert!(world.registry.namespaces.iter().all(|n| n.filling), "it comes as a rule that is new");
}

#[test]
fn a_paused_rule_can_go_and_leaves_no_gap() {
    let mut world = World::new();
    let rule = || "payer".to_owned();
    let (by, why) = (String::new(), String::new());
    world.ask(Command::Pause { rule: rule(), by, why, forced: false }).unwrap();
    world.ask(Command::Resume { rule: rule() }).unwrap();
    world.ask(remove()).unwrap();
    assert!(world.registry.pauses.is_empty());
    assert_eq!(world.registry.running().map(|o| o.kind).collect::<Vec<_>>(), [OperationKind::Tell]);
}

#[test]
fn a_revision_that_nothing_reads_is_forgotten_and_its_number_never_used_again() {
    let mut world = World::new();
    assert_eq!(world.code(forget(1)), "revision-in-use");
    assert_eq!(world.code(forget(2)), "unknown-revision");
    world.ask(push("l2", "n", &["a"])).unwrap();
    let effect = world.ask(forget(2)).unwrap();
    let row = (file_key("file of l2"), None);
    assert!(effect.rows.contains(&row), "its file goes");
    assert_eq!(world.registry.revisions.len(), 1);
    assert_eq!(world.ask(push("l2", "n", &["a"])).unwrap().done.revision, 3);
    // Another revision has the same file: it stays.
    let mut other = revision("l2", "n", &["a"]);
    other.params = [("p".to_owned(), json!(1))].into();
    world.ask(Command::Push(other, Arc::default())).unwrap();
    assert!(!world.ask(forget(3)).unwrap().rows.contains(&row));
}
