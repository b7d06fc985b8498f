//! Answers as HTTP: the routes with what each asks for, takes and answers, and errors as `application/problem+json`
//! with a stable code and a hint.
//!
//! A key's labels are read on the thread that serves; whatever may take longer goes to a small pool of threads.

use super::about::About;
use super::access::AccessFile;
use super::aggregates::{Export, Format};
use super::body::ExportBody;
use super::commands::Commands;
use super::error::ApiError;
use super::gate::{Failure, Gate, gate};
use super::idempotency::Idempotency;
use super::labels::{KeyLabels, labels_of};
use super::log::Log;
use super::members::{self, Page};
use super::metrics::{Limit, Metrics};
use super::quarantine::{Order, Question};
use super::reader::{Facts, Reader};
use super::request::{JsonBody, limit};
use super::role::{Access, Role};
use super::route::Route;
use super::{
    adopt, dead_letters, exposition, ofrep, openapi, pause_routes, push_routes, quarantine, release_routes,
    rules, sinks, status, tokens, transitions,
};
use crate::config::HttpConfig;
use crate::pipeline::parts::SharedView;
use crate::state::View;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Most keys in one batch.
const BATCH_KEYS_MAX: usize = 1_000;
/// Uploads at once, each held in memory as a whole.
pub(super) const UPLOADS_MAX: usize = 2;
/// Answers that are being read or wait for a thread at once.
const READS_MAX: usize = 64;
/// Members and entries in an answer where nothing is said.
const LIMIT_DEFAULT: u32 = 100;

/// What all routes share.
pub struct Api {
    shared: SharedView,
    about: Arc<About>,
    facts: Mutex<Facts>,
    exports: Arc<Semaphore>,
    exports_max: usize,
    pub(super) streams: Arc<Semaphore>,
    pub(super) streams_max: usize,
    pub(super) heartbeat: Duration,
    pub(super) reads: Arc<Semaphore>,
    pub(super) uploads: Arc<Semaphore>,
    pub(super) commands: Commands,
    pub(super) idempotency: Idempotency,
    pub(super) access: AccessFile,
    pub(super) metrics: Arc<Metrics>,
    pub(super) log: Log,
    pub(super) body_bytes_max: usize,
    pub(super) upload_bytes_max: usize,
    pub(super) request_timeout: Duration,
}

impl Api {
    /// Answers from the latest view in `shared`, without tokens, within the default limits.
    #[must_use]
    pub fn new(shared: SharedView, about: About) -> Self {
        Self::with(shared, about, AccessFile::none(), &HttpConfig::default())
    }

    /// Answers with the tokens of a state directory, within the limits of `[http]`.
    #[must_use]
    pub fn with(shared: SharedView, about: About, access: AccessFile, http: &HttpConfig) -> Self {
        Self {
            shared,
            about: Arc::new(about),
            facts: Mutex::default(),
            exports: Arc::new(Semaphore::new(http.exports_max)),
            exports_max: http.exports_max,
            streams: Arc::new(Semaphore::new(http.streams_max)),
            streams_max: http.streams_max,
            heartbeat: Duration::from_millis(http.heartbeat_ms),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
            commands: Commands::nowhere(),
            idempotency: Idempotency::default(),
            access,
            metrics: Arc::default(),
            log: Log::default(),
            body_bytes_max: http.body_bytes_max,
            upload_bytes_max: http.upload_bytes_max,
            request_timeout: http.request_timeout(),
        }
    }

    /// With somebody who takes commands.
    #[must_use]
    pub fn with_commands(self, commands: Commands) -> Self {
        Self { commands, ..self }
    }

    /// Counters of the HTTP side.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Tells of later commits.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<View>> {
        self.shared.changes()
    }

    /// The latest durable commit.
    pub(super) fn reader(&self) -> Result<Reader, ApiError> {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.reader(self.shared.get(), &self.about)
    }
}

