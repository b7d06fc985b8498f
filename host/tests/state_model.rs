//! The state against a model: random commits, folds, crashes and reopenings; after each, what a view answers is what
//! the model holds, old views answer as of their commit, members equal a scan and digests equal their recomputation.
//! The model shares nothing with the state but the words for changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use retag_host::state::{
    BlockWriter, Cell, Change, Commit, CountedSet, FjallStore, Life, Limits, MemStore, Record, Slot,
    StateWriter, Store, StoreError, Table, View, digest_of,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SHARDS: [usize; 3] = [0, 1, 63];
const KEYS: u8 = 14;

fn small() -> Limits {
    Limits {
        overlay_bytes: 400,
        overlay_commits: 3,
        page_bytes: 64,
        page_bytes_max: 120,
        fold_pages: 1,
        page_cache_bytes: 200,
        set_in_place_max: 1,
        set_row_bytes_max: 30,
    }
}

/// Shard and bytes of a test key; some are prefixes of others.
fn key(number: u8) -> (usize, Vec<u8>) {
    let bytes = vec![b'k'; usize::from(number / 3) % 3 + 1];
    (SHARDS[usize::from(number) % 3], [&bytes[..], &[number / 9]].concat())
}

#[derive(Clone, Debug, PartialEq)]
enum ModelCell {
    Sum(i128),
    Set(BTreeMap<Vec<u8>, i64>),
    Mark(u16),
    Register(Vec<u8>),
}

type Cells = BTreeMap<(u32, u16), ModelCell>;

#[derive(Clone, Debug, Default)]
struct Model {
    commit: u64,
    /// Live number of each of the three spaces.
    spaces: Vec<u32>,
    spaces_used: u32,
    keys: BTreeMap<(usize, Vec<u8>), (u32, Cells)>,
    next_ordinal: BTreeMap<usize, u32>,
    gone: BTreeSet<(usize, u32)>,
}

/// One change as generated: which space (0–2), which kind (0–3), an amount and a value.
type Op = (u8, u8, i8, u8);
/// Per key: erase all its cells, or change some.
type Changes = BTreeMap<u8, (bool, Vec<Op>)>;

#[derive(Clone, Debug)]
enum Step {
    Commit(Changes),
    Fold(u8),
    Reopen,
    /// The store crashes, keeping some of the batches that were not durable.
    Crash(usize),
    /// The store fails after some writes.
    FailAfter(u64),
    Hold,
    DropSpace(u8),
}

fn steps(len: usize) -> impl Strategy<Value = Vec<Step>> {
    let op = (0..3u8, 0..4u8, -2..=2i8, 0..4u8);
    let change = (prop::bool::weighted(0.25), prop::collection::vec(op, 0..6));
    let commit = prop::collection::btree_map(0..KEYS, change, 0..9).prop_map(Step::Commit);
    let step = prop_oneof![
        12 => commit,
        8 => (1..6u8).prop_map(Step::Fold),
        1 => Just(Step::Reopen),
        1 => (0..4usize).prop_map(Step::Crash),
        1 => (0..4u64).prop_map(Step::FailAfter),
        1 => Just(Step::Hold),
        1 => (0..3u8).prop_map(Step::DropSpace),
    ];
    prop::collection::vec(step, 1..len)
}

/// The changes that bring `cells` to nothing.
fn erase(cells: &Cells, block: &mut BlockWriter) {
    for ((space, index), cell) in cells {
        let slot = Slot { space: *space, index: *index };
        match cell {
            ModelCell::Sum(sum) => block.add(slot, -sum),
            ModelCell::Set(set) => set.iter().for_each(|(value, n)| block.count(slot, value, -n)),
            ModelCell::Mark(mark) => block.mark(slot, *mark, 0),
            ModelCell::Register(_) => block.put(slot, b""),
        }
    }
}

