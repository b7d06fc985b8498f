//! `[sinks.NAME]` with `type = "webhook"`: batches of messages, posted to an address.

use super::librdkafka::{Reference, Setting};
use super::sink::{Deliver, WhenFull};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `type = "webhook"`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `http://` or `https://`; without user and password.
    pub url: Setting,
    /// What requests are signed with: `whsec_` and base64, by reference. During a change several, separated by spaces.
    #[serde(default)]
    pub secret: Option<Setting>,
    /// Headers of every request.
    #[serde(default)]
    pub headers: BTreeMap<String, Setting>,
    /// PEM file of the authorities that are trusted, in place of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Which transitions it gets. Default `changes`.
    #[serde(default)]
    pub deliver: Option<Deliver>,
    /// Most messages of a request. Default 100.
    #[serde(default = "default_messages")]
    pub batch_max: usize,
    /// Most bytes of a request's body; a message that is longer goes alone. Default 1 MiB.
    #[serde(default = "default_bytes")]
    pub batch_bytes_max: usize,
    /// How long a request may take, from the connection to the answer. Default 10,000.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    /// How long a batch is tried before its messages become dead letters. Default: for ever.
    #[serde(default)]
    pub retry_for_s: Option<u32>,
    /// `hold` (default) or `drop-oldest`.
    #[serde(default)]
    pub when_full: Option<WhenFull>,
    /// Most dead letters that are kept; with more the sink waits. Default 10,000.
    #[serde(default = "default_dead_letters")]
    pub dead_letters_max: u64,
}

const fn default_messages() -> usize {
    100
}

const fn default_bytes() -> usize {
    1 << 20
}

const fn default_timeout() -> u64 {
    10_000
}

const fn default_dead_letters() -> u64 {
    10_000
}

/// Headers that are the sink's own.
const OWN_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Whether the value of a header is a secret by the header's name.
fn is_secret(header: &str) -> bool {
    let header = header.to_lowercase();
    ["auth", "cookie", "key", "password", "secret", "token", "signature"]
        .iter()
        .any(|part| header.contains(part))
}

impl WebhookConfig {
    /// Which transitions it gets.
    #[must_use]
    pub fn deliver(&self) -> Deliver {
        self.deliver.unwrap_or(Deliver::Changes)
    }

    /// What becomes of it when too much waits for it.
    #[must_use]
    pub fn when_full(&self) -> WhenFull {
        self.when_full.unwrap_or_default()
    }

    /// The address; one that stands somewhere else is read now, from the environment or from a file as seen from `folder`.
    ///
    /// # Errors
    /// Where it should stand and does not.
    pub fn url(&self, folder: &Path) -> Result<String, String> {
        let url = self.url.value(folder).map_err(|why| format!("url: {why}"))?;
        Ok(url.trim().to_owned())
    }

    /// What must not stand together, and secrets that stand in the open.
    ///
    /// # Errors
    /// The key and what to do.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        const BY_REFERENCE: &str =
            "a secret does not stand in the configuration: { env = \"NAME\" } or { file = \"path\" }";
        let at = |key: &str, what: &str| Err(format!("sinks.{name}.{key}: {what}"));
        let is_text =
            matches!(self.url, Setting::Text(_) | Setting::Reference(Reference::Env(_) | Reference::File(_)));
        if !is_text {
            return at("url", "text as https://HOST/PATH, { env = \"NAME\" } or { file = \"path\" }");
        }
        if let Setting::Text(url) = &self.url {
            crate::sink::webhook::check_url(url).or_else(|why| at("url", &why))?;
        }
        if self.secret.as_ref().is_some_and(|secret| !matches!(secret, Setting::Reference(_))) {
            return at("secret", BY_REFERENCE);
        }
        for (header, value) in &self.headers {
            let key = format!("headers.{header}");
            if OWN_HEADERS.contains(&header.to_lowercase().as_str()) {
                return at(&key, "the sink sets it itself: leave it out");
            }
            if is_secret(header) && !matches!(value, Setting::Reference(_)) {
                return at(&key, BY_REFERENCE);
            }
        }
        let ranges = [
            ("batch_max", self.batch_max as u64, 1, 10_000),
            ("batch_bytes_max", self.batch_bytes_max as u64, 1_024, 64 << 20),
            ("timeout_ms", self.timeout_ms, 100, 120_000),
            ("dead_letters_max", self.dead_letters_max, 0, 1_000_000),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return at(key, &format!("{least} to {most}"));
            }
        }
        if self.when_full == Some(WhenFull::Refill) {
            return at("when_full", "\"hold\" or \"drop-oldest\"; only label sets are filled again");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str, expect: Result<(), &str>) {
        let text = if lines.contains("url =") {
            lines.to_owned()
        } else {
            format!("url = \"https://h/p\"\n{lines}")
        };
        let read: Result<WebhookConfig, _> = toml::from_str(&text);
        let checked = read.map_err(|error| error.to_string()).and_then(|config| config.check("hook"));
        match expect {
            Ok(()) => assert!(checked.is_ok(), "{lines}: {checked:?}"),
            Err(piece) => {
                let said = checked.unwrap_err();
                assert!(said.contains(piece), "{lines}: `{piece}` is not in {said}");
            }
        }
    }

    #[test]
    fn what_cannot_be_is_named_by_its_key() {
        check("", Ok(()));
        check("secret = { env = \"S\" }\nretry_for_s = 3600\nwhen_full = \"drop-oldest\"", Ok(()));
        check("headers = { Authorization = { file = \"t\" }, X-Team = \"shop\" }", Ok(()));
        check("secret = \"whsec_abc\"", Err("sinks.hook.secret: a secret does not stand"));
        check("headers = { Authorization = \"Bearer x\" }", Err("sinks.hook.headers.Authorization"));
        check("headers = { Webhook-Id = \"x\" }", Err("the sink sets it itself"));
        check("url = 5", Err("sinks.hook.url"));
        check("url = \"ftp://h\"", Err("http:// or https://"));
        check("url = \"https://user:word@h/\"", Err("sinks.hook.url"));
        check("batch_max = 0", Err("sinks.hook.batch_max: 1 to"));
        check("timeout_ms = 5", Err("sinks.hook.timeout_ms"));
        check("when_full = \"refill\"", Err("sinks.hook.when_full"));
        check("retries = 3", Err("retries"));
    }
}