/// All routes, each with what it asks for.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut routes = reading();
    routes.extend(adopt::routes());
    routes.extend(release_routes::routes());
    routes.extend(push_routes::routes());
    routes.extend(pause_routes::routes());
    routes.extend(transitions::routes());
    routes.extend(sinks::routes());
    routes.extend(dead_letters::routes());
    routes.extend(tokens::routes());
    routes.extend(ofrep::routes());
    routes.extend(openapi::routes());
    routes
}

const VIEWER: Access = Access::Role(Role::Viewer);
const OPERATOR: Access = Access::Role(Role::Operator);
const ENTITY: (u16, &str) = (404, "unknown-entity");
const LABEL: (u16, &str) = (404, "unknown-label");
const VALUE: (u16, &str) = (404, "unknown-value");
const RULE: (u16, &str) = (404, "unknown-rule");
const REBUILDING: (u16, &str) = (503, "rebuilding");
const CURSOR: (u16, &str) = (409, "bad-cursor");

fn reading() -> Vec<Route> {
    vec![
        Route::get("/v1/entities/{entity}/keys/{key}/labels", VIEWER, key_labels)
            .named(
                "getLabels",
                "What a key carries; with `metadata` the state of every label and the aggregates.",
            )
            .query::<LabelsQuery>()
            .json::<KeyLabels>(200)
            .refuses(&[ENTITY, (404, "bad-key"), REBUILDING]),
        Route::post("/v1/entities/{entity}/labels:batchGet", VIEWER, batch)
            .named(
                "batchGetLabels",
                "The same for up to 1,000 keys; a bad key fails its item, never the batch.",
            )
            .takes::<BatchRequest>()
            .json::<BatchAnswer>(200)
            .refuses(&[ENTITY, REBUILDING]),
        Route::get("/v1/labels/{label}/members", VIEWER, label_members)
            .named("listMembers", "Who carries a label.")
            .query::<MembersQuery>()
            .json::<members::Members>(200)
            .refuses(&[LABEL, VALUE, CURSOR, REBUILDING]),
        Route::get("/v1/labels/{label}/count", VIEWER, label_count)
            .named("countMembers", "How many carry a label, in all and by value; reads no keys.")
            .query::<CountQuery>()
            .json::<members::Count>(200)
            .refuses(&[LABEL, VALUE, REBUILDING]),
        Route::get("/v1/labels/{label}/sample", VIEWER, label_sample)
            .named("sampleMembers", "Some who carry a label, chosen at random.")
            .query::<SampleQuery>()
            .json::<members::Members>(200)
            .refuses(&[LABEL, VALUE, REBUILDING]),
        Route::get("/v1/rules", VIEWER, all_rules)
            .named("listRules", "The rules: namespace, generation, revision, parameters, labels with counts.")
            .json::<RulesAnswer>(200),
        Route::get("/v1/rules/{rule}/aggregates", VIEWER, export)
            .named("exportAggregates", "The sums of all keys of a rule, streamed, of one commit.")
            .query::<ExportQuery>()
            .text("text/csv")
            .text("application/x-ndjson")
            .refuses(&[RULE, (503, "busy"), REBUILDING]),
        Route::get("/v1/rules/{rule}/held", VIEWER, held_keys)
            .named("listHeldKeys", "Keys whose labels stand still.")
            .query::<HeldQuery>()
            .json::<members::Members>(200)
            .refuses(&[RULE, CURSOR, REBUILDING]),
        Route::get("/v1/status", VIEWER, whole_status)
            .named("getStatus", "Where the host stands, the worst problem first, each with its next command.")
            .json::<status::StatusAnswer>(200),
        Route::get("/v1/quarantine", OPERATOR, quarantine_list)
            .named("listQuarantine", "Row images that rules refused; values of rows only with `values`.")
            .query::<QuarantineQuery>()
            .json::<quarantine::BadImages>(200)
            .refuses(&[CURSOR]),
        Route::get("/v1/quarantine/{id}", OPERATOR, quarantine_entry)
            .named("getQuarantineEntry", "A row image that a rule refused; with `values` what its row held.")
            .query::<EntryQuery>()
            .json::<quarantine::ListedImage>(200)
            .refuses(&[(404, "unknown-entry")]),
        Route::get("/metrics", VIEWER, metrics)
            .named("getMetrics", "Figures of engine and HTTP side for Prometheus; no keys in them.")
            .text("text/plain"),
        Route::get("/healthz", Access::Open, healthy)
            .named("getHealth", "`ok` while the process serves.")
            .text("text/plain"),
        Route::get("/readyz", Access::Open, ready)
            .named("getReadiness", "Whether the state can be read.")
            .json::<Readiness>(200),
    ]
}

