//! Where a command asks: a host on the network, the host's socket in the state directory, else the routes in this process
//! over the stopped directory. All are the same routes, so all give the same answer.

use super::place::{Place, PlaceArgs, Remote, is_loopback};
use crate::api::access::AccessFile;
use crate::api::{self, About, Api, ApiError, Commands, Peer, Terms, idempotency};
use crate::clock;
use crate::config::Config;
use crate::pipeline::parts::SharedView;
use crate::pipeline::setup::socket_path;
use crate::registry::command::Audience;
use crate::state::{FjallStore, StateDir, StateWriter, Store, StoreError};
use anyhow::{Context, bail};
use axum::Router;
use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// How long another command may hold the stopped directory, or a starting host may take to open its socket.
const WAIT: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for the beginning of an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// How often a change is sent whose answer did not come.
const TRIES: u32 = 10;
/// Between two of them.
const AGAIN: Duration = Duration::from_millis(300);
/// Largest answer that is held whole.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// The connection ended before the answer did: what was asked may have been done.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(super) struct BrokenOff;

/// What a host refuses.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {detail}; {hint}")]
struct Refused {
    code: String,
    detail: String,
    hint: String,
}

/// Something that answers.
pub(super) struct Asker {
    runtime: Runtime,
    way: Way,
}

enum Way {
    Socket(PathBuf),
    Network(Remote),
    Stopped { routes: TowerToHyperService<Router>, _dir: StateDir },
}

impl Asker {
    /// Finds the host, or opens the stopped directory.
    pub(super) fn open(place: &PlaceArgs) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match place.find()? {
            Place::There(remote) => Ok(Self { runtime, way: Way::Network(remote) }),
            Place::Here(config) => Self::here(runtime, &config),
        }
    }

    fn here(runtime: Runtime, config: &Config) -> anyhow::Result<Self> {
        let dir = config.resolve(&config.state.dir);
        let socket = socket_path(&dir);
        let begin = clock::moment();
        loop {
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return Ok(Self { runtime, way: Way::Socket(socket) });
            }
            match stopped(config, &dir) {
                Ok(way) => return Ok(Self { runtime, way }),
                Err(error) if !in_use(&error) => return Err(error),
                Err(error) if begin.elapsed() > WAIT => {
                    let socket = socket.display();
                    return Err(error.context(format!(
                        "{socket} does not answer: the host may still be starting, then ask again"
                    )));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Asks for `path` and hands the answer over piece by piece.
    pub(super) fn stream(
        &self,
        path: &str,
        take: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.ask(Request::get(path).body(Body::empty())?, take)
    }

    fn ask(
        &self,
        request: Request<Body>,
        take: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let response = tokio::time::timeout(ANSWER_WAIT, self.send(request)).await;
            let response = response.context("the host does not answer")??;
            let ok = response.status().is_success();
            let mut problem = Vec::new();
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(anyhow::Error::from).context(BrokenOff)?;
                let Ok(data) = frame.into_data() else { continue };
                if ok {
                    take(&data)?;
                } else {
                    problem.extend_from_slice(&data);
                }
            }
            if ok { Ok(()) } else { Err(refused(&problem)) }
        })
    }

    /// Asks for `path` and reads the whole answer.
    pub(super) fn read<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.whole(Request::get(path).body(Body::empty())?)
    }

    /// Sends `body` to `path` and reads the whole answer.
    pub(super) fn write<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.whole(request.body(serde_json::to_vec(body)?.into())?)
    }

    fn whole<T: DeserializeOwned>(&self, request: Request<Body>) -> anyhow::Result<T> {
        let mut bytes = Vec::new();
        self.ask(request, &mut |piece| {
            bytes.extend_from_slice(piece);
            if bytes.len() > ANSWER_BYTES_MAX {
                bail!("an answer of more than {ANSWER_BYTES_MAX} bytes; ask for less at once");
            }
            Ok(())
        })?;
        serde_json::from_slice(&bytes).context("the host answered in another form; is it of this version?")
    }

    /// Posts `body` to `path` and reads the whole answer. Sent again under the same key where the answer broke off, so
    /// that it is done once and its answer comes all the same.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> anyhow::Result<T> {
        let (key, body) = (new_key(), Bytes::from(body));
        let mut left = TRIES;
        loop {
            let request = Request::post(path).header(idempotency::HEADER, &key);
            let answer = self.whole(request.body(Body::from(body.clone()))?);
            left -= 1;
            match answer {
                Err(error) if left > 0 && may_be_done(&error) => std::thread::sleep(AGAIN),
                other => return other,
            }
        }
    }

    /// A host answers; else the stopped directory does.
    pub(super) fn is_running(&self) -> bool {
        !matches!(self.way, Way::Stopped { .. })
    }

    /// It is on this machine.
    pub(super) fn is_local(&self) -> bool {
        match &self.way {
            Way::Network(remote) => is_loopback(&remote.host),
            Way::Socket(_) | Way::Stopped { .. } => true,
        }
    }

    async fn send(&self, mut request: Request<Body>) -> anyhow::Result<Response<Body>> {
        let host = match &self.way {
            Way::Network(remote) => HeaderValue::try_from(remote.authority())?,
            _ => HeaderValue::from_static("retag"),
        };
        request.headers_mut().insert(header::HOST, host);
        match &self.way {
            Way::Network(remote) => {
                if let Some(token) = &remote.token {
                    let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
                    value.set_sensitive(true);
                    request.headers_mut().insert(header::AUTHORIZATION, value);
                }
                remote.send(request).await
            }
            Way::Stopped { routes, .. } => {
                request.extensions_mut().insert(Peer::Owner);
                Ok(routes.call(request).await?)
            }
            Way::Socket(socket) => {
                let stream =
                    UnixStream::connect(socket).await.context("the host does not answer any more")?;
                let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Ok(sender.send_request(request).await.context(BrokenOff)?.map(Body::new))
            }
        }
    }
}

