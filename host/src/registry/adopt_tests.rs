//! Recompiled revisions on the sums that are there.

use super::*;
use crate::registry::{Adopted, Compared};

const ALIKE: Compared = Compared { recorded: 3, made_up: 5 };

fn adopt(revision: u32) -> Command {
    Command::Adopt { rule: "payer".into(), revision, compared: ALIKE }
}

#[test]
fn a_recompiled_revision_labels_by_the_sums_of_the_live_one() {
    let mut world = World::new();
    world.ask(push("l2", "m", &["a"])).unwrap();
    world.ask(adopt(2)).unwrap();
    let [kept] = world.registry.namespaces.as_slice() else { panic!("sums of its own") };
    assert_eq!((kept.namespace_id.as_str(), kept.adopted.as_slice()), ("n", &["m".to_owned()][..]));
    assert_eq!(kept.file, "file of l1", "the first file's map feeds them");
    let generation = world.registry.generations.last().unwrap();
    assert_eq!((generation.revision, generation.namespace), (2, kept.space));
    let adopted = world.registry.revision("payer", 2).unwrap().adopted.clone();
    assert_eq!(adopted, Some(Adopted { namespace_id: "n".into(), commit: 3, compared: ALIKE }));
    world.finish();
    world.ask(activate(2)).unwrap();
    // What is built from it is labels alone, and so is the way to and fro.
    world.ask(push("l3", "m", &["a"])).unwrap();
    let plan = |world: &World, n| world.registry.plan("payer", n, Vec::new()).unwrap().kind;
    assert_eq!((plan(&world, 3), plan(&world, 1)), (PlanKind::Labels, PlanKind::Labels));
    world.ask(prepare(3)).unwrap();
    assert_eq!(world.registry.namespaces.len(), 1);
    assert!(world.registry.adoptable("payer", 3).unwrap().is_none(), "its sums are there");
}

#[test]
fn other_aggregates_and_a_rule_that_is_not_live_are_not_adopted() {
    let mut world = World::new();
    let mut other = revision("l2", "m", &["a"]);
    other.manifest.entity = "shop".into();
    world.ask(Command::Push(other, Arc::new(vec![1]))).unwrap();
    assert_eq!(world.code(adopt(2)), "not-adoptable");
    assert_eq!(world.code(adopt(9)), "unknown-revision");
    world.ask(push("l3", "m", &["a"])).unwrap();
    world.registry.live.clear();
    assert_eq!(world.code(adopt(3)), "not-adoptable");
    assert!(world.registry.namespaces[0].adopted.is_empty());
}

#[test]
fn the_file_that_feeds_the_sums_stays_when_its_revision_is_forgotten() {
    let mut world = World::new();
    world.ask(push("l2", "m", &["a"])).unwrap();
    world.ask(adopt(2)).unwrap();
    world.finish();
    world.ask(activate(2)).unwrap();
    world.finish();
    let space = world.registry.generations[0].space;
    world.now += 100 * HOUR;
    world.ask(Command::Retire { rule: "payer".into(), space }).unwrap();
    let effect = world.ask(Command::Forget { rule: "payer".into(), revision: 1 }).unwrap();
    assert!(effect.rows.iter().all(|(key, _)| *key != file_key("file of l1")), "the file goes");
}
