//! Requests a second of each caller: a bucket that fills at a steady rate and gives one drop a request.
//!
//! The table is bounded: when it is full of callers that all ask right now, further ones share one bucket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most callers that have a bucket of their own.
const BUCKETS_MAX: usize = 10_000;
/// How often a full table is looked through for buckets that nobody needs.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Whose bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bearer {
    /// Of a token, by its id.
    Token(String),
    /// Of an address.
    Address(IpAddr),
}

/// All buckets.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: f64,
    burst: f64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    buckets: HashMap<Bearer, Bucket>,
    shared: Option<Bucket>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    drops: f64,
    at: Instant,
}

impl Rate {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second.into(), burst: burst.into(), inner: Mutex::default() }
    }

    /// Takes a drop; else how long until there is one.
    pub(super) fn take(&self, bearer: Bearer, now: Instant) -> Result<(), Duration> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Bucket { drops: self.burst, at: now };
        let known = inner.buckets.contains_key(&bearer);
        if !known && inner.buckets.len() >= BUCKETS_MAX {
            self.sweep(&mut inner, now);
        }
        let bucket = if known || inner.buckets.len() < BUCKETS_MAX {
            inner.buckets.entry(bearer).or_insert(full)
        } else {
            inner.shared.get_or_insert(full)
        };
        bucket.drops = self.filled(bucket, now);
        bucket.at = now;
        if bucket.drops >= 1.0 {
            bucket.drops -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.drops) / self.per_second))
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        since.mul_add(self.per_second, bucket.drops).min(self.burst)
    }

    /// A bucket that is full again says nothing that a new one would not.
    fn sweep(&self, inner: &mut Inner, now: Instant) {
        if inner.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_EVERY) {
            return;
        }
        inner.swept = Some(now);
        inner.buckets.retain(|_, bucket| self.filled(bucket, now) < self.burst);
    }
}

/// Whom an address stands for: one IPv4 address, or the /64 that one IPv6 subscriber has.
pub(super) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::moment;

    fn address(n: u32) -> Bearer {
        Bearer::Address(std::net::Ipv4Addr::from(n).into())
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (rate, begin) = (Rate::new(10, 3), moment());
        for _ in 0..3 {
            assert_eq!(rate.take(address(1), begin), Ok(()));
        }
        assert_eq!(rate.take(address(1), begin), Err(Duration::from_millis(100)));
        assert_eq!(rate.take(address(2), begin), Ok(()), "another caller has its own");
        let later = begin + Duration::from_millis(101);
        assert_eq!(rate.take(address(1), later), Ok(()));
        assert!(rate.take(address(1), later).is_err());
        let long = begin + Duration::from_secs(1000);
        assert_eq!(
            (0..10).filter(|_| rate.take(address(1), long).is_ok()).count(),
            3,
            "never above the burst"
        );
    }

    #[test]
    fn a_flood_of_callers_is_bounded_and_shares_a_bucket() {
        let (rate, begin) = (Rate::new(1, 2), moment());
        for n in 0..u32::try_from(BUCKETS_MAX).unwrap() {
            assert!(rate.take(address(n), begin).is_ok());
        }
        let taken = (0..1000).filter(|n| rate.take(address(1_000_000 + n), begin).is_ok()).count();
        assert_eq!(taken, 2);
        assert_eq!(rate.inner.lock().unwrap().buckets.len(), BUCKETS_MAX);
        // When those before have gone quiet, new ones get buckets of their own.
        let later = begin + Duration::from_secs(10);
        assert!((0..1000).all(|n| rate.take(address(2_000_000 + n), later).is_ok()));
        assert!(rate.inner.lock().unwrap().buckets.len() <= 1000);
    }

    #[test]
    fn an_ipv6_subscriber_is_one_however_many_addresses_it_takes() {
        let check = |a: &str, b: &str, same: bool| {
            assert_eq!(subscriber(a.parse().unwrap()) == subscriber(b.parse().unwrap()), same, "{a} {b}");
        };
        check("2001:db8::1", "2001:db8::ffff", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("::ffff:10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
    }
}
