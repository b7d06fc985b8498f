//! `GET /v1/transitions`: every transition of every commit behind a given one, in order, as server-sent events that go on.
//!
//! The outbox is read where the client stands, a piece at a time on a thread where reading may block, and one piece waits
//! while the client takes another. So a slow client costs two pieces and nothing else: the engine never looks at it, and
//! when what it has not read is dropped from the outbox its stream ends. A view is held for a piece only.

use super::caller::Caller;
use super::error::ApiError;
use super::metrics::Limit;
use super::reader::Reader;
use super::role::{Access, Role};
use super::route::Route;
use super::routes::{Answer, Api, Asked, Shared};
use crate::clock::rfc3339;
use crate::config::Deliver;
use crate::label::outbox::{CHUNK_INDEX, Place, decode};
use crate::label::{SWITCH, Transition};
use crate::pipeline::outbox::first_floor;
use crate::pipeline::rows::FLOOR;
use crate::sink::hears;
use crate::sink::message::{Message, Origin, Summary, parse_id};
use crate::state::Table;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use hyper::body::Frame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// Bytes from which a piece is handed over.
const PIECE_BYTES: usize = 64 << 10;
/// Rows of the outbox that one piece looks at.
const PIECE_ROWS: usize = 64;
/// A stream ends by itself before its connection's life does.
const LIFE: Duration = Duration::from_secs(55 * 60);
/// In place of an index: the whole commit.
const WHOLE: u32 = u32::MAX;

/// The server stops; put into a request's extensions by whoever took the connection.
#[derive(Clone, Debug)]
pub(super) struct Ending(pub(super) watch::Receiver<bool>);

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/transitions", Access::Role(Role::Viewer), follow)
            .named("followTransitions", "The transitions of every commit behind one, as server-sent events.")
            .query::<FollowQuery>()
            .reads_headers(&["Last-Event-ID"])
            .text("text/event-stream")
            .refuses(&[(410, "transitions-gone"), (503, "busy")]),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FollowQuery {
    /// The commit behind which to begin; absent = the latest.
    after: Option<u64>,
    /// What to tell.
    #[serde(default)]
    deliver: Wish,
    /// Go on with what comes; false = end with the latest commit.
    #[serde(default = "yes")]
    follow: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Wish {
    /// What rows and time caused; a switch of revisions as one summary.
    #[default]
    Changes,
    /// All, whatever their cause.
    All,
}

async fn follow(
    State(api): Shared,
    Extension(caller): Extension<Caller>,
    ending: Option<Extension<Ending>>,
    headers: HeaderMap,
    query: Asked<FollowQuery>,
) -> Answer {
    let Query(FollowQuery { after, deliver, follow }) = query?;
    let permit = api.streams.clone().try_acquire_owned().map_err(|_| {
        api.metrics.limited(Limit::Streams);
        ApiError::Busy { limit: api.streams_max }
    })?;
    let next = begin(&api.reader()?, &headers, after)?;
    let deliver = match deliver {
        Wish::Changes => Deliver::Changes,
        Wish::All => Deliver::All,
    };
    let (pieces, taken) = mpsc::channel(1);
    // Nobody reads a stopped directory for longer than there is something.
    let follow = follow && api.reader()?.about.running;
    let stream = Stream { api, caller, next, deliver, news: true };
    tokio::spawn(feed(stream, follow, pieces, (ending.map(|Extension(ending)| ending.0), permit)));
    let media = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((media, Body::new(Pieces(taken))).into_response())
}

/// Where to begin.
fn begin(reader: &Reader, headers: &HeaderMap, after: Option<u64>) -> Result<Place, ApiError> {
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?")).filter(|id| !id.is_empty());
    let next = match last {
        None => Place { commit: after.unwrap_or(reader.commit()).saturating_add(1), index: 0 },
        Some(id) => {
            let malformed = || ApiError::BadRequest("last-event-id: no id of an event of this route".into());
            let (_, place) = parse_id(id).ok_or_else(malformed)?;
            // Another state, or this one before it was restored: its commits are others.
            if !id.starts_with(&origin_of(reader)) {
                return Err(gone(reader, place.commit));
            }
            match place.index {
                WHOLE => Place { commit: place.commit.saturating_add(1), index: 0 },
                index => Place { commit: place.commit, index: index + 1 },
            }
        }
    };
    let is_there = next.commit > floor(reader)? && next.commit <= reader.commit().saturating_add(1);
    if is_there { Ok(next) } else { Err(gone(reader, next.commit.saturating_sub(1))) }
}

/// What ids of this state begin with.
fn origin_of(reader: &Reader) -> String {
    format!("{}-{}-", reader.about.state_id, reader.about.epoch)
}

/// Transitions up to this commit are gone.
fn floor(reader: &Reader) -> Result<u64, ApiError> {
    if let Some(floor) = reader.fact(FLOOR, "the row of dropped transitions")? {
        return Ok(floor);
    }
    let totals = reader.totals()?;
    Ok(first_floor(reader.commit(), totals.transitions))
}

fn gone(reader: &Reader, after: u64) -> ApiError {
    floor(reader).map_or_else(|error| error, |oldest| ApiError::Gone { after, oldest })
}

/// Hands pieces over as they are taken, until the client goes away or the stream ends.
async fn feed(
    mut stream: Stream,
    follow: bool,
    pieces: mpsc::Sender<Result<Bytes, ApiError>>,
    (mut ending, _permit): (Option<watch::Receiver<bool>>, OwnedSemaphorePermit),
) {
    let mut changes = stream.api.changes();
    let heartbeat = stream.api.heartbeat;
    let mut life = std::pin::pin!(sleep(LIFE));
    loop {
        let place = stream.api.reads.clone().acquire_owned().await;
        let made = spawn_blocking(move || {
            let _place = place;
            let piece = stream.next_piece();
            (stream, piece)
        });
        let Ok((back, piece)) = made.await else { return };
        stream = back;
        let (bytes, more) = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => return,
            Err(error) => {
                let _ = pieces.send(Err(error)).await; // nobody is left to tell
                return;
            }
        };
        if !bytes.is_empty() && pieces.send(Ok(bytes.into())).await.is_err() {
            return;
        }
        if more {
            continue;
        }
        if !follow {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(heartbeat) => stream.news = true,
            () = stopped(&mut ending) => return,
            () = pieces.closed() => return,
            () = life.as_mut() => return,
        }
    }
}

