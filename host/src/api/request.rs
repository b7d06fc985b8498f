//! What handlers take from a request: bodies within their limits and time, read as what they are to be.

use super::error::ApiError;
use super::metrics::Limit;
use super::routes::{Api, UPLOADS_MAX};
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How long the body of this request may take; put into its extensions by the gate.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyTime(pub(super) Duration);

/// A body of JSON of at most `http.body_bytes_max` bytes: as it reads, and as it came.
pub(super) struct JsonBody<T>(pub(super) T, pub(super) Bytes);

/// A file of at most `http.upload_bytes_max` bytes. So few at once as it has places for in memory: it keeps its place.
#[derive(Debug)]
pub struct Upload {
    /// The file.
    pub bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        // Not sent at all is taken as JSON: only what says that it is something else is refused.
        let media = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let essence = media.and_then(|media| media.split(|b| *b == b';').next()).map(<[u8]>::trim_ascii);
        if essence.is_some_and(|essence| !essence.eq_ignore_ascii_case(b"application/json")) {
            return Err(ApiError::MediaType { expected: "application/json" });
        }
        let bytes = whole(request, api, api.body_bytes_max, Limit::BodyBytes).await?;
        // A list would be read as an object's members by their place, which no schema says.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(ApiError::BadRequest("body: a list, where an object is expected".into()));
        }
        // Nothing at all is an object without members, so that `curl -X POST` does where none is required.
        let read = serde_json::from_slice(if bytes.is_empty() { b"{}" } else { &bytes });
        match read {
            Ok(read) => Ok(Self(read, bytes)),
            Err(error) => Err(ApiError::BadRequest(format!("body: {}", without_values(&error)))),
        }
    }
}

impl FromRequest<Arc<Api>> for Upload {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, ApiError> {
        let place = api.uploads.clone().try_acquire_owned();
        let _place = place.map_err(|_| ApiError::Busy { limit: UPLOADS_MAX })?;
        let bytes = whole(request, api, api.upload_bytes_max, Limit::UploadBytes).await?;
        Ok(Self { bytes, _place })
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest(format!("the path is not understood: {}", what(&rejection.body_text())))
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::BadRequest(format!("the query is not understood: {}", what(&rejection.body_text())))
    }
}

/// What is wrong, without the words of who found it.
fn what(text: &str) -> &str {
    text.strip_prefix("Failed to deserialize query string: ")
        .unwrap_or(text)
        .trim_start_matches("Invalid URL: ")
}

/// How much of a list is asked for: 1 to `max`.
pub(super) fn limit(asked: Option<u32>, default: u32, max: usize) -> Result<usize, ApiError> {
    let limit = asked.unwrap_or(default) as usize;
    if (1..=max).contains(&limit) {
        Ok(limit)
    } else {
        Err(ApiError::BadRequest(format!("limit: 1 to {max}")))
    }
}

/// What is wrong with JSON and where.
fn without_values(error: &serde_json::Error) -> String {
    error.to_string().chars().take(200).collect()
}

/// The whole body, if it is not too large and comes in time. A length that is said is believed before a byte is read.
async fn whole(request: Request, api: &Api, bytes_max: usize, limit: Limit) -> Result<Bytes, ApiError> {
    let too_large = || {
        api.metrics.limited(limit);
        ApiError::TooLarge(format!("a body has at most {bytes_max} bytes here"))
    };
    if said_length(request.headers()).is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large());
    }
    let time = request.extensions().get::<BodyTime>().map_or(api.request_timeout, |time| time.0);
    let read = tokio::time::timeout(time, axum::body::to_bytes(request.into_body(), bytes_max)).await;
    let read = read.map_err(|_| {
        api.metrics.limited(Limit::RequestTimeout);
        ApiError::SlowBody(time)
    })?;
    read.map_err(|error| {
        let source = std::error::Error::source(&error);
        if source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
            too_large()
        } else {
            ApiError::BadRequest("the body broke off".into())
        }
    })
}

fn said_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
