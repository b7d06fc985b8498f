//! Where the quotes and line ends of a block are: one pass over its bytes, after which the end of a string or line is
//! one look-up away.

use crate::decode::wide;

/// A bit for each byte of a block.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Set where a quote stands that no backslash escapes.
    quotes: Vec<u64>,
    /// Set where a line ends.
    ends: Vec<u64>,
}

impl Marks {
    /// Looks at all bytes of a block.
    pub(super) fn mark(&mut self, block: &[u8]) {
        self.quotes.clear();
        self.ends.clear();
        let words = block.len().div_ceil(64);
        self.quotes.reserve(words);
        self.ends.reserve(words);
        let mut carried = 0;
        wide::each_masks(block, |masks| {
            self.quotes.push(masks.quotes & !escaped(masks.escapes, &mut carried));
            self.ends.push(masks.ends);
        });
    }

    /// The first quote at or behind `at`.
    #[inline(always)]
    pub(super) fn quote(&self, at: usize) -> Option<usize> {
        next(&self.quotes, at)
    }

    /// The first line end at or behind `at`.
    #[inline]
    pub(super) fn line_end(&self, at: usize) -> Option<usize> {
        next(&self.ends, at)
    }
}

/// The first set bit at or behind `at`.
///
/// Where it is less than 64 bits away, which is nearly always, no branch depends on where words end.
#[inline(always)]
fn next(words: &[u64], at: usize) -> Option<usize> {
    let (word, shift) = (at / 64, at % 64);
    if let Some([low, high]) = words.get(word..).and_then(|words| words.first_chunk()) {
        let bits = low >> shift | high << 1 << (63 - shift);
        if bits != 0 {
            return Some(at + bits.trailing_zeros() as usize);
        }
    }
    far(words, word, u64::MAX << shift)
}

/// The first set bit at or behind word `word`, of which only the bits in `mask` count.
#[inline(never)]
fn far(words: &[u64], word: usize, mask: u64) -> Option<usize> {
    let first = words.get(word)? & mask;
    let mut rest = std::iter::once(first).chain(words.iter().skip(word + 1).copied());
    let step = rest.position(|bits| bits != 0)?;
    let found = if step == 0 { first } else { *words.get(word + step)? };
    Some((word + step) * 64 + found.trailing_zeros() as usize)
}

/// The bytes that backslashes escape, without a loop over them: a run of backslashes escapes every second byte, and
/// subtraction tells where runs that begin at even and at odd places end (the way of simdjson). `carried` = 1 where the
/// byte before these escapes the first of them; then the same of these for the next.
#[inline(always)]
fn escaped(backslashes: u64, carried: &mut u64) -> u64 {
    const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
    let starts = backslashes & !*carried;
    let escapes_and_ends = ((starts << 1) | ODD).wrapping_sub(starts) ^ ODD;
    let escaped = escapes_and_ends ^ (backslashes | *carried);
    *carried = (escapes_and_ends & backslashes) >> 63;
    escaped
}

#[cfg(test)]
mod tests {
    use super::Marks;
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
        fn quotes_and_line_ends_are_found_as_byte_by_byte(
            bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'x'), Just(b'\n')], 0..300),
            behind in 0usize..100,
        ) {
            let mut marks = Marks::default();
            marks.mark(&vec![b'"'; behind]); // a block before leaves nothing
            marks.mark(&bytes);
            let all = |next: &dyn Fn(usize) -> Option<usize>| {
                std::iter::successors(next(0), |at| next(at + 1)).collect::<Vec<_>>()
            };
            prop_assert_eq!(all(&|at| marks.quote(at)), plain(&bytes));
            let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
            prop_assert_eq!(all(&|at| marks.line_end(at)), ends);
        }
    }
}
