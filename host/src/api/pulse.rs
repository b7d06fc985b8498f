//! The pulse of a connection: when it last did something, so that slow heads, silence and readers that take nothing can be
//! told apart and bounded each by its own limit.

use super::metrics::Limit;
use crate::clock;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// "Not now" for a moment.
const NEVER: u64 = u64::MAX;
/// How long a connection is listened to after an answer that left its request's body unread: a client that still
/// sends would else lose the answer with the connection.
const LINGER: Duration = Duration::from_secs(2);
/// Most bytes that are thrown away then.
const LINGER_BYTES_MAX: u64 = 16 << 20;

/// What a connection did last. Moments are milliseconds since it began.
#[derive(Debug)]
pub(super) struct Pulse {
    begin: Instant,
    /// Requests whose answers are not whole yet.
    in_flight: AtomicU32,
    /// First byte of a head that has not ended.
    head: AtomicU64,
    /// End of the last answer.
    idle: AtomicU64,
    /// Since when the reader takes nothing.
    blocked: AtomicU64,
    /// The body of a request was not read to its end.
    unread: AtomicBool,
    /// Since when the connection only waits for the client to hear its last answer.
    lingering: AtomicU64,
    thrown_away: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begin: clock::moment(),
            in_flight: AtomicU32::new(0),
            head: AtomicU64::new(NEVER),
            idle: AtomicU64::new(0),
            blocked: AtomicU64::new(NEVER),
            unread: AtomicBool::new(false),
            lingering: AtomicU64::new(NEVER),
            thrown_away: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    /// No request is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// A head has ended: its request begins.
    pub(super) fn request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head.store(NEVER, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// The limit that has passed, if one has.
    pub(super) fn passed(&self, head: Duration, idle: Duration) -> Option<Limit> {
        let now = self.now();
        let longer = |since: &AtomicU64, limit: Duration| {
            let since = since.load(Ordering::Relaxed);
            since != NEVER && u128::from(now.saturating_sub(since)) > limit.as_millis()
        };
        if longer(&self.lingering, LINGER) {
            return Some(Limit::IdleTimeout);
        }
        if longer(&self.blocked, idle) {
            return Some(Limit::IdleTimeout);
        }
        if !self.is_quiet() || self.lingering.load(Ordering::Relaxed) != NEVER {
            return None;
        }
        if longer(&self.head, head) {
            return Some(Limit::HeaderTimeout);
        }
        // While a head comes in, its own limit counts.
        (self.head.load(Ordering::Relaxed) == NEVER && longer(&self.idle, idle)).then_some(Limit::IdleTimeout)
    }
}

/// A request whose answer is not whole yet.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Pulse>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle.store(self.0.now(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that says when it ends.
pub(super) struct Answering {
    body: Body,
    _in_flight: InFlight,
}

impl Answering {
    pub(super) fn new(body: Body, in_flight: InFlight) -> Self {
        Self { body, _in_flight: in_flight }
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request that says whether it was read.
pub(super) struct Asking {
    body: Incoming,
    pulse: Arc<Pulse>,
    whole: bool,
}

impl Asking {
    pub(super) fn new(body: Incoming, pulse: Arc<Pulse>) -> Self {
        let whole = body.is_end_stream();
        Self { body, pulse, whole }
    }
}

impl HttpBody for Asking {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.whole |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.whole && !self.body.is_end_stream() {
            self.pulse.unread.store(true, Ordering::Relaxed);
        }
    }
}

/// A stream with a pulse.
pub(super) struct Felt<S> {
    pub(super) stream: S,
    pub(super) pulse: Arc<Pulse>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Felt<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        let pulse = &self.pulse;
        if into.filled().len() > before && pulse.is_quiet() {
            // The first byte counts, not the last: a byte now and then does not make a head longer-lived.
            let _ = pulse.head.compare_exchange(NEVER, pulse.now(), Ordering::Relaxed, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Felt<S> {
    fn wrote<T>(&self, done: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        let blocked = &self.pulse.blocked;
        if done.is_pending() {
            let _ = blocked.compare_exchange(NEVER, self.pulse.now(), Ordering::Relaxed, Ordering::Relaxed);
        } else {
            blocked.store(NEVER, Ordering::Relaxed);
        }
        done
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Felt<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        if !self.pulse.unread.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let now = self.pulse.now();
        let _ = self.pulse.lingering.compare_exchange(NEVER, now, Ordering::Relaxed, Ordering::Relaxed);
        // Thrown away until the client hears the answer and closes, or the time is over.
        let mut scratch = [0; 16 << 10];
        loop {
            let mut into = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut into)) {
                Ok(()) if !into.filled().is_empty() => {
                    let more = into.filled().len() as u64;
                    if self.pulse.thrown_away.fetch_add(more, Ordering::Relaxed) > LINGER_BYTES_MAX {
                        return Poll::Ready(Ok(()));
                    }
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
