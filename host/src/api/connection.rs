//! One connection, from its first byte to its end: heads, silence, life and the host's stop are bounded here.

use super::caller::Peer;
use super::metrics::{Limit, Metrics};
use super::pulse::{Answering, Asking, Felt, Pulse};
use super::transitions::Ending;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;

/// Most bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) header_bytes_max: usize,
    pub(super) header_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) life: Duration,
    /// For requests under way when the host stops.
    pub(super) stop_timeout: Duration,
}

/// Serves `stream` to its end.
pub(super) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    router: Router,
    peer: Peer,
    bounds: Bounds,
    metrics: &Metrics,
    mut stopped: watch::Receiver<bool>,
) {
    let pulse = Pulse::new();
    let felt = Felt { stream, pulse: pulse.clone() };
    let (routes, ending) = (TowerToHyperService::new(router), Ending(stopped.clone()));
    let service = service_fn(|request: Request<Incoming>| {
        let in_flight = pulse.request();
        let mut request = request.map(|body| Body::new(Asking::new(body, pulse.clone())));
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(ending.clone());
        let answered = routes.call(request);
        async move { Ok::<_, Infallible>(answered.await?.map(|body| Answering::new(body, in_flight))) }
    });
    let serving = http1::Builder::new()
        .max_buf_size(bounds.header_bytes_max.max(READ_BYTES))
        .max_header_size(bounds.header_bytes_max)
        .header_read_timeout(None) // the pulse tells a slow head from silence
        .serve_connection(TokioIo::new(felt), service);
    let mut serving = std::pin::pin!(serving);
    let grace = tokio::select! {
        done = serving.as_mut() => {
            if done.is_err_and(|error| error.is_parse_too_large()) {
                metrics.limited(Limit::HeaderBytes);
            }
            return;
        }
        limit = passed(&pulse, bounds) => {
            metrics.limited(limit);
            return;
        }
        _ = stopped.changed() => if pulse.is_quiet() { return } else { bounds.stop_timeout },
        () = sleep(bounds.life) => bounds.stop_timeout,
    };
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        _ = serving.as_mut() => {}
        limit = passed(&pulse, bounds) => metrics.limited(limit),
        () = sleep(grace) => metrics.limited(Limit::StopTimeout),
    }
}

/// Waits until a limit of the connection has passed.
async fn passed(pulse: &Arc<Pulse>, bounds: Bounds) -> Limit {
    let shortest = bounds.header_timeout.min(bounds.idle_timeout);
    let look = (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1));
    loop {
        sleep(look).await;
        if let Some(limit) = pulse.passed(bounds.header_timeout, bounds.idle_timeout) {
            return limit;
        }
    }
}
