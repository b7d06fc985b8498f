//! Commands on a registry with one rule, without an engine.

use super::*;

#[path = "adopt_tests.rs"]
mod adoptions;
#[path = "manage_tests.rs"]
mod managed;
#[path = "pause_tests.rs"]
mod pauses;
#[path = "plan_tests.rs"]
mod plans;
#[path = "remove_tests.rs"]
mod removals;

use crate::registry::LabelNames;
use crate::registry::plan::PlanKind;
use crate::registry::preview::Compared;
use crate::registry::revision::Release;
use crate::registry::{KeyType, Namespace};
use crate::rule::Manifest;
use crate::state::{Batch, MemStore, StateWriter, Store, Table};
use roaring::RoaringBitmap;
use serde_json::json;

const HOUR: i64 = 3_600_000_000;

fn manifest(labels: &[&str]) -> Manifest {
    let labels: Vec<_> = labels.iter().map(|l| json!({ "name": l })).collect();
    serde_json::from_value(json!({
        "abi": "retag_1", "name": "payer", "entity": "user", "version": "1.0.0", "key": { "type": "u64" },
        "tables": [], "aggregates": [], "labels": labels,
    }))
    .unwrap()
}

fn revision(label_id: &str, namespace_id: &str, labels: &[&str]) -> Box<Revision> {
    Box::new(Revision {
        rule: "payer".into(),
        number: 0,
        file: format!("file of {label_id}"),
        bytes: 1,
        map_id: String::new(),
        namespace_id: namespace_id.into(),
        label_id: label_id.into(),
        manifest: manifest(labels),
        given: Default::default(),
        params: Default::default(),
        uploaded_us: 0,
        by: "ann".into(),
        why: String::new(),
        report: Default::default(),
        previews: Vec::new(),
        adopted: None,
        failure: String::new(),
    })
}

/// A registry with payer@1 live, and the view of an empty state.
struct World {
    registry: Registry,
    store: Arc<MemStore>,
    view: Arc<View>,
    now: i64,
    commit: u64,
    positions: Vec<u64>,
    incomplete: Vec<String>,
    reached: BTreeMap<u64, Vec<u64>>,
}

impl World {
    fn new() -> Self {
        let mut registry = Registry::default();
        let entity = registry.entity("user", KeyType::U64).unwrap();
        let (space, live) = (registry.new_space(), registry.new_space());
        registry.namespaces.push(Namespace {
            space,
            rule: "payer".into(),
            namespace_id: "n".into(),
            entity,
            aggregates: Vec::new(),
            key_column: String::new(),
            fence: Vec::new(),
            filling: false,
            file: String::new(),
            adopted: Vec::new(),
        });
        registry.revisions.push(Revision { number: 1, ..*revision("l1", "n", &["a"]) });
        registry.generations.push(Generation {
            space: live,
            rule: "payer".into(),
            namespace: space,
            revision: 1,
            label_id: "l1".into(),
            params: Default::default(),
            labels: vec![LabelNames { name: "a".into(), values: Vec::new() }],
            state: GenerationState::Ready,
            file: String::new(),
            given: Default::default(),
            retained: None,
        });
        registry.live.insert("payer".into(), live);
        let store = Arc::new(MemStore::new());
        let (_, view) = StateWriter::open(store.clone()).unwrap();
        let (positions, reached) = (vec![7, 0], BTreeMap::new());
        Self { registry, store, view, now: 0, commit: 1, positions, incomplete: Vec::new(), reached }
    }

    fn ask(&mut self, command: Command) -> Result<Effect, Refusal> {
        self.ask_seen(command, None)
    }

    /// Asks, and stores the rows that come of it.
    fn ask_and_store(&mut self, command: Command) {
        let rows = self.ask(command).unwrap().rows;
        let rows = rows.into_iter().map(|(key, row)| (Table::Meta, key, row)).collect();
        self.store.commit(Batch { rows }, true).unwrap();
        self.view = StateWriter::open(self.store.clone()).unwrap().1;
    }

