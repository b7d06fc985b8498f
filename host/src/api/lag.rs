//! How far the host is behind its sources: what it has not read of their files and topics yet, as of now.

use super::about::SourceAbout;
use super::reader::Reader;
use crate::source::observed::Observed;
use crate::source::{Partition, Position, Unit};

/// Size of a partition's file now; none where it is not there, or is no file.
pub(super) fn size(reader: &Reader, partition: &Partition) -> Option<u64> {
    let file = || std::fs::metadata(reader.about.folder.join(&partition.name)).ok();
    (partition.unit == Unit::Bytes).then(file)?.map(|file| file.len())
}

/// What is seen of the source that a partition is of.
pub(super) fn observed<'a>(reader: &'a Reader, partition: &Partition) -> Option<&'a Observed> {
    reader.about.observed.get(&partition.source).map(|observed| &**observed)
}

/// What of partition `number` waits to be read; none where it is not known.
pub(super) fn waiting(
    reader: &Reader,
    number: usize,
    (partition, position): &(Partition, Position),
) -> Option<u64> {
    let end = match partition.unit {
        Unit::Bytes => size(reader, partition),
        Unit::Messages => observed(reader, partition)?.end(number),
    };
    end.map(|end| end.saturating_sub(*position))
}

/// What of a source waits to be read, counted as its positions are.
fn all_waiting(reader: &Reader, source: &str) -> u64 {
    let partitions = reader.positions.partitions.iter().enumerate();
    let of_source = partitions.filter(|(_, (partition, _))| partition.source == source);
    of_source.filter_map(|(number, partition)| waiting(reader, number, partition)).sum()
}

/// The host follows its sources.
pub(super) fn is_following(reader: &Reader) -> bool {
    reader.about.running && reader.about.rebuild.is_none() && !reader.positions.catching_up
}

/// Sources that are followed and of which more waits than may, with what waits.
pub(super) fn behind(reader: &Reader) -> Vec<(&SourceAbout, u64)> {
    if !is_following(reader) {
        return Vec::new();
    }
    let sources = reader.about.sources.iter().map(|source| (source, all_waiting(reader, &source.name)));
    sources.filter(|(source, waiting)| *waiting > source.lag_max).collect()
}
