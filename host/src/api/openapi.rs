//! `/openapi.json`: the document of all routes, OpenAPI 3.1, made from the list that the router is made from and from the
//! types that are read and answered.

use super::role::Access;
use super::route::{Route, Success, Takes};
use super::routes::{Answer, routes as all_routes};
use axum::http::header;
use axum::response::IntoResponse;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const DEFINITIONS: &str = "/components/schemas";
/// Refusals that any route may answer with, and those of routes that ask for a role or take a body.
const ANY: [(u16, &str); 5] =
    [(400, "bad-request"), (403, "foreign"), (429, "rate-limited"), (500, "internal"), (503, "timeout")];
const STATE: [(u16, &str); 2] = [(500, "state"), (500, "state-corrupt")];
const ROLE: [(u16, &str); 2] = [(401, "unauthorized"), (403, "forbidden")];
const BODY: [(u16, &str); 2] = [(408, "slow-body"), (413, "too-large")];
const METHOD: (u16, &str) = (405, "bad-method");
/// Refusals of routes that read these headers.
const HEADERS: [(&str, &[(u16, &str)]); 2] = [
    ("If-Match", &[(412, "changed")]),
    ("Idempotency-Key", &[(409, "idempotency-key-busy"), (422, "idempotency-key-reused")]),
];

static TEXT: LazyLock<String> = LazyLock::new(|| document(&all_routes()).to_string());

pub(super) fn routes() -> Vec<Route> {
    let document = Route::get("/openapi.json", Access::Open, serve);
    vec![document.named("getDocument", "This document.").json::<Map<String, Value>>(200)]
}

async fn serve() -> Answer {
    Ok(([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response())
}

/// The document of these routes.
#[must_use]
pub fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = DEFINITIONS.into();
        settings.meta_schema = None;
    });
    let mut asked = settings.clone().into_generator();
    let mut answered = settings.for_serialize().into_generator();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let operation = operation(route, &mut asked, &mut answered);
        paths.entry(route.path).or_default().insert(route.method.as_str().to_lowercase(), operation);
    }
    let mut schemas = asked.take_definitions(true);
    schemas.extend(answered.take_definitions(true));
    schemas.insert("Refusal".into(), refusal());
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Retag",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Labels of entities, exact and up to date from a database's change log.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    });
    bound_integers(&mut document);
    document
}

fn operation(route: &Route, asked: &mut SchemaGenerator, answered: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "parameters": parameters(route, asked),
        "responses": responses(route, answered),
    });
    let Some(map) = operation.as_object_mut() else { return operation };
    match route.access {
        Access::Open => map.insert("security".into(), json!([])),
        Access::Role(role) => {
            map.insert("x-retag-role".into(), role.name().into());
            map.insert("security".into(), json!([{ "token": [] }]))
        }
    };
    let (media, schema) = match route.takes {
        Takes::Nothing => return operation,
        Takes::Json(schema) => ("application/json", schema(asked).to_value()),
        Takes::Upload => ("application/octet-stream", json!({ "type": "string", "format": "binary" })),
    };
    // No body is read as an object without members.
    let required = matches!(route.takes, Takes::Upload) || has_required(&schema, asked);
    let body = json!({ "required": required, "content": { media: { "schema": schema } } });
    map.insert("requestBody".into(), body);
    operation
}

/// Whether an object of this schema has members that must be there.
fn has_required(schema: &Value, asked: &SchemaGenerator) -> bool {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.rsplit('/').next());
    let schema = name.and_then(|name| asked.definitions().get(name)).unwrap_or(schema);
    schema.get("required").and_then(Value::as_array).is_some_and(|names| !names.is_empty())
}

fn parameters(route: &Route, asked: &mut SchemaGenerator) -> Vec<Value> {
    let mut parameters = Vec::new();
    let in_path = route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    for name in in_path {
        parameters.push(json!({
            "name": name, "in": "path", "required": true, "schema": in_path_schema(route.path, name),
        }));
    }
    if let Some(query) = route.query {
        let schema = query(asked).to_value();
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut parameter = json!({
                "name": name, "in": "query", "required": required.contains(&name.as_str().into()),
            });
            // What is JSON itself says so in place of a type.
            let (member, value) = match property.get("contentSchema") {
                Some(schema) => ("content", json!({ "application/json": { "schema": schema } })),
                None => ("schema", without_null(property.clone())),
            };
            if let Some(map) = parameter.as_object_mut() {
                map.insert(member.to_owned(), value);
            }
            parameters.push(parameter);
        }
    }
    for name in route.headers {
        let schema = match *name {
            // Visible characters of ASCII.
            "Idempotency-Key" => json!({ "type": "string", "pattern": r"^[!-~]{1,255}$" }),
            _ => json!({ "type": "string" }),
        };
        parameters.push(json!({ "name": name, "in": "header", "required": false, "schema": schema }));
    }
    parameters
}

