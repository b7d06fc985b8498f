//! The state directory and the store on disk: one owner, a format, clear errors, and what is durable is there again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use retag_host::state::{Batch, FjallStore, StateDir, Store, StoreError, Table};
use std::time::Duration;

#[test]
fn state_dir_keeps_its_id_and_names_its_owner() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/b");
    let first = StateDir::open(&path).unwrap();
    assert_eq!((first.id().len(), first.epoch()), (16, 1));
    let error = StateDir::open(&path).expect_err("in use");
    let text = error.to_string();
    assert!(text.starts_with("state-in-use") && text.contains(&std::process::id().to_string()), "{text}");
    let id = first.id().to_owned();
    drop(first);
    assert_eq!(StateDir::open(&path).unwrap().id(), id);
    assert_ne!(StateDir::open(&root.path().join("other")).unwrap().id(), id);
}

#[test]
fn who_reads_a_stopped_state_for_a_moment_is_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let reader = StateDir::open(root.path()).unwrap();
    let error = StateDir::open_when_read(root.path(), Duration::from_millis(50)).expect_err("in use");
    assert!(error.to_string().starts_with("state-in-use"), "{error}");
    let ended = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(reader);
    });
    StateDir::open_when_read(root.path(), Duration::from_secs(20)).unwrap();
    ended.join().unwrap();
}

#[test]
fn state_dir_of_an_older_format_is_taken_over_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let text = "format = 1\nid = 0123456789abcdef\nepoch = 4\n";
    std::fs::write(root.path().join("format"), text).unwrap();
    let dir = StateDir::open(root.path()).unwrap();
    assert_eq!((dir.id(), dir.epoch()), ("0123456789abcdef", 4));
    let now = std::fs::read_to_string(root.path().join("format")).unwrap();
    assert_eq!(now, text.replace("format = 1", "format = 2"));
}

#[test]
fn state_dir_knows_the_processes_that_had_it_unless_it_is_older_than_that() {
    let root = tempfile::tempdir().unwrap();
    let (path, old) = (root.path().join("state"), root.path().join("old"));
    drop(StateDir::open(&path).unwrap()); // it was looked at, and nothing ran
    let enlist = |path: &std::path::Path| StateDir::open(path).unwrap().enlist().unwrap();
    let first = enlist(&path);
    let second = enlist(&path);
    assert_eq!((first.len(), second.len()), (1, 2));
    assert_eq!(second[..1], first[..]);
    // One that ran before there was such a list: who had it is not known, now or later.
    drop(StateDir::open(&old).unwrap());
    std::fs::remove_file(old.join("hosts")).unwrap();
    assert!(enlist(&old).is_empty() && enlist(&old).is_empty());
}

#[test]
fn state_dir_refuses_what_it_cannot_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    drop(StateDir::open(&path).unwrap());
    std::fs::write(path.join("format"), "format = 3\nnewer = yes\n").unwrap();
    let error = StateDir::open(&path).expect_err("newer");
    assert!(matches!(error, StoreError::NewerFormat { found: 3, known: 2, .. }), "{error}");
    for broken in
        ["", "format = one", "format = 1\nid = short\nepoch = 1", "format = 1\nid = 0123456789abcdef"]
    {
        std::fs::write(path.join("format"), broken).unwrap();
        let error = StateDir::open(&path).expect_err(broken);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }
    let file = root.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    for in_the_way in [file.clone(), file.join("below")] {
        let error = StateDir::open(&in_the_way).expect_err("a file");
        assert!(
            matches!(error, StoreError::Io { .. }) && error.to_string().contains("[state] dir"),
            "{error}"
        );
    }
}

#[test]
fn state_store_on_disk_reads_whole_batches_only() {
    let root = tempfile::tempdir().unwrap();
    let store = FjallStore::open(root.path()).unwrap();
    let empty = store.snapshot().unwrap();
    for round in 0..3u8 {
        let mut batch = Batch::default();
        for table in Table::ALL {
            batch.put(table, b"row".to_vec(), vec![round]);
            batch.put(table, vec![round], vec![round]);
        }
        store.commit(batch, round == 2).unwrap();
        let snapshot = store.snapshot().unwrap();
        for table in Table::ALL {
            assert_eq!(snapshot.get(table, b"row").unwrap(), Some(vec![round]));
        }
    }
    let mut batch = Batch::default();
    batch.remove(Table::Outbox, vec![1]);
    store.commit(batch, true).unwrap();
    assert!(Table::ALL.iter().all(|table| empty.get(*table, b"row").unwrap().is_none()));
    drop((empty, store));
    let store = FjallStore::open(root.path()).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut keys = Vec::new();
    let take = &mut |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        true
    };
    snapshot.scan(Table::Outbox, &[0], Some(b"row"), take).unwrap();
    assert_eq!(keys, [vec![0], vec![2]]);
    let before = snapshot.last_at_or_before(Table::Outbox, b"q").unwrap();
    assert_eq!(before, Some((vec![2], vec![2])));
    assert_eq!(snapshot.last_at_or_before(Table::Outbox, b"").unwrap(), None);
}

#[test]
fn state_store_names_the_place_it_cannot_open() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("store");
    std::fs::write(&file, "in the way").unwrap();
    let Err(error) = FjallStore::open(&file) else { panic!("a file was opened as a store") };
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}
