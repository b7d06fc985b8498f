//! Looking at many bytes at a time: where quotes and line ends are, the end of a run of digits.
#![allow(unsafe_code)] // SSE2 instructions, as baseline of the architecture; AVX2 where the processor has it

/// What stands where in 64 bytes: bit n for byte n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    /// `"`
    pub(super) quotes: u64,
    /// `\`
    pub(super) escapes: u64,
    /// Line feeds.
    pub(super) ends: u64,
}

/// Gives `take` the masks of each 64 bytes of `block`; behind its end there is nothing.
#[inline]
pub(super) fn each_masks(block: &[u8], take: impl FnMut(Masks)) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { each_masks_avx2(block, take) };
    }
    each_masks_of(block, masks, take);
}

#[inline(always)]
fn each_masks_of(block: &[u8], masks: impl Fn(&[u8; 64]) -> Masks, mut take: impl FnMut(Masks)) {
    let (chunks, rest) = block.as_chunks::<64>();
    for chunk in chunks {
        take(masks(chunk));
    }
    if !rest.is_empty() {
        let mut last = [0; 64];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        take(masks(&last));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn each_masks_avx2(block: &[u8], take: impl FnMut(Masks)) {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8,
    };
    let masks = |chunk: &[u8; 64]| {
        // SAFETY: the processor has AVX2 where this function runs; the two unaligned loads read the chunk's 64 bytes.
        unsafe {
            let low = _mm256_loadu_si256(chunk.as_ptr().cast::<__m256i>());
            let high = _mm256_loadu_si256(chunk.as_ptr().add(32).cast::<__m256i>());
            let of = |byte: u8| {
                let byte = _mm256_set1_epi8(byte.cast_signed());
                let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, byte)).cast_unsigned();
                let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, byte)).cast_unsigned();
                u64::from(high) << 32 | u64::from(low)
            };
            Masks { quotes: of(b'"'), escapes: of(b'\\'), ends: of(b'\n') }
        }
    };
    each_masks_of(block, masks, take);
}

#[inline]
fn masks(chunk: &[u8; 64]) -> Masks {
    let mut all = Masks::default();
    for (n, part) in chunk.as_chunks::<16>().0.iter().enumerate() {
        let of = |byte| u64::from(equal(part, &[byte; 16])) << (16 * n);
        all.quotes |= of(b'"');
        all.escapes |= of(b'\\');
        all.ends |= of(b'\n');
    }
    all
}

/// Number of digits at the start of `bytes`.
#[inline]
pub(super) fn digits(bytes: &[u8]) -> usize {
    if let Some(chunk) = bytes.first_chunk::<16>() {
        let stops = others(chunk);
        if stops != 0 {
            return stops.trailing_zeros() as usize;
        }
    }
    bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len())
}

/// Whether all bytes are ASCII, and neither control characters nor backslashes.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<16>();
    let odd = |byte: &u8| !(0x20..0x80).contains(byte) || *byte == b'\\';
    match bytes.last_chunk::<16>() {
        Some(last) => chunks.iter().fold(odds(last), |all, chunk| all | odds(chunk)) == 0,
        None => !rest.iter().any(odd),
    }
}

/// Bit n is set where byte n is a control character, a backslash, or not ASCII.
#[cfg(target_arch = "x86_64")]
#[inline]
fn odds(chunk: &[u8; 16]) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };
    // SAFETY: SSE2 belongs to every x86_64 processor, and the unaligned load reads the chunk's 16 bytes.
    let mask = unsafe {
        let bytes = _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>());
        let low = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)); // signed: bytes from 0x80 on are low too
        let escape = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x5c));
        _mm_movemask_epi8(_mm_or_si128(low, escape))
    };
    mask.cast_unsigned()
}

