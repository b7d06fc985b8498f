//! `retag.toml`: sources, rules, sinks and state; every key also as environment (`RETAG_STATE__DIR`).
//!
//! Relative paths count from the configuration's folder. Unknown keys are errors that name the nearest known key.

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
    /// Logs of changes, by name.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceConfig>,
    /// Rules, by name.
    #[serde(default)]
    pub rules: BTreeMap<String, RuleConfig>,
    /// Outputs, by name.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkConfig>,
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
}

fn default_memory() -> u64 {
    8 << 30
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
}

impl Default for EngineConfig {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, |n| n.get().min(64));
        Self { workers, cycle_bytes_max: 64 << 20, block_bytes: 1 << 20, poll_ms: 20 }
    }
}

/// What a source holds of the past.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum History {
    /// Every change since the tables were empty.
    Complete,
    /// It begins somewhere: sums of rows that lived before are approximate.
    None,
}

/// `[sources.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum SourceConfig {
    /// Files of messages, one a line; each file is one partition of the log.
    Files {
        /// Format of the messages.
        format: Format,
        /// Files or globs, read side by side.
        paths: Vec<String>,
        /// What the files hold of the past.
        history: History,
        /// Name of the producer whose change ids these are; default: the source's name.
        #[serde(default)]
        producer: Option<String>,
        /// Tables with columns that the producer hides: an update without `old` is then one that changed only those.
        #[serde(default)]
        hidden_columns: Vec<String>,
        /// What a refused message does; only `stop` for now.
        #[serde(default)]
        on_refusal: OnRefusal,
    },
}

/// Message formats.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Maxwell JSON.
    Maxwell,
}

/// What a refusal does.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OnRefusal {
    /// The host commits everything before the message and stops with its name.
    #[default]
    Stop,
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

/// `[sinks.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum SinkConfig {
    /// A file with one JSON message a line.
    Ndjson {
        /// The file; appended to.
        path: PathBuf,
    },
    /// A table for people on standard output.
    Stdout {},
}

impl Config {
    /// Reads a configuration file and lays the environment over it.
    ///
    /// # Errors
    /// An unreadable file, a typo, a missing key: what, where, and what is known.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let text_pair =
            |(name, value): (OsString, OsString)| name.into_string().ok().zip(value.into_string().ok());
        let environment = std::env::vars_os().filter_map(text_pair);
        let mut config = Self::parse(&text, environment)
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
        let config = parsed.map_err(|e| explain(&e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.sources.is_empty() {
            return Err("no source: add a [sources.NAME] with type, format, paths and history".into());
        }
        for (name, SourceConfig::Files { paths, .. }) in &self.sources {
            if paths.is_empty() {
                return Err(format!("sources.{name}.paths: name at least one file or glob"));
            }
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
        Ok(())
    }

    /// `path` as seen from the configuration's folder.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

/// Lays `RETAG_SECTION__NAME__KEY=value` over the table; true if there was one.
fn overlay(table: &mut toml::Table, environment: impl Iterator<Item = (String, String)>) -> bool {
    let mut changed = false;
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix("RETAG_") else { continue };
        let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let known = ["state", "engine", "sources", "rules", "sinks"];
        if path.len() < 2 || !path.first().is_some_and(|first| known.contains(&first.as_str())) {
            continue;
        }
        let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
        let value = parsed.unwrap_or(toml::Value::String(value));
        changed |= insert(table, &path, value);
    }
    changed
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
