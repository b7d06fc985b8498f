//! What the host says of itself: the OpenAPI document against the routes, metrics against their form and page, labels as
//! feature flags.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod api_fixture;
mod http_fixture;

use http_fixture::serve;
use retag_host::api::{self, Access, Limit, Role};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const OPERATIONS: &str = include_str!("../../docs/operations.md");
const VIEWER: Option<Role> = Some(Role::Viewer);

fn references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get("$ref") {
                into.insert(to.clone());
            }
            map.values().for_each(|inner| references(inner, into));
        }
        Value::Array(all) => all.iter().for_each(|inner| references(inner, into)),
        _ => {}
    }
}

#[test]
fn the_document_has_every_route_with_its_role_and_refusals() {
    let served = serve("");
    let document = served.ask(None, "GET /openapi.json", b"").json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = BTreeSet::new();
    for route in api::routes() {
        let name = route.name();
        let (method, path) = name.split_once(' ').unwrap();
        let operation = &document["paths"][path][method.to_lowercase()];
        assert!(names.insert(operation["operationId"].as_str().expect(&name).to_owned()), "{name}");
        assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{name}");
        match route.access() {
            Access::Open => assert_eq!(operation["security"], json!([]), "{name}"),
            Access::Role(role) => {
                assert_eq!(operation["x-retag-role"], role.name(), "{name}");
                assert!(operation["responses"]["401"].is_object(), "{name}");
            }
        }
        for (status, code) in route.refusals() {
            let described = operation["responses"][status.to_string()].to_string();
            assert!(described.contains(code), "{name}: {code}");
        }
        let placeholders = path.matches('{').count();
        let in_path = operation["parameters"].as_array().unwrap().iter().filter(|p| p["in"] == "path");
        assert_eq!(in_path.count(), placeholders, "{name}");
    }
    let paths = document["paths"].as_object().unwrap();
    let described: usize = paths.values().map(|of_path| of_path.as_object().unwrap().len()).sum();
    assert_eq!(described, names.len());
    let mut all = BTreeSet::new();
    references(&document, &mut all);
    assert!(all.len() > 10);
    for to in all {
        assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to} is not there");
    }
}

#[test]
fn the_document_says_what_parameters_and_bodies_must_be() {
    let served = serve("");
    let document = served.ask(None, "GET /openapi.json", b"").json();
    let schema = |path: &str, method: &str, name: &str| {
        let parameters = document["paths"][path][method]["parameters"].as_array().unwrap();
        parameters.iter().find(|p| p["name"] == name).unwrap()["schema"].clone()
    };
    let number = |max: u64| json!({ "type": "integer", "minimum": 0, "maximum": max });
    let revision = "/v1/rules/{rule}/revisions/{revision}";
    assert_eq!(schema(revision, "get", "revision"), number(u32::MAX.into()));
    assert_eq!(schema(&format!("{revision}/activate"), "post", "revision"), number(u32::MAX.into()));
    assert_eq!(schema("/v1/operations/{id}", "get", "id"), number(u64::MAX));
    assert_eq!(schema(revision, "get", "rule")["type"], "string");
    let limit = schema("/v1/audit", "get", "limit");
    assert_eq!((&limit["minimum"], &limit["maximum"]), (&json!(1), &json!(1000)));
    let body = |path: &str| document["paths"][path]["post"]["requestBody"]["required"].clone();
    assert_eq!(body(&format!("{revision}/activate")), false, "every member may be left out");
    assert_eq!([body("/v1/rules/{rule}/params"), body("/v1/rules/{rule}/revisions")], [true, true]);
}

#[test]
fn every_json_answer_says_what_is_in_it() {
    let served = serve("");
    let document = served.ask(None, "GET /openapi.json", b"").json();
    let resolved = |schema: &Value| match schema["$ref"].as_str() {
        Some(to) => document.pointer(to.trim_start_matches('#')).unwrap().clone(),
        None => schema.clone(),
    };
    let mut described = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let schema = &response["content"]["application/json"]["schema"];
                if !status.starts_with('2') || schema.is_null() || path == "/openapi.json" {
                    continue;
                }
                let fields = resolved(schema)["properties"].as_object().map_or(0, serde_json::Map::len);
                assert!(fields > 0, "{method} {path}: {status} says nothing of its answer");
                described += 1;
            }
        }
    }
    assert!(described >= 30);
    let done = &document["components"]["schemas"]["Done"];
    let names: BTreeSet<&str> = done["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["changed", "commit", "operation", "revision", "rule"]));
    let activate = &document["paths"]["/v1/rules/{rule}/revisions/{revision}/activate"]["post"];
    assert!(activate["responses"]["200"]["headers"]["ETag"].is_object());
    assert!(activate["responses"]["412"].to_string().contains("changed"));
}

