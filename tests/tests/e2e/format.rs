//! A state directory that the last program of format 1 left: read as it is, then gone on with.

use crate::harness::{Folder, root};
use crate::message::{order, state, told, user};
use crate::read::assert_reads;
use retag_host::registry::{META_KEY, Registry};
use retag_host::state::{
    CountedSet, FjallStore, Limits, Slot, StateDir, StateWriter, Table, View, entity_key, key_hash, shard_of,
    u64_key,
};
use retag_tests::model::Model;
use std::path::Path;
use std::sync::Arc;

/// Copies a folder and what is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The directory of format 1, with its log and its rule.
fn old() -> Folder {
    let folder = Folder::new();
    let fixture = root().join("host/tests/fixtures/state-format-1");
    copy(&fixture.join("data"), &folder.path("data"));
    // Git keeps no empty folders.
    for keyspace in std::fs::read_dir(folder.path("data/store/keyspaces")).unwrap().flatten() {
        std::fs::create_dir_all(keyspace.path().join("tables")).unwrap();
    }
    for name in ["orders.json", "payer.wasm"] {
        std::fs::copy(fixture.join(name), folder.path(name)).unwrap();
    }
    folder.configure(r#"["o.p0.json", "o.p1.json"]"#, r#"["orders.json"]"#);
    folder
}

/// Opens the state without a host, folds all blocks if told to, and looks.
fn look<T>(folder: &Folder, fold: bool, look: impl FnOnce(&View) -> T) -> T {
    let dir = StateDir::open(&folder.path("data")).unwrap();
    let store = Arc::new(FjallStore::open(&dir.store_path()).unwrap());
    let limits = Limits { overlay_commits: 1, ..Limits::default() };
    let (mut writer, _) = StateWriter::open_with(store, limits).unwrap();
    while fold && writer.fold_step().unwrap().is_some() {}
    look(writer.view())
}

fn rows(view: &View, table: Table) -> usize {
    let mut rows = 0;
    let count = &mut |_: &[u8], _: &[u8]| {
        rows += 1;
        true
    };
    view.rows(table, &[], None, count).unwrap();
    rows
}

/// Merchants of a user, and whether they lie in rows.
fn merchants(view: &View, user: u64) -> (CountedSet, bool) {
    let registry = Registry::read(view.row(Table::Meta, META_KEY).unwrap().as_deref()).unwrap();
    let namespace = registry.namespace("payer").unwrap();
    let (key, slot) = (u64_key(user), Slot { space: namespace.space, index: 3 });
    let (shard, key) = (shard_of(key_hash("user", &key)), entity_key(namespace.entity, &key));
    let brief = view.get_brief(shard, &key).unwrap().unwrap();
    let whole = view.get(shard, &key).unwrap().unwrap();
    (whole.set(slot).unwrap().clone(), brief.set(slot).unwrap().is_in_rows())
}

#[test]
fn a_directory_of_format_1_reads_the_same_and_goes_on() {
    let folder = old();
    assert!(folder.read("data/format").starts_with("format = 1\n"));
    let mut model = Model::new();
    folder.read("orders.json").lines().for_each(|line| model.apply(line.as_bytes()).unwrap());
    assert_reads(&folder, &model);
    let before = look(&folder, false, |view| {
        assert!(
            rows(view, Table::Pages) > 0 && rows(view, Table::Blocks) > 0 && rows(view, Table::Sets) == 0
        );
        [1, 3].map(|user| merchants(view, user))
    });
    assert_eq!(before.each_ref().map(|(set, in_rows)| (set.entries(), *in_rows)), [(91, false), (71, false)]);
    folder.run().assert_ok();
    assert!(folder.read("data/format").starts_with("format = 2\n"));
    assert_eq!(told(&folder), Vec::<String>::new(), "nothing is told again");
    assert_reads(&folder, &model);
    // Folded by now, the long sets lie in rows and are the same.
    let folded = look(&folder, true, |view| {
        assert_eq!(rows(view, Table::Blocks), 0);
        [1, 3].map(|user| merchants(view, user))
    });
    assert_eq!(folded.each_ref().map(|(_, in_rows)| *in_rows), [true, true]);
    assert_eq!(folded.each_ref().map(|(set, _)| set), before.each_ref().map(|(set, _)| set));
    assert_reads(&folder, &model);
    // A merchant more of one, one that comes and goes of the other.
    let new = order(5_000, (900_001, 1), "3000.00")
        + &order(5_001, (900_002, 3), "1.00")
        + &state(5_002, (900_002, 3), "1.00", 6)
        + &user(5_003, 99);
    new.lines().for_each(|line| model.apply(line.as_bytes()).unwrap());
    folder.append("orders.json", new);
    folder.run().assert_ok();
    assert_eq!(told(&folder), ["1 tier=silver", "3 refunder", "99 never_paid"]);
    assert_reads(&folder, &model);
    let after = look(&folder, true, |view| [1, 3].map(|user| merchants(view, user).0));
    assert_eq!(after.each_ref().map(CountedSet::entries), [92, 71]);
    assert!(before[0].0.iter().all(|(value, n)| after[0].count(value) == n));
    assert_eq!(after[1], before[1].0);
}
