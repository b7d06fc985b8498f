//! Stored bytes that were cut, changed or never right: refused with a clear error, without a panic, and what went in
//! well comes out the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use retag_host::state::{
    Batch, BlockReader, BlockWriter, Change, Commit, Life, Limits, Malformed, MemStore, Record, Slot,
    StateWriter, Store, StoreError, Table,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A change that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Add(Slot, i128),
    Count(Slot, Vec<u8>, i64),
    Mark(Slot, u16, u16),
    Put(Slot, Vec<u8>),
    Overflow(Slot),
}

impl Owned {
    fn change(&self) -> Change<'_> {
        match self {
            Owned::Add(slot, n) => Change::Add(*slot, *n),
            Owned::Count(slot, value, n) => Change::Count(*slot, value, *n),
            Owned::Mark(slot, from, to) => Change::Mark { slot: *slot, from: *from, to: *to },
            Owned::Put(slot, bytes) => Change::Put(*slot, bytes),
            Owned::Overflow(slot) => Change::Overflow(*slot),
        }
    }
}

fn slot() -> impl Strategy<Value = Slot> {
    let space = prop_oneof![0..5u32, any::<u32>()];
    let index = prop_oneof![0..5u16, any::<u16>()];
    (space, index).prop_map(|(space, index)| Slot { space, index })
}

fn change() -> impl Strategy<Value = Owned> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let amount = prop_oneof![-100..100i128, any::<i128>()];
    prop_oneof![
        (slot(), amount).prop_map(|(slot, n)| Owned::Add(slot, n)),
        // A count by 0 is no change.
        (slot(), bytes(), any::<i64>()).prop_map(|(slot, value, n)| Owned::Count(slot, value, n.max(1))),
        (slot(), bytes(), i64::MIN..0).prop_map(|(slot, value, n)| Owned::Count(slot, value, n)),
        slot().prop_map(Owned::Overflow),
        (slot(), any::<u16>(), any::<u16>()).prop_map(|(slot, from, to)| Owned::Mark(slot, from, to)),
        (slot(), bytes()).prop_map(|(slot, bytes)| Owned::Put(slot, bytes)),
    ]
}

type Entries = BTreeMap<Vec<u8>, (u32, Life, Vec<Owned>)>;

fn entries() -> impl Strategy<Value = Entries> {
    let life = prop_oneof![Just(Life::New), Just(Life::Kept), Just(Life::Gone)];
    let key = prop_oneof![
        4 => prop::collection::vec(0..3u8, 0..6),
        1 => prop::collection::vec(any::<u8>(), 250..258),
    ];
    prop::collection::btree_map(key, (any::<u32>(), life, prop::collection::vec(change(), 0..5)), 0..60)
}

fn write(commit: u64, entries: &Entries) -> Vec<u8> {
    let mut block = BlockWriter::new(commit);
    for (key, (ordinal, life, changes)) in entries {
        block.key(key, *ordinal, *life);
        changes.iter().for_each(|change| block.change(&change.change()));
    }
    assert_eq!(block.keys() as usize, entries.len());
    block.finish(0).bytes
}

/// Reads everything; any answer will do, a panic will not.
fn read_all(bytes: Vec<u8>) -> Result<u64, Malformed> {
    let block = BlockReader::open(bytes)?;
    let mut entries = block.entries();
    let mut seen = 0;
    while let Some((_, entry)) = entries.advance()? {
        entry.changes(|_| {
            seen += 1;
            Ok::<(), Malformed>(())
        })?;
    }
    for key in [&b""[..], &[1], &[1, 2, 0], &[255; 300]] {
        block.find(key)?;
    }
    Ok(seen)
}

