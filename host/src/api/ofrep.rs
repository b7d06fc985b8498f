//! Labels as feature flags by the OpenFeature Remote Evaluation Protocol, <https://github.com/open-feature/protocol>
//! (0.2): a label is a flag, `context.targetingKey` the key, the entity is that of the label's rule.
//!
//! A flag without values is a boolean; a label with values is a string, and has no value where the key does not carry
//! it, so that the caller's own default counts. A label whose answer may be wrong or stands still has reason `STALE`.

use super::error::ApiError;
use super::labels::{KeyLabels, LabelStatus, labels_of};
use super::precondition::{etag, is_known};
use super::reader::Reader;
use super::request::JsonBody;
use super::role::{Access, Role};
use super::route::Route;
use super::routes::{Answer, Named, Shared, answer};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const VIEWER: Access = Access::Role(Role::Viewer);

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/ofrep/v1/evaluate/flags/{label}", VIEWER, one)
            .named("evaluateFlag", "A label of a key as a feature flag (OFREP).")
            .takes::<EvaluationRequest>()
            .json::<Flag>(200)
            .refuses(&[(503, "rebuilding")])
            .refuses_as::<FlagError>(400)
            .refuses_as::<FlagError>(404),
        Route::post("/ofrep/v1/evaluate/flags", VIEWER, all)
            .named("evaluateFlags", "All labels of a key as feature flags (OFREP).")
            .takes::<EvaluationRequest>()
            .reads_headers(&["If-None-Match"])
            .json::<Flags>(200)
            .empty(304)
            .refuses(&[(503, "rebuilding")])
            .refuses_as::<BulkError>(400),
    ]
}

/// For whom flags are evaluated.
#[derive(JsonSchema)]
#[allow(dead_code)] // says what is taken; it is read by hand, for OFREP names each mistake
struct EvaluationRequest {
    context: EvaluationContext,
}

#[derive(JsonSchema)]
#[allow(dead_code)]
struct EvaluationContext {
    /// The key as text.
    #[serde(rename = "targetingKey")]
    targeting_key: String,
    #[serde(flatten)]
    attributes: Map<String, Value>,
}

