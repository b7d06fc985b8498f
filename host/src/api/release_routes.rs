//! Routes on revisions: plan, prepare, preview, activate, roll back, parameters; the audit and operations.
//!
//! Whatever waits for its commit does so on a thread of its own.

use super::commands::Commands;
use super::error::ApiError;
use super::operation::{self, OperationAnswer, Operations};
use super::reader::Reader;
use super::release::{self, AuditPage, PreviewAnswer, RevisionAnswer, Revisions};
use super::request::{JsonBody, limit};
use super::role::{Access, Role};
use super::route::Route;
use super::routes::{Answer, Api, Asked, Named, Shared, answer, answer_as, json};
use super::sampled;
use super::write::{Write, tagged};
use crate::pipeline::program::Code;
use crate::pipeline::rules::stored::stored_rule;
use crate::pipeline::rules::{Loaded, rule_engine};
use crate::registry::Revision;
use crate::registry::command::{Asker, Bound, Command, Done};
use crate::registry::diff::Diff;
use crate::registry::plan::Plan;
use crate::rule::RuleEngine;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Lines of the audit in an answer where nothing is said.
const LINES_DEFAULT: u32 = 100;

type Wish = Result<Write, ApiError>;

const VIEWER: Access = Access::Role(Role::Viewer);
const OPERATOR: Access = Access::Role(Role::Operator);
const DEPLOYER: Access = Access::Role(Role::Deployer);
const RULE: (u16, &str) = (404, "unknown-rule");
const REVISION: (u16, &str) = (404, "unknown-revision");
const UNDER_WAY: (u16, &str) = (409, "operation-under-way");
const PAUSED: (u16, &str) = (409, "rule-paused");
const NOT_READY: (u16, &str) = (409, "not-ready");
const NONE: (u16, &str) = (409, "no-history");
const GONE: (u16, &str) = (409, "history-gone");
const ENTITY: (u16, &str) = (409, "entity-changed");
const TAKEN: (u16, &str) = (409, "label-taken");
const TOO_MANY: (u16, &str) = (409, "too-many-revisions");
const MANAGED: (u16, &str) = (409, "managed-by-config");
const REFUSED: (u16, &str) = (422, "rule-refused");
pub(super) const BUSY: (u16, &str) = (503, "busy");
pub(super) const STOPPING: (u16, &str) = (503, "stopping");

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = reading();
    routes.extend(writing());
    routes
}

fn reading() -> Vec<Route> {
    vec![
        Route::get("/v1/rules/{rule}/revisions", VIEWER, revisions)
            .named("listRevisions", "The revisions of a rule, the oldest first.")
            .tagged()
            .json::<Revisions>(200)
            .refuses(&[RULE]),
        Route::get("/v1/rules/{rule}/revisions/{revision}", VIEWER, revision)
            .named("getRevision", "A revision.")
            .tagged()
            .json::<RevisionAnswer>(200)
            .refuses(&[RULE, REVISION]),
        Route::post("/v1/rules/{rule}/revisions/{revision}/plan", VIEWER, plan)
            .named("planRevision", "What a revision changes against the live one, and what it needs.")
            .tagged()
            .json::<Plan>(200)
            .refuses(&[RULE, REVISION]),
        Route::get("/v1/operations", VIEWER, operations)
            .named("listOperations", "Operations under way and the last ones that ended, the oldest first.")
            .json::<Operations>(200),
        Route::get("/v1/rules/{rule}/revisions/{revision}/diff", VIEWER, diff)
            .named("diffRevisions", "What a revision differs in from another one, whichever is live.")
            .query::<DiffQuery>()
            .tagged()
            .json::<Diff>(200)
            .refuses(&[RULE, REVISION]),
        Route::get("/v1/operations/{id}", VIEWER, operation)
            .named("getOperation", "How far a prepare, a resume or the telling of a switch is.")
            .json::<OperationAnswer>(200)
            .refuses(&[(404, "unknown-operation")]),
        Route::get("/v1/audit", OPERATOR, audit)
            .named("listAudit", "Who changed what, when and why, the oldest first.")
            .query::<AuditQuery>()
            .json::<AuditPage>(200),
    ]
}

