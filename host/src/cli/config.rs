//! `retag config check`: what a start would run, or what stands in its way, with `--state` also of what the state holds.
//! Begins nothing.

use super::ConfigArg;
use super::print::{Form, Out, Table};
use crate::config::{Config, SinkConfig};
use crate::pipeline::check::check;
use crate::pipeline::setup::Options;
use crate::registry::Registry;
use crate::sink::opened::is_built;
use crate::sink::webhook;
use crate::source::{Partition, Position, Unit};
use crate::state::{FjallStore, MemStore, StateDir, StateWriter, Store};
use anyhow::{Context, ensure};
use serde::Serialize;
use std::sync::Arc;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Check the configuration, its files and its rules without starting anything.
    Check {
        /// Go through a start on what the state holds, too; no host may run on it. The state is opened as by a start, which
        /// writes to its files: after an upgrade do it on a copy.
        #[arg(long)]
        state: bool,
        /// Form of the answer.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// What would run.
#[derive(Debug, Serialize)]
struct Plan {
    state: String,
    /// The state's last commit; null where it was not looked at, or there is none yet.
    commit: Option<u64>,
    /// What the configuration does not decide, and what a start would change.
    notes: Vec<String>,
    workers: usize,
    sources: Vec<PlannedSource>,
    rules: Vec<PlannedRule>,
    sinks: Vec<PlannedSink>,
}

#[derive(Debug, Serialize)]
struct PlannedSource {
    source: String,
    history: String,
    files: Vec<String>,
    bytes: u64,
    /// Of topics.
    partitions: Vec<String>,
    messages: u64,
}

#[derive(Debug, Serialize)]
struct PlannedRule {
    rule: String,
    entity: String,
    namespace_id: String,
    aggregates: Vec<String>,
    labels: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PlannedSink {
    sink: String,
    target: String,
}

/// Checks and prints.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let What::Check { state, output, config } = &args.what;
    let plan = plan(&Config::read(&config.config)?, *state)?;
    let mut out = Out::new();
    match output {
        Form::Table => print(&plan, &mut out)?,
        form => out.json(&plan, *form)?,
    }
    out.flush()
}

fn plan(config: &Config, with_state: bool) -> anyhow::Result<Plan> {
    let dir = config.resolve(&config.state.dir);
    let has_state = with_state && dir.join("format").exists();
    let owned = has_state.then(|| StateDir::open(&dir)).transpose().with_context(
        || "`--state` wants a stopped host; `retag apply --dry-run` says what would change in one that runs",
    )?;
    let store: Arc<dyn Store> = match &owned {
        Some(owned) => Arc::new(FjallStore::open(&owned.store_path())?),
        None => Arc::new(MemStore::new()),
    };
    let (_, view) = StateWriter::open(store)?;
    let options = Options { manage: config.registry.manage, ..Options::default() };
    let checked = check(config, &options, &view)?;
    let mut sources = Vec::new();
    for (name, source) in &config.sources {
        let of_source =
            checked.positions.partitions.iter().filter(|(partition, _)| partition.source == *name);
        let (files, topics): (Vec<_>, Vec<_>) =
            of_source.partition(|(partition, _)| partition.unit == Unit::Bytes);
        let names = |of: &[&(Partition, Position)]| of.iter().map(|(p, _)| p.name.clone()).collect();
        sources.push(PlannedSource {
            source: name.clone(),
            history: format!("{:?}", source.history()).to_lowercase(),
            bytes: files.iter().map(|(file, _)| file.first_size).sum(),
            messages: topics.iter().map(|(topic, at)| topic.first_size.saturating_sub(*at)).sum(),
            files: names(&files),
            partitions: names(&topics),
        });
    }
    let mut sinks = Vec::new();
    for (name, sink) in &config.sinks {
        let target = match sink {
            SinkConfig::Stdout { .. } => "standard output".to_owned(),
            SinkConfig::Ndjson { path, .. } => {
                let path = config.resolve(path);
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                ensure!(
                    folder.is_none_or(std::path::Path::is_dir),
                    "sink {name}: the folder of {} does not exist; make it or name another path",
                    path.display()
                );
                path.display().to_string()
            }
            SinkConfig::Redis(_) => sink.kind().to_owned(),
            SinkConfig::Webhook(webhook) => webhook::shown(name, webhook, &config.folder)?,
            SinkConfig::Kafka(kafka) => {
                is_built(name, sink)?;
                format!("topic {} at {}", kafka.topic, kafka.bootstrap_servers)
            }
        };
        sinks.push(PlannedSink { sink: name.clone(), target });
    }
    Ok(Plan {
        state: dir.display().to_string(),
        commit: owned.map(|_| view.commit()),
        notes: checked.notes,
        workers: config.engine.workers,
        sources,
        rules: rules(&checked.registry)?,
        sinks,
    })
}

/// The rules that would be live.
fn rules(registry: &Registry) -> anyhow::Result<Vec<PlannedRule>> {
    let mut rules = Vec::new();
    for name in registry.live.keys() {
        let live = registry.live(name).context("a rule without labels")?;
        let namespace = registry.namespace_of(live.namespace).context("labels without sums")?;
        rules.push(PlannedRule {
            rule: namespace.rule.clone(),
            entity: registry.entity_of(namespace.space).map_or_else(String::new, |(_, e)| e.name.clone()),
            namespace_id: namespace.namespace_id.clone(),
            aggregates: namespace.aggregates.iter().map(|a| format!("{} ({})", a.name, a.kind)).collect(),
            labels: live.labels.iter().map(|l| l.name.clone()).collect(),
        });
    }
    Ok(rules)
}

fn print(plan: &Plan, out: &mut Out) -> anyhow::Result<()> {
    let commit = plan.commit.map_or_else(String::new, |commit| format!(" (as of commit {commit})"));
    out.line(&format!("state in {}{commit}, {} workers", plan.state, plan.workers))?;
    plan.notes.iter().try_for_each(|note| out.line(note))?;
    out.line("")?;
    let mut table = Table::new(["SOURCE", "HISTORY", "PARTITIONS", "BYTES", "MESSAGES"]);
    for source in &plan.sources {
        table.row([
            source.source.clone(),
            source.history.clone(),
            [source.files.as_slice(), &source.partitions].concat().join(", "),
            source.bytes.to_string(),
            source.messages.to_string(),
        ]);
    }
    table.print(out)?;
    out.line("")?;
    let mut table = Table::new(["RULE", "ENTITY", "NAMESPACE", "LABELS", "AGGREGATES"]);
    for rule in &plan.rules {
        table.row([
            rule.rule.clone(),
            rule.entity.clone(),
            rule.namespace_id.chars().take(12).collect(),
            rule.labels.join(", "),
            rule.aggregates.join(", "),
        ]);
    }
    table.print(out)?;
    out.line("")?;
    let mut table = Table::new(["SINK", "TARGET"]);
    for sink in &plan.sinks {
        table.row([sink.sink.clone(), sink.target.clone()]);
    }
    table.print(out)
}
