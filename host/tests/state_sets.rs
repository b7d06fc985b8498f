//! Counted sets that grow past their page and shrink back: whatever is added and taken back, folded, lost in a crash and
//! opened again, the entries are the model's; a fold writes what changed and not the set; what went leaves no rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use retag_host::state::{
    Batch, BlockWriter, Commit, CountedSet, Life, Limits, MemStore, Record, Row, Slot, Snapshot, StateWriter,
    Store, StoreError, Table, View, digest_of,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const SHARD: u8 = 5;
const SETS: [Slot; 2] = [Slot { space: 1, index: 0 }, Slot { space: 2, index: 3 }];
const ORDERS: Slot = Slot { space: 1, index: 9 };

/// Rows of at least two kinds of length, small enough that a set of 64 has several.
fn limits() -> Limits {
    Limits {
        overlay_bytes: 1 << 20,
        overlay_commits: 2,
        page_bytes: 600,
        page_bytes_max: 900,
        fold_pages: 1,
        page_cache_bytes: 200,
        set_row_bytes_max: 300,
        ..Limits::default()
    }
}

/// Values whose byte order is not the order of their numbers; some are long, one is empty.
fn value(number: u16) -> Vec<u8> {
    let mut bytes = (number.wrapping_mul(40_503)).to_be_bytes().to_vec();
    if number.is_multiple_of(11) {
        bytes.resize(2 + usize::from(number % 60), b'x');
    }
    if number == 0 { Vec::new() } else { bytes }
}

type Entries = BTreeMap<Vec<u8>, i64>;
type Sets = [Entries; 2];

/// Changes of one set of one key: values from `start` on, every `stride`-th, by `n`.
#[derive(Clone, Debug)]
struct Bulk {
    key: u8,
    set: usize,
    start: u16,
    stride: u16,
    count: u16,
    n: i64,
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Bulk>),
    /// All that a key holds is taken back.
    Erase(u8),
    /// The set of a key is given up.
    Overflow(u8, usize),
    DropSecondSpace,
    /// An entry for every key there may be: one more of a value, or of nothing where the first set overflowed.
    TouchAll,
    Fold(u8),
    Reopen,
    Crash(usize),
    FailAfter(u64),
}

