//! The socket in the state directory: one thread that serves the routes, for the owner of the directory alone.
//!
//! Everything is bounded: connections, their lives, headers, threads that read. When all places are taken, a new
//! connection gets that of the one that has asked for nothing for longest; one that is being answered keeps it. The caller holds the directory's lock, so
//! a socket that is there already is a leftover.

use super::about::About;
use super::caller::Peer as Way;
use super::error::ApiError;
use super::routes::{Api, router};
use super::transitions::Ending;
use crate::pipeline::parts::SharedView;
use crate::priority::answer_at_once;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; a further one takes the place of an idle one, else it waits.
    pub connections: u32,
    /// Longest wait for a request's header, idle connections included.
    pub header_timeout: Duration,
    /// Longest life of a connection.
    pub connection_life: Duration,
    /// Threads for answers that may take longer.
    pub reading_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            header_timeout: Duration::from_secs(10),
            connection_life: Duration::from_secs(3600),
            reading_threads: 4,
        }
    }
}

/// How long answers under way may take when the server stops.
const GRACE: Duration = Duration::from_millis(400);
/// How long to wait before accepting again after an error (too many open files, …).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait for the place of an idle connection before the next one has to give up its own.
const PLACE_PAUSE: Duration = Duration::from_millis(2);

/// What the server knows of a connection.
#[derive(Debug, Default)]
struct Peer {
    /// When it last began or ended asking, as a number that only grows; [`ASKING`] in between.
    idle_since: AtomicU64,
    /// It never asked for anything.
    is_silent: std::sync::atomic::AtomicBool,
    /// It has to give up its place.
    leave: Notify,
}

/// A request is being answered.
const ASKING: u64 = u64::MAX;

/// The connections, and a clock that counts what they do.
#[derive(Debug, Default)]
struct Peers {
    known: Vec<Weak<Peer>>,
    clock: Arc<AtomicU64>,
}

impl Peers {
    fn add(&mut self) -> Arc<Peer> {
        let peer = Arc::new(Peer::default());
        peer.is_silent.store(true, Ordering::Relaxed);
        peer.idle_since.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        self.known.retain(|peer| peer.strong_count() > 0);
        self.known.push(Arc::downgrade(&peer));
        peer
    }

    /// Tells the one that has been idle for longest to leave, and forgets it.
    fn send_one_away(&mut self) {
        let idle = |(n, peer): (usize, &Weak<Peer>)| {
            let since = peer.upgrade()?.idle_since.load(Ordering::Relaxed);
            (since != ASKING).then_some((since, n))
        };
        let Some((_, oldest)) = self.known.iter().enumerate().filter_map(idle).min() else { return };
        if let Some(peer) = self.known.swap_remove(oldest).upgrade() {
            peer.leave.notify_one();
        }
    }

    /// A place, as soon as there is one.
    async fn place(&mut self, permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        loop {
            match timeout(PLACE_PAUSE, permits.clone().acquire_owned()).await {
                Ok(permit) => return permit.ok(),
                Err(_) => self.send_one_away(),
            }
        }
    }
}

