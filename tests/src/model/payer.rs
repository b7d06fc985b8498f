//! Rules `payer` and `senior`, said once more over final rows.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::label::{Labels, decimal, gather};
use super::message::{OrderRow, UserRow};
use super::table::Table;
use super::{Params, message};

/// Aggregates of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayerRow {
    /// Orders in state 1–3.
    pub paid_orders: i64,
    /// Their amounts in hundredths.
    pub spent: i128,
    /// Orders in state 6.
    pub refunded: i64,
    /// Distinct merchants among the paid.
    pub merchants: u64,
    /// A row of `shop.users` exists.
    pub registered: bool,
}

impl PayerRow {
    /// The rows as `export aggregates payer -o csv` prints them: hundredths as decimals, flags as 0/1, keys ascending.
    #[must_use]
    pub fn to_csv(rows: &BTreeMap<u64, Self>) -> String {
        let mut csv = String::from("user_id,paid_orders,spent,refunded,merchants,registered\n");
        for (user, row) in rows {
            let (spent, registered) = (decimal(row.spent), u8::from(row.registered));
            let PayerRow { paid_orders, refunded, merchants, .. } = row;
            // Writing to a String cannot fail.
            let _ = writeln!(csv, "{user},{paid_orders},{spent},{refunded},{merchants},{registered}");
        }
        csv
    }
}

/// What rule `payer` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapSide {
    /// Orders by their state, and their merchants.
    #[default]
    States,
    /// Orders by their quantity as if it were their state, and themselves as if they were merchants: another map side over
    /// columns that the rule does not read, see [`crate::rule_file::baskets`].
    Baskets,
    /// As `States`, but only the states from 1 to this one count as paid.
    StatesUpTo(i64),
    /// As `Baskets`, but only the quantities from 1 to this one count as paid.
    BasketsUpTo(i64),
}

impl MapSide {
    /// What stands for the merchant and for the state of an order.
    fn of(self, order: &OrderRow) -> Option<(i64, i64)> {
        match self {
            Self::States | Self::StatesUpTo(_) => order.merchant_id.zip(order.state),
            Self::Baskets | Self::BasketsUpTo(_) => i64::try_from(order.order_id).ok().zip(order.quantity),
        }
    }

    /// The last state that counts as paid.
    fn paid_max(self) -> i64 {
        match self {
            Self::States | Self::Baskets => 3,
            Self::StatesUpTo(max) | Self::BasketsUpTo(max) => max,
        }
    }
}

pub(super) fn aggregates(
    users: &Table<UserRow>,
    orders: &Table<OrderRow>,
    side: MapSide,
) -> BTreeMap<u64, PayerRow> {
    let mut rows: BTreeMap<u64, PayerRow> = BTreeMap::new();
    let mut paid_by_merchant: HashMap<(u64, i64), i64> = HashMap::new();
    for (order, times) in orders.images() {
        let (Some(user), Some((merchant, state)), Some(amount)) =
            (order.user_id, side.of(order), order.amount)
        else {
            continue;
        };
        if (1..=side.paid_max()).contains(&state) {
            let row = rows.entry(user).or_default();
            row.paid_orders += times;
            row.spent += amount * i128::from(times);
            *paid_by_merchant.entry((user, merchant)).or_default() += times;
        } else if state == 6 {
            rows.entry(user).or_default().refunded += times;
        }
    }
    for ((user, _), times) in paid_by_merchant {
        if times > 0 {
            rows.entry(user).or_default().merchants += 1;
        }
    }
    let mut registrations: HashMap<u64, i64> = HashMap::new();
    for (user, times) in users.images() {
        *registrations.entry(user.user_id).or_default() += times;
    }
    for (user, times) in registrations {
        if times > 0 {
            rows.entry(user).or_default().registered = true;
        }
    }
    rows.retain(|_, row| *row != PayerRow::default());
    rows
}

pub(super) fn labels(rows: &BTreeMap<u64, PayerRow>, params: &Params) -> Labels {
    gather(rows.iter().map(|(user, row)| {
        let mut labels = BTreeMap::new();
        if row.registered && row.paid_orders == 0 {
            labels.insert("never_paid", None);
        }
        if row.spent >= params.big_spender_min {
            labels.insert("big_spender", None);
        }
        if row.refunded > 0 {
            labels.insert("refunder", None);
        }
        match row.spent {
            1_000_000.. => labels.insert("tier", Some("gold")),
            200_000.. => labels.insert("tier", Some("silver")),
            _ => None,
        };
        (*user, labels)
    }))
}

pub(super) fn first_orders(orders: &Table<message::OrderRow>) -> BTreeMap<u64, i64> {
    let mut first: BTreeMap<u64, i64> = BTreeMap::new();
    for (order, _) in orders.images().filter(|(_, times)| *times > 0) {
        if let (Some(user), Some(ctime)) = (order.user_id, order.ctime) {
            first.entry(user).and_modify(|at| *at = ctime.min(*at)).or_insert(ctime);
        }
    }
    first
}

pub(super) fn senior(first: &BTreeMap<u64, i64>, now: i64) -> Labels {
    const SEVEN_DAYS: i64 = 7 * 86_400 * 1_000_000;
    let reached = first.iter().filter(|(_, at)| **at + SEVEN_DAYS <= now);
    gather(reached.map(|(user, _)| (*user, BTreeMap::from([("senior", None)]))))
}
