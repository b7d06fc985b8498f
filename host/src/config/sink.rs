//! `[sinks.NAME]`: where labels go, and what becomes of a sink that is away for long.

use super::kafka_sink::KafkaSinkConfig;
use super::librdkafka::{Reference, Setting};
use super::webhook::WebhookConfig;
use crate::sink::redis::BUCKETS;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// `[sinks.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum SinkConfig {
    /// A file with one JSON message a line.
    Ndjson {
        /// The file; appended to.
        path: PathBuf,
        /// Which transitions it gets.
        #[serde(default)]
        deliver: Deliver,
    },
    /// A table for people on standard output.
    Stdout {
        /// Which transitions it gets.
        #[serde(default)]
        deliver: Deliver,
    },
    /// Label sets of keys in Redis.
    Redis(RedisConfig),
    /// Messages, or label sets of keys, on a topic of Kafka.
    Kafka(KafkaSinkConfig),
    /// Batches of messages, posted to an address.
    Webhook(WebhookConfig),
}

/// Which transitions a sink gets.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Deliver {
    /// All, whatever their cause.
    #[default]
    All,
    /// Those that a row or time caused; of a switch of revisions one summary.
    Changes,
}

/// What becomes of a sink for which too much waits.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Sources are not read on until it has taken something.
    #[default]
    Hold,
    /// It loses the oldest, counted.
    DropOldest,
    /// It is filled again from the state once it takes something.
    Refill,
}

/// `type = "redis"`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://HOST:PORT`, with user, password and database where needed; of a cluster some of its nodes, separated by commas.
    pub url: Setting,
    /// The url is of a cluster.
    #[serde(default)]
    pub cluster: bool,
    /// What names in Redis begin with. Default `retag`.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Number of buckets that keys are spread over; as it was at the first start. Default 256.
    #[serde(default = "default_buckets")]
    pub buckets: u16,
}

fn default_prefix() -> String {
    "retag".into()
}

fn default_buckets() -> u16 {
    BUCKETS
}

impl RedisConfig {
    /// The URLs; secrets are read now, from the environment and from files as seen from `folder`.
    ///
    /// # Errors
    /// Where the value should stand and does not.
    pub fn urls(&self, folder: &Path) -> Result<Vec<String>, String> {
        let urls = self.url.value(folder).map_err(|why| format!("url: {why}"))?;
        Ok(urls.split(',').map(|url| url.trim().to_owned()).collect())
    }

    fn check(&self, name: &str) -> Result<(), String> {
        let at = |key: &str, what: &str| Err(format!("sinks.{name}.{key}: {what}"));
        if let Setting::Text(url) = &self.url
            && url.split(',').any(|url| {
                url.rsplit_once('@')
                    .is_some_and(|(user, _)| user.trim_start_matches("redis://").contains(':'))
            })
        {
            return at(
                "url",
                "a password does not stand in the configuration: { env = \"NAME\" } or { file = \"path\" }",
            );
        }
        if !matches!(self.url, Setting::Text(_) | Setting::Reference(Reference::Env(_) | Reference::File(_)))
        {
            return at("url", "text as redis://HOST:PORT, { env = \"NAME\" } or { file = \"path\" }");
        }
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return at("prefix", "text without braces");
        }
        if !(1..=4096).contains(&self.buckets) {
            return at("buckets", "1 to 4096");
        }
        Ok(())
    }
}

impl SinkConfig {
    /// Which transitions it gets.
    #[must_use]
    pub fn deliver(&self) -> Deliver {
        match self {
            Self::Ndjson { deliver, .. } | Self::Stdout { deliver } => *deliver,
            Self::Redis(_) => Deliver::All,
            Self::Kafka(kafka) => kafka.deliver(),
            Self::Webhook(webhook) => webhook.deliver(),
        }
    }

    /// What becomes of it when too much waits for it.
    #[must_use]
    pub fn when_full(&self) -> WhenFull {
        match self {
            Self::Ndjson { .. } | Self::Stdout { .. } => WhenFull::Hold,
            Self::Redis(_) => WhenFull::Refill,
            Self::Kafka(kafka) => kafka.when_full(),
            Self::Webhook(webhook) => webhook.when_full(),
        }
    }

    /// The file that it writes to.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Ndjson { path, .. } => Some(path),
            Self::Stdout { .. } | Self::Redis(_) | Self::Kafka(_) | Self::Webhook(_) => None,
        }
    }

    /// Its type, as the configuration has it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ndjson { .. } => "ndjson",
            Self::Stdout { .. } => "stdout",
            Self::Redis(_) => "redis",
            Self::Kafka(_) => "kafka",
            Self::Webhook(_) => "webhook",
        }
    }

    /// What must not stand together.
    ///
    /// # Errors
    /// The key and what to do.
    pub fn check(&self, name: &str) -> Result<(), String> {
        match self {
            Self::Ndjson { .. } | Self::Stdout { .. } => Ok(()),
            Self::Redis(redis) => redis.check(name),
            Self::Kafka(kafka) => kafka.check(name),
            Self::Webhook(webhook) => webhook.check(name),
        }
    }
}
