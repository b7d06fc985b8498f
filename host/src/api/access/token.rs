//! One token: made from the system's random numbers, compared in constant time by its hash.

use super::super::role::Role;
use super::event::Created;
use crate::clock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use subtle::ConstantTimeEq;

/// What tokens begin with, so that scanners find one that leaked.
const PREFIX: &str = "retag_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Random bytes of an id.
const ID_BYTES: usize = 6;

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// It is not written as `Authorization: Bearer TOKEN`.
    Malformed,
    /// It was never made here.
    Unknown,
    /// It was revoked.
    Revoked,
    /// It has ended.
    Expired,
}

impl TokenFault {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "write one header `Authorization: Bearer TOKEN`",
            Self::Unknown => "the token is not known here",
            Self::Revoked => "the token was revoked",
            Self::Expired => "the token has expired",
        }
    }
}

/// A token as the host knows it.
#[derive(Clone, Debug)]
pub struct Token {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) role: Role,
    hash: [u8; 32],
    created_us: i64,
    created_by: String,
    expires_us: Option<i64>,
    pub(super) revoked: Option<(i64, String)>,
}

/// What may be shown of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// By whom.
    pub created_by: String,
    /// When it ends by itself, RFC 3339.
    pub expires: Option<String>,
    /// When it was revoked, RFC 3339.
    pub revoked: Option<String>,
    /// By whom.
    pub revoked_by: Option<String>,
}

/// A token that was just made. It has no `Debug`: the text is for its holder alone.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct NewToken {
    /// The token. Shown this once, stored nowhere.
    pub token: String,
    /// What may be shown of it later.
    #[serde(flatten)]
    pub about: About,
}

impl Token {
    pub(super) fn of(created: Created) -> Self {
        let mut hash = [0; 32];
        // A hash that does not read matches no token.
        let pairs = created.sha256.as_bytes().chunks_exact(2);
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            *byte = std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()).unwrap_or(0);
        }
        Self {
            id: created.id,
            name: created.name,
            role: created.role,
            hash,
            created_us: created.time_us,
            created_by: created.by,
            expires_us: created.expires_us,
            revoked: None,
        }
    }

    pub(super) fn state(&self, now_us: i64) -> &'static str {
        match (&self.revoked, self.expires_us) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now_us => "expired",
            (None, _) => "valid",
        }
    }

    pub(super) fn about(&self, now_us: i64) -> About {
        About {
            id: self.id.clone(),
            name: self.name.clone(),
            role: self.role,
            state: self.state(now_us).into(),
            created: clock::rfc3339(self.created_us),
            created_by: self.created_by.clone(),
            expires: self.expires_us.map(clock::rfc3339),
            revoked: self.revoked.as_ref().map(|(time, _)| clock::rfc3339(*time)),
            revoked_by: self.revoked.as_ref().map(|(_, by)| by.clone()),
        }
    }
}

/// A new id, and the whole token.
pub(super) fn make() -> Result<(String, String), String> {
    let mut bytes = [0; ID_BYTES + SECRET_BYTES];
    // No weaker source in its place: without random numbers there is no token.
    let mut source = File::open("/dev/urandom").map_err(|e| format!("no random numbers: {e}"))?;
    source.read_exact(&mut bytes).map_err(|e| format!("no random numbers: {e}"))?;
    let (id, secret) = bytes.split_at(ID_BYTES);
    let id = hex(id);
    let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
    Ok((id, text))
}

/// The id in a token's text.
pub(super) fn id_of(text: &[u8]) -> Option<&str> {
    let rest = text.strip_prefix(PREFIX.as_bytes())?;
    let id = rest.get(..2 * ID_BYTES).filter(|_| rest.get(2 * ID_BYTES) == Some(&b'_'))?;
    std::str::from_utf8(id).ok()
}

/// SHA-256, hexadecimal.
pub(super) fn hash(text: &[u8]) -> String {
    hex(&Sha256::digest(text))
}

/// Whether `text` is this token and the token counts. Takes the same time whichever byte differs, known id or not.
pub(super) fn check(token: Option<&Token>, text: &[u8], now_us: i64) -> Result<(), TokenFault> {
    let given: [u8; 32] = Sha256::digest(text).into();
    let expected = token.map_or([0; 32], |token| token.hash);
    let same = bool::from(given.ct_eq(&expected));
    // What a token's state is, is told to its holder alone.
    match token {
        Some(token) if same => match token.state(now_us) {
            "valid" => Ok(()),
            "expired" => Err(TokenFault::Expired),
            _ => Err(TokenFault::Revoked),
        },
        _ => Err(TokenFault::Unknown),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // a string takes everything
        out
    })
}
