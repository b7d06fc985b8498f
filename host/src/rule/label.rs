//! The label side: readings of some keys → their label sets, and when time alone may change them.
//!
//! A key is judged as an image is: a fresh instance on that key alone with fuel R; batches are halved where they fail.
//! A key that fails keeps the labels that it has: the caller gets its index and the reason.

use std::sync::Arc;

use retag_abi::label::{OUTPUT_HEADER_LEN, OutputHeader};
use retag_abi::{BATCH_ROWS_MAX, WAKE_NEVER};

use super::answer::slice;
use super::engine::CompiledRule;
use super::error::{Fault, RuleError};
use super::guest::Guest;
use super::label_pack::LabelPacker;
use super::params::ParamValues;

/// Readings of the aggregates of some keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Number of keys.
    pub keys: usize,
    /// One column per aggregate in manifest order, each with one entry per key.
    pub columns: Vec<ReadingColumn>,
}

/// The readings of one aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadingColumn {
    /// any.
    Bool(Vec<bool>),
    /// count.
    I64(Vec<i64>),
    /// distinct.
    U64(Vec<u64>),
    /// sum, whatever its value type.
    I128(Vec<i128>),
    /// min and max of i64, decimal (18 digits), timestamp.
    OptI64(Vec<Option<i64>>),
    /// min and max of u64.
    OptU64(Vec<Option<u64>>),
    /// min and max of decimal (38 digits).
    OptI128(Vec<Option<i128>>),
    /// min and max of date.
    OptI32(Vec<Option<i32>>),
    /// min and max of text and bytes.
    OptBytes(Vec<Option<Vec<u8>>>),
}

/// What `label` answered. Reused: `label` empties it first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelAnswers {
    /// keys × labels: 0 = not carried, 1 = a flag that is, v + 1 = value v of the manifest.
    pub sets: Vec<u16>,
    /// Per key the engine time in µs at which time alone may change the answer; [`WAKE_NEVER`] = never.
    pub wake: Vec<i64>,
    /// Keys whose call failed, with the reason; their entries above mean nothing.
    pub errors: Vec<(usize, String)>,
}

/// A warm instance of a rule's label side with its parameters.
pub struct Labeler {
    rule: Arc<CompiledRule>,
    params: Vec<u8>,
    /// Highest entry of each label.
    highest: Vec<u16>,
    guest: Option<Guest>,
    packer: LabelPacker,
    fuel_per_key: u64,
}

impl Labeler {
    pub(super) fn new(rule: Arc<CompiledRule>, params: &ParamValues) -> Result<Self, RuleError> {
        let fault = |fault| RuleError::Start { rule: rule.manifest.name.clone(), fault };
        let guest = Some(Guest::new(&rule.label_part, rule.limits.start_fuel()).map_err(fault)?);
        let highest = |values: &Vec<String>| u16::try_from(values.len().max(1)).unwrap_or(u16::MAX);
        let highest = rule.manifest.labels.iter().map(|label| highest(&label.values)).collect();
        let packer = LabelPacker::for_manifest(&rule.manifest);
        Ok(Self { rule, params: params.to_bytes(), highest, guest, packer, fuel_per_key: 500 })
    }

    /// Labels all keys of `readings` as of engine time `now` (µs).
    ///
    /// # Errors
    /// `bad-call` where readings and manifest differ: an error of the caller. Keys that fail are in `out.errors`.
    pub fn label(&mut self, readings: &Readings, now: i64, out: &mut LabelAnswers) -> Result<(), RuleError> {
        out.sets.clear();
        out.wake.clear();
        out.errors.clear();
        super::label_pack::agrees(&self.rule.manifest, readings)
            .map_err(|message| RuleError::Caller { rule: self.rule.manifest.name.clone(), message })?;
        let mut at = 0;
        while at < readings.keys {
            let keys = self.keys_per_batch().min(readings.keys - at);
            self.label_batch(Span { readings, now, at, keys }, out);
            at += keys;
        }
        Ok(())
    }

    fn keys_per_batch(&self) -> usize {
        let keys = self.rule.limits.fuel / 2 / self.fuel_per_key.max(1);
        usize::try_from(keys).unwrap_or(usize::MAX).clamp(1, BATCH_ROWS_MAX)
    }

