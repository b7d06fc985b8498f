//! Where installed servers lie: `RETAG_SERVERS_DIR`, else `retag/servers` in the user's cache folder.
//!
//! A server's folder is made whole and moved into place, so one that exists is complete. Its name carries the version and
//! the number of the recipe: a changed recipe installs anew, beside what older checkouts still use.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// What can be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Apache Kafka 4.3.1 with its command-line tools.
    Kafka,
    /// MariaDB as the system's packages have it.
    MariaDb,
    /// Maxwell 1.22.6.
    Maxwell,
    /// Redis as the system's packages have it, for single servers and clusters.
    Redis,
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kafka, Self::MariaDb, Self::Maxwell, Self::Redis];

    /// How it is called on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::MariaDb => "mariadb",
            Self::Maxwell => "maxwell",
            Self::Redis => "redis",
        }
    }

    /// The server of that name.
    ///
    /// # Errors
    /// There is none; the message lists all.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|server| server.name() == name);
        found.with_context(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            format!("unknown server `{name}`; there are: {all}")
        })
    }

    /// The name of its folder in the cache.
    fn folder_name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka-4.3.1-1",
            Self::MariaDb => "mariadb-1",
            Self::Maxwell => "maxwell-1.22.6-1",
            Self::Redis => "redis-1",
        }
    }

    /// Its folder in the cache, whether or not it is there.
    ///
    /// # Errors
    /// The user has no home.
    pub fn folder(self) -> Result<PathBuf> {
        Ok(root()?.join(self.folder_name()))
    }

    /// Its folder, which is there.
    ///
    /// # Errors
    /// It is not installed; the message says what to do.
    pub(crate) fn installed(self) -> Result<PathBuf> {
        let folder = self.folder()?;
        if !folder.is_dir() {
            let name = self.name();
            bail!("{name} is not installed (`cargo xtask servers install {name}` says what it lacks)");
        }
        Ok(folder)
    }

    /// Why it cannot be started, if it cannot: the reason of a test that is skipped.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        self.installed().err().map(|error| error.to_string())
    }
}

/// The folder of all servers.
pub(crate) fn root() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    if let Some(dir) = set("RETAG_SERVERS_DIR") {
        return std::path::absolute(dir).context("RETAG_SERVERS_DIR");
    }
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let cache = cache.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let cache = cache.context("no folder for servers: set RETAG_SERVERS_DIR, XDG_CACHE_HOME or HOME")?;
    Ok(cache.join("retag/servers"))
}

/// A program of the Java installation that `JAVA_HOME` names, else of the search path.
pub(crate) fn java(program: &str) -> PathBuf {
    match std::env::var_os("JAVA_HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home).join("bin").join(program),
        _ => PathBuf::from(program),
    }
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn names_are_parsed_and_unknown_ones_are_told_of() {
        for server in Server::ALL {
            assert_eq!(Server::parse(server.name()).unwrap(), server);
            assert!(server.folder_name().starts_with(server.name()));
        }
        let error = Server::parse("kafak").unwrap_err().to_string();
        assert_eq!(error, "unknown server `kafak`; there are: kafka, mariadb, maxwell, redis");
    }
}
