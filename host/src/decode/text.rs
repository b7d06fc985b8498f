//! JSON strings: their raw token → their bytes.

/// A byte sequence that JSON does not allow inside a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What stands between the quotes; `None` where the token is no string.
#[inline]
pub(super) fn content(token: &[u8]) -> Option<&[u8]> {
    match token {
        [b'"', content @ .., b'"'] => Some(content),
        _ => None,
    }
}

/// Appends the bytes that a string's content stands for. Says whether all its `\u` escapes are characters: a lone
/// surrogate is none. Whether the other bytes are UTF-8 is not asked here.
pub(super) fn unescape(content: &[u8], out: &mut Vec<u8>) -> Result<bool, Malformed> {
    let mut rest = content;
    let mut characters = true;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        copy_plain(plain, out)?;
        rest = match escape {
            [_, b'u', ..] => unescape_unit(escape, out, &mut characters)?,
            [_, letter, rest @ ..] => {
                out.push(simple(*letter).ok_or(Malformed)?);
                rest
            }
            _ => return Err(Malformed),
        };
    }
    copy_plain(rest, out)?;
    Ok(characters)
}

#[inline]
fn copy_plain(plain: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    // A fold without an early exit, so that the compiler takes many bytes at once.
    if plain.iter().fold(false, |found, byte| found | (*byte < 0x20) | (*byte == b'"')) {
        return Err(Malformed);
    }
    out.extend_from_slice(plain);
    Ok(())
}

fn simple(letter: u8) -> Option<u8> {
    Some(match letter {
        b'"' | b'\\' | b'/' => letter,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// One `\uXXXX`, or two that are a pair; gives what follows.
fn unescape_unit<'a>(at: &'a [u8], out: &mut Vec<u8>, characters: &mut bool) -> Result<&'a [u8], Malformed> {
    let (unit, mut rest) = hex4(at).ok_or(Malformed)?;
    let mut code = unit;
    if (0xD800..0xDC00).contains(&unit)
        && let Some((low @ 0xDC00..0xE000, behind)) = hex4(rest)
    {
        code = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        rest = behind;
    }
    match char::from_u32(code) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => *characters = false,
    }
    Ok(rest)
}

/// The unit of `\uXXXX` at the start of `at`, and what follows.
fn hex4(at: &[u8]) -> Option<(u32, &[u8])> {
    let [b'\\', b'u', a, b, c, d, rest @ ..] = at else { return None };
    let mut unit = 0;
    for digit in [a, b, c, d] {
        unit = unit * 16 + char::from(*digit).to_digit(16)?;
    }
    Some((unit, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, expect: Result<(&[u8], bool), Malformed>) {
        let mut out = Vec::new();
        let got = unescape(content.as_bytes(), &mut out);
        assert_eq!(got.map(|characters| (out.as_slice(), characters)), expect, "{content}");
    }

    #[test]
    fn escapes_become_the_bytes_they_stand_for() {
        check("", Ok((b"", true)));
        check("plain é", Ok(("plain é".as_bytes(), true)));
        check(r#"a\"\\\/\b\f\n\r\tz"#, Ok((b"a\"\\/\x08\x0c\n\r\tz", true)));
        check(r"\u00e9\uD83D\uDE00", Ok(("é😀".as_bytes(), true)));
        check(r"a\uD83Dz", Ok((b"az", false)));
        check(r"\uDE00", Ok((b"", false)));
        check(r"\uD83D\u0041", Ok((b"A", false)));
    }

    #[test]
    fn what_json_forbids_is_malformed() {
        for bad in [r"\q", r"\u12", r"\u12g4", "\\", "a\nb", "a\"b", "a\u{0}"] {
            check(bad, Err(Malformed));
        }
    }
}
