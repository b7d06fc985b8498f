//! The limits a rule runs under, with their defaults. Fuel, memory and stack are part of a namespace's identity.

/// Largest rule file in bytes.
pub const RULE_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest manifest in bytes.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024;
/// Most contribution records of one row.
pub const RECORDS_PER_ROW_MAX: usize = 256;
/// Longest text or bytes value of a contribution.
pub const VALUE_BYTES_MAX: usize = 4096;
/// Most bytes of long values, and of text and bytes keys, of one row.
pub const HEAP_BYTES_PER_ROW_MAX: usize = 16 * 1024;
/// Longest message kept of `fail`, in bytes.
pub const FAIL_BYTES_MAX: usize = 512;
/// Longest line kept of `log`, in bytes.
pub const LOG_BYTES_MAX: usize = 256;
/// Most lines kept of one call's `log`; the others are counted.
pub const LOG_LINES_PER_CALL_MAX: u32 = 16;
/// Fuel that one `log` costs.
pub const LOG_FUEL: u64 = 200;
/// Stack of a guest in bytes; one for all rules of an engine.
pub const STACK_BYTES: usize = 512 * 1024;
/// Most elements of a guest's table.
pub const TABLE_ELEMENTS_MAX: usize = 65_536;

/// What one rule may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fuel R of the verdict on one image (and on one key).
    pub fuel: u64,
    /// Cap of a guest's memory in bytes.
    pub memory_bytes: usize,
    /// Stack in bytes; must be [`STACK_BYTES`] for now.
    pub stack_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fuel: 1_000_000, memory_bytes: 64 * 1024 * 1024, stack_bytes: STACK_BYTES }
    }
}

impl Limits {
    /// Fuel for start, `reserve` and an empty batch.
    #[must_use]
    pub fn start_fuel(&self) -> u64 {
        self.fuel / 4
    }

    /// Fuel for all rows of one batch.
    #[must_use]
    pub fn batch_fuel(&self) -> u64 {
        self.fuel - self.fuel / 4
    }

    /// Memory past which a warm instance is replaced, in bytes.
    #[must_use]
    pub fn memory_mark(&self) -> usize {
        self.memory_bytes / 2
    }
}
