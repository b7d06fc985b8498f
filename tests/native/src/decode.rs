//! Maxwell lines → the columns that the query reads, by two scanners.
//!
//! `spec` bets on this producer's envelope and column order, checks each bet by comparing bytes, and falls back to `scan`,
//! which takes any order of keys. Sound for flat rows: `,"old":{` cannot stand inside a JSON string, for its quotes
//! would be escaped.

use anyhow::{Context, Result, bail};
use memchr::memmem::Finder;

/// The scanner to use.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum With {
    /// Speculative, then general.
    Spec,
    /// General.
    Scan,
}

/// What the query reads of an order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    pub(crate) user: u64,
    pub(crate) merchant: u32,
    pub(crate) state: u8,
    pub(crate) cents: i64,
}

impl Order {
    #[inline]
    pub(crate) fn paid(&self) -> bool {
        (1..=3).contains(&self.state)
    }

    #[inline]
    pub(crate) fn refunded(&self) -> bool {
        self.state == 6
    }
}

/// Both images of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Order { before: Option<Order>, after: Option<Order> },
    User { before: Option<u64>, after: Option<u64> },
}

impl Change {
    /// The user of each image.
    #[inline]
    pub(crate) fn users(&self) -> (Option<u64>, Option<u64>) {
        match self {
            Self::Order { before, after } => (before.map(|row| row.user), after.map(|row| row.user)),
            Self::User { before, after } => (*before, *after),
        }
    }

    /// The change as a delete and an insert.
    pub(crate) fn split(self) -> (Self, Self) {
        match self {
            Self::Order { before, after } => {
                (Self::Order { before, after: None }, Self::Order { before: None, after })
            }
            Self::User { before, after } => {
                (Self::User { before, after: None }, Self::User { before: None, after })
            }
        }
    }
}

const ORDERS: &[u8] = b"{\"database\":\"shop\",\"table\":\"orders\",\"type\":\"";
const USERS: &[u8] = b"{\"database\":\"shop\",\"table\":\"users\",\"type\":\"";

/// Decodes lines.
pub(crate) struct Decoder {
    with: With,
    data: Finder<'static>,
    old: Finder<'static>,
}

impl Decoder {
    pub(crate) fn new(with: With) -> Self {
        Self { with, data: Finder::new(b",\"data\":{\""), old: Finder::new(b",\"old\":{") }
    }

    /// The change of a line, `None` where it is of another table.
    #[inline]
    pub(crate) fn decode(&self, line: &[u8]) -> Result<Option<Change>> {
        if self.with == With::Spec
            && let Some(change) = self.speculate(line)
        {
            return Ok(Some(change));
        }
        scan(line).with_context(|| format!("cannot read {}", String::from_utf8_lossy(line)))
    }

    #[inline]
    fn speculate(&self, line: &[u8]) -> Option<Change> {
        if line.starts_with(ORDERS) { self.speculate_order(line) } else { self.speculate_user(line) }
    }

    #[inline]
    fn speculate_order(&self, line: &[u8]) -> Option<Change> {
        let kind = *line.get(ORDERS.len())?;
        let mut at = ORDERS.len();
        at += self.data.find(&line[at..])? + 9;
        literal(line, &mut at, b"\"order_id\":")?;
        unsigned(line, &mut at)?;
        literal(line, &mut at, b",\"user_id\":")?;
        let user = unsigned(line, &mut at)?;
        literal(line, &mut at, b",\"merchant_id\":")?;
        let merchant = unsigned(line, &mut at)? as u32;
        literal(line, &mut at, b",\"state\":")?;
        let state = unsigned(line, &mut at)? as u8;
        literal(line, &mut at, b",\"amount\":")?;
        let cents = cents(line, &mut at)?;
        let row = Order { user, merchant, state, cents };
        Some(match kind {
            b'i' => Change::Order { before: None, after: Some(row) },
            b'd' => Change::Order { before: Some(row), after: None },
            b'u' => {
                at += self.old.find(&line[at..])? + 8;
                let mut before = row;
                order_columns(line, &mut at, &mut before)?;
                Change::Order { before: Some(before), after: Some(row) }
            }
            _ => return None,
        })
    }