fn writing() -> Vec<Route> {
    vec![
        Route::post("/v1/rules/{rule}/revisions/{revision}/prepare", DEPLOYER, prepare)
            .named("prepareRevision", "Reads the history of new aggregates, and evaluates all keys.")
            .writes()
            .json::<Done>(200)
            .json::<Done>(202)
            .refuses(&[
                RULE, REVISION, UNDER_WAY, PAUSED, NONE, GONE, ENTITY, TAKEN, TOO_MANY, MANAGED, REFUSED,
                BUSY, STOPPING,
            ]),
        Route::post("/v1/rules/{rule}/revisions/{revision}/cancel", DEPLOYER, cancel)
            .named("cancelRevision", "Drops what was prepared and never live.")
            .writes()
            .json::<Done>(200)
            .refuses(&[RULE, REVISION, UNDER_WAY, (409, "not-cancellable"), BUSY, STOPPING]),
        Route::post("/v1/rules/{rule}/revisions/{revision}/preview", DEPLOYER, preview)
            .named("previewRevision", "Per label and value how many keys would enter, leave and stay.")
            .writes()
            .json::<PreviewAnswer>(200)
            .refuses(&[RULE, REVISION, NOT_READY, BUSY, STOPPING]),
        Route::post("/v1/rules/{rule}/revisions/{revision}/preview/sample", DEPLOYER, sample)
            .named(
                "sampleRevision",
                "The same, estimated from some of the keys, before anything is prepared.",
            )
            .writes()
            .takes::<SampleBody>()
            .json::<PreviewAnswer>(200)
            .refuses(&[RULE, REVISION, NOT_READY, REFUSED, BUSY, STOPPING]),
        Route::post("/v1/rules/{rule}/revisions/{revision}/activate", DEPLOYER, activate)
            .named("activateRevision", "Makes a revision live in one commit; never waits.")
            .writes()
            .takes::<ActivateBody>()
            .json::<Done>(200)
            .json::<Done>(202)
            .refuses(&[
                RULE,
                REVISION,
                (404, "unknown-preview"),
                UNDER_WAY,
                PAUSED,
                NOT_READY,
                TAKEN,
                (409, "preview-moved"),
                MANAGED,
                BUSY,
                STOPPING,
            ]),
        Route::post("/v1/rules/{rule}/rollback", DEPLOYER, rollback)
            .named("rollbackRule", "The same switch back to what was live before.")
            .writes()
            .takes::<RollbackBody>()
            .json::<Done>(200)
            .json::<Done>(202)
            .refuses(&[RULE, UNDER_WAY, PAUSED, (409, "nothing-before"), TAKEN, MANAGED, BUSY, STOPPING]),
        Route::post("/v1/rules/{rule}/params", DEPLOYER, params)
            .named("setParameters", "The live file with other parameters as a revision, prepared at once.")
            .writes()
            .takes::<ParamsBody>()
            .json::<Done>(200)
            .json::<Done>(202)
            .refuses(&[RULE, REVISION, UNDER_WAY, PAUSED, TOO_MANY, MANAGED, REFUSED, BUSY, STOPPING]),
    ]
}

/// What a command gets from the thread that it runs on.
pub(super) struct Work {
    pub(super) reader: Reader,
    commands: Commands,
    pub(super) asker: Asker,
}

impl Work {
    pub(super) fn submit(&self, command: Command, code: Option<Code>) -> Result<Done, ApiError> {
        Ok(self.commands.submit(command, code, self.asker.clone())?)
    }
}