    /// Keys of stored rows.
    fn rows(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(key.to_vec());
            key.starts_with(prefix)
        };
        self.view.rows(Table::Meta, prefix, None, &mut visit).unwrap();
        keys.retain(|key| key.starts_with(prefix));
        keys
    }

    /// Asks with tags that were seen.
    fn ask_seen(&mut self, command: Command, seen: Option<&[&str]>) -> Result<Effect, Refusal> {
        let seen = seen.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect());
        self.ask_as(command, Asker { by: "ann".into(), why: "test".into(), seen, ..Asker::default() })
    }

    fn ask_as(&mut self, command: Command, asker: Asker) -> Result<Effect, Refusal> {
        self.commit += 1;
        self.now += 1;
        let facts = Facts {
            commit: self.commit,
            now: self.now,
            view: &self.view,
            grace_us: HOUR,
            audience: Audience { each_key: true, summary: true },
            positions: &self.positions,
            reached: &self.reached,
            incomplete: &self.incomplete,
        };
        self.registry.execute(&command, &asker, &facts)
    }

    fn code(&mut self, command: Command) -> &'static str {
        let before = self.registry.clone();
        let refused = self.ask(command).map(|_| ()).unwrap_err();
        assert_eq!(self.registry, before, "a refused command changed something");
        refused.kind().1
    }

    fn finish(&mut self) {
        let running: Vec<Operation> = self.registry.running().cloned().collect();
        for operation in running {
            if operation.kind == OperationKind::Prepare {
                let of = |g: &&mut Generation| g.space == operation.new;
                self.registry.generations.iter_mut().find(of).unwrap().state = GenerationState::Ready;
            }
            self.registry.end_operation(operation.id, OperationState::Done, (self.now, 1));
        }
    }

    fn releases(&self) -> Vec<Release> {
        self.registry.revisions.iter().map(|r| self.registry.release(&r.rule, r.number)).collect()
    }
}

fn push(label_id: &str, namespace_id: &str, labels: &[&str]) -> Command {
    Command::Push(revision(label_id, namespace_id, labels), Arc::new(vec![1]))
}

fn prepare(revision: u32) -> Command {
    Command::Prepare { rule: "payer".into(), revision }
}

fn activate(revision: u32) -> Command {
    Command::Activate { rule: "payer".into(), revision, bound: None, announce: false }
}

fn rollback() -> Command {
    Command::Rollback { rule: "payer".into(), announce: false }
}

#[test]
fn a_revision_goes_its_way_and_back() {
    use Release::{Checked, Live, Preparing, Ready, Retained, Retired};
    let mut world = World::new();
    let pushed = world.ask(push("l2", "n", &["a", "b"])).unwrap();
    assert_eq!((pushed.done.revision, pushed.done.changed), (2, true));
    assert_eq!(pushed.rows.len(), 3, "file, audit, registry");
    assert_eq!(world.releases(), [Live, Checked]);
    let again = world.ask(push("l2", "n", &["a", "b"])).unwrap();
    assert_eq!((again.done.revision, again.done.changed, again.rows.len()), (2, false, 0));
    assert_eq!(world.code(activate(2)), "not-ready");
    assert!(!world.registry.awaits_switch(0));
    world.ask(prepare(2)).unwrap();
    assert_eq!(world.releases(), [Live, Preparing]);
    assert_eq!(world.code(activate(2)), "not-ready");
    assert!(world.registry.awaits_switch(i64::MAX), "at any moment");
    world.finish();
    assert_eq!(world.releases(), [Live, Ready]);
    assert_eq!([world.now, world.now + 1].map(|since| world.registry.awaits_switch(since)), [true, false]);
    assert_eq!(world.code(rollback()), "nothing-before");
    world.ask(activate(2)).unwrap();
    assert_eq!(world.releases(), [Retained, Live]);
    assert!(!world.registry.awaits_switch(0));
    world.ask(rollback()).unwrap();
    assert_eq!(world.releases(), [Live, Retained]);
    assert_eq!(world.code(rollback()), "operation-under-way");
    world.finish();
    world.ask(rollback()).unwrap();
    world.finish();
    assert_eq!(world.releases(), [Retained, Live]);
    assert!(world.registry.expired(world.now + HOUR - 1).is_none());
    world.now += HOUR;
    let retire = world.registry.expired(world.now).unwrap();
    let retired = world.ask(retire).unwrap();
    assert_eq!(retired.dropped, [2]);
    assert_eq!(world.releases(), [Retired, Live]);
    assert_eq!(world.code(rollback()), "nothing-before");
}

