//! Counted sets too long for a page: their entries in rows of their own, so that a fold rewrites only the rows whose
//! entries changed. The key's record in the page keeps a summary, which is all that labels read.
//!
//! Row key = shard u8, ordinal u32 BE, space u32 BE, index u16 BE, lowest value that the row covers (empty for a set's
//! first row); it covers up to the next row's. A row is a sorted run, value → count.
//!
//! Invariant: rows are written in the batch of their page and are as old as it is, so they carry no commit of their
//! own, may be merged and removed, and a snapshot holds page and rows of one fold.

use super::cell::{Record, Slot};
use super::error::StoreError;
use super::page::hex;
use super::run::{Run, RunKind, RunWriter};
use super::set::{CountedSet, Entries, InRows, SetValue, Summary, add_to_map};
use super::store::{Batch, KeyValue, Snapshot, Table};
use super::varint::{Malformed, Reader, put_i64};
use std::collections::{BTreeMap, BTreeSet};

/// When sets go into rows, and how large those are.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLimits {
    /// Entries up to which a set stays in its page; one in rows comes back below half of it.
    pub(super) in_place_max: usize,
    /// Bytes beyond which a row is split; below a quarter it takes in the next one.
    pub(super) bytes_max: usize,
}

type Value = Box<[u8]>;

/// Takes a row's key and value; false ends the walk.
type TakeRow<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, Malformed>;

type NewRows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Bytes that an entry takes beside its value, about.
const ENTRY_BYTES: usize = 4;

/// The rows of one set in a snapshot.
pub(super) struct SetRows<'a> {
    snapshot: &'a dyn Snapshot,
    prefix: Vec<u8>,
}

/// One stored row.
struct SetRow {
    key: Vec<u8>,
    entries: Entries,
}

/// What an update does to the rows, before it is clear whether the set stays in them.
struct Edit {
    /// Rows as they will be; none = gone.
    rows: NewRows,
    /// Stored rows that are in `rows` or covered by one of them.
    replaced: BTreeSet<Vec<u8>>,
    summary: Summary,
    /// The least and the greatest positive value of the new rows.
    ends: Option<(Value, Value)>,
}

impl<'a> SetRows<'a> {
    /// The rows of the set in `slot` of the key with `ordinal`.
    pub(super) fn new(snapshot: &'a dyn Snapshot, shard: u8, ordinal: u32, slot: Slot) -> Self {
        let mut prefix = vec![shard];
        prefix.extend_from_slice(&ordinal.to_be_bytes());
        prefix.extend_from_slice(&slot.space.to_be_bytes());
        prefix.extend_from_slice(&slot.index.to_be_bytes());
        Self { snapshot, prefix }
    }

    fn corrupt(&self, reason: Malformed) -> StoreError {
        StoreError::corrupt(format!("set in rows {}", hex(&self.prefix)), reason)
    }

    fn row_key(&self, lower: &[u8]) -> Vec<u8> {
        [&self.prefix, lower].concat()
    }

