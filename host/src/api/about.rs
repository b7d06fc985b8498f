//! What reads need to know beside the state: the directory, and what the configuration says of sources and sinks.

use super::rebuild::Rebuild;
use crate::config::{Config, History, SourceConfig};
use crate::pipeline::drift::Drift;
use crate::pipeline::swap_times::SwapTimes;
use crate::sink::progress::Progress;
use crate::source::Unit;
use crate::source::observed::Observed;
use crate::state::StateDir;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The directory and the configuration, as far as answers name them.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Random id of the state.
    pub state_id: String,
    /// Its epoch.
    pub epoch: u64,
    /// The state directory.
    pub dir: PathBuf,
    /// Folder that partitions' paths count from.
    pub folder: PathBuf,
    /// Sources by name.
    pub sources: Vec<SourceAbout>,
    /// Types of the sinks, by name.
    pub sinks: BTreeMap<String, String>,
    /// A host runs on the state (else it is read while stopped).
    pub running: bool,
    /// A rule whose history is read anew while the stream waits.
    pub rebuild: Option<Arc<Rebuild>>,
    /// Where the configuration says otherwise than what runs.
    pub drift: Drift,
    /// What swaps took of workers' time, as of the last tick.
    pub swap_times: Arc<Mutex<SwapTimes>>,
    /// What sources see of their logs, by name; those whose logs anybody can look at are not among them.
    pub observed: BTreeMap<String, Arc<Observed>>,
    /// What sinks are doing, by name; empty where no host runs.
    pub delivery: BTreeMap<String, Arc<Progress>>,
}

/// A source as configured.
#[derive(Clone, Debug)]
pub struct SourceAbout {
    /// Its name.
    pub name: String,
    /// Producer of its change ids.
    pub producer: String,
    /// It holds every change since its tables were empty.
    pub complete: bool,
    /// All that is said of it.
    pub config: SourceConfig,
    /// What its positions count.
    pub unit: Unit,
    /// How much may wait, counted so, before rules that follow it are lagging.
    pub lag_max: u64,
}

impl About {
    /// What `config` and `dir` say.
    #[must_use]
    pub fn new(config: &Config, dir: &StateDir, running: bool) -> Self {
        let source = |(name, source): (&String, &SourceConfig)| {
            let unit = match source {
                SourceConfig::Files(_) => Unit::Bytes,
                SourceConfig::Kafka(_) => Unit::Messages,
            };
            SourceAbout {
                name: name.clone(),
                producer: source.producer().unwrap_or(name).clone(),
                complete: source.history() == History::Complete,
                config: source.clone(),
                unit,
                lag_max: source.lag_max(),
            }
        };
        Self {
            state_id: dir.id().to_owned(),
            epoch: dir.epoch(),
            dir: dir.path().to_owned(),
            folder: config.folder.clone(),
            sources: config.sources.iter().map(source).collect(),
            sinks: config.sinks.iter().map(|(name, sink)| (name.clone(), sink.kind().to_owned())).collect(),
            running,
            rebuild: None,
            drift: Drift::default(),
            swap_times: Arc::default(),
            observed: BTreeMap::new(),
            delivery: BTreeMap::new(),
        }
    }

    /// Every source holds its whole history.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.sources.iter().all(|source| source.complete)
    }
}
