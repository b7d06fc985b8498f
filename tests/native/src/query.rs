//! The query's state: four figures a user, and how many paid rows each (user, merchant) has.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::decode::{Change, Order};

/// Multiplies and folds one word; good enough for keys that nobody chooses against us.
#[derive(Default, Clone, Copy)]
pub(crate) struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte) ^ self.0));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(word ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Map<V> = HashMap<u64, V, BuildHasherDefault<Fold>>;

/// The figures of one user.
#[derive(Default, Clone, Copy, PartialEq)]
pub(crate) struct User {
    pub(crate) cents: i64,
    pub(crate) paid: i32,
    pub(crate) refunded: i32,
    pub(crate) merchants: i32,
    pub(crate) registered: i32,
}

/// One shard.
#[derive(Default)]
pub(crate) struct State {
    users: Map<User>,
    paid_rows: Map<i32>,
}

impl State {
    /// Applies a change all of whose images belong to this shard.
    #[inline]
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Order { before: Some(before), after: Some(after) } => {
                if before == after {
                    return;
                }
                let visible_alike = before.user == after.user
                    && before.merchant == after.merchant
                    && before.paid() == after.paid()
                    && before.refunded() == after.refunded();
                if visible_alike {
                    if after.paid() && before.cents != after.cents {
                        self.users.entry(after.user).or_default().cents += after.cents - before.cents;
                    }
                    return;
                }
                self.row(before, -1);
                self.row(after, 1);
            }
            Change::Order { before, after } => {
                before.iter().for_each(|row| self.row(row, -1));
                after.iter().for_each(|row| self.row(row, 1));
            }
            Change::User { before, after } => {
                for (user, sign) in [(before, -1), (after, 1)] {
                    if let Some(user) = user {
                        self.users.entry(*user).or_default().registered += sign;
                    }
                }
            }
        }
    }

    #[inline]
    fn row(&mut self, row: &Order, sign: i32) {
        if row.refunded() {
            self.users.entry(row.user).or_default().refunded += sign;
            return;
        }
        if !row.paid() {
            return;
        }
        let user = self.users.entry(row.user).or_default();
        user.paid += sign;
        user.cents += i64::from(sign) * row.cents;
        match self.paid_rows.entry(row.user << 24 | u64::from(row.merchant & 0xFF_FFFF)) {
            Entry::Vacant(entry) => {
                user.merchants += i32::from(sign > 0);
                entry.insert(sign);
            }
            Entry::Occupied(mut entry) => {
                let before = *entry.get();
                let after = before + sign;
                user.merchants += i32::from(after > 0) - i32::from(before > 0);
                if after == 0 {
                    entry.remove();
                } else {
                    *entry.get_mut() = after;
                }
            }
        }
    }

    /// All users that have anything.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u64, User)> {
        self.users.iter().filter(|(_, row)| **row != User::default()).map(|(user, row)| (*user, *row))
    }
}
