//! Legs → contributions → the cycle's logs: runs every rule over a decoded block and writes down what it says, by shard.

use super::failure::Failure;
use super::program::{LiveRule, Program, TableBinding, Target};
use super::quarantine::{self, BadImage, CYCLE_ENTRIES_MAX};
use super::worker::Published;
use crate::aggregate::{log, value};
use crate::change::{Sign, legs};
use crate::decode::{ColumnBuffer, Decoded, ImageBatch, Side, Values};
use crate::registry::KeyType;
use crate::rule::{Contributions, Mapper};
use crate::source::Block;
use crate::state::{key_hash, shard_of};
use retag_abi::contribution::{KeyEntry, Record};
use std::collections::BTreeMap;

/// The map side of one worker: a warm instance per rule, and scratch memory.
pub(super) struct Gather {
    mappers: Vec<Mapper>,
    contributions: Contributions,
    rows: Vec<u32>,
    value: Vec<u8>,
}

impl Gather {
    pub(super) fn new(program: &Program) -> Result<Self, Failure> {
        let mappers: Result<Vec<_>, _> = program.rules.iter().map(|r| r.compiled.mapper()).collect();
        Ok(Self { mappers: mappers?, contributions: Contributions::default(), rows: vec![], value: vec![] })
    }

    /// Goes over from one program to another; instances of namespaces that stay are kept.
    pub(super) fn replace(&mut self, before: &Program, after: &Program) -> Result<(), Failure> {
        let spaces = before.rules.iter().map(|r| r.namespace);
        let mut warm: BTreeMap<u32, Mapper> = spaces.zip(std::mem::take(&mut self.mappers)).collect();
        for rule in &after.rules {
            let mapper = warm.remove(&rule.namespace).map_or_else(|| rule.compiled.mapper(), Ok);
            self.mappers.push(mapper?);
        }
        Ok(())
    }

    /// Runs every rule over the images of a block, of the lane or not, whose changes are not `known`.
    pub(super) fn block(
        &mut self,
        (program, lane): (&Program, bool),
        (decoded, known): (&Decoded, &[bool]),
        block: &Block,
        cycle: &mut Published,
    ) -> Result<(), Failure> {
        for batch in decoded.batches.iter().filter(|b| b.rows() > 0) {
            legs(batch, known, &mut self.rows);
            if self.rows.is_empty() {
                continue;
            }
            for (rule, mapper) in program.rules.iter().zip(&mut self.mappers) {
                let Some(Some(binding)) = rule.tables.get(batch.table) else { continue };
                self.contributions.clear();
                mapper.map(binding.table, batch, &binding.columns, &self.rows, &mut self.contributions)?;
                let images = self.rows.len() as u64;
                let counters = &mut cycle.met_mut(lane).counters;
                counters.images += images;
                counters.null_keys += self.contributions.null_keys;
                let fits = counters.fits.entry((rule.namespace, batch.table)).or_default();
                fits.0 += images;
                fits.1 += self.contributions.bad.len() as u64;
                let context = Context { program, rule, binding, batch };
                context.add(&self.contributions, &mut self.value, cycle)?;
                let mut logs = cycle.contributions.iter().flatten();
                if logs.any(|log| log.size() > log::BYTES_MAX) {
                    return Err(Failure::Internal(
                        "the rules contribute too much in one cycle; lower engine.cycle_bytes_max".into(),
                    ));
                }
                context.quarantine(&self.contributions, decoded, block, cycle);
            }
        }
        Ok(())
    }
}

/// One rule over one batch.
struct Context<'a> {
    program: &'a Program,
    rule: &'a LiveRule,
    binding: &'a TableBinding,
    batch: &'a ImageBatch,
}

