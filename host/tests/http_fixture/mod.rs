//! A listening side over a real state directory, and a client that writes its own bytes.
#![allow(dead_code)] // each test binary uses its part

#[path = "../chunked/mod.rs"]
mod chunked;

use crate::api_fixture::fill;
use axum::Router;
use chunked::dechunk;
use retag_host::api::access::AccessFile;
use retag_host::api::{self, About, Api, Caller, Edge, Limit, Listening, Metrics, Role};
use retag_host::clock::moment;
use retag_host::config::{Config, HttpConfig};
use retag_host::pipeline::parts::SharedView;
use retag_host::state::{FjallStore, StateDir};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const CONFIG: &str = r#"
[state]
dir = "data"
[sources.orders]
type = "files"
format = "maxwell"
paths = ["orders.json"]
history = "complete"
"#;

/// A folder with a state, and a host that serves it.
pub(crate) struct Served {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    /// A token of each role, the least first.
    pub(crate) tokens: Vec<String>,
    listening: Option<Listening>,
    _dir: StateDir,
}

/// Starts it with more lines in `[http]`.
pub(crate) fn serve(http: &str) -> Served {
    serve_with(http, api::router)
}

/// The same with other routes.
pub(crate) fn serve_with(http: &str, router: impl FnOnce(Arc<Api>) -> Router) -> Served {
    let folder = tempfile::tempdir().unwrap();
    serve_in(folder, http, router)
}

/// The same in a folder that may hold certificates.
pub(crate) fn serve_in(
    folder: tempfile::TempDir,
    http: &str,
    router: impl FnOnce(Arc<Api>) -> Router,
) -> Served {
    let path = folder.path().join("retag.toml");
    std::fs::write(&path, format!("{CONFIG}\n[http]\nlisten = \"127.0.0.1:0\"\n{http}\n")).unwrap();
    std::fs::write(folder.path().join("orders.json"), b"0123456789").unwrap();
    let config = Config::read(&path).unwrap();
    let dir = StateDir::open(&folder.path().join("data")).unwrap();
    let (_, view) = fill(Arc::new(FjallStore::open(&dir.store_path()).unwrap()), 4);
    let access = AccessFile::open(dir.path()).unwrap();
    let token = |role: Role| access.create(&Caller::Owner, role, role.name(), None).unwrap().token;
    let tokens = Role::ALL.into_iter().map(token).collect();
    let api = Api::with(SharedView::new(view), About::new(&config, &dir, true), access, &config.http);
    let metrics = api.metrics();
    let edge = Arc::new(Edge::new(config.http.clone(), metrics.clone()));
    let listening = api::listen(&config, router(Arc::new(api)), edge).unwrap().unwrap();
    let url = listening.urls()[0].clone();
    let address = url.rsplit('/').next().unwrap().parse().unwrap();
    Served { folder, address, metrics, tokens, listening: Some(listening), _dir: dir }
}

impl Served {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    pub(crate) fn token(&self, role: Role) -> &str {
        &self.tokens[role as usize]
    }

    /// Asks as a role; none = without a token.
    pub(crate) fn ask(&self, role: Option<Role>, request: &str, body: &[u8]) -> Answer {
        let token = role.map(|role| format!("authorization: Bearer {}\r\n", self.token(role)));
        self.ask_with(&token.unwrap_or_default(), request, body)
    }

    /// Asks with header lines.
    pub(crate) fn ask_with(&self, headers: &str, request: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let host = if headers.starts_with("host:") { "" } else { "host: localhost\r\n" };
        let head = format!("{request} HTTP/1.1\r\n{host}connection: close\r\n{headers}{length}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(body); // a refused body need not be taken whole
        Answer::read(&mut stream)
    }

    /// Waits until a limit was reached.
    pub(crate) fn until_limited(&self, limit: Limit, least: u64) {
        until(&format!("{limit:?} is reached"), || self.metrics.limited_count(limit) >= least);
    }

    /// Waits until there are so many connections.
    pub(crate) fn until_connected(&self, n: u64) {
        until("connections", || self.metrics.connections() == n);
    }

    /// Waits until a request is under way.
    pub(crate) fn until_in_flight(&self) {
        until("a request", || self.metrics.in_flight() > 0);
    }

    pub(crate) fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn stop(&mut self) {
        self.listening.take().unwrap().stop();
    }
}

/// Looks for an event until it is there; fails after a while.
pub(crate) fn until(what: &str, mut event: impl FnMut() -> bool) {
    let begin = moment();
    while !event() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Everything until the connection ends.
    pub(crate) fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        read_all(stream, &mut bytes);
        Self::parse(&bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let split = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let split = split.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap().to_lowercase();
        let mut body = bytes[split + 4..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = dechunk(&body);
        }
        Self { status: head[9..12].parse().unwrap(), head, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The code of a refusal; empty where it is none.
    pub(crate) fn code_or_empty(&self) -> String {
        if self.status < 400 { String::new() } else { self.code() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::trim)
    }
}

/// Reads to the end, or to a reset.
pub(crate) fn read_all(stream: &mut impl Read, into: &mut Vec<u8>) {
    match stream.read_to_end(into) {
        Err(error) if [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof].contains(&error.kind()) => {}
        other => {
            other.unwrap();
        }
    }
}

/// The defaults with another value.
pub(crate) fn defaults() -> HttpConfig {
    HttpConfig::default()
}