/// A flag.
#[derive(Debug, Serialize, JsonSchema)]
struct Flag {
    /// The label.
    key: String,
    /// `true` or `false`, or the value's name; absent where a label with values is not carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// The same as text; `absent` where there is none.
    variant: String,
    reason: Reason,
    metadata: FlagMetadata,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Reason {
    /// The key carries the label.
    TargetingMatch,
    /// It does not.
    Default,
    /// The answer may be wrong, or stands still.
    Stale,
}

#[derive(Debug, Serialize, JsonSchema)]
struct FlagMetadata {
    entity: String,
    rule: String,
    revision: u32,
    status: LabelStatus,
}

/// Why a flag has no value.
#[derive(Debug, Serialize, JsonSchema)]
struct FlagError {
    /// The label.
    key: String,
    #[serde(flatten)]
    error: BulkError,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct BulkError {
    error_code: ErrorCode,
    error_details: String,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ErrorCode {
    ParseError,
    TargetingKeyMissing,
    InvalidContext,
    FlagNotFound,
}

/// All flags.
#[derive(Debug, Serialize, JsonSchema)]
struct Flags {
    flags: Vec<FlagOrError>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum FlagOrError {
    Flag(Flag),
    Error(FlagError),
}

impl BulkError {
    fn new(error_code: ErrorCode, error_details: impl Into<String>) -> Self {
        Self { error_code, error_details: error_details.into() }
    }
}

/// The key that is asked for.
fn targeting_key(body: Result<JsonBody<Value>, ApiError>) -> Result<Result<String, BulkError>, ApiError> {
    let body = match body {
        Ok(JsonBody(body, _)) => body,
        Err(ApiError::BadRequest(said)) => return Ok(Err(BulkError::new(ErrorCode::ParseError, said))),
        Err(other) => return Err(other),
    };
    let Some(context) = body.get("context").and_then(Value::as_object) else {
        let said = "the body is an object with an object `context`";
        return Ok(Err(BulkError::new(ErrorCode::InvalidContext, said)));
    };
    Ok(match context.get("targetingKey") {
        Some(Value::String(key)) => Ok(key.clone()),
        None => {
            Err(BulkError::new(ErrorCode::TargetingKeyMissing, "context.targetingKey is the key as text"))
        }
        Some(_) => Err(BulkError::new(ErrorCode::InvalidContext, "context.targetingKey is text")),
    })
}

fn refused(status: StatusCode, key: String, error: BulkError) -> Answer {
    Ok((status, axum::Json(FlagError { key, error })).into_response())
}

async fn one(State(api): Shared, path: Named<String>, body: Result<JsonBody<Value>, ApiError>) -> Answer {
    let Path(label) = path?;
    let key = match targeting_key(body)? {
        Ok(key) => key,
        Err(error) => return refused(StatusCode::BAD_REQUEST, label, error),
    };
    let reader = api.reader()?;
    let entity = match reader.label(&label) {
        Ok(found) => found.entity.name.clone(),
        Err(error @ ApiError::UnknownLabel { .. }) => {
            let error = BulkError::new(ErrorCode::FlagNotFound, error.to_string());
            return refused(StatusCode::NOT_FOUND, label, error);
        }
        Err(other) => return Err(other),
    };
    match labels_of(&reader, &entity, &key, true) {
        Ok(labels) => {
            let has_values = labels_with_values(&reader);
            let flag = labels.metadata.iter().flatten().find(|(name, _)| **name == label);
            let (name, about) = flag.ok_or(ApiError::Damaged("the labels of an entity"))?;
            Ok(axum::Json(flag_of(&labels, name, about, has_values.contains(name.as_str()))).into_response())
        }
        Err(ApiError::BadKey { reason, .. }) => {
            let said = format!("context.targetingKey is no key of entity {entity}: {reason}");
            refused(StatusCode::BAD_REQUEST, label, BulkError::new(ErrorCode::InvalidContext, said))
        }
        Err(other) => Err(other),
    }
}

async fn all(State(api): Shared, headers: HeaderMap, body: Result<JsonBody<Value>, ApiError>) -> Answer {
    let key = match targeting_key(body)? {
        Ok(key) => key,
        Err(error) => return Ok((StatusCode::BAD_REQUEST, axum::Json(error)).into_response()),
    };
    let response = answer(&api, move |reader| flags(reader, &key)).await?;
    let (mut parts, body) = response.into_parts();
    let bytes =
        axum::body::to_bytes(body, usize::MAX).await.map_err(|e| ApiError::Internal(e.to_string()))?;
    let tag = etag(&bytes);
    let cached = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "private, no-cache".to_owned())];
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    for (name, value) in cached {
        parts
            .headers
            .insert(name, HeaderValue::try_from(value).map_err(|e| ApiError::Internal(e.to_string()))?);
    }
    Ok((parts, bytes).into_response())
}

/// All labels, entity by entity. Nothing in it names the commit, so that the same flags have the same tag.
fn flags(reader: &Reader, key: &str) -> Result<Flags, ApiError> {
    let has_values = labels_with_values(reader);
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for generation in reader.live() {
        if let Some((_, entity)) = reader.registry.entity_of(generation.namespace) {
            names.entry(&entity.name).or_default().extend(generation.labels.iter().map(|l| l.name.as_str()));
        }
    }
    let mut flags = Vec::new();
    for (entity, labels) in names {
        match labels_of(reader, entity, key, true) {
            Ok(found) => flags.extend(found.metadata.iter().flatten().map(|(name, about)| {
                FlagOrError::Flag(flag_of(&found, name, about, has_values.contains(name.as_str())))
            })),
            Err(ApiError::BadKey { reason, .. }) => {
                let said = format!("context.targetingKey is no key of entity {entity}: {reason}");
                let error = BulkError::new(ErrorCode::InvalidContext, said);
                flags.extend(labels.into_iter().map(|label| {
                    FlagOrError::Error(FlagError { key: label.to_owned(), error: error.clone() })
                }));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(Flags { flags })
}

fn labels_with_values(reader: &Reader) -> std::collections::BTreeSet<&str> {
    let labels = reader.live().flat_map(|generation| &generation.labels);
    labels.filter(|label| !label.values.is_empty()).map(|label| label.name.as_str()).collect()
}

fn flag_of(labels: &KeyLabels, name: &str, about: &super::labels::Metadata, has_values: bool) -> Flag {
    let carried = labels.labels.get(name);
    let value = match (carried, has_values) {
        (Some(value), _) => Some(value.clone()),
        (None, true) => None,
        (None, false) => Some(Value::Bool(false)),
    };
    let variant = match &value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "absent".to_owned(),
    };
    let reason = match about.status {
        LabelStatus::Present => Reason::TargetingMatch,
        LabelStatus::Absent | LabelStatus::UnknownKey => Reason::Default,
        LabelStatus::Warming | LabelStatus::Stale | LabelStatus::Pending | LabelStatus::Error => {
            Reason::Stale
        }
    };
    let metadata = FlagMetadata {
        entity: labels.entity.clone(),
        rule: about.rule.clone(),
        revision: about.revision,
        status: about.status,
    };
    Flag { key: name.to_owned(), value, variant, reason, metadata }
}