impl Context<'_> {
    fn add(&self, from: &Contributions, scratch: &mut Vec<u8>, cycle: &mut Published) -> Result<(), Failure> {
        let lost = || Failure::Internal("a checked contribution does not fit its batch".into());
        let entity = usize::from(self.rule.entity);
        let name = &self.program.entities.get(entity).ok_or_else(lost)?.name;
        let key_column = self.batch.columns.get(self.binding.key).ok_or_else(lost)?;
        let mut keys = ComputedKeys { entries: &from.keys, row: 0, start: 0 };
        let mut key = KeyBytes::default();
        let mut last_key = KeyBytes::default();
        let (mut shard, mut last) = (0, None);
        for record in &from.records {
            if last != Some((record.row, record.key)) {
                if record.key == 0 {
                    key.of_row(self.rule.key, key_column, record.row);
                } else {
                    key.of_entry(self.rule.key, keys.find(record).ok_or_else(lost)?, &from.heap);
                }
                // Both legs of an update mostly have one key: then what follows is of that key too.
                if last.is_none() || !key.is(&last_key) {
                    let hash = key_hash(name, key.bytes());
                    shard = shard_of(hash);
                    let log = cycle.contributions.get_mut(shard).and_then(|s| s.get_mut(entity));
                    log.ok_or_else(lost)?.key(hash, key.bytes());
                    std::mem::swap(&mut key, &mut last_key);
                }
                last = Some((record.row, record.key));
            }
            let log = cycle.contributions.get_mut(shard).and_then(|s| s.get_mut(entity)).ok_or_else(lost)?;
            let side = self.batch.sides.get(record.row as usize).copied().ok_or_else(lost)?;
            let sign = Sign::of(side);
            let aggregate = self.rule.aggregates.get(usize::from(record.aggregate)).ok_or_else(lost)?;
            let heap = heap_of(record, &from.heap);
            match self.rule.targets.get(usize::from(record.aggregate)).copied().ok_or_else(lost)? {
                Target::Linear(column) => {
                    let number = value::number(aggregate.value, record.value, heap);
                    log.add(column, sign.apply(aggregate.kind.amount(number)));
                }
                Target::Set(set) => {
                    scratch.clear();
                    if let Some(value_type) = aggregate.value {
                        value::comparable(value_type, record.value, heap, scratch);
                    }
                    log.count(set, scratch, sign as i8);
                }
            }
        }
        Ok(())
    }

    fn quarantine(&self, from: &Contributions, decoded: &Decoded, block: &Block, cycle: &mut Published) {
        let source = self.program.partitions.get(block.partition).and_then(|s| self.program.sources.get(*s));
        let declared = self.rule.compiled.manifest.tables.get(self.binding.table);
        let (Some(source), Some(declared)) = (source, declared) else { return };
        let columns: Vec<&str> = declared.columns.iter().map(|column| column.name.as_str()).collect();
        let room = CYCLE_ENTRIES_MAX.saturating_sub(cycle.quarantine.len());
        for bad in from.bad.iter().take(room) {
            let row = bad.row as usize;
            let change = self.batch.changes.get(row).and_then(|c| decoded.changes.get(*c as usize));
            let side = self.batch.sides.get(row).copied().unwrap_or(Side::After);
            let position = change.map_or(0, |c| c.position);
            let line = quarantine::line_at(block, position);
            let (values, columns_left_out) = quarantine::values(source.format, line, side, &columns);
            cycle.quarantine.push(BadImage {
                rule: self.rule.name.clone(),
                code: bad.code,
                message: bad.message.clone(),
                table: declared.table.clone(),
                source: source.name.clone(),
                partition: block.partition,
                position,
                image: if side == Side::After { "after" } else { "before" },
                values,
                columns_left_out,
            });
        }
    }
}

/// The list of computed keys, walked beside the records: both are ordered by row.
struct ComputedKeys<'a> {
    entries: &'a [KeyEntry],
    row: u32,
    start: usize,
}

impl<'a> ComputedKeys<'a> {
    fn find(&mut self, record: &Record) -> Option<&'a KeyEntry> {
        if self.row != record.row {
            let rest = self.entries.get(self.start..)?;
            self.start += rest.iter().take_while(|e| e.row < record.row).count();
            self.row = record.row;
        }
        let entry = self.entries.get(self.start + usize::from(record.key) - 1)?;
        (entry.row == record.row && entry.n == record.key).then_some(entry)
    }
}

/// A key's bytes.
#[derive(Default)]
struct KeyBytes(Vec<u8>);

impl KeyBytes {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Numbers are compared without a call.
    #[inline]
    fn is(&self, other: &Self) -> bool {
        match (<&[u8; 8]>::try_from(self.bytes()), <&[u8; 8]>::try_from(other.bytes())) {
            (Ok(number), Ok(other)) => number == other,
            _ => self.bytes() == other.bytes(),
        }
    }

    #[allow(clippy::cast_sign_loss)] // bits are taken on purpose
    fn of_row(&mut self, key: KeyType, column: &ColumnBuffer, row: u32) {
        let row = row as usize;
        self.0.clear();
        match &column.values {
            Values::U64(values) => {
                self.0.extend_from_slice(&key.number(values.get(row).copied().unwrap_or(0)));
            }
            Values::I64(values) => {
                self.0.extend_from_slice(&key.number(values.get(row).copied().unwrap_or(0) as u64));
            }
            _ => self.0.extend_from_slice(column.heap_row(row)),
        }
    }

    fn of_entry(&mut self, key: KeyType, entry: &KeyEntry, heap: &[u8]) {
        self.0.clear();
        match key {
            KeyType::U64 | KeyType::I64 => self.0.extend_from_slice(&key.number(entry.value)),
            KeyType::Text | KeyType::Bytes => {
                let at = usize::try_from(entry.value).unwrap_or(usize::MAX);
                let bytes = heap.get(at..).and_then(|h| h.get(..usize::from(entry.length)));
                self.0.extend_from_slice(bytes.unwrap_or(&[]));
            }
        }
    }
}

fn heap_of<'a>(record: &Record, heap: &'a [u8]) -> &'a [u8] {
    if heap.is_empty() {
        return &[];
    }
    let (offset, length) = retag_abi::unpack(record.value);
    heap.get(offset as usize..).and_then(|h| h.get(..length as usize)).unwrap_or(&[])
}
