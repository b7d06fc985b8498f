//! Where a command goes: `--url`, else `--config`, else what the environment says, else the context in use, else
//! `./retag.toml`.

use super::context::{Contexts, Secret};
use super::print::Form;
use crate::config::Config;
use anyhow::{Context as _, bail, ensure};
use hyper::Uri;
use std::path::{Path, PathBuf};

/// Where to go, as typed.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PlaceArgs {
    /// Ask the host at this URL, or that of a context. Default: RETAG_URL.
    #[arg(long, value_name = "URL|CONTEXT", conflicts_with = "config")]
    url: Option<String>,
    /// Configuration file of a host on this machine. Default: RETAG_CONFIG, then the context in use, then retag.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What every command takes that asks a host for something.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Form,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
}

/// What every command takes that changes something.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Changing {
    /// Why, for the audit.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Where to go.
pub(super) enum Place {
    /// A host of this machine, running or stopped.
    Here(Box<Config>),
    /// A host on the network.
    There(Remote),
}

/// A host on the network.
#[derive(Clone)]
pub(super) struct Remote {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) token: Option<String>,
    /// PEM file of the authorities to trust; none = the system's.
    pub(super) ca: Option<PathBuf>,
}

impl PlaceArgs {
    /// The host at a URL, else that of a configuration, else as where neither is typed.
    pub(super) fn of(url: Option<String>, config: Option<PathBuf>) -> Self {
        Self { url, config }
    }

    /// Decides.
    pub(super) fn find(&self) -> anyhow::Result<Place> {
        let environment = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        if let Some(url) = &self.url {
            return there(url);
        }
        if let Some(config) = &self.config {
            return here(config);
        }
        if let Some(url) = environment("RETAG_URL") {
            return there(&url);
        }
        if let Some(config) = environment("RETAG_CONFIG") {
            return here(Path::new(&config));
        }
        match Contexts::read()?.current {
            Some(name) => there(&name),
            None => here(Path::new("retag.toml")),
        }
    }
}

fn here(config: &Path) -> anyhow::Result<Place> {
    Ok(Place::Here(Box::new(Config::read(config)?)))
}

/// A URL, or the name of a context. `RETAG_TOKEN` goes before the context's own token.
fn there(text: &str) -> anyhow::Result<Place> {
    let contexts = Contexts::read()?;
    let named = contexts.contexts.get(text);
    let url = match named {
        Some(context) => context.url.as_str(),
        None if text.contains("://") => text,
        None => bail!("no context `{text}`, and no URL either; `retag context ls` lists the contexts"),
    };
    let mut remote = parse(url)?;
    let token = std::env::var("RETAG_TOKEN").ok().filter(|token| !token.is_empty());
    remote.token = match (token, named.and_then(|context| context.token.as_ref())) {
        (Some(token), _) => Some(token),
        (None, Some(secret)) => Some(secret.read()?),
        (None, None) => None,
    };
    remote.ca = named.and_then(|context| context.ca.clone());
    let trusted = remote.https || is_loopback(&remote.host) || named.is_some_and(|context| context.insecure);
    ensure!(
        trusted || remote.token.is_none(),
        "{url}: a token would travel unencrypted; use https://, or a context made with --insecure"
    );
    Ok(Place::There(remote))
}

/// Reads `http[s]://HOST[:PORT]`.
pub(super) fn parse(url: &str) -> anyhow::Result<Remote> {
    let uri: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => bail!("`{url}`: a URL begins with http:// or https://"),
    };
    let authority = uri.authority().with_context(|| format!("`{url}` names no host"))?;
    ensure!(!authority.as_str().contains('@'), "`{url}`: a URL carries no password; use a token");
    ensure!(uri.path() == "/" && uri.query().is_none(), "`{url}`: a URL ends with the host and its port");
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    ensure!(!host.is_empty(), "`{url}` names no host");
    Ok(Remote { https, host, port, token: None, ca: None })
}

pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Secret {
    /// The token that it points at.
    pub(super) fn read(&self) -> anyhow::Result<String> {
        let (text, from) = match self {
            Self::Env { env } => {
                (std::env::var(env).with_context(|| format!("the token: no variable {env}"))?, env.clone())
            }
            Self::File { file } => (own_file(file)?, file.display().to_string()),
        };
        let token = text.trim();
        // It goes into a header.
        ensure!(
            !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()),
            "the token in {from} is empty or holds strange characters"
        );
        Ok(token.to_owned())
    }
}

/// A file that its owner alone may read.
fn own_file(path: &Path) -> anyhow::Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path).with_context(|| format!("the token: {}", path.display()))?;
    let others = meta.permissions().mode() & 0o077;
    ensure!(others == 0, "the token: others may read {}; chmod 600 it", path.display());
    std::fs::read_to_string(path).with_context(|| format!("the token: {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_hosts_and_ports() {
        let check = |url: &str, expect: Option<(bool, &str, u16)>| {
            let read = parse(url).ok();
            let read = read.as_ref().map(|remote| (remote.https, remote.host.as_str(), remote.port));
            assert_eq!(read, expect, "{url}");
        };
        check("http://127.0.0.1:8080", Some((false, "127.0.0.1", 8080)));
        check("https://retag.example", Some((true, "retag.example", 443)));
        check("https://retag.example/", Some((true, "retag.example", 443)));
        check("http://[::1]:81", Some((false, "::1", 81)));
        for wrong in
            ["retag.example", "ftp://x", "https://", "https://u:p@x", "https://x/path", "http://x?a=b", ""]
        {
            check(wrong, None);
        }
    }
}
