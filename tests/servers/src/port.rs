//! A free port of 127.0.0.1 that stays the same over restarts of a server.
//!
//! It is not taken from where the system takes ports of outgoing connections: a client that tries again and again to reach
//! a stopped server would one day get that very port as its own, talk to itself, and the server could not come back. A
//! locked file keeps apart the ports of all servers that a user starts, in whatever process.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, bail};

/// Below the lowest port that systems take for outgoing connections.
const RANGE: std::ops::Range<u16> = 15_000..32_000;
const ATTEMPTS: u16 = 200;

/// A port that no other holder of a `Port` of this user has.
pub(crate) struct Port {
    pub(crate) number: u16,
    /// Locked as long as it is open.
    _lock: File,
}

impl Port {
    /// A free one.
    ///
    /// # Errors
    /// None of many is free, or the temporary folder cannot be written.
    pub(crate) fn reserve() -> Result<Self> {
        let user = rustix::process::geteuid().as_raw();
        let folder = std::env::temp_dir().join(format!("retag-ports-{user}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let start = std::hash::RandomState::new().build_hasher().finish();
        let width = u64::from(RANGE.end - RANGE.start);
        let start = u16::try_from(start % width).unwrap_or_default();
        for attempt in 0..ATTEMPTS {
            let number = RANGE.start + (start + attempt) % (RANGE.end - RANGE.start);
            let path = folder.join(number.to_string());
            let lock = OpenOptions::new().create(true).append(true).open(&path);
            let lock = lock.with_context(|| format!("open {}", path.display()))?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("none of {ATTEMPTS} ports from {} on is free on 127.0.0.1", RANGE.start + start)
    }
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn a_port_is_given_once() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(|port| port.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }
}
