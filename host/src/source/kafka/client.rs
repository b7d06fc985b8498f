//! A client of the brokers: the settings that make the source right, those of the configuration, and what librdkafka says
//! beside messages.

use crate::config::{KafkaConfig, is_secret, librdkafka_values};
use crate::source::KafkaError;
use crate::source::observed::Observed;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError as Said, RDKafkaErrorCode};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A consumer that tells what it waits for.
pub(super) type Client = BaseConsumer<Told>;

/// Bytes that librdkafka may hold of all partitions of a client together, about.
const AHEAD_BYTES_MAX: usize = 256 << 20;
/// The same of one partition: at least and at most.
const AHEAD_KBYTES: (usize, usize) = (1 << 10, 16 << 10);

/// Things said beside messages that are heard at once.
const HEARD_MAX: usize = 64;
/// After so many moments of silence nothing more is there.
const SILENT: usize = 4;

/// The settings that are the source's own, and defaults that fit it.
const OWN: [(&str, &str); 6] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("enable.partition.eof", "true"),
    ("allow.auto.create.topics", "false"),
];
const DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "retag"),
    // With its default of a second a partition is fetched once a second as soon as enough of it waits.
    ("fetch.queue.backoff.ms", "2"),
    ("reconnect.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
];

/// The settings of a client that reads `partitions` partitions; secrets are read now, from the environment and from files as seen
/// from `folder`.
pub(super) fn settings(
    source_name: &str,
    config: &KafkaConfig,
    folder: &Path,
    partitions: usize,
) -> Result<ClientConfig, KafkaError> {
    let mut client = ClientConfig::new();
    client.set_log_level(RDKafkaLogLevel::Warning);
    for (key, value) in DEFAULTS {
        client.set(key, value);
    }
    let ahead_kbytes = AHEAD_BYTES_MAX / partitions.max(1) / 1024;
    let ahead_kbytes = ahead_kbytes.clamp(AHEAD_KBYTES.0, AHEAD_KBYTES.1);
    client.set("queued.max.messages.kbytes", ahead_kbytes.to_string());
    let own = librdkafka_values(&config.librdkafka, folder);
    for (key, value) in own.map_err(|why| KafkaError::Setting { source_name: source_name.to_owned(), why })? {
        client.set(key, value);
    }
    client.set("bootstrap.servers", &config.bootstrap_servers);
    for (key, value) in OWN {
        client.set(key, value);
    }
    Ok(client)
}

/// A client with these settings; what it says of brokers goes to `observed`.
pub(super) fn connect(
    source_name: &str,
    settings: &ClientConfig,
    observed: &Arc<Observed>,
) -> Result<Client, KafkaError> {
    let servers = settings.get("bootstrap.servers").map(str::to_owned);
    let told = Told { observed: observed.clone(), servers, denied: AtomicBool::new(false) };
    let connected = settings.create_with_context(told);
    connected
        .map_err(|error| KafkaError::Setting { source_name: source_name.to_owned(), why: why_not(error) })
}

/// Why there is no client with such settings, without secrets.
pub(crate) fn why_not(error: Said) -> String {
    match error {
        Said::ClientConfig(_, _, key, _) if is_secret(&key) => {
            format!("librdkafka.\"{key}\": its value is refused")
        }
        Said::ClientConfig(_, said, key, _) => format!("librdkafka.\"{key}\": {said}"),
        Said::ClientCreation(said) => format!("librdkafka: {said}"),
        error => format!("librdkafka: {error}"),
    }
}

/// Hears what was said beside answers; each is told to the client's context. No partition may be assigned.
pub(crate) fn hear<C: ConsumerContext>(client: &BaseConsumer<C>) {
    let mut heard = Heard::default();
    while heard.goes_on(client.poll(Duration::ZERO).is_some()) {}
}

/// How long it is listened. A line of librdkafka's log is heard as if nothing was: only silence, and not one moment of it, is the end.
#[derive(Debug, Default)]
pub(super) struct Heard {
    all: usize,
    silent: usize,
}

impl Heard {
    /// Whether to listen once more, after something was heard or was not.
    pub(super) fn goes_on(&mut self, something: bool) -> bool {
        self.all += 1;
        self.silent = if something { 0 } else { self.silent + 1 };
        self.all < HEARD_MAX && self.silent < SILENT
    }
}

/// What librdkafka says beside messages.
pub(super) struct Told {
    observed: Arc<Observed>,
    servers: Option<String>,
    /// What was said last is that they do not let this client in.
    denied: AtomicBool,
}

impl Told {
    /// The brokers do not answer.
    pub(super) fn waits(&self, why: &str) {
        let servers = self.servers.as_deref().unwrap_or_default();
        self.observed.waits(Some(format!("the brokers of {servers}: {why}")));
    }

    /// They did not answer when they were needed last.
    pub(super) fn is_waiting(&self) -> bool {
        self.observed.waits_for().is_some()
    }

    /// They answer.
    pub(super) fn is_served(&self) {
        self.observed.waits(None);
    }
}

impl ClientContext for Told {
    // Its lines name addresses and repeat without end; what matters of them comes as an error too.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: Said, reason: &str) {
        let Some(code) = error.rdkafka_error_code().filter(|code| is_away(*code)) else { return };
        let denied = matches!(
            code,
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::SSL
        );
        // That they do not let it in stays said until they answer.
        let stays = self.denied.load(Ordering::Relaxed) && self.is_waiting();
        if denied || !stays {
            self.denied.store(denied, Ordering::Relaxed);
            self.waits(reason);
        }
    }
}

impl ConsumerContext for Told {}

/// No broker can be talked to.
pub(crate) fn is_away(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::SaslAuthenticationFailed
    )
}

/// It passes by itself: librdkafka tries again.
pub(crate) fn passes(code: RDKafkaErrorCode) -> bool {
    is_away(code)
        || matches!(
            code,
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::BrokerNotAvailable
                | RDKafkaErrorCode::ReplicaNotAvailable
                | RDKafkaErrorCode::NetworkException
                | RDKafkaErrorCode::KafkaStorageError
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::OffsetNotAvailable
                | RDKafkaErrorCode::ThrottlingQuotaExceeded
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::NodeUpdate
        )
}