/// Runs `work` where it may wait.
pub(super) async fn apart<T, F>(api: &Api, asker: Asker, work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(Work) -> Result<T, ApiError> + Send + 'static,
{
    let work_with = Work { reader: api.reader()?, commands: api.commands.clone(), asker };
    let done = tokio::task::spawn_blocking(move || work(work_with)).await;
    done.map_err(|e| ApiError::Internal(e.to_string()))?
}

/// An answer with another status than 200.
pub(super) fn with_status<T: Serialize>(status: StatusCode, answer: &T) -> Answer {
    Ok((status, json(answer)?).into_response())
}

/// 202 while an operation is under way, 200 when nothing is left to do.
pub(super) fn accepted(done: &Done) -> Answer {
    let answer = match done.operation {
        None => json(done),
        Some(id) => {
            let place = [(header::LOCATION, format!("/v1/operations/{id}"))];
            Ok((StatusCode::ACCEPTED, place, json(done)?).into_response())
        }
    };
    tagged(answer, Some(&done.tag))
}

/// Answers on a rule, with its tag.
async fn of_rule<T, F>(api: &Api, rule: String, work: F) -> Answer
where
    T: Serialize,
    F: FnOnce(&Reader, &str) -> Result<T, ApiError> + Send + 'static,
{
    let made =
        move |reader: &Reader| tagged(json(&work(reader, &rule)?), reader.registry.tag(&rule).as_deref());
    answer_as(api, made).await
}

async fn revisions(State(api): Shared, path: Named<String>) -> Answer {
    let Path(rule) = path?;
    of_rule(&api, rule, |reader, rule| {
        let revisions = release::all(reader, rule)?;
        Ok(Revisions { commit: reader.commit(), time: reader.time(), revisions })
    })
    .await
}

async fn revision(State(api): Shared, path: Named<(String, u32)>) -> Answer {
    let Path((rule, number)) = path?;
    of_rule(&api, rule, move |reader, rule| release::one(reader, release::known(reader, rule, number)?)).await
}

/// Compiled code is kept where the next start looks for it.
pub(super) fn engine(reader: &Reader) -> Result<RuleEngine, ApiError> {
    Ok(rule_engine(Some(&reader.about.dir))?)
}

async fn plan(State(api): Shared, path: Named<(String, u32)>) -> Answer {
    let Path((rule, number)) = path?;
    of_rule(&api, rule, move |reader, rule| {
        release::known(reader, rule, number)?;
        release::plan(reader, rule, number)
    })
    .await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    /// The other revision.
    to: u32,
}

async fn diff(State(api): Shared, path: Named<(String, u32)>, query: Asked<DiffQuery>) -> Answer {
    let (Path((rule, number)), Query(DiffQuery { to })) = (path?, query?);
    of_rule(&api, rule, move |reader, rule| {
        release::known(reader, rule, number)?;
        Ok(reader.registry.diff(rule, number, to)?)
    })
    .await
}

/// The code of a revision that is kept in the state.
pub(super) fn code(
    reader: &Reader,
    revision: &Revision,
    given: &BTreeMap<String, Value>,
) -> Result<Loaded, ApiError> {
    Ok(stored_rule(&engine(reader)?, &reader.view, &revision.rule, (&revision.file, given))?)
}

async fn prepare(wish: Wish, path: Named<(String, u32)>) -> Answer {
    let (wish, Path((rule, number))) = (wish?, path?);
    let work = move |work: Work| {
        let revision = release::known(&work.reader, &rule, number)?;
        let prepared = work.reader.registry.generation_of(&rule, number).is_some();
        if !prepared {
            release::check_history(&work.reader, &rule, number)?;
        }
        // What is prepared now may be so no longer when the command is carried out.
        let code = code(&work.reader, revision, &revision.given)?.code();
        work.submit(Command::Prepare { rule, revision: number }, Some(code))
    };
    wish.once(&[], |api, asker| async move { accepted(&apart(&api, asker, work).await?) }).await
}

async fn cancel(wish: Wish, path: Named<(String, u32)>) -> Answer {
    let (wish, Path((rule, revision))) = (wish?, path?);
    let work = move |work: Work| work.submit(Command::Cancel { rule, revision }, None);
    wish.once(&[], |api, asker| async move {
        let done = apart(&api, asker, work).await?;
        tagged(json(&done), Some(&done.tag))
    })
    .await
}

async fn preview(wish: Wish, path: Named<(String, u32)>) -> Answer {
    let (wish, Path((rule, number))) = (wish?, path?);
    let work = move |work: Work| {
        let (found, keep) = release::preview(&work.reader, &rule, number)?;
        Ok((found, work.submit(keep, None)?))
    };
    wish.once(&[], |api, asker| async move {
        let (found, done) = apart(&api, asker, work).await?;
        tagged(json(&found), Some(&done.tag))
    })
    .await
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SampleBody {
    /// Keys to look at, about. Default 10,000.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(min = 1, max = sampled::KEYS_MAX))]
    keys: Option<u32>,
}

/// A whole number however it is written: to JSON Schema 5.0 is an integer.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole, and in range
fn whole<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    match Option::<f64>::deserialize(from)? {
        Some(n) if n.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&n) => Ok(Some(n as u32)),
        Some(n) => Err(serde::de::Error::custom(format!("{n} is no whole number of keys"))),
        None => Ok(None),
    }
}