async fn stopped(ending: &mut Option<watch::Receiver<bool>>) {
    match ending {
        Some(ending) => drop(ending.changed().await),
        None => std::future::pending().await,
    }
}

/// Where a client stands.
struct Stream {
    api: Arc<Api>,
    caller: Caller,
    /// First place that it has not got.
    next: Place,
    deliver: Deliver,
    /// Something was told, or nothing for long: say how far it is.
    news: bool,
}

impl Stream {
    /// The next events, and whether more are there already; none = what comes next is gone, or the client's token is.
    fn next_piece(&mut self) -> Result<Option<(Vec<u8>, bool)>, ApiError> {
        if !self.api.access.still_counts(&self.caller) {
            return Ok(None);
        }
        let reader = self.api.reader()?;
        if self.next.commit <= floor(&reader)? {
            return Ok(None);
        }
        // A row may begin before the place.
        let index = self.next.index / CHUNK_INDEX * CHUNK_INDEX;
        let from = Place { commit: self.next.commit, index }.key();
        let (mut rows, mut damaged) = (Vec::new(), false);
        reader.view.rows(Table::Outbox, &from, None, &mut |key, row| {
            let read = Place::from_key(key).and_then(|place| Some((place, decode(place, row).ok()?)));
            damaged = read.is_none();
            rows.extend(read);
            !damaged && rows.len() < PIECE_ROWS
        })?;
        if damaged {
            return Err(ApiError::Damaged("a row of the outbox"));
        }
        let mut more = rows.len() == PIECE_ROWS;
        let mut bytes = Vec::new();
        'rows: for (place, (time, transitions)) in rows {
            let time = rfc3339(time);
            for (n, transition) in (0u32..).zip(transitions) {
                let at = Place { commit: place.commit, index: place.index + n };
                if at < self.next {
                    continue;
                }
                if bytes.len() >= PIECE_BYTES {
                    more = true;
                    break 'rows;
                }
                self.next = Place { commit: at.commit, index: at.index + 1 };
                if hears(self.deliver, &transition) {
                    tell(&reader, (at, &time), &transition, &mut bytes)?;
                    self.news = true;
                }
            }
        }
        if !more {
            let commit = reader.commit();
            if self.news {
                let id = format!("{}{commit}-{WHOLE}", origin_of(&reader));
                event(&id, "commit", &json!({ "commit": commit, "time": reader.time() }), &mut bytes)?;
                self.news = false;
            }
            self.next = Place { commit: commit + 1, index: 0 };
        }
        Ok(Some((bytes, more)))
    }
}

/// The event of a transition, or of a switch as a whole.
fn tell(
    reader: &Reader,
    (place, time): (Place, &str),
    transition: &Transition,
    into: &mut Vec<u8>,
) -> Result<(), ApiError> {
    let origin = Origin { state_id: &reader.about.state_id, epoch: reader.about.epoch, time };
    if transition.label == SWITCH {
        let summary = Summary::of(&reader.registry, origin, place, transition);
        summary.map_or(Ok(()), |summary| event(&summary.id, "switch", &summary, into))
    } else {
        let message = Message::of(&reader.registry, origin, place, transition);
        message.map_or(Ok(()), |message| event(&message.id, "transition", &message, into))
    }
}

fn event<T: Serialize>(id: &str, name: &str, data: &T, into: &mut Vec<u8>) -> Result<(), ApiError> {
    into.extend_from_slice(format!("id: {id}\nevent: {name}\ndata: ").as_bytes());
    // JSON without line breaks.
    serde_json::to_writer(&mut *into, data).map_err(|e| ApiError::Internal(e.to_string()))?;
    into.extend_from_slice(b"\n\n");
    Ok(())
}

/// Pieces as a body.
struct Pieces(mpsc::Receiver<Result<Bytes, ApiError>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
