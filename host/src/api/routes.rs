//! Answers as HTTP: routes, parameters, and errors as `application/problem+json` with a stable code and a hint.
//!
//! A key's labels are read on the thread that serves; whatever may take longer goes to a small pool of threads.

use super::about::About;
use super::aggregates::{Export, Format};
use super::body::ExportBody;
use super::error::ApiError;
use super::labels::{KeyLabels, labels_of};
use super::members::{self, Page};
use super::reader::Reader;
use super::{quarantine, rules, status};
use crate::pipeline::parts::SharedView;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Largest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest wait for a request's body.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// Most keys in one batch.
const BATCH_KEYS_MAX: usize = 1_000;
/// Most exports at once.
const EXPORTS_MAX: usize = 4;
/// Members and entries in an answer where nothing is said.
const LIMIT_DEFAULT: usize = 100;

/// What all routes share.
pub struct Api {
    shared: SharedView,
    about: Arc<About>,
    /// The last reader's facts, by commit: never its view, for views are held for answers only.
    facts: Mutex<Option<Facts>>,
    exports: Arc<Semaphore>,
}

struct Facts {
    commit: u64,
    registry: Arc<crate::registry::Registry>,
    positions: Arc<crate::pipeline::rows::Positions>,
}

impl Api {
    /// Answers from the latest view in `shared`.
    #[must_use]
    pub fn new(shared: SharedView, about: About) -> Self {
        let exports = Arc::new(Semaphore::new(EXPORTS_MAX));
        Self { shared, about: Arc::new(about), facts: Mutex::new(None), exports }
    }

    /// The latest durable commit.
    fn reader(&self) -> Result<Reader, ApiError> {
        let view = self.shared.get();
        let commit = view.commit();
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Facts { registry, positions, .. }) = facts.as_ref().filter(|f| f.commit == commit) {
            let (registry, positions, about) = (registry.clone(), positions.clone(), self.about.clone());
            return Ok(Reader { view, registry, positions, about });
        }
        let reader = Reader::new(view, self.about.clone())?;
        let (registry, positions) = (reader.registry.clone(), reader.positions.clone());
        *facts = Some(Facts { commit, registry, positions });
        Ok(reader)
    }
}

/// All routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/entities/{entity}/keys/{key}/labels", get(key_labels))
        .route("/v1/entities/{entity}/labels:batchGet", post(batch))
        .route("/v1/labels/{label}/members", get(label_members))
        .route("/v1/labels/{label}/count", get(label_count))
        .route("/v1/labels/{label}/sample", get(label_sample))
        .route("/v1/rules", get(all_rules))
        .route("/v1/rules/{rule}/aggregates", get(export))
        .route("/v1/rules/{rule}/held", get(held_keys))
        .route("/v1/status", get(whole_status))
        .route("/v1/quarantine", get(quarantine_list))
        .route("/v1/quarantine/{id}", get(quarantine_entry))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .fallback(|uri: Uri| async move { ApiError::NoRoute(uri.path().to_owned()) })
        .method_not_allowed_fallback(|method: Method| async move { ApiError::Method(method.to_string()) })
        .with_state(Arc::new(api))
}

type Shared = State<Arc<Api>>;
type Named<T> = Result<Path<T>, PathRejection>;
type Asked<T> = Result<Query<T>, QueryRejection>;
type Answer = Result<Response, ApiError>;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, title) = self.kind();
        let problem = json!({
            "type": "about:blank", "title": title, "status": status,
            "code": code, "detail": self.to_string(), "hint": self.hint(),
        });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

