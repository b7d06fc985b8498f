//! `[sinks.NAME]` with `type = "kafka"`: messages, or label sets of keys, on a topic.

use super::librdkafka::{self, Setting, Taken};
use super::sink::{Deliver, WhenFull};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `type = "kafka"`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSinkConfig {
    /// Brokers to ask first, `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// The topic, which is not made by the host.
    pub topic: String,
    /// What lies on it. Default `events`.
    #[serde(default)]
    pub form: Form,
    /// Each message is there exactly once for who reads what is committed; else at least once. Default true.
    #[serde(default = "yes")]
    pub transactional: bool,
    /// Of `form = "events"`: which transitions it gets.
    #[serde(default)]
    pub deliver: Option<Deliver>,
    /// Of `form = "events"`: `hold` (default) or `drop-oldest`.
    #[serde(default)]
    pub when_full: Option<WhenFull>,
    /// Settings of librdkafka.
    #[serde(default)]
    pub librdkafka: BTreeMap<String, Setting>,
}

/// What lies on a topic.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Every transition as a message.
    #[default]
    Events,
    /// The label sets of keys; the topic is compacted.
    State,
}

const fn yes() -> bool {
    true
}

/// Settings that are the sink's own, and why.
const TAKEN: [Taken; 8] = [
    (&["bootstrap.servers", "metadata.broker.list"], "brokers stand in `bootstrap_servers`"),
    (
        &["transactional.id", "enable.idempotence", "enable.gapless.guarantee"],
        "a message is written once, under an id that is made of the state's and the sink's name",
    ),
    (
        &["acks", "request.required.acks"],
        "what is delivered is on all replicas in sync (`min.insync.replicas` of the topic)",
    ),
    (
        &[
            "message.timeout.ms",
            "delivery.timeout.ms",
            "transaction.timeout.ms",
            "request.timeout.ms",
            "socket.timeout.ms",
            "message.send.max.retries",
            "retries",
        ],
        "a delivery that fails is done again by the host, which knows what was delivered",
    ),
    (&["partitioner", "msg_order_cmp"], "a key lies where Java clients put it (murmur2_random)"),
    (
        &[
            "group.id",
            "group.instance.id",
            "group.protocol",
            "isolation.level",
            "auto.offset.reset",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "enable.partition.eof",
        ],
        "the group of a sink is its own, to remember what it has",
    ),
    (&["allow.auto.create.topics", "log.queue", "delivery.report.only.error"], "the sink sets it itself"),
    (&["plugin.library.paths"], "code comes into the host as a rule only"),
];

impl KafkaSinkConfig {
    /// Which transitions it gets.
    #[must_use]
    pub fn deliver(&self) -> Deliver {
        self.deliver.unwrap_or_default()
    }

    /// What becomes of it when too much waits for it.
    #[must_use]
    pub fn when_full(&self) -> WhenFull {
        match self.form {
            Form::Events => self.when_full.unwrap_or_default(),
            Form::State => WhenFull::Refill,
        }
    }

    /// What must not stand together, and settings that would break the sink.
    ///
    /// # Errors
    /// The key and what to do.
    pub fn check(&self, name: &str) -> Result<(), String> {
        let at = |key: &str, what: &str| Err(format!("sinks.{name}.{key}: {what}"));
        if self.bootstrap_servers.trim().is_empty() {
            return at("bootstrap_servers", "name at least one broker, as host:port");
        }
        if self.topic.trim().is_empty() {
            return at("topic", "name the topic");
        }
        match (self.form, self.when_full) {
            (Form::Events, Some(WhenFull::Refill)) => {
                return at(
                    "when_full",
                    "\"hold\" or \"drop-oldest\"; only a topic of label sets is filled again",
                );
            }
            (Form::State, Some(WhenFull::Hold | WhenFull::DropOldest)) => {
                return at("when_full", "a topic of label sets is filled again: leave it out");
            }
            (Form::State, _) if self.deliver.is_some() => {
                return at("deliver", "a topic of label sets holds all labels: leave it out");
            }
            (Form::State, _) if !self.transactional => {
                return at(
                    "transactional",
                    "form = \"state\" needs transactions, which keep an older host from writing over a newer one: \
                     leave it out",
                );
            }
            _ => {}
        }
        librdkafka::check(&format!("sinks.{name}"), &self.librdkafka, &TAKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str, expect: Result<(), &str>) {
        let text = format!("bootstrap_servers = \"k:9092\"\ntopic = \"labels\"\n{lines}");
        let read: Result<KafkaSinkConfig, _> = toml::from_str(&text);
        let checked =
            read.map_err(|error| error.to_string()).and_then(|config| config.check("out").map(|()| config));
        match expect {
            Ok(()) => assert!(checked.is_ok(), "{lines}: {checked:?}"),
            Err(piece) => {
                let said = checked.unwrap_err();
                assert!(said.contains(piece), "{lines}: `{piece}` is not in {said}");
            }
        }
    }

    #[test]
    fn what_does_not_stand_together_is_named() {
        check("", Ok(()));
        check("form = \"events\"\nwhen_full = \"drop-oldest\"\ndeliver = \"changes\"", Ok(()));
        check("transactional = false", Ok(()));
        check("form = \"state\"", Ok(()));
        check("form = \"state\"\nwhen_full = \"refill\"", Ok(()));
        check("form = \"sums\"", Err("unknown variant"));
        check("when_full = \"refill\"", Err("sinks.out.when_full"));
        check("form = \"state\"\nwhen_full = \"hold\"", Err("sinks.out.when_full"));
        check("form = \"state\"\ndeliver = \"all\"", Err("sinks.out.deliver"));
        check("form = \"state\"\ntransactional = false", Err("sinks.out.transactional"));
        check("topics = [\"a\"]", Err("topics"));
    }

    #[test]
    fn settings_that_would_break_the_sink_and_open_secrets_are_refused() {
        check("[librdkafka]\n\"compression.type\" = \"lz4\"\n\"linger.ms\" = 1", Ok(()));
        check("[librdkafka]\n\"sasl.password\" = { env = \"X\" }", Ok(()));
        check("[librdkafka]\n\"sasl.password\" = \"x\"", Err("a secret does not stand"));
        for key in ["transactional.id", "acks", "topic.partitioner", "message.timeout.ms", "isolation.level"]
        {
            check(&format!("[librdkafka]\n\"{key}\" = \"1\""), Err("not to be set here"));
        }
    }
}
