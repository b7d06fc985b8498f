//! Which rules run: the configuration compared with what the state holds.
//!
//! The configuration brings rules in; from the first command on that changes one's releases, its file is only compared
//! ([`stored`]). Until then:
//! The same namespace id goes on; another one, or a rule new to a state that has read something, needs history and is
//! refused with the way out. The same namespace with other labels or parameters gets a new label generation.

use super::program::{Code, GenerationRun, LiveRule};
use super::rows::Positions;
use super::setup::Options;
use super::sweep::Pair;
use crate::aggregate::{Aggregate, AggregateError};
use crate::config::{Config, Manage};
use crate::label::Cause;
use crate::registry::revision::{Report, file_key};
use crate::registry::{
    Generation, GenerationState, KeyType, LabelNames, NO_SPACE, Namespace, Registry, Revision,
};
use crate::rule::{CompiledRule, Limits, Manifest, ParamValues, RuleEngine, RuleError, RuleFile};
use crate::state::{StoreError, View};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod detach;
mod loaded;
mod managed;
pub mod stored;
mod unique;

/// A rule that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error("rule {rule}: {path}: {error}; build it with `retag rule build` and put it there")]
    Unreadable {
        /// Rule.
        rule: String,
        /// File.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no rule, or one that this host refuses.
    #[error("rule {rule}: {path}: {error}")]
    Refused {
        /// Rule.
        rule: String,
        /// File.
        path: PathBuf,
        /// Why.
        error: Box<RuleError>,
    },
    /// Kinds and features that are still to come.
    #[error("rule {rule}: {error}")]
    Aggregate {
        /// Rule.
        rule: String,
        /// Why.
        error: AggregateError,
    },
    /// The name in the file is another one.
    #[error("rule {rule}: {path} holds the rule `{found}`; call the section [rules.{found}]")]
    Name {
        /// Name of the section.
        rule: String,
        /// File.
        path: PathBuf,
        /// Name in the manifest.
        found: String,
    },
    /// Two rules have one entity with two key types.
    #[error(
        "rule {rule}: entity `{entity}` has keys of another type in this state; a state has one key type an entity"
    )]
    KeyType {
        /// Rule.
        rule: String,
        /// Entity.
        entity: String,
    },
    /// Two live rules have a label of one name.
    #[error("rule {rule}: label `{label}` belongs to rule {other} already; rename one of them")]
    LabelTaken {
        /// Rule.
        rule: String,
        /// Label.
        label: String,
        /// The other rule.
        other: String,
    },
    /// The rule's sums would lack everything before the stored positions.
    #[error(
        "needs-history: rule {rule} {what}, but this state has read its sources already and the rule's sums would lack \
         everything before\n  namespace in the state: {stored}\n  namespace of the file: {file}\n\
         start once with --rebuild {rule} to read its history from the start of the sources, or put back what was configured \
         before, start, and bring it in while the host runs: `retag rule push FILE`, `retag rule prepare {rule}@N`"
    )]
    NeedsHistory {
        /// Rule.
        rule: String,
        /// What is new about it.
        what: &'static str,
        /// Namespace id in the state.
        stored: String,
        /// Namespace id of the file.
        file: String,
    },
    /// `--remove` of a rule that the configuration names.
    #[error("--remove {rule}: take [rules.{rule}] out of the configuration first")]
    StillConfigured {
        /// Rule.
        rule: String,
    },
    /// A command has changed a rule, and its last switch is still being told.
    #[error(
        "rule {rule}: its last switch is still being told; start once without changing how it is managed, afterwards again"
    )]
    StillTelling {
        /// Rule.
        rule: String,
    },
    /// The configuration cannot decide on a rule that stands still.
    #[error(
        "rule {0} is paused, or has not caught up; start once with manage = \"state\" and `retag rule resume {0}`"
    )]
    StillPaused(String),
    /// The state lacks a file that it needs.
    #[error("state-corrupt: rule {rule}: the state does not hold its file {file}; restore it from a backup")]
    FileGone {
        /// Rule.
        rule: String,
        /// sha256 of the file.
        file: String,
    },
    /// The state.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The state has a rule that the configuration does not name.
    #[error(
        "rule {rule} is in the state but not in the configuration; name it again, or start once with --remove {rule} \
         to drop its sums and labels"
    )]
    Missing {
        /// Rule.
        rule: String,
    },
}

