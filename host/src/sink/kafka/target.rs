//! Which topic a sink writes to, the settings of its clients, and what their errors mean.

use super::heard::Heard;
use crate::clock;
use crate::config::{KafkaSinkConfig, librdkafka_values};
use crate::sink::{Owner, SinkError};
use crate::source::kafka::{cleanup_policies, why_not};
use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest that one call of the sink takes, all its questions together: a stop waits for it.
const CALL_MAX: Duration = Duration::from_secs(8);
/// Longest that brokers may take to answer a question that they answer from memory.
pub(super) const ANSWER: Duration = Duration::from_secs(3);

const DEFAULTS: [(&str, &str); 7] = [
    ("client.id", "retag"),
    ("compression.type", "lz4"),
    ("reconnect.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "500"),
    ("socket.keepalive.enable", "true"),
    // With its default of a second a partition is fetched once a second as soon as enough of it waits.
    ("fetch.queue.backoff.ms", "2"),
    ("queued.max.messages.kbytes", "16384"),
];
const OF_ALL: [(&str, &str); 2] = [("socket.timeout.ms", "7000"), ("allow.auto.create.topics", "false")];
const OF_PRODUCERS: [(&str, &str); 5] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    // Shorter than a call, and that than the life of a transaction: what is given up is over when it is done again.
    ("message.timeout.ms", "7000"),
    ("request.timeout.ms", "6000"),
];
/// How long the brokers keep a transaction open that nobody ends: so long readers may wait behind a host that was killed.
const TRANSACTION_MS: &str = "15000";
const OF_CONSUMERS: [(&str, &str); 5] = [
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
    ("enable.partition.eof", "true"),
];

/// The topic, and how it is reached.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) sink: String,
    pub(super) topic: String,
    pub(super) transactional: bool,
    servers: String,
    settings: Vec<(String, String)>,
}

/// When a call has to be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// Of a call that begins now.
    pub(super) fn of_call() -> Self {
        Self(clock::moment() + CALL_MAX)
    }

    /// Of a part of a call.
    pub(super) fn within(time: Duration) -> Self {
        Self(clock::moment() + time.min(CALL_MAX))
    }

    /// What is left, at most `most`.
    pub(super) fn left(self, most: Duration) -> Duration {
        self.0.saturating_duration_since(clock::moment()).min(most)
    }

    /// All that is left; librdkafka takes no time as none at all.
    pub(super) fn rest(self) -> Duration {
        self.left(CALL_MAX).max(Duration::from_millis(1))
    }

    pub(super) fn is_over(self) -> bool {
        self.left(CALL_MAX).is_zero()
    }
}

impl Target {
    /// Secrets are read now, from the environment and from files as seen from `folder`.
    pub(super) fn new(sink: &str, config: &KafkaSinkConfig, folder: &Path) -> Result<Self, SinkError> {
        let settings = librdkafka_values(&config.librdkafka, folder);
        let settings = settings.map_err(|message| SinkError::Refused {
            sink: sink.to_owned(),
            code: "kafka-setting",
            message,
        })?;
        Ok(Self {
            sink: sink.to_owned(),
            topic: config.topic.clone(),
            transactional: config.transactional,
            servers: config.bootstrap_servers.clone(),
            settings,
        })
    }

    /// The sink's own name at the brokers: its group, and the id of its transactions.
    pub(super) fn group(&self, owner: &Owner) -> String {
        format!("retag-{}-{}", owner.state_id, self.sink)
    }

    /// What all clients have.
    pub(super) fn settings(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Warning);
        for (key, value) in DEFAULTS {
            client.set(key, value);
        }
        for (key, value) in &self.settings {
            client.set(key, value);
        }
        client.set("bootstrap.servers", &self.servers);
        for (key, value) in OF_ALL {
            client.set(key, value);
        }
        client
    }

    pub(super) fn producer(&self, owner: &Owner) -> ClientConfig {
        let mut client = self.settings();
        for (key, value) in OF_PRODUCERS {
            client.set(key, value);
        }
        if self.transactional {
            client.set("transactional.id", self.group(owner));
            client.set("transaction.timeout.ms", TRANSACTION_MS);
        }
        client
    }

    pub(super) fn consumer(&self, owner: &Owner) -> ClientConfig {
        let mut client = self.settings();
        client.set("group.id", self.group(owner));
        for (key, value) in OF_CONSUMERS {
            client.set(key, value);
        }
        client
    }

    pub(super) fn connect<T: FromClientConfigAndContext<Heard>>(
        &self,
        settings: &ClientConfig,
        heard: &Heard,
    ) -> Result<T, SinkError> {
        let connected = settings.create_with_context(heard.clone());
        connected.map_err(|error| self.refused("kafka-setting", why_not(error)))
    }

    /// `cleanup.policy` of the topic; none where it may not be asked.
    pub(super) fn policy(&self) -> Result<Option<String>, SinkError> {
        let policies = cleanup_policies(&self.settings(), std::slice::from_ref(&self.topic), ANSWER);
        let mut policies = policies.map_err(|why| self.away(why))?;
        Ok(policies.remove(&self.topic))
    }

    /// What it is called for people.
    pub(super) fn shown(&self) -> String {
        format!("topic {} at {}", self.topic, self.servers)
    }

    pub(super) fn away(&self, reason: impl Into<String>) -> SinkError {
        SinkError::Away { sink: self.sink.clone(), target: self.shown(), reason: reason.into() }
    }

    pub(super) fn refused(&self, code: &'static str, message: String) -> SinkError {
        SinkError::Refused { sink: self.sink.clone(), code, message }
    }

    pub(super) fn missing(&self) -> SinkError {
        self.refused(
            "topic-missing",
            format!(
                "{} is not there; make it (it is not made by the host), or mend `topic`, or grant this user to describe it",
                self.shown()
            ),
        )
    }

    fn denied(&self, said: &str) -> SinkError {
        self.refused(
            "kafka-auth",
            format!(
                "{}: the brokers refuse: {said}; set user and password under `librdkafka`, and grant what docs/kafka-sink.md \
                 names under \"Rights\"",
                self.shown()
            ),
        )
    }

    /// What an error means; `heard` is what was said beside it.
    pub(super) fn means(&self, error: &KafkaError, heard: &Heard) -> SinkError {
        let said = match error {
            KafkaError::Transaction(error) => error.string(),
            error => error.to_string(),
        };
        if let Some(why) = heard.denied() {
            return self.denied(&why);
        }
        match error.rdkafka_error_code() {
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed,
            ) => self.denied(&said),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => self.missing(),
            Some(Code::MessageSizeTooLarge | Code::InvalidRecord) => self.refused(
                "message-refused",
                format!(
                    "{}: the brokers refuse a message: {said}; raise `max.message.bytes` of the topic, and take what else \
                     stands in its way there",
                    self.shown()
                ),
            ),
            _ => self.away(match heard.last() {
                Some(why) if !said.contains(&why) => format!("{said} ({why})"),
                _ => said,
            }),
        }
    }
}
