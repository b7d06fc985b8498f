//! Keys as bytes (in state) and as text (`user/42`): integers decimal, text as it is, bytes base64url without padding.
//!
//! Bytes are fixed for ever: u64 big-endian; i64 the same with the sign bit flipped; text UTF-8; bytes raw; ≤ 255.

use crate::rule::manifest::ValueType;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

const SIGN: u64 = 1 << 63;

/// Type of an entity's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// Unsigned number.
    U64,
    /// Signed number.
    I64,
    /// UTF-8.
    Text,
    /// Raw bytes.
    Bytes,
}

impl KeyType {
    /// The key type of a value type; `None` for types that are no keys.
    #[must_use]
    pub const fn of(value: ValueType) -> Option<Self> {
        Some(match value {
            ValueType::U64 => Self::U64,
            ValueType::I64 => Self::I64,
            ValueType::Text => Self::Text,
            ValueType::Bytes => Self::Bytes,
            _ => return None,
        })
    }

    /// A number's key bytes from its bits.
    #[must_use]
    #[inline]
    pub const fn number(self, bits: u64) -> [u8; 8] {
        match self {
            Self::I64 => (bits ^ SIGN).to_be_bytes(),
            _ => bits.to_be_bytes(),
        }
    }

    /// A key as text.
    #[must_use]
    #[allow(clippy::cast_possible_wrap)] // bits are taken on purpose
    pub fn text(self, key: &[u8]) -> String {
        let bits = key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        match self {
            Self::U64 => bits.to_string(),
            Self::I64 => ((bits ^ SIGN) as i64).to_string(),
            Self::Text => String::from_utf8_lossy(key).into_owned(),
            Self::Bytes => URL_SAFE_NO_PAD.encode(key),
        }
    }

    /// The bytes of a key given as text.
    ///
    /// # Errors
    /// Text that is no key of this type, in words.
    #[allow(clippy::cast_sign_loss)] // bits are taken on purpose
    pub fn parse(self, text: &str) -> Result<Vec<u8>, String> {
        let bytes = match self {
            Self::U64 => {
                let n: u64 =
                    text.parse().map_err(|_| format!("`{text}` is no key: a whole number is expected"))?;
                n.to_be_bytes().to_vec()
            }
            Self::I64 => {
                let n: i64 =
                    text.parse().map_err(|_| format!("`{text}` is no key: a whole number is expected"))?;
                self.number(n as u64).to_vec()
            }
            Self::Text => text.as_bytes().to_vec(),
            Self::Bytes => URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| format!("`{text}` is no key: base64url without padding is expected"))?,
        };
        if bytes.len() > retag_abi::KEY_BYTES_MAX {
            return Err(format!("a key has at most {} bytes", retag_abi::KEY_BYTES_MAX));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_inverse_and_in_order() {
        for (key, texts) in [
            (KeyType::U64, vec!["0", "42", "18446744073709551615"]),
            (KeyType::I64, vec!["-9223372036854775808", "-1", "0", "7"]),
            (KeyType::Text, vec!["", "a/b", "é"]),
            (KeyType::Bytes, vec!["", "AAE", "_w"]),
        ] {
            let bytes: Vec<_> = texts.iter().map(|t| key.parse(t).unwrap()).collect();
            assert!(bytes.is_sorted(), "{key:?}");
            assert_eq!(bytes.iter().map(|b| key.text(b)).collect::<Vec<_>>(), texts);
        }
        assert!(KeyType::U64.parse("-1").is_err());
        assert!(KeyType::Text.parse(&"x".repeat(256)).is_err());
    }
}
