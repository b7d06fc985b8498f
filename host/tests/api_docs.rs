//! The pages under `docs/` against the code: every route, every code, every field of a message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod api_fixture;

use api_fixture::registry;
use retag_host::label::outbox::Place;
use retag_host::label::{Cause, Transition};
use retag_host::sink::message::{Message, Origin};
use retag_host::state::u64_key;
use serde_json::Value;
use std::collections::BTreeSet;

const HTTP: &str = include_str!("../../docs/http.md");
const SCHEMA: &str = include_str!("../../docs/message.schema.json");

/// What stands in quotes directly behind `mark`.
fn quoted_behind<'a>(source: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    source.split(mark).skip(1).filter_map(|rest| rest.split('"').nth(1))
}

#[test]
fn every_route_is_described() {
    let routes: Vec<_> = quoted_behind(include_str!("../src/api/routes.rs"), ".route(").collect();
    assert!(routes.len() >= 13);
    for route in routes {
        assert!(HTTP.contains(&format!(" {route}` |")), "{route}");
    }
}

#[test]
fn every_code_is_described_with_its_status() {
    let errors = include_str!("../src/api/error.rs");
    let kinds: Vec<(&str, &str)> = errors
        .split("=> (")
        .skip(1)
        .filter_map(|rest| Some((rest.split(',').next()?, rest.split('"').nth(1)?)))
        .collect();
    assert!(kinds.len() >= 16);
    for (status, code) in kinds {
        assert!(HTTP.contains(&format!("| `{code}` | {status} |")), "{code}");
    }
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
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
