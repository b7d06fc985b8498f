//! Who pays: registered users who never paid, big spenders, tiers, people who took money back.
//!
//! Reads `shop.users` (who exists) and `shop.orders`; an order counts as paid in the states 1 PAID, 2 SHIPPED and
//! 3 DONE, and as refunded in state 6. Nothing depends on time.
#![cfg_attr(target_family = "wasm", no_std)]

use retag_sdk::prelude::*;

/// A user exists.
#[derive(Row)]
#[row(table = "shop.users", key = user_id)]
struct User {
    user_id: u64,
}

/// An order, in the state it is in.
#[derive(Row)]
#[row(table = "shop.orders", key = user_id)]
struct Order {
    user_id: u64,
    merchant_id: i64,
    state: i64,
    amount: Decimal<2>,
}

/// What is kept per user.
#[derive(Aggregates)]
struct Payer {
    paid_orders: Count,
    spent: Sum<Decimal<2>>,
    refunded: Count,
    merchants: Distinct<i64>,
    registered: Any,
}

#[derive(Params)]
struct Params {
    /// Spent from which a user is a big spender.
    #[param(default = "5000.00")]
    big_spender_min: Decimal<2>,
}

#[derive(LabelValue, Clone, Copy, PartialEq, Debug)]
enum Tier {
    Silver,
    Gold,
}

impl Tier {
    const SILVER_MIN: Decimal<2> = Decimal::lit("2000.00");
    const GOLD_MIN: Decimal<2> = Decimal::lit("10000.00");

    fn of(spent: Decimal<2>) -> Option<Tier> {
        match spent {
            spent if spent >= Self::GOLD_MIN => Some(Tier::Gold),
            spent if spent >= Self::SILVER_MIN => Some(Tier::Silver),
            _ => None,
        }
    }
}

#[derive(Labels, PartialEq, Debug)]
struct Tags {
    /// Registered, and no order is paid.
    never_paid: bool,
    /// Spent at least `big_spender_min`.
    big_spender: bool,
    /// Took money back at least once.
    refunder: bool,
    /// By what was spent: silver from 2000.00, gold from 10000.00.
    tier: Option<Tier>,
}

#[rule(name = "payer", entity = "user", description = "Who pays, how much, and who takes it back")]
impl Payer {
    fn map_user(_: &User, add: &mut Add<Payer>) {
        add.registered.yes();
    }

    fn map_order(order: &Order, add: &mut Add<Payer>) {
        match order.state {
            1..=3 => {
                add.paid_orders.one();
                add.spent.add(order.amount);
                add.merchants.insert(order.merchant_id);
            }
            6 => add.refunded.one(),
            _ => {}
        }
    }

    fn label(sums: &Sums<Payer>, params: &Params) -> Tags {
        Tags {
            never_paid: sums.registered && sums.paid_orders == 0,
            big_spender: sums.spent >= params.big_spender_min,
            refunder: sums.refunded > 0,
            tier: Tier::of(sums.spent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retag_sdk::testing::{Harness, run_scenarios};

    fn order(state: i64, amount: &str) -> Order {
        Order { user_id: 42, merchant_id: 7, state, amount: Decimal::lit(amount) }
    }

    #[test]
    fn a_refund_takes_the_money_back() {
        let mut shop = Harness::<Payer>::new();
        shop.insert(&User { user_id: 42 });
        assert!(shop.labels(42).never_paid);
        shop.insert(&order(1, "6000.00"));
        let paid = Tags { never_paid: false, big_spender: true, refunder: false, tier: Some(Tier::Silver) };
        assert_eq!(shop.labels(42), paid);
        shop.update(&order(1, "6000.00"), &order(6, "6000.00"));
        let refunded = Tags { never_paid: true, big_spender: false, refunder: true, tier: None };
        assert_eq!(shop.labels(42), refunded);
    }

    #[test]
    fn a_delete_undoes_an_insert_and_the_key_is_gone() {
        let mut shop = Harness::<Payer>::new();
        shop.insert(&order(3, "10000.00")).delete(&order(3, "10000.00"));
        assert!(!shop.exists(42));
        shop.delete(&order(3, "1.00"));
        assert!(shop.is_pending(42), "a delete came before its insert");
    }

    #[test]
    fn scenarios() {
        run_scenarios::<Payer>("scenarios");
    }
}
