//! Messages of a source's topics from a place backwards, a stretch at a time, for what compares the last ones that came.

use super::client::{Client, connect, settings};
use super::feed::{Feed, Wanted};
use super::names_of;
use crate::clock;
use crate::config::KafkaConfig;
use crate::source::observed::Observed;
use crate::source::{Block, Index, KafkaError, Partition, Position};
use rdkafka::consumer::Consumer as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Messages of a stretch.
const MESSAGES: Position = 2_000;
/// Bytes that are given at once, about.
const BYTES_MAX: usize = 4 << 20;
/// How long a broker may take to say where a log begins.
const ANSWER: Duration = Duration::from_secs(10);
/// How long messages may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at messages that do not come.
const PAUSE: Duration = Duration::from_millis(5);

/// A reader of what was read before.
pub struct LookBack {
    source_name: String,
    servers: String,
    /// `topic/partition` by partition number of the state; none where it is of another source.
    names: Vec<Option<String>>,
    feed: Feed,
}

impl LookBack {
    /// A reader of the partitions in `partitions` that are of this source; it commits no offset and holds no lease.
    ///
    /// # Errors
    /// Settings that librdkafka does not take.
    pub fn open(
        (source_name, config, folder): (&str, &KafkaConfig, &Path),
        partitions: &[Partition],
    ) -> Result<Self, KafkaError> {
        let names = names_of(source_name, partitions);
        let mut settings = settings(source_name, config, folder, names.iter().flatten().count())?;
        settings.set("group.id", format!("retag-look-back-{source_name}")); // librdkafka wants one; nothing is committed to it
        let client: Client = connect(source_name, &settings, &Arc::new(Observed::default()))?;
        let feed = Feed::new(source_name, client, &names, config.format.boundary());
        let servers = config.bootstrap_servers.clone();
        Ok(Self { source_name: source_name.to_owned(), servers, names, feed })
    }

    /// Where a stretch of messages begins that ends at `end`; `end` itself where the log has nothing in front of it any more.
    ///
    /// # Errors
    /// No broker answers.
    pub fn start_before(&mut self, partition: usize, end: Position) -> Result<Position, KafkaError> {
        let name = self.names.get(partition).and_then(Option::as_deref).unwrap_or_default();
        let place = name.rsplit_once('/').and_then(|(topic, n)| Some((topic, n.parse().ok()?)));
        let Some((topic, number)) = place else { return Ok(end) };
        let ends = self.feed.client().fetch_watermarks(topic, number, ANSWER);
        let (begin, _) = ends.map_err(|error| self.unreachable(error.to_string()))?;
        let begin = Position::try_from(begin).unwrap_or(0);
        Ok(end.saturating_sub(MESSAGES).max(begin).min(end))
    }

    /// Messages from `start` on, none that stands at `end` or behind it, maybe not all of them.
    ///
    /// # Errors
    /// They are not there any more, or do not come.
    pub fn read(&mut self, partition: usize, start: Position, end: Position) -> Result<Block, KafkaError> {
        let wanted = Wanted { partition, start, bytes_max: BYTES_MAX, until: end, to_the_end: true };
        let (mut bytes, mut index) = (Vec::new(), Index::default());
        let begin = clock::moment();
        loop {
            self.feed.hear()?;
            let filled = self.feed.fill(&wanted, (&mut bytes, &mut index))?;
            if index.end() > start || filled.at_end {
                let (bytes, index) = (Arc::new(bytes), Some(Arc::new(index)));
                return Ok(Block { partition, start, bytes, index, at_end: filled.at_end });
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.unreachable("no message came".into()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn unreachable(&self, why: String) -> KafkaError {
        let (source_name, servers) = (self.source_name.clone(), self.servers.clone());
        KafkaError::Unreachable { source_name, servers, why }
    }
}