fn json<T: Serialize>(answer: &T) -> Answer {
    let mut bytes = serde_json::to_vec(answer).map_err(|e| ApiError::Internal(e.to_string()))?;
    bytes.push(b'\n');
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// Answers on a thread where reading may block.
async fn answer<T, F>(api: &Api, work: F) -> Answer
where
    T: Serialize,
    F: FnOnce(&Reader) -> Result<T, ApiError> + Send + 'static,
{
    let reader = api.reader()?;
    let done = tokio::task::spawn_blocking(move || json(&work(&reader)?)).await;
    done.map_err(|e| ApiError::Internal(e.to_string()))?
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelsQuery {
    #[serde(default)]
    metadata: bool,
}

async fn key_labels(State(api): Shared, path: Named<(String, String)>, query: Asked<LabelsQuery>) -> Answer {
    let (Path((entity, key)), Query(query)) = (path?, query?);
    json(&labels_of(&api.reader()?, &entity, &key, query.metadata)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchRequest {
    keys: Vec<String>,
    #[serde(default)]
    metadata: bool,
}

#[derive(Serialize)]
struct BatchAnswer {
    entity: String,
    commit: u64,
    time: String,
    items: Vec<BatchItem>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum BatchItem {
    Read(Box<KeyLabels>),
    Refused { key: String, code: &'static str, detail: String, hint: &'static str },
}

async fn batch(State(api): Shared, path: Named<String>, body: Body) -> Answer {
    let Path(entity) = path?;
    let bytes = whole(body).await?;
    let request: BatchRequest =
        serde_json::from_slice(&bytes).map_err(|e| ApiError::BadRequest(format!("body: {e}")))?;
    if request.keys.len() > BATCH_KEYS_MAX {
        return Err(ApiError::TooLarge(format!("a batch has at most {BATCH_KEYS_MAX} keys")));
    }
    answer(&api, move |reader| {
        reader.entity(&entity)?;
        let item = |key: String| match labels_of(reader, &entity, &key, request.metadata) {
            Ok(labels) => BatchItem::Read(Box::new(labels)),
            Err(error) => BatchItem::Refused {
                key,
                code: error.kind().1,
                detail: error.to_string(),
                hint: error.hint(),
            },
        };
        let items = request.keys.into_iter().map(item).collect();
        Ok(BatchAnswer { entity: entity.clone(), commit: reader.commit(), time: reader.time(), items })
    })
    .await
}

/// The whole body, if it is not too large and comes in time.
async fn whole(body: Body) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(BODY_WAIT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await;
    let read = read.map_err(|_| ApiError::BadRequest("the body did not come in time".into()))?;
    read.map_err(|error| {
        let source = std::error::Error::source(&error);
        if source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
            ApiError::TooLarge(format!("a body has at most {BODY_BYTES_MAX} bytes"))
        } else {
            ApiError::BadRequest(format!("the body does not read: {error}"))
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MembersQuery {
    value: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn label_members(State(api): Shared, path: Named<String>, query: Asked<MembersQuery>) -> Answer {
    let (Path(label), Query(query)) = (path?, query?);
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    let page = Page { value: query.value, limit, cursor: query.cursor };
    answer(&api, move |reader| members::list(reader, &label, &page)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CountQuery {
    value: Option<String>,
}

async fn label_count(State(api): Shared, path: Named<String>, query: Asked<CountQuery>) -> Answer {
    let (Path(label), Query(query)) = (path?, query?);
    json(&members::count(&api.reader()?, &label, query.value.as_deref())?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleQuery {
    value: Option<String>,
    size: Option<usize>,
    seed: Option<u64>,
}

async fn label_sample(State(api): Shared, path: Named<String>, query: Asked<SampleQuery>) -> Answer {
    let (Path(label), Query(query)) = (path?, query?);
    answer(&api, move |reader| {
        let (size, seed) = (query.size.unwrap_or(LIMIT_DEFAULT), query.seed.unwrap_or(reader.commit()));
        members::sample(reader, &label, query.value.as_deref(), size, seed)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldQuery {
    status: String,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn held_keys(State(api): Shared, path: Named<String>, query: Asked<HeldQuery>) -> Answer {
    let (Path(rule), Query(query)) = (path?, query?);
    let page = Page { value: None, limit: query.limit.unwrap_or(LIMIT_DEFAULT), cursor: query.cursor };
    answer(&api, move |reader| members::held(reader, &rule, &query.status, &page)).await
}

async fn all_rules(State(api): Shared) -> Answer {
    answer(&api, |reader| {
        Ok(json!({ "commit": reader.commit(), "time": reader.time(), "rules": rules::all(reader)? }))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    #[serde(default = "csv")]
    format: String,
}

fn csv() -> String {
    "csv".into()
}

async fn export(State(api): Shared, path: Named<String>, query: Asked<ExportQuery>) -> Answer {
    let (Path(rule), Query(query)) = (path?, query?);
    let (format, media) = match query.format.as_str() {
        "csv" => (Format::Csv, "text/csv; charset=utf-8; header=present"),
        "ndjson" => (Format::Ndjson, "application/x-ndjson"),
        other => return Err(ApiError::BadRequest(format!("format `{other}`: csv or ndjson is expected"))),
    };
    let reader = api.reader()?;
    let export = Export::new(&reader, &rule, format)?;
    let permit = api.exports.clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::Busy { limit: EXPORTS_MAX })?;
    let headers =
        [(header::CONTENT_TYPE.as_str(), media.to_owned()), ("retag-commit", reader.commit().to_string())];
    Ok((headers, Body::new(ExportBody::new(export, permit))).into_response())
}

async fn whole_status(State(api): Shared) -> Answer {
    answer(&api, status::of).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuarantineQuery {
    rule: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn quarantine_list(State(api): Shared, query: Asked<QuarantineQuery>) -> Answer {
    let Query(query) = query?;
    answer(&api, move |reader| {
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
        quarantine::list(reader, query.rule.as_deref(), limit, query.cursor.as_deref())
    })
    .await
}

async fn quarantine_entry(State(api): Shared, path: Named<String>) -> Answer {
    let Path(id) = path?;
    answer(&api, move |reader| quarantine::show(reader, &id)).await
}

async fn healthy() -> &'static str {
    "ok\n"
}

/// Ready = the state can be read.
async fn ready(State(api): Shared) -> Answer {
    json(&json!({ "ready": true, "commit": api.reader()?.commit() }))
}