/// Makes the checksum right again, so that the readers behind it meet the changed bytes.
fn reseal(bytes: &mut [u8]) {
    if let Some((content, sum)) = bytes.split_last_chunk_mut::<8>() {
        *sum = xxhash_rust::xxh3::xxh3_64(content).to_le_bytes();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_block_comes_back(commit in any::<u64>(), entries in entries()) {
        let block = BlockReader::open(write(commit, &entries)).unwrap();
        assert_eq!((block.commit(), block.keys() as usize), (commit, entries.len()));
        let mut found = block.entries();
        for (key, (ordinal, life, changes)) in &entries {
            let (found_key, entry) = found.advance().unwrap().unwrap();
            assert_eq!((found_key, entry.ordinal, entry.life), (&key[..], *ordinal, *life));
            let mut expect = changes.iter();
            entry.changes(|change| {
                assert_eq!(*change, expect.next().unwrap().change());
                Ok::<(), Malformed>(())
            }).unwrap();
            assert!(expect.next().is_none());
            assert_eq!(block.find(key).unwrap().unwrap().ordinal, *ordinal);
            let behind = [&key[..], &[0]].concat();
            assert_eq!(block.find(&behind).unwrap().is_some(), entries.contains_key(&behind));
        }
        assert!(found.advance().unwrap().is_none());
    }

    #[test]
    fn state_block_with_changed_bytes_never_panics(
        entries in entries(),
        edits in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6),
        cut in any::<u16>(),
    ) {
        let good = write(7, &entries);
        let mut bad = good.clone();
        for (at, byte) in edits {
            let at = usize::from(at) % bad.len();
            bad[at] = byte;
        }
        if bad != good {
            assert!(BlockReader::open(bad.clone()).is_err());
        }
        reseal(&mut bad);
        let _ = read_all(bad);
        let mut short = good;
        short.truncate(usize::from(cut) % (short.len() + 1));
        reseal(&mut short);
        let _ = read_all(short);
    }

    #[test]
    fn state_opened_over_garbage_never_panics(
        rows in prop::collection::vec((0..5usize, prop::collection::vec(any::<u8>(), 0..12), prop::collection::vec(any::<u8>(), 0..60)), 1..5),
    ) {
        let store = MemStore::new();
        let mut batch = Batch::default();
        for (table, key, value) in rows {
            batch.put(Table::ALL[table], key, value);
        }
        store.commit(batch, true).unwrap();
        if let Ok((_, view)) = StateWriter::open(Arc::new(store)) {
            let _ = view.get(0, b"key");
            let _ = view.scan(3, None, 10);
            let _ = view.page_around(63, b"");
            let _ = view.key_of(1, 5);
        }
    }
}

fn commit(id: u64, shard: u8) -> Commit {
    let mut block = BlockWriter::new(id);
    for number in 0..40u8 {
        block.key(&[number], u32::from(number), if id == 1 { Life::New } else { Life::Kept });
        block.add(Slot { space: 1, index: 0 }, 1);
        if id == 1 {
            block.mark(Slot { space: 2, index: 0 }, 0, 3);
        }
    }
    let engine_time_us = i64::try_from(id).unwrap();
    Commit { id, engine_time_us, shards: vec![block.finish(shard)], ..Commit::default() }
}

/// A state with folded pages, members and a dictionary, and a block on top.
fn stored() -> MemStore {
    let store = MemStore::new();
    let limits = Limits { overlay_commits: 2, page_bytes: 100, page_bytes_max: 150, ..Limits::default() };
    let (mut writer, _) = StateWriter::open_with(Arc::new(store.clone()), limits).unwrap();
    writer.commit(commit(1, 5)).unwrap();
    writer.commit(commit(2, 5)).unwrap();
    while writer.fold_step().unwrap().is_some() {}
    writer.commit(commit(3, 5)).unwrap();
    assert!(
        [Table::Meta, Table::Blocks, Table::Pages, Table::Members, Table::Dictionary]
            .iter()
            .all(|table| store.rows(*table) > 0)
    );
    store
}