    fn lower<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        key.get(self.prefix.len()..).unwrap_or(&[])
    }

    /// The least key behind all rows of the set.
    fn end(&self) -> Vec<u8> {
        let mut end = self.prefix.clone();
        // Shards are few, so there is a byte that can grow.
        while end.pop_if(|byte| *byte == u8::MAX).is_some() {}
        end.last_mut().into_iter().for_each(|byte| *byte += 1);
        end
    }

    /// All entries.
    pub(super) fn read(&self) -> Result<Entries, StoreError> {
        let mut entries = Entries::new();
        self.visit(&self.prefix, &mut |_, value| {
            let row = decode(value)?;
            if let (Some((last, _)), Some((first, _))) = (entries.last(), row.first())
                && last >= first
            {
                return Err(Malformed("rows out of order"));
            }
            entries.extend(row);
            Ok(true)
        })?;
        Ok(entries)
    }

    /// Removes all rows.
    pub(super) fn remove(&self, batch: &mut Batch) -> Result<(), StoreError> {
        self.visit(&self.prefix, &mut |key, _| {
            batch.remove(Table::Sets, key);
            Ok(true)
        })
    }

    /// Visits rows from `from` on until `take` answers false.
    fn visit(&self, from: &[u8], take: TakeRow<'_>) -> Result<(), StoreError> {
        let mut result = Ok(());
        self.snapshot.scan(Table::Sets, from, Some(&self.end()), &mut |key, value| {
            take(key, value).unwrap_or_else(|e| {
                result = Err(e);
                false
            })
        })?;
        result.map_err(|e| self.corrupt(e))
    }

    /// The last row with a key below `key`.
    fn before(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        let row = self.snapshot.last_before(Table::Sets, key)?;
        Ok(row.filter(|(key, _)| key.starts_with(&self.prefix)))
    }

    fn covering(&self, value: &[u8]) -> Result<SetRow, StoreError> {
        let row = self.before(&[&self.row_key(value)[..], &[0]].concat())?;
        let (key, bytes) = row.ok_or_else(|| self.corrupt(Malformed("its first row is not there")))?;
        let entries = decode(&bytes).map_err(|e| self.corrupt(e))?;
        Ok(SetRow { key, entries })
    }

    /// The first row behind `key`.
    fn after(&self, key: &[u8]) -> Result<Option<SetRow>, StoreError> {
        let mut next = None;
        self.visit(&[key, &[0]].concat(), &mut |key, value| {
            next = Some(SetRow { key: key.to_vec(), entries: decode(value)? });
            Ok(false)
        })?;
        Ok(next)
    }

    /// Writes a set that is here into rows; answers what the page keeps of it.
    pub(super) fn create(&self, set: &CountedSet, limits: RowLimits, batch: &mut Batch) -> CountedSet {
        let entries: Entries = set.iter().map(|(value, n)| (SetValue::new(value), n)).collect();
        let mut rows = NewRows::new();
        split(&entries, limits.bytes_max, |first, row| {
            rows.insert(self.row_key(if rows.is_empty() { &[] } else { first }), Some(row));
        });
        batch.rows.extend(rows.into_iter().map(|(key, value)| (Table::Sets, key, value)));
        let summary = Summary {
            entries: set.entries(),
            positive: set.positive(),
            min: set.min().map(Into::into),
            max: set.max().map(Into::into),
        };
        CountedSet::of_rows(InRows { summary, ..InRows::default() })
    }

    /// Brings the rows up to the set's changes; answers what the page keeps of it, which is the whole set where it has
    /// become short.
    fn update(&self, set: &InRows, limits: RowLimits, batch: &mut Batch) -> Result<CountedSet, StoreError> {
        let edit = self.edit(set, Some(limits))?;
        if edit.summary.entries < limits.in_place_max.div_ceil(2).max(1) {
            self.remove(batch)?;
            return self.whole(set);
        }
        batch.rows.extend(edit.rows.into_iter().map(|(key, value)| (Table::Sets, key, value)));
        Ok(CountedSet::of_rows(InRows { summary: edit.summary, ..InRows::default() }))
    }

    /// The set with its changes as one that lies in rows, of which only those that change are read. It stands for what
    /// rows and blocks hold together; only a reader of both can take it in.
    fn brief(&self, set: &InRows) -> Result<CountedSet, StoreError> {
        let summary = self.edit(set, None)?.summary;
        if summary.entries == 0 {
            return Ok(CountedSet::new());
        }
        Ok(CountedSet::of_rows(InRows { summary, ..InRows::default() }))
    }

    /// The set with its changes.
    fn whole(&self, set: &InRows) -> Result<CountedSet, StoreError> {
        let mut whole = CountedSet::of(self.read()?);
        if whole.entries() != set.summary.entries {
            return Err(self.corrupt(Malformed("not as many entries as its page says")));
        }
        set.changes.iter().for_each(|(value, n)| whole.add(value.as_bytes(), *n));
        Ok(whole)
    }

    /// What the set's changes make of the summary, and with `limits` of the rows.
    fn edit(&self, set: &InRows, limits: Option<RowLimits>) -> Result<Edit, StoreError> {
        let mut edit = Edit {
            rows: NewRows::new(),
            replaced: BTreeSet::new(),
            summary: set.summary.clone(),
            ends: None,
        };
        let mut changes = set.changes.iter().peekable();
        while let Some((value, _)) = changes.peek() {
            let row = self.covering(value.as_bytes())?;
            self.rewrite(row, &mut changes, limits, &mut edit)?;
        }
        (edit.summary.min, edit.summary.max) = self.ends(&edit)?;
        Ok(edit)
    }

    /// Puts the changes that a row covers into it; one that gets short takes the next in.
    fn rewrite<'c>(
        &self,
        row: SetRow,
        changes: &mut std::iter::Peekable<impl Iterator<Item = (&'c SetValue, &'c i64)>>,
        limits: Option<RowLimits>,
        edit: &mut Edit,
    ) -> Result<(), StoreError> {
        let first_key = row.key.clone();
        let mut entries: BTreeMap<SetValue, i64> = row.entries.into_iter().collect();
        let mut key = row.key;
        loop {
            edit.replaced.insert(key.clone());
            let next = self.after(&key)?;
            let upper = next.as_ref().map(|next| self.lower(&next.key));
            while let Some((value, n)) =
                changes.next_if(|(value, _)| upper.is_none_or(|upper| value.as_bytes() < upper))
            {
                let was = entries.len();
                let (before, after) = add_to_map(&mut entries, value.as_bytes(), *n);
                let Summary { entries: all, positive, .. } = &mut edit.summary;
                *all = (*all + entries.len()).saturating_sub(was);
                *positive = (*positive + usize::from(after > 0)).saturating_sub(usize::from(before > 0));
            }
            let bytes = || entries.keys().map(cost).sum::<usize>();
            let short = limits.is_some_and(|limits| bytes() < limits.bytes_max / 4);
            let Some(next) = next.filter(|_| short) else { break };
            edit.rows.insert(next.key.clone(), None);
            entries.extend(next.entries);
            key = next.key;
        }
        let entries: Entries = entries.into_iter().collect();
        edit.widen(&entries);
        let Some(limits) = limits else { return Ok(()) };
        let lower = self.lower(&first_key).to_vec();
        if entries.is_empty() && !lower.is_empty() {
            edit.rows.insert(first_key, None); // its range falls to the row before
            return Ok(());
        }
        let mut place = Some(first_key);
        split(&entries, limits.bytes_max, |first, row| {
            let key = place.take().unwrap_or_else(|| self.row_key(first));
            edit.rows.insert(key, Some(row));
        });
        Ok(())
    }

    /// The least and the greatest positive value of the new rows and those that stay.
    fn ends(&self, edit: &Edit) -> Result<(Option<Value>, Option<Value>), StoreError> {
        let (mut min, mut max) = edit.ends.clone().unzip();
        self.visit(&self.prefix, &mut |key, bytes| {
            if edit.replaced.contains(key) {
                return Ok(true);
            }
            let row = decode(bytes)?;
            let least = row.iter().find(|(_, n)| *n > 0).map(|(value, _)| Box::from(value.as_bytes()));
            let found = least.is_some();
            min = [min.take(), least].into_iter().flatten().min();
            Ok(!found)
        })?;
        let mut behind = self.end();
        while let Some((key, bytes)) = self.before(&behind)? {
            if !edit.replaced.contains(&key) {
                let row = decode(&bytes).map_err(|e| self.corrupt(e))?;
                if let Some((value, _)) = row.iter().rev().find(|(_, n)| *n > 0) {
                    max = max.max(Some(value.as_bytes().into()));
                    break;
                }
            }
            behind = key;
        }
        Ok((min, max))
    }
}

