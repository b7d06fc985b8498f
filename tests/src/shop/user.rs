//! `shop.users`: one registered user.

use super::maxwell::TableRow;
use super::random::{Random, mix};
use super::text::{datetime, number, padded, put};

/// One row.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: u64,
    /// `None` is NULL.
    pub(super) phone: Option<u64>,
    pub(super) country: u8,
    pub(super) level: u32,
    pub(super) blocked: bool,
    pub(super) ctime: u64,
    pub(super) mtime: u64,
}

const COUNTRIES: [&str; 6] = ["CN", "SG", "DE", "US", "TH", "FR"];

impl User {
    /// User `id` registers at `now` (seconds).
    pub(super) fn new(id: u64, now: u64, random: &mut Random) -> Self {
        let seed = mix(id ^ now);
        let phone = random.percent(80).then_some(seed % 10_000_000_000);
        Self { id, phone, country: (seed >> 40) as u8 % 6, level: 0, blocked: false, ctime: now, mtime: now }
    }

    /// Changes one of the columns that say nothing about payments.
    pub(super) fn edit(&mut self, now: u64, random: &mut Random) {
        match random.below(4) {
            0 => self.level += 1,
            1 => self.blocked = !self.blocked,
            2 => self.phone = if self.phone.is_some() { None } else { Some(random.below(10_000_000_000)) },
            _ => self.country = (self.country + 1) % 6,
        }
        self.mtime = now;
    }
}

impl TableRow for User {
    const TABLE: &'static str = "users";
    const COLUMNS: &'static [&'static str] =
        &["user_id", "phone", "country", "level", "blocked", "ctime", "mtime"];

    fn primary_key(&self) -> u64 {
        self.id
    }

    fn value(&self, column: usize, out: &mut Vec<u8>) {
        match column {
            0 => number(out, self.id),
            1 => match self.phone {
                Some(phone) => {
                    put(out, "\"+86 ");
                    padded(out, phone, 11);
                    out.push(b'"');
                }
                None => put(out, "null"),
            },
            3 => number(out, u64::from(self.level)),
            4 => number(out, u64::from(self.blocked)),
            _ => {
                out.push(b'"');
                match column {
                    2 => put(out, COUNTRIES[self.country as usize % 6]),
                    5 => datetime(out, self.ctime),
                    _ => datetime(out, self.mtime),
                }
                out.push(b'"');
            }
        }
    }

    fn same(&self, other: &Self, column: usize) -> bool {
        match column {
            0 => self.id == other.id,
            1 => self.phone == other.phone,
            2 => self.country == other.country,
            3 => self.level == other.level,
            4 => self.blocked == other.blocked,
            5 => self.ctime == other.ctime,
            _ => self.mtime == other.mtime,
        }
    }
}