/// A running server. It stops and removes its socket when told to or dropped.
#[derive(Debug)]
pub struct ServerHandle {
    /// Files that go with it, the socket first.
    files: Vec<PathBuf>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Serves the routes on `socket` from the latest view in `shared`.
///
/// # Errors
/// [`ApiError::Socket`] where the socket cannot be opened.
pub fn serve(socket: PathBuf, shared: SharedView, about: About) -> Result<ServerHandle, ApiError> {
    serve_with(socket, Api::new(shared, about), Limits::default())
}

/// [`serve`] with other limits.
///
/// # Errors
/// [`ApiError::Socket`] where the socket cannot be opened.
pub fn serve_with(socket: PathBuf, api: Api, limits: Limits) -> Result<ServerHandle, ApiError> {
    serve_router(socket, router(Arc::new(api)), limits)
}

/// [`serve_with`] for routes that another server shares.
///
/// # Errors
/// [`ApiError::Socket`] where the socket cannot be opened.
pub fn serve_router(socket: PathBuf, router: Router, limits: Limits) -> Result<ServerHandle, ApiError> {
    let failed = |doing| {
        let path = socket.clone();
        move |source| ApiError::Socket { doing, path, source }
    };
    let listener = bind(&socket).map_err(failed("open"))?;
    listener.set_nonblocking(true).map_err(failed("open"))?;
    let run = move |stopped| accept(listener, router, limits, stopped);
    let mut handle = start("retag-api", limits.reading_threads, run).map_err(failed("serve"))?;
    handle.remove_at_end(socket);
    Ok(handle)
}

/// Runs a server on a thread of its own until it is told to stop.
pub(super) fn start<F, S>(name: &str, reading_threads: usize, serve: S) -> std::io::Result<ServerHandle>
where
    F: Future<Output = std::io::Result<()>>,
    S: FnOnce(watch::Receiver<bool>) -> F + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(reading_threads)
        .thread_name("retag-read")
        .build()?;
    let (stop, stopped) = watch::channel(false);
    let run = move || {
        answer_at_once();
        // Fails only where the runtime has no I/O, which it was built with.
        let _ = runtime.block_on(serve(stopped));
        runtime.shutdown_timeout(GRACE / 2);
    };
    let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
    Ok(ServerHandle { files: Vec::new(), stop, thread: Some(thread) })
}

/// Opens the socket for the owner alone: it is made in a folder of its own, and moved into place with its rights set.
fn bind(socket: &Path) -> std::io::Result<StdListener> {
    let folder = socket.with_extension("new");
    let made = folder.join("s");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let listener = StdListener::bind(&made)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
    fs::rename(&made, socket)?;
    fs::remove_dir(&folder)?;
    Ok(listener)
}

async fn accept(
    listener: StdListener,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let permits = Arc::new(Semaphore::new(limits.connections as usize));
    let mut peers = Peers::default();
    loop {
        let next = async {
            let accepted = listener.accept().await;
            (accepted, peers.place(&permits).await)
        };
        let (accepted, permit) = tokio::select! {
            _ = stopped.changed() => break,
            next = next => next,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, stopped) = (router.clone(), stopped.clone());
        let (peer, clock) = (peers.add(), peers.clock.clone());
        tokio::spawn(async move {
            connection(stream, router, limits, (peer, clock), stopped).await;
            drop(permit);
        });
    }
    drop(listener);
    // All permits together = no connection left.
    let _ = timeout(GRACE + GRACE / 4, permits.acquire_many(limits.connections)).await;
    Ok(())
}

async fn connection(
    stream: UnixStream,
    router: Router,
    limits: Limits,
    (peer, clock): (Arc<Peer>, Arc<AtomicU64>),
    mut stopped: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let (of_service, ending) = (peer.clone(), Ending(stopped.clone()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Way::Owner);
        request.extensions_mut().insert(ending.clone());
        let (peer, clock, answer) = (of_service.clone(), clock.clone(), router.call(request));
        peer.is_silent.store(false, Ordering::Relaxed);
        peer.idle_since.store(ASKING, Ordering::Relaxed);
        async move {
            let answer = answer.await;
            peer.idle_since.store(clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            answer
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let life = sleep(limits.connection_life);
    let mut life = std::pin::pin!(life);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stopped.changed() => {}
        () = life.as_mut() => {}
        () = peer.leave.notified() => {
            if peer.is_silent.load(Ordering::Relaxed) {
                return;
            }
            // Ends at once where nothing is on its way; a long answer is still sent to its end.
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                _ = serving.as_mut() => return,
                _ = stopped.changed() => {}
                () = life => {}
            }
        }
    }
    serving.as_mut().graceful_shutdown();
    // A peer that went away or reads too slowly: nobody is left to tell.
    let _ = timeout(GRACE, serving).await;
}

impl ServerHandle {
    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// A file that is removed when the server stops.
    pub(super) fn remove_at_end(&mut self, path: PathBuf) {
        self.files.push(path);
    }

    /// Stops: answers under way are finished if they are quick (the socket's in less than a second), its files removed.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        for path in &self.files {
            let _ = fs::remove_file(path); // gone already = as wanted
        }
        let _ = self.stop.send(true); // the thread has ended already
        let _ = thread.join(); // it has no result; a panic in it was printed
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.end();
    }
}