    #[inline]
    fn speculate_user(&self, line: &[u8]) -> Option<Change> {
        if !line.starts_with(USERS) {
            return None;
        }
        let kind = *line.get(USERS.len())?;
        let mut at = USERS.len();
        at += self.data.find(&line[at..])? + 9;
        literal(line, &mut at, b"\"user_id\":")?;
        let user = unsigned(line, &mut at)?;
        Some(match kind {
            b'i' => Change::User { before: None, after: Some(user) },
            b'd' => Change::User { before: Some(user), after: None },
            b'u' => {
                at += self.old.find(&line[at..])? + 8;
                let mut before = user;
                user_column(line, &mut at, &mut before)?;
                Change::User { before: Some(before), after: Some(user) }
            }
            _ => return None,
        })
    }
}

#[inline]
fn literal(line: &[u8], at: &mut usize, expected: &[u8]) -> Option<()> {
    let end = *at + expected.len();
    (line.get(*at..end)? == expected).then(|| *at = end)
}

#[inline]
fn unsigned(line: &[u8], at: &mut usize) -> Option<u64> {
    let (start, mut value) = (*at, 0u64);
    while let Some(digit) = line.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        *at += 1;
    }
    (*at > start).then_some(value)
}

#[inline]
fn cents(line: &[u8], at: &mut usize) -> Option<i64> {
    let negative = line.get(*at) == Some(&b'-');
    *at += usize::from(negative);
    let mut value = unsigned(line, at)? as i64 * 100;
    if line.get(*at) == Some(&b'.') {
        *at += 1;
        let start = *at;
        let fraction = unsigned(line, at)? as i64;
        value += match *at - start {
            1 => fraction * 10,
            2 => fraction,
            _ => return None,
        };
    }
    Some(if negative { -value } else { value })
}

/// Moves past a string whose opening quote is behind `at`.
#[inline]
fn skip_string(line: &[u8], at: &mut usize) -> Option<()> {
    loop {
        let next = *at + memchr::memchr2(b'"', b'\\', line.get(*at..)?)?;
        if line.get(next) == Some(&b'"') {
            *at = next + 1;
            return Some(());
        }
        *at = next + 2;
    }
}

#[inline]
fn skip_value(line: &[u8], at: &mut usize) -> Option<()> {
    match *line.get(*at)? {
        b'"' => {
            *at += 1;
            skip_string(line, at)
        }
        b'{' | b'[' => {
            let mut depth = 0;
            loop {
                let byte = *line.get(*at)?;
                *at += 1;
                match byte {
                    b'"' => skip_string(line, at)?,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(());
                        }
                    }
                    _ => {}
                }
            }
        }
        _ => {
            while !matches!(*line.get(*at)?, b',' | b'}' | b']') {
                *at += 1;
            }
            Some(())
        }
    }
}

/// Steps to the next key of an object (`at` behind `{` or a value) and returns it; `None` inside = its end.
#[inline]
fn next_key<'a>(line: &'a [u8], at: &mut usize) -> Option<Option<&'a [u8]>> {
    if line.get(*at)? == &b',' {
        *at += 1;
    }
    if line.get(*at)? == &b'}' {
        *at += 1;
        return Some(None);
    }
    let start = *at + 1;
    *at = start + memchr::memchr(b'"', line.get(start..)?)?;
    let key = line.get(start..*at)?;
    *at += 1;
    literal(line, at, b":")?;
    Some(Some(key))
}

/// Overwrites in `row` the columns that the object behind `at` carries.
#[inline]
fn order_columns(line: &[u8], at: &mut usize, row: &mut Order) -> Option<()> {
    while let Some(key) = next_key(line, at)? {
        match key {
            b"user_id" => row.user = unsigned(line, at)?,
            b"merchant_id" => row.merchant = unsigned(line, at)? as u32,
            b"state" => row.state = unsigned(line, at)? as u8,
            b"amount" => row.cents = cents(line, at)?,
            _ => skip_value(line, at)?,
        }
    }
    Some(())
}

#[inline]
fn user_column(line: &[u8], at: &mut usize, user: &mut u64) -> Option<()> {
    while let Some(key) = next_key(line, at)? {
        if key == b"user_id" { *user = unsigned(line, at)? } else { skip_value(line, at)? }
    }
    Some(())
}

/// The envelope's places that `scan` looks for.
#[derive(Default)]
struct Envelope {
    kind: u8,
    is_shop: bool,
    table: Table,
    data: Option<usize>,
    old: Option<usize>,
}

#[derive(Default, PartialEq)]
enum Table {
    Orders,
    Users,
    #[default]
    Other,
}

