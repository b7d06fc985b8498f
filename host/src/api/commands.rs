//! How routes that change something reach the registry: the coordinator of a running host, or the state itself where none
//! runs. Both carry the same commands out.

use super::error::ApiError;
use crate::clock;
use crate::config::Manage;
use crate::label::{Transition, outbox};
use crate::pipeline::command::{Outcome, Submitter, reached};
use crate::pipeline::lane::lane_rows;
use crate::pipeline::parts::SharedView;
use crate::pipeline::program::Code;
use crate::pipeline::setup::{stored_positions, stored_registry};
use crate::pipeline::sweep::{SWEEP, Work, work_key};
use crate::registry::Refusal;
use crate::registry::command::{Asker, Audience, Command, Facts};
use crate::state::{Commit, StateWriter, Table};
use std::sync::{Arc, Mutex, PoisonError};

/// Where commands go.
#[derive(Clone)]
pub struct Commands {
    manage: Manage,
    way: Way,
}

#[derive(Clone)]
enum Way {
    /// Nothing takes commands here.
    Nowhere,
    Running(Submitter),
    Stopped(Arc<Stopped>),
}

struct Stopped {
    writer: Mutex<StateWriter>,
    shared: SharedView,
    terms: Terms,
}

/// What the configuration says that commands in a stopped directory need to know.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Who decides which rules run.
    pub manage: Manage,
    /// How long a replaced label generation is kept, µs.
    pub grace_us: i64,
    /// Who hears of a switch.
    pub audience: Audience,
    /// Sources that do not hold their whole history.
    pub incomplete: Vec<String>,
}

impl Commands {
    /// Commands are refused.
    #[must_use]
    pub const fn nowhere() -> Self {
        Self { manage: Manage::State, way: Way::Nowhere }
    }

    /// Commands go to a running host.
    #[must_use]
    pub const fn running(submitter: Submitter, manage: Manage) -> Self {
        Self { manage, way: Way::Running(submitter) }
    }

    /// Commands change the state itself.
    #[must_use]
    pub fn stopped(writer: StateWriter, shared: SharedView, terms: Terms) -> Self {
        let manage = terms.manage;
        let stopped = Stopped { writer: Mutex::new(writer), shared, terms };
        Self { manage, way: Way::Stopped(Arc::new(stopped)) }
    }

    /// Carries a command out and waits until it is durable. Not on a thread that serves.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn submit(&self, command: Command, code: Option<Code>, asker: Asker) -> Outcome {
        if self.manage == Manage::Config && command.changes_releases() && !asker.applies {
            return Err(Refusal::ManagedByConfig(command.name()));
        }
        match &self.way {
            Way::Nowhere => Err(Refusal::UnderWay {
                rule: command.rule().to_owned(),
                operation: 0,
                what: "a rebuild reads history; afterwards the host takes commands".to_owned(),
            }),
            Way::Running(submitter) => submitter.submit(command, code, asker),
            Way::Stopped(stopped) => stopped.carry_out(&command, &asker),
        }
    }
}

impl Stopped {
    fn carry_out(&self, command: &Command, asker: &Asker) -> Outcome {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let view = writer.view().clone();
        if view.row(Table::Meta, SWEEP)?.is_some() {
            let what = "the change that the last start began".to_owned();
            return Err(Refusal::UnderWay { rule: command.rule().to_owned(), operation: 0, what });
        }
        let damaged = |error: crate::pipeline::setup::SetupError| Refusal::Internal(error.to_string());
        let mut registry = stored_registry(&view).map_err(damaged)?;
        let works = Work::stored(&view, &registry).map_err(|e| Refusal::Internal(e.to_string()))?;
        let reached = reached(&works);
        let (lanes, before) = (registry.lanes(), works.iter().map(|w| w.operation));
        let now = clock::wall_us().max(view.engine_time());
        let positions = stored_positions(&view).map_err(damaged)?.partitions;
        let positions: Vec<u64> = positions.into_iter().map(|(_, position)| position).collect();
        let facts = Facts {
            commit: view.commit() + 1,
            now,
            view: &view,
            grace_us: self.terms.grace_us,
            audience: self.terms.audience,
            positions: &positions,
            reached: &reached,
            incomplete: &self.terms.incomplete,
        };
        let effect = registry.execute(command, asker, &facts)?;
        if !effect.done.changed {
            return Ok(effect.done);
        }
        let mut rows: Vec<_> = effect.rows.into_iter().map(|(key, row)| (Table::Meta, key, row)).collect();
        let ended = before.filter(|id| !registry.running().any(|o| o.id == *id));
        for operation in ended {
            rows.push((Table::Meta, work_key(operation), None));
        }
        for lane in &lanes - &registry.lanes() {
            let ids = lane_rows(&view, lane).map_err(|e| Refusal::Internal(e.to_string()))?;
            rows.extend(ids);
        }
        let told: Vec<Transition> = effect.switched.into_iter().collect();
        let told = outbox::encode(facts.commit, now, &told).into_iter();
        rows.extend(told.map(|(key, row)| (Table::Outbox, key, Some(row))));
        let commit = Commit {
            id: facts.commit,
            engine_time_us: now,
            rows,
            drop_spaces: effect.dropped,
            ..Commit::default()
        };
        self.shared.set(writer.commit(commit)?);
        Ok(effect.done)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}
