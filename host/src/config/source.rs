//! `[sources.NAME]`: files or topics of Kafka, what they hold, and how they are read.

use super::librdkafka::{self, Setting, Taken};
use crate::decode::Format;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a source holds of the past.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum History {
    /// Every change since the tables were empty.
    Complete,
    /// It begins somewhere: sums of rows that lived before are approximate.
    None,
}

/// What a refusal does.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OnRefusal {
    /// The host commits everything before the message and stops with its name.
    #[default]
    Stop,
    /// The rules that read the message's table stand still in front of it; everything else goes on.
    Pause,
    /// The message goes to quarantine and counts nothing; the rules that read its table are approximate from then on.
    Quarantine,
}

/// `[sources.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SourceConfig {
    /// Files of messages, one a line; each file is one partition of the log.
    Files(FilesConfig),
    /// Topics of Kafka.
    Kafka(KafkaConfig),
}

/// `type = "files"`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// Format of the messages.
    pub format: Format,
    /// Files or globs, read side by side.
    pub paths: Vec<String>,
    /// What the files hold of the past.
    pub history: History,
    /// Name of the producer whose change ids these are; default: the source's name.
    #[serde(default)]
    pub producer: Option<String>,
    /// Tables with columns that the producer hides: an update without `old` is then one that changed only those.
    #[serde(default)]
    pub hidden_columns: Vec<String>,
    /// What a refused message does.
    #[serde(default)]
    pub on_refusal: OnRefusal,
    /// Bytes that may wait in all its files before rules that follow it read `lagging`. Default 64 MiB.
    #[serde(default = "default_lag_bytes")]
    pub lag_bytes_max: u64,
}

fn default_lag_bytes() -> u64 {
    64 << 20
}

/// `type = "kafka"`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to ask first, `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// Topics, by name.
    #[serde(default)]
    pub topics: Vec<String>,
    /// Topics whose whole name this regular expression matches, looked up at the start.
    #[serde(default)]
    pub topic_pattern: Option<String>,
    /// Format of the messages.
    pub format: Format,
    /// What the topics hold of the past.
    pub history: History,
    /// Where a partition is read from that the state does not know; afterwards the state's own position counts.
    #[serde(default)]
    pub start: Start,
    /// Consumer group that positions are written to for lag tools; default `retag-` and the state's id and the source's name.
    #[serde(default)]
    pub group: Option<String>,
    /// Settings of librdkafka.
    #[serde(default)]
    pub librdkafka: BTreeMap<String, Setting>,
    /// Name of the producer whose change ids these are; default: the source's name.
    #[serde(default)]
    pub producer: Option<String>,
    /// Tables with columns that the producer hides: an update without `old` is then one that changed only those.
    #[serde(default)]
    pub hidden_columns: Vec<String>,
    /// What a refused message does.
    #[serde(default)]
    pub on_refusal: OnRefusal,
    /// Messages that may wait in all its partitions before rules that follow it read `lagging`. Default 100,000.
    #[serde(default = "default_lag_messages")]
    pub lag_messages_max: u64,
}

fn default_lag_messages() -> u64 {
    100_000
}

/// Where reading begins.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "StartText")]
pub enum Start {
    /// At the beginning of the log.
    #[default]
    Earliest,
    /// At its end.
    Latest,
    /// At the first message that was written at this time or later, ms since 1970.
    Timestamp(i64),
    /// At these offsets, by `topic/partition`.
    Offsets(BTreeMap<String, u64>),
}

