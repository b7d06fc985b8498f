//! A rule without its type: what `#[rule]` emits as `pub fn native()`, so that the host's tests can run the rule of
//! another crate natively, whose structs are private, beside its Wasm file.

use alloc::string::String;
use core::fmt;

use retag_scenario::Scenario;

use super::{Answer, Blocks, Contributions, Mode, label_bytes, map_bytes, run_scenario};
use crate::{AggregateSet, KindInfo, Label, Map, ParamInfo, ParamSet, Rule, TableInfo, ValueType};

/// The native run of a rule.
#[derive(Clone, Copy)]
pub struct Native {
    /// The manifest.
    pub manifest: &'static str,
    /// Type of the keys.
    pub key: ValueType,
    /// Tables in the order of the manifest.
    pub tables: &'static [TableInfo],
    /// Aggregates in the order of the manifest.
    pub aggregates: &'static [KindInfo],
    /// Parameters in the order of the manifest.
    pub params: &'static [ParamInfo],
    /// [`map_bytes`].
    pub map: fn(&[u8]) -> Contributions,
    /// [`label_bytes`].
    pub label: fn(&[u8]) -> Answer,
    /// [`run_scenario`].
    pub scenario: fn(&Scenario, Mode) -> Result<Blocks, String>,
}

impl Native {
    /// The native run of `R`.
    #[must_use]
    pub const fn of<R: Map + Label>() -> Self {
        Self {
            manifest: R::MANIFEST,
            key: <R as Rule>::KEY,
            tables: R::TABLES,
            aggregates: <R as AggregateSet>::AGGREGATES,
            params: <R::Params as ParamSet>::PARAMS,
            map: map_bytes::<R>,
            label: label_bytes::<R>,
            scenario: run_scenario::<R>,
        }
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}
