//! Who decides which rules run, where the configuration does: what is left to `retag apply`, and what it has brought in.

use super::Registry;
use super::command::Command;

impl Command {
    /// It leads to other labels or takes them away: where the configuration decides, only `retag apply` may.
    #[must_use]
    pub const fn changes_releases(&self) -> bool {
        matches!(self, Self::Push(..)) || self.takes_over()
    }

    /// From it on commands decide on the rule.
    const fn takes_over(&self) -> bool {
        matches!(
            self,
            Self::Prepare { .. }
                | Self::Adopt { .. }
                | Self::Params(_)
                | Self::Activate { .. }
                | Self::Rollback { .. }
                | Self::Remove { .. }
        )
    }
}

impl Registry {
    /// Notes for whom a command was carried out.
    pub(super) fn note_decider(&mut self, command: &Command, applies: bool) {
        let rule = command.rule();
        if applies && self.taken_over.contains(rule) {
            self.applied.insert(rule.to_owned());
        } else if !applies && command.takes_over() {
            self.applied.remove(rule);
        }
    }
}
