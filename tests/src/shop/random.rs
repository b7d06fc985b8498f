//! SplitMix64 and the few draws the generator needs; no dependency, so that streams never change under it.

/// A seeded source of numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `n` (0 for `n` = 0).
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True `percent` times of 100.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A fraction in 0..1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A rank below `n`, low ranks far more often than high ones: (x·(√(n+1) − 1) + 1)² − 1 for even x.
    pub(super) fn skewed(&mut self, n: u64) -> u64 {
        let root = ((n + 1) as f64).sqrt();
        let x = self.fraction() * (root - 1.0) + 1.0;
        ((x * x - 1.0) as u64).min(n.saturating_sub(1))
    }
}

/// The finaliser of SplitMix64: a hash of one word.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
