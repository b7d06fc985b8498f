//! Rule `red_packet`, said once more over final rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Params;
use super::label::{Labels, decimal, gather};
use super::message::PacketImage;
use super::table::Table;

/// Aggregates of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketRow {
    /// Hundredths sent in packets that were not returned.
    pub sent: i128,
    /// Hundredths received in packets that were not returned.
    pub received: i128,
    /// Packets sent and not returned.
    pub packets_sent: i64,
    /// Packets received and not returned.
    pub packets_received: i64,
}

impl PacketRow {
    /// The rows as `export aggregates red_packet -o csv` prints them: hundredths as decimals, keys ascending.
    #[must_use]
    pub fn to_csv(rows: &BTreeMap<u64, Self>) -> String {
        let mut csv = String::from("sender_id,sent,received,packets_sent,packets_received\n");
        for (user, row) in rows {
            let (sent, received) = (decimal(row.sent), decimal(row.received));
            // Writing to a String cannot fail.
            let _ = writeln!(csv, "{user},{sent},{received},{},{}", row.packets_sent, row.packets_received);
        }
        csv
    }
}

pub(super) fn aggregates(packets: &Table<PacketImage>) -> BTreeMap<u64, PacketRow> {
    let mut rows: BTreeMap<u64, PacketRow> = BTreeMap::new();
    for (packet, times) in packets.images() {
        let (Some(sender), Some(amount), Some(state)) = (packet.sender_id, packet.amount, &packet.state)
        else {
            continue;
        };
        if state == "RETURNED" {
            continue;
        }
        let row = rows.entry(sender).or_default();
        row.sent += amount * i128::from(times);
        row.packets_sent += times;
        if let Some(receiver) = packet.receiver_id {
            let row = rows.entry(receiver).or_default();
            row.received += amount * i128::from(times);
            row.packets_received += times;
        }
    }
    rows.retain(|_, row| *row != PacketRow::default());
    rows
}

pub(super) fn labels(rows: &BTreeMap<u64, PacketRow>, params: &Params) -> Labels {
    gather(rows.iter().map(|(user, row)| {
        let mut labels = BTreeMap::new();
        if row.sent >= params.generous_min {
            labels.insert("generous", None);
        }
        if row.packets_received > 0 && row.packets_sent == 0 {
            labels.insert("only_takes", None);
        }
        if row.sent != row.received {
            labels.insert("balance", Some(if row.sent > row.received { "giver" } else { "taker" }));
        }
        (*user, labels)
    }))
}