#[test]
fn what_cannot_be_exact_or_is_taken_is_refused_by_name() {
    let mut world = World::new();
    world.ask(push("l2", "other", &["a"])).unwrap();
    world.incomplete = vec!["orders".into()];
    assert_eq!(world.code(prepare(2)), "no-history");
    world.incomplete.clear();
    let mut shops = revision("l9", "shops", &["a"]);
    shops.manifest.entity = "shop".into();
    world.ask(Command::Push(shops, Arc::new(vec![1]))).unwrap();
    assert_eq!(world.code(prepare(3)), "entity-changed");
    assert_eq!(world.code(prepare(9)), "unknown-revision");
    assert_eq!(world.code(Command::Rollback { rule: "seller".into(), announce: false }), "unknown-rule");
    let mut other = world.registry.live("payer").unwrap().clone();
    (other.rule, other.space) = ("buyer".into(), 90);
    other.labels = vec![LabelNames { name: "b".into(), values: Vec::new() }];
    world.registry.live.insert("buyer".into(), 90);
    world.registry.generations.push(other);
    world.ask(push("l3", "n", &["a", "b"])).unwrap();
    assert_eq!(world.code(prepare(4)), "label-taken");
}

/// Push and prepare of a rule that the state does not know, with label `label` of entity `entity`.
fn new_rule(label: &str, entity: &str) -> [Command; 2] {
    let mut buyer = revision("l9", "buyers", &[label]);
    (buyer.rule, buyer.manifest.entity) = ("buyer".into(), entity.into());
    let prepare = Command::Prepare { rule: "buyer".into(), revision: 1 };
    [Command::Push(buyer, Arc::new(vec![1])), prepare]
}

fn activate_buyer() -> Command {
    Command::Activate { rule: "buyer".into(), revision: 1, bound: None, announce: false }
}

#[test]
fn a_rule_that_is_new_to_the_state_reads_its_history_and_goes_live_from_nothing() {
    let mut world = World::new();
    let [push, prepare] = new_rule("b", "shop");
    world.ask(push).unwrap();
    let plan = world.registry.plan("buyer", 1, Vec::new()).unwrap();
    assert!(plan.against.is_none() && plan.history.is_some(), "{plan:?}");
    assert!(
        plan.words.contains("new to this state") && plan.words.contains("prepare buyer@1"),
        "{}",
        plan.words
    );
    let begun = world.ask(prepare).unwrap().done.operation;
    let namespace = world.registry.namespace("buyer").unwrap().clone();
    assert!(namespace.filling && namespace.fence == [7, 0]);
    assert_eq!(world.registry.entities[1].name, "shop");
    assert_eq!(world.code(activate_buyer()), "not-ready");
    assert_eq!(world.code(Command::Rollback { rule: "buyer".into(), announce: false }), "nothing-before");
    world.registry.filled(namespace.space);
    world.registry.end_operation(begun.unwrap(), OperationState::Done, (0, 0));
    let prepared = world.registry.generation_of("buyer", 1).unwrap().space;
    world.registry.generations.iter_mut().find(|g| g.space == prepared).unwrap().state =
        GenerationState::Ready;
    let done = world.ask(activate_buyer()).unwrap();
    assert_eq!(world.registry.live("buyer").unwrap().space, prepared);
    let told = world.registry.operations.iter().find(|o| Some(o.id) == done.done.operation).unwrap();
    assert_eq!((told.old, told.new, told.cause), (NO_SPACE, prepared, Cause::Backfill));
    assert_eq!(done.switched.unwrap().cause, Cause::Backfill);
    assert_eq!(world.registry.release("buyer", 1), Release::Live);
    assert_eq!(world.code(Command::Rollback { rule: "buyer".into(), announce: false }), "nothing-before");
}

#[test]
fn a_new_rule_that_is_given_up_leaves_nothing() {
    let mut world = World::new();
    let before = world.registry.clone();
    let [push, prepare] = new_rule("b", "user");
    world.ask(push).unwrap();
    world.ask(prepare).unwrap();
    let cancelled = world.ask(Command::Cancel { rule: "buyer".into(), revision: 1 }).unwrap();
    assert_eq!(cancelled.dropped.len(), 2);
    assert_eq!(
        (&world.registry.namespaces, &world.registry.generations),
        (&before.namespaces, &before.generations)
    );
    assert_eq!((&world.registry.taken_over, &world.registry.live), (&before.taken_over, &before.live));
}