/// The routes as a service.
pub fn router(api: Arc<Api>) -> Router {
    let routes = routes();
    let gate_state = Gate::new(api.clone(), &routes);
    let mut router = Router::new();
    for route in routes {
        router = router.route(route.path, route.handler);
    }
    router
        .fallback(|uri: Uri| async move { ApiError::NoRoute(uri.path().to_owned()) })
        .method_not_allowed_fallback(|method: Method| async move { ApiError::Method(method.to_string()) })
        .layer(middleware::from_fn_with_state(gate_state, gate))
        .with_state(api)
}

pub(super) type Shared = State<Arc<Api>>;
pub(super) type Named<T> = Result<Path<T>, PathRejection>;
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;
pub(super) type Answer = Result<Response, ApiError>;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, title) = self.kind();
        let mut problem = json!({
            "type": "about:blank", "title": title, "status": status,
            "code": code, "detail": self.to_string(), "hint": self.hint(),
        });
        if let (Self::Gone { oldest, .. }, Some(members)) = (&self, problem.as_object_mut()) {
            members.insert("oldest_commit".into(), (*oldest).into());
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, media, problem.to_string()).into_response();
        if let Some((name, value)) = self.header() {
            response.headers_mut().insert(name, value);
        }
        if status.is_server_error() {
            response.extensions_mut().insert(Failure(format!("{code}: {self}")));
        }
        response
    }
}

impl ApiError {
    /// What the answer says in a header: how to authenticate, or when to ask again.
    fn header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        let (name, text) = match self {
            Self::Unauthorized(None) => (header::WWW_AUTHENTICATE, "Bearer realm=\"retag\"".to_owned()),
            Self::Unauthorized(Some(_)) => {
                (header::WWW_AUTHENTICATE, "Bearer realm=\"retag\", error=\"invalid_token\"".to_owned())
            }
            Self::Forbidden { needed, .. } => (
                header::WWW_AUTHENTICATE,
                format!("Bearer realm=\"retag\", error=\"insufficient_scope\", scope=\"{needed}\""),
            ),
            Self::RateLimited { after, .. } => (header::RETRY_AFTER, (after.as_secs() + 1).to_string()),
            Self::Busy { .. } | Self::Timeout(_) => (header::RETRY_AFTER, "1".to_owned()),
            _ => return None,
        };
        Some((name, HeaderValue::try_from(text).ok()?))
    }
}

pub(super) fn json<T: Serialize>(answer: &T) -> Answer {
    let mut bytes = serde_json::to_vec(answer).map_err(|e| ApiError::Internal(e.to_string()))?;
    bytes.push(b'\n');
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// Answers on a thread where reading may block.
pub(super) async fn answer<T, F>(api: &Api, work: F) -> Answer
where
    T: Serialize,
    F: FnOnce(&Reader) -> Result<T, ApiError> + Send + 'static,
{
    answer_as(api, move |reader| json(&work(reader)?)).await
}

/// The same for an answer of another form.
pub(super) async fn answer_as<F>(api: &Api, work: F) -> Answer
where
    F: FnOnce(&Reader) -> Answer + Send + 'static,
{
    // Held until the thread is done, also when nobody waits any more: what is under way is bounded.
    let permit = api.reads.clone().acquire_owned().await;
    let reader = api.reader()?;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work(&reader)
    })
    .await;
    done.map_err(|e| ApiError::Internal(e.to_string()))?
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LabelsQuery {
    #[serde(default)]
    metadata: bool,
}

