//! The byte layouts of the guest ABI `retag_1`, used by the host and by the SDK.
//!
//! Everything here is plain offsets over byte slices: no allocation, no dependency, no `unsafe`.
//! `guest-sdk/ABI.md` is the same contract in words; a test keeps the two in agreement.
//! All numbers are little-endian. Nothing here trusts a length: readers answer `None` on a slice that is too short.
#![no_std]

pub mod bytes;
pub mod column;
pub mod contribution;
pub mod label;

/// Name of the import module and of the manifest's custom section.
pub const ABI_NAME: &str = "retag_1";
/// Custom section of a two-module rule file that holds the whole map module.
pub const MAP_SECTION: &str = "retag_1.map";
/// Host function `log(level, ptr, len)`.
pub const IMPORT_LOG: &str = "log";
/// Host function `fail(ptr, len)`: the message before a trap.
pub const IMPORT_FAIL: &str = "fail";
/// `level` of `log`: something is wrong.
pub const LOG_ERROR: u32 = 0;
/// `level` of `log`: something is odd.
pub const LOG_WARN: u32 = 1;
/// `level` of `log`: what `retag_sdk::log!` writes.
pub const LOG_INFO: u32 = 2;
/// `level` of `log`: for the author only.
pub const LOG_DEBUG: u32 = 3;
/// Guest export `reserve(bytes) -> ptr`.
pub const EXPORT_RESERVE: &str = "reserve";
/// Guest export `map(ptr, len) -> packed`.
pub const EXPORT_MAP: &str = "map";
/// Guest export `label(ptr, len) -> packed`.
pub const EXPORT_LABEL: &str = "label";
/// Guest export of the linear memory.
pub const EXPORT_MEMORY: &str = "memory";

/// Most rows in one call of `map`, and most keys in one call of `label`.
pub const BATCH_ROWS_MAX: usize = 1024;
/// Most bytes of a batch that holds more than one row.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Alignment of every buffer inside a batch.
pub const BUFFER_ALIGN: usize = 16;
/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 255;
/// Most names of one label's value.
pub const LABEL_VALUES_MAX: usize = 256;
/// `wake` of a key whose labels do not depend on time.
pub const WAKE_NEVER: i64 = i64::MAX;

/// Packs the address and length of a guest-owned output: address in the low half, length in the high half.
#[must_use]
pub const fn pack(address: u32, length: u32) -> i64 {
    ((length as i64) << 32) | address as i64
}

/// The inverse of [`pack`]: (address, length).
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the halves are taken on purpose
pub const fn unpack(packed: i64) -> (u32, u32) {
    (packed as u32, (packed >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_and_unpack_are_inverse() {
        for (address, length) in [(0, 0), (1, 2), (u32::MAX, u32::MAX), (0x8000_0000, 24)] {
            assert_eq!(unpack(pack(address, length)), (address, length));
        }
    }
}
