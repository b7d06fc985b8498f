//! `shop.orders`: one order and its life (0 CREATED → 1 PAID → 2 SHIPPED → 3 DONE; 4 CANCELLED; 5 REFUNDING → 6 REFUNDED).

use super::maxwell::TableRow;
use super::random::{Random, mix};
use super::text::{CITIES, ROADS, WORDS, cents, datetime, number, put};

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) user: u64,
    pub(super) merchant: u32,
    pub(super) state: u8,
    pub(super) cents: u64,
    pub(super) coupon: Option<u32>,
    pub(super) quantity: u32,
    /// Counts edits of the remark; its text follows from it and `seed`.
    pub(super) remark: u32,
    /// Counts edits of the address.
    pub(super) address: u32,
    pub(super) ctime: u64,
    pub(super) mtime: u64,
    pub(super) version: u32,
    /// What all columns that never change follow from.
    pub(super) seed: u64,
}

const CURRENCIES: [&str; 4] = ["CNY", "CNY", "USD", "EUR"];
const CHANNELS: [&str; 5] = ["app", "h5", "miniprogram", "pc", "pos"];
const REGIONS: [&str; 8] = ["cn-east", "cn-north", "cn-south", "cn-west", "hk", "sg", "eu-west", "us-east"];
const PRODUCTS: [&str; 6] = ["food", "digital", "apparel", "travel", "home", "beauty"];
const DEVICES: [&str; 5] = ["iPhone15,2", "Pixel-8", "MI-14-Pro", "web-chrome-131", "HUAWEI-P70"];

impl Order {
    /// A new order of `user`, made at `now` (seconds).
    pub(super) fn new(id: u64, user: u64, now: u64, random: &mut Random) -> Self {
        let seed = random.bits();
        Self {
            id,
            user,
            merchant: 1_000 + random.skewed(5_000) as u32,
            state: 0,
            cents: (100.0 * (random.fraction() * 8.5).exp()) as u64 + random.below(100),
            coupon: (seed % 10 >= 7).then(|| 700_000 + (seed % 99_991) as u32),
            quantity: 1 + (seed % 5) as u32,
            remark: 0,
            address: 0,
            ctime: now,
            mtime: now,
            version: 1,
            seed,
        }
    }

    /// True when nothing happens to it any more (but a delete).
    pub(super) fn is_final(&self) -> bool {
        matches!(self.state, 3 | 4 | 6)
    }

    /// Moves it one step along its life.
    pub(super) fn advance(&mut self, random: &mut Random) {
        let y = random.below(100);
        self.state = match self.state {
            0 if y < 85 => 1,
            0 => 4,
            1 if y < 90 => 2,
            2 if y < 92 => 3,
            1 | 2 => 5,
            5 if y < 72 => 6,
            5 => 1,
            other => other,
        };
    }

    fn remark(&self, out: &mut Vec<u8>) {
        let mut hash = mix(self.seed ^ u64::from(self.remark) << 40);
        let start = out.len();
        while out.len() - start < 32 {
            put(out, WORDS[(hash % 16) as usize]);
            out.push(b' ');
            hash = mix(hash);
        }
        number(out, hash % 1_000);
    }

    fn address(&self, out: &mut Vec<u8>) {
        let hash = mix(self.seed ^ u64::from(self.address) << 32 ^ 77);
        put(out, CITIES[hash as usize % 8]);
        out.push(b' ');
        put(out, ROADS[(hash >> 8) as usize % 6]);
        put(out, " No.");
        number(out, (hash >> 16) % 1_999 + 1);
        put(out, ", Building ");
        number(out, (hash >> 32) % 40 + 1);
        put(out, ", Room ");
        number(out, (hash >> 40) % 3_000 + 100);
    }

    fn ip(&self, out: &mut Vec<u8>) {
        number(out, (self.seed >> 5) % 223 + 1);
        for shift in [13, 21, 29] {
            out.push(b'.');
            number(out, (self.seed >> shift) % 256);
        }
    }
}

fn pick<'a>(list: &[&'a str], seed: u64, shift: u32) -> &'a str {
    list[(seed >> shift) as usize % list.len()]
}

impl TableRow for Order {
    const TABLE: &'static str = "orders";
    const COLUMNS: &'static [&'static str] = &[
        "order_id",
        "user_id",
        "merchant_id",
        "state",
        "amount",
        "currency",
        "coupon_id",
        "channel",
        "region",
        "product_type",
        "quantity",
        "remark",
        "address",
        "ip",
        "device",
        "ctime",
        "mtime",
        "version",
    ];

    fn primary_key(&self) -> u64 {
        self.id
    }

    fn value(&self, column: usize, out: &mut Vec<u8>) {
        let quoted = !matches!(column, 0..=4 | 6 | 10 | 17);
        if quoted {
            out.push(b'"');
        }
        match column {
            0 => number(out, self.id),
            1 => number(out, self.user),
            2 => number(out, u64::from(self.merchant)),
            3 => number(out, u64::from(self.state)),
            4 => cents(out, self.cents),
            5 => put(out, pick(&CURRENCIES, self.seed, 8)),
            6 => match self.coupon {
                Some(coupon) => number(out, u64::from(coupon)),
                None => put(out, "null"),
            },
            7 => put(out, pick(&CHANNELS, self.seed, 12)),
            8 => put(out, pick(&REGIONS, self.seed, 16)),
            9 => put(out, pick(&PRODUCTS, self.seed, 20)),
            10 => number(out, u64::from(self.quantity)),
            11 => self.remark(out),
            12 => self.address(out),
            13 => self.ip(out),
            14 => put(out, pick(&DEVICES, self.seed, 24)),
            15 => datetime(out, self.ctime),
            16 => datetime(out, self.mtime),
            _ => number(out, u64::from(self.version)),
        }
        if quoted {
            out.push(b'"');
        }
    }

    fn same(&self, other: &Self, column: usize) -> bool {
        match column {
            0 => self.id == other.id,
            1 => self.user == other.user,
            2 => self.merchant == other.merchant,
            3 => self.state == other.state,
            4 => self.cents == other.cents,
            6 => self.coupon == other.coupon,
            10 => self.quantity == other.quantity,
            11 => self.remark == other.remark,
            12 => self.address == other.address,
            15 => self.ctime == other.ctime,
            16 => self.mtime == other.mtime,
            17 => self.version == other.version,
            _ => true,
        }
    }
}