/// Bit n is set where bytes n are equal.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn equal(a: &[u8; 16], b: &[u8; 16]) -> u32 {
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8};
    // SAFETY: SSE2 belongs to every x86_64 processor, and the unaligned loads read the arrays' 16 bytes.
    let mask = unsafe {
        let a = _mm_loadu_si128(a.as_ptr().cast::<__m128i>());
        let b = _mm_loadu_si128(b.as_ptr().cast::<__m128i>());
        _mm_movemask_epi8(_mm_cmpeq_epi8(a, b))
    };
    mask.cast_unsigned()
}

/// Bit n is set where byte n is no digit.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn others(chunk: &[u8; 16]) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpgt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8, _mm_sub_epi8,
    };
    // SAFETY: SSE2 belongs to every x86_64 processor, and the unaligned load reads the chunk's 16 bytes.
    let mask = unsafe {
        let bytes = _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>());
        // Digits, and they alone, become -128…-119.
        let moved = _mm_sub_epi8(bytes, _mm_set1_epi8(-80));
        _mm_movemask_epi8(_mm_cmpgt_epi8(moved, _mm_set1_epi8(-119)))
    };
    mask.cast_unsigned()
}

/// The same masks on any processor, and what the tests compare the instructions with.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    fn mask(chunk: &[u8; 16], stops: impl Fn(u8) -> bool) -> u32 {
        chunk.iter().rev().fold(0, |mask, byte| mask << 1 | u32::from(stops(*byte)))
    }

    pub(super) fn equal(a: &[u8; 16], b: &[u8; 16]) -> u32 {
        a.iter().zip(b).rev().fold(0, |mask, (a, b)| mask << 1 | u32::from(a == b))
    }

    pub(super) fn others(chunk: &[u8; 16]) -> u32 {
        mask(chunk, |byte| !byte.is_ascii_digit())
    }

    pub(super) fn odds(chunk: &[u8; 16]) -> u32 {
        mask(chunk, |byte| !(0x20..0x80).contains(&byte) || byte == b'\\')
    }
}

#[cfg(not(target_arch = "x86_64"))]
use portable::{equal, odds, others};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_give_the_portable_masks() {
        for byte in 0..=u8::MAX {
            for at in 0..16 {
                let mut chunk = *b"01234567\"abcdef\\";
                chunk[at] = byte;
                let other = [byte; 16];
                assert_eq!(equal(&chunk, &other), portable::equal(&chunk, &other));
                assert_eq!(others(&chunk), portable::others(&chunk));
                assert_eq!(odds(&chunk), portable::odds(&chunk));
            }
        }
    }

    #[test]
    fn one_odd_byte_anywhere_is_seen() {
        for length in 0..40 {
            let mut bytes = vec![b'a'; length];
            assert!(is_plain(&bytes));
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    bytes[at] = byte;
                    assert_eq!(
                        is_plain(&bytes),
                        (0x20..0x80).contains(&byte) && byte != b'\\',
                        "{length} {at} {byte}"
                    );
                }
                bytes[at] = b'a';
            }
        }
    }

    #[test]
    fn runs_of_digits_end_at_any_other_byte() {
        for length in 0..40 {
            for end in 0..=u8::MAX {
                let mut bytes = vec![b'7'; length];
                bytes.extend([end; 3]);
                let expect = if end.is_ascii_digit() { length + 3 } else { length };
                assert_eq!(digits(&bytes), expect, "{length} {end}");
            }
        }
        assert_eq!(digits(b"0123456789"), 10);
    }

    #[test]
    fn masks_are_the_same_by_all_ways() {
        for at in 0..200 {
            for byte in [b'"', b'\\', b'\n'] {
                let mut block = vec![b'x'; 200];
                block[at] = byte;
                let (mut wide, mut narrow) = (Vec::new(), Vec::new());
                each_masks(&block, |masks| wide.push(masks));
                each_masks_of(&block, masks, |masks| narrow.push(masks));
                assert_eq!(wide, narrow);
                let word = wide[at / 64];
                let of = |expect| if byte == expect { 1 << (at % 64) } else { 0 };
                assert_eq!((word.quotes, word.escapes, word.ends), (of(b'"'), of(b'\\'), of(b'\n')));
            }
        }
    }
}
