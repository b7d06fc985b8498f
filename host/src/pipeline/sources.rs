//! Sources as they are configured → readers, and their partitions matched with those of the state.

use super::rows::Positions;
use super::setup::{Options, SetupError};
use crate::config::{Config, History, OnRefusal, SourceConfig};
use crate::decode::Format;
#[cfg(not(feature = "kafka"))]
use crate::source::KafkaError;
use crate::source::files::{Files, discover};
#[cfg(feature = "kafka")]
use crate::source::kafka;
use crate::source::observed::Observed;
use crate::source::{Partition, Position, Source, SourceError, Unit};
use crate::state::StateDir;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// A source that is opened.
pub struct SourceInput {
    /// Its name.
    pub name: String,
    /// Name of its producer.
    pub producer: String,
    /// That name is written in the configuration, not the source's own.
    pub says_producer: bool,
    /// Format of its messages.
    pub format: Format,
    /// Tables with columns that the producer hides.
    pub hidden_columns: Vec<String>,
    /// It holds every change since its tables were empty.
    pub complete: bool,
    /// What a refused message does.
    pub on_refusal: OnRefusal,
    /// What it sees of its log, where it is not a file that anybody can look at.
    pub observed: Option<Arc<Observed>>,
    /// What reads it.
    pub reader: Box<dyn Source>,
}

/// Finds the partitions of all sources, those of the state first, and opens what reads them.
pub(super) fn open_sources(
    config: &Config,
    options: &Options,
    (stored, dir): (Positions, &StateDir),
) -> Result<(Positions, Vec<SourceInput>), SetupError> {
    let positions = discover_all(config, options, stored)?;
    let partitions: Vec<Partition> = positions.partitions.iter().map(|(p, _)| p.clone()).collect();
    let mut sources = Vec::new();
    for (name, source) in &config.sources {
        let of_source = || partitions.iter().filter(|partition| partition.source == *name);
        let whole = source.history() == History::Complete && of_source().all(|p| p.begins == 0);
        let (reader, observed) = open(config, options, (name, source, dir), &partitions)?;
        sources.push(SourceInput {
            name: name.clone(),
            producer: source.producer().unwrap_or(name).clone(),
            says_producer: source.producer().is_some(),
            format: source.format(),
            hidden_columns: source.hidden_columns().to_vec(),
            complete: whole,
            on_refusal: source.on_refusal(),
            observed,
            reader,
        });
    }
    Ok((positions, sources))
}

/// What reads a source, and what that sees of its log.
type Opened = (Box<dyn Source>, Option<Arc<Observed>>);

fn open(
    config: &Config,
    options: &Options,
    (name, source, dir): (&str, &SourceConfig, &StateDir),
    partitions: &[Partition],
) -> Result<Opened, SourceError> {
    let (folder, boundary) = (&config.folder, source.format().boundary());
    match source {
        SourceConfig::Files(_) => {
            let files = Files::open(folder, name, partitions, boundary, options.until_end)?;
            Ok((Box::new(files), None))
        }
        #[cfg(feature = "kafka")]
        SourceConfig::Kafka(topics) => {
            let observed = Arc::<Observed>::default();
            let group = topics.group.clone().unwrap_or_else(|| format!("retag-{}-{name}", dir.id()));
            // A copy of the directory is another folder, here or elsewhere.
            let folder_number = std::fs::metadata(dir.path()).map_or(0, |meta| meta.ino());
            let take_over = options.take_over.iter().any(|source| source == name);
            let lease = kafka::Lease::new(format!("{}/{folder_number}", dir.id()), take_over);
            let opening = kafka::Opening {
                source_name: name,
                config: topics,
                folder,
                group,
                lease,
                boundary,
                until_end: options.until_end,
            };
            let reader = kafka::Kafka::open(opening, partitions, observed.clone())?;
            Ok((Box::new(reader), Some(observed)))
        }
        #[cfg(not(feature = "kafka"))]
        SourceConfig::Kafka(_) => {
            let _ = dir;
            Err(KafkaError::NotBuilt { source_name: name.to_owned() }.into())
        }
    }
}

/// The partitions of a source and where reading goes on; `known` are those of the state. `accept` takes new partitions of known
/// topics in.
///
/// # Errors
/// What is missing, or is not what was read.
pub fn find(
    config: &Config,
    (name, source): (&str, &SourceConfig),
    known: &[(Partition, Position)],
    accept: bool,
) -> Result<Vec<(Partition, Position)>, SourceError> {
    match source {
        SourceConfig::Files(files) => {
            let found = discover(&config.folder, name, &files.paths, known)?.into_iter();
            let at = known.iter().map(|(_, position)| *position).chain(std::iter::repeat(0));
            Ok(found.zip(at).collect())
        }
        #[cfg(feature = "kafka")]
        SourceConfig::Kafka(topics) => {
            let found = kafka::discover((name, topics, &config.folder), known, accept)?;
            Ok(found.partitions)
        }
        #[cfg(not(feature = "kafka"))]
        SourceConfig::Kafka(_) => {
            let _ = accept;
            Err(KafkaError::NotBuilt { source_name: name.to_owned() }.into())
        }
    }
}

/// Matches the partitions of all sources with those of the state.
pub(super) fn discover_all(
    config: &Config,
    options: &Options,
    mut positions: Positions,
) -> Result<Positions, SetupError> {
    let options_of =
        [("--accept-partitions", &options.accept_partitions), ("--take-over", &options.take_over)];
    for (option, names) in options_of {
        if let Some(name) = names.iter().find(|name| !config.sources.contains_key(*name)) {
            return Err(SetupError::NoSuchSource(option, name.clone()));
        }
    }
    let gone = positions.partitions.iter().find(|(p, _)| !config.sources.contains_key(&p.source));
    if let Some((partition, _)) = gone {
        return Err(SetupError::SourceGone(partition.source.clone()));
    }
    for (name, source) in &config.sources {
        let known: Vec<_> = positions.partitions.iter().filter(|(p, _)| p.source == *name).cloned().collect();
        let accept = options.accept_partitions.contains(name);
        let mut found = find(config, (name, source), &known, accept)?.into_iter();
        for (partition, _) in positions.partitions.iter_mut().filter(|(p, _)| p.source == *name) {
            if let Some((again, _)) = found.next() {
                *partition = again;
            }
        }
        positions.partitions.extend(found);
    }
    each_once(config, &positions)?;
    positions.catching_up = positions.partitions.iter().any(|(p, position)| *position < p.first_size);
    Ok(positions)
}

/// One file under two names would count twice, and so would one topic in two sources.
fn each_once(config: &Config, positions: &Positions) -> Result<(), SetupError> {
    let mut files: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut topics: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for (partition, _) in &positions.partitions {
        let name = format!("{} of source {}", partition.name, partition.source);
        let other = if partition.unit == Unit::Bytes {
            let Ok(file) = std::fs::metadata(config.resolve(Path::new(&partition.name))) else { continue };
            files.insert((file.dev(), file.ino()), name.clone())
        } else {
            let number = partition.name.rsplit('/').next().unwrap_or_default();
            let has_id = !partition.fingerprint.is_empty();
            has_id.then(|| topics.insert((&partition.fingerprint, number), name.clone())).flatten()
        };
        if let Some(other) = other {
            return Err(SetupError::SameFile(other, name));
        }
    }
    Ok(())
}
