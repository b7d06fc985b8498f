//! Where the quotes of a line are: one pass over its bytes, after which the end of a string is one look-up away.

use crate::decode::wide;

/// A bit for each byte of a line: set where a quote stands that no backslash escapes.
#[derive(Debug, Default)]
pub(super) struct Quotes {
    words: Vec<u64>,
}

impl Quotes {
    /// Looks at the first `length` bytes of `bytes`, and perhaps at a few behind them.
    #[inline]
    pub(super) fn mark(&mut self, bytes: &[u8], length: usize) {
        self.words.clear();
        let words = length.div_ceil(64);
        let (chunks, rest) = bytes.as_chunks::<64>();
        let mut escaped = 0;
        for chunk in chunks.iter().take(words) {
            self.push(chunk, &mut escaped);
        }
        if self.words.len() < words {
            let mut last = [0; 64];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.push(&last, &mut escaped);
        }
    }

    /// `escaped` = 1 where the last byte of the chunk before escapes the first of this one.
    #[inline]
    fn push(&mut self, chunk: &[u8; 64], escaped: &mut u64) {
        let (quotes, escapes) = wide::quotes_and_escapes(chunk);
        let word = if escapes | *escaped == 0 { quotes } else { quotes & !escaped_by(escapes, escaped) };
        self.words.push(word);
    }

    /// The first quote at or behind `at`.
    #[inline(always)]
    pub(super) fn next(&self, at: usize) -> Option<usize> {
        let mut word = at / 64;
        let mut bits = self.words.get(word)? & (u64::MAX << (at % 64));
        while bits == 0 {
            word += 1;
            bits = *self.words.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }
}

/// The bytes that backslashes escape.
#[cold]
fn escaped_by(escapes: u64, carried: &mut u64) -> u64 {
    let mut escaped = std::mem::take(carried);
    let mut escapes = escapes & !escaped;
    while escapes != 0 {
        let at = escapes.trailing_zeros();
        if at == 63 {
            *carried = 1;
            break;
        }
        escaped |= 2 << at;
        escapes &= !(3 << at);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::Quotes;
    use proptest::prelude::*;

    /// Positions of quotes outside escapes, byte by byte.
    fn plain(bytes: &[u8]) -> Vec<usize> {
        let (mut found, mut escaped) = (Vec::new(), false);
        for (at, byte) in bytes.iter().enumerate() {
            if !escaped && *byte == b'"' {
                found.push(at);
            }
            escaped = !escaped && *byte == b'\\';
        }
        found
    }

    proptest! {
        #[test]
        fn quotes_are_found_as_byte_by_byte(
            bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'x')], 0..300),
            behind in 0usize..100,
        ) {
            let all = [&bytes[..], &vec![b'"'; behind]].concat();
            let mut quotes = Quotes::default();
            quotes.mark(&all, bytes.len());
            let mut found = Vec::new();
            let mut at = 0;
            while let Some(next) = quotes.next(at).filter(|next| *next < bytes.len()) {
                found.push(next);
                at = next + 1;
            }
            prop_assert_eq!(found, plain(&bytes));
        }
    }
}
