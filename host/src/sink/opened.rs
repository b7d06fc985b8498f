//! From the configuration to sinks.

use super::batch::{BatchSink, Terms};
use super::ndjson::Ndjson;
use super::progress::Progress;
use super::redis::Redis;
use super::table::Table;
use super::webhook::Webhook;
use super::{Sink, SinkError, StateSink};
use crate::config::{Config, Deliver, SinkConfig, SourceConfig, WhenFull};
use std::path::PathBuf;
use std::sync::Arc;

/// What takes messages, or holds label sets.
pub enum Opened {
    /// It is told of what changes.
    Events {
        /// The sink.
        sink: Box<dyn Sink>,
        /// Which transitions it gets.
        deliver: Deliver,
    },
    /// It is told the same in batches, and may refuse a message.
    Batches {
        /// The sink.
        sink: Box<dyn BatchSink>,
        /// Which transitions it gets.
        deliver: Deliver,
        /// How batches are cut, and what becomes of those that are not taken.
        terms: Terms,
    },
    /// It holds the label sets of keys.
    State(Box<dyn StateSink>),
}

/// A sink that is opened.
pub struct SinkInput {
    /// Its name.
    pub name: String,
    /// The sink.
    pub opened: Opened,
    /// What becomes of it when it is too far behind.
    pub when_full: WhenFull,
    /// What it is doing, and what people ask of it.
    pub progress: Arc<Progress>,
}

impl SinkInput {
    /// Which transitions it gets.
    #[must_use]
    pub const fn deliver(&self) -> Deliver {
        match &self.opened {
            Opened::Events { deliver, .. } | Opened::Batches { deliver, .. } => *deliver,
            Opened::State(_) => Deliver::All,
        }
    }
}

/// The configured sinks; no two of them have one file.
///
/// # Errors
/// A sink that cannot be opened as it is configured.
pub fn open_sinks(config: &Config) -> Result<Vec<SinkInput>, SinkError> {
    let mut sinks = Vec::new();
    let mut files: Vec<(&str, PathBuf)> = Vec::new();
    for (name, sink) in &config.sinks {
        let file = || sink.path().and_then(|path| config.resolve(path).canonicalize().ok());
        if let Some((other, path)) = files.iter().find(|(_, path)| file().as_ref() == Some(path)) {
            let (sink, other) = (name.clone(), (*other).to_owned());
            return Err(SinkError::SameFile { sink, other, path: path.clone() });
        }
        if let Some(other) = same_topic(config, name, sink) {
            return Err(SinkError::SameTopic { sink: name.clone(), other: other.clone() });
        }
        if let Some(source) = read_topic(config, sink) {
            return Err(SinkError::ReadTopic { sink: name.clone(), source_name: source.clone() });
        }
        let opened = open(config, name, sink)?;
        files.extend(file().map(|path| (name.as_str(), path)));
        sinks.push(SinkInput {
            name: name.clone(),
            opened,
            when_full: sink.when_full(),
            progress: Arc::default(),
        });
    }
    Ok(sinks)
}

/// Whether this binary knows such a sink.
///
/// # Errors
/// It was built without.
pub fn is_built(name: &str, sink: &SinkConfig) -> Result<(), SinkError> {
    let lacks = cfg!(not(feature = "kafka")) && matches!(sink, SinkConfig::Kafka(_));
    if lacks { Err(not_built(name)) } else { Ok(()) }
}

fn not_built(name: &str) -> SinkError {
    SinkError::Refused {
        sink: name.to_owned(),
        code: "kafka-not-built",
        message: "this binary was built without Kafka; build it with `cargo build --release -p retag-host --features kafka`, \
                  or take a release"
            .into(),
    }
}

/// Some brokers are named by both.
fn share_brokers(these: &str, those: &str) -> bool {
    let named = |list: &str, broker: &str| list.split(',').any(|other| other.trim() == broker.trim());
    these.split(',').any(|broker| named(those, broker))
}

/// A sink before this one that writes to the same topic.
fn same_topic<'a>(config: &'a Config, name: &str, sink: &SinkConfig) -> Option<&'a String> {
    let SinkConfig::Kafka(of_sink) = sink else { return None };
    let is_same = |other: &SinkConfig| match other {
        SinkConfig::Kafka(other) => {
            other.topic == of_sink.topic
                && share_brokers(&other.bootstrap_servers, &of_sink.bootstrap_servers)
        }
        _ => false,
    };
    let before = config.sinks.iter().take_while(|(other, _)| *other != name);
    before.into_iter().find(|(_, other)| is_same(other)).map(|(other, _)| other)
}

/// A source that reads the topic that this sink writes to: labels would come back as changes.
fn read_topic<'a>(config: &'a Config, sink: &SinkConfig) -> Option<&'a String> {
    let SinkConfig::Kafka(of_sink) = sink else { return None };
    let reads = |source: &SourceConfig| match source {
        SourceConfig::Kafka(source) => {
            source.reads(&of_sink.topic)
                && share_brokers(&source.bootstrap_servers, &of_sink.bootstrap_servers)
        }
        SourceConfig::Files(_) => false,
    };
    config.sources.iter().find(|(_, source)| reads(source)).map(|(source, _)| source)
}

fn open(config: &Config, name: &str, sink: &SinkConfig) -> Result<Opened, SinkError> {
    let events = |taking: Box<dyn Sink>| Opened::Events { sink: taking, deliver: sink.deliver() };
    Ok(match sink {
        SinkConfig::Ndjson { path, .. } => events(Box::new(Ndjson::open(name, config.resolve(path))?)),
        SinkConfig::Stdout { .. } => events(Box::new(Table::new(name))),
        SinkConfig::Redis(redis) => {
            let folder = &config.folder;
            let urls = redis.urls(folder).map_err(|message| SinkError::Refused {
                sink: name.to_owned(),
                code: "redis-url",
                message,
            })?;
            Opened::State(Box::new(Redis::new(name, redis, urls)?))
        }
        SinkConfig::Webhook(webhook) => Opened::Batches {
            sink: Box::new(Webhook::new(name, webhook, &config.folder)?),
            deliver: sink.deliver(),
            terms: Terms::of(webhook),
        },
        #[cfg(feature = "kafka")]
        SinkConfig::Kafka(kafka) => super::kafka::open(name, kafka, &config.folder)?,
        #[cfg(not(feature = "kafka"))]
        SinkConfig::Kafka(_) => return Err(not_built(name)),
    })
}
