//! Signatures as Standard Webhooks has them: `v1,` and the base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`; the secret is
//! `whsec_` and the base64 of random bytes: 24 to 64 says the specification, whose own example has 18.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{HMAC_SHA256, Key, sign};

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// What of a secret is the key itself.
pub(super) fn without_prefix(secret: &str) -> Option<&str> {
    secret.strip_prefix(PREFIX)
}

/// The keys that requests are signed with: none, one, or the old and the new one while they change.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Reads secrets, separated by spaces or line ends.
    pub(super) fn read(secrets: &str) -> Result<Self, String> {
        let key = |secret: &str| {
            let bytes = secret.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
            let bytes = bytes.filter(|bytes| (16..=64).contains(&bytes.len()));
            let bytes = bytes.ok_or("each begins with `whsec_`, then the base64 of 16 to 64 random bytes")?;
            Ok(Key::new(HMAC_SHA256, &bytes))
        };
        secrets.split_whitespace().map(key).collect::<Result<_, String>>().map(Self)
    }

    /// The value of `webhook-signature`, a signature by each key; none without keys.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> Option<String> {
        let signed = [format!("{id}.{seconds}.").as_bytes(), body].concat();
        let one = |key: &Key| format!("v1,{}", STANDARD.encode(sign(key, &signed)));
        let all: Vec<String> = self.0.iter().map(one).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        let sign = |secrets: &str| {
            let body = br#"{"event_type":"ping","data":{"success":true}}"#;
            Keys::read(secrets).ok().unwrap().sign("msg_loFOjxBNrRLzqYUf", 1_731_705_121, body)
        };
        let expect = "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=";
        assert_eq!(sign(SECRET).as_deref(), Some(expect));
        let two = sign(&format!("{SECRET}\nwhsec_{}", STANDARD.encode([7; 32]))).unwrap();
        assert!(two.starts_with(&format!("{expect} v1,")) && two.len() > expect.len() * 2, "{two}");
        assert_eq!(sign(""), None);
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_repeated() {
        for secret in ["hunter2", "whsec_hunter2!", "whsec_aHVudGVyMg=="] {
            let said = Keys::read(secret).err().unwrap();
            assert!(said.contains("whsec_") && !said.contains("hunter2"), "{said}");
        }
    }
}