#[test]
fn a_new_rule_is_refused_what_others_have_and_what_cannot_be_read() {
    let mut world = World::new();
    world.incomplete = vec!["orders".into()];
    let [push, prepare] = new_rule("a", "user");
    world.ask(push).unwrap();
    assert_eq!(world.code(prepare.clone()), "label-taken");
    world.registry.live.clear();
    assert_eq!(world.code(prepare), "no-history");
    let mut world = World::new();
    let mut buyer = revision("l9", "buyers", &["b"]);
    (buyer.rule, buyer.manifest.key) =
        ("buyer".into(), serde_json::from_value(json!({ "type": "text" })).unwrap());
    world.ask(Command::Push(buyer, Arc::new(vec![1]))).unwrap();
    assert_eq!(world.code(Command::Prepare { rule: "buyer".into(), revision: 1 }), "entity-changed");
}

#[test]
fn new_aggregates_get_a_namespace_from_the_fence_on_that_goes_with_its_last_labels() {
    use Release::{Checked, Live, Preparing, Ready, Retained};
    let mut world = World::new();
    let spaces = |world: &World| -> Vec<u32> { world.registry.namespaces.iter().map(|n| n.space).collect() };
    world.ask(push("l2", "other", &["a"])).unwrap();
    let operation = world.ask(prepare(2)).unwrap().done.operation.unwrap();
    let filling = world.registry.namespaces[1].clone();
    assert_eq!((filling.fence, filling.filling, world.releases()), (vec![7, 0], true, vec![Live, Preparing]));
    assert_eq!(world.registry.namespace("payer").unwrap().space, 1, "consumers read the live one");
    assert_eq!(world.ask(prepare(2)).unwrap().done.operation, Some(operation));
    assert_eq!(world.code(activate(2)), "not-ready");
    // Cancelled, both go.
    let cancelled = world.ask(Command::Cancel { rule: "payer".into(), revision: 2 }).unwrap();
    assert_eq!((cancelled.dropped.len(), spaces(&world)), (2, vec![1]));
    assert_eq!(world.releases(), [Live, Checked]);
    // Given up: the same, with the reason.
    world.ask(prepare(2)).unwrap();
    let space = spaces(&world)[1];
    let give_up = |space| Command::GiveUp { rule: "payer".into(), space, why: "no such column".into() };
    assert!(!world.ask(give_up(1)).unwrap().done.changed, "a live namespace cannot be given up");
    assert!(world.ask(give_up(space)).unwrap().done.changed);
    let last = world.registry.operations.last().unwrap();
    assert_eq!((last.state, last.failure.as_str()), (OperationState::Failed, "no such column"));
    assert_eq!((spaces(&world), world.releases()), (vec![1], vec![Live, Release::Failed]));
    // Filled, swept, live; the one before stays until its grace is over.
    world.ask(prepare(2)).unwrap();
    let space = spaces(&world)[1];
    world.registry.filled(space);
    let new = world.registry.generations.last().unwrap();
    assert_eq!((new.state, new.namespace), (GenerationState::Sweeping, space));
    world.finish();
    assert_eq!(world.releases(), [Live, Ready]);
    world.ask(activate(2)).unwrap();
    assert_eq!(world.registry.operations.last().unwrap().cause, Cause::Swap);
    assert!(!world.registry.can_give_up(1), "a switch from it is being told");
    world.finish();
    assert_eq!((spaces(&world), world.releases()), (vec![1, space], vec![Retained, Live]));
    assert_eq!(world.registry.namespace("payer").unwrap().space, space);
    // A third revision that counts what the first one counted needs no history.
    world.ask(push("l3", "n", &["a"])).unwrap();
    assert_eq!(world.registry.plan("payer", 3, Vec::new()).unwrap().history, None);
    world.ask(prepare(3)).unwrap();
    assert_eq!(world.registry.generations.last().unwrap().state, GenerationState::Sweeping);
    world.finish();
    world.now += HOUR;
    let retire = world.registry.expired(world.now).unwrap();
    world.ask(retire).unwrap();
    assert_eq!(spaces(&world), [1, space], "payer@3 still reads it");
    world.ask(Command::Cancel { rule: "payer".into(), revision: 3 }).unwrap();
    assert_eq!(spaces(&world), [space]);
}