fn bulk() -> impl Strategy<Value = Bulk> {
    let n = prop_oneof![3 => Just(1i64), 2 => Just(-1), 1 => -3..4i64];
    let count = prop_oneof![2 => 0..4u16, 1 => 40..150u16];
    (0..3u8, 0..2usize, 0..200u16, 1..4u16, count, n).prop_map(|(key, set, start, stride, count, n)| Bulk {
        key,
        set,
        start,
        stride,
        count,
        n,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => prop::collection::vec(bulk(), 1..5).prop_map(Step::Commit),
        2 => (0..3u8).prop_map(Step::Erase),
        1 => (0..3u8, 0..2usize).prop_map(|(key, set)| Step::Overflow(key, set)),
        1 => Just(Step::DropSecondSpace),
        1 => Just(Step::TouchAll),
        8 => (1..5u8).prop_map(Step::Fold),
        1 => Just(Step::Reopen),
        1 => (0..3usize).prop_map(Step::Crash),
        1 => (0..4u64).prop_map(Step::FailAfter),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Clone, Debug, Default)]
struct Model {
    commit: u64,
    next_ordinal: u32,
    /// Ordinal, entries of its sets, which of them overflowed.
    keys: BTreeMap<u8, (u32, Sets, [bool; 2])>,
    /// Number of the second space; grows when it is dropped.
    dropped: u32,
}

impl Model {
    fn slot(&self, set: usize) -> Slot {
        Slot { space: SETS[set].space + if set == 1 { self.dropped } else { 0 }, ..SETS[set] }
    }

    /// The commit that makes these net changes.
    fn commit(&self, step: &Step) -> (Commit, Model) {
        let mut next = self.clone();
        next.commit += 1;
        let mut block = BlockWriter::new(next.commit);
        let mut drop_spaces = Vec::new();
        for key in 0..3 {
            let changes = self.changes_of(key, step);
            let touched = match step {
                Step::Overflow(k, _) => *k == key && self.keys.contains_key(&key),
                Step::TouchAll => true,
                _ => changes.iter().any(|changes| !changes.is_empty()),
            };
            if !touched {
                continue;
            }
            next.change_key(
                key,
                &changes,
                if let Step::Overflow(_, set) = step { Some(*set) } else { None },
                &mut block,
            );
        }
        if let Step::DropSecondSpace = step {
            drop_spaces.push(self.slot(1).space);
            next.dropped += 1;
            for (_, sets, overflowed) in next.keys.values_mut() {
                sets[1].clear();
                overflowed[1] = false;
            }
            next.keys.retain(|_, (_, sets, overflowed)| !sets[0].is_empty() || overflowed[0]);
        }
        let shards = (block.keys() > 0).then(|| block.finish(SHARD)).into_iter().collect();
        (Commit { id: next.commit, shards, drop_spaces, ..Commit::default() }, next)
    }

    /// Net changes per set of a key.
    fn changes_of(&self, key: u8, step: &Step) -> Sets {
        let mut changes = Sets::default();
        match step {
            Step::Commit(all) => {
                for bulk in all.iter().filter(|bulk| bulk.key == key) {
                    for at in 0..bulk.count {
                        let value = value((bulk.start + at * bulk.stride) % 400);
                        *changes[bulk.set].entry(value).or_default() += bulk.n;
                    }
                }
                for (set, changes) in changes.iter_mut().enumerate() {
                    changes.retain(|_, n| *n != 0);
                    if self.keys.get(&key).is_some_and(|(_, _, overflowed)| overflowed[set]) {
                        changes.clear();
                    }
                }
            }
            Step::TouchAll if self.keys.get(&key).is_none_or(|(_, _, overflowed)| !overflowed[0]) => {
                changes[0].insert(value(7), 1);
            }
            Step::Erase(erased) if *erased == key => {
                if let Some((_, sets, _)) = self.keys.get(&key) {
                    changes = sets.clone();
                    changes.iter_mut().flat_map(BTreeMap::values_mut).for_each(|n| *n = -*n);
                }
            }
            _ => {}
        }
        changes
    }

    fn change_key(&mut self, key: u8, changes: &Sets, overflow: Option<usize>, block: &mut BlockWriter) {
        let before = self.keys.get(&key).cloned();
        let (ordinal, mut sets, mut overflowed) =
            before.clone().unwrap_or_else(|| (self.next_ordinal, Sets::default(), [false; 2]));
        for (entries, changes) in sets.iter_mut().zip(changes) {
            changes.iter().for_each(|(value, n)| *entries.entry(value.clone()).or_default() += n);
            entries.retain(|_, n| *n != 0);
        }
        let given_up = overflow.filter(|set| !overflowed[*set]);
        let held = given_up.map(|set| {
            overflowed[set] = true;
            (set, std::mem::take(&mut sets[set]))
        });
        let empty = sets.iter().all(BTreeMap::is_empty) && overflowed == [false; 2];
        let life = match (&before, empty) {
            (None, true) => return,
            (None, false) => Life::New,
            (Some(_), true) => Life::Gone,
            (Some(_), false) => Life::Kept,
        };
        block.key(&[b'k', key], ordinal, life);
        for (set, changes) in changes.iter().enumerate() {
            changes.iter().for_each(|(value, n)| block.count(self.slot(set), value, *n));
        }
        if let Some((set, entries)) = held {
            let mut whole = CountedSet::new();
            entries.iter().for_each(|(value, n)| whole.add(value, *n));
            block.overflow(self.slot(set), &whole);
        }
        self.next_ordinal += u32::from(life == Life::New);
        self.keys.remove(&key);
        if !empty {
            self.keys.insert(key, (ordinal, sets, overflowed));
        }
    }

    fn check(&self, view: &View) {
        assert_eq!(view.commit(), self.commit);
        let mut digests = BTreeMap::new();
        for key in 0..3 {
            let state_key = [b'k', key];
            let whole = view.get(usize::from(SHARD), &state_key).unwrap();
            let Some((ordinal, sets, overflowed)) = self.keys.get(&key) else {
                assert_eq!(whole, None, "key {key}");
                continue;
            };
            let whole = whole.unwrap_or_else(|| panic!("key {key} is not there"));
            assert_eq!(whole.ordinal, *ordinal);
            for (set, entries) in sets.iter().enumerate() {
                let found = whole.set(self.slot(set));
                let listed: Entries =
                    found.into_iter().flat_map(CountedSet::iter).map(|(v, n)| (v.to_vec(), n)).collect();
                assert_eq!(&listed, entries, "set {set} of key {key}");
                assert_eq!(found.is_some_and(CountedSet::is_overflow), overflowed[set]);
            }
            for (space, part) in digest_of(&state_key, &whole) {
                let digest = digests.entry(space).or_insert(0u64);
                *digest = digest.wrapping_add(part);
            }
            let page = view.page_around(usize::from(SHARD), &state_key).unwrap();
            let brief = page.records.iter().find(|(key, _)| **key == state_key).map(|(_, record)| record);
            self.check_brief(key, brief.unwrap());
            assert_eq!(view.get_brief(usize::from(SHARD), &state_key).unwrap().as_ref(), brief);
        }
        for set in 0..2 {
            let space = self.slot(set).space;
            assert_eq!(view.digest(space), digests.get(&space).copied().unwrap_or(0), "space {space}");
        }
    }

    /// What labels read of a record without the entries.
    fn check_brief(&self, key: u8, record: &Record) {
        for (number, entries) in self.keys[&key].1.iter().enumerate() {
            let Some(set) = record.set(self.slot(number)) else {
                assert!(entries.is_empty());
                continue;
            };
            let mut positive = entries.iter().filter(|(_, n)| **n > 0).map(|(value, _)| &value[..]);
            assert_eq!(set.positive(), positive.clone().count());
            assert_eq!(set.entries(), entries.len());
            assert_eq!(set.has_negative(), entries.values().any(|n| *n < 0));
            assert_eq!((set.min(), set.max()), (positive.clone().next(), positive.next_back()));
        }
    }
}

struct Run {
    store: MemStore,
    writer: StateWriter,
    model: Model,
    in_rows: bool,
}

impl Run {
    fn new(store: MemStore) -> Self {
        let (writer, _) = StateWriter::open_with(Arc::new(store.clone()), limits()).unwrap();
        Self { store, writer, model: Model::default(), in_rows: false }
    }

    fn open(&mut self) {
        let (writer, view) = StateWriter::open_with(Arc::new(self.store.clone()), limits()).unwrap();
        self.writer = writer;
        self.model.check(&view);
    }

    fn recover(&mut self, error: &StoreError) {
        assert!(matches!(error, StoreError::Store { .. }), "{error}");
        self.store.crash();
        self.open();
    }

    fn fold(&mut self, steps: u8) {
        for _ in 0..steps {
            match self.writer.fold_step() {
                Ok(None) => return,
                Ok(Some(_)) => self.model.check(self.writer.view()),
                Err(error) => return self.recover(&error),
            }
            self.in_rows |= self.store.rows(Table::Sets) > 0;
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Fold(steps) => self.fold(*steps),
            Step::Reopen => self.open(),
            Step::Crash(kept) => {
                self.store.crash_keeping(*kept);
                self.open();
            }
            Step::FailAfter(writes) => self.store.fail_after(*writes),
            commit => loop {
                let (commit, next) = self.model.commit(commit);
                match self.writer.commit(commit) {
                    Ok(view) => {
                        self.model = next;
                        return self.model.check(&view);
                    }
                    Err(error) => self.recover(&error),
                }
            },
        }
    }

    /// Ends with everything taken back and folded: nothing may be left in rows.
    fn end(mut self) -> bool {
        self.store.heal();
        for key in 0..3 {
            self.step(&Step::Erase(key));
        }
        self.step(&Step::Overflow(0, 0));
        // A page keeps what went, and its rows, until it is folded again; so every key that there ever was gets an entry.
        for _ in 0..3 {
            self.step(&Step::TouchAll);
        }
        self.fold(100);
        assert_eq!(self.store.rows(Table::Blocks), 0);
        assert_eq!(self.store.rows(Table::Sets), 0, "rows of sets that are gone");
        self.open();
        self.in_rows
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sets_in_and_out_of_rows_are_the_model(steps in steps()) {
        let mut run = Run::new(MemStore::new());
        steps.iter().for_each(|step| run.step(step));
        run.end();
    }

    #[test]
    fn sets_of_any_bytes_come_back_from_rows(entries in any_entries()) {
        let store = MemStore::new();
        let limits = Limits { overlay_commits: 1, ..limits() };
        let (mut writer, _) = StateWriter::open_with(Arc::new(store.clone()), limits).unwrap();
        // Every other entry comes later, into rows that are there.
        for (id, life) in [(1, Life::New), (2, Life::Kept)] {
            let mut block = BlockWriter::new(id);
            block.key(b"key", 0, life);
            for (value, n) in entries.iter().skip(usize::from(id == 2)).step_by(2) {
                block.count(SETS[0], value, *n);
            }
            writer.commit(Commit { id, shards: vec![block.finish(0)], ..Commit::default() }).unwrap();
            while writer.fold_step().unwrap().is_some() {}
        }
        let (_, view) = StateWriter::open(Arc::new(store.clone())).unwrap();
        assert!(store.rows(Table::Sets) > 1);
        let record = view.get(0, b"key").unwrap().unwrap();
        let found = record.set(SETS[0]).unwrap().iter();
        assert_eq!(found.map(|(value, n)| (value.to_vec(), n)).collect::<Entries>(), entries);
    }
}

fn any_entries() -> impl Strategy<Value = Entries> {
    let value = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::btree_map(value, prop_oneof![1..i64::MAX, i64::MIN..0], 140..200)
}

/// Grows three sets through rows and takes them back, folding as it goes.
fn up_and_down() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..9u16 {
        let n = if round < 5 { 1 } else { -1 };
        let start = if round < 5 { round } else { round - 5 } * 30;
        let bulk = |key: u8| Bulk {
            key,
            set: usize::from(key % 2),
            start,
            stride: 1 + u16::from(key),
            count: 30,
            n,
        };
        steps.push(Step::Commit((0..3).map(bulk).collect()));
        steps.push(Step::Fold(u8::try_from(round % 3).unwrap()));
    }
    steps.insert(12, Step::Overflow(1, 1));
    steps.push(Step::DropSecondSpace);
    steps.push(Step::Fold(3));
    steps
}

#[test]
fn a_crash_after_any_write_leaves_sets_whole() {
    let steps = up_and_down();
    let mut run = Run::new(MemStore::new());
    steps.iter().for_each(|step| run.step(step));
    let writes = run.store.writes();
    assert!(run.end(), "no set got rows");
    for writes in 0..writes {
        let store = MemStore::new();
        store.fail_after(writes);
        let mut run = Run::new(store);
        steps.iter().for_each(|step| run.step(step));
        assert!(run.end());
    }
}

/// A store that counts the bytes written to pages and sets, and the rows of sets that are read.
#[derive(Clone, Default)]
struct Counting {
    below: MemStore,
    written: Arc<AtomicU64>,
    read: Arc<Mutex<u64>>,
}

impl Store for Counting {
    fn commit(&self, batch: Batch, durable: bool) -> Result<(), StoreError> {
        let of_fold = |(table, ..): &&Row| matches!(table, Table::Pages | Table::Sets);
        let bytes = |(_, key, value): &Row| (key.len() + value.as_ref().map_or(0, Vec::len)) as u64;
        self.written.fetch_add(batch.rows.iter().filter(of_fold).map(bytes).sum(), Ordering::Relaxed);
        self.below.commit(batch, durable)
    }
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(CountingSnapshot { below: self.below.snapshot()?, read: self.read.clone() }))
    }
}

