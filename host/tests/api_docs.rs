//! The pages under `docs/` against the code: every route, every code, every field of a message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod api_fixture;

use api_fixture::registry;
use retag_host::label::outbox::Place;
use retag_host::label::{Cause, SWITCH, Transition};
use retag_host::sink::message::{Message, Origin, Summary};
use retag_host::state::u64_key;
use serde_json::Value;
use std::collections::BTreeSet;

const HTTP: &str = include_str!("../../docs/http.md");
const SUMMARY: &str = include_str!("../../docs/summary.schema.json");
const SCHEMA: &str = include_str!("../../docs/message.schema.json");

#[test]
fn every_route_is_described() {
    let routes = retag_host::api::routes();
    assert!(routes.len() >= 30);
    for route in routes {
        assert!(HTTP.contains(&format!("| `{}` |", route.name())), "{}", route.name());
    }
}

#[test]
fn every_refusal_of_a_route_is_one_that_there_is() {
    let errors = [include_str!("../src/api/error.rs"), include_str!("../src/registry/refusal.rs")].concat();
    for route in retag_host::api::routes() {
        for (status, code) in route.refusals() {
            assert!(errors.contains(&format!("({status}, \"{code}\"")), "{}: {status} {code}", route.name());
        }
    }
}

#[test]
fn every_limit_is_described_with_its_default() {
    let default = retag_host::config::HttpConfig::default();
    for limit in retag_host::api::Limit::ALL {
        assert!(HTTP.contains(&format!("| `{}` |", limit.key())), "{}", limit.key());
    }
    let shown = format!("{default:?}");
    for (key, number) in [("connections_max", 1024), ("rate_burst", 20_000), ("exports_max", 4)] {
        assert!(shown.contains(&format!("{key}: {number}")) && HTTP.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn every_code_is_described_with_its_status() {
    let files = [include_str!("../src/api/error.rs"), include_str!("../src/registry/refusal.rs")];
    let kinds: Vec<(&str, &str)> = files
        .into_iter()
        .flat_map(|file| file.split("=> (").skip(1))
        .filter_map(|rest| Some((rest.split(',').next()?, rest.split('"').nth(1)?)))
        .collect();
    assert!(kinds.len() >= 34);
    for (status, code) in kinds {
        assert!(HTTP.contains(&format!("| `{code}` | {status} |")), "{code}");
    }
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_schema_has_the_fields_of_summaries() {
    let schema: Value = serde_json::from_str(SUMMARY).unwrap();
    let switched = Transition {
        generation: 2,
        label: SWITCH,
        from: 0,
        to: 0,
        cause: Cause::Swap,
        announced: false,
        entity: 0,
        key: Box::default(),
    };
    let registry = registry();
    let origin = Origin { state_id: "0123456789abcdef", epoch: 1, time: "2026-02-28T12:00:00.000000Z" };
    let summary = Summary::of(&registry, origin, Place { commit: 3, index: 0 }, &switched).unwrap();
    let summary = serde_json::to_value(summary).unwrap();
    let fields: BTreeSet<String> = summary.as_object().unwrap().keys().cloned().collect();
    let properties: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, properties);
    assert_eq!(fields, names(&schema["required"]));
    assert_eq!(schema["properties"]["op"]["const"], summary["op"]);
    assert!(names(&schema["properties"]["cause"]["enum"]).contains("swap"));
}

#[test]
fn the_schema_has_the_fields_and_names_of_messages() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let transition = Transition {
        generation: 2,
        label: 1,
        from: 1,
        to: 2,
        cause: Cause::Change,
        announced: false,
        entity: 0,
        key: u64_key(42).into(),
    };
    let registry = registry();
    let origin = Origin { state_id: "0123456789abcdef", epoch: 1, time: "2026-02-28T12:00:00.000000Z" };
    let message = Message::of(&registry, origin, Place { commit: 3, index: 0 }, &transition).unwrap();
    let message = serde_json::to_value(message).unwrap();
    let fields: BTreeSet<String> = message.as_object().unwrap().keys().cloned().collect();
    let properties: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, properties);
    assert_eq!(fields, names(&schema["required"]));
    for (name, value) in message.as_object().unwrap() {
        let property = &schema["properties"][name];
        let is = if value.is_u64() { "integer" } else { "string" };
        let types = &property["type"];
        let allowed = types == is || types.as_array().is_some_and(|all| all.contains(&is.into()));
        assert!(allowed || property["enum"].as_array().is_some_and(|all| all.contains(value)), "{name}");
    }
    let causes = (0..=u8::MAX).map_while(Cause::from_number).map(|cause| cause.name().to_owned()).collect();
    assert_eq!(names(&schema["properties"]["cause"]["enum"]), causes);
    assert_eq!(names(&schema["properties"]["op"]["enum"]), ["set".to_owned(), "unset".to_owned()].into());
}
