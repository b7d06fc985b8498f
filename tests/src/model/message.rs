//! Maxwell JSON → both images of a row, on serde_json alone. Numbers are read from their raw text, never as floats.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::table::Row;

/// Identity of a change: number of its log, place in it, row (`u32::MAX` = the commit row).
pub(super) type ChangeId = (u32, u64, u32);

/// Both images of a changed row.
#[derive(Debug)]
pub(super) struct Images<R> {
    pub(super) before: Option<R>,
    pub(super) after: Option<R>,
}

/// The fields of a message that matter here.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    database: Cow<'a, str>,
    #[serde(borrow, default)]
    table: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    xoffset: Option<u32>,
    #[serde(default)]
    commit: Option<bool>,
    #[serde(borrow, default)]
    position: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    gtid: Option<Cow<'a, str>>,
    #[serde(default)]
    server_id: Option<u64>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old: Option<&'a RawValue>,
}

/// A row change of any table.
pub(super) struct Message<'a> {
    fields: Fields<'a>,
    table: String,
}

impl<'a> Message<'a> {
    /// Parses a message; `None` where it is no row change (bootstrap, DDL).
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Option<Self>> {
        let fields: Fields<'a> = serde_json::from_slice(bytes).context("not a Maxwell message")?;
        if !matches!(&*fields.kind, "insert" | "update" | "delete") {
            return Ok(None);
        }
        let table = format!("{}.{}", fields.database, fields.table);
        Ok(Some(Self { fields, table }))
    }

    /// `database.table`.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// The change's identity: (gtid, or server and binlog position) and (xoffset, or commit). `logs` numbers the logs.
    pub(super) fn id(&self, logs: &mut HashMap<String, u32>) -> Option<ChangeId> {
        let row = match (self.fields.xoffset, self.fields.commit) {
            (_, Some(true)) => u32::MAX,
            (Some(xoffset), _) => xoffset,
            _ => return None,
        };
        let (log, at) = match (&self.fields.gtid, self.fields.server_id, &self.fields.position) {
            (Some(gtid), ..) => {
                let (source, at) = gtid.rsplit_once(':')?;
                (format!("gtid {source}"), at)
            }
            (None, Some(server), Some(position)) => {
                let (file, at) = position.rsplit_once(':')?;
                (format!("{server} {file}"), at)
            }
            _ => return None,
        };
        let next = logs.len() as u32;
        Some((*logs.entry(log).or_insert(next), at.parse().ok()?, row))
    }

    /// Both images as rows of type `R`.
    pub(super) fn images<R: Row + HasColumns>(&self) -> Result<Images<R>> {
        let data: R::Columns = columns(self.fields.data.context("a row change without `data`")?)?;
        Ok(match &*self.fields.kind {
            "insert" => Images { before: None, after: Some(data.row()?) },
            "delete" => Images { before: Some(data.row()?), after: None },
            _ => {
                let after = data.row()?;
                let old: R::Columns = columns(self.fields.old.context("an update without `old`")?)?;
                Images { before: Some(data.overlaid(old).row()?), after: Some(after) }
            }
        })
    }
}

fn columns<C: DeserializeOwned>(raw: &RawValue) -> Result<C> {
    serde_json::from_str(raw.get()).context("`data` or `old` is not an object of columns")
}

/// The columns of a table as an object of a message carries them: `None` = not there, JSON null stays a value.
pub(super) trait Columns: DeserializeOwned {
    /// What they make.
    type Row;
    /// These columns, but with those that `old` carries.
    fn overlaid(self, old: Self) -> Self;
    /// The row; a column that is not there is an error.
    fn row(&self) -> Result<Self::Row>;
}

/// Says which columns make a row.
pub(super) trait HasColumns {
    type Columns: Columns<Row = Self>;
}

type Raw = Option<Box<RawValue>>;

fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
    Ok(Some(Box::deserialize(deserializer)?))
}

/// Declares the columns of one table, so that absent and null stay apart for each.
macro_rules! columns {
    ($name:ident: $row:ty { $($column:ident),* }) => {
        #[derive(Deserialize)]
        pub(super) struct $name { $(#[serde(default, deserialize_with = "raw")] $column: Raw),* }
        impl $name {
            fn overlay(self, old: Self) -> Self { Self { $($column: old.$column.or(self.$column)),* } }
        }
        impl HasColumns for $row { type Columns = $name; }
    };
}
columns!(UserColumns: UserRow { user_id });
columns!(OrderColumns: OrderRow { order_id, user_id, merchant_id, state, amount, quantity, ctime });
columns!(PacketColumns: PacketImage { packet_id, sender_id, receiver_id, amount, state });

/// What the rules see of `shop.users`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserRow {
    pub(super) user_id: u64,
}

/// What the rules see of `shop.orders`; `None` = NULL, not there, or not of the column's type. A rule that reads such a
/// column does not see the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OrderRow {
    pub(super) order_id: u64,
    pub(super) user_id: Option<u64>,
    pub(super) merchant_id: Option<i64>,
    pub(super) state: Option<i64>,
    /// Hundredths.
    pub(super) amount: Option<i128>,
    pub(super) quantity: Option<i64>,
    /// µs since 1970; a zero date is `None` too.
    pub(super) ctime: Option<i64>,
}

