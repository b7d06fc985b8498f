//! The shop's life: transactions of statements of row events, each printed once, some tails printed again.
//!
//! Invariant: every before image is the row as the last event left it, so a replay of the first sending of each
//! message ends in the shop's tables.

use std::collections::VecDeque;

use super::maxwell::{FIRST_XID, Images, Place, TableRow, write_message};
use super::order::Order;
use super::packet::Packet;
use super::random::Random;
use super::user::User;
use super::{Config, Message};

/// Messages kept for re-sends.
const TAIL_LIMIT: usize = 128;
/// Longest re-sent tail.
const RESEND_LIMIT: u64 = 100;
/// 2026-03-01 00:00:00.
const FIRST_SECOND: u64 = 1_772_323_200;
const EVENTS_PER_SECOND: u64 = 500;
/// Rows that must live before a statement changes or deletes some; above [`ROWS_LIMIT`], so that it finds all its rows.
const LIVE_FLOOR: usize = 6;
/// Most rows of one statement.
const ROWS_LIMIT: u64 = 5;
/// Open orders at the start; one more for every ten messages.
const OPEN_ORDERS: u64 = 20;

/// What a statement does; all its rows do the same.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Statement {
    Register,
    EditUser,
    DeleteUser,
    Buy,
    ChangeOrder,
    DeleteOrder,
    Send,
    ChangePacket,
    DeletePacket,
}

/// Makes the messages of one stream, in the order in which the binlog has them.
#[derive(Debug)]
pub struct Generator {
    config: Config,
    random: Random,
    emitted: u64,
    place: Place,
    statements_left: u64,
    rows_left: u64,
    statement: Statement,
    users: Vec<User>,
    gone_users: Vec<u64>,
    new_users: u64,
    open_orders: Vec<Order>,
    final_orders: VecDeque<Order>,
    next_order: u64,
    open_packets: Vec<Packet>,
    final_packets: VecDeque<Packet>,
    next_packet: u64,
    tail: VecDeque<(u32, Vec<u8>)>,
    resends: VecDeque<(u32, Vec<u8>)>,
}

