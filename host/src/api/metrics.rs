//! Counters of the HTTP side. `exposition` prints them together with those of the engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A limit that was reached; named as its key in `[http]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Connections in all.
    Connections,
    /// Connections of one address.
    ConnectionsPerAddress,
    /// Bytes of a head.
    HeaderBytes,
    /// Time of a head or a handshake.
    HeaderTimeout,
    /// Silence.
    IdleTimeout,
    /// Time of a request.
    RequestTimeout,
    /// Bytes of a body.
    BodyBytes,
    /// Bytes of an upload.
    UploadBytes,
    /// Requests a second.
    Rate,
    /// Exports at once.
    Exports,
    /// Streams of transitions at once.
    Streams,
    /// Time to finish when the host stops.
    StopTimeout,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::HeaderBytes,
        Self::HeaderTimeout,
        Self::IdleTimeout,
        Self::RequestTimeout,
        Self::BodyBytes,
        Self::UploadBytes,
        Self::Rate,
        Self::Exports,
        Self::Streams,
        Self::StopTimeout,
    ];

    /// Its key in `[http]`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Connections => "connections_max",
            Self::ConnectionsPerAddress => "connections_per_address_max",
            Self::HeaderBytes => "header_bytes_max",
            Self::HeaderTimeout => "header_timeout_ms",
            Self::IdleTimeout => "idle_timeout_ms",
            Self::RequestTimeout => "request_timeout_ms",
            Self::BodyBytes => "body_bytes_max",
            Self::UploadBytes => "upload_bytes_max",
            Self::Rate => "rate_per_second",
            Self::Exports => "exports_max",
            Self::Streams => "streams_max",
            Self::StopTimeout => "stop_timeout_ms",
        }
    }
}

/// Upper bounds of a request's time in the histogram, in microseconds and as they are printed.
pub(super) const BOUNDS: [(u64, &str); 10] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_000, "0.002"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
];

/// Times of a route's requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// Requests by bound, each counted once; the last are those above all bounds.
    pub(super) counts: [u64; BOUNDS.len() + 1],
    pub(super) sum_us: u64,
}

/// Requests by route, method and status, and times by route. Routes and methods are those of the table, or `other`.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    pub(super) counts: BTreeMap<(String, &'static str, u16), u64>,
    pub(super) times: BTreeMap<String, Times>,
}

/// All counters.
#[derive(Debug, Default)]
pub struct Metrics {
    limited: [AtomicU64; Limit::ALL.len()],
    /// Connections now.
    pub(super) connections: AtomicU64,
    /// Requests under way.
    in_flight: AtomicU64,
    /// Connections since the start.
    pub(super) accepted: AtomicU64,
    /// TLS handshakes that failed.
    pub(super) handshakes_failed: AtomicU64,
    /// Requests without a token that counts, where one was needed.
    pub(super) unauthorized: AtomicU64,
    requests: Mutex<Requests>,
}

impl Metrics {
    /// A limit was reached.
    pub fn limited(&self, limit: Limit) {
        if let Some(counter) = self.limited.get(limit as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a limit was reached.
    #[must_use]
    pub fn limited_count(&self, limit: Limit) -> u64 {
        self.limited.get(limit as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Connections now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests whose answers have not begun.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request begins; it is under way until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// A request was answered.
    pub(super) fn request(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.iter().position(|(bound, _)| us <= *bound).unwrap_or(BOUNDS.len());
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.counts.entry((route.to_owned(), method, status)).or_default() += 1;
        let times = requests.times.entry(route.to_owned()).or_default();
        times.sum_us = times.sum_us.saturating_add(us);
        if let Some(count) = times.counts.get_mut(at) {
            *count += 1;
        }
    }

    /// What was counted of requests.
    pub(super) fn requests(&self) -> Requests {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A request whose answer has not begun.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Metrics>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
