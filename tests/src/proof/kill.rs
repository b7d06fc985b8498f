//! Which swap is killed in which step: every step in turn, at random among the swaps that have it.

use std::collections::BTreeMap;

/// What is swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Another label side.
    Labels,
    /// Another parameter.
    Parameters,
    /// Another map side, with its history.
    Aggregates,
    /// Back to what was live before.
    Rollback,
    /// The rule stands still for a while, then catches up.
    Pause,
}

impl Kind {
    /// In the order in which a turn does them; each turn ends with the rule as it began.
    pub const TURN: [Self; 6] =
        [Self::Labels, Self::Parameters, Self::Rollback, Self::Aggregates, Self::Rollback, Self::Pause];

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Labels => "labels only",
            Self::Parameters => "parameters",
            Self::Aggregates => "new aggregates",
            Self::Rollback => "rollback",
            Self::Pause => "pause and resume",
        }
    }

    fn has(self, step: Step) -> bool {
        match step {
            Step::CatchUp => matches!(self, Self::Aggregates | Self::Pause),
            Step::Rollback => self == Self::Rollback,
            Step::Pause | Step::Resume => self == Self::Pause,
            Step::Prepare | Step::Sweep | Step::Flip => !matches!(self, Self::Rollback | Self::Pause),
            Step::GraceFeed => self != Self::Pause,
        }
    }
}

/// Where a kill falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// While the command to prepare is carried out.
    Prepare,
    /// While the history is read again, or what was missed.
    CatchUp,
    /// While all keys are evaluated.
    Sweep,
    /// While the switch is carried out.
    Flip,
    /// After the switch, while it is told and what was live before is fed.
    GraceFeed,
    /// While the switch back is carried out.
    Rollback,
    /// While the command to pause is carried out.
    Pause,
    /// While the command to resume is carried out.
    Resume,
}

impl Step {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 8] = [
        ("prepare", Self::Prepare),
        ("catch-up", Self::CatchUp),
        ("sweep", Self::Sweep),
        ("flip", Self::Flip),
        ("grace feed", Self::GraceFeed),
        ("rollback", Self::Rollback),
        ("pause", Self::Pause),
        ("resume", Self::Resume),
    ];
}

/// A small source of numbers (SplitMix64), so that a run can be done again from its seed.
#[derive(Clone, Debug)]
pub struct Draw(pub u64);

impl Draw {
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * u128::from(n)) >> 64) as u64
    }
}

/// Steps by the number of the swap that they fall into, at most one in each; `turns` turns of [`Kind::TURN`].
#[must_use]
pub fn plan(turns: u64, kills: u64, draw: &mut Draw) -> BTreeMap<u64, Step> {
    let mut plan = BTreeMap::new();
    let mut steps: Vec<Step> = Step::ALL.iter().map(|(_, step)| *step).cycle().take(kills as usize).collect();
    // Those that few swaps have choose first.
    steps.sort_by_key(|step| Kind::TURN.iter().filter(|kind| kind.has(*step)).count());
    for step in steps {
        let swaps = (0..turns * Kind::TURN.len() as u64).zip(Kind::TURN.iter().cycle());
        let free: Vec<u64> =
            swaps.filter(|(n, k)| k.has(step) && !plan.contains_key(n)).map(|(n, _)| n).collect();
        if let Some(swap) = free.get(draw.below(free.len() as u64) as usize) {
            plan.insert(*swap, step);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_killed_in_a_swap_that_has_it() {
        for seed in 0..50 {
            let plan = plan(4, 16, &mut Draw(seed));
            assert_eq!(plan.len(), 16);
            for (_, step) in Step::ALL {
                assert_eq!(plan.values().filter(|s| **s == step).count(), 2, "{step:?}");
            }
            assert!(plan.iter().all(|(n, step)| Kind::TURN[*n as usize % Kind::TURN.len()].has(*step)));
        }
        assert_eq!(plan(1, 100, &mut Draw(1)).len(), 6, "one kill a swap");
        assert!(plan(0, 3, &mut Draw(1)).is_empty());
        assert!((0..1_000).all(|n| Draw(n).below(7) < 7));
    }
}
