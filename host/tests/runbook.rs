//! docs/runbook.md and docs/alerts.yml against the sources: every stable code and every alert has its section, and alerts
//! name only what `/metrics` exposes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod api_fixture;
mod http_fixture;

use http_fixture::serve;
use retag_host::api::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const RUNBOOK: &str = include_str!("../../docs/runbook.md");
const ALERTS: &str = include_str!("../../docs/alerts.yml");

/// Folders and files whose words with hyphens are codes.
const WITH_CODES: [&str; 9] =
    ["decode", "rule", "source", "sink", "state", "pipeline", "registry", "api/error.rs", "api/problem.rs"];
/// Words with hyphens there that are none.
const NO_CODES: [&str; 12] = [
    "bootstrap-complete",
    "bootstrap-insert",
    "bootstrap-start",
    "catching-up",
    "content-type",
    "idempotency-key",
    "kebab-case",
    "rule-file",
    "transitions-floor",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Sections by the names in their headings.
fn sections() -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    for section in RUNBOOK.split("\n### ").skip(1) {
        let (head, body) = section.split_once('\n').unwrap();
        let body = body.split("\n## ").next().unwrap();
        for name in head.split(", ") {
            let name = name.trim_matches('`').to_owned();
            assert!(sections.insert(name.clone(), body.to_owned()).is_none(), "{name} has two sections");
        }
    }
    sections
}

fn files(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in path.read_dir().unwrap() {
            files(&entry.unwrap().path(), into);
        }
    } else if path.extension().is_some_and(|e| e == "rs") && !path.to_string_lossy().ends_with("_tests.rs") {
        into.push(path.to_owned());
    }
}

fn is_code(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let plain = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    parts.len() > 1 && parts.iter().all(plain) && !NO_CODES.contains(&text)
}

/// Codes as whole literals, or in front of an error's message (`"code: …`).
fn codes() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    WITH_CODES.iter().for_each(|name| files(&root.join(name), &mut all));
    assert!(all.len() > 60);
    let mut codes = BTreeSet::new();
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for literal in text.split('"').skip(1) {
            let word = literal.split(": ").next().unwrap();
            if is_code(word) {
                codes.insert(word.to_owned());
            }
        }
    }
    codes
}

/// Codes of refused messages, whatever they look like.
fn codes_of_messages() -> BTreeSet<String> {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decode"), &mut all);
    let mut codes = BTreeSet::new();
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap();
        let calls = ["refuse(", "refusal(", "not_yet("].into_iter().flat_map(|call| text.split(call).skip(1));
        let first = calls.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
        codes.extend(first.map(str::to_owned));
    }
    codes
}

/// Codes of answers, those without a hyphen too.
fn codes_of_answers() -> impl Iterator<Item = &'static str> {
    let files = [include_str!("../src/api/error.rs"), include_str!("../src/registry/refusal.rs")];
    files.into_iter().flat_map(|file| file.split("=> (").skip(1)).filter_map(|rest| rest.split('"').nth(1))
}

#[test]
fn every_code_has_its_section() {
    let (sections, codes) = (sections(), codes());
    assert!(codes.len() > 90, "{codes:?}");
    let of_messages = codes_of_messages();
    assert!(of_messages.len() >= 20 && of_messages.contains("ddl"), "{of_messages:?}");
    let all = codes.into_iter().chain(codes_of_answers().map(str::to_owned)).chain(of_messages);
    let missing: Vec<String> = all.filter(|code| !sections.contains_key(code)).collect();
    assert!(missing.is_empty(), "no section for {missing:?}");
    for (name, body) in &sections {
        assert!(body.contains("\n- Labels: ") && body.contains("\n- Do: "), "{name}: {body}");
    }
}

#[test]
fn no_section_is_about_a_code_that_is_gone() {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    let sources: String = all.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for name in sections().keys().filter(|name| !name.starts_with("Retag")) {
        let there = sources.contains(&format!("\"{name}\"")) || sources.contains(&format!("\"{name}: "));
        // Written by serde from the name of a variant.
        assert!(there || name == "catching-up", "{name}");
    }
}

#[test]
fn every_alert_has_its_section_and_names_metrics_that_there_are() {
    let sections = sections();
    let served = serve("");
    let metrics = served.ask(Some(Role::Viewer), "GET /metrics", b"").text();
    let families: BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let alerts: Vec<&str> = ALERTS.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 14);
    let mut names = BTreeSet::new();
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        names.insert(name.to_owned());
        assert!(sections.contains_key(name), "{name} has no section");
        assert!(alert.contains(&format!("docs/runbook.md#{}", name.to_lowercase())), "{name}");
        let expression = alert.lines().find_map(|line| line.trim().strip_prefix("expr: ")).unwrap();
        let word = |c: char| !(c.is_ascii_lowercase() || c == '_');
        let named: Vec<&str> = expression.split(word).filter(|word| word.starts_with("retag_")).collect();
        assert!(!named.is_empty(), "{name}");
        for metric in named {
            assert!(families.contains(metric), "{name}: /metrics has no {metric}");
        }
    }
    let of_alerts: BTreeSet<String> = sections.into_keys().filter(|name| name.starts_with("Retag")).collect();
    assert_eq!(of_alerts, names);
}
