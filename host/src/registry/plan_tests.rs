//! What plans and diffs name.

use super::*;

fn aggregate(id: u16, name: &str) -> crate::rule::manifest::Aggregate {
    serde_json::from_value(json!({ "id": id, "name": name, "kind": "count" })).unwrap()
}

/// A revision with aggregates and labels, by a map of this id.
fn file(map_id: &str, label_id: &str, aggregates: &[&str], labels: &[&str]) -> Command {
    let mut revision = revision(label_id, map_id, labels);
    map_id.clone_into(&mut revision.map_id);
    revision.file = format!("{map_id}, {label_id}");
    revision.manifest.aggregates = (0..).zip(aggregates).map(|(id, name)| aggregate(id, name)).collect();
    Command::Push(revision, Arc::new(vec![1]))
}

/// A registry whose live revision counts orders and returns, and labels a and b.
fn world() -> World {
    let mut world = World::new();
    world.ask(file("map", "l2", &["orders", "returns"], &["a", "b"])).unwrap();
    world.ask(prepare(2)).unwrap();
    world.finish();
    world.ask(activate(2)).unwrap();
    world.finish();
    world
}

#[test]
fn a_plan_names_what_other_code_may_change_beside_what_is_declared_otherwise() {
    let mut world = world();
    world.ask(file("map", "l3", &["orders", "returns"], &["a", "b", "c"])).unwrap();
    let plan = world.registry.plan("payer", 3, Vec::new()).unwrap();
    assert_eq!((plan.kind, plan.labels.added), (PlanKind::Labels, vec!["c".to_owned()]));
    assert_eq!(plan.labels.perhaps, ["a", "b"]);
    assert!(plan.aggregates.perhaps.is_empty(), "the sums are the same");
    world.ask(file("other map", "l2", &["largest", "orders", "returns"], &["a", "b"])).unwrap();
    let plan = world.registry.plan("payer", 4, Vec::new()).unwrap();
    assert_eq!((plan.kind, plan.aggregates.added), (PlanKind::Aggregates, vec!["largest".to_owned()]));
    assert_eq!(plan.aggregates.perhaps, ["orders", "returns"]);
    assert_eq!(plan.labels.perhaps, ["a", "b"]);
    assert!(plan.words.contains("by another `map`"), "{}", plan.words);
    let same = world.registry.plan("payer", 2, Vec::new()).unwrap();
    assert!(same.labels.perhaps.is_empty() && same.aggregates.perhaps.is_empty(), "{same:?}");
}

#[test]
fn a_diff_does_not_name_what_only_stands_elsewhere_in_the_file() {
    let mut world = world();
    world.ask(file("other map", "l2", &["largest", "orders", "returns"], &["a", "b"])).unwrap();
    let diff = world.registry.diff("payer", 2, 3).unwrap();
    let names: Vec<&str> = diff.aggregates.iter().map(|changed| changed.name.as_str()).collect();
    assert_eq!(names, ["largest"]);
}
