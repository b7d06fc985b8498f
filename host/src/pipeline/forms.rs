//! The form of a producer's change ids: one for all of its partitions, or re-sent changes could not be recognised.
//!
//! Which block of which partition arrives first is chance, so the form is settled over all that were seen together, in
//! the order of partitions and positions: before anything is read over the first messages of the partitions, later over
//! a cycle. A form that tells changes apart goes before none.

use super::failure::Failure;
use super::rows::Positions;
use super::setup::SetupError;
use super::sources::SourceInput;
use crate::decode::{Decoded, Decoder, Format, IdForm, Plan, Refusal};
use crate::source::Unit;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The form of the ids from one place on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeenForm {
    /// Partition.
    pub(super) partition: usize,
    /// Position of the change.
    pub(super) position: u64,
    /// Its form.
    pub(super) form: &'static str,
}

impl SeenForm {
    pub(super) fn new(partition: usize, (form, position): (IdForm, u64)) -> Self {
        Self { partition, position, form: name(form) }
    }
}

/// The name that a form is stored by.
pub(super) fn name(form: IdForm) -> &'static str {
    match form {
        IdForm::Gtid => "gtid",
        IdForm::Position => "position",
        IdForm::None => NONE,
    }
}

const NONE: &str = "none";

/// Settles the form of every producer that has none yet; returns what has another one, by partition and position.
pub(super) fn settle<'a>(
    fixed: &mut BTreeMap<String, String>,
    mut seen: Vec<SeenForm>,
    producer: impl Fn(usize) -> Option<&'a str>,
) -> Vec<(usize, Refusal)> {
    seen.sort_unstable();
    for with_ids in [true, false] {
        for seen in seen.iter().filter(|seen| (seen.form != NONE) == with_ids) {
            let Some(producer) = producer(seen.partition) else { continue };
            if !fixed.contains_key(producer) {
                fixed.insert(producer.to_owned(), seen.form.to_owned());
            }
        }
    }
    let refused = |seen: &SeenForm| {
        let fixed = fixed.get(producer(seen.partition)?)?;
        (fixed != seen.form).then(|| (seen.partition, form_changed(fixed, seen.form, seen.position)))
    };
    seen.iter().filter_map(refused).collect()
}

/// Bytes at the start of a partition that are looked at.
const FIRST_BYTES: usize = 64 * 1024;

/// Settles the forms over the first messages of the partitions that nothing was read of yet.
///
/// # Errors
/// What a source does not give; the first partition whose form is another one.
pub(super) fn settle_first(sources: &mut [SourceInput], positions: &mut Positions) -> Result<(), SetupError> {
    let mut decoder = Decoder::new(Format::Maxwell, Arc::new(Plan::default()));
    let mut decoded = Decoded::default();
    let mut seen = Vec::new();
    for (number, (partition, position)) in positions.partitions.iter().enumerate() {
        let source = sources.iter_mut().find(|source| source.name == partition.source);
        // What a log of messages holds comes when it comes: its forms are settled with its first cycles.
        let is_first = *position == 0 && partition.unit == Unit::Bytes;
        let Some(source) = source.filter(|_| is_first) else { continue };
        let block = source.reader.read(number, 0, FIRST_BYTES)?;
        decoder.decode(&block.bytes, 0, &mut decoded);
        let form = decoded.form.zip(decoded.changes.first().map(|change| change.position));
        seen.extend(form.map(|form| SeenForm::new(number, form)));
    }
    let producer = |number: usize| {
        let (partition, _) = positions.partitions.get(number)?;
        sources.iter().find(|s| s.name == partition.source).map(|s| s.producer.as_str())
    };
    let refused = settle(&mut positions.id_forms, seen, producer).into_iter().next();
    let Some((number, refusal)) = refused else { return Ok(()) };
    let partition = positions.partitions.get(number).map(|(p, _)| p.clone());
    let place = partition.map(|p| (p.place(refusal.position), p.source));
    let (place, source_name) = place.unwrap_or_default();
    Err(Failure::Refused { source_name, place, refusal }.into())
}

fn form_changed(fixed: &str, form: &str, position: u64) -> Refusal {
    Refusal {
        code: "id-form-changed",
        position,
        table: String::new(),
        message: format!(
            "change ids of this producer have the form `{fixed}`, this message has `{form}`: re-sent changes could \
             not be recognised; set the producer's output options as they were, or give the source a new `producer`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_in_which_forms_are_seen_changes_nothing() {
        let seen = |partition, form, position| SeenForm::new(partition, (form, position));
        let all = [
            seen(0, IdForm::None, 7),
            seen(1, IdForm::Position, 0),
            seen(1, IdForm::Gtid, 90),
            seen(2, IdForm::Position, 50),
            seen(3, IdForm::None, 0),
        ];
        let producer = |n: usize| Some(if n < 3 { "a" } else { "b" });
        for turn in 0..all.len() {
            let mut turned = all.to_vec();
            turned.rotate_left(turn);
            let mut fixed = BTreeMap::new();
            let refused = settle(&mut fixed, turned, producer);
            let places: Vec<_> = refused.iter().map(|(n, refusal)| (*n, refusal.position)).collect();
            assert_eq!(places, [(0, 7), (1, 90)]);
            assert_eq!(fixed, [("a", "position"), ("b", "none")].map(|(a, b)| (a.into(), b.into())).into());
            assert!(settle(&mut fixed, vec![seen(3, IdForm::None, 9)], producer).is_empty());
            assert_eq!(settle(&mut fixed, vec![seen(3, IdForm::Gtid, 9)], producer).len(), 1);
        }
    }
}
