//! `retag.toml`: sources, rules, sinks and state; every key also as environment (`RETAG_STATE__DIR`).
//!
//! Relative paths count from the configuration's folder. Unknown keys are errors that name the nearest known key.

mod http;
mod kafka_sink;
mod librdkafka;
mod sink;
mod source;
mod webhook;

pub use http::{Auth, HttpConfig, LISTEN_DEFAULT, Listen, TlsConfig};
pub use kafka_sink::{Form, KafkaSinkConfig};
pub use librdkafka::{Reference, Setting, is_secret, values as librdkafka_values};
pub use sink::{Deliver, RedisConfig, SinkConfig, WhenFull};
pub use source::{FilesConfig, History, KafkaConfig, OnRefusal, SourceConfig, Start};
pub use webhook::WebhookConfig;

use crate::source::files::MESSAGE_BYTES_MAX;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: {error}; give its path with --config or RETAG_CONFIG")]
    Unreadable {
        /// Path as given.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML, or not of this shape.
    #[error("configuration {path}: {message}")]
    Invalid {
        /// Path as given.
        path: PathBuf,
        /// What is wrong, where, and what is known.
        message: String,
    },
    /// A variable of the environment that means nothing here.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// Its name, as far as it is text.
        name: String,
        /// What is wrong, and what to do.
        message: String,
    },
}

/// A whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the state lives.
    pub state: StateConfig,
    /// How the engine runs.
    #[serde(default)]
    pub engine: EngineConfig,
    /// Where it listens, who may ask, and the limits of that.
    #[serde(default)]
    pub http: HttpConfig,
    /// Logs of changes, by name.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceConfig>,
    /// Rules, by name.
    #[serde(default)]
    pub rules: BTreeMap<String, RuleConfig>,
    /// Outputs, by name.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkConfig>,
    /// Who decides which rules run.
    #[serde(default)]
    pub registry: RegistryConfig,
    /// Folder that relative paths count from.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// `[state]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// Data directory; made when it does not exist.
    pub dir: PathBuf,
    /// Most bytes of working state in memory; at the limit the host stops with a message. Default 8 GiB.
    #[serde(default = "default_memory")]
    pub memory_max_bytes: u64,
    /// Most refused row images that are kept; the oldest are dropped. Default 10,000.
    #[serde(default = "default_quarantine")]
    pub quarantine_entries_max: usize,
    /// Bytes of transitions that stay after every sink has them, for `GET /v1/transitions`; the oldest commits go first.
    /// 0 = none stay. Default 64 MiB.
    #[serde(default = "default_transitions")]
    pub transitions_bytes_max: u64,
}

fn default_transitions() -> u64 {
    64 << 20
}

fn default_memory() -> u64 {
    8 << 30
}

fn default_quarantine() -> usize {
    10_000
}

/// `[engine]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Threads that decode and own shards; default: the machine's cores, at most 64.
    pub workers: usize,
    /// Most bytes of input in one commit. Default 64 MiB.
    pub cycle_bytes_max: u64,
    /// Bytes of one block. Default 1 MiB.
    pub block_bytes: usize,
    /// How long to wait before looking at the end of a file again. Default 20 ms.
    pub poll_ms: u64,
    /// How far threads that rows go through stand back behind those that answer readers, 0 to 19. Default 5.
    pub nice: u8,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, |n| n.get().min(64));
        Self { workers, cycle_bytes_max: 64 << 20, block_bytes: 1 << 20, poll_ms: 20, nice: 5 }
    }
}

/// `[registry]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// Who decides which rules run. Default `state`.
    pub manage: Manage,
    /// How long a replaced revision is kept up to date for a way back. Default 24 hours.
    pub grace_s: u32,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { manage: Manage::State, grace_s: 24 * 3600 }
    }
}

impl RegistryConfig {
    /// The grace in µs.
    #[must_use]
    pub fn grace_us(&self) -> i64 {
        i64::from(self.grace_s) * 1_000_000
    }
}

/// Who decides which rules run.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Manage {
    /// The registry in the state. The configuration brings rules in; from the first command on that changes a rule's
    /// releases its file is compared, no longer applied.
    #[default]
    State,
    /// The configuration, at every start; commands that change releases are refused.
    Config,
}

/// `[rules.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// The rule's `.wasm`.
    pub path: PathBuf,
    /// Values of its parameters; decimals as text.
    #[serde(default)]
    pub params: BTreeMap<String, serde_json::Value>,
}

