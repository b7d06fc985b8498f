//! `shop.red_packets`: a gift of money from one user to another, or to whoever opens it.

use super::maxwell::TableRow;
use super::random::Random;
use super::text::{cents, datetime, number, padded, put};

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) id: u64,
    pub(super) sender: u64,
    /// `None` is NULL: nobody has opened it yet.
    pub(super) receiver: Option<u64>,
    pub(super) cents: u64,
    /// 0 SENT, 1 OPENED, 2 RETURNED.
    pub(super) state: u8,
    /// Milliseconds since 1970.
    pub(super) sent_at: u64,
    /// Milliseconds since 1970; `None` is NULL.
    pub(super) opened_at: Option<u64>,
    /// Microseconds since 1970.
    pub(super) mtime: u64,
}

const STATES: [&str; 3] = ["SENT", "OPENED", "RETURNED"];

impl Packet {
    /// `sender` sends one at `now` (seconds), one time in four to a named receiver.
    pub(super) fn new(id: u64, sender: u64, receiver: u64, now: u64, random: &mut Random) -> Self {
        let millis = now * 1_000 + random.below(1_000);
        Self {
            id,
            sender,
            receiver: random.percent(25).then_some(receiver),
            cents: 1 + random.below(20_000),
            state: 0,
            sent_at: millis,
            opened_at: None,
            mtime: millis * 1_000 + random.below(1_000),
        }
    }

    /// True when nothing happens to it any more (but a delete).
    pub(super) fn is_final(&self) -> bool {
        self.state != 0
    }

    /// It is opened by `opener`, returned, or its amount is corrected.
    pub(super) fn advance(&mut self, opener: u64, now: u64, random: &mut Random) {
        let millis = now * 1_000 + random.below(1_000);
        match random.below(10) {
            0..=6 => {
                self.state = 1;
                self.receiver = Some(self.receiver.unwrap_or(opener));
                self.opened_at = Some(millis);
            }
            7 => {
                self.state = 2;
                self.receiver = None;
            }
            8 => self.receiver = if self.receiver.is_some() { None } else { Some(opener) },
            _ => self.cents += 1 + random.below(500),
        }
        self.mtime = millis * 1_000 + random.below(1_000);
    }
}

fn millis(out: &mut Vec<u8>, millis: u64) {
    out.push(b'"');
    datetime(out, millis / 1_000);
    out.push(b'.');
    padded(out, millis % 1_000, 3);
    out.push(b'"');
}

impl TableRow for Packet {
    const TABLE: &'static str = "red_packets";
    const COLUMNS: &'static [&'static str] =
        &["packet_id", "sender_id", "receiver_id", "amount", "state", "sent_at", "opened_at", "mtime"];

    fn primary_key(&self) -> u64 {
        self.id
    }

    fn value(&self, column: usize, out: &mut Vec<u8>) {
        match column {
            0 => number(out, self.id),
            1 => number(out, self.sender),
            2 => match self.receiver {
                Some(receiver) => number(out, receiver),
                None => put(out, "null"),
            },
            3 => cents(out, self.cents),
            4 => {
                out.push(b'"');
                put(out, STATES[self.state as usize % 3]);
                out.push(b'"');
            }
            5 => millis(out, self.sent_at),
            6 => match self.opened_at {
                Some(at) => millis(out, at),
                None => put(out, "null"),
            },
            _ => {
                out.push(b'"');
                datetime(out, self.mtime / 1_000_000);
                out.push(b'.');
                padded(out, self.mtime % 1_000_000, 6);
                out.push(b'"');
            }
        }
    }

    fn same(&self, other: &Self, column: usize) -> bool {
        match column {
            0 => self.id == other.id,
            1 => self.sender == other.sender,
            2 => self.receiver == other.receiver,
            3 => self.cents == other.cents,
            4 => self.state == other.state,
            5 => self.sent_at == other.sent_at,
            6 => self.opened_at == other.opened_at,
            _ => self.mtime == other.mtime,
        }
    }
}
