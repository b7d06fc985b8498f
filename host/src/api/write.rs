//! What a route that changes a rule takes of a request: who asks and why, what they have seen of the rule (`If-Match`), and
//! a key under which the same request is done once (`Idempotency-Key`).
//!
//! With a key the work goes on when its caller goes away, and its answer waits for whoever asks again.

use super::caller::Caller;
use super::error::ApiError;
use super::idempotency::{Ask, Kept};
use super::precondition::if_match;
use super::routes::{Answer, Api};
use crate::clock::moment;
use crate::registry::command::Asker;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Why something is changed, and on whose behalf.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Why {
    /// Why, for the audit.
    #[serde(default)]
    reason: String,
    /// It brings in what the configuration says, as `retag apply` does: where `registry.manage = "config"`, releases change by
    /// nothing else. The audit says so.
    #[serde(default)]
    apply: bool,
}

impl Why {
    pub(super) const fn new(reason: String, apply: bool) -> Self {
        Self { reason, apply }
    }
}

/// A request to change something.
pub(super) struct Write {
    api: Arc<Api>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    asker: Asker,
}

impl FromRequestParts<Arc<Api>> for Write {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let Query(why) = Query::try_from_uri(&parts.uri)?;
        Ok(Self::of(parts, api, why))
    }
}

impl Write {
    /// What the head of a request says.
    pub(super) fn of(parts: &Parts, api: &Arc<Api>, Why { reason, apply }: Why) -> Self {
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or(Caller::Nobody);
        let seen = if_match(&parts.headers);
        let asker = Asker { by: caller.who(), why: reason, seen, applies: apply };
        Self { api: api.clone(), caller, uri: parts.uri.clone(), headers: parts.headers.clone(), asker }
    }

    /// Does the work, once where the request has a key.
    pub(super) async fn once<F, W>(self, body: &[u8], work: W) -> Answer
    where
        F: Future<Output = Answer> + Send + 'static,
        W: FnOnce(Arc<Api>, Asker) -> F,
    {
        let Self { api, caller, uri, headers, asker } = self;
        let said = (uri.query().unwrap_or_default(), body);
        let doing = match api.idempotency.ask(&caller, uri.path(), &headers, said, moment())? {
            Ask::Plain => return work(api, asker).await,
            Ask::Again(kept) => return Ok(kept.into_response()),
            Ask::New(doing) => doing,
        };
        let work = work(api, asker);
        let done = tokio::spawn(async move {
            let (head, body) = work.await?.into_parts();
            let body = to_bytes(body, usize::MAX).await.map_err(|e| ApiError::Internal(e.to_string()))?;
            let kept = Kept { status: head.status, headers: head.headers, body };
            doing.done(kept.clone());
            Ok(kept.into_response())
        });
        done.await.map_err(|e| ApiError::Internal(e.to_string()))?
    }
}

impl IntoResponse for Kept {
    fn into_response(self) -> Response {
        (self.status, self.headers, Body::from(self.body)).into_response()
    }
}

/// An answer with a rule's entity tag.
pub(super) fn tagged(answer: Answer, tag: Option<&str>) -> Answer {
    let mut response = answer?;
    if let Some(tag) = tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
