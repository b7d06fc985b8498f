//! The model: what aggregates and labels must be, found by another road than the host's.
//!
//! It keeps the rows themselves, by table and primary key, and at the end goes over those that are left. No legs, no
//! sums on the way, no code of the host. A row table is a bag: each distinct image with how often it was added less how
//! often it was taken away, so that partitions may be read in any order; a complete log leaves one image per key.

mod label;
mod message;
mod packets;
mod payer;
mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};

pub use label::{Labels, member_counts};
pub use packets::PacketRow;
pub use payer::{MapSide, PayerRow};

use message::{ChangeId, Message, OrderRow, PacketImage, UserRow};
use table::Table;

/// Parameters of the example rules that the model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Spent from which a user is a big spender, in hundredths.
    pub big_spender_min: i128,
    /// Sent from which a user is generous, in hundredths.
    pub generous_min: i128,
}

impl Default for Params {
    fn default() -> Self {
        Self { big_spender_min: 500_000, generous_min: 20_000 }
    }
}

/// All rows of the shop after the messages applied so far.
#[derive(Debug, Default)]
pub struct Model {
    users: Table<UserRow>,
    orders: Table<OrderRow>,
    packets: Table<PacketImage>,
    logs: HashMap<String, u32>,
    seen: HashSet<ChangeId>,
    messages: u64,
    duplicates: u64,
}

impl Model {
    /// A model of the empty shop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one Maxwell message; a change whose identity was seen before changes nothing, and neither do messages
    /// that are no row changes or belong to other tables.
    ///
    /// # Errors
    /// A message that is not Maxwell JSON, or a row of the shop without a column that the rules read.
    pub fn apply(&mut self, message: &[u8]) -> Result<()> {
        let shown = || String::from_utf8_lossy(message.get(..200).unwrap_or(message)).into_owned();
        self.messages += 1;
        let Some(message) = Message::parse(message).with_context(shown)? else { return Ok(()) };
        if let Some(id) = message.id(&mut self.logs)
            && !self.seen.insert(id)
        {
            self.duplicates += 1;
            return Ok(());
        }
        match message.table() {
            "shop.users" => self.users.change(message.images()?),
            "shop.orders" => self.orders.change(message.images()?),
            "shop.red_packets" => self.packets.change(message.images()?),
            _ => {}
        }
        Ok(())
    }

    /// Applies every line of a file.
    ///
    /// # Errors
    /// As [`Model::apply`], and what the file system says; both name the file.
    pub fn apply_file(&mut self, path: &Path) -> Result<()> {
        use std::io::BufRead as _;
        let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut lines = std::io::BufReader::with_capacity(1 << 20, file);
        let (mut line, mut number) = (Vec::new(), 0u64);
        while lines.read_until(b'\n', &mut line)? > 0 {
            number += 1;
            let end = if line.ends_with(b"\n") { line.len() - 1 } else { line.len() };
            let text = line.get(..end).unwrap_or(&line);
            if !text.trim_ascii().is_empty() {
                self.apply(text).with_context(|| format!("{}:{number}", path.display()))?;
            }
            line.clear();
        }
        Ok(())
    }

    /// Messages seen so far.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Messages that were re-sent ones.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Says which row is not there exactly once: after a complete log none is.
    ///
    /// # Errors
    /// Table and primary key of a row that was taken away more often than added, or that has two images.
    pub fn settled(&self) -> Result<()> {
        self.users.settled("shop.users")?;
        self.orders.settled("shop.orders")?;
        self.packets.settled("shop.red_packets")
    }

    /// Aggregates of rule `payer` by user; users without any are not in it.
    #[must_use]
    pub fn payer(&self) -> BTreeMap<u64, PayerRow> {
        self.payer_side(MapSide::States)
    }

    /// Aggregates of rule `payer` with another map side.
    #[must_use]
    pub fn payer_side(&self, side: MapSide) -> BTreeMap<u64, PayerRow> {
        payer::aggregates(&self.users, &self.orders, side)
    }

    /// Labels of rule `payer` by user.
    #[must_use]
    pub fn payer_labels(&self, params: &Params) -> Labels {
        self.payer_side_labels(MapSide::States, params)
    }

    /// Labels of rule `payer` with another map side.
    #[must_use]
    pub fn payer_side_labels(&self, side: MapSide, params: &Params) -> Labels {
        payer::labels(&self.payer_side(side), params)
    }

    /// Aggregates of rule `red_packet` by user; users without any are not in it.
    #[must_use]
    pub fn red_packet(&self) -> BTreeMap<u64, PacketRow> {
        packets::aggregates(&self.packets)
    }

    /// Labels of rule `red_packet` by user.
    #[must_use]
    pub fn red_packet_labels(&self, params: &Params) -> Labels {
        packets::labels(&self.red_packet(), params)
    }

    /// First order's ctime by user, in µs since 1970: the aggregate of rule `senior`.
    #[must_use]
    pub fn first_order(&self) -> BTreeMap<u64, i64> {
        payer::first_orders(&self.orders)
    }

    /// Labels of rule `senior` at engine time `now` (µs): 7 days after the first order.
    #[must_use]
    pub fn senior_labels(&self, now: i64) -> Labels {
        payer::senior(&self.first_order(), now)
    }
}

#[cfg(test)]
mod tests;
