//! How far the host is behind its sources: what of their files it has not read yet, as of now.

use super::about::SourceAbout;
use super::reader::Reader;
use crate::source::Partition;

/// Size of a partition's file now; none where it is not there.
pub(super) fn size(reader: &Reader, partition: &Partition) -> Option<u64> {
    std::fs::metadata(reader.about.folder.join(&partition.name)).ok().map(|file| file.len())
}

/// Bytes of a source that wait to be read.
fn waiting_bytes(reader: &Reader, source: &str) -> u64 {
    let of_source = reader.positions.partitions.iter().filter(|(partition, _)| partition.source == source);
    of_source.filter_map(|(p, position)| Some(size(reader, p)?.saturating_sub(*position))).sum()
}

/// The host follows its sources.
pub(super) fn is_following(reader: &Reader) -> bool {
    reader.about.running && reader.about.rebuild.is_none() && !reader.positions.catching_up
}

/// Sources that are followed and of which more waits than may, with the bytes that wait.
pub(super) fn behind(reader: &Reader) -> Vec<(&SourceAbout, u64)> {
    if !is_following(reader) {
        return Vec::new();
    }
    let sources = reader.about.sources.iter().map(|source| (source, waiting_bytes(reader, &source.name)));
    sources.filter(|(source, bytes)| *bytes > source.lag_bytes_max).collect()
}