/// What the rules see of `shop.red_packets`; `None` as in [`OrderRow`], but a receiver may be NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PacketImage {
    pub(super) packet_id: u64,
    pub(super) sender_id: Option<u64>,
    pub(super) receiver_id: Option<u64>,
    /// Hundredths.
    pub(super) amount: Option<i128>,
    pub(super) state: Option<String>,
}

impl Row for UserRow {
    fn primary_key(&self) -> u64 {
        self.user_id
    }
}
impl Row for OrderRow {
    fn primary_key(&self) -> u64 {
        self.order_id
    }
}
impl Row for PacketImage {
    fn primary_key(&self) -> u64 {
        self.packet_id
    }
}

impl Columns for UserColumns {
    type Row = UserRow;
    fn overlaid(self, old: Self) -> Self {
        self.overlay(old)
    }
    fn row(&self) -> Result<UserRow> {
        Ok(UserRow { user_id: integer(&self.user_id).context("user_id is no id")? })
    }
}

impl Columns for OrderColumns {
    type Row = OrderRow;
    fn overlaid(self, old: Self) -> Self {
        self.overlay(old)
    }
    fn row(&self) -> Result<OrderRow> {
        Ok(OrderRow {
            order_id: integer(&self.order_id).context("order_id is no id")?,
            user_id: integer(&self.user_id),
            merchant_id: integer(&self.merchant_id),
            state: integer(&self.state),
            amount: text(&self.amount).and_then(|text| cents(&text).ok()),
            quantity: integer(&self.quantity),
            ctime: text(&self.ctime).and_then(|text| micros(&text).ok().flatten()),
        })
    }
}

impl Columns for PacketColumns {
    type Row = PacketImage;
    fn overlaid(self, old: Self) -> Self {
        self.overlay(old)
    }
    fn row(&self) -> Result<PacketImage> {
        Ok(PacketImage {
            packet_id: integer(&self.packet_id).context("packet_id is no id")?,
            sender_id: integer(&self.sender_id),
            receiver_id: integer(&self.receiver_id),
            amount: text(&self.amount).and_then(|text| cents(&text).ok()),
            state: text(&self.state),
        })
    }
}

/// The value's text: a JSON string without its quotes and escapes, anything else as it stands. `None` for NULL, a column
/// that is not there, and a string that is none.
fn text(raw: &Raw) -> Option<String> {
    let raw = raw.as_ref()?.get();
    match raw.strip_prefix('"') {
        None => (raw != "null").then(|| raw.to_owned()),
        Some(plain) if !plain.contains('\\') => Some(plain.trim_end_matches('"').to_owned()),
        Some(_) => serde_json::from_str(raw).ok(),
    }
}

fn integer<T: FromStr>(raw: &Raw) -> Option<T> {
    text(raw)?.parse().ok()
}

/// Decimal text → hundredths; more decimals only where they are zero.
pub(super) fn cents(text: &str) -> Result<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut value: i128 = format!("{whole}{fraction}").parse()?;
    let mut shift = exponent + 2 - i64::try_from(fraction.len())?;
    while shift > 0 {
        value = value.checked_mul(10).context("too large")?;
        shift -= 1;
    }
    while shift < 0 {
        if value % 10 != 0 {
            bail!("`{text}` has more than two decimals");
        }
        value /= 10;
        shift += 1;
    }
    Ok(if negative { -value } else { value })
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]` → µs since 1970, the digits read as UTC; a zero date is `None`.
pub(super) fn micros(text: &str) -> Result<Option<i64>> {
    if text.starts_with("0000-00-00") {
        return Ok(None);
    }
    let wrong = || format!("`{text}` is not a date and time");
    let (date, time) = text.split_once([' ', 'T']).with_context(wrong)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let numbers = |text: &str, between: char| -> Option<[i64; 3]> {
        let parts: Vec<i64> = text.split(between).map(str::parse).collect::<Result<_, _>>().ok()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-').with_context(wrong)?;
    let [hour, minute, second] = numbers(time, ':').with_context(wrong)?;
    let fraction: i64 = format!("{fraction:0<6}").parse().with_context(wrong)?;
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    // Day by day of the year and year by year: slow and plain, unlike the host.
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let earlier_months: i64 = lengths.iter().take(usize::try_from(month - 1)?).sum();
    let years: i64 = if year >= 1970 {
        (1970..year).map(|y| if leap(y) { 366 } else { 365 }).sum()
    } else {
        -(year..1970).map(|y| if leap(y) { 366 } else { 365 }).sum::<i64>()
    };
    let days = years + earlier_months + day - 1;
    Ok(Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + fraction))
}
