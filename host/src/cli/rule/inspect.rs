//! `retag rule inspect`: what a rule file is, read and measured here, without a running host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};

use super::test::scenario_files;
use crate::rule::default_text;
use crate::rule::manifest::Param;
use crate::rule::scenario;
use crate::rule::{CompiledRule, Limits, RuleEngine, RuleFile, exports, imports};

/// Arguments of `retag rule inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rule file.
    pub file: PathBuf,
    /// Form of the answer.
    #[arg(short, long, default_value = "table")]
    pub output: Form,
    /// Scenario file on which fuel per row is measured. Without it those of the rule crate that the file lies in, and
    /// made-up rows where there are none.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Runs the command.
///
/// # Errors
/// The file cannot be read, or is no rule that this host takes.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let found = inspect(&args.file, args.scenario.as_deref())?;
    match args.output {
        Form::Json => println!("{}", serde_json::to_string_pretty(&found)?),
        Form::Table => print!("{}", table(&found)),
    }
    Ok(())
}

/// A parameter for people; as it stands where the manifest's form is not known.
fn param(item: &Value) -> String {
    let read: Option<Param> = serde_json::from_value(item.clone()).ok();
    read.map_or_else(|| plain(item), |p| format!("{} = {} {}", p.name, default_text(&p), p.doc))
}

/// Everything about a rule file, as JSON.
///
/// # Errors
/// As for [`run`].
pub fn inspect(path: &Path, scenario: Option<&Path>) -> anyhow::Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = RuleFile::read(&bytes)?;
    let limits = Limits::default();
    let rule = RuleEngine::new()?.compile(file, limits)?;
    let (fuel_per_row, measured_on) = fuel(&rule, path, scenario)?;
    let part = |wasm: &[u8]| -> anyhow::Result<Value> {
        let imports: Vec<String> =
            imports(wasm)?.into_iter().map(|(module, name)| format!("{module}.{name}")).collect();
        Ok(json!({ "bytes": wasm.len(), "imports": imports, "exports": exports(wasm)? }))
    };
    Ok(json!({
        "rule": rule.manifest.name,
        "map_id": rule.file.map_id(),
        "namespace_id": rule.file.namespace_id(&limits, ""),
        "label_id": rule.file.label_id(),
        "bytes": rule.file.bytes,
        "modules": if rule.file.one_module { 1 } else { 2 },
        "map": part(&rule.file.map_wasm)?,
        "label": part(&rule.file.label_wasm)?,
        "limits": { "fuel": limits.fuel, "memory_bytes": limits.memory_bytes, "stack_bytes": limits.stack_bytes },
        "fuel_per_row": fuel_per_row,
        "fuel_measured_on": measured_on,
        "manifest": *rule.manifest,
    }))
}

/// What the fuel of a file without scenarios was measured on.
const MADE_UP: &str = "made-up rows: no scenario of its tables lies near; --scenario FILE measures on yours";

/// Fuel per row, and on what it was measured: the given scenario, else the costliest of the crate around the file.
fn fuel(rule: &Arc<CompiledRule>, file: &Path, scenario: Option<&Path>) -> anyhow::Result<(u64, String)> {
    if let Some(path) = scenario {
        let fuel = fuel_on(rule, path)?;
        let none =
            || format!("{} has no row of a table that rule {} reads", path.display(), rule.manifest.name);
        return Ok((fuel.with_context(none)?, path.display().to_string()));
    }
    let mut most: Option<(u64, String)> = None;
    for path in near_scenarios(file)? {
        let hint = "give another one with --scenario FILE";
        let Some(fuel) = fuel_on(rule, &path).context(hint)? else { continue };
        if most.as_ref().is_none_or(|(most, _)| fuel > *most) {
            most = Some((fuel, path.display().to_string()));
        }
    }
    Ok(most.unwrap_or_else(|| (rule.fuel_per_row, MADE_UP.to_owned())))
}

/// Fuel per row on a scenario file; none where it holds no row of the rule's tables.
fn fuel_on(rule: &Arc<CompiledRule>, path: &Path) -> anyhow::Result<Option<u64>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parsed = retag_scenario::parse(&text).with_context(|| path.display().to_string())?;
    Ok(Some(scenario::fuel_per_row(rule, &parsed)?).filter(|fuel| *fuel > 0))
}

/// The scenarios that `retag rule test` would run for the crate that the file lies in or below.
fn near_scenarios(file: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let file = file.canonicalize().with_context(|| format!("cannot read {}", file.display()))?;
    let folder = file.ancestors().skip(1).find(|folder| folder.join("Cargo.toml").is_file());
    let Some(folder) = folder else { return Ok(Vec::new()) };
    let mut files = scenario_files(&folder.join("scenarios"))?;
    // As a person would write it, where that is shorter.
    if let Ok(here) = std::env::current_dir().and_then(|here| here.canonicalize()) {
        for file in &mut files {
            if let Ok(relative) = file.strip_prefix(&here) {
                *file = relative.to_owned();
            }
        }
    }
    Ok(files)
}

/// The answer for people: a line per fact, then the manifest's parts.
fn table(found: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<14} {value}\n"));
    let get = |path: &str| found.pointer(path).cloned().unwrap_or_default();
    let text = |path: &str| plain(&get(path));
    line("rule", format!("{} {}", text("/rule"), text("/manifest/version")));
    line("description", text("/manifest/description"));
    line("entity", format!("{} (key {})", text("/manifest/entity"), text("/manifest/key/type")));
    line("map id", text("/map_id"));
    line("namespace id", format!("{} (source without settings that alter values)", text("/namespace_id")));
    line("label id", text("/label_id"));
    line("size", format!("{} bytes, {} module(s)", text("/bytes"), text("/modules")));
    for part in ["map", "label"] {
        let exports = text(&format!("/{part}/exports"));
        line(part, format!("{} bytes, exports {exports}", text(&format!("/{part}/bytes"))));
        line("", format!("imports {}", text(&format!("/{part}/imports"))));
    }
    line("limits", format!("fuel {}, memory {} bytes", text("/limits/fuel"), text("/limits/memory_bytes")));
    line("fuel per row", format!("{} (on {})", text("/fuel_per_row"), text("/fuel_measured_on")));
    for (name, list) in
        [("table", "tables"), ("aggregate", "aggregates"), ("label", "labels"), ("param", "params")]
    {
        for item in get(&format!("/manifest/{list}")).as_array().into_iter().flatten() {
            line(name, describe(list, item));
        }
    }
    out
}

fn describe(list: &str, item: &Value) -> String {
    let field = |name: &str| item.get(name).map(plain).unwrap_or_default();
    match list {
        "tables" => {
            let columns = item.get("columns").and_then(Value::as_array).into_iter().flatten();
            let names: Vec<String> = columns.filter_map(|c| c.get("name")).map(plain).collect();
            format!("{} by {}: {}", field("table"), field("key"), names.join(", "))
        }
        "aggregates" => {
            let of = item.pointer("/value/type").map(|t| format!(" of {}", plain(t))).unwrap_or_default();
            format!("{}: {}{of}", field("name"), field("kind"))
        }
        "labels" => format!("{} {} {}", field("name"), field("values"), field("doc")),
        _ => param(item),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
