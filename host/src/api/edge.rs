//! The listening side as its connections and requests see it: limits, who is connected, how fast each may ask.

use super::metrics::{Limit, Metrics};
use super::rate::{Rate, subscriber};
use crate::config::HttpConfig;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// What all connections of the listening side share.
#[derive(Debug)]
pub struct Edge {
    pub(super) config: HttpConfig,
    pub(super) metrics: Arc<Metrics>,
    pub(super) rate: Rate,
    connected: Mutex<Connected>,
}

#[derive(Debug, Default)]
struct Connected {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// A place among the connections; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    edge: Arc<Edge>,
    address: IpAddr,
}

impl Edge {
    /// A listening side with these limits.
    #[must_use]
    pub fn new(config: HttpConfig, metrics: Arc<Metrics>) -> Self {
        let rate = Rate::new(config.rate_per_second, config.rate_burst);
        Self { config, metrics, rate, connected: Mutex::default() }
    }

    /// A place for a connection from `address`, or the limit that stands in the way.
    pub(super) fn place(self: &Arc<Self>, address: IpAddr) -> Result<Place, Limit> {
        let address = subscriber(address);
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if connected.total >= self.config.connections_max {
            return Err(Limit::Connections);
        }
        let of_address = connected.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= self.config.connections_per_address_max {
            return Err(Limit::ConnectionsPerAddress);
        }
        connected.total += 1;
        connected.by_address.insert(address, of_address + 1);
        self.metrics.connections.fetch_add(1, Ordering::Relaxed);
        self.metrics.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Place { edge: self.clone(), address })
    }

    /// Connections now.
    pub(super) fn connections(&self) -> u32 {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connected = self.edge.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.total = connected.total.saturating_sub(1);
        if let Some(n) = connected.by_address.get_mut(&self.address) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                connected.by_address.remove(&self.address);
            }
        }
        self.edge.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_given_back() {
        let config =
            HttpConfig { connections_max: 3, connections_per_address_max: 2, ..HttpConfig::default() };
        let edge = Arc::new(Edge::new(config, Arc::default()));
        let address = |n: u8| IpAddr::from([127, 0, 0, n]);
        let one = edge.place(address(1)).unwrap();
        let two = edge.place(address(1)).unwrap();
        assert_eq!(edge.place(address(1)).unwrap_err(), Limit::ConnectionsPerAddress);
        let three = edge.place(address(2)).unwrap();
        assert_eq!(edge.place(address(3)).unwrap_err(), Limit::Connections);
        drop((one, two, three));
        assert_eq!(edge.connections(), 0);
        assert!(edge.connected.lock().unwrap().by_address.is_empty());
        assert!(edge.place(address(1)).is_ok());
    }
}
