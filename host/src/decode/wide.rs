//! Looking at sixteen bytes at a time: where quotes are, the end of a run of digits.
#![allow(unsafe_code)] // SSE2 instructions, as baseline of the architecture

/// Bit n of the first number is set where byte n is a quote, of the second where it is a backslash.
#[inline]
pub(super) fn quotes_and_escapes(bytes: &[u8; 64]) -> (u64, u64) {
    let (chunks, _) = bytes.as_chunks::<16>();
    let (mut all_quotes, mut all_escapes) = (0, 0);
    for chunk in chunks.iter().rev() {
        let (quotes, escapes) = quotes(chunk);
        all_quotes = all_quotes << 16 | u64::from(quotes);
        all_escapes = all_escapes << 16 | u64::from(escapes);
    }
    (all_quotes, all_escapes)
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

/// Bit n of the first number is set where byte n is a quote, of the second where it is a backslash.
#[cfg(target_arch = "x86_64")]
#[inline]
fn quotes(chunk: &[u8; 16]) -> (u32, u32) {
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
    // SAFETY: SSE2 belongs to every x86_64 processor, and the unaligned load reads the chunk's 16 bytes.
    let (quotes, escapes) = unsafe {
        let bytes = _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>());
        let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x22));
        let escapes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x5c));
        (_mm_movemask_epi8(quotes), _mm_movemask_epi8(escapes))
    };
    (quotes.cast_unsigned(), escapes.cast_unsigned())
}

/// Bit n is set where byte n is no digit.
#[cfg(target_arch = "x86_64")]
#[inline]
fn others(chunk: &[u8; 16]) -> u32 {
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

    pub(super) fn quotes(chunk: &[u8; 16]) -> (u32, u32) {
        (mask(chunk, |byte| byte == b'"'), mask(chunk, |byte| byte == b'\\'))
    }

    pub(super) fn others(chunk: &[u8; 16]) -> u32 {
        mask(chunk, |byte| !byte.is_ascii_digit())
    }

    pub(super) fn odds(chunk: &[u8; 16]) -> u32 {
        mask(chunk, |byte| !(0x20..0x80).contains(&byte) || byte == b'\\')
    }
}

#[cfg(not(target_arch = "x86_64"))]
use portable::{odds, others, quotes};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_give_the_portable_masks() {
        for byte in 0..=u8::MAX {
            for at in 0..16 {
                let mut chunk = *b"01234567\"abcdef\\";
                chunk[at] = byte;
                assert_eq!(quotes(&chunk), portable::quotes(&chunk));
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
    fn quotes_and_escapes_are_found_in_every_place() {
        let mut bytes = [b'x'; 64];
        assert_eq!(quotes_and_escapes(&bytes), (0, 0));
        for at in 0..64 {
            bytes[at] = b'"';
            assert_eq!(quotes_and_escapes(&bytes), (1 << at, 0), "{at}");
            bytes[at] = b'\\';
            assert_eq!(quotes_and_escapes(&bytes), (0, 1 << at), "{at}");
            bytes[at] = 0xff;
        }
    }
}
