//! The scripts that Redis runs: what they change, they change at once.

use std::sync::OnceLock;

/// A script.
pub(super) struct Script {
    pub(super) text: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    const fn new(text: &'static str) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    /// By which Redis knows it: SHA-1, in hexadecimal digits.
    pub(super) fn digest(&self) -> &str {
        self.digest.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }
}

pub(super) static PUT: Script = Script::new(include_str!("put.lua"));
pub(super) static MARK: Script = Script::new(include_str!("mark.lua"));
pub(super) static GET: Script = Script::new(include_str!("get.lua"));
pub(super) static ASTRAY: Script = Script::new(include_str!("astray.lua"));
pub(super) static DROP: Script = Script::new(include_str!("drop.lua"));

/// All of them.
pub(super) static SCRIPTS: [&Script; 5] = [&PUT, &MARK, &GET, &ASTRAY, &DROP];
