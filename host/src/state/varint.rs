//! Variable-length numbers and the reader that never panics: the byte primitives of blocks, pages and rows.
//! Numbers are LEB128, signed ones zigzag first, so that small changes of either sign take one byte.

/// Bytes that are not what this version writes: cut off, overlong or of another format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Appends an unsigned number.
#[inline]
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends a signed number.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a signed wide number; takes the same bytes as [`put_i64`] where that fits.
pub fn put_i128(out: &mut Vec<u8>, value: i128) {
    let mut zigzag = ((value << 1) ^ (value >> 127)).cast_unsigned();
    while zigzag > u128::from(u64::MAX) {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    put_u64(out, low_u64(zigzag));
}

/// The lower 64 bits.
pub(super) fn low_u64(value: u128) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = value.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing is left.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed("cut off"))?;
        self.rest = rest;
        Ok(byte)
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed("cut off"))?;
        self.rest = rest;
        Ok(head)
    }

    /// What [`put_bytes`] wrote.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.usize()?;
        self.take(len)
    }

    /// What [`put_u64`] wrote.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed("number too long"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(Malformed("number too long"));
            }
        }
    }

    /// What [`put_i64`] wrote.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        let zigzag = self.u64()?;
        Ok((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
    }

    /// What [`put_i128`] wrote.
    #[inline]
    pub fn i128(&mut self) -> Result<i128, Malformed> {
        let mut zigzag = 0u128;
        let mut shift = 0;
        loop {
            let byte = self.u8()?;
            let bits = u128::from(byte & 0x7f);
            if shift == 126 && bits > 3 {
                return Err(Malformed("number too long"));
            }
            zigzag |= bits << shift;
            if byte < 0x80 {
                return Ok((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()));
            }
            shift += 7;
            if shift > 126 {
                return Err(Malformed("number too long"));
            }
        }
    }

    /// An unsigned number that is a `u32`.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.u64()?).map_err(|_| Malformed("number out of range"))
    }

    /// An unsigned number that is a `u16`.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        u16::try_from(self.u64()?).map_err(|_| Malformed("number out of range"))
    }

    /// An unsigned number that is a length or index.
    pub fn usize(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.u64()?).map_err(|_| Malformed("number out of range"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, put_i64, put_i128, put_u64};

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_u64(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.u64(), Ok(value));
            assert!(reader.is_empty());
        }
        for value in [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX] {
            let (mut out, mut wide) = (Vec::new(), Vec::new());
            put_i64(&mut out, value);
            put_i128(&mut wide, i128::from(value));
            assert_eq!(out, wide);
            assert_eq!(Reader::new(&out).i64(), Ok(value));
            assert_eq!(Reader::new(&out).i128(), Ok(i128::from(value)));
        }
        for value in [i128::MIN, i128::MAX, i128::from(i64::MAX) + 1, -(1i128 << 70)] {
            let mut out = Vec::new();
            put_i128(&mut out, value);
            assert_eq!(Reader::new(&out).i128(), Ok(value));
        }
    }

    #[test]
    fn overlong_numbers_are_refused() {
        assert!(Reader::new(&[0xff; 11]).u64().is_err());
        assert!(Reader::new(&[0xff; 30]).i128().is_err());
        assert!(Reader::new(&[0x80]).u64().is_err());
        assert!(Reader::new(&[5, 1]).bytes().is_err());
    }
}
