//! Routes that let a rule stand still, go on, and go.

use super::error::ApiError;
use super::history::holds;
use super::reader::Reader;
use super::release_routes::{BUSY, STOPPING, Work, accepted, apart, submitted};
use super::request::JsonBody;
use super::role::{Access, Role};
use super::route::Route;
use super::routes::{Answer, Named};
use super::write::Write;
use crate::registry::Refusal;
use crate::registry::command::{Command, Done};
use crate::source::{Partition, SourceError};
use axum::extract::Path;
use schemars::JsonSchema;
use serde::Deserialize;

const OPERATOR: Access = Access::Role(Role::Operator);
const DEPLOYER: Access = Access::Role(Role::Deployer);
const RULE: (u16, &str) = (404, "unknown-rule");
const MANAGED: (u16, &str) = (409, "managed-by-config");

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/rules/{rule}/pause", OPERATOR, pause)
            .named("pauseRule", "Stops feeding a rule at one commit; its labels stay and read STALE.")
            .writes()
            .takes::<PauseBody>()
            .json::<Done>(200)
            .refuses(&[RULE, (409, "operation-under-way"), BUSY, STOPPING]),
        Route::post("/v1/rules/{rule}/resume", OPERATOR, resume)
            .named("resumeRule", "Feeds a paused rule again, and reads what it missed beside the stream.")
            .writes()
            .json::<Done>(200)
            .json::<Done>(202)
            .refuses(&[RULE, (409, "position-gone"), BUSY, STOPPING]),
        Route::post("/v1/rules/{rule}/remove", DEPLOYER, remove)
            .named("removeRule", "Takes a rule out: its labels are told unset, then its sums go.")
            .writes()
            .json::<Done>(200)
            .json::<Done>(202)
            .refuses(&[RULE, (409, "operation-under-way"), MANAGED, BUSY, STOPPING]),
        Route::post("/v1/rules/{rule}/revisions/{revision}/remove", DEPLOYER, forget)
            .named("removeRevision", "Forgets a revision that is not live, kept or being prepared.")
            .writes()
            .json::<Done>(200)
            .refuses(&[RULE, (404, "unknown-revision"), (409, "revision-in-use"), BUSY, STOPPING]),
    ]
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct PauseBody {
    /// Gives up what is being prepared; without it a pause is refused meanwhile.
    #[serde(default)]
    force: bool,
}

async fn pause(
    wish: Result<Write, ApiError>,
    path: Named<String>,
    body: Result<JsonBody<PauseBody>, ApiError>,
) -> Answer {
    let (wish, Path(rule), JsonBody(body, sent)) = (wish?, path?, body?);
    let work = move |work: Work| {
        let (by, why) = (work.asker.by.clone(), work.asker.why.clone());
        work.submit(Command::Pause { rule, by, why, forced: body.force }, None)
    };
    wish.once(&sent, |api, asker| async move { accepted(&apart(&api, asker, work).await?) }).await
}

async fn resume(wish: Result<Write, ApiError>, path: Named<String>) -> Answer {
    let (wish, Path(rule)) = (wish?, path?);
    let work = move |work: Work| {
        check_missed(&work.reader, &rule)?;
        work.submit(Command::Resume { rule }, None)
    };
    wish.once(&[], |api, asker| async move { accepted(&apart(&api, asker, work).await?) }).await
}

async fn remove(wish: Result<Write, ApiError>, path: Named<String>) -> Answer {
    let (wish, Path(rule)) = (wish?, path?);
    submitted(wish, &[], Command::Remove { rule }).await
}

async fn forget(wish: Result<Write, ApiError>, path: Named<(String, u32)>) -> Answer {
    let (wish, Path((rule, revision))) = (wish?, path?);
    submitted(wish, &[], Command::Forget { rule, revision }).await
}

/// Whether the sources still hold what a paused rule missed.
fn check_missed(reader: &Reader, rule: &str) -> Result<(), ApiError> {
    if !reader.registry.is_stopped(rule) {
        return Ok(());
    }
    let gone = |error: SourceError| {
        let (rule, why) = (rule.to_owned(), error.to_string());
        Refusal::PositionGone { rule, why }
    };
    let gap = reader.registry.pauses.get(rule).and_then(|pause| pause.gaps.first());
    let from = |number, partition: &Partition| {
        gap.and_then(|gap| gap.from.get(number).copied()).unwrap_or(partition.begins)
    };
    Ok(holds(reader, from).map_err(gone)?)
}
