//! Whether the sources still hold what a rule would have to be given again.

use super::lag::observed;
use super::reader::Reader;
use crate::source::{KafkaError, Partition, Position, SourceError, Unit, files};

/// Looks whether every partition is there from where `from` says on: of a file that it is the one that was read, of a topic where
/// its log begins as of what was fetched last.
///
/// # Errors
/// The first that is not.
pub(super) fn holds(
    reader: &Reader,
    from: impl Fn(usize, &Partition) -> Position,
) -> Result<(), SourceError> {
    for (number, (partition, position)) in reader.positions.partitions.iter().enumerate() {
        if partition.unit == Unit::Bytes {
            files::holds(&reader.about.folder, partition, *position)?;
            continue;
        }
        let from = from(number, partition);
        let start = observed(reader, partition).and_then(|observed| observed.start(number));
        if let Some(start) = start.filter(|start| *start > from) {
            return Err(KafkaError::HistoryGone {
                source_name: partition.source.clone(),
                partition: partition.name.clone(),
                position: from,
                why: format!("its log begins at offset {start} now"),
            }
            .into());
        }
    }
    Ok(())
}