#[test]
fn metrics_have_the_form_and_names_that_the_page_says() {
    let served = serve("");
    served.ask(VIEWER, "GET /v1/entities/user/keys/987654/labels", b"");
    served.ask(VIEWER, "GET /v1/status", b"");
    let answer = served.ask(VIEWER, "GET /metrics", b"");
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    let mut families = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            let unit = name.trim_end_matches("_total").rsplit('_').next().unwrap();
            assert!(name.starts_with("retag_") && !unit.is_empty(), "{name}");
            assert!(OPERATIONS.contains(&format!("`{name}")), "docs/operations.md has no {name}");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} twice");
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(families.contains(name) || families.contains(family.unwrap_or("")), "{line}");
        }
    }
    for limit in Limit::ALL {
        assert!(text.contains(&format!("retag_http_limited_total{{limit=\"{}\"}}", limit.key())));
    }
    let value = |series: &str| {
        let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let route = "/v1/entities/{entity}/keys/{key}/labels";
    let of_route = format!("retag_http_requests_total{{route=\"{route}\",method=\"GET\",status=\"200\"}}");
    assert!((value(&of_route) - 1.0).abs() < 0.1);
    assert!((value("retag_commits_total") - 2.0).abs() < 0.1);
    assert!((value("retag_rule_pending_keys{rule=\"payer\"}") - 1.0).abs() < 0.1);
    assert!(value("retag_label_keys{rule=\"payer\",label=\"tier\",value=\"gold\"}") > 1.0);
    assert!(!text.contains("987654"), "no key stands in a label");
}

fn context(key: &str) -> Vec<u8> {
    json!({"context": {"targetingKey": key, "plan": "any"}}).to_string().into_bytes()
}

#[test]
fn labels_are_flags() {
    let served = serve("");
    let flag = |label: &str, key: &str| {
        let answer = served.ask(VIEWER, &format!("POST /ofrep/v1/evaluate/flags/{label}"), &context(key));
        (answer.status, answer.json())
    };
    let (status, gold) = flag("tier", "5");
    assert_eq!((status, &gold["value"], &gold["variant"]), (200, &json!("gold"), &json!("gold")));
    assert_eq!((&gold["key"], &gold["reason"]), (&json!("tier"), &json!("TARGETING_MATCH")));
    assert_eq!(gold["metadata"]["entity"], "user");
    let (_, none) = flag("tier", "3");
    assert_eq!(
        (none.get("value"), &none["reason"], &none["variant"]),
        (None, &json!("DEFAULT"), &json!("absent"))
    );
    let (_, paid) = flag("never_paid", "6");
    assert_eq!((&paid["value"], &paid["reason"]), (&json!(false), &json!("DEFAULT")));
    let (_, held) = flag("never_paid", "77");
    assert_eq!((&held["reason"], &held["metadata"]["status"]), (&json!("STALE"), &json!("PENDING")));
    assert_eq!(flag("busy", "a/b").1["value"], true, "the entity is that of the label's rule");

    let (status, missing) = flag("nope", "5");
    assert_eq!(
        (status, &missing["errorCode"], &missing["key"]),
        (404, &json!("FLAG_NOT_FOUND"), &json!("nope"))
    );
    let (status, wrong) = flag("tier", "five");
    assert_eq!((status, &wrong["errorCode"]), (400, &json!("INVALID_CONTEXT")));
    let refused = |body: &[u8], code: &str| {
        for path in ["/ofrep/v1/evaluate/flags/tier", "/ofrep/v1/evaluate/flags"] {
            let answer = served.ask(VIEWER, &format!("POST {path}"), body);
            assert_eq!((answer.status, answer.json()["errorCode"].as_str()), (400, Some(code)), "{path}");
        }
    };
    refused(b"{", "PARSE_ERROR");
    refused(b"[]", "PARSE_ERROR");
    refused(br#"{"context":{}}"#, "TARGETING_KEY_MISSING");
    refused(br#"{"context":{"targetingKey":5}}"#, "INVALID_CONTEXT");
}

#[test]
fn all_flags_come_with_a_tag_that_spares_them_when_nothing_is_new() {
    let served = serve("");
    let path = "POST /ofrep/v1/evaluate/flags";
    let all = served.ask(VIEWER, path, &context("5"));
    let flags = all.json()["flags"].as_array().unwrap().clone();
    let named = |name: &str| flags.iter().find(|flag| flag["key"] == name).unwrap();
    assert_eq!(named("tier")["value"], "gold");
    assert_eq!(named("never_paid")["value"], true);
    assert_eq!(named("busy")["value"], false, "a text key may be 5 too");
    let tag = all.header("etag").unwrap();
    let headers = format!("authorization: Bearer {}\r\nif-none-match: {tag}\r\n", served.token(Role::Viewer));
    let again = served.ask_with(&headers, path, &context("5"));
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(served.ask_with(&headers, path, &context("6")).status, 200, "another key, other flags");
    // A key that only some entities can have.
    let text = served.ask(VIEWER, path, &context("a/b")).json();
    let flags = text["flags"].as_array().unwrap();
    assert!(flags.iter().any(|flag| flag["key"] == "busy" && flag["value"] == true));
    assert!(flags.iter().any(|flag| flag["key"] == "tier" && flag["errorCode"] == "INVALID_CONTEXT"));
}