/// A placeholder is text, but for numbers that its route reads as such.
fn in_path_schema(path: &str, name: &str) -> Value {
    let most = match (path, name) {
        (_, "revision") => u64::from(u32::MAX),
        ("/v1/operations/{id}", "id") => u64::MAX,
        _ => return json!({ "type": "string", "minLength": 1 }),
    };
    json!({ "type": "integer", "minimum": 0, "maximum": most })
}

/// A parameter is there or not; it is never null.
fn without_null(mut schema: Value) -> Value {
    if let Some(types) = schema.get_mut("type").filter(|types| types.is_array()) {
        let kept = types.as_array().into_iter().flatten().find(|name| *name != "null").cloned();
        *types = kept.unwrap_or_default();
    }
    if let Some(map) = schema.as_object_mut() {
        map.remove("default");
    }
    schema
}

fn responses(route: &Route, answered: &mut SchemaGenerator) -> Map<String, Value> {
    let mut responses = Map::new();
    for Success { status, media, schema } in &route.answers {
        let about = if *status == 304 { "Nothing is new." } else { "Done." };
        let response = responses.entry(status.to_string()).or_insert_with(|| json!({ "description": about }));
        let schema = schema.map_or_else(|| json!({ "type": "string" }), |schema| schema(answered).to_value());
        if let (Some(response), false) = (response.as_object_mut(), media.is_empty()) {
            let content = response.entry("content").or_insert_with(|| json!({}));
            if let Some(content) = content.as_object_mut() {
                content.insert((*media).to_owned(), json!({ "schema": schema }));
            }
        }
        if let (Some(response), true) = (response.as_object_mut(), route.tagged) {
            let tag = json!({ "ETag": { "required": true, "schema": { "type": "string" } } });
            response.insert("headers".into(), tag);
        }
    }
    let mut refusals: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    let role = if route.access == Access::Open { &[][..] } else { &ROLE[..] };
    let body = if matches!(route.takes, Takes::Nothing) { &[][..] } else { &BODY[..] };
    let media = if matches!(route.takes, Takes::Json(_)) { &[(415, "bad-media-type")][..] } else { &[][..] };
    let of_headers = HEADERS.iter().filter(|(name, _)| route.headers.contains(name));
    let of_headers = of_headers.flat_map(|(_, refusals)| *refusals);
    let every = [&ANY[..], &STATE[..], role, body, media, &[METHOD], route.refusals];
    for (status, code) in every.into_iter().flatten().chain(of_headers) {
        refusals.entry(*status).or_default().push(code);
    }
    for (status, codes) in refusals {
        responses.insert(status.to_string(), problem(status, &codes));
    }
    for (status, schema) in &route.other_refusals {
        let own = json!({ "schema": schema(answered).to_value() });
        let response = responses
            .entry(status.to_string())
            .or_insert_with(|| json!({ "description": "Refused.", "content": {} }));
        if let Some(content) = response.get_mut("content").and_then(Value::as_object_mut) {
            content.insert("application/json".into(), own);
        }
    }
    responses
}

fn problem(status: u16, codes: &[&str]) -> Value {
    let named: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let mut problem = json!({
        "description": format!("Refused: {}.", named.join(", ")),
        "content": { "application/problem+json": { "schema": {
            "allOf": [
                { "$ref": "#/components/schemas/Refusal" },
                { "properties": { "status": { "const": status }, "code": { "enum": codes } } },
            ],
        } } },
    });
    let header = match status {
        401 => "WWW-Authenticate",
        429 => "Retry-After",
        _ => return problem,
    };
    if let Some(map) = problem.as_object_mut() {
        map.insert("headers".into(), json!({ header: { "required": true, "schema": { "type": "string" } } }));
    }
    problem
}

/// A problem document (RFC 9457).
fn refusal() -> Value {
    let text = || json!({ "type": "string", "minLength": 1 });
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457) with a stable code and a hint.",
        "required": ["type", "title", "status", "code", "detail", "hint"],
        "properties": {
            "type": text(), "title": text(), "status": { "type": "integer" }, "code": text(),
            "detail": text(), "hint": text(),
        },
    })
}

/// Says of every integer how great it may be, as its type has it.
fn bound_integers(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let most = match map.get("format").and_then(Value::as_str) {
                Some("uint16") => Some(u64::from(u16::MAX)),
                Some("uint32") => Some(u64::from(u32::MAX)),
                Some("uint64" | "uint") => Some(u64::MAX),
                _ => None,
            };
            if let Some(most) = most {
                map.entry("maximum").or_insert_with(|| most.into());
                map.remove("format"); // no format of OpenAPI's registry
            }
            map.values_mut().for_each(bound_integers);
        }
        Value::Array(all) => all.iter_mut().for_each(bound_integers),
        _ => {}
    }
}