#[test]
fn a_further_change_within_the_grace_takes_the_room_of_the_oldest_way_back() {
    use Release::{Checked, Live, Retained, Retired};
    let mut world = World::new();
    for n in 2..=6_u32 {
        world.ask(push(&format!("l{n}"), "n", &["a"])).unwrap();
    }
    for n in 2..=4 {
        world.ask(prepare(n)).unwrap();
        world.finish();
        world.ask(activate(n)).unwrap();
        world.finish();
    }
    assert_eq!(world.releases()[..4], [Retained, Retained, Retained, Live]);
    let oldest = world.registry.generations[0].space;
    let effect = world.ask(prepare(5)).unwrap();
    assert_eq!((effect.dropped.as_slice(), effect.done.revision), (&[oldest][..], 5));
    world.finish();
    world.ask(activate(5)).unwrap();
    assert_eq!(world.releases(), [Retired, Retained, Retained, Retained, Live, Checked]);
    // The switch is still being told, but not from what is older.
    world.ask(prepare(6)).unwrap();
    assert_eq!(world.releases()[..5], [Retired, Retired, Retained, Retained, Live]);
    world.ask(rollback()).unwrap();
    assert_eq!(world.releases()[3], Live, "the way back is the last one");
    assert_eq!(world.registry.namespaces.len(), 1);
}

#[test]
fn sums_that_nothing_else_holds_are_no_room_for_who_needs_them() {
    let mut world = World::new();
    for (label, namespace) in [("l2", "m"), ("l3", "m2"), ("l4", "m3"), ("l5", "n")] {
        world.ask(push(label, namespace, &["a"])).unwrap();
    }
    for n in 2..=4 {
        world.ask(prepare(n)).unwrap();
        world.registry.filled(world.registry.namespaces.last().unwrap().space);
        world.finish();
        world.ask(activate(n)).unwrap();
        world.finish();
    }
    let [first, second] = [0, 1].map(|n| world.registry.namespaces[n].space);
    // payer@5 counts what payer@1 counted: those sums stay, and those of payer@2 go.
    let effect = world.ask(prepare(5)).unwrap();
    assert!(effect.dropped.contains(&second) && !effect.dropped.contains(&first), "{:?}", effect.dropped);
    let coming = world.registry.generation_of("payer", 5).unwrap();
    assert_eq!(coming.namespace, first);
}

#[test]
fn a_plan_says_what_history_is_read_and_how_long_that_takes() {
    let mut world = World::new();
    world.ask(push("l2", "other", &["a"])).unwrap();
    let sources = |complete| {
        vec![super::super::plan::SourceHistory {
            source: "orders".into(),
            bytes: 6_000,
            messages: false,
            rows: 60,
            complete,
        }]
    };
    let plan = world.registry.plan("payer", 2, sources(true)).unwrap();
    assert_eq!(plan.history.as_ref().unwrap().seconds, None);
    assert!(
        plan.words.contains("6000 bytes of orders with about 60 changes, time unknown"),
        "{}",
        plan.words
    );
    world.ask(prepare(2)).unwrap();
    world.registry.operations[0].read = Some(crate::registry::revision::HistoryRead {
        rows: 50,
        bytes: 4_000,
        timed_bytes: 2_000,
        time_us: 5_000_000,
    });
    world.ask(push("l3", "third", &["a"])).unwrap();
    let plan = world.registry.plan("payer", 3, sources(true)).unwrap();
    assert!(plan.words.contains("about 15 s"), "{}", plan.words);
    let plan = world.registry.plan("payer", 3, sources(false)).unwrap();
    assert!(plan.words.contains("source orders has history = \"none\""), "{}", plan.words);
}

#[test]
fn a_way_back_is_closed_by_a_label_that_another_rule_has_taken() {
    let mut world = World::new();
    world.ask(push("l2", "n", &["b"])).unwrap();
    world.ask(prepare(2)).unwrap();
    world.finish();
    world.ask(activate(2)).unwrap();
    world.finish();
    // Label `a` is free now; another rule takes it.
    let mut other = world.registry.live("payer").unwrap().clone();
    (other.rule, other.space) = ("buyer".into(), 90);
    other.labels = vec![LabelNames { name: "a".into(), values: Vec::new() }];
    world.registry.live.insert("buyer".into(), 90);
    world.registry.generations.push(other);
    assert_eq!(world.code(rollback()), "label-taken");
    assert_eq!(world.code(activate(1)), "label-taken");
}

#[test]
fn one_prepares_at_a_time_and_a_cancelled_one_is_gone() {
    let mut world = World::new();
    world.ask(push("l2", "n", &["a"])).unwrap();
    world.ask(push("l3", "n", &["a"])).unwrap();
    let first = world.ask(prepare(2)).unwrap().done.operation.unwrap();
    let again = world.ask(prepare(2)).unwrap().done;
    assert_eq!((again.operation, again.changed), (Some(first), false));
    assert_eq!(world.code(prepare(3)), "operation-under-way");
    let cancel = |revision| Command::Cancel { rule: "payer".into(), revision };
    assert_eq!(world.code(cancel(1)), "not-cancellable");
    let effect = world.ask(cancel(2)).unwrap();
    assert_eq!(effect.dropped, [3]);
    assert_eq!(world.releases(), [Release::Live, Release::Checked, Release::Checked]);
    world.ask(prepare(3)).unwrap();
}