/// The rules of a configuration, attached to a state.
pub struct Attached {
    /// The registry with them in it.
    pub registry: Registry,
    /// The registry or the spaces changed.
    pub changed: bool,
    /// Spaces that end.
    pub dropped: Vec<u32>,
    /// What runs (tables and targets still empty).
    pub rules: Vec<LiveRule>,
    /// Label generations that replace another one.
    pub pairs: Vec<Pair>,
    /// Rows of the `Meta` table: files that the state does not hold yet.
    pub files: Vec<(Vec<u8>, Vec<u8>)>,
    /// What else a start has to say of the configuration, in words.
    pub notes: Vec<String>,
}

/// Attaches the configured rules.
///
/// # Errors
/// The first rule that cannot run, by name.
pub fn attach(
    rules: &[Loaded],
    options: &Options,
    registry: Registry,
    positions: &Positions,
    view: &View,
) -> Result<Attached, RulesError> {
    let before = registry.clone();
    let mut attached = Attached::new(registry);
    if options.manage == Manage::Config {
        managed::give_back_all(&mut attached)?;
    }
    detach::detach(rules, (options, view), &mut attached)?;
    let fresh = positions.partitions.iter().all(|(partition, position)| *position == partition.begins);
    for rule in rules {
        if is_taken_over(&attached, &rule.name) {
            continue;
        }
        let mut live = match settle(&mut attached, rule.clone(), fresh) {
            Err(RulesError::NeedsHistory { .. })
                if managed::leave(&mut attached, &rule.name, (options, view))?
                    || managed::is_brought_in(&mut attached, rule, (options, view))? =>
            {
                continue;
            }
            settled => settled?,
        };
        let namespace = attached.registry.namespace_of(live.namespace);
        if let Some(adopting) = namespace.filter(|n| n.namespace_id != rule.namespace_id) {
            let engine = rule_engine(options.cache.as_deref())?;
            live.compiled = stored::stored_map(&engine, view, adopting)?;
        }
        keep_revision(&mut attached, rule, &live, (view, options.started_us))?;
        attached.rules.push(live);
    }
    stored::attach((view, options), &mut attached)?;
    if options.manage == Manage::Config {
        managed::note_all(rules, &mut attached.registry);
    }
    attached.rules.sort_by(|a, b| (&a.name, a.namespace).cmp(&(&b.name, b.namespace)));
    unique::labels(&attached)?;
    attached.changed = attached.registry != before || !attached.dropped.is_empty();
    Ok(attached)
}

impl Attached {
    /// Nothing is attached yet.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            changed: false,
            dropped: Vec::new(),
            rules: Vec::new(),
            pairs: Vec::new(),
            files: Vec::new(),
            notes: Vec::new(),
        }
    }
}

fn is_taken_over(attached: &Attached, rule: &str) -> bool {
    attached.registry.taken_over.contains(rule)
}

/// Keeps the configured file as the revision of the generation that it labels by, if that is new to the state.
fn keep_revision(
    attached: &mut Attached,
    loaded: &Loaded,
    live: &LiveRule,
    (view, started_us): (&View, i64),
) -> Result<(), RulesError> {
    let Some(space) = live.generations.first().map(|g| g.space) else { return Ok(()) };
    let registry = &mut attached.registry;
    let live_space = registry.live.get(&loaded.name).copied();
    for other in registry.generations.iter_mut().filter(|g| g.rule == loaded.name && g.space != space) {
        if other.state.is_evaluated() && Some(other.space) != live_space {
            other.state = GenerationState::Retired; // replaced before anything was read
        }
    }
    let Some(generation) = registry.generations.iter_mut().find(|g| g.space == space) else { return Ok(()) };
    if generation.file.is_empty() {
        generation.file.clone_from(&loaded.file);
        generation.given.clone_from(&loaded.given);
    }
    let number = generation.revision;
    if registry.revision(&loaded.name, number).is_none() {
        let uploaded_us = started_us.max(view.engine_time());
        registry.revisions.push(Revision { number, uploaded_us, ..loaded.revision("configuration", "") });
    }
    let key = file_key(&loaded.file);
    if view.row(crate::state::Table::Meta, &key)?.is_none() {
        attached.files.push((key, loaded.compiled.file.label_wasm.clone()));
    }
    Ok(())
}

