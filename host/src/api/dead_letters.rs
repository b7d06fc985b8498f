//! Dead letters of a sink: listed by age, sent again, dropped. Who delivers does the work, beside everything else.

use super::error::ApiError;
use super::quarantine::{parse, text};
use super::reader::Reader;
use super::release_routes::{BUSY, STOPPING, Work, apart};
use super::request::{JsonBody, limit};
use super::role::{Access, Role};
use super::route::Route;
use super::routes::{Answer, Asked, Named, Shared, answer};
use super::sinks::{SINK, Sink, asked, one};
use super::write::{Why, Write};
use crate::label::outbox::Place;
use crate::pipeline::dead_letters::{Letter, at, behind};
use crate::registry::command::Command;
use crate::sink::progress::{Which, Wish};
use axum::extract::{Path, Query, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most letters in one answer, and most ids in one request.
const LIMIT_MAX: usize = 1_000;
/// Letters in an answer where the question does not say.
const LIMIT_DEFAULT: u32 = 100;
/// What `replay` and `drop` may be refused with.
const REFUSALS: &[(u16, &str)] = &[
    SINK,
    (404, "unknown-letter"),
    (409, "no-dead-letters"),
    (409, "sink-busy"),
    (409, "no-host"),
    BUSY,
    STOPPING,
];

/// A dead letter and its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListedLetter {
    /// `COMMIT-INDEX` of its message.
    pub id: String,
    /// The rest.
    #[serde(flatten)]
    pub letter: Letter,
}

/// Some dead letters of a sink, the oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetters {
    /// Commit of the answer.
    pub commit: u64,
    /// Letters that are kept, in all.
    pub dead_letters: u64,
    /// The letters.
    pub letters: Vec<ListedLetter>,
    /// Where to go on; null = these were the last.
    pub next: Option<String>,
}

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    const VIEWER: Access = Access::Role(Role::Viewer);
    const OPERATOR: Access = Access::Role(Role::Operator);
    vec![
        Route::get("/v1/sinks/{sink}/dead-letters", VIEWER, list)
            .named("listDeadLetters", "Messages that a sink's receiver refused, the oldest first.")
            .query::<ListQuery>()
            .json::<DeadLetters>(200)
            .refuses(&[SINK, (409, "bad-cursor")]),
        Route::post("/v1/sinks/{sink}/dead-letters/replay", OPERATOR, replay)
            .named(
                "replayDeadLetters",
                "Sends dead letters again, one by one; those that are taken are kept no longer.",
            )
            .takes::<WhichBody>()
            .query::<Why>()
            .reads_headers(&["Idempotency-Key"])
            .json::<Sink>(202)
            .refuses(REFUSALS),
        Route::post("/v1/sinks/{sink}/dead-letters/drop", OPERATOR, drop_some)
            .named("dropDeadLetters", "Drops dead letters: nobody is told what they say.")
            .takes::<WhichBody>()
            .query::<Why>()
            .reads_headers(&["Idempotency-Key"])
            .json::<Sink>(202)
            .refuses(REFUSALS),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn list(State(api): Shared, path: Named<String>, query: Asked<ListQuery>) -> Answer {
    let (Path(name), Query(query)) = (path?, query?);
    answer(&api, move |reader| page(reader, &name, &query)).await
}

fn page(reader: &Reader, name: &str, query: &ListQuery) -> Result<DeadLetters, ApiError> {
    let sink = one(reader, name)?;
    let bad = |text: &str| ApiError::BadCursor { cursor: text.chars().take(80).collect() };
    let cursor = query.cursor.as_deref();
    let after = cursor.map(|text| parse(text).ok_or_else(|| bad(text))).transpose()?;
    let limit = limit(query.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let mut found = behind(&reader.view, name, after, limit + 1)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(place, _)| text(*place));
    let letters = found.into_iter().map(|(place, letter)| ListedLetter { id: text(place), letter }).collect();
    Ok(DeadLetters { commit: reader.commit(), dead_letters: sink.dead_letters, letters, next })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct WhichBody {
    /// Ids of letters.
    #[serde(default)]
    #[schemars(length(max = 1_000))]
    ids: Vec<String>,
    /// All that there are, whatever `ids` says.
    #[serde(default)]
    all: bool,
}

async fn replay(
    wish: Result<Write, ApiError>,
    path: Named<String>,
    body: Result<JsonBody<WhichBody>, ApiError>,
) -> Answer {
    ask(wish?, path?.0, body?, ("sink dead replay", Wish::Replay)).await
}

async fn drop_some(
    wish: Result<Write, ApiError>,
    path: Named<String>,
    body: Result<JsonBody<WhichBody>, ApiError>,
) -> Answer {
    ask(wish?, path?.0, body?, ("sink dead drop", Wish::Drop)).await
}

async fn ask(
    wish: Write,
    name: String,
    JsonBody(body, sent): JsonBody<WhichBody>,
    (what, wish_of): (&'static str, fn(Which) -> Wish),
) -> Answer {
    let work = move |work: Work| {
        let sink = one(&work.reader, &name)?;
        let which = which(&work.reader, &name, &body)?;
        if sink.kind.as_deref() != Some("webhook") {
            return Err(ApiError::NoDeadLetters { name });
        }
        let progress = work.reader.about.delivery.get(&name).ok_or(ApiError::NoHost)?;
        let of = match &which {
            Which::All => "--all".to_owned(),
            Which::At(places) => places.iter().map(|place| text(*place)).collect::<Vec<_>>().join(" "),
        };
        if progress.has_letters_asked() {
            return Err(ApiError::SinkBusy { name });
        }
        work.submit(Command::Sink { sink: name.clone(), what, of }, None)?;
        if !progress.ask_letters(wish_of(which)) {
            return Err(ApiError::SinkBusy { name });
        }
        Ok(sink)
    };
    wish.once(&sent, |api, asker| async move { asked(&apart(&api, asker, work).await?) }).await
}

fn which(reader: &Reader, name: &str, WhichBody { ids, all }: &WhichBody) -> Result<Which, ApiError> {
    if *all {
        return Ok(Which::All);
    }
    if ids.len() > LIMIT_MAX {
        return Err(ApiError::BadRequest("body: at most 1,000 `ids` at once".into()));
    }
    let mut places: BTreeSet<Place> = BTreeSet::new();
    for id in ids {
        let unknown = || ApiError::UnknownLetter { sink: name.to_owned(), id: id.chars().take(80).collect() };
        let place = parse(id).ok_or_else(unknown)?;
        at(&reader.view, name, place)?.ok_or_else(unknown)?;
        places.insert(place);
    }
    Ok(Which::At(places))
}