impl Edit {
    /// Takes the positive values of a new row into `ends`.
    fn widen(&mut self, row: &Entries) {
        let mut positive = row.iter().filter(|(_, n)| *n > 0).map(|(value, _)| value.as_bytes());
        let Some(first) = positive.next() else { return };
        let last = positive.next_back().unwrap_or(first);
        self.ends = Some(match self.ends.take() {
            None => (first.into(), last.into()),
            Some((min, max)) => (min.min(first.into()), max.max(last.into())),
        });
    }
}

/// Brings the sets of a record that lie in rows up to its changes: with all their entries if `whole`, else as summaries.
pub(super) fn load(
    snapshot: &dyn Snapshot,
    shard: u8,
    record: &mut Record,
    whole: bool,
) -> Result<(), StoreError> {
    let wanted = |(_, set): &(Slot, &CountedSet)| set.is_behind() || whole && set.is_in_rows();
    let slots: Vec<Slot> = record.sets().filter(wanted).map(|(slot, _)| slot).collect();
    for slot in slots {
        let rows = SetRows::new(snapshot, shard, record.ordinal, slot);
        let Some(set) = record.set(slot).and_then(CountedSet::in_rows) else { continue };
        let loaded = if whole { rows.whole(set)? } else { rows.brief(set)? };
        record.replace_set(slot, loaded);
    }
    Ok(())
}