fn stopped(config: &Config, dir: &Path) -> anyhow::Result<Way> {
    if !dir.join("format").exists() {
        bail!("no state in {} yet: start with `retag run`, or check [state] dir", dir.display());
    }
    let owned = StateDir::open(dir)?;
    let store: Arc<dyn Store> = Arc::new(FjallStore::open(&owned.store_path())?);
    let (writer, view) = StateWriter::open(store)?;
    let shared = SharedView::new(view);
    let registry = &config.registry;
    let kept = config.state.transitions_bytes_max > 0;
    let audience = Audience::of(config.sinks.values().map(|sink| sink.deliver()), kept);
    let about = About::new(config, &owned, false);
    let incomplete = about.sources.iter().filter(|source| !source.complete);
    let terms = Terms {
        manage: registry.manage,
        grace_us: registry.grace_us(),
        audience,
        incomplete: incomplete.map(|source| source.name.clone()).collect(),
    };
    let commands = Commands::stopped(writer, shared.clone(), terms);
    let api = Api::with(shared, about, AccessFile::open(dir)?, &config.http).with_commands(commands);
    Ok(Way::Stopped { routes: TowerToHyperService::new(api::router(Arc::new(api))), _dir: owned })
}

fn in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::InUse { .. }))
}

/// A key that nobody else has.
fn new_key() -> String {
    let mut bytes = [0; 16];
    let filled = std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    if filled.is_err() {
        // The time and the process: a host keeps keys by caller and path.
        let (time, process) = (clock::wall_us(), std::process::id());
        return format!("{time:x}-{process:x}");
    }
    format!("{:032x}", u128::from_le_bytes(bytes))
}

/// The host may have done what it was asked, or is still doing it.
fn may_be_done(error: &anyhow::Error) -> bool {
    let busy = |refused: &Refused| refused.code == ApiError::KeyBusy.kind().1;
    error.is::<BrokenOff>() || error.downcast_ref().is_some_and(busy)
}

/// What a problem answer says, for people.
fn refused(problem: &[u8]) -> anyhow::Error {
    let read: serde_json::Value = serde_json::from_slice(problem).unwrap_or_default();
    let text = |name: &str| read.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    match (text("code"), text("detail"), text("hint")) {
        (Some(code), Some(detail), Some(hint)) => Refused { code, detail, hint }.into(),
        _ => anyhow::anyhow!("the host refused: {}", String::from_utf8_lossy(problem)),
    }
}

/// The code of what a host refused.
pub(super) fn refusal_code(error: &anyhow::Error) -> Option<&str> {
    error.downcast_ref().map(|refused: &Refused| refused.code.as_str())
}

/// A path segment with everything encoded that could be read otherwise.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // a string takes everything
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn segments_keep_only_what_cannot_be_misread() {
        assert_eq!(segment("a-1_b.~"), "a-1_b.~");
        assert_eq!(segment("a/b ü%"), "a%2Fb%20%C3%BC%25");
    }
}