/// As it is written.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "start: \"earliest\", \"latest\", { timestamp = \"…\" } or { offsets = { … } }"
)]
enum StartText {
    Word(String),
    Timestamp(StartTime),
    Offsets(StartOffsets),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartTime {
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartOffsets {
    offsets: BTreeMap<String, u64>,
}

impl TryFrom<StartText> for Start {
    type Error = String;

    fn try_from(text: StartText) -> Result<Self, String> {
        match text {
            StartText::Word(word) if word == "earliest" => Ok(Self::Earliest),
            StartText::Word(word) if word == "latest" => Ok(Self::Latest),
            StartText::Word(word) => Err(format!(
                "start = \"{word}\": \"earliest\", \"latest\", {{ timestamp = \"2026-01-31T00:00:00Z\" }} or \
                 {{ offsets = {{ \"topic/0\" = 42 }} }}"
            )),
            StartText::Timestamp(StartTime { timestamp }) => {
                let read = milliseconds(&timestamp).map(Self::Timestamp);
                read.ok_or_else(|| {
                    format!("start.timestamp = \"{timestamp}\": a time as 2026-01-31T00:00:00Z")
                })
            }
            StartText::Offsets(StartOffsets { offsets }) => Ok(Self::Offsets(offsets)),
        }
    }
}

/// RFC 3339 with an offset → ms since 1970.
fn milliseconds(text: &str) -> Option<i64> {
    let read: toml::value::Datetime = text.parse().ok()?;
    let (date, time, offset) = (read.date?, read.time?, read.offset?);
    let behind_utc_min = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_of(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let second = i64::from(time.second.unwrap_or(0));
    let seconds = i64::from(time.hour) * 3600 + (i64::from(time.minute) - behind_utc_min) * 60 + second;
    Some((days * 86_400 + seconds) * 1000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000))
}

/// Day number of a date, 1970-01-01 = 0. Source: H. Hinnant, "chrono-compatible low-level date algorithms".
const fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Settings that are the source's own, and why.
const TAKEN: [Taken; 8] = [
    (&["bootstrap.servers", "metadata.broker.list"], "brokers stand in `bootstrap_servers`"),
    (&["group.id"], "the group stands in `group`"),
    (
        &[
            "group.instance.id",
            "group.protocol",
            "group.protocol.type",
            "group.remote.assignor",
            "partition.assignment.strategy",
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "max.poll.interval.ms",
            "coordinator.query.interval.ms",
        ],
        "the source reads all partitions itself and is no member of a group",
    ),
    (
        &[
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.offset.store",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
        ],
        "positions are those of the state, in one commit with the sums",
    ),
    (
        &["auto.offset.reset"],
        "where a partition begins stands in `start`; later only the state's position counts",
    ),
    (&["isolation.level"], "transactions that the producer aborted are never read"),
    (&["enable.partition.eof", "allow.auto.create.topics", "log.queue"], "the source sets it itself"),
    (&["plugin.library.paths"], "code comes into the host as a rule only"),
];

impl KafkaConfig {
    /// `topic_pattern`, for whole names.
    ///
    /// # Errors
    /// It is no regular expression.
    #[cfg(feature = "kafka")]
    pub fn pattern(&self) -> Result<Option<regex_lite::Regex>, regex_lite::Error> {
        let whole = |pattern: &String| regex_lite::Regex::new(&format!("^(?:{pattern})$"));
        self.topic_pattern.as_ref().map(whole).transpose()
    }

    /// Whether it names that topic, or its pattern means it.
    #[must_use]
    pub fn reads(&self, topic: &str) -> bool {
        #[cfg(feature = "kafka")]
        if let Ok(Some(pattern)) = self.pattern() {
            return pattern.is_match(topic);
        }
        self.topics.iter().any(|named| named == topic)
    }

    /// What must not stand together, and settings that would break the source.
    ///
    /// # Errors
    /// The key and what to do.
    pub fn check(&self, name: &str) -> Result<(), String> {
        let at = |key: &str, what: &str| Err(format!("sources.{name}.{key}: {what}"));
        if self.bootstrap_servers.trim().is_empty() {
            return at("bootstrap_servers", "name at least one broker, as host:port");
        }
        match (&self.topic_pattern, self.topics.is_empty()) {
            (None, true) => return at("topics", "name at least one topic, or give a `topic_pattern`"),
            (Some(_), false) => return at("topic_pattern", "give this or `topics`, not both"),
            _ => {}
        }
        let mut topics = self.topics.clone();
        topics.sort();
        if topics.windows(2).any(|two| two.first() == two.get(1)) {
            return at("topics", "a topic stands there twice, and would count once: name it once");
        }
        if self.history == History::Complete && self.start != Start::Earliest {
            return at(
                "start",
                "a source with history = \"complete\" is read from its beginning: start = \"earliest\", or history = \
                 \"none\" if labels may stay approximate",
            );
        }
        librdkafka::check(&format!("sources.{name}"), &self.librdkafka, &TAKEN)
    }
}

impl SourceConfig {
    /// Format of its messages.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self {
            Self::Files(files) => files.format,
            Self::Kafka(kafka) => kafka.format,
        }
    }

    /// What it holds of the past, as it says.
    #[must_use]
    pub const fn history(&self) -> History {
        match self {
            Self::Files(files) => files.history,
            Self::Kafka(kafka) => kafka.history,
        }
    }

    /// Name of its producer, where one is written.
    #[must_use]
    pub fn producer(&self) -> Option<&String> {
        match self {
            Self::Files(files) => files.producer.as_ref(),
            Self::Kafka(kafka) => kafka.producer.as_ref(),
        }
    }

    /// Tables with columns that its producer hides.
    #[must_use]
    pub fn hidden_columns(&self) -> &[String] {
        match self {
            Self::Files(files) => &files.hidden_columns,
            Self::Kafka(kafka) => &kafka.hidden_columns,
        }
    }

