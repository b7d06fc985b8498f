//! What differs between the configured rules and those that a host runs. The host compares: it compiles and checks each file
//! as an upload of it would be, and keeps nothing.

use crate::api::release::{FilePlan, RevisionAnswer};
use crate::api::rules::RuleAnswer;
use crate::cli::ask::{refusal_code, segment};
use crate::cli::rule::look::Revisions;
use crate::cli::rule::release::{Session, revisions};
use crate::config::{Config, Manage, RuleConfig};
use crate::registry::diff::Diff;
use crate::registry::plan::{Plan, PlanKind};
use crate::registry::revision::Release;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is to be done about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// It runs as configured.
    Nothing,
    /// It does not run yet.
    Add,
    /// It runs otherwise.
    Change,
    /// It runs as configured, and something else is prepared for it that is not configured.
    Cancel,
    /// It is not configured, and goes.
    Remove,
    /// It is not configured, and stays: nobody said `--prune`.
    Keep,
}

impl Action {
    pub(super) const fn changes(self) -> bool {
        !matches!(self, Self::Nothing | Self::Keep)
    }
}

/// A rule, and what is to be done about it.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) rule: String,
    pub(super) action: Action,
    /// The revision with the configured file and parameters; null = there is none yet.
    pub(super) revision: Option<u32>,
    /// What that changes.
    pub(super) plan: Option<Plan>,
    /// The same with both sides of each difference; null = the rule is not live.
    pub(super) diff: Option<Diff>,
    /// Revisions that are prepared and not configured.
    pub(super) cancels: Vec<u32>,
    /// The commit with which it was done.
    pub(super) commit: Option<u64>,
    #[serde(skip)]
    pub(super) wanted: Option<Wanted>,
}

/// A rule as the configuration has it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) file: Vec<u8>,
    pub(super) params: BTreeMap<String, Value>,
    /// The file's path, for messages.
    path: String,
}

#[derive(Deserialize)]
struct Rules {
    rules: Vec<RuleAnswer>,
}

impl Step {
    fn of(rule: &str, action: Action) -> Self {
        Self {
            rule: rule.to_owned(),
            action,
            revision: None,
            plan: None,
            diff: None,
            cancels: Vec::new(),
            commit: None,
            wanted: None,
        }
    }

    /// Its file is to go live.
    pub(super) const fn is_brought_in(&self) -> bool {
        matches!(self.action, Action::Add | Action::Change)
    }

    /// What is to be done, in words.
    pub(super) fn words(&self) -> String {
        // A plan's sentence ends with the command that a person would type next.
        let plan = self.plan.as_ref().and_then(|plan| plan.words.split("; `").next()).unwrap_or_default();
        let cancels: Vec<String> = self.cancels.iter().map(|n| format!("{}@{n}", self.rule)).collect();
        let cancels = match cancels.is_empty() {
            true => String::new(),
            false => format!("; {} is prepared and not configured: dropped", cancels.join(", ")),
        };
        match self.action {
            Action::Nothing => "runs as configured".to_owned(),
            Action::Add => format!("add: {plan}{cancels}"),
            Action::Change => format!("change: {plan}{cancels}"),
            Action::Cancel => format!("runs as configured{cancels}"),
            Action::Remove => "remove: its labels are unset, then its sums go".to_owned(),
            Action::Keep => {
                "is not in the configuration, and stays; `retag apply --prune` takes it out".to_owned()
            }
        }
    }
}

impl Wanted {
    fn read(config: &Config, name: &str, rule: &RuleConfig) -> anyhow::Result<Self> {
        let path = config.resolve(&rule.path);
        let shown = path.display().to_string();
        let file = std::fs::read(&path).with_context(|| {
            format!("[rules.{name}]: cannot read {shown}; build it with `retag rule build` and put it there")
        })?;
        Ok(Self { file, params: rule.params.clone(), path: shown })
    }

    /// Its parameters as a part of a query.
    pub(super) fn query(&self) -> anyhow::Result<String> {
        Ok(format!("params={}", segment(&serde_json::to_string(&self.params)?)))
    }
}