async fn key_labels(State(api): Shared, path: Named<(String, String)>, query: Asked<LabelsQuery>) -> Answer {
    let (Path((entity, key)), Query(query)) = (path?, query?);
    json(&labels_of(&api.reader()?, &entity, &key, query.metadata)?)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct BatchRequest {
    #[schemars(length(max = 1000))]
    keys: Vec<String>,
    #[serde(default)]
    metadata: bool,
}

#[derive(Serialize, JsonSchema)]
struct BatchAnswer {
    entity: String,
    commit: u64,
    time: String,
    items: Vec<BatchItem>,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum BatchItem {
    Read(Box<KeyLabels>),
    Refused { key: String, code: &'static str, detail: String, hint: &'static str },
}

async fn batch(
    State(api): Shared,
    path: Named<String>,
    body: Result<JsonBody<BatchRequest>, ApiError>,
) -> Answer {
    let (Path(entity), JsonBody(request, _)) = (path?, body?);
    if request.keys.len() > BATCH_KEYS_MAX {
        return Err(ApiError::BadRequest(format!("a batch has at most {BATCH_KEYS_MAX} keys")));
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MembersQuery {
    value: Option<String>,
    #[schemars(range(min = 1, max = members::LIMIT_MAX))]
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn label_members(State(api): Shared, path: Named<String>, query: Asked<MembersQuery>) -> Answer {
    let (Path(label), Query(query)) = (path?, query?);
    let limit = limit(query.limit, LIMIT_DEFAULT, members::LIMIT_MAX)?;
    let page = Page { value: query.value, limit, cursor: query.cursor };
    answer(&api, move |reader| members::list(reader, &label, &page)).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountQuery {
    value: Option<String>,
}

async fn label_count(State(api): Shared, path: Named<String>, query: Asked<CountQuery>) -> Answer {
    let (Path(label), Query(query)) = (path?, query?);
    json(&members::count(&api.reader()?, &label, query.value.as_deref())?)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SampleQuery {
    value: Option<String>,
    size: Option<u32>,
    seed: Option<u64>,
}

async fn label_sample(State(api): Shared, path: Named<String>, query: Asked<SampleQuery>) -> Answer {
    let (Path(label), Query(query)) = (path?, query?);
    answer(&api, move |reader| {
        let (size, seed) =
            (query.size.unwrap_or(LIMIT_DEFAULT) as usize, query.seed.unwrap_or(reader.commit()));
        members::sample(reader, &label, query.value.as_deref(), size, seed)
    })
    .await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HeldQuery {
    status: HeldStatus,
    #[schemars(range(min = 1, max = members::LIMIT_MAX))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum HeldStatus {
    /// A count is negative.
    Pending,
    /// The rule failed.
    Error,
    /// A counted set is too large.
    Overflow,
}

impl HeldStatus {
    const fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Error => "error",
            Self::Overflow => "overflow",
        }
    }
}

async fn held_keys(State(api): Shared, path: Named<String>, query: Asked<HeldQuery>) -> Answer {
    let (Path(rule), Query(query)) = (path?, query?);
    let limit = limit(query.limit, LIMIT_DEFAULT, members::LIMIT_MAX)?;
    let page = Page { value: None, limit, cursor: query.cursor };
    answer(&api, move |reader| members::held(reader, &rule, query.status.name(), &page)).await
}

async fn all_rules(State(api): Shared) -> Answer {
    answer(&api, |reader| {
        let (rules, others) = (rules::all(reader)?, rules::not_live(reader));
        Ok(RulesAnswer { commit: reader.commit(), time: reader.time(), rules, others })
    })
    .await
}

/// The rules.
#[derive(Serialize, JsonSchema)]
struct RulesAnswer {
    /// Commit of the answer.
    commit: u64,
    /// Engine time of the commit, RFC 3339.
    time: String,
    /// By name.
    rules: Vec<rules::RuleAnswer>,
    /// Names of rules that have revisions and are not live.
    others: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    #[serde(default)]
    format: ExportFormat,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ExportFormat {
    /// RFC 4180.
    #[default]
    Csv,
    /// A JSON object a line.
    Ndjson,
}

async fn export(State(api): Shared, path: Named<String>, query: Asked<ExportQuery>) -> Answer {
    let (Path(rule), Query(query)) = (path?, query?);
    let (format, media) = match query.format {
        ExportFormat::Csv => (Format::Csv, "text/csv; charset=utf-8; header=present"),
        ExportFormat::Ndjson => (Format::Ndjson, "application/x-ndjson"),
    };
    let reader = api.reader()?;
    let export = Export::new(&reader, &rule, format)?;
    let permit = api.exports.clone().try_acquire_owned();
    let permit = permit.map_err(|_| {
        api.metrics.limited(Limit::Exports);
        ApiError::Busy { limit: api.exports_max }
    })?;
    let headers =
        [(header::CONTENT_TYPE.as_str(), media.to_owned()), ("retag-commit", reader.commit().to_string())];
    Ok((headers, Body::new(ExportBody::new(export, permit))).into_response())
}

async fn whole_status(State(api): Shared) -> Answer {
    answer(&api, status::of).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct QuarantineQuery {
    rule: Option<String>,
    #[serde(default)]
    order: Order,
    #[schemars(range(min = 1, max = quarantine::LIMIT_MAX))]
    limit: Option<u32>,
    cursor: Option<String>,
    #[serde(default)]
    values: bool,
}

async fn quarantine_list(State(api): Shared, query: Asked<QuarantineQuery>) -> Answer {
    let Query(query) = query?;
    let QuarantineQuery { rule, order, limit: asked, cursor, values } = query;
    let limit = limit(asked, LIMIT_DEFAULT, quarantine::LIMIT_MAX)?;
    let question = Question { rule, order, limit, cursor, values };
    answer(&api, move |reader| quarantine::list(reader, &question)).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntryQuery {
    #[serde(default)]
    values: bool,
}

async fn quarantine_entry(State(api): Shared, path: Named<String>, query: Asked<EntryQuery>) -> Answer {
    let (Path(id), Query(query)) = (path?, query?);
    answer(&api, move |reader| quarantine::show(reader, &id, query.values)).await
}

async fn metrics(State(api): Shared) -> Answer {
    let (reader, http) = (api.reader()?, api.metrics.clone());
    let kept = (api.idempotency.len(), api.streams_max - api.streams.available_permits());
    let permit = api.reads.clone().acquire_owned().await;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let (status, time_us) = (status::of(&reader)?, reader.view.engine_time());
        let swap_times = reader.about.swap_times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok::<_, ApiError>(exposition::text(&status, time_us, &http, kept, &swap_times))
    });
    let text = done.await.map_err(|e| ApiError::Internal(e.to_string()))??;
    Ok(([(header::CONTENT_TYPE, exposition::MEDIA)], text).into_response())
}

async fn healthy() -> &'static str {
    "ok\n"
}

/// Whether the state can be read.
#[derive(Serialize, JsonSchema)]
struct Readiness {
    /// It can.
    ready: bool,
    /// The latest commit.
    commit: u64,
}

/// Ready = the state can be read.
async fn ready(State(api): Shared) -> Answer {
    json(&Readiness { ready: true, commit: api.reader()?.commit() })
}