fn envelope(line: &[u8]) -> Option<Envelope> {
    let (mut at, mut found) = (0, Envelope::default());
    literal(line, &mut at, b"{")?;
    while let Some(key) = next_key(line, &mut at)? {
        let start = at;
        skip_value(line, &mut at)?;
        let value = &line[start..at];
        match key {
            b"type" => found.kind = *value.get(1)?,
            b"database" => found.is_shop = value == b"\"shop\"",
            b"table" => {
                found.table = match value {
                    b"\"orders\"" => Table::Orders,
                    b"\"users\"" => Table::Users,
                    _ => Table::Other,
                }
            }
            b"data" => found.data = Some(start + 1),
            b"old" => found.old = Some(start + 1),
            _ => {}
        }
    }
    Some(found)
}

/// The general scanner: any order of keys, no white space between tokens.
fn scan(line: &[u8]) -> Result<Option<Change>> {
    let found = envelope(line).context("not a Maxwell message")?;
    if !found.is_shop || found.table == Table::Other {
        return Ok(None);
    }
    let mut data = found.data.context("no `data`")?;
    let mut old = found.old;
    let users = found.table == Table::Users;
    let (mut order, mut user) = (Order::default(), 0);
    if users { user_column(line, &mut data, &mut user) } else { order_columns(line, &mut data, &mut order) }
        .context("a column of `data`")?;
    let (mut order_before, mut user_before) = (order, user);
    if let Some(old) = old.as_mut() {
        if users {
            user_column(line, old, &mut user_before)
        } else {
            order_columns(line, old, &mut order_before)
        }
        .context("a column of `old`")?;
    }
    let (had, has) = match found.kind {
        b'i' => (false, true),
        b'u' => (true, true),
        b'd' => (true, false),
        _ => bail!("neither insert, update nor delete"),
    };
    Ok(Some(if users {
        Change::User { before: had.then_some(user_before), after: has.then_some(user) }
    } else {
        Change::Order { before: had.then_some(order_before), after: has.then_some(order) }
    }))
}

#[cfg(test)]
mod tests {
    use super::{Change, Decoder, Order, With};

    fn check(line: &str, expect: Option<Change>) {
        for with in [With::Spec, With::Scan] {
            assert_eq!(Decoder::new(with).decode(line.as_bytes()).unwrap(), expect, "{line}");
        }
    }

    /// The bet itself must be won, or the ceiling is the general scanner's.
    fn wins(line: &str) -> bool {
        Decoder::new(With::Spec).speculate(line.as_bytes()).is_some()
    }

    #[test]
    fn both_scanners_read_the_same_changes() {
        let row = Order { user: 42, merchant: 7, state: 1, cents: 1_250 };
        let data =
            r#""order_id":9,"user_id":42,"merchant_id":7,"state":1,"amount":12.50,"remark":",\"old\":{""#;
        let line = |kind: &str, old: &str| {
            format!(r#"{{"database":"shop","table":"orders","type":"{kind}","ts":1,"data":{{{data}}}{old}}}"#)
        };
        for (kind, old) in [("insert", ""), ("delete", ""), ("update", r#","old":{"user_id":41}"#)] {
            assert!(wins(&line(kind, old)), "{kind}");
        }
        check(&line("insert", ""), Some(Change::Order { before: None, after: Some(row) }));
        check(&line("delete", ""), Some(Change::Order { before: Some(row), after: None }));
        let before = Order { user: 41, cents: 300, ..row };
        check(
            &line("update", r#","old":{"remark":"x","user_id":41,"amount":3.0}"#),
            Some(Change::Order { before: Some(before), after: Some(row) }),
        );
        assert!(wins(
            r#"{"database":"shop","table":"users","type":"update","data":{"user_id":5,"level":1},"old":{"level":0}}"#
        ));
        check(
            r#"{"database":"shop","table":"users","type":"update","ts":1,"data":{"user_id":5,"level":1},"old":{"level":0}}"#,
            Some(Change::User { before: Some(5), after: Some(5) }),
        );
        check(
            r#"{"database":"shop","table":"red_packets","type":"insert","ts":1,"data":{"packet_id":1}}"#,
            None,
        );
    }

    #[test]
    fn keys_may_stand_in_any_order() {
        let line = r#"{"type":"insert","data":{"amount":1,"state":6,"merchant_id":2,"user_id":3},"table":"orders","database":"shop"}"#;
        let row = Order { user: 3, merchant: 2, state: 6, cents: 100 };
        check(line, Some(Change::Order { before: None, after: Some(row) }));
    }
}
