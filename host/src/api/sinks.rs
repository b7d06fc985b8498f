//! Sinks: how far each is, what it is doing, and what may be asked of those that hold label sets.

use super::error::{ApiError, listed};
use super::reader::Reader;
use super::release_routes::{BUSY, STOPPING, Work, apart, with_status};
use super::request::JsonBody;
use super::role::{Access, Role};
use super::route::Route;
use super::routes::{Answer, Named, Shared, answer};
use super::write::{Why, Write};
use crate::label::outbox::Place;
use crate::pipeline::deliver::{KnownSinks, SINKS};
use crate::pipeline::rows::{CURSORS, Cursors};
use crate::registry::command::Command;
use crate::sink::progress::{Asked, Progress, Shown};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const VIEWER: Access = Access::Role(Role::Viewer);
const OPERATOR: Access = Access::Role(Role::Operator);
/// What is asked of a sink that there is not.
pub(super) const SINK: (u16, &str) = (404, "unknown-sink");

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sink {
    /// Its name.
    pub sink: String,
    /// Its type; null where it is not configured.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The first commit that it has not got whole, and the first index in it; null before its first delivery.
    pub next: Option<Place>,
    /// It is configured.
    pub configured: bool,
    /// Messages that it never got, because too much waited for it (`when_full = "drop-oldest"`).
    pub dropped: u64,
    /// Messages that its receiver refused, kept as dead letters.
    pub dead_letters: u64,
    /// What it is doing; null where no host runs.
    pub now: Option<Shown>,
}

/// The sinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sinks {
    /// Commit of the answer.
    pub commit: u64,
    /// Sinks, by name.
    pub sinks: Vec<Sink>,
}

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    const REFUSALS: &[(u16, &str)] = &[SINK, (409, "no-state-sink"), (409, "no-host")];
    const RESYNC_REFUSALS: &[(u16, &str)] = &[
        SINK,
        (404, "unknown-label"),
        (409, "no-state-sink"),
        (409, "no-host"),
        (503, "rebuilding"),
        BUSY,
        STOPPING,
    ];
    vec![
        Route::get("/v1/sinks", VIEWER, list)
            .named("listSinks", "Sinks: how far each is, what it is doing and waits for.")
            .json::<Sinks>(200),
        Route::get("/v1/sinks/{sink}", VIEWER, show)
            .named("getSink", "One sink.")
            .json::<Sink>(200)
            .refuses(&[SINK]),
        Route::post("/v1/sinks/{sink}/resync", OPERATOR, resync)
            .named(
                "resyncSink",
                "Brings everything to a sink that holds label sets, or all keys with one label, and takes away what should \
                 not be there, beside what changes meanwhile.",
            )
            .takes::<ResyncBody>()
            .query::<Why>()
            .reads_headers(&["Idempotency-Key"])
            .json::<Sink>(202)
            .refuses(RESYNC_REFUSALS),
        Route::post("/v1/sinks/{sink}/verify", OPERATOR, verify)
            .named("verifySink", "Compares what a sink holds with the state; `now.verified` is what it found.")
            .query::<Why>()
            .reads_headers(&["Idempotency-Key"])
            .json::<Sink>(202)
            .refuses(REFUSALS),
    ]
}

/// The sinks that are configured or known to the state.
///
/// # Errors
/// Facts that do not read.
pub(super) fn all(reader: &Reader) -> Result<Vec<Sink>, ApiError> {
    let cursors: Cursors = reader.fact(CURSORS, "the row of sink cursors")?.unwrap_or_default();
    let known: KnownSinks = reader.fact(SINKS, "the row of sinks")?.unwrap_or_default();
    let configured = &reader.about.sinks;
    let sink = |name: &String| {
        let now = reader.about.delivery.get(name).map(|progress| progress.shown());
        Sink {
            sink: name.clone(),
            kind: configured.get(name).cloned(),
            next: cursors.get(name).copied().max(now.as_ref().and_then(|now| now.next)),
            configured: configured.contains_key(name),
            dropped: known.get(name).map_or(0, |known| known.dropped),
            dead_letters: known.get(name).map_or(0, |known| known.dead_letters),
            now,
        }
    };
    let new = configured.keys().filter(|name| !cursors.contains_key(*name));
    let mut sinks: Vec<Sink> = cursors.keys().chain(new).map(sink).collect();
    sinks.sort_by(|a, b| a.sink.cmp(&b.sink));
    Ok(sinks)
}

/// The sink of that name.
pub(super) fn one(reader: &Reader, name: &str) -> Result<Sink, ApiError> {
    let all = all(reader)?;
    let known = listed(all.iter().map(|sink| sink.sink.as_str()));
    let found = all.into_iter().find(|sink| sink.sink == name);
    found.ok_or_else(|| ApiError::UnknownSink { name: name.to_owned(), known })
}

async fn list(State(api): Shared) -> Answer {
    answer(&api, |reader| Ok(Sinks { commit: reader.commit(), sinks: all(reader)? })).await
}

async fn show(State(api): Shared, path: Named<String>) -> Answer {
    let Path(name) = path?;
    answer(&api, move |reader| one(reader, &name)).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ResyncBody {
    /// Only keys that carry this label, here or there; none = everything.
    #[serde(default)]
    label: Option<String>,
}

async fn resync(
    wish: Result<Write, ApiError>,
    path: Named<String>,
    body: Result<JsonBody<ResyncBody>, ApiError>,
) -> Answer {
    let (wish, Path(name), JsonBody(body, sent)) = (wish?, path?, body?);
    let of = body.label.as_ref().map_or_else(String::new, |label| format!("--label {label}"));
    let audited = Command::Sink { sink: name.clone(), what: "sink resync", of };
    let work = move |work: Work| {
        if let Some(label) = &body.label {
            work.reader.label(label)?;
        }
        let (sink, progress) = state_sink(&work.reader, &name)?;
        work.submit(audited, None)?;
        progress.ask(body.label.map_or(Asked::Resync, Asked::Repair));
        Ok(sink)
    };
    wish.once(&sent, |api, asker| async move { asked(&apart(&api, asker, work).await?) }).await
}

async fn verify(wish: Result<Write, ApiError>, path: Named<String>) -> Answer {
    let (wish, Path(name)) = (wish?, path?);
    wish.once(&[], |api, _| async move {
        let reader = api.reader()?;
        let (sink, progress) = state_sink(&reader, &name)?;
        progress.ask(Asked::Verify);
        asked(&sink)
    })
    .await
}

/// A sink that holds label sets, and where it is asked for something.
fn state_sink(reader: &Reader, name: &str) -> Result<(Sink, Arc<Progress>), ApiError> {
    let sink = one(reader, name)?;
    let progress = reader.about.delivery.get(name).ok_or(ApiError::NoHost)?;
    if sink.now.as_ref().is_none_or(|now| now.whole.is_none()) {
        return Err(ApiError::NoStateSink { name: name.to_owned() });
    }
    Ok((sink, progress.clone()))
}

/// 202 with the sink as it was when it was asked.
pub(super) fn asked(sink: &Sink) -> Answer {
    with_status(StatusCode::ACCEPTED, sink)
}