struct CountingSnapshot {
    below: Arc<dyn Snapshot>,
    read: Arc<Mutex<u64>>,
}

impl CountingSnapshot {
    fn count(&self, table: Table) {
        *self.read.lock().unwrap() += u64::from(table == Table::Sets);
    }
}

impl Snapshot for CountingSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.count(table);
        self.below.get(table, key)
    }
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: retag_host::state::Visit<'_>,
    ) -> Result<(), StoreError> {
        self.below.scan(table, from, to, &mut |key, value| {
            self.count(table);
            visit(key, value)
        })
    }
    fn last_at_or_before(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<retag_host::state::KeyValue>, StoreError> {
        self.count(table);
        self.below.last_at_or_before(table, key)
    }
    fn last_before(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<retag_host::state::KeyValue>, StoreError> {
        self.count(table);
        self.below.last_before(table, key)
    }
}

#[test]
fn a_fold_of_one_entry_of_ten_thousand_writes_and_reads_a_few_rows() {
    let store = Counting::default();
    let limits = Limits { overlay_commits: 1, ..Limits::default() };
    let open = || StateWriter::open_with(Arc::new(store.clone()), limits).unwrap();
    let (mut writer, _) = open();
    let commit = |writer: &mut StateWriter, id: u64, changes: &mut dyn FnMut(&mut BlockWriter)| {
        let mut block = BlockWriter::new(id);
        block.key(b"hot", 0, if id == 1 { Life::New } else { Life::Kept });
        changes(&mut block);
        writer.commit(Commit { id, shards: vec![block.finish(0)], ..Commit::default() }).unwrap();
        store.written.store(0, Ordering::Relaxed);
        *store.read.lock().unwrap() = 0;
        while writer.fold_step().unwrap().is_some() {}
        (store.written.load(Ordering::Relaxed), *store.read.lock().unwrap())
    };
    let merchant = |n: u64| (n * 1000 + 1).to_be_bytes();
    let all = &mut |block: &mut BlockWriter| (0..10_000).for_each(|n| block.count(SETS[0], &merchant(n), 1));
    let (whole, _) = commit(&mut writer, 1, all);
    assert!(whole > 50_000, "{whole} bytes for all entries");
    let rows = store.below.rows(Table::Sets);
    assert!((10..100).contains(&rows), "{rows} rows");
    // New at either end and in the middle, one more, one gone; and no change of the set at all.
    let new = |n: u64| (n * 1000 + 7).to_be_bytes();
    let changes = [
        (new(0), 1),
        (new(5_000), 1),
        (new(9_999), 1),
        (merchant(0), 1),
        (merchant(0), -2),
        (merchant(9_999), -1),
    ];
    for (id, (value, n)) in (2..).zip(changes) {
        let (written, read) = commit(&mut writer, id, &mut |block| block.count(SETS[0], &value, n));
        assert!(written < 10_000 && read < 12, "commit {id}: {written} bytes written, {read} rows read");
    }
    let (written, read) = commit(&mut writer, 8, &mut |block| block.add(ORDERS, 1));
    assert!(written < 200 && read == 0, "without a change of the set: {written} bytes, {read} rows");
    drop(writer);
    *store.read.lock().unwrap() = 0;
    let (_, view) = open();
    let page = view.page_around(0, b"hot").unwrap();
    let set = page.records[0].1.set(SETS[0]).unwrap();
    assert_eq!((set.positive(), set.min(), set.max()), (10_001, Some(&new(0)[..]), Some(&new(9_999)[..])));
    assert_eq!(*store.read.lock().unwrap(), 0, "a restart reads no rows of sets");
    let whole = view.get(0, b"hot").unwrap().unwrap();
    assert_eq!(whole.set(SETS[0]).unwrap().entries(), 10_001);
    // A reader of a change that is not folded yet takes in what it changes.
    let (mut writer, _) = open();
    let mut block = BlockWriter::new(9);
    block.key(b"hot", 0, Life::Kept);
    block.count(SETS[0], &new(0), -1);
    block.count(SETS[0], &new(10_000), 1);
    let shards = vec![block.finish(0)];
    let view = writer.commit(Commit { id: 9, shards, ..Commit::default() }).unwrap();
    *store.read.lock().unwrap() = 0;
    let record = view.get_brief(0, b"hot").unwrap().unwrap();
    let set = record.set(SETS[0]).unwrap();
    let last = new(10_000);
    assert_eq!((set.positive(), set.min(), set.max()), (10_001, Some(&merchant(1)[..]), Some(&last[..])));
    let read = *store.read.lock().unwrap();
    assert!(read < 12, "{read} rows read");
}

#[test]
fn a_changed_row_of_a_set_or_a_missing_one_is_refused_by_name() {
    let filled = || {
        let store = MemStore::new();
        let (mut writer, _) = StateWriter::open_with(Arc::new(store.clone()), limits()).unwrap();
        for id in 1..3 {
            let mut block = BlockWriter::new(id);
            block.key(b"key", 0, if id == 1 { Life::New } else { Life::Kept });
            (0..200).for_each(|number| block.count(SETS[0], &value(number), 1));
            writer.commit(Commit { id, shards: vec![block.finish(0)], ..Commit::default() }).unwrap();
        }
        while writer.fold_step().unwrap().is_some() {}
        store
    };
    let mut keys = Vec::new();
    let take = &mut |key: &[u8], value: &[u8]| {
        keys.push((key.to_vec(), value.to_vec()));
        true
    };
    filled().snapshot().unwrap().scan(Table::Sets, &[], None, take).unwrap();
    assert!(keys.len() > 3);
    for (key, value) in keys {
        let mut bent = value.clone();
        let middle = bent.len() / 2;
        bent[middle] ^= 4;
        for (value, reason) in
            [(Some(bent), "checksum differs"), (None, "not as many entries as its page says")]
        {
            let store = filled();
            store.commit(Batch { rows: vec![(Table::Sets, key.clone(), value)] }, true).unwrap();
            let (_, view) = StateWriter::open(Arc::new(store)).unwrap();
            let error = view.get(0, b"key").expect_err("a set that is not whole").to_string();
            assert!(error.starts_with("state-corrupt: set in rows 0x") && error.contains(reason), "{error}");
        }
    }
}
