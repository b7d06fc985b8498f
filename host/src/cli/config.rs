//! `retag config check`: what would run, or what stands in the way. Writes nothing.

use super::ConfigArg;
use super::print::{Form, Out, Table};
use crate::config::{Config, SinkConfig};
use crate::pipeline::rows::Positions;
use crate::pipeline::rules::{attach, load_all};
use crate::pipeline::setup::Options;
use crate::pipeline::sources::find;
use crate::registry::Registry;
use crate::sink::opened::is_built;
use crate::sink::webhook;
use crate::source::{Partition, Unit};
use crate::state::{MemStore, StateWriter};
use anyhow::{Context, ensure};
use serde::Serialize;
use std::collections::BTreeSet;
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
    let What::Check { output, config } = &args.what;
    let plan = plan(&Config::read(&config.config)?)?;
    let mut out = Out::new();
    match output {
        Form::Table => print(&plan, &mut out)?,
        form => out.json(&plan, *form)?,
    }
    out.flush()
}

fn plan(config: &Config) -> anyhow::Result<Plan> {
    let mut sources = Vec::new();
    for (name, source) in &config.sources {
        let partitions = find(config, (name, source), &[], false)?;
        let (files, topics): (Vec<_>, Vec<_>) =
            partitions.into_iter().partition(|(partition, _)| partition.unit == Unit::Bytes);
        let names =
            |partitions: &[(Partition, u64)]| partitions.iter().map(|(p, _)| p.name.clone()).collect();
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
        state: config.resolve(&config.state.dir).display().to_string(),
        workers: config.engine.workers,
        sources,
        rules: rules(config)?,
        sinks,
    })
}

/// The rules as a new state would attach them: read, compiled, their parameters checked.
fn rules(config: &Config) -> anyhow::Result<Vec<PlannedRule>> {
    let rules = load_all(config, &BTreeSet::new(), None)?; // nothing is written
    let (_, view) = StateWriter::open(Arc::new(MemStore::new()))?; // a state that holds nothing
    let attached = attach(&rules, &Options::default(), Registry::default(), &Positions::default(), &view)?;
    let registry = &attached.registry;
    let mut rules = Vec::new();
    for namespace in &registry.namespaces {
        let live = registry.live(&namespace.rule).context("a rule without labels")?;
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
    out.line(&format!("state in {}, {} workers\n", plan.state, plan.workers))?;
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
