//! The listening side: addresses from `[http]`, one thread of its own, TLS where it is configured.
//!
//! It shares nothing with the socket's thread but the state's views: a flood from the network leaves the owner's
//! commands alone.

use super::caller::Peer;
use super::connection::{Bounds, drive};
use super::edge::{Edge, Place};
use super::error::ApiError;
use super::metrics::Limit;
use super::server::{ServerHandle, start};
use super::tls;
use crate::config::{Config, HttpConfig};
use axum::Router;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Name of the file in the state directory that says where the host listens, an URL a line.
pub const FILE_NAME: &str = "http.url";
/// How long to wait before accepting again after an error (too many open files, …).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Longest life of a connection.
const LIFE: Duration = Duration::from_secs(3600);
/// Threads for answers that may take longer.
const READING_THREADS: usize = 4;
/// Files that the host has open beside its connections, at most.
const OTHER_FILES: u64 = 1024;
/// What a connection without a place reads, where it reads plain HTTP.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 132\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Busy\",\"status\":503,\"code\":\"busy\",\"detail\":\"too many connections\",\
    \"hint\":\"use fewer; ask again later\"}";

/// Listens on the addresses of `[http]` and serves `router`; none where it is off, or where the default address is taken.
///
/// # Errors
/// An address that cannot be listened on, a certificate that does not read.
pub fn listen(config: &Config, router: Router, edge: Arc<Edge>) -> Result<Option<Listening>, ApiError> {
    let http = &config.http;
    let addresses = http.addresses().map_err(ApiError::BadRequest)?;
    if addresses.is_empty() {
        return Ok(None);
    }
    let acceptor = http.tls.as_ref().map(|files| tls::acceptor(config, files)).transpose()?;
    let mut listeners = Vec::new();
    for address in addresses {
        match bind(address) {
            Ok(listener) => listeners.push(listener),
            Err(source) if http.listen.explicit => return Err(ApiError::Listen { address, source }),
            Err(source) => {
                let error = ApiError::Listen { address, source };
                eprintln!("retag: {error}; {}; going on with the socket only", error.hint());
            }
        }
    }
    if listeners.is_empty() {
        return Ok(None);
    }
    raise_file_limit(http);
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    let at: Vec<SocketAddr> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
    let urls: Vec<String> = at.iter().map(|address| format!("{scheme}://{address}")).collect();
    if acceptor.is_none() && at.iter().any(|address| !address.ip().is_loopback()) {
        eprintln!(
            "retag: warning: tokens and labels travel unencrypted; set http.tls, or stand behind a proxy that does"
        );
    }
    let served = Served { router, edge, acceptor };
    let run = move |stopped| serve(listeners, served, stopped);
    let handle = start("retag-http", READING_THREADS, run)
        .map_err(|source| ApiError::Listen { address: SocketAddr::from(([0, 0, 0, 0], 0)), source })?;
    Ok(Some(Listening { handle, urls }))
}

/// A listening side that runs. It stops when told to or dropped.
#[derive(Debug)]
pub struct Listening {
    handle: ServerHandle,
    urls: Vec<String>,
}

impl Listening {
    /// Where it listens.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Writes where it listens into the state directory; the file goes with the listening side.
    ///
    /// # Errors
    /// What the file system says.
    pub fn announce(&mut self, dir: &Path) -> std::io::Result<()> {
        let path = dir.join(FILE_NAME);
        let new = dir.join("http.url.new");
        std::fs::write(&new, self.urls.join("\n") + "\n")?;
        std::fs::rename(&new, &path)?;
        self.handle.remove_at_end(path);
        Ok(())
    }

    /// Stops: no new connections, requests under way go on for a while.
    pub fn stop(self) {
        self.handle.stop();
    }
}

fn bind(address: SocketAddr) -> std::io::Result<StdListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Raises the limit on open files as far as connections need and the system allows.
fn raise_file_limit(http: &HttpConfig) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::from(http.connections_max) + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < wanted) else { return };
    let most = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = most > current
        && setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).is_ok();
    let now = if raised { most } else { current };
    if now < wanted {
        eprintln!(
            "retag: warning: this process may open {now} files; http.connections_max = {} needs {wanted} (ulimit -n)",
            http.connections_max
        );
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Served {
    router: Router,
    edge: Arc<Edge>,
    acceptor: Option<TlsAcceptor>,
}

async fn serve(
    listeners: Vec<StdListener>,
    served: Served,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let listener = TcpListener::from_std(listener)?;
        accepting.spawn(accept(listener, served.clone(), stopped.clone()));
    }
    accepting.join_all().await;
    let stop = Duration::from_millis(served.edge.config.stop_timeout_ms) + ACCEPT_PAUSE;
    let gone = async {
        while served.edge.connections() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = timeout(stop, gone).await; // whoever is left is cut off
    Ok(())
}

async fn accept(listener: TcpListener, served: Served, mut stopped: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        match served.edge.place(peer.ip()) {
            Ok(place) => {
                tokio::spawn(connection(stream, peer.ip(), served.clone(), place, stopped.clone()));
            }
            Err(limit) => {
                served.edge.metrics.limited(limit);
                if let (None, Ok(mut stream)) = (&served.acceptor, stream.into_std()) {
                    let _ = stream.write(NO_PLACE); // a courtesy that never waits; it is closed either way
                }
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: IpAddr,
    served: Served,
    _place: Place,
    stopped: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true); // only a matter of speed
    let Served { router, edge, acceptor } = served;
    let http = &edge.config;
    let bounds = Bounds {
        header_bytes_max: http.header_bytes_max,
        header_timeout: http.header_timeout(),
        idle_timeout: http.idle_timeout(),
        life: LIFE,
        stop_timeout: Duration::from_millis(http.stop_timeout_ms),
    };
    let metrics = edge.metrics.clone();
    let peer = Peer::Remote { address, edge: edge.clone() };
    let Some(acceptor) = acceptor else {
        return drive(stream, router, peer, bounds, &metrics, stopped).await;
    };
    let mut ending = stopped.clone();
    let shaken = tokio::select! {
        shaken = timeout(bounds.header_timeout, acceptor.accept(stream)) => shaken,
        _ = ending.changed() => return,
    };
    match shaken {
        Ok(Ok(stream)) => drive(stream, router, peer, bounds, &metrics, stopped).await,
        Ok(Err(_)) => {
            metrics.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        }
        Err(_) => metrics.limited(Limit::HeaderTimeout),
    }
}

#[cfg(test)]
mod tests {
    use super::NO_PLACE;

    #[test]
    fn the_answer_without_a_place_is_whole() {
        let text = std::str::from_utf8(NO_PLACE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some("busy"), Some(503)));
    }
}
