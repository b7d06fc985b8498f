//! What a start would make of a configuration and a state, without beginning it.

use super::assemble::Book;
use super::drift::Drift;
use super::rows::{Positions, Scope};
use super::rules::{attach, load_all};
use super::setup::{Options, SetupError, next_sweep, stored_positions, stored_registry};
use super::sources::discover_all;
use crate::config::Config;
use crate::registry::{NO_SPACE, Registry};
use crate::state::View;

/// What a start would find.
#[derive(Debug)]
pub struct Checked {
    /// Partitions, and where reading would go on.
    pub positions: Positions,
    /// The rules.
    pub registry: Registry,
    /// What the configuration does not decide, and what the start would change, in words.
    pub notes: Vec<String>,
}

/// Goes through a start on what `view` holds. Rules are compiled; sinks are not asked, and nothing is written.
///
/// # Errors
/// The first thing that would stand in the way, by name.
pub fn check(config: &Config, options: &Options, view: &View) -> Result<Checked, SetupError> {
    let positions = discover_all(config, options, stored_positions(view)?)?;
    let registry = stored_registry(view)?;
    let rules = load_all(config, &registry.taken_over, None)?; // nothing is kept
    let attached = attach(&rules.rules, options, registry, &positions, view)?;
    next_sweep(view, &attached)?;
    let sinks: Vec<String> = config.sinks.keys().cloned().collect();
    let book = Book::open(view, Scope::Live, positions.clone(), &sinks)?;
    if let Some(missing) = book.missing_sink(view, &options.drop_sinks)? {
        return Err(SetupError::SinkMissing(missing));
    }
    let mut drift = Drift::new(options.manage, &rules);
    drift.note(attached.notes);
    let mut notes = drift.of(&attached.registry);
    for pair in attached.pairs.iter().filter(|pair| pair.old.space != NO_SPACE) {
        let (rule, before, now) = (&pair.new.rule, pair.old.revision, pair.new.revision);
        notes.push(match pair.new.space {
            NO_SPACE => format!("rule {}: a start takes its sums and labels away", pair.old.rule),
            _ if before == now => format!("rule {rule}: a start evaluates its labels anew"),
            _ => format!("rule {rule}: a start makes @{now} live in the place of @{before}"),
        });
    }
    Ok(Checked { positions, registry: attached.registry, notes })
}