impl Config {
    /// Reads a configuration file and lays the environment over it.
    ///
    /// # Errors
    /// An unreadable file, a typo, a missing key: what, where, and what is known.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let environment = environment(std::env::vars_os())?;
        let mut config = Self::parse(&text, environment.into_iter())
            .map_err(|message| ConfigError::Invalid { path: path.to_owned(), message })?;
        config.folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(config)
    }

    fn parse(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        // Parsed as it stands first, so that a mistake in the file is shown with its line.
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
        let changed = overlay(&mut table, environment);
        let parsed = if changed { table.try_into() } else { toml::from_str::<Self>(text) };
        let config = parsed.map_err(|e| in_line(explain(&e.to_string()), text))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.sources.is_empty() {
            return Err("no source: add a [sources.NAME] with type, format, paths and history".into());
        }
        for (name, source) in &self.sources {
            source.check(name)?;
        }
        for (name, sink) in &self.sinks {
            sink.check(name)?;
        }
        if self.engine.workers == 0 || self.engine.workers > 64 {
            return Err("engine.workers: 1 to 64".into());
        }
        if !(64..=MESSAGE_BYTES_MAX).contains(&self.engine.block_bytes) {
            return Err(format!("engine.block_bytes: 64 to {MESSAGE_BYTES_MAX}"));
        }
        if self.engine.cycle_bytes_max < 64 {
            return Err("engine.cycle_bytes_max: at least 64".into());
        }
        if !(1..=1000).contains(&self.engine.poll_ms) {
            return Err("engine.poll_ms: 1 to 1000".into());
        }
        if self.engine.nice > 19 {
            return Err("engine.nice: 0 to 19".into());
        }
        self.http.check()
    }

    /// `path` as seen from the configuration's folder.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

/// Sections that the environment can reach.
const SECTIONS: [&str; 7] = ["state", "engine", "http", "sources", "rules", "sinks", "registry"];

/// The variables `RETAG_SECTION__…`; other names are none of ours.
fn environment(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut ours = Vec::new();
    for (name, value) in all {
        let shown = name.to_string_lossy().into_owned();
        let Some((section, rest)) = shown.strip_prefix("RETAG_").and_then(|rest| rest.split_once("__"))
        else {
            continue;
        };
        let refuse = |message| Err(ConfigError::Environment { name: shown.clone(), message });
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else {
            return refuse("its name or value is not UTF-8 text; set it as text, or unset it".into());
        };
        let section = section.to_lowercase();
        if !SECTIONS.contains(&section.as_str()) {
            let nearest = SECTIONS.into_iter().min_by_key(|known| distance(&section, known));
            return refuse(match nearest.filter(|known| distance(&section, known) <= 3) {
                Some(known) => format!(
                    "there is no section `{section}`; did you mean RETAG_{}__{rest}?",
                    known.to_uppercase()
                ),
                None => format!(
                    "there is no section `{section}`, only {}; unset it, or name a key of one of them",
                    SECTIONS.join(", ")
                ),
            });
        }
        ours.push((name, value));
    }
    Ok(ours)
}

/// Lays `RETAG_SECTION__NAME__KEY=value` over the table; true if there was one.
fn overlay(table: &mut toml::Table, environment: impl Iterator<Item = (String, String)>) -> bool {
    let mut changed = false;
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix("RETAG_").filter(|rest| rest.contains("__")) else { continue };
        let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
        let parsed = parsed.filter(|value| !is_text(&path) || value.is_str() || is_inner(value));
        changed |= insert(table, &path, parsed.unwrap_or(toml::Value::String(value)));
    }
    changed
}

/// Whether a text is wanted there: then 5000.00, 2026 and true are text. Rules read the types of parameters out of text.
fn is_text(path: &[String]) -> bool {
    const TEXTS: [&str; 18] = [
        "dir",
        "type",
        "format",
        "history",
        "producer",
        "on_refusal",
        "bootstrap_servers",
        "topic_pattern",
        "group",
        "path",
        "hidden_columns",
        "listen",
        "auth",
        "cert",
        "key",
        "url",
        "prefix",
        "when_full",
    ];
    path.len() == 4 && path.get(2).is_some_and(|key| key == "params")
        || path.last().is_some_and(|key| TEXTS.contains(&key.as_str()))
}

fn is_inner(value: &toml::Value) -> bool {
    value.is_array() || value.is_table()
}

fn insert(table: &mut toml::Table, path: &[String], value: toml::Value) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return true;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    inner.as_table_mut().is_some_and(|inner| insert(inner, rest, value))
}

/// Adds the nearest known key to an "unknown field" message, and what `history` means where it is missing.
fn explain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.contains("unknown field") || message.contains("unknown variant");
    if let Some(typed) = quoted.next().filter(|_| unknown) {
        let nearest = quoted.min_by_key(|known| distance(typed, known));
        if let Some(nearest) = nearest.filter(|known| distance(typed, known) <= 3) {
            return format!("{message}\ndid you mean `{nearest}`?");
        }
    }
    if message.contains("missing field `history`") {
        return format!(
            "{message}\nhistory = \"complete\": the source holds every change since its tables were empty, labels are exact\n\
             history = \"none\": it begins somewhere, so sums of rows that lived before stay approximate"
        );
    }
    message.to_owned()
}

