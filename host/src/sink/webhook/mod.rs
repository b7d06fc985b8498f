//! A webhook: batches of messages, posted as JSON to an address, with the headers of Standard Webhooks
//! (<https://www.standardwebhooks.com>).
//!
//! One request sends one batch and is answered once: what is tried again, with the same id, is decided by who delivers.
//! Secrets and what may hold one (the query of the address) are in no text that leaves here but the request itself.

mod answer;
mod client;
mod signature;
mod target;

pub use target::check_url;

use super::batch::{Answer, BatchSink, Item};
use super::{SinkError, webhook::signature::Keys};
use crate::config::WebhookConfig;
use client::{Client, Got};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::path::Path;
use std::time::Duration;
use target::Target;

/// Most characters of an answer that are told.
const TOLD_CHARS_MAX: usize = 200;

/// The sink.
pub struct Webhook {
    client: Client,
    keys: Keys,
    headers: HeaderMap,
    /// What must not be in any text.
    secrets: Vec<String>,
}

/// What stands in the way of a configured webhook, without the secrets that it names.
fn refused(sink: &str, message: String) -> SinkError {
    SinkError::Refused { sink: sink.to_owned(), code: "webhook-config", message }
}

/// Where the sink `name` posts to, for people.
///
/// # Errors
/// An address that is none, or is not where it should stand.
pub fn shown(name: &str, config: &WebhookConfig, folder: &Path) -> Result<String, SinkError> {
    let read = || Target::read(&config.url(folder)?).map_err(|why| format!("url: {why}"));
    read().map(|target| target.shown()).map_err(|why| refused(name, why))
}

impl Webhook {
    /// A sink that nothing was sent to yet. Secrets are read now, from the environment and from files as seen from `folder`.
    ///
    /// # Errors
    /// What is not where it should stand, or is not what it should be; with its key in the configuration.
    pub fn new(name: &str, config: &WebhookConfig, folder: &Path) -> Result<Self, SinkError> {
        Self::read(config, folder).map_err(|why| refused(name, why))
    }

    fn read(config: &WebhookConfig, folder: &Path) -> Result<Self, String> {
        let target = Target::read(&config.url(folder)?).map_err(|why| format!("url: {why}"))?;
        let secret = config.secret.as_ref().map(|secret| secret.value(folder)).transpose();
        let secret = secret.map_err(|why| format!("secret: {why}"))?.unwrap_or_default();
        let keys = Keys::read(&secret).map_err(|why| format!("secret: {why}"))?;
        let mut headers = HeaderMap::new();
        // A key is one with its prefix and without.
        let mut secrets: Vec<String> = secret.split_whitespace().map(str::to_owned).collect();
        secrets.extend(secret.split_whitespace().filter_map(signature::without_prefix).map(str::to_owned));
        secrets.extend(target.query().map(str::to_owned));
        for (header, value) in &config.headers {
            let at = |why: String| format!("headers.{header}: {why}");
            let text = value.value(folder).map_err(at)?;
            let name = HeaderName::try_from(header.as_str());
            let name = name.map_err(|_| at("no name of a header".into()))?;
            let mut value_of = HeaderValue::try_from(text.as_str())
                .map_err(|_| at("its value has a character that no header may have".into()))?;
            if matches!(value, crate::config::Setting::Reference(_)) {
                value_of.set_sensitive(true);
                // A receiver may repeat the token of `Bearer TOKEN` alone.
                let is_scheme = |piece: &str| ["basic", "bearer"].contains(&piece.to_lowercase().as_str());
                secrets.extend(text.split_whitespace().filter(|piece| !is_scheme(piece)).map(str::to_owned));
            }
            headers.insert(name, value_of);
        }
        let ca = config.ca.as_ref().map(|path| folder.join(path));
        let client = Client::new(target, ca.as_deref(), Duration::from_millis(config.timeout_ms))?;
        Ok(Self { client, keys, headers, secrets })
    }

    /// The headers of a request, which is sent with this very body.
    fn headers(&self, id: &str, seconds: i64, body: &[u8]) -> HeaderMap {
        let mut headers = self.headers.clone();
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("content-type", "application/json");
        put("webhook-id", id);
        put("idempotency-key", id);
        put("webhook-timestamp", &seconds.to_string());
        if let Some(signatures) = self.keys.sign(id, seconds, body) {
            put("webhook-signature", &signatures);
        }
        headers
    }
}

impl BatchSink for Webhook {
    fn target(&self) -> String {
        self.client.target.shown()
    }

    fn send(&mut self, id: &str, items: &[Item], now: i64) -> Result<Answer, SinkError> {
        let body = body(items);
        let headers = self.headers(id, now.div_euclid(1_000_000), &body);
        Ok(match self.client.post(headers, body) {
            Ok(Got { status, retry_after, text, is_cut }) => {
                answer::of(status, retry_after, &scrubbed(&self.secrets, &text, is_cut))
            }
            Err(why) => Answer::Later { reason: scrubbed(&self.secrets, &why, false), after_us: 0 },
        })
    }
}

/// The beginning of text that came from outside, without what is a secret here; of a text that is cut its end may be the beginning
/// of one.
fn scrubbed(secrets: &[String], text: &str, is_cut: bool) -> String {
    let text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "…"));
    let longest = secrets.iter().map(|secret| secret.chars().count()).max().unwrap_or(0);
    let safe = text.chars().count().saturating_sub(if is_cut { longest } else { 0 });
    text.chars().take(safe.min(TOLD_CHARS_MAX)).collect()
}

/// `{"messages":[…]}`
fn body(items: &[Item]) -> Vec<u8> {
    let mut body = b"{\"messages\":[".to_vec();
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&item.json);
    }
    body.extend_from_slice(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use super::{TOLD_CHARS_MAX, scrubbed};

    #[test]
    fn no_part_of_a_secret_is_told_wherever_the_text_is_cut() {
        let secrets = ["whsec_0123456789abcdef".to_owned(), "0123456789abcdef".to_owned()];
        let told = |text: &str, is_cut| scrubbed(&secrets, text, is_cut);
        assert_eq!(told("a whsec_0123456789abcdef b 0123456789abcdef", false), "a … b …");
        let long = format!("{}0123456789abcdef", "x".repeat(TOLD_CHARS_MAX - 10));
        assert_eq!(told(&long, false), format!("{}…", "x".repeat(TOLD_CHARS_MAX - 10)));
        for cut in 0..16 {
            let text = format!("answer {}", &"0123456789abcdef"[..cut]);
            assert!(!told(&text, true).contains('0'), "cut behind {cut}");
        }
    }
}
