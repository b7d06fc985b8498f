//! Tokens over HTTP: made, listed, revoked, by admins alone. The answer to making one is the only place it is shown.

use super::access::{About, NAME_CHARS_MAX, NewToken};
use super::caller::Caller;
use super::error::ApiError;
use super::request::JsonBody;
use super::role::{Access, Role};
use super::route::Route;
use super::routes::{Answer, Named, Shared, json};
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

const ADMIN: Access = Access::Role(Role::Admin);
/// Longest life of a token that ends by itself: ten years.
const LIFE_S_MAX: u32 = 315_360_000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/tokens", ADMIN, list)
            .named("listTokens", "All tokens that were ever made, without their secrets.")
            .json::<Tokens>(200),
        Route::post("/v1/tokens", ADMIN, create)
            .named("createToken", "Makes a token. It is shown in this answer and never again.")
            .takes::<NewTokenRequest>()
            .json::<NewToken>(201)
            .refuses(&[(409, "too-many-tokens"), (500, "access")]),
        Route::post("/v1/tokens/{id}/revoke", ADMIN, revoke)
            .named("revokeToken", "Takes a token's rights away, at once and for good.")
            .json::<About>(200)
            .refuses(&[(404, "unknown-token"), (409, "own-token"), (500, "access")]),
    ]
}

/// All tokens.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// The oldest first.
    pub tokens: Vec<About>,
}

/// What a token is to be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct NewTokenRequest {
    /// What it allows.
    pub role: Role,
    /// What people call it.
    #[serde(default)]
    #[schemars(length(max = NAME_CHARS_MAX), regex(pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$"))]
    pub name: String,
    /// Seconds until it ends by itself; none = it does not.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(min = 1, max = LIFE_S_MAX))]
    pub expires_s: Option<u32>,
}

/// A whole number; in JSON 5.0 is one too.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(from)? else { return Ok(None) };
    let text = number.to_string();
    let whole = text.strip_suffix(".0").unwrap_or(&text).parse();
    whole.map(Some).map_err(|_| D::Error::custom("a whole number is expected"))
}

async fn list(State(api): Shared) -> Answer {
    json(&Tokens { tokens: api.access.all() })
}

async fn create(
    State(api): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<JsonBody<NewTokenRequest>, ApiError>,
) -> Answer {
    let JsonBody(NewTokenRequest { role, name, expires_s }, _) = body?;
    if expires_s.is_some_and(|s| s == 0 || s > LIFE_S_MAX) {
        return Err(ApiError::BadRequest(format!("expires_s: 1 to {LIFE_S_MAX}")));
    }
    let lives_us = expires_s.map(|s| i64::from(s) * 1_000_000);
    // Waits for the disk: a token that a crash could take back is no token.
    let made = tokio::task::spawn_blocking(move || api.access.create(&caller, role, &name, lives_us)).await;
    let made = made.map_err(|e| ApiError::Internal(e.to_string()))??;
    let mut response = json(&made)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn revoke(State(api): Shared, Extension(caller): Extension<Caller>, path: Named<String>) -> Answer {
    let Path(id) = path?;
    let done = tokio::task::spawn_blocking(move || api.access.revoke(&caller, &id)).await;
    json(&done.map_err(|e| ApiError::Internal(e.to_string()))??)
}