/// What is to be done about every rule: the configured ones by name, then the others.
///
/// # Errors
/// A file that is not there, or that the host refuses.
pub(super) fn steps(session: &Session, config: &Config, prune: bool) -> anyhow::Result<Vec<Step>> {
    let Rules { rules } = session.asker.read("/v1/rules")?;
    let mut wanted = Vec::new();
    for (name, rule) in &config.rules {
        wanted.push((name, Wanted::read(config, name, rule)?));
    }
    let mut steps = Vec::new();
    for (name, wanted) in wanted {
        steps.push(step(session, config.registry.manage, name, wanted)?);
    }
    let action = if prune { Action::Remove } else { Action::Keep };
    let others = rules.iter().filter(|rule| !config.rules.contains_key(&rule.rule));
    steps.extend(others.map(|rule| Step::of(&rule.rule, action)));
    labels_are_free(&steps, &rules)?;
    for rule in &rules {
        let stands_still = rule.pause.as_ref().is_some_and(|pause| pause.operation.is_none());
        let changes = |step: &Step| step.rule == rule.rule && step.action == Action::Change;
        anyhow::ensure!(
            !stands_still || !steps.iter().any(changes),
            "rule {0} is paused and configured otherwise than it runs: `retag rule resume {0}`, then apply again",
            rule.rule
        );
    }
    Ok(steps)
}

/// Every label that a rule would get is free, or given up by the same configuration.
fn labels_are_free(steps: &[Step], rules: &[RuleAnswer]) -> anyhow::Result<()> {
    let of = |rule: &str| steps.iter().find(|step| step.rule == rule);
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for rule in rules {
        let step = of(&rule.rule).filter(|step| step.action.changes());
        let removed = step.and_then(|step| step.plan.as_ref()).map(|plan| plan.labels.removed.as_slice());
        let goes = |label: &String| {
            step.is_some_and(|step| step.action == Action::Remove)
                || removed.is_some_and(|all| all.contains(label))
        };
        let stay = rule.labels.iter().map(|l| &l.label).filter(|label| !goes(label));
        taken.extend(stay.map(|label| (label.as_str(), rule.rule.as_str())));
    }
    for step in steps.iter().filter(|step| matches!(step.action, Action::Add | Action::Change)) {
        for label in step.plan.iter().flat_map(|plan| &plan.labels.added) {
            let other = taken.insert(label, &step.rule).filter(|other| *other != step.rule);
            if let Some(other) = other {
                anyhow::bail!(
                    "label-taken: [rules.{}]: its label `{label}` belongs to rule {other}, which keeps it; rename one of them. Nothing \
                     was changed",
                    step.rule
                );
            }
        }
    }
    Ok(())
}

fn step(session: &Session, manage: Manage, name: &str, wanted: Wanted) -> anyhow::Result<Step> {
    let path = format!("/v1/rules/{}/plan?{}", segment(name), wanted.query()?);
    let planned: anyhow::Result<FilePlan> = session.asker.post(&path, wanted.file.clone());
    let FilePlan { revision, plan, diff, .. } =
        planned.with_context(|| format!("[rules.{name}], {}", wanted.path))?;
    let kept = (plan.kind != PlanKind::Nothing).then_some(revision).flatten();
    // Where others decide too, what is prepared may be theirs.
    let cancels = match manage {
        Manage::Config => prepared(session, name, kept)?,
        Manage::State => Vec::new(),
    };
    let action = match (plan.kind, plan.against) {
        (PlanKind::Nothing, _) if cancels.is_empty() => Action::Nothing,
        (PlanKind::Nothing, _) => Action::Cancel,
        (_, None) => Action::Add,
        (_, Some(_)) => Action::Change,
    };
    let (plan, wanted) = (Some(plan), Some(wanted));
    Ok(Step { revision, plan, diff, cancels, wanted, ..Step::of(name, action) })
}

/// Revisions of a rule that are prepared and never were live, but for the one to keep.
fn prepared(session: &Session, rule: &str, kept: Option<u32>) -> anyhow::Result<Vec<u32>> {
    let all = match session.asker.read(&revisions(rule)) {
        Err(error) if refusal_code(&error) == Some("unknown-rule") => Vec::new(),
        all => all.map(|all: Revisions| all.revisions)?,
    };
    let is_prepared = |r: &&RevisionAnswer| matches!(r.release, Release::Preparing | Release::Ready);
    Ok(all.iter().filter(is_prepared).map(|r| r.revision).filter(|n| Some(*n) != kept).collect())
}
