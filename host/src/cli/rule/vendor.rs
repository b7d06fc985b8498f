//! The guest SDK inside this binary, and its manifests made independent of the workspace that it comes from.
//!
//! `guest-sdk` becomes `vendor/retag-sdk`, its parts stand beside it; versions come from the workspace's manifest.

use anyhow::{Context, anyhow};
use toml::{Table, Value};

/// (path in the workspace, text).
const SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk_sources.rs"));

/// Folder in the workspace → folder in `vendor`; the longest match wins.
const CRATES: [(&str, &str); 4] = [
    ("guest-sdk/abi", "retag-sdk-abi"),
    ("guest-sdk/macros", "retag-sdk-macros"),
    ("guest-sdk/scenario", "retag-sdk-scenario"),
    ("guest-sdk", "retag-sdk"),
];

/// All files of `vendor`: (path below it, text).
pub(super) fn files() -> anyhow::Result<Vec<(String, String)>> {
    let workspace = manifest("Cargo.toml")?;
    let mut files = Vec::new();
    for (path, text) in SOURCES {
        let Some((folder, vendored)) = CRATES.iter().find(|(folder, _)| below(path, folder).is_some()) else {
            continue;
        };
        let name = below(path, folder).unwrap_or_default();
        let text = if name == "Cargo.toml" { standalone(path, &workspace)? } else { (*text).to_owned() };
        files.push((format!("{vendored}/{name}"), text));
    }
    Ok(files)
}

/// The lock file of the workspace: the same versions as here.
pub(super) fn lock_file() -> anyhow::Result<&'static str> {
    source("Cargo.lock")
}

fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder)?.strip_prefix('/')
}

fn source(path: &str) -> anyhow::Result<&'static str> {
    let found = SOURCES.iter().find(|(name, _)| *name == path);
    found.map(|(_, text)| *text).ok_or_else(|| anyhow!("{path} is not in this binary"))
}

fn manifest(path: &str) -> anyhow::Result<Table> {
    source(path)?.parse().with_context(|| path.to_owned())
}

/// The manifest at `path` without inheritance, tests and lints.
fn standalone(path: &str, workspace: &Table) -> anyhow::Result<String> {
    let mut crate_manifest = manifest(path)?;
    for dropped in ["dev-dependencies", "lints", "bench", "test", "example"] {
        crate_manifest.remove(dropped);
    }
    let shared = workspace.get("workspace").and_then(Value::as_table).context("no [workspace]")?;
    let section = |name: &str| shared.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
    let (package, dependencies) = (section("package"), section("dependencies"));
    let mut out = String::new();
    for (name, value) in &crate_manifest {
        let Some(table) = value.as_table() else { continue };
        match name.as_str() {
            "package" => push_table(&mut out, "package", &inherit(table, &package)),
            "dependencies" => push_table(&mut out, "dependencies", &resolve(table, &dependencies)),
            "target" => {
                for (condition, parts) in table {
                    let of_target = parts.get("dependencies").and_then(Value::as_table);
                    let resolved = resolve(of_target.unwrap_or(&Table::new()), &dependencies);
                    push_table(&mut out, &format!("target.'{condition}'.dependencies"), &resolved);
                }
            }
            other => push_table(&mut out, other, table),
        }
    }
    Ok(out)
}

/// `key.workspace = true` → the workspace's value.
fn inherit(table: &Table, shared: &Table) -> Table {
    let inherits = |value: &Value| value.get("workspace").and_then(Value::as_bool) == Some(true);
    let value = |(name, value): (&String, &Value)| {
        let value = if inherits(value) { shared.get(name).cloned()? } else { value.clone() };
        Some((name.clone(), value))
    };
    table.iter().filter_map(value).collect()
}

/// Dependencies with the workspace's versions; those on parts of the SDK by their folder in `vendor`.
fn resolve(table: &Table, shared: &Table) -> Table {
    let mut resolved = inherit(table, shared);
    for (_, dependency) in &mut resolved {
        let Some(path) = dependency.get_mut("path") else { continue };
        let vendored = CRATES.iter().find(|(folder, _)| path.as_str() == Some(folder));
        if let Some((_, vendored)) = vendored {
            *path = Value::String(format!("../{vendored}"));
        }
    }
    resolved
}

fn push_table(out: &mut String, name: &str, table: &Table) {
    out.push_str(&format!("[{name}]\n"));
    for (key, value) in table {
        out.push_str(&format!("{key} = {}\n", inline(value)));
    }
    out.push('\n');
}

/// A value on one line. Basic strings of TOML and JSON agree on what stands in a manifest.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::Array(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let entries: Vec<String> = table.iter().map(|(k, v)| format!("{k} = {}", inline(v))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Integer(n) => n.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Datetime(time) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendored_manifests_stand_alone() {
        let files = files().unwrap();
        let manifests: Vec<_> = files.iter().filter(|(path, _)| path.ends_with("Cargo.toml")).collect();
        assert_eq!(manifests.len(), CRATES.len());
        for (path, text) in manifests {
            let table: Table = text.parse().unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
            assert!(!text.contains("workspace"), "{path}:\n{text}");
            assert_eq!(table["package"]["edition"].as_str(), Some("2024"));
        }
        let sdk = files.iter().find(|(path, _)| path == "retag-sdk/Cargo.toml").unwrap();
        assert!(sdk.1.contains("../retag-sdk-abi") && sdk.1.contains("dlmalloc"), "{}", sdk.1);
    }
}