/// The rules of a configuration.
#[derive(Clone, Default)]
pub struct ConfiguredRules {
    /// Those that can run.
    pub rules: Vec<Loaded>,
    /// Those that commands decide on and whose configured file cannot run, and why.
    pub unread: BTreeMap<String, String>,
}

/// A rule read from its file, compiled and checked.
#[derive(Clone)]
pub struct Loaded {
    pub(super) name: String,
    pub(super) compiled: Arc<CompiledRule>,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) params: ParamValues,
    pub(super) namespace_id: String,
    label_id: String,
    /// sha256 of the file.
    file: String,
    /// Parameters as they were given.
    given: BTreeMap<String, Value>,
}

impl Loaded {
    /// What the registry keeps of it; number and time are given by the registry.
    #[must_use]
    pub fn revision(&self, by: &str, why: &str) -> Revision {
        let file = &self.compiled.file;
        let checks = ["imports and exports", "manifest", "compiles", "start-up cost", "purity"];
        Revision {
            rule: self.name.clone(),
            number: 0,
            file: self.file.clone(),
            bytes: file.bytes as u64,
            map_id: file.map_id(),
            namespace_id: self.namespace_id.clone(),
            label_id: self.label_id.clone(),
            manifest: (*self.compiled.manifest).clone(),
            given: self.given.clone(),
            params: canonical(&self.params),
            uploaded_us: 0,
            by: by.to_owned(),
            why: why.to_owned(),
            report: Report {
                checks: checks.map(str::to_owned).into(),
                fuel_per_row: self.compiled.fuel_per_row,
                memory_bytes_max: self.compiled.limits.memory_bytes as u64,
                modules: if file.one_module { 1 } else { 2 },
            },
            previews: Vec::new(),
            adopted: None,
            failure: String::new(),
        }
    }

    /// The code of a label generation of it.
    #[must_use]
    pub fn code(&self) -> Code {
        Code { compiled: self.compiled.clone(), params: self.params.clone() }
    }
}

/// Parameters in the form in which the registry compares them.
fn canonical(params: &ParamValues) -> BTreeMap<String, Value> {
    serde_json::from_str(params.canonical()).unwrap_or_default()
}

/// What compiles rules; compiled code is kept in the state directory, where one is given.
///
/// # Errors
/// The machine is not supported.
pub fn rule_engine(state: Option<&Path>) -> Result<RuleEngine, RulesError> {
    let engine = RuleEngine::new().map_err(|error| RulesError::Refused {
        rule: String::new(),
        path: PathBuf::new(),
        error: Box::new(error),
    })?;
    Ok(match state {
        Some(state) => engine.with_cache(state),
        None => engine,
    })
}

/// Reads the configured rules from their files; of those in `taken_over` a file that is not there or no good is passed
/// over, for they run from the state. Compiled code is kept in the state directory, where one is given.
///
/// # Errors
/// The first rule that cannot run, by name.
pub fn load_all(
    config: &Config,
    taken_over: &BTreeSet<String>,
    state: Option<&Path>,
) -> Result<ConfiguredRules, RulesError> {
    let engine = rule_engine(state)?;
    let mut configured = ConfiguredRules::default();
    for (name, rule) in &config.rules {
        let path = config.resolve(&rule.path);
        let read = std::fs::read(&path).map_err(|error| RulesError::Unreadable {
            rule: name.clone(),
            path: path.clone(),
            error,
        });
        match read.and_then(|bytes| load(&engine, name, (path, bytes), &rule.params)) {
            Err(why) if taken_over.contains(name) => {
                configured.unread.insert(name.clone(), why.to_string());
            }
            loaded => configured.rules.push(loaded?),
        }
    }
    engine.trim_cache();
    Ok(configured)
}