/// Applies one generated change to the model's cells and tells it in the state's words.
fn change(cells: &mut Cells, spaces: &[u32], op: Op, emit: &mut dyn FnMut(&Change<'_>)) {
    let (space, kind, amount, value) = op;
    let slot = Slot { space: spaces[usize::from(space)], index: u16::from(kind) * 7 };
    let at = (slot.space, slot.index);
    match kind {
        0 => {
            let amount = i128::from(amount) << (value * 40);
            emit(&Change::Add(slot, amount));
            let ModelCell::Sum(sum) = cells.entry(at).or_insert(ModelCell::Sum(0)) else { panic!() };
            *sum += amount;
            if *sum == 0 {
                cells.remove(&at);
            }
        }
        1 => {
            let bytes = vec![value; usize::from(value) * 13];
            emit(&Change::Count(slot, &bytes, i64::from(amount)));
            let ModelCell::Set(set) = cells.entry(at).or_insert(ModelCell::Set(BTreeMap::new())) else {
                panic!()
            };
            *set.entry(bytes).or_default() += i64::from(amount);
            set.retain(|_, n| *n != 0);
            if set.is_empty() {
                cells.remove(&at);
            }
        }
        2 => {
            let from = if let Some(ModelCell::Mark(mark)) = cells.get(&at) { *mark } else { 0 };
            emit(&Change::Mark { slot, from, to: u16::from(value) });
            cells.remove(&at);
            if value != 0 {
                cells.insert(at, ModelCell::Mark(u16::from(value)));
            }
        }
        _ => {
            let bytes = vec![value; usize::from(value)];
            emit(&Change::Put(slot, &bytes));
            cells.remove(&at);
            if value != 0 {
                cells.insert(at, ModelCell::Register(bytes));
            }
        }
    }
}

impl Model {
    fn new() -> Self {
        Self { spaces: vec![1, 2, 700], spaces_used: 700, ..Self::default() }
    }

    /// The commit that makes these changes, and the model after it.
    fn commit(&self, changes: &Changes, drop_space: Option<u8>) -> (Commit, Model) {
        let mut next = self.clone();
        next.commit += 1;
        let mut blocks: BTreeMap<usize, BlockWriter> = BTreeMap::new();
        let ordered: BTreeMap<_, _> = changes.iter().map(|(number, change)| (key(*number), change)).collect();
        for ((shard, bytes), (erased, ops)) in ordered {
            let block = blocks.entry(shard).or_insert_with(|| BlockWriter::new(next.commit));
            next.change_key((shard, bytes), (*erased, ops), block);
        }
        let drop_spaces = drop_space.map(|index| next.drop_space(index)).into_iter().collect();
        let shards =
            blocks.into_iter().map(|(shard, block)| block.finish(u8::try_from(shard).unwrap())).collect();
        let row = (Table::Ledger, b"position".to_vec(), Some(next.commit.to_le_bytes().to_vec()));
        let time = i64::try_from(next.commit).unwrap() * 10;
        (Commit { id: next.commit, engine_time_us: time, shards, rows: vec![row], drop_spaces }, next)
    }

    fn change_key(&mut self, id: (usize, Vec<u8>), (erased, ops): (bool, &[Op]), block: &mut BlockWriter) {
        let old = self.keys.get(&id).cloned();
        let mut cells = old.clone().map(|(_, cells)| cells).unwrap_or_default();
        let mut planned = cells.clone();
        ops.iter().for_each(|op| change(&mut planned, &self.spaces, *op, &mut |_| {}));
        let life = match (&old, erased || planned.is_empty()) {
            (None, true) => return,
            (Some(_), true) => Life::Gone,
            (None, false) => Life::New,
            (Some(_), false) => Life::Kept,
        };
        let counter = self.next_ordinal.entry(id.0).or_default();
        let ordinal = old.map_or(*counter, |(ordinal, _)| ordinal);
        block.key(&id.1, ordinal, life);
        if life == Life::New {
            *counter += 1;
        }
        if erased {
            erase(&cells, block);
        } else {
            ops.iter()
                .for_each(|op| change(&mut cells, &self.spaces, *op, &mut |change| block.change(change)));
        }
        if life == Life::Gone {
            self.gone.insert((id.0, ordinal));
            self.keys.remove(&id);
        } else {
            self.keys.insert(id, (ordinal, cells));
        }
    }

    /// Puts a new space in the place of one; answers the old one.
    fn drop_space(&mut self, index: u8) -> u32 {
        self.spaces_used += 1;
        let old = std::mem::replace(&mut self.spaces[usize::from(index)], self.spaces_used);
        for (_, cells) in self.keys.values_mut() {
            cells.retain(|(space, _), _| *space != old);
        }
        self.keys.retain(|_, (_, cells)| !cells.is_empty());
        old
    }

    fn check(&self, view: &View) {
        assert_eq!(view.commit(), self.commit);
        assert_eq!(view.engine_time(), i64::try_from(self.commit).unwrap() * 10);
        let position = view.row(Table::Ledger, b"position").unwrap();
        assert_eq!(position, (self.commit > 0).then(|| self.commit.to_le_bytes().to_vec()));
        for number in 0..KEYS {
            let (shard, bytes) = key(number);
            let found = view.get(shard, &bytes).unwrap();
            let expect = self.keys.get(&(shard, bytes.clone()));
            assert_eq!(found.as_ref().map(model_of), expect.cloned(), "key {bytes:?} of shard {shard}");
            let page = view.page_around(shard, &bytes).unwrap();
            assert!(*page.lower <= bytes[..] && page.upper.as_ref().is_none_or(|upper| bytes[..] < **upper));
            let in_page =
                page.records.iter().find(|(key, _)| **key == bytes[..]).map(|(_, record)| record.clone());
            assert_eq!(in_page, view.get_brief(shard, &bytes).unwrap());
            assert_brief(in_page.as_ref(), found.as_ref());
        }
        self.check_scan(view);
        for (shard, ordinal) in &self.gone {
            assert_eq!(
                view.key_of(*shard, *ordinal).unwrap(),
                None,
                "ordinal {ordinal} of shard {shard} is gone"
            );
        }
    }

    fn check_scan(&self, view: &View) {
        let mut digests: BTreeMap<u32, u64> = BTreeMap::new();
        let mut members: BTreeMap<(usize, u32, u16), BTreeSet<u32>> = BTreeMap::new();
        for shard in SHARDS {
            let records = scan(view, shard);
            let expect: Vec<_> = self.keys.iter().filter(|((of, _), _)| *of == shard).collect();
            assert_eq!(records.len(), expect.len(), "shard {shard}");
            for ((key, record), ((_, expect_key), _)) in records.iter().zip(expect) {
                assert_eq!(&**key, &expect_key[..]);
                assert_eq!(view.key_of(shard, record.ordinal).unwrap().as_deref(), Some(&key[..]));
                for (space, digest) in digest_of(key, record) {
                    let sum = digests.entry(space).or_default();
                    *sum = sum.wrapping_add(digest);
                }
                for (slot, cell) in record.cells() {
                    if let Cell::Mark(mark) = cell {
                        members.entry((shard, slot.space, mark)).or_default().insert(record.ordinal);
                    }
                }
            }
            assert_eq!(view.next_ordinal(shard), self.next_ordinal.get(&shard).copied().unwrap_or(0));
        }
        for space in (1..3).chain(700..=self.spaces_used) {
            assert_eq!(view.digest(space), digests.get(&space).copied().unwrap_or(0), "space {space}");
            for value in 1..4 {
                let mut count = 0;
                for shard in SHARDS {
                    let found = view.members(shard, space, 14, value);
                    let found: BTreeSet<u32> = found.iter().flat_map(|members| members.iter()).collect();
                    count += found.len() as u64;
                    assert_eq!(found, members.remove(&(shard, space, value)).unwrap_or_default());
                }
                assert_eq!(view.count(space, 14, value), count);
            }
        }
        assert!(members.is_empty());
    }
}

/// A brief record reads as the whole one does.
fn assert_brief(brief: Option<&Record>, whole: Option<&Record>) {
    assert_eq!(brief.map(|r| r.ordinal), whole.map(|r| r.ordinal));
    let [brief, whole] = [brief, whole].map(|record| record.map_or(Vec::new(), |r| r.cells().collect()));
    assert!(brief.iter().map(|(slot, _)| slot).eq(whole.iter().map(|(slot, _)| slot)));
    for ((_, brief), (_, whole)) in brief.into_iter().zip(whole) {
        let (Cell::Set(brief), Cell::Set(whole)) = (brief, whole) else {
            assert_eq!(brief, whole);
            continue;
        };
        let read = |set: &CountedSet| {
            let ends = (set.min().map(<[u8]>::to_vec), set.max().map(<[u8]>::to_vec));
            (set.entries(), set.positive(), set.has_negative(), ends)
        };
        assert_eq!(read(brief), read(whole));
        assert!(brief == whole || brief.is_in_rows() && !brief.is_behind());
    }
}

fn scan(view: &View, shard: usize) -> Vec<(Box<[u8]>, Record)> {
    let mut records: Vec<(Box<[u8]>, Record)> = Vec::new();
    loop {
        let after = records.last().map(|(key, _)| key.clone());
        let more = view.scan(shard, after.as_deref(), 2).unwrap();
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

fn model_of(record: &Record) -> (u32, Cells) {
    let cells = record.cells().map(|(slot, cell)| {
        let cell = match cell {
            Cell::Sum(sum) => ModelCell::Sum(sum),
            Cell::Set(set) => ModelCell::Set(set.iter().map(|(value, n)| (value.to_vec(), n)).collect()),
            Cell::Mark(mark) => ModelCell::Mark(mark),
            Cell::Register(bytes) => ModelCell::Register(bytes.to_vec()),
        };
        ((slot.space, slot.index), cell)
    });
    (record.ordinal, cells.collect())
}

/// A store that can be lost and opened again.
trait Bench {
    fn open(&mut self) -> Arc<dyn Store>;
    /// Forgets what is not durable but `kept` batches, where the store can.
    fn crash(&mut self, kept: usize);
    fn fail_after(&mut self, writes: u64);
}

impl Bench for MemStore {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }
    fn crash(&mut self, kept: usize) {
        self.crash_keeping(kept);
    }
    fn fail_after(&mut self, writes: u64) {
        MemStore::fail_after(self, writes);
    }
}

/// A crash of the store on disk = its directory copied while open, as the system would have it after a kill.
struct Disk {
    root: tempfile::TempDir,
    generation: u32,
}

impl Disk {
    fn path(&self) -> PathBuf {
        self.root.path().join(self.generation.to_string())
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Bench for Disk {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(FjallStore::open(&self.path()).unwrap())
    }
    fn crash(&mut self, _kept: usize) {
        let from = self.path();
        self.generation += 1;
        copy(&from, &self.path());
    }
    fn fail_after(&mut self, _writes: u64) {}
}

struct Run<'a> {
    bench: &'a mut dyn Bench,
    writer: Option<StateWriter>,
    model: Model,
    held: Vec<(Arc<View>, Model)>,
    folds: u32,
}

impl Run<'_> {
    fn open(&mut self) {
        self.writer = None;
        let (writer, view) = StateWriter::open_with(self.bench.open(), small()).unwrap();
        self.model.check(&view);
        self.writer = Some(writer);
    }

    fn commit(&mut self, changes: &Changes, drop_space: Option<u8>) {
        let (commit, next) = self.model.commit(changes, drop_space);
        match self.writer.as_mut().unwrap().commit(commit.clone()) {
            Ok(view) => {
                self.model = next;
                self.model.check(&view);
            }
            Err(e) => {
                self.recover(&e);
                self.commit(changes, drop_space);
            }
        }
    }

    fn recover(&mut self, error: &StoreError) {
        assert!(matches!(error, StoreError::Store { .. }), "{error}");
        let again = self.writer.as_mut().unwrap().fold_step();
        assert!(matches!(again, Err(StoreError::Failed)), "a failed writer refuses");
        self.bench.crash(0);
        self.open();
    }

    fn fold(&mut self, steps: u8) {
        for _ in 0..steps {
            match self.writer.as_mut().unwrap().fold_step() {
                Ok(None) => return,
                Ok(Some(_)) => self.folds += 1,
                Err(e) => return self.recover(&e),
            }
            let view = Arc::clone(self.writer.as_ref().unwrap().view());
            self.model.check(&view);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(changes) => self.commit(changes, None),
            Step::DropSpace(index) => self.commit(&Changes::new(), Some(*index)),
            Step::Fold(steps) => self.fold(*steps),
            Step::Reopen => self.open(),
            Step::Crash(kept) => {
                self.bench.crash(*kept);
                self.open();
            }
            Step::FailAfter(writes) => self.bench.fail_after(*writes),
            Step::Hold => {
                let view = Arc::clone(self.writer.as_ref().unwrap().view());
                self.held.push((view, self.model.clone()));
            }
        }
    }
}

/// Runs the steps; answers how many fold steps there were.
fn check(bench: &mut dyn Bench, steps: &[Step]) -> u32 {
    let mut run = Run { bench, writer: None, model: Model::new(), held: Vec::new(), folds: 0 };
    run.open();
    steps.iter().for_each(|step| run.step(step));
    run.fold(200);
    for (view, model) in std::mem::take(&mut run.held) {
        model.check(&view);
    }
    run.open();
    run.folds
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_in_memory_is_the_model(steps in steps(60)) {
        check(&mut MemStore::new(), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_on_disk_is_the_model(mut steps in steps(40), holds in any::<bool>()) {
        // A held view keeps its store open, and one process has it open once.
        steps.retain(|step| !matches!(step, Step::Hold if !holds) && !matches!(step, Step::Reopen if holds));
        check(&mut Disk { root: tempfile::tempdir().unwrap(), generation: 0 }, &steps);
    }
}

#[test]
fn state_loses_and_doubles_nothing_by_a_crash_after_any_write() {
    let change = |number: u8| {
        (number, (false, vec![(number % 3, 0, 1, 0), (0, 2, 0, number % 4), (1, 1, 1, number % 3)]))
    };
    let mut steps = Vec::new();
    for round in 0..12u8 {
        steps.push(Step::Commit((0..KEYS).filter(|n| (n + round) % 3 != 0).map(change).collect()));
        steps.push(Step::Fold(round % 4));
    }
    let counted = MemStore::new();
    let folds = check(&mut counted.clone(), &steps);
    assert!(folds >= 10, "only {folds} steps of folds");
    for writes in 0..counted.writes() {
        let mut store = MemStore::new();
        MemStore::fail_after(&store, writes);
        check(&mut store, &steps);
    }
}