async fn sample(
    wish: Wish,
    path: Named<(String, u32)>,
    body: Result<JsonBody<SampleBody>, ApiError>,
) -> Answer {
    let (wish, Path((rule, number)), JsonBody(body, sent)) = (wish?, path?, body?);
    let keys = body.keys.unwrap_or(sampled::KEYS_DEFAULT);
    if !(1..=sampled::KEYS_MAX).contains(&keys) {
        return Err(ApiError::BadRequest(format!("keys: 1 to {}", sampled::KEYS_MAX)));
    }
    let work = move |work: Work| {
        let revision = release::known(&work.reader, &rule, number)?;
        let loaded = code(&work.reader, revision, &revision.given)?;
        let seed = work.reader.commit();
        let (found, keep) = sampled::preview(&work.reader, &loaded, (&rule, number), (keys, seed))?;
        Ok((found, work.submit(keep, None)?))
    };
    wish.once(&sent, |api, asker| async move {
        let (found, done) = apart(&api, asker, work).await?;
        tagged(json(&found), Some(&done.tag))
    })
    .await
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ActivateBody {
    /// Id of a preview.
    preview: Option<String>,
    /// How far what changes may have moved since, in percent of what the preview said.
    #[schemars(range(min = 0.0))]
    max_change_percent: Option<f64>,
    /// Who hears of changes alone (`deliver = "changes"`) hears of each key too, in place of one summary.
    #[serde(default)]
    announce: bool,
}

async fn activate(
    wish: Wish,
    path: Named<(String, u32)>,
    body: Result<JsonBody<ActivateBody>, ApiError>,
) -> Answer {
    let (wish, Path((rule, revision)), JsonBody(body, sent)) = (wish?, path?, body?);
    let bound = match (body.preview, body.max_change_percent) {
        (None, None) => None,
        (Some(preview), Some(max)) if max >= 0.0 => Some(Bound { preview, max_change_percent: max }),
        _ => {
            let message = "preview and max_change_percent (0 or more) belong together";
            return Err(ApiError::BadRequest(message.into()));
        }
    };
    let command = Command::Activate { rule, revision, bound, announce: body.announce };
    submitted(wish, &sent, command).await
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct RollbackBody {
    /// Who hears of changes alone (`deliver = "changes"`) hears of each key too, in place of one summary.
    #[serde(default)]
    announce: bool,
}

async fn rollback(wish: Wish, path: Named<String>, body: Result<JsonBody<RollbackBody>, ApiError>) -> Answer {
    let (wish, Path(rule), JsonBody(body, sent)) = (wish?, path?, body?);
    submitted(wish, &sent, Command::Rollback { rule, announce: body.announce }).await
}

/// Submits a command that needs nothing else; `sent` is the body that it came with.
pub(super) async fn submitted(wish: Write, sent: &[u8], command: Command) -> Answer {
    let work = move |work: Work| work.submit(command, None);
    wish.once(sent, |api, asker| async move { accepted(&apart(&api, asker, work).await?) }).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ParamsBody {
    params: BTreeMap<String, Value>,
}

/// The live revision's file under other parameters, as a revision that is prepared at once.
async fn params(wish: Wish, path: Named<String>, body: Result<JsonBody<ParamsBody>, ApiError>) -> Answer {
    let (wish, Path(rule), JsonBody(body, sent)) = (wish?, path?, body?);
    let work = move |work: Work| {
        let live = work.reader.registry.live(&rule).map_or(0, |g| g.revision);
        let revision = release::known(&work.reader, &rule, live)?;
        let mut given = revision.given.clone();
        given.extend(body.params);
        let loaded = code(&work.reader, revision, &given)?;
        let new = loaded.revision(&work.asker.by, &work.asker.why);
        work.submit(Command::Params(Box::new(new)), Some(loaded.code()))
    };
    wish.once(&sent, |api, asker| async move { accepted(&apart(&api, asker, work).await?) }).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    rule: Option<String>,
    #[serde(default)]
    after: u64,
    #[schemars(range(min = 1, max = release::AUDIT_MAX))]
    limit: Option<u32>,
}

async fn audit(State(api): Shared, query: Asked<AuditQuery>) -> Answer {
    let Query(query) = query?;
    answer(&api, move |reader| {
        let limit = limit(query.limit, LINES_DEFAULT, release::AUDIT_MAX)?;
        let lines = release::audit(reader, query.rule.as_deref(), (query.after, limit))?;
        let next = (lines.len() >= limit).then(|| lines.last().map(|l| l.entry.commit)).flatten();
        Ok(AuditPage { commit: reader.commit(), time: reader.time(), lines, next })
    })
    .await
}

async fn operation(State(api): Shared, path: Named<u64>) -> Answer {
    let Path(id) = path?;
    answer(&api, move |reader| operation::by_number(reader, id)).await
}

async fn operations(State(api): Shared) -> Answer {
    answer(&api, |reader| Ok(Operations { commit: reader.commit(), operations: operation::all(reader)? }))
        .await
}
