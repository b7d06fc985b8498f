//! The state as of one commit, together with what it says of rules and positions: what every answer is made from.

use super::about::About;
use super::error::{ApiError, listed};
use super::rebuild::What;
use crate::clock;
use crate::pipeline::rows::{POSITIONS, Positions, TOTALS, Totals};
use crate::registry::{Entity, Generation, META_KEY, Namespace, Registry};
use crate::state::{Record, Table, View, entity_key, key_hash, shard_of};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A view with its registry. Held for one answer.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The view.
    pub view: Arc<View>,
    /// What it knows of rules.
    pub registry: Arc<Registry>,
    /// How far its sources are.
    pub positions: Arc<Positions>,
    /// Directory and configuration.
    pub about: Arc<About>,
}

/// What the last reader knew beside its view, which is held for answers only.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The registry as it is stored: it is read anew only when it has changed.
    stored: Option<Vec<u8>>,
    registry: Arc<Registry>,
    /// Positions of this commit.
    positions: Option<(u64, Arc<Positions>)>,
}

impl Facts {
    /// A reader of `view`.
    pub(super) fn reader(&mut self, view: Arc<View>, about: &Arc<About>) -> Result<Reader, ApiError> {
        let (commit, about) = (view.commit(), about.clone());
        if let Some((_, positions)) = self.positions.as_ref().filter(|(of, _)| *of == commit) {
            let (registry, positions) = (self.registry.clone(), positions.clone());
            return Ok(Reader { view, registry, positions, about });
        }
        let stored = view.row(Table::Meta, META_KEY)?;
        if stored != self.stored {
            let read = Registry::read(stored.as_deref());
            self.registry = Arc::new(read.map_err(|_| ApiError::Damaged("the stored registry"))?);
            self.stored = stored;
        }
        let positions: Option<Positions> = meta(&view, POSITIONS, "the row of positions")?;
        let positions = Arc::new(positions.unwrap_or_default());
        self.positions = Some((commit, positions.clone()));
        Ok(Reader { view, registry: self.registry.clone(), positions, about })
    }
}

/// A live label: its generation and its index there.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveLabel<'a> {
    pub(super) generation: &'a Generation,
    pub(super) index: u16,
    pub(super) entity: &'a Entity,
}

impl Reader {
    /// Reads what the view says of rules and positions.
    ///
    /// # Errors
    /// What the store says, or facts that do not read.
    pub fn new(view: Arc<View>, about: Arc<About>) -> Result<Self, ApiError> {
        Facts::default().reader(view, &about)
    }

    /// Commit of the answer.
    #[must_use]
    pub fn commit(&self) -> u64 {
        self.view.commit()
    }

    /// Engine time of the commit, RFC 3339.
    #[must_use]
    pub fn time(&self) -> String {
        clock::rfc3339(self.view.engine_time())
    }

    /// Every source held its whole history from the start.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.about.complete() && self.positions.incomplete.is_empty()
    }

    /// Labels may still be wrong for rows that the sources have not shown.
    #[must_use]
    pub fn warming(&self) -> bool {
        !self.complete() || self.positions.catching_up
    }

    /// A fact of the pipeline; none = not written yet.
    pub(super) fn fact<T: DeserializeOwned>(
        &self,
        key: &[u8],
        what: &'static str,
    ) -> Result<Option<T>, ApiError> {
        meta(&self.view, key, what)
    }

    /// What was counted since the state was made.
    pub(super) fn totals(&self) -> Result<Totals, ApiError> {
        Ok(self.fact(TOTALS, "the row of totals")?.unwrap_or_default())
    }

    /// Row images and messages that the sums of a namespace lack for good.
    pub(super) fn lacks(&self, namespace: u32) -> Result<u64, ApiError> {
        Ok(self.totals()?.refused.get(&namespace).copied().unwrap_or(0))
    }

    /// The refusal of something that this state does not know, or not yet.
    fn not_yet(&self, what: What<'_>) -> Option<ApiError> {
        self.about.rebuild.as_ref()?.refusal(what)
    }

    /// Number of the entity, and the entity.
    pub(super) fn entity(&self, name: &str) -> Result<(u16, &Entity), ApiError> {
        let numbered = (0u16..).zip(&self.registry.entities);
        let found = numbered.into_iter().find(|(_, entity)| entity.name == name);
        if let Some(refusal) = self.not_yet(What::Entity(name)) {
            // Its entity is entered already, but nothing is known of its keys where no other rule has it.
            let is =
                |g: &Generation| self.registry.entity_of(g.namespace).is_some_and(|(_, e)| e.name == name);
            if !self.live().any(is) {
                return Err(refusal);
            }
        }
        found.ok_or_else(|| {
            let known = listed(self.registry.entities.iter().map(|e| e.name.as_str()));
            ApiError::UnknownEntity { name: name.to_owned(), known }
        })
    }

    /// The live label of that name.
    pub(super) fn label(&self, name: &str) -> Result<LiveLabel<'_>, ApiError> {
        let unknown = || {
            if let Some(refusal) = self.not_yet(What::Label(name)) {
                return refusal;
            }
            let live = self.live().flat_map(|g| g.labels.iter().map(|l| l.name.as_str()));
            ApiError::UnknownLabel { name: name.to_owned(), known: listed(live) }
        };
        let (generation, index) = self.registry.label(name).ok_or_else(unknown)?;
        let entity = self.registry.entity_of(generation.namespace).ok_or_else(unknown)?.1;
        Ok(LiveLabel { generation, index, entity })
    }

    /// The namespace of a rule.
    pub(super) fn namespace(&self, rule: &str) -> Result<&Namespace, ApiError> {
        self.registry.namespace(rule).ok_or_else(|| {
            if let Some(refusal) = self.not_yet(What::Rule(rule)) {
                return refusal;
            }
            let known = listed(self.registry.namespaces.iter().map(|n| n.rule.as_str()));
            ApiError::UnknownRule { name: rule.to_owned(), known }
        })
    }

    /// Live generations in the order of their rules' names.
    pub(super) fn live(&self) -> impl Iterator<Item = &Generation> {
        self.registry.live.values().filter_map(|space| self.registry.generation(*space))
    }

    /// The record of a key given as text.
    pub(super) fn record(&self, number: u16, entity: &Entity, key: &str) -> Result<Option<Record>, ApiError> {
        let bad = |reason| ApiError::BadKey { entity: entity.name.clone(), reason };
        let bytes = entity.key.parse(key).map_err(bad)?;
        let shard = shard_of(key_hash(&entity.name, &bytes));
        Ok(self.view.get_brief(shard, &entity_key(number, &bytes))?)
    }
}

fn meta<T: DeserializeOwned>(view: &View, key: &[u8], what: &'static str) -> Result<Option<T>, ApiError> {
    let Some(bytes) = view.row(Table::Meta, key)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|_| ApiError::Damaged(what))
}
