//! Who has been a customer for a week: `senior`, seven days after the first order that still exists.
//!
//! Reads `shop.orders`. The label comes by time alone: the rule asks the clock, and the host wakes the key up at that
//! moment. When the first order is deleted, the next one counts.
#![cfg_attr(target_family = "wasm", no_std)]

use retag_sdk::prelude::*;

/// An order, in whatever state.
#[derive(Row)]
#[row(table = "shop.orders", key = user_id)]
struct Order {
    user_id: u64,
    ctime: Timestamp,
}

/// What is kept per user.
#[derive(Aggregates)]
struct Senior {
    first_order: Min<Timestamp>,
}

#[derive(Params)]
struct Params {
    /// How long after the first order a user is senior.
    #[param(default = "7d")]
    senior_after: Duration,
}

#[derive(Labels, PartialEq, Debug)]
struct Tags {
    /// The first order is old enough.
    senior: bool,
}

#[rule(name = "senior", entity = "user", description = "Who has been a customer for a week")]
impl Senior {
    fn map_order(order: &Order, add: &mut Add<Senior>) {
        add.first_order.insert(order.ctime);
    }

    fn label(sums: &Sums<Senior>, params: &Params, clock: &Clock) -> Tags {
        Tags { senior: sums.first_order.is_some_and(|first| clock.reached(first + params.senior_after)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retag_sdk::testing::{Harness, run_scenarios};

    fn order(ctime: &str) -> Order {
        Order { user_id: 42, ctime: Timestamp::lit(ctime) }
    }

    #[test]
    fn time_alone_makes_a_user_senior() {
        let mut shop = Harness::<Senior>::new();
        shop.insert(&order("2026-01-10 12:00:00")).insert(&order("2026-01-01 12:00:00"));
        shop.now = Timestamp::lit("2026-01-08 11:59:59");
        assert!(!shop.labels(42).senior);
        assert_eq!(shop.wake(42), Some(Timestamp::lit("2026-01-08 12:00:00")));
        shop.now = Timestamp::lit("2026-01-08 12:00:00");
        assert!(shop.labels(42).senior);
        assert_eq!(shop.wake(42), None);
    }

    #[test]
    fn a_deleted_first_order_no_longer_counts() {
        let mut shop = Harness::<Senior>::new();
        shop.insert(&order("2026-01-01 12:00:00")).insert(&order("2026-01-10 12:00:00"));
        shop.now = Timestamp::lit("2026-01-09 00:00:00");
        assert!(shop.labels(42).senior);
        shop.delete(&order("2026-01-01 12:00:00"));
        assert!(!shop.labels(42).senior);
        assert_eq!(shop.wake(42), Some(Timestamp::lit("2026-01-17 12:00:00")));
    }

    #[test]
    fn scenarios() {
        run_scenarios::<Senior>("scenarios");
    }
}
