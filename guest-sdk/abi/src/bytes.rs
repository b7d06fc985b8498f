//! Little-endian reads and writes at an offset; `None`/`false` where the slice is too short.

/// Reads a `u16` at `at`.
#[must_use]
#[inline]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads a `u32` at `at`.
#[must_use]
#[inline]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads a `u64` at `at`.
#[must_use]
#[inline]
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads an `i64` at `at`.
#[must_use]
#[inline]
pub fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads an `i128` at `at`.
#[must_use]
#[inline]
pub fn i128_at(bytes: &[u8], at: usize) -> Option<i128> {
    Some(i128::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Writes `value` at `at`; false when it does not fit.
#[inline]
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> bool {
    match bytes.get_mut(at..).and_then(|rest| rest.get_mut(..value.len())) {
        Some(place) => {
            place.copy_from_slice(value);
            true
        }
        None => false,
    }
}

/// Rounds `n` up to the next multiple of [`crate::BUFFER_ALIGN`].
#[must_use]
pub const fn aligned(n: usize) -> usize {
    n.div_ceil(crate::BUFFER_ALIGN) * crate::BUFFER_ALIGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read_and_nothing_reaches_past_the_end() {
        let mut bytes = [0; 24];
        assert!(put(&mut bytes, 3, &(-5_i128).to_le_bytes()));
        assert_eq!(i128_at(&bytes, 3), Some(-5));
        assert!(put(&mut bytes, 16, &u64::MAX.to_le_bytes()));
        assert_eq!((u64_at(&bytes, 16), i64_at(&bytes, 16)), (Some(u64::MAX), Some(-1)));
        assert_eq!((u32_at(&bytes, 20), u16_at(&bytes, 22)), (Some(u32::MAX), Some(u16::MAX)));
        assert!(!put(&mut bytes, 21, &[0; 4]) && !put(&mut bytes, usize::MAX, &[0]));
        assert_eq!((u16_at(&bytes, 23), u64_at(&bytes, 17), i128_at(&bytes, usize::MAX)), (None, None, None));
    }

    #[test]
    fn lengths_round_up_to_the_alignment() {
        for n in 0..100 {
            let rounded = aligned(n);
            assert!(
                rounded >= n
                    && rounded < n + crate::BUFFER_ALIGN
                    && rounded.is_multiple_of(crate::BUFFER_ALIGN)
            );
        }
    }
}
