//! Which partitions a source has and where new ones are read from; what must not be read is refused by name before anything is.

use super::client::{Client, connect, hear, settings, why_not};
use super::native::topic_ids;
use super::{Observed, Unit};
use crate::clock;
use crate::config::{KafkaConfig, Start};
use crate::source::{KafkaError, Partition, Position};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResourceResult, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long one answer of a broker may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long brokers that do not answer are asked again: for a source that is new, and for one that can as well wait for them
/// while the host runs.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_KNOWN: Duration = Duration::from_secs(5);
/// Between two questions to brokers that do not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// Partitions of a source with the positions that reading goes on at: those that the state knows first, in their order.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Partitions with their positions.
    pub partitions: Vec<(Partition, Position)>,
    /// No broker answered; these are the partitions that the state knows.
    pub unchecked: bool,
}

/// How a source is looked up.
struct Lookup<'a> {
    source_name: &'a str,
    config: &'a KafkaConfig,
    settings: ClientConfig,
    client: Client,
    /// What the client hears.
    observed: Arc<Observed>,
    patience: Duration,
}

/// Finds the partitions of a source; `known` are those of the state, `accept` takes new ones of known topics in.
///
/// # Errors
/// What must not be read, or cannot.
pub fn discover(
    (source_name, config, folder): (&str, &KafkaConfig, &Path),
    known: &[(Partition, Position)],
    accept: bool,
) -> Result<Found, KafkaError> {
    let settings = settings(source_name, config, folder, known.len())?;
    let observed = Arc::new(Observed::default());
    let client = connect(source_name, &settings, &observed)?;
    let patience = if known.is_empty() { PATIENCE } else { PATIENCE_KNOWN };
    let lookup = Lookup { source_name, config, settings, client, observed, patience };
    let (topics, counts) = match lookup.topics(known) {
        // What was read is known, and goes on when they answer: nothing is lost while they do not.
        Err(KafkaError::Unreachable { .. }) if !known.is_empty() => {
            return Ok(Found { partitions: known.to_vec(), unchecked: true });
        }
        found => found?,
    };
    lookup.check_cleanup(&topics)?;
    let ids = topic_ids(&lookup.client, &topics, ANSWER).unwrap_or_default();
    let mut partitions = Vec::new();
    for (partition, position) in known {
        partitions.push((lookup.check_known(partition, &counts, &ids)?, *position));
    }
    let mut new = Vec::new();
    for (topic, count) in &counts {
        let of_topic = |name: &String| name.rsplit_once('/').is_some_and(|(known, _)| known == topic);
        let before = known.iter().filter(|(partition, _)| of_topic(&partition.name)).count();
        if before > 0 && *count > before && !accept {
            return Err(grown(source_name, topic, before, *count));
        }
        let names = (0..*count).map(|n| format!("{topic}/{n}"));
        new.extend(names.filter(|name| known.iter().all(|(partition, _)| partition.name != *name)));
    }
    lookup.check_offsets(&new, known.is_empty())?;
    for name in new {
        let id = name.rsplit_once('/').and_then(|(topic, _)| ids.get(topic)).cloned();
        partitions.push(lookup.begin(name, id.unwrap_or_default(), !known.is_empty() && accept)?);
    }
    Ok(Found { partitions, unchecked: false })
}

/// The refusal of a topic that has more partitions than it had.
pub(super) fn grown(source_name: &str, topic: &str, before: usize, now: usize) -> KafkaError {
    KafkaError::PartitionsChanged {
        source_name: source_name.to_owned(),
        topic: topic.to_owned(),
        before,
        now,
        way_out: "start once with `--accept-partitions` and the source's name: the new ones are then read from their beginning",
    }
}

/// The refusal of a topic that was made anew.
pub(super) fn replaced(source_name: &str, topic: &str, (before, now): (&str, &str)) -> KafkaError {
    let (source_name, topic) = (source_name.to_owned(), topic.to_owned());
    KafkaError::TopicReplaced { source_name, topic, before: before.to_owned(), now: now.to_owned() }
}