    fn label_batch(&mut self, span: Span<'_>, out: &mut LabelAnswers) {
        let guest = match self.guest.take() {
            Some(guest) => Ok(guest),
            None => Guest::new(&self.rule.label_part, self.rule.limits.start_fuel()),
        };
        let fuel = self.rule.limits.batch_fuel();
        match guest.and_then(|mut guest| self.call(&mut guest, fuel, span, out).map(|()| guest)) {
            Ok(guest) => {
                let used = fuel.saturating_sub(guest.fuel_left());
                let per_key = used / (span.keys.max(1) as u64) + 1;
                self.fuel_per_key = per_key.max(self.fuel_per_key - self.fuel_per_key / 8);
                self.guest =
                    Some(guest).filter(|guest| guest.memory_bytes() <= self.rule.limits.memory_mark());
            }
            Err(_) => self.halve(span, out),
        }
    }

    fn halve(&mut self, span: Span<'_>, out: &mut LabelAnswers) {
        if span.keys <= 1 {
            if let Err(fault) = self.alone(span, out) {
                out.sets.extend(self.highest.iter().map(|_| 0));
                out.wake.push(WAKE_NEVER);
                out.errors.push((span.at, fault.to_string()));
            }
            return;
        }
        let half = span.keys / 2;
        let right = Span { at: span.at + half, keys: span.keys - half, ..span };
        for span in [Span { keys: half, ..span }, right] {
            let limits = self.rule.limits;
            let guest = Guest::new(&self.rule.label_part, limits.start_fuel());
            if guest.and_then(|mut guest| self.call(&mut guest, limits.batch_fuel(), span, out)).is_err() {
                self.halve(span, out);
            }
        }
    }

    /// The verdict on one key: a fresh instance with fuel R for start and call together.
    pub(super) fn alone(&mut self, span: Span<'_>, out: &mut LabelAnswers) -> Result<(), Fault> {
        let mut guest = Guest::new(&self.rule.label_part, self.rule.limits.fuel)?;
        let left = guest.fuel_left();
        self.call(&mut guest, left, span, out)
    }

    fn call(
        &mut self,
        guest: &mut Guest,
        fuel: u64,
        span: Span<'_>,
        out: &mut LabelAnswers,
    ) -> Result<(), Fault> {
        let input = self.packer.pack(span, &self.params);
        if input.len() > self.rule.limits.memory_bytes / 4 {
            return Err(Fault::new("readings-too-large", "the readings do not fit the guest's memory"));
        }
        guest.set_fuel(fuel);
        let at = guest.input(input.len(), |place| place.copy_from_slice(input))?;
        let header = guest.run(at, input.len())?;
        self.read(guest.memory(), header, span.keys, out)
    }

    fn read(
        &self,
        memory: &[u8],
        header: (u32, u32),
        keys: usize,
        out: &mut LabelAnswers,
    ) -> Result<(), Fault> {
        if header.1 as usize != OUTPUT_HEADER_LEN {
            return Err(Fault::new(
                "bad-length",
                format!("the output header has {} bytes, not 16", header.1),
            ));
        }
        let header = OutputHeader::read(slice(memory, header, "header")?)
            .ok_or_else(|| Fault::new("bad-pointer", "the output header is cut short"))?;
        let sets = slice(memory, header.sets, "label sets")?;
        let wake = slice(memory, header.wake, "wake times")?;
        if sets.len() != keys * self.highest.len() * 2 || wake.len() != keys * 8 {
            let message = format!("{} bytes of sets and {} of wake for {keys} keys", sets.len(), wake.len());
            return Err(Fault::new("bad-length", message));
        }
        let mark = out.sets.len();
        let (entries, _) = sets.as_chunks::<2>();
        for (entry, highest) in entries.iter().zip(self.highest.iter().cycle()) {
            let entry = u16::from_le_bytes(*entry);
            if entry > *highest {
                out.sets.truncate(mark);
                let message = format!("entry {entry} of a label whose highest is {highest}");
                return Err(Fault::new("label-out-of-range", message));
            }
            out.sets.push(entry);
        }
        let (times, _) = wake.as_chunks::<8>();
        out.wake.extend(times.iter().map(|time| i64::from_le_bytes(*time)));
        Ok(())
    }

    pub(super) fn recycle(&mut self) {
        self.guest = None;
    }
}

/// `keys` keys of the readings from `at` on.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) readings: &'a Readings,
    pub(super) now: i64,
    pub(super) at: usize,
    pub(super) keys: usize,
}