impl Generator {
    /// A generator at the start of the stream.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let place = Place {
            ts: FIRST_SECOND,
            xid: FIRST_XID - 1,
            xoffset: 0,
            commit: false,
            file: 12,
            position: 4,
            ids: config.ids,
            gtid: config.gtid,
        };
        Self {
            random: Random(config.seed),
            config: Config { partitions: config.partitions.max(1), users: config.users.max(2), ..config },
            emitted: 0,
            place,
            statements_left: 0,
            rows_left: 0,
            statement: Statement::Buy,
            users: Vec::new(),
            gone_users: Vec::new(),
            new_users: 0,
            open_orders: Vec::new(),
            final_orders: VecDeque::new(),
            next_order: 100_000_001,
            open_packets: Vec::new(),
            final_packets: VecDeque::new(),
            next_packet: 1,
            tail: VecDeque::new(),
            resends: VecDeque::new(),
        }
    }

    /// Writes the next message into `out` (emptied first) and returns its partition; `None` at the end.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> Option<u32> {
        if self.emitted == self.config.events {
            return None;
        }
        self.emitted += 1;
        if let Some((partition, json)) = self.resends.pop_front() {
            out.clear();
            out.extend_from_slice(&json);
            return Some(partition);
        }
        let key = self.row_event(out);
        let partition = (key % u64::from(self.config.partitions)) as u32;
        if self.config.resend_percent > 0 {
            self.remember(partition, out);
        }
        Some(partition)
    }

    /// Keeps the message; at the end of a transaction it may send the last ones again.
    fn remember(&mut self, partition: u32, json: &[u8]) {
        let mut kept = if self.tail.len() == TAIL_LIMIT { self.tail.pop_front() } else { None };
        let entry = kept.get_or_insert_with(|| (0, Vec::with_capacity(json.len())));
        entry.0 = partition;
        entry.1.clear();
        entry.1.extend_from_slice(json);
        self.tail.extend(kept);
        // A tail is RESEND_LIMIT / 4 messages long, a transaction 1.5, both on average.
        let percent = u64::from(self.config.resend_percent);
        if !self.place.commit || self.random.below(RESEND_LIMIT * 100 / 6) >= percent {
            return;
        }
        let longest = 1 + self.random.below(RESEND_LIMIT);
        let length = 1 + self.random.below(longest);
        let shift =
            if self.random.percent(50) { 0 } else { self.random.below(u64::from(self.config.partitions)) };
        let skip = self.tail.len().saturating_sub(length as usize);
        for (partition, json) in self.tail.iter().skip(skip) {
            let target = (u64::from(*partition) + shift) % u64::from(self.config.partitions);
            self.resends.push_back((target as u32, json.clone()));
        }
    }

    /// Performs the next row event, prints it and returns the primary key of its newest image.
    fn row_event(&mut self, out: &mut Vec<u8>) -> u64 {
        if self.rows_left == 0 {
            self.begin_statement();
        }
        self.rows_left -= 1;
        self.place.ts = FIRST_SECOND + self.emitted / EVENTS_PER_SECOND;
        let last = self.emitted == self.config.events;
        self.place.commit = last || self.rows_left == 0 && self.statements_left == 0;
        let key = match self.statement {
            Statement::Register => self.register(out),
            Statement::EditUser => self.edit_user(out),
            Statement::DeleteUser => self.delete_user(out),
            Statement::Buy => self.buy(out),
            Statement::ChangeOrder => self.change_order(out),
            Statement::DeleteOrder => self.delete_order(out),
            Statement::Send => self.send(out),
            Statement::ChangePacket => self.change_packet(out),
            Statement::DeletePacket => self.delete_packet(out),
        };
        self.place.xoffset += 1;
        key
    }

    fn begin_statement(&mut self) {
        if self.statements_left == 0 {
            self.place.xid += 1;
            self.place.xoffset = 0;
            self.statements_left = if self.random.percent(10) { 2 + self.random.below(2) } else { 1 };
        }
        self.statements_left -= 1;
        self.place.position += 1_000 + self.random.below(4_000);
        if self.place.position > 1 << 26 {
            self.place.position = 4;
            self.place.file += 1;
        }
        self.rows_left = if self.random.percent(12) { 2 + self.random.below(ROWS_LIMIT - 1) } else { 1 };
        let to_register = self.config.register_first.min(self.config.users).saturating_sub(self.new_users);
        if to_register > 0 {
            self.rows_left = self.rows_left.min(to_register);
            self.statement = Statement::Register;
            return;
        }
        let draw = self.random.below(100);
        let users = u64::from(self.config.users_percent);
        self.statement = if draw < users {
            self.choose_for_users()
        } else if draw < users + u64::from(self.config.packets_percent) {
            self.choose_for_packets()
        } else {
            self.choose_for_orders()
        };
    }

    fn choose_for_users(&mut self) -> Statement {
        let draw = self.random.below(100);
        // A row of each statement must exist for all its rows.
        let enough = self.users.len() > LIVE_FLOOR;
        let may_register = self.new_users + self.rows_left <= self.config.users
            || self.gone_users.len() as u64 >= self.rows_left;
        match draw {
            0..8 if enough => Statement::DeleteUser,
            8..35 if enough => Statement::EditUser,
            _ if may_register => Statement::Register,
            _ if enough => Statement::EditUser,
            _ => Statement::Buy,
        }
    }

    fn choose_for_orders(&mut self) -> Statement {
        let target = OPEN_ORDERS + self.emitted / 10;
        if self.random.below(1_000) < 50 && self.final_orders.len() > LIVE_FLOOR {
            Statement::DeleteOrder
        } else if self.open_orders.len() > LIVE_FLOOR
            && (self.open_orders.len() as u64 >= target || self.random.percent(45))
        {
            Statement::ChangeOrder
        } else {
            Statement::Buy
        }
    }

    fn choose_for_packets(&mut self) -> Statement {
        let draw = self.random.below(100);
        match draw {
            0..6 if self.final_packets.len() > LIVE_FLOOR => Statement::DeletePacket,
            6..55 if self.open_packets.len() > LIVE_FLOOR => Statement::ChangePacket,
            _ => Statement::Send,
        }
    }

    fn user_id(&self, rank: u64) -> u64 {
        if self.config.huge_ids && rank % 1_000 == 999 { u64::MAX - rank } else { 10_000 + rank }
    }

    /// A buyer or sender: some users far more often than others.
    fn some_user(&mut self) -> u64 {
        let hot = u64::from(self.config.hot_percent);
        if hot > 0 && self.random.percent(hot) {
            return self.user_id(0);
        }
        let rank = self.random.skewed(self.config.users);
        // Multiplying by an odd number scatters the busy users over the key space; the modulus keeps them inside.
        self.user_id((u128::from(rank) * 2_654_435_761 % u128::from(self.config.users)) as u64)
    }

    fn register(&mut self, out: &mut Vec<u8>) -> u64 {
        let returning =
            !self.gone_users.is_empty() && (self.new_users == self.config.users || self.random.percent(50));
        let id = if returning {
            let at = self.random.below(self.gone_users.len() as u64) as usize;
            self.gone_users.swap_remove(at)
        } else {
            // Below `config.users`, or every user lives: then the id of one more.
            self.new_users += 1;
            self.user_id(self.new_users - 1)
        };
        let user = User::new(id, self.place.ts, &mut self.random);
        print(out, &self.place, None, Some(&user));
        self.users.push(user);
        id
    }

    fn edit_user(&mut self, out: &mut Vec<u8>) -> u64 {
        let at = self.random.below(self.users.len() as u64) as usize;
        let before = self.users[at].clone();
        self.users[at].edit(self.place.ts, &mut self.random);
        print(out, &self.place, Some(&before), Some(&self.users[at]));
        before.id
    }

    fn delete_user(&mut self, out: &mut Vec<u8>) -> u64 {
        let at = self.random.below(self.users.len() as u64) as usize;
        let user = self.users.swap_remove(at);
        print(out, &self.place, Some(&user), None);
        self.gone_users.push(user.id);
        user.id
    }

    fn buy(&mut self, out: &mut Vec<u8>) -> u64 {
        let user = self.some_user();
        let mut order = Order::new(self.take_order_id(), user, self.place.ts, &mut self.random);
        if self.config.hot_percent > 0 && user == self.user_id(0) {
            order.merchant = (order.id % 1_000_000) as u32;
        }
        print(out, &self.place, None, Some(&order));
        let id = order.id;
        self.open_orders.push(order);
        id
    }

    fn take_order_id(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order - 1
    }

    fn change_order(&mut self, out: &mut Vec<u8>) -> u64 {
        let at = self.random.below(self.open_orders.len() as u64) as usize;
        let before = self.open_orders[at].clone();
        let draw = self.random.below(100);
        let moved = if draw < 2 { Some(self.some_user()) } else { None };
        let renumbered = if draw == 2 { Some(self.take_order_id()) } else { None };
        let order = &mut self.open_orders[at];
        match draw {
            0..2 => order.user = moved.unwrap_or(order.user),
            2 => order.id = renumbered.unwrap_or(order.id),
            3 => order.merchant = 1_000 + self.random.skewed(5_000) as u32,
            4..8 => order.remark += 1,
            8..11 => order.address += 1,
            11..13 => order.coupon = if order.coupon.is_some() { None } else { Some(700_001) },
            13..16 => {
                order.cents = order.cents * (90 + self.random.below(8)) / 100 + 1;
                order.quantity += 1;
            }
            _ => order.advance(&mut self.random),
        }
        order.mtime = self.place.ts;
        order.version += 1;
        print(out, &self.place, Some(&before), Some(&*order));
        let id = order.id;
        if order.is_final() {
            let done = self.open_orders.swap_remove(at);
            self.final_orders.push_back(done);
        }
        id
    }

    fn delete_order(&mut self, out: &mut Vec<u8>) -> u64 {
        let order = self.final_orders.pop_front();
        print(out, &self.place, order.as_ref(), None);
        order.map_or(0, |order| order.id)
    }

    fn send(&mut self, out: &mut Vec<u8>) -> u64 {
        let (sender, receiver) = (self.some_user(), self.some_user());
        let packet = Packet::new(self.next_packet, sender, receiver, self.place.ts, &mut self.random);
        self.next_packet += 1;
        print(out, &self.place, None, Some(&packet));
        let id = packet.id;
        self.open_packets.push(packet);
        id
    }

    fn change_packet(&mut self, out: &mut Vec<u8>) -> u64 {
        let opener = self.some_user();
        let at = self.random.below(self.open_packets.len() as u64) as usize;
        let before = self.open_packets[at].clone();
        let packet = &mut self.open_packets[at];
        packet.advance(opener, self.place.ts, &mut self.random);
        print(out, &self.place, Some(&before), Some(&*packet));
        if packet.is_final() {
            let done = self.open_packets.swap_remove(at);
            self.final_packets.push_back(done);
        }
        before.id
    }

    fn delete_packet(&mut self, out: &mut Vec<u8>) -> u64 {
        let packet = self.final_packets.pop_front();
        print(out, &self.place, packet.as_ref(), None);
        packet.map_or(0, |packet| packet.id)
    }
}

fn print<T: TableRow>(out: &mut Vec<u8>, place: &Place, before: Option<&T>, after: Option<&T>) {
    write_message(out, place, &Images { before, after });
}

impl Iterator for Generator {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let mut json = Vec::with_capacity(768);
        let partition = self.next_into(&mut json)?;
        Some(Message { partition, json })
    }
}