impl Lookup<'_> {
    fn missing(&self, topic: &str, why: &str) -> KafkaError {
        let (source_name, why) = (self.source_name.to_owned(), why.to_owned());
        KafkaError::TopicMissing { source_name, topic: topic.to_owned(), why }
    }

    fn unreachable(&self, why: String) -> KafkaError {
        let (source_name, servers) = (self.source_name.to_owned(), self.config.bootstrap_servers.clone());
        KafkaError::Unreachable { source_name, servers, why }
    }

    /// The topics that are named or matched, and how many partitions each has.
    fn topics(
        &self,
        known: &[(Partition, Position)],
    ) -> Result<(Vec<String>, BTreeMap<String, usize>), KafkaError> {
        let topics = match self.config.pattern() {
            Ok(Some(pattern)) => self.matched(&pattern)?,
            Ok(None) => self.config.topics.clone(),
            Err(error) => {
                let pattern = self.config.topic_pattern.as_deref().unwrap_or_default();
                let why = format!("topic_pattern `{pattern}`: {error}");
                return Err(KafkaError::Setting { source_name: self.source_name.to_owned(), why });
            }
        };
        for (topic, _) in known.iter().filter_map(|(partition, _)| partition.name.rsplit_once('/')) {
            if !topics.iter().any(|named| named == topic) {
                let why = match self.config.topic_pattern {
                    Some(_) => "it was read into this state, and no topic of that name is there and matches",
                    None => "it was read into this state and `topics` does not name it any more",
                };
                return Err(self.missing(topic, why));
            }
        }
        let mut counts = BTreeMap::new();
        for topic in &topics {
            let of_topic = |name: &str| name.rsplit_once('/').is_some_and(|(known, _)| known == topic);
            let is_known = known.iter().any(|(partition, _)| of_topic(&partition.name));
            counts.insert(topic.clone(), self.count(topic, is_known)?);
        }
        Ok((topics, counts))
    }

    fn matched(&self, pattern: &regex_lite::Regex) -> Result<Vec<String>, KafkaError> {
        let metadata = self.patiently(|client, answer| client.fetch_metadata(None, answer))?;
        let names = metadata.topics().iter().map(|topic| topic.name());
        // Topics of the brokers' own are never meant.
        let named = names.filter(|name| !name.starts_with("__") && pattern.is_match(name));
        let mut topics: Vec<String> = named.map(str::to_owned).collect();
        topics.sort();
        if topics.is_empty() {
            let pattern = self.config.topic_pattern.as_deref().unwrap_or_default();
            return Err(self.missing(pattern, "no topic matches this pattern"));
        }
        Ok(topics)
    }

    /// Number of partitions of a topic. A cluster that is just coming up may not know yet what it has.
    fn count(&self, topic: &str, is_known: bool) -> Result<usize, KafkaError> {
        let begin = clock::moment();
        loop {
            let metadata = self.patiently(|client, answer| client.fetch_metadata(Some(topic), answer))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let error = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
            match (found, error) {
                (Some(found), None) if !found.partitions().is_empty() => return Ok(found.partitions().len()),
                (_, Some(RDKafkaErrorCode::LeaderNotAvailable)) if begin.elapsed() < ANSWER => {
                    std::thread::sleep(PAUSE);
                }
                (_, Some(RDKafkaErrorCode::UnknownTopicOrPartition))
                    if is_known && begin.elapsed() < ANSWER =>
                {
                    std::thread::sleep(PAUSE);
                }
                (_, Some(error)) => return Err(self.missing(topic, &error.to_string())),
                _ => return Err(self.missing(topic, "the brokers do not know it")),
            }
        }
    }

    /// Asks until the brokers answer.
    fn patiently<T>(
        &self,
        ask: impl Fn(&Client, Duration) -> rdkafka::error::KafkaResult<T>,
    ) -> Result<T, KafkaError> {
        let begin = clock::moment();
        loop {
            let error = match ask(&self.client, ANSWER.min(self.patience)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            hear(&self.client);
            if begin.elapsed() > self.patience {
                return Err(self.unreachable(self.observed.waits_for().unwrap_or_else(|| error.to_string())));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Refuses topics whose log loses changes by compaction. Who may not ask for a topic's settings is not told of it.
    fn check_cleanup(&self, topics: &[String]) -> Result<(), KafkaError> {
        let policies =
            cleanup_policies(&self.settings, topics, ANSWER).map_err(|why| self.unreachable(why))?;
        match policies.into_iter().find(|(_, policy)| policy.contains("compact")) {
            None => Ok(()),
            Some((topic, policy)) => {
                Err(KafkaError::TopicCompacted { source_name: self.source_name.to_owned(), topic, policy })
            }
        }
    }

    /// Whether a partition of the state is still there, and of the topic that was read.
    fn check_known(
        &self,
        partition: &Partition,
        counts: &BTreeMap<String, usize>,
        ids: &BTreeMap<String, String>,
    ) -> Result<Partition, KafkaError> {
        let (topic, number) = partition.name.rsplit_once('/').unwrap_or((&partition.name, ""));
        let now = counts.get(topic).copied().unwrap_or(0);
        let (source_name, topic) = (self.source_name.to_owned(), topic.to_owned());
        let id = ids.get(&topic).cloned().unwrap_or_default();
        if !id.is_empty() && !partition.fingerprint.is_empty() && id != partition.fingerprint {
            return Err(replaced(self.source_name, &topic, (&partition.fingerprint, &id)));
        }
        if number.parse::<usize>().is_ok_and(|number| number >= now) {
            let before = number.parse::<usize>().unwrap_or(0) + 1;
            let way_out = "a topic does not lose partitions: it was made anew; put the old one back, or start with a new \
                           state directory";
            return Err(KafkaError::PartitionsChanged { source_name, topic, before, now, way_out });
        }
        let fingerprint = if partition.fingerprint.is_empty() { id } else { partition.fingerprint.clone() };
        Ok(Partition { fingerprint, ..partition.clone() })
    }

    /// Whether `start.offsets` names just the partitions that are new.
    fn check_offsets(&self, new: &[String], is_first: bool) -> Result<(), KafkaError> {
        let Start::Offsets(offsets) = &self.config.start else { return Ok(()) };
        let is_left_out = new.iter().any(|name| !offsets.contains_key(name));
        // On first use a name that is not there is a slip of the pen; later on it may be of what is read already.
        let is_nowhere = is_first && offsets.keys().any(|name| !new.contains(name));
        if !is_left_out && !is_nowhere {
            return Ok(());
        }
        Err(KafkaError::StartOffsets {
            source_name: self.source_name.to_owned(),
            named: offsets.keys().cloned().collect::<Vec<_>>().join(", "),
            found: new.join(", "),
        })
    }

    /// A partition that the state does not know, and where it is read from.
    fn begin(
        &self,
        name: String,
        fingerprint: String,
        from_beginning: bool,
    ) -> Result<(Partition, Position), KafkaError> {
        let (topic, number) = name.rsplit_once('/').unwrap_or((&name, "0"));
        let number: i32 = number.parse().unwrap_or(0);
        let (low, high) = self.patiently(|client, answer| client.fetch_watermarks(topic, number, answer))?;
        let position = match &self.config.start {
            _ if from_beginning => low,
            Start::Earliest => low,
            Start::Latest => high,
            Start::Timestamp(ms) => self.at_time(topic, number, *ms)?.unwrap_or(high),
            Start::Offsets(offsets) => {
                let wanted = offsets.get(&name).copied().unwrap_or(0);
                let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
                if !(low..=high).contains(&wanted) {
                    let (source_name, partition) = (self.source_name.to_owned(), name.clone());
                    let why = format!("`start.offsets`; it has offsets {low} to {high}");
                    let position = u64::try_from(wanted).unwrap_or(0);
                    return Err(KafkaError::OutOfRange { source_name, partition, position, why });
                }
                wanted
            }
        };
        let place = |offset: i64| u64::try_from(offset).unwrap_or(0);
        let partition = Partition {
            source: self.source_name.to_owned(),
            name,
            fingerprint,
            fingerprint_len: 0,
            first_size: place(high),
            begins: place(position),
            unit: Unit::Messages,
        };
        Ok((partition, place(position)))
    }

    /// The offset of the first message that was written at a time or later; none where there is none.
    fn at_time(&self, topic: &str, partition: i32, ms: i64) -> Result<Option<i64>, KafkaError> {
        let found = self.patiently(|client, answer| {
            let mut list = TopicPartitionList::with_capacity(1);
            list.add_partition_offset(topic, partition, Offset::Offset(ms))?;
            client.offsets_for_times(list, answer)
        })?;
        let offset = found.elements_for_topic(topic).first().map(|element| element.offset());
        Ok(match offset {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        })
    }
}

/// `cleanup.policy` of topics, of those whose settings may be asked for and are told within `answer`.
pub(crate) fn cleanup_policies(
    settings: &ClientConfig,
    topics: &[String],
    answer: Duration,
) -> Result<BTreeMap<String, String>, String> {
    let admin: AdminClient<DefaultClientContext> = settings.create().map_err(why_not)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let wanted: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(answer));
    let described = runtime.block_on(admin.describe_configs(&wanted, &options)).unwrap_or_default();
    let policy = |(topic, resource): (&String, ConfigResourceResult)| {
        Some((topic.clone(), resource.ok()?.get("cleanup.policy")?.value.clone()?))
    };
    Ok(topics.iter().zip(described).filter_map(policy).collect())
}