#[test]
fn state_refuses_each_changed_row_by_name() {
    for table in [Table::Blocks, Table::Pages, Table::Members, Table::Dictionary] {
        let store = stored();
        let mut rows = Vec::new();
        let take = &mut |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        };
        store.snapshot().unwrap().scan(table, &[], None, take).unwrap();
        let (key, mut value) = rows.swap_remove(rows.len() / 2);
        let middle = value.len() / 2;
        value[middle] ^= 0x10;
        let mut batch = Batch::default();
        batch.put(table, key, value);
        store.commit(batch, true).unwrap();
        let read = StateWriter::open(Arc::new(store)).and_then(|(_, view)| {
            view.scan(5, None, 100)?;
            (0..40).try_for_each(|ordinal| view.key_of(5, ordinal).map(|_| ()))
        });
        let error = read.expect_err(table.name());
        assert!(matches!(error, StoreError::Corrupt { .. }), "{}: {error}", table.name());
        assert!(error.to_string().contains("checksum differs"), "{error}");
    }
}

#[test]
fn state_refuses_a_wrong_commit_and_goes_on() {
    let store = MemStore::new();
    let (mut writer, _) = StateWriter::open(Arc::new(store)).unwrap();
    writer.commit(commit(1, 5)).unwrap();
    let mut unsorted = BlockWriter::new(2);
    unsorted.key(b"b", 40, Life::New);
    unsorted.key(b"a", 41, Life::New);
    let own_row = (Table::Pages, vec![1], None);
    let own_fact = (Table::Meta, vec![0, 1], Some(vec![1]));
    let wrong = [
        ("same number", commit(1, 5)),
        ("unsorted keys", Commit { shards: vec![unsorted.finish(5)], ..commit(2, 5) }),
        ("no such shard", commit(2, 64)),
        (
            "a shard twice",
            Commit { shards: [commit(2, 5).shards, commit(2, 5).shards].concat(), ..commit(2, 5) },
        ),
        ("a block of another commit", Commit { id: 3, ..commit(2, 5) }),
        ("time goes back", Commit { engine_time_us: 0, ..commit(2, 5) }),
        ("a row of the state", Commit { rows: vec![own_row], ..commit(2, 5) }),
        ("a fact of the state", Commit { rows: vec![own_fact], ..commit(2, 5) }),
    ];
    for (name, commit) in wrong {
        let error = writer.commit(commit).expect_err(name);
        assert!(matches!(error, StoreError::BadCommit { .. }), "{name}: {error}");
        assert_eq!(writer.view().commit(), 1, "{name}");
    }
    let view = writer.commit(commit(2, 5)).unwrap();
    assert_eq!(view.get(5, &[7]).unwrap().unwrap().sum(Slot { space: 1, index: 0 }), 2);
    assert_eq!(view.count(2, 0, 3), 40);
}

#[test]
fn state_asks_for_a_fold_before_more_input() {
    let limits = Limits { overlay_commits: 2, ..Limits::default() };
    let (mut writer, _) = StateWriter::open_with(Arc::new(MemStore::new()), limits).unwrap();
    assert_eq!(writer.fold_step().unwrap(), None);
    for id in 1..=8 {
        assert!(!writer.must_fold(), "commit {id}");
        writer.commit(commit(id, 9)).unwrap();
    }
    assert!(writer.must_fold() && writer.overlay_bytes() > 0);
    let report = writer.fold_step().unwrap().unwrap();
    assert_eq!((report.shard, report.blocks_dropped, report.finished), (9, 8, true));
    assert!(!writer.must_fold());
    assert_eq!((writer.overlay_bytes(), writer.fold_step().unwrap()), (0, None));
}

#[test]
fn state_record_packs_into_few_bytes() {
    let mut record = Record::new(70_000);
    record.apply(&Change::Add(Slot { space: 1, index: 0 }, 12)).unwrap();
    record.apply(&Change::Add(Slot { space: 1, index: 1 }, 480_000)).unwrap();
    let mut packed = Vec::new();
    record.encode(&mut packed);
    assert!(packed.len() <= 12, "count and sum take {} bytes", packed.len());
    assert_eq!(Record::decode(&packed), Ok(record));
    assert!((0..packed.len() - 1).all(|cut| Record::decode(&packed[..cut]).is_err() || cut == 3 || cut == 6));
}

#[test]
fn state_views_and_writers_go_between_threads() {
    fn shared<T: Send + Sync>() {}
    fn moved<T: Send>() {}
    shared::<retag_host::state::View>();
    moved::<StateWriter>();
}