/// With the line of a key that nobody knows, where it stands once: the parser names the section's head only.
fn in_line(message: String, text: &str) -> String {
    let Some(key) = message.split("unknown field `").nth(1).and_then(|rest| rest.split('`').next()) else {
        return message;
    };
    let is_key =
        |line: &str| line.trim_start().strip_prefix(key).is_some_and(|l| l.trim_start().starts_with('='));
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| is_key(line));
    match (lines.next(), lines.next()) {
        (Some((number, line)), None) => format!("{message}\nline {number}: {}", line.trim()),
        _ => message,
    }
}

/// Edit distance (Levenshtein) in characters.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (corner + usize::from(x != *y)).min(above + 1).min(left + 1);
            corner = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
[state]
dir = "data"
[sources.orders]
type = "files"
format = "maxwell"
paths = ["o.p0.json"]
history = "complete"
[rules.payer]
path = "payer.wasm"
params = { big_spender_min = "5000.00" }
[sinks.out]
type = "ndjson"
path = "labels.ndjson"
"#;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        Config::parse(text, environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_example_of_the_readme_is_read() {
        let config = parse(WHOLE, &[]).unwrap();
        assert_eq!(config.state.dir, PathBuf::from("data"));
        assert_eq!(config.rules["payer"].params["big_spender_min"], "5000.00");
        assert!(matches!(config.sinks["out"], SinkConfig::Ndjson { .. }));
    }

    #[test]
    fn a_typo_is_named_with_its_line_and_the_nearest_key() {
        let error = parse(&WHOLE.replace("dir =", "dirr ="), &[]).unwrap_err();
        assert!(error.contains("line 3") && error.contains("did you mean `dir`?"), "{error}");
        let error = parse(&WHOLE.replace("history =", "histroy ="), &[]).unwrap_err();
        let line = 1 + WHOLE.lines().position(|l| l.starts_with("history")).unwrap();
        assert!(error.contains(&format!("line {line}: histroy =")), "{error}");
        let error = parse(&WHOLE.replace("\"maxwell\"", "\"maxwel\""), &[]).unwrap_err();
        assert!(error.contains("did you mean `maxwell`?"), "{error}");
    }

    #[test]
    fn a_missing_history_explains_both_answers() {
        let error = parse(&WHOLE.replace("history = \"complete\"", ""), &[]).unwrap_err();
        assert!(error.contains("approximate") && error.contains("exact"), "{error}");
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let config =
            parse(WHOLE, &[("RETAG_STATE__DIR", "other"), ("RETAG_ENGINE__WORKERS", "3"), ("HOME", "x")])
                .unwrap();
        assert_eq!((config.state.dir, config.engine.workers), (PathBuf::from("other"), 3));
    }

    #[test]
    fn a_number_in_the_environment_is_text_where_a_text_is_wanted() {
        let config = parse(
            WHOLE,
            &[
                ("RETAG_STATE__DIR", "2026"),
                ("RETAG_STATE__MEMORY_MAX_BYTES", "1000"),
                ("RETAG_RULES__PAYER__PARAMS__BIG_SPENDER_MIN", "5000.50"),
                ("RETAG_RULES__PAYER__PARAMS__SINCE", "2026-01-31"),
                ("RETAG_RULES__PAYER__PARAMS__QUOTED", "\"7d\""),
                ("RETAG_SOURCES__ORDERS__PRODUCER", "true"),
                ("RETAG_SOURCES__ORDERS__PATHS", "[\"a\", \"b\"]"),
            ],
        );
        let config = config.unwrap();
        assert_eq!((config.state.dir, config.state.memory_max_bytes), (PathBuf::from("2026"), 1000));
        let params = &config.rules["payer"].params;
        assert_eq!(params["big_spender_min"], "5000.50");
        assert_eq!((&params["since"], &params["quoted"]), (&"2026-01-31".into(), &"7d".into()));
        let SourceConfig::Files(files) = &config.sources["orders"] else { panic!("files") };
        assert_eq!((files.producer.as_deref(), files.paths.len()), (Some("true"), 2));
    }

    #[test]
    fn a_variable_of_no_section_is_named_with_the_nearest_one() {
        let check = |name: &str| environment([(name.into(), "x".into())].into_iter());
        let error = check("RETAG_STAT__DIR").unwrap_err().to_string();
        assert!(
            error.contains("RETAG_STAT__DIR") && error.contains("did you mean RETAG_STATE__DIR?"),
            "{error}"
        );
        let error = check("RETAG_ELSEWHERE__DIR").unwrap_err().to_string();
        assert!(error.contains("state, engine, http, sources, rules, sinks"), "{error}");
        for other in ["RETAG_CONFIG", "RETAG_FAILPOINT", "OTHER__NAME", "HOME"] {
            assert!(check(other).unwrap().is_empty(), "{other}");
        }
        assert_eq!(check("RETAG_STATE__DIR").unwrap().len(), 1);
    }

    #[test]
    fn distances() {
        for (a, b, expect) in [
            ("", "abc", 3),
            ("dirr", "dir", 1),
            ("paths", "path", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(a, b), expect);
        }
    }
}