/// Compiles and checks the rule in `file` (its path for messages, its bytes).
///
/// # Errors
/// Why it cannot run.
pub fn load(
    engine: &RuleEngine,
    name: &str,
    (path, bytes): (PathBuf, Vec<u8>),
    params: &BTreeMap<String, serde_json::Value>,
) -> Result<Loaded, RulesError> {
    let refused = |error| {
        let error = Box::new(error);
        RulesError::Refused { rule: name.to_owned(), path: path.clone(), error }
    };
    let file = RuleFile::read(&bytes).map_err(refused)?;
    if file.manifest.name != name {
        let found = file.manifest.name.clone();
        return Err(RulesError::Name { rule: name.to_owned(), path, found });
    }
    let mut aggregates = Vec::new();
    for declared in &file.manifest.aggregates {
        let aggregate = Aggregate::from_manifest(declared)
            .map_err(|error| RulesError::Aggregate { rule: name.to_owned(), error })?;
        aggregates.push(aggregate);
    }
    let (limits, id) = (Limits::default(), RuleFile::file_id(&bytes));
    let (namespace_id, label_id) = (file.namespace_id(&limits, ""), file.label_id());
    let compiled = engine.compile(file, limits).map_err(refused)?;
    let given = params.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let values = compiled.params(&given).map_err(refused)?;
    Ok(Loaded {
        name: name.to_owned(),
        compiled,
        aggregates,
        params: values,
        namespace_id,
        label_id,
        file: id,
        given: params.clone(),
    })
}

/// Finds or makes the rule's namespace and label generation.
fn settle(attached: &mut Attached, loaded: Loaded, fresh: bool) -> Result<LiveRule, RulesError> {
    let manifest = loaded.compiled.manifest.clone();
    let rule = loaded.name.clone();
    let needs_history = |what, stored: &str| RulesError::NeedsHistory {
        rule: rule.clone(),
        what,
        stored: stored.to_owned(),
        file: loaded.namespace_id.clone(),
    };
    let registry = &mut attached.registry;
    let namespace = match registry.namespace(&loaded.name) {
        Some(stored) if stored.counts(&loaded.namespace_id) => stored.space,
        Some(stored) if !fresh => return Err(needs_history("has another map side", &stored.namespace_id)),
        None if !fresh => return Err(needs_history("is new", "none")),
        _ => {
            drop_rule(registry, &loaded.name, &mut attached.dropped);
            new_namespace(registry, &loaded, &manifest)?
        }
    };
    let entity = registry.entity_of(namespace).map_or(0, |(number, _)| number);
    let space = settle_generation(attached, &loaded, namespace, fresh);
    let generation = GenerationRun::new(space, true, loaded.code());
    Ok(loaded.live((namespace, entity), vec![generation]))
}