/// Brings the rows of one key up to its record and the record up to its rows; `before` = ordinal and sets in rows that
/// its page has.
pub(super) fn fold(
    snapshot: &dyn Snapshot,
    shard: u8,
    (before, mut after): (Option<&(u32, Vec<Slot>)>, Option<&mut Record>),
    limits: RowLimits,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    for slot in before.iter().flat_map(|(_, slots)| slots) {
        let ordinal = before.map_or(0, |(ordinal, _)| *ordinal);
        let stays = after.as_ref().is_some_and(|record| {
            record.ordinal == ordinal && record.set(*slot).is_some_and(CountedSet::is_in_rows)
        });
        if !stays {
            SetRows::new(snapshot, shard, ordinal, *slot).remove(batch)?;
        }
    }
    let Some(record) = after.as_mut() else { return Ok(()) };
    let long = |(_, set): &(Slot, &CountedSet)| set.is_behind() || set.entries_here() > limits.in_place_max;
    let slots: Vec<Slot> = record.sets().filter(long).map(|(slot, _)| slot).collect();
    for slot in slots {
        let rows = SetRows::new(snapshot, shard, record.ordinal, slot);
        let Some(set) = record.set(slot) else { continue };
        let folded = match set.in_rows() {
            Some(set) => rows.update(set, limits, batch)?,
            None => rows.create(set, limits, batch),
        };
        record.replace_set(slot, folded);
    }
    Ok(())
}

fn cost(value: &SetValue) -> usize {
    value.as_bytes().len() + ENTRY_BYTES
}

/// Cuts entries into rows of even size, none much beyond `bytes_max`; at least one. Calls `take` with each row and its
/// first value.
fn split(entries: &Entries, bytes_max: usize, mut take: impl FnMut(&[u8], Vec<u8>)) {
    let all: usize = entries.iter().map(|(value, _)| cost(value)).sum();
    // Not filled up, so that the next entry does not split it again.
    let parts = if all > bytes_max { all.div_ceil(bytes_max / 4 * 3 + 1) } else { 1 };
    let part_bytes = all.div_ceil(parts).max(1);
    let mut rest = entries.as_slice();
    loop {
        let mut bytes = 0;
        let full = rest.iter().position(|(value, _)| {
            bytes += cost(value);
            bytes >= part_bytes
        });
        let (row, behind) = rest.split_at(full.map_or(rest.len(), |at| at + 1));
        let mut run = RunWriter::new(RunKind::Set, 0);
        for (value, n) in row {
            let mut count = Vec::new();
            put_i64(&mut count, *n);
            run.push(value.as_bytes(), &count, &[]);
        }
        take(row.first().map_or(&[], |(value, _)| value.as_bytes()), run.finish());
        rest = behind;
        if rest.is_empty() {
            return;
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Entries, Malformed> {
    let run = Run::open(bytes.to_vec(), RunKind::Set)?;
    let mut entries = Entries::new();
    let mut cursor = run.cursor();
    while cursor.advance()? {
        let value = SetValue::new(cursor.key());
        let mut body = Reader::new(cursor.body());
        let n = body.i64()?;
        if n == 0 || !body.is_empty() || entries.last().is_some_and(|(last, _)| *last >= value) {
            return Err(Malformed("set entries out of order"));
        }
        entries.push((value, n));
    }
    Ok(entries)
}
