//! A recompiled rule on the sums that are there: its `map` has other bytes and was found to count the same.
//!
//! The sums stay those of the file that began them, whose `map` goes on feeding them; of the new file only the label side
//! runs. So nothing that was added is ever undone by other code, whatever the comparison may have missed.

use super::command::{Effect, Facts};
use super::refusal::Refusal;
use super::{Namespace, Registry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How two files' `map` were compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// Images of the sources that both were given.
    pub recorded: u64,
    /// Images made up from the manifest that both were given.
    pub made_up: u64,
}

/// What a revision that labels by another file's sums keeps of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Adopted {
    /// Namespace id of the sums.
    pub namespace_id: String,
    /// The commit that adopted it.
    pub commit: u64,
    /// What was compared.
    #[serde(flatten)]
    pub compared: Compared,
}

impl Namespace {
    /// It counts what files of this namespace id count.
    #[must_use]
    pub fn counts(&self, namespace_id: &str) -> bool {
        self.namespace_id == namespace_id || self.adopted.iter().any(|id| id == namespace_id)
    }
}

impl Registry {
    /// The namespace that revision `number` would adopt: the live one. `None` = its sums are there already.
    ///
    /// # Errors
    /// There is no such revision; its rule is not live, or it declares other tables, keys or aggregates.
    pub fn adoptable(&self, rule: &str, number: u32) -> Result<Option<Namespace>, Refusal> {
        let new = self.known(rule, number)?;
        if self.namespaces.iter().any(|n| n.rule == rule && n.counts(&new.namespace_id)) {
            return Ok(None);
        }
        let not = |why: &str| Refusal::NotAdoptable {
            rule: rule.to_owned(),
            revision: number,
            why: why.to_owned(),
        };
        let live =
            self.live(rule).ok_or_else(|| not("the rule is not live, so there are no sums to keep"))?;
        let of_live = self.known(rule, live.revision)?;
        if of_live.manifest.map_side() != new.manifest.map_side() {
            let why = "it declares other tables, columns, keys or aggregates than the live revision";
            return Err(not(why));
        }
        let mut found = self.namespace_of(live.namespace).cloned();
        for namespace in found.iter_mut().filter(|n| n.file.is_empty()) {
            namespace.file.clone_from(&of_live.file); // a state from before adoption: its files all count the same
        }
        Ok(found)
    }

    /// Notes that the revision labels by the live namespace's sums, and prepares its labels on them.
    pub(super) fn adopt(
        &mut self,
        rule: &str,
        number: u32,
        compared: Compared,
        (facts, effect): (&Facts<'_>, &mut Effect),
    ) -> Result<(), Refusal> {
        if let Some(mut adopting) = self.adoptable(rule, number)? {
            adopting.adopted.push(self.known(rule, number)?.namespace_id.clone());
            let namespace_id = adopting.namespace_id.clone();
            let adopted = Adopted { namespace_id, commit: facts.commit, compared };
            let of = self.revisions.iter_mut().filter(|r| r.rule == rule && r.number == number);
            of.for_each(|revision| revision.adopted = Some(adopted.clone()));
            let place = self.namespaces.iter_mut().find(|n| n.space == adopting.space);
            place.into_iter().for_each(|place| place.clone_from(&adopting));
        }
        self.prepare(rule, number, facts, effect)
    }
}