/// Finds or makes the rule's label generation; one that differs from the live one is to be swept.
fn settle_generation(attached: &mut Attached, loaded: &Loaded, namespace: u32, fresh: bool) -> u32 {
    let registry = &mut attached.registry;
    let entity = registry.entity_of(namespace).map_or(0, |(number, _)| number);
    let params = canonical(&loaded.params);
    let wanted =
        |g: &Generation| g.label_id == loaded.label_id && g.params == params && g.namespace == namespace;
    let live = registry.live(&loaded.name).cloned();
    if let Some(live) = live.as_ref().filter(|live| wanted(live)) {
        // A change that was begun and taken back leaves a generation half swept.
        let half = |g: &Generation| g.state == GenerationState::Sweeping && g.rule == loaded.name;
        attached.dropped.extend(registry.generations.iter().filter(|g| half(g)).map(|g| g.space));
        registry.generations.retain(|g| !half(g));
        return live.space;
    }
    if fresh {
        let space = new_generation(registry, loaded, namespace, params);
        registry.live.insert(loaded.name.clone(), space);
        return space;
    }
    // One that a crash left half swept goes on; one for other labels or parameters is dropped.
    let half = |g: &&Generation| g.state == GenerationState::Sweeping && g.rule == loaded.name;
    let half = registry.generations.iter().find(half).cloned();
    let space = match &half {
        Some(half) if wanted(half) => half.space,
        other => {
            if let Some(other) = other {
                attached.dropped.push(other.space);
                registry.generations.retain(|g| g.space != other.space);
            }
            new_generation(registry, loaded, namespace, params)
        }
    };
    let old = live.unwrap_or_else(|| Generation::nothing(&loaded.name, namespace));
    let cause = match &old {
        old if old.namespace != namespace || old.space == NO_SPACE => Cause::Backfill,
        old if old.label_id == loaded.label_id => Cause::Params,
        _ => Cause::Swap,
    };
    if let Some(new) = registry.generations.iter_mut().find(|g| g.space == space) {
        new.state = GenerationState::Sweeping;
        attached.pairs.push(Pair { entity, old, new: new.clone(), cause, announced: false });
    }
    space
}

/// Attaches a namespace for the rule under a new number.
pub(super) fn new_namespace(
    registry: &mut Registry,
    loaded: &Loaded,
    manifest: &Manifest,
) -> Result<u32, RulesError> {
    let wrong = || RulesError::KeyType { rule: loaded.name.clone(), entity: manifest.entity.clone() };
    let key = KeyType::of(manifest.key).ok_or_else(wrong)?;
    let entity = registry.entity(&manifest.entity, key).ok_or_else(wrong)?;
    let space = registry.new_space();
    registry.namespaces.push(Namespace {
        space,
        rule: loaded.name.clone(),
        namespace_id: loaded.namespace_id.clone(),
        entity,
        aggregates: manifest.aggregates.clone(),
        key_column: manifest.tables.first().map_or_else(String::new, |t| t.key.clone()),
        fence: Vec::new(),
        filling: false,
        file: loaded.file.clone(),
        adopted: Vec::new(),
    });
    Ok(space)
}

fn new_generation(
    registry: &mut Registry,
    loaded: &Loaded,
    namespace: u32,
    params: BTreeMap<String, serde_json::Value>,
) -> u32 {
    let revision = registry.next_revision(&loaded.name);
    let space = registry.new_space();
    let labels = loaded.compiled.manifest.labels.iter();
    registry.generations.push(Generation {
        space,
        rule: loaded.name.clone(),
        namespace,
        revision,
        label_id: loaded.label_id.clone(),
        params,
        labels: labels.map(|l| LabelNames { name: l.name.clone(), values: l.values.clone() }).collect(),
        state: GenerationState::Ready,
        file: loaded.file.clone(),
        given: loaded.given.clone(),
        retained: None,
    });
    space
}

fn drop_rule(registry: &mut Registry, name: &str, dropped: &mut Vec<u32>) {
    dropped.extend(registry.namespaces.iter().filter(|n| n.rule == name).map(|n| n.space));
    dropped.extend(registry.generations.iter().filter(|g| g.rule == name).map(|g| g.space));
    registry.namespaces.retain(|n| n.rule != name);
    registry.live.remove(name);
    // Messages of a dropped generation may still wait in the outbox: its names stay.
}

impl Loaded {
    /// It as it runs on a namespace and its entity, with label generations.
    fn live(self, (namespace, entity): (u32, u16), generations: Vec<GenerationRun>) -> LiveRule {
        LiveRule {
            key: KeyType::of(self.compiled.manifest.key).unwrap_or(KeyType::Bytes),
            name: self.name,
            compiled: self.compiled,
            namespace,
            entity,
            aggregates: self.aggregates,
            targets: Vec::new(),
            tables: Vec::new(),
            generations,
            filling: Vec::new(),
        }
    }

    /// It as it is rebuilt: without labels.
    #[must_use]
    pub(super) fn live_for(self, namespace: &Namespace) -> LiveRule {
        self.live((namespace.space, namespace.entity), Vec::new())
    }
}