#[test]
fn every_change_has_its_line_in_the_audit() {
    let mut world = World::new();
    let effect = world.ask(push("l2", "n", &["a"])).unwrap();
    let (key, row) = effect.rows.iter().find(|(key, _)| key.starts_with(b"audit/")).unwrap();
    assert_eq!(*key, audit_key(2));
    let entry: AuditEntry = serde_json::from_slice(row.as_ref().unwrap()).unwrap();
    assert_eq!((entry.by.as_str(), entry.why.as_str(), entry.command.as_str()), ("ann", "test", "push"));
    assert_eq!(entry.before["releases"], json!({ "1": "live" }));
    assert_eq!(entry.after["releases"], json!({ "1": "live", "2": "checked" }));
}

#[test]
fn a_bound_needs_its_preview() {
    let mut world = World::new();
    world.ask(push("l2", "n", &["a"])).unwrap();
    world.ask(prepare(2)).unwrap();
    world.finish();
    let bound = |preview: &str| Command::Activate {
        rule: "payer".into(),
        revision: 2,
        bound: Some(Bound { preview: preview.into(), max_change_percent: 1.0 }),
        announce: false,
    };
    assert_eq!(world.code(bound("2-0")), "unknown-preview");
    let (old, new) =
        (world.registry.live("payer").unwrap(), world.registry.generation_of("payer", 2).unwrap());
    let preview = preview::compare(&world.view, old, new, &mut |_| ());
    let keep = |id: &str, moves: Moves| {
        let preview = Box::new(Preview { id: id.into(), ..preview.clone() });
        Command::Keep { rule: "payer".into(), revision: 2, preview, moves: Box::new(moves) }
    };
    let (somebody, nobody) = (RoaringBitmap::from([7]), RoaringBitmap::new());
    let mut moves = Moves::default();
    moves.add(&Compared { label: "a", value: None, shard: 3, base: 0, entered: &somebody, left: &nobody });
    world.ask_and_store(keep("2-1", moves));
    assert_eq!(world.code(bound("2-1")), "preview-moved", "whom it said would get the label does not");
    world.ask_and_store(keep("2-0", Moves::default()));
    for n in 2..6 {
        assert_eq!(world.rows(b"moves/").len(), 1);
        world.ask_and_store(keep(&format!("2-{n}"), Moves::default()));
    }
    assert_eq!(world.rows(b"moves/").len(), 0, "gone with their preview");
    assert_eq!(world.code(bound("2-1")), "unknown-preview");
    world.ask(bound("2-0")).unwrap();
    assert_eq!(world.releases(), [Release::Retained, Release::Live]);
}

#[test]
fn a_command_on_a_rule_that_has_changed_since_it_was_seen_is_refused() {
    let mut world = World::new();
    let first = world.registry.tag("payer").unwrap();
    let pushed = world.ask_seen(push("l2", "n", &["a"]), Some(&["\"other\"", &first])).unwrap();
    let second = world.registry.tag("payer").unwrap();
    assert_eq!(pushed.done.tag, second);
    assert_ne!(first, second);
    let prepare = || Command::Prepare { rule: "payer".into(), revision: 2 };
    let stale = world.ask_seen(prepare(), Some(&[&first])).unwrap_err();
    assert_eq!((stale.kind().0, stale.kind().1), (412, "changed"));
    assert!(world.registry.generation_of("payer", 2).is_none());
    let prepared = world.ask_seen(prepare(), Some(&["*"])).unwrap().done.tag;
    world.finish();
    assert_eq!(world.registry.tag("payer").unwrap(), prepared, "how far a prepare is does not count");
    let mut seen = vec![first, second, prepared];
    for command in [activate(2), Command::Rollback { rule: "payer".into(), announce: false }] {
        seen.push(world.ask(command).unwrap().done.tag);
        world.finish();
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5, "the way back is another change");
    let unknown = Command::Rollback { rule: "buyer".into(), announce: false };
    assert_eq!(world.ask_seen(unknown, Some(&["*"])).unwrap_err().kind().1, "changed");
}
