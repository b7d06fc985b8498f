//! What others may ask of a rule that is loaded.

use super::Loaded;
use crate::aggregate::Aggregate;
use crate::rule::{Labeler, Manifest, RuleError};

impl Loaded {
    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.compiled.manifest
    }

    /// Its aggregates, in the manifest's order.
    #[must_use]
    pub fn aggregates(&self) -> &[Aggregate] {
        &self.aggregates
    }

    /// An instance of its label side with its parameters.
    ///
    /// # Errors
    /// It does not start.
    pub fn labeler(&self) -> Result<Labeler, RuleError> {
        self.compiled.labeler(&self.params)
    }
}
