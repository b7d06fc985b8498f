//! Who gives and who takes: red packets sent and received, both from one row.
//!
//! Reads `shop.red_packets`, whose key is the sender; what the receiver gets goes to a second, computed key. A packet
//! that came back (RETURNED) counts for nobody, one that nobody opened yet has no receiver.
#![cfg_attr(target_family = "wasm", no_std)]

use retag_sdk::prelude::*;

type Money = Decimal<2>;

/// A packet, in the state it is in.
#[derive(Row)]
#[row(table = "shop.red_packets", key = sender_id)]
struct Packet<'a> {
    sender_id: u64,
    receiver_id: Option<u64>,
    amount: Money,
    state: &'a str,
}

/// What is kept per user, as a sender and as a receiver.
#[derive(Aggregates)]
struct RedPacket {
    sent: Sum<Money>,
    received: Sum<Money>,
    packets_sent: Count,
    packets_received: Count,
}

#[derive(Params)]
struct Params {
    /// Sent from which a user is generous.
    #[param(default = "200.00")]
    generous_min: Money,
}

#[derive(LabelValue, Clone, Copy, PartialEq, Debug)]
enum Balance {
    Giver,
    Taker,
}

#[derive(Labels, PartialEq, Debug)]
struct Tags {
    /// Sent at least `generous_min`.
    generous: bool,
    /// Received packets and never sent one.
    only_takes: bool,
    /// Sent more than received, or the other way round.
    balance: Option<Balance>,
}

#[rule(name = "red_packet", entity = "user", description = "Who gives red packets and who takes them")]
impl RedPacket {
    fn map_packet(packet: &Packet, add: &mut Add<RedPacket>) {
        if packet.state == "RETURNED" {
            return;
        }
        add.sent.add(packet.amount);
        add.packets_sent.one();
        if let Some(receiver) = packet.receiver_id {
            let receiver = add.at(receiver);
            receiver.received.add(packet.amount);
            receiver.packets_received.one();
        }
    }

    fn label(sums: &Sums<RedPacket>, params: &Params) -> Tags {
        Tags {
            generous: sums.sent >= params.generous_min,
            only_takes: sums.packets_received > 0 && sums.packets_sent == 0,
            balance: match sums.sent.cmp(&sums.received) {
                core::cmp::Ordering::Greater => Some(Balance::Giver),
                core::cmp::Ordering::Less => Some(Balance::Taker),
                core::cmp::Ordering::Equal => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retag_sdk::testing::{Harness, run_scenarios};

    fn packet(receiver_id: Option<u64>, amount: &str, state: &'static str) -> Packet<'static> {
        Packet { sender_id: 1, receiver_id, amount: Decimal::lit(amount), state }
    }

    #[test]
    fn one_row_feeds_both_users() {
        let mut shop = Harness::<RedPacket>::new();
        shop.insert(&packet(Some(2), "8.88", "OPENED"));
        assert_eq!(shop.labels(1).balance, Some(Balance::Giver));
        assert_eq!(shop.labels(2), Tags { generous: false, only_takes: true, balance: Some(Balance::Taker) });
    }

    #[test]
    fn a_returned_packet_is_nobodys() {
        let mut shop = Harness::<RedPacket>::new();
        shop.insert(&packet(None, "250.00", "SENT"));
        assert!(shop.labels(1).generous);
        shop.update(&packet(None, "250.00", "SENT"), &packet(None, "250.00", "RETURNED"));
        assert!(!shop.exists(1));
    }

    #[test]
    fn scenarios() {
        run_scenarios::<RedPacket>("scenarios");
    }
}
