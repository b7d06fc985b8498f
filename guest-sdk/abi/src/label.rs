//! The input of `label` (a batch of keys with their readings, the parameters, engine time) and its output.
//!
//! Input: a header of 32 bytes, one [`Descriptor`](crate::column::Descriptor) per aggregate in manifest order, then the
//! buffers, 16-byte aligned; offsets count from the start. A parameter takes 16 bytes: numbers, bools, decimals and
//! times as i128, text as (offset from the start of the parameters u32, length u32, 0).
//! Output: a header of two (address, length in bytes): `sets`, keys × labels u16, a row of labels per key (0 = not
//! carried; a flag is 1; value v of the manifest is v + 1), and `wake`, keys × i64.

use crate::bytes::{i64_at, put, u32_at};

/// Length of the input header.
pub const INPUT_HEADER_LEN: usize = 32;
/// Length of the output header.
pub const OUTPUT_HEADER_LEN: usize = 16;
/// Length of one parameter's slot.
pub const PARAM_LEN: usize = 16;

/// Input header: keys u32, aggregates u32, offset and length of the parameters u32, engine time i64 µs, 0 (8 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputHeader {
    /// Keys in the batch.
    pub keys: u32,
    /// Aggregates of the rule.
    pub aggregates: u32,
    /// Offset of the parameters.
    pub params: u32,
    /// Their length in bytes.
    pub params_len: u32,
    /// Engine time in µs.
    pub now: i64,
}

impl InputHeader {
    /// Reads the header at the start of `bytes`.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            keys: u32_at(bytes, 0)?,
            aggregates: u32_at(bytes, 4)?,
            params: u32_at(bytes, 8)?,
            params_len: u32_at(bytes, 12)?,
            now: i64_at(bytes, 16)?,
        })
    }

    /// Writes the header at the start of `bytes`.
    pub fn write(self, bytes: &mut [u8]) -> bool {
        put(bytes, 0, &self.keys.to_le_bytes())
            && put(bytes, 4, &self.aggregates.to_le_bytes())
            && put(bytes, 8, &self.params.to_le_bytes())
            && put(bytes, 12, &self.params_len.to_le_bytes())
            && put(bytes, 16, &self.now.to_le_bytes())
            && put(bytes, 24, &[0; 8])
    }
}

/// Output header: addresses and byte lengths of `sets` and `wake`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputHeader {
    /// keys × labels u16.
    pub sets: (u32, u32),
    /// keys × i64, engine time in µs, [`WAKE_NEVER`](crate::WAKE_NEVER) = time alone changes nothing.
    pub wake: (u32, u32),
}

impl OutputHeader {
    /// Reads a header.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let pair = |at| Some((u32_at(bytes, at)?, u32_at(bytes, at + 4)?));
        Some(Self { sets: pair(0)?, wake: pair(8)? })
    }

    /// Writes the header to the start of `bytes`.
    pub fn write(self, bytes: &mut [u8]) -> bool {
        let words = [self.sets.0, self.sets.1, self.wake.0, self.wake.1];
        words.iter().enumerate().all(|(n, word)| put(bytes, n * 4, &word.to_le_bytes()))
    }
}

/// Offset of the descriptor of aggregate `n` in the input.
#[must_use]
pub const fn descriptor_at(n: usize) -> usize {
    INPUT_HEADER_LEN + n * crate::column::DESCRIPTOR_LEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_refuse_short_slices() {
        let input = InputHeader { keys: 1, aggregates: 2, params: 3, params_len: 4, now: -5 };
        let mut bytes = [0xff; INPUT_HEADER_LEN];
        assert!(input.write(&mut bytes) && !input.write(&mut bytes[1..]));
        assert!(input.write(&mut bytes));
        assert_eq!(InputHeader::read(&bytes), Some(input));
        assert_eq!(bytes[24..], [0; 8], "the reserved bytes are zero");
        let output = OutputHeader { sets: (1, 2), wake: (3, 4) };
        let mut bytes = [0; OUTPUT_HEADER_LEN];
        assert!(output.write(&mut bytes) && !output.write(&mut bytes[1..]));
        assert!(output.write(&mut bytes));
        assert_eq!(OutputHeader::read(&bytes), Some(output));
        assert_eq!(descriptor_at(2), INPUT_HEADER_LEN + 64);
    }
}