    /// What a refused message does.
    #[must_use]
    pub const fn on_refusal(&self) -> OnRefusal {
        match self {
            Self::Files(files) => files.on_refusal,
            Self::Kafka(kafka) => kafka.on_refusal,
        }
    }

    /// How much may wait before rules that follow it are lagging: bytes, or messages.
    #[must_use]
    pub const fn lag_max(&self) -> u64 {
        match self {
            Self::Files(files) => files.lag_bytes_max,
            Self::Kafka(kafka) => kafka.lag_messages_max,
        }
    }

    /// What must not stand together.
    ///
    /// # Errors
    /// The key and what to do.
    pub fn check(&self, name: &str) -> Result<(), String> {
        match self {
            Self::Files(files) if files.paths.is_empty() => {
                Err(format!("sources.{name}.paths: name at least one file or glob"))
            }
            Self::Files(_) => Ok(()),
            Self::Kafka(kafka) => kafka.check(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Reference;

    fn kafka(more: &str) -> Result<KafkaConfig, String> {
        let text = format!(
            "type = \"kafka\"\nbootstrap_servers = \"a:9092\"\nformat = \"maxwell\"\nhistory = \"none\"\n{more}"
        );
        let config: SourceConfig = toml::from_str(&text).map_err(|e| e.to_string())?;
        config.check("orders")?;
        let SourceConfig::Kafka(kafka) = config else { panic!("kafka") };
        Ok(kafka)
    }

    #[test]
    fn a_start_is_a_word_a_time_or_offsets() {
        let start = |text: &str| kafka(&format!("topics = [\"a\"]\n{text}")).map(|kafka| kafka.start);
        assert_eq!(start(""), Ok(Start::Earliest));
        assert_eq!(start("start = \"latest\""), Ok(Start::Latest));
        let at = |text: &str| start(&format!("start = {{ timestamp = \"{text}\" }}"));
        assert_eq!(at("1970-01-02T00:00:01.5Z"), Ok(Start::Timestamp(86_401_500)));
        assert_eq!(at("2026-11-30T12:00:00+02:00"), Ok(Start::Timestamp(1_796_032_800_000)));
        assert!(at("2026-11-30").unwrap_err().contains("start.timestamp"));
        let offsets = start("start = { offsets = { \"a/0\" = 5 } }");
        assert_eq!(offsets, Ok(Start::Offsets([("a/0".to_owned(), 5)].into())));
        assert!(start("start = \"begin\"").unwrap_err().contains("\"earliest\""));
    }

    #[test]
    fn topics_are_named_or_matched() {
        assert!(kafka("").unwrap_err().contains("sources.orders.topics: name at least one"));
        assert!(kafka("topics = [\"a\"]\ntopic_pattern = \"b\"").unwrap_err().contains("not both"));
        assert!(kafka("topics = [\"a\", \"b\", \"a\"]").unwrap_err().contains("twice"));
        assert!(kafka("topic_pattern = \"shop[.].*\"").is_ok());
        let complete = kafka("topics = [\"a\"]\nstart = \"latest\"\nhistory2 = 1").unwrap_err();
        assert!(complete.contains("unknown field `history2`"), "{complete}");
    }

    #[test]
    fn settings_that_break_the_source_are_refused_and_secrets_are_references() {
        let check = |setting: &str| kafka(&format!("topics = [\"a\"]\n[librdkafka]\n{setting}"));
        for key in [
            "enable.auto.commit = true",
            "topic.auto.offset.reset = \"latest\"",
            "group.id = \"x\"",
            "isolation.level = \"read_uncommitted\"",
            "group.protocol = \"consumer\"",
        ] {
            let (key, value) = key.split_once(" = ").unwrap();
            let error = check(&format!("\"{key}\" = {value}")).unwrap_err();
            assert!(error.contains(key) && error.contains("not to be set here"), "{error}");
        }
        let error = check("\"sasl.password\" = \"hunter2\"").unwrap_err();
        assert!(error.contains("env = ") && !error.contains("hunter2"), "{error}");
        let settings = "\"sasl.password\" = { env = \"PASSWORD\" }\n\"fetch.wait.max.ms\" = 50\n\
                        \"ssl.key.password\" = { file = \"key\" }\n\"check.crcs\" = true";
        let settings = check(settings).unwrap().librdkafka;
        assert_eq!(settings["fetch.wait.max.ms"], Setting::Number(50));
        assert_eq!(settings["sasl.password"], Setting::Reference(Reference::Env("PASSWORD".into())));
        assert_eq!(settings["check.crcs"], Setting::Flag(true));
    }
}
