//! The socket in the state directory: one thread that serves the routes, for the owner of the directory alone.
//!
//! Everything is bounded: connections, their lives, headers, threads that read. The caller holds the directory's lock, so
//! a socket that is there already is a leftover.

use super::about::About;
use super::error::ApiError;
use super::routes::{Api, router};
use crate::pipeline::parts::SharedView;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the system's queue.
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

/// A running server. It stops and removes its socket when told to or dropped.
#[derive(Debug)]
pub struct ServerHandle {
    path: PathBuf,
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
    let failed = |doing| {
        let path = socket.clone();
        move |source| ApiError::Socket { doing, path, source }
    };
    let listener = bind(&socket).map_err(failed("open"))?;
    listener.set_nonblocking(true).map_err(failed("open"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(limits.reading_threads)
        .thread_name("retag-read")
        .build()
        .map_err(failed("serve"))?;
    let (stop, stopped) = watch::channel(false);
    let serve = move || {
        // Fails only where the runtime has no I/O, which it was built with.
        let _ = runtime.block_on(accept(listener, router(api), limits, stopped));
        runtime.shutdown_timeout(GRACE / 2);
    };
    let thread =
        std::thread::Builder::new().name("retag-api".into()).spawn(serve).map_err(failed("serve"))?;
    Ok(ServerHandle { path: socket, stop, thread: Some(thread) })
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
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            _ = stopped.changed() => break,
            next = next => next,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, stopped) = (router.clone(), stopped.clone());
        tokio::spawn(async move {
            connection(stream, router, limits, stopped).await;
            drop(permit);
        });
    }
    drop(listener);
    // All permits together = no connection left.
    let _ = timeout(GRACE + GRACE / 4, permits.acquire_many(limits.connections)).await;
    Ok(())
}

async fn connection(stream: UnixStream, router: Router, limits: Limits, mut stopped: watch::Receiver<bool>) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stopped.changed() => {}
        () = sleep(limits.connection_life) => {}
    }
    serving.as_mut().graceful_shutdown();
    // A peer that went away or reads too slowly: nobody is left to tell.
    let _ = timeout(GRACE, serving).await;
}

impl ServerHandle {
    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops in less than a second: answers under way are finished if they are quick, the socket is removed.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let _ = fs::remove_file(&self.path); // gone already = as wanted
        let _ = self.stop.send(true); // the thread has ended already
        let _ = thread.join(); // it has no result; a panic in it was printed
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.end();
    }
}
