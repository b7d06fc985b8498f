//! `[http]`: where the host listens beside its socket, who may ask, and every limit of that side with its default.

use serde::{Deserialize, Deserializer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the host listens when nothing is said.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:8080";

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Addresses to listen on. Default `127.0.0.1:8080`; `off` = the socket in the state directory only.
    #[serde(deserialize_with = "listen")]
    pub listen: Listen,
    /// `token` (default), or `off`: everyone who reaches a loopback address is admin.
    pub auth: Auth,
    /// Certificate and key; without them plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Connections at once; further ones are answered with 503 and closed. Default 1,024.
    pub connections_max: u32,
    /// The same for one address (IPv6: one /64). Default 256.
    pub connections_per_address_max: u32,
    /// Largest head of a request (line and headers). Default 16 KiB.
    pub header_bytes_max: usize,
    /// Longest time from the first byte of a head to its end, and of a TLS handshake. Default 10 s.
    pub header_timeout_ms: u64,
    /// Longest silence of a connection between requests, and of a reader that takes no bytes. Default 60 s.
    pub idle_timeout_ms: u64,
    /// Longest time from a head to the beginning of its answer, the body included. Default 30 s.
    pub request_timeout_ms: u64,
    /// Largest body. Default 1 MiB.
    pub body_bytes_max: usize,
    /// Largest body of an upload. Default 64 MiB.
    pub upload_bytes_max: usize,
    /// Requests a second of one token, or of one address without a token. Default 10,000.
    pub rate_per_second: u32,
    /// Requests that may come at once before that rate counts. Default 20,000.
    pub rate_burst: u32,
    /// Exports at once. Default 4.
    pub exports_max: usize,
    /// Streams of transitions at once. Default 64.
    pub streams_max: usize,
    /// Longest silence of a stream of transitions. Default 15 s.
    pub heartbeat_ms: u64,
    /// How long a stopping host lets running requests go on. Default 5 s.
    pub stop_timeout_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            auth: Auth::Token,
            tls: None,
            connections_max: 1024,
            connections_per_address_max: 256,
            header_bytes_max: 16 << 10,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            request_timeout_ms: 30_000,
            body_bytes_max: 1 << 20,
            upload_bytes_max: 64 << 20,
            rate_per_second: 10_000,
            rate_burst: 20_000,
            exports_max: 4,
            streams_max: 64,
            heartbeat_ms: 15_000,
            stop_timeout_ms: 5_000,
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Addresses as written; none = off.
    pub addresses: Vec<String>,
    /// The configuration says so itself: an address that is taken is then an error, else a warning.
    pub explicit: bool,
}

impl Default for Listen {
    fn default() -> Self {
        Self { addresses: vec![LISTEN_DEFAULT.to_owned()], explicit: false }
    }
}

/// Who may ask.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Whoever has a token, as far as its role goes.
    #[default]
    Token,
    /// Whoever reaches the address.
    Off,
}

/// `[http.tls]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the certificate and those between it and its authority.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<Listen, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an address, a list of addresses or \"off\"")]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    let addresses = match OneOrMore::deserialize(from)? {
        OneOrMore::One(text) if text == "off" => Vec::new(),
        OneOrMore::One(text) => vec![text],
        OneOrMore::More(all) => all,
    };
    Ok(Listen { addresses, explicit: true })
}

impl HttpConfig {
    /// The addresses, read.
    ///
    /// # Errors
    /// Text that is no address.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let read = |text: &String| {
            let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
            named.as_ref().unwrap_or(text).parse().map_err(|_| {
                format!(
                    "http.listen: `{text}` is no address with a port, like 127.0.0.1:8080 or [::1]:8080; \
                     \"off\" serves the socket in the state directory only"
                )
            })
        };
        self.listen.addresses.iter().map(read).collect()
    }

    /// Bounds that hold for each number, and what must not stand together.
    ///
    /// # Errors
    /// The key and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let addresses = self.addresses()?;
        if let Some(open) = addresses.iter().find(|a| self.auth == Auth::Off && !a.ip().is_loopback()) {
            return Err(format!(
                "http.auth: \"off\" is refused because http.listen has {open}, which others reach; \
                 listen on 127.0.0.1 only, or use auth = \"token\""
            ));
        }
        let between = |key: &str, n: u64, least: u64, most: u64| {
            let fits = (least..=most).contains(&n);
            if fits { Ok(()) } else { Err(format!("http.{key}: {least} to {most}")) }
        };
        const MINUTES_10: u64 = 600_000;
        between("connections_max", self.connections_max.into(), 1, 100_000)?;
        between("connections_per_address_max", self.connections_per_address_max.into(), 1, 100_000)?;
        between("header_bytes_max", self.header_bytes_max as u64, 8 << 10, 1 << 20)?;
        between("header_timeout_ms", self.header_timeout_ms, 10, MINUTES_10)?;
        between("idle_timeout_ms", self.idle_timeout_ms, 10, 6 * MINUTES_10)?;
        between("request_timeout_ms", self.request_timeout_ms, 10, MINUTES_10)?;
        between("body_bytes_max", self.body_bytes_max as u64, 1 << 10, 64 << 20)?;
        between("upload_bytes_max", self.upload_bytes_max as u64, 1 << 10, 1 << 30)?;
        between("rate_per_second", self.rate_per_second.into(), 1, 1_000_000)?;
        between("rate_burst", self.rate_burst.into(), 1, 10_000_000)?;
        between("exports_max", self.exports_max as u64, 1, 64)?;
        between("streams_max", self.streams_max as u64, 1, 10_000)?;
        between("heartbeat_ms", self.heartbeat_ms, 10, MINUTES_10)?;
        between("stop_timeout_ms", self.stop_timeout_ms, 0, MINUTES_10)
    }

    /// Longest time of a request.
    #[must_use]
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// Longest time of a head.
    #[must_use]
    pub const fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    /// Longest silence.
    #[must_use]
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<HttpConfig, String> {
        let config: HttpConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn the_default_listens_on_loopback_and_asks_for_tokens() {
        let config = check("").unwrap();
        assert_eq!(config.addresses().unwrap(), ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!((config.auth, config.listen.explicit), (Auth::Token, false));
    }

    #[test]
    fn addresses_are_one_more_or_off() {
        assert!(check("listen = \"off\"").unwrap().addresses().unwrap().is_empty());
        assert_eq!(check("listen = [\"127.0.0.1:0\", \"[::1]:0\"]").unwrap().addresses().unwrap().len(), 2);
        assert_eq!(check("listen = \"localhost:81\"").unwrap().addresses().unwrap()[0].port(), 81);
        assert!(check("listen = \"8080\"").unwrap_err().contains("http.listen"));
        assert!(check("listen = 8080").unwrap_err().contains("an address"));
    }

    #[test]
    fn auth_is_off_on_loopback_only() {
        assert!(check("auth = \"off\"").is_ok());
        assert!(check("auth = \"off\"\nlisten = [\"127.0.0.1:80\", \"[::1]:80\"]").is_ok());
        for open in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[::ffff:127.0.0.1]:80"] {
            let error = check(&format!("auth = \"off\"\nlisten = [\"127.0.0.1:80\", \"{open}\"]"));
            assert!(error.unwrap_err().contains("http.auth"), "{open}");
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_named() {
        for key in ["connections_max = 0", "header_bytes_max = 100", "body_bytes_max = 1", "rate_burst = 0"] {
            let name = key.split(' ').next().unwrap();
            assert!(check(key).unwrap_err().contains(&format!("http.{name}: ")), "{key}");
        }
    }
}
