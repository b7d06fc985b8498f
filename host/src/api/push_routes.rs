//! Routes that take rule files: what a file would change, and the upload that keeps it as a revision.
//!
//! Files are compiled and checked on a thread of their own, two at once.

use super::error::ApiError;
use super::reader::Reader;
use super::release::{self, FilePlan, Pushed};
use super::release_routes::{BUSY, Work, apart, engine, with_status};
use super::request::Upload;
use super::role::{Access, Role};
use super::route::Route;
use super::routes::{Answer, Api, Asked, Named, Shared, json};
use super::write::{Why, Write, tagged};
use crate::pipeline::rules::load;
use crate::registry::Revision;
use crate::registry::command::{Asker, Command};
use crate::rule::RuleFile;
use crate::rule::limits::RULE_FILE_BYTES_MAX;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const DEPLOYER: Access = Access::Role(Role::Deployer);
const REFUSED: (u16, &str) = (422, "rule-refused");

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/rules/{rule}/plan", DEPLOYER, plan)
            .named("planFile", "What a rule file with parameters would change; keeps nothing of it.")
            .query::<PlanQuery>()
            .takes_upload()
            .json::<FilePlan>(200)
            .refuses(&[REFUSED, BUSY]),
        Route::post("/v1/rules/{rule}/revisions", DEPLOYER, push)
            .named("pushRevision", "Uploads a rule file; nothing that consumers read changes.")
            .writes()
            .query::<PushQuery>()
            .takes_upload()
            .json::<Pushed>(200)
            .json::<Pushed>(201)
            .refuses(&[
                (409, "too-many-revisions"),
                (409, "managed-by-config"),
                REFUSED,
                BUSY,
                (503, "stopping"),
            ]),
    ]
}

/// Parameters by name.
type Params = BTreeMap<String, Value>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PlanQuery {
    /// As at `POST /v1/rules/{rule}/revisions`.
    #[schemars(extend("contentSchema" = { "type": "object" }))]
    params: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PushQuery {
    /// Why, for the audit.
    #[serde(default)]
    reason: String,
    /// It brings in what the configuration says, as `retag apply` does.
    #[serde(default)]
    apply: bool,
    /// These parameters, an object of JSON, and the rule's defaults for all others. Absent = those of the live revision, as far
    /// as the file has them.
    #[schemars(extend("contentSchema" = { "type": "object" }))]
    params: Option<String>,
}

/// Who pushes, and with which parameters.
struct Push(Write, Option<Params>);

impl FromRequestParts<Arc<Api>> for Push {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let Query(PushQuery { reason, apply, params }) = Query::try_from_uri(&parts.uri)?;
        Ok(Self(Write::of(parts, api, Why::new(reason, apply)), read(params)?))
    }
}

/// What `params` of a query says.
fn read(params: Option<String>) -> Result<Option<Params>, ApiError> {
    let bad = |_| ApiError::BadRequest("params: no object of JSON".into());
    params.map(|text| serde_json::from_str(&text).map_err(bad)).transpose()
}

fn is_small(upload: &Upload) -> Result<(), ApiError> {
    if upload.bytes.len() <= RULE_FILE_BYTES_MAX {
        return Ok(());
    }
    Err(ApiError::TooLarge(format!("a rule file has at most {RULE_FILE_BYTES_MAX} bytes")))
}

/// A file as the revision that it would be.
fn revision(work: &Work, rule: &str, (bytes, given): (&[u8], Option<Params>)) -> Result<Revision, ApiError> {
    let engine = engine(&work.reader)?;
    let given = given.unwrap_or_else(|| inherited(&work.reader, rule, bytes));
    let loaded = load(&engine, rule, (PathBuf::from("the upload"), bytes.to_vec()), &given)?;
    Ok(loaded.revision(&work.asker.by, &work.asker.why))
}

/// The live revision's parameters, as far as the new file has them too.
fn inherited(reader: &Reader, rule: &str, bytes: &[u8]) -> Params {
    let live = reader.registry.live(rule).map(|g| g.given.clone()).unwrap_or_default();
    let Ok(file) = RuleFile::read(bytes) else { return live };
    let known = |name: &String| file.manifest.params.iter().any(|p| p.name == *name);
    live.into_iter().filter(|(name, _)| known(name)).collect()
}

async fn plan(
    State(api): Shared,
    path: Named<String>,
    query: Asked<PlanQuery>,
    upload: Result<Upload, ApiError>,
) -> Answer {
    let (Path(rule), Query(query), upload) = (path?, query?, upload?);
    is_small(&upload)?;
    let params = read(query.params)?;
    let planned = apart(&api, Asker::default(), move |work| {
        let revision = revision(&work, &rule, (&upload.bytes, params))?;
        release::plan_of(&work.reader, revision)
    });
    json(&planned.await?)
}

/// 201 for a new revision, 200 for bytes that one has already with the same parameters.
async fn push(wish: Result<Push, ApiError>, path: Named<String>, upload: Result<Upload, ApiError>) -> Answer {
    let (Push(wish, params), Path(rule), upload) = (wish?, path?, upload?);
    is_small(&upload)?;
    let sent = upload.bytes.clone();
    wish.once(&sent, move |api, asker| keep(api, asker, (rule, params), upload)).await
}

async fn keep(
    api: Arc<Api>,
    asker: Asker,
    (rule, params): (String, Option<Params>),
    upload: Upload,
) -> Answer {
    let done = apart(&api, asker, move |work| {
        let revision = revision(&work, &rule, (&upload.bytes, params))?;
        work.submit(Command::Push(Box::new(revision), Arc::new(upload.bytes.to_vec())), None)
    })
    .await?;
    let reader = api.reader()?;
    let revision = release::known(&reader, &done.rule, done.revision)?;
    let found = release::one(&reader, revision)?;
    let plan = release::plan(&reader, &done.rule, done.revision)?;
    let status = if done.changed { StatusCode::CREATED } else { StatusCode::OK };
    let answer = with_status(status, &Pushed { created: done.changed, revision: found, plan });
    tagged(answer, Some(&done.tag))
}
