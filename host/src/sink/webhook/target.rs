//! The address of a webhook: read once, and shown without its query.

use hyper::Uri;

/// Where requests go.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) https: bool,
    /// Name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What goes into `Host`.
    pub(super) authority: String,
    /// What is asked for.
    pub(super) path: Uri,
}

/// Whether this is an address of a webhook.
///
/// # Errors
/// What is wrong, without the address itself.
pub fn check_url(url: &str) -> Result<(), String> {
    Target::read(url).map(drop)
}

impl Target {
    /// Reads an address.
    pub(super) fn read(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "no address; write it as https://HOST/PATH".to_owned())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("an address begins with http:// or https://".into()),
        };
        let authority = uri.authority().ok_or("an address has a host")?.as_str().to_owned();
        if authority.contains('@') {
            let why = "user and password do not stand in an address; \
                       headers = { Authorization = { env = \"NAME\" } } sends them";
            return Err(why.into());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("an address has a host")?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).parse();
        Ok(Self {
            https,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority,
            path: path.map_err(|_| "no path that can be asked for")?,
        })
    }

    /// What may hold a secret.
    pub(super) fn query(&self) -> Option<&str> {
        self.path.query().filter(|query| !query.is_empty())
    }

    /// For people: without the query.
    pub(super) fn shown(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let query = if self.query().is_some() { "?…" } else { "" };
        format!("{scheme}://{}{}{query}", self.authority, self.path.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_without_its_query() {
        let target = Target::read("https://[::1]:8443/hooks/labels?sig=hunter2").ok().unwrap();
        assert_eq!((target.https, target.host.as_str(), target.port), (true, "::1", 8443));
        assert_eq!(
            (target.authority.as_str(), target.path.to_string().as_str()),
            ("[::1]:8443", "/hooks/labels?sig=hunter2")
        );
        assert_eq!(target.shown(), "https://[::1]:8443/hooks/labels?…");
        let target = Target::read("http://receiver").ok().unwrap();
        assert_eq!((target.https, target.port, target.path.to_string().as_str()), (false, 80, "/"));
        for (url, piece) in [
            ("", "no address"),
            ("receiver/hooks", "no address"),
            ("/hooks", "http://"),
            ("ftp://receiver/", "http://"),
            ("https://user:hunter2@receiver/", "do not stand in an address"),
            ("https://", "no address"),
        ] {
            let said = Target::read(url).err().unwrap();
            assert!(said.contains(piece) && !said.contains("hunter2"), "{url}: {said}");
        }
    }
}
