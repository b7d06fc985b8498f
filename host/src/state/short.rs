//! Bytes that are nearly always few, kept where they are used instead of behind a pointer.

use std::ops::Deref;

const INLINE: usize = 14;

/// Up to fourteen bytes in place, more behind a pointer; sixteen bytes in all.
#[derive(Clone)]
pub struct ShortBytes(Form);

#[derive(Clone)]
enum Form {
    Inline(u8, [u8; INLINE]),
    Boxed(Box<Box<[u8]>>),
}

impl ShortBytes {
    /// A copy of `bytes`.
    #[must_use]
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE];
        Self(match (inline.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(head), Ok(length)) => {
                head.copy_from_slice(bytes);
                Form::Inline(length, inline)
            }
            _ => Form::Boxed(Box::new(bytes.into())),
        })
    }
}

impl ShortBytes {
    /// Whether these are the bytes; for 8 to 14 of them without a call.
    #[inline]
    #[must_use]
    pub fn is(&self, bytes: &[u8]) -> bool {
        let word = u64::from_ne_bytes;
        let ends = |bytes: &[u8]| Some((word(*bytes.first_chunk()?), word(*bytes.last_chunk()?)));
        match &self.0 {
            Form::Inline(length, _) if usize::from(*length) == bytes.len() => match (ends(self), ends(bytes))
            {
                (Some(own), Some(other)) => own == other,
                _ => **self == *bytes,
            },
            Form::Inline(..) => false,
            Form::Boxed(own) => ***own == *bytes,
        }
    }
}

impl Deref for ShortBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Form::Inline(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or(&[]),
            Form::Boxed(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ShortBytes;

    #[test]
    fn bytes_of_any_length_come_back() {
        assert_eq!(size_of::<ShortBytes>(), 16);
        for length in 0..300 {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let short = ShortBytes::new(&bytes);
            assert_eq!(*short, bytes);
            assert!(short.is(&bytes) && !short.is(&[&bytes[..], b"x"].concat()));
            for at in 0..length {
                let mut other = bytes.clone();
                other[at] ^= 1;
                assert!(!short.is(&other), "{length} {at}");
            }
        }
    }
}
