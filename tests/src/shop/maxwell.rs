//! One row event → one Maxwell message. `old` carries just the columns that changed, as Maxwell does.

use super::text::{number, padded, put};

/// A table whose rows can be printed column by column.
pub(super) trait TableRow {
    /// Name of the table in database `shop`.
    const TABLE: &'static str;
    /// Columns in the order of the schema; the first is the primary key.
    const COLUMNS: &'static [&'static str];
    /// The primary key.
    fn primary_key(&self) -> u64;
    /// Appends the JSON value of a column.
    fn value(&self, column: usize, out: &mut Vec<u8>);
    /// Whether both rows have the same value in a column.
    fn same(&self, other: &Self, column: usize) -> bool;
}

/// Where a row event stands in the binlog: what its change id is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Seconds since 1970.
    pub(super) ts: u64,
    /// Transaction.
    pub(super) xid: u64,
    /// Row in the transaction.
    pub(super) xoffset: u64,
    /// Last row of the transaction: prints `commit` in place of `xoffset`.
    pub(super) commit: bool,
    /// Number of the binlog file.
    pub(super) file: u64,
    /// Start of the event; all its rows share it.
    pub(super) position: u64,
    /// Print server id and position.
    pub(super) ids: bool,
    /// Print the gtid.
    pub(super) gtid: bool,
}

/// The server that all ids come from.
const SERVER_ID: u64 = 223_344;
const GTID_SOURCE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
/// xid of the first transaction; its gtid counts from 1.
pub(super) const FIRST_XID: u64 = 8_000_001;

/// Both images of a row event; never both `None`.
pub(super) struct Images<'a, T> {
    pub(super) before: Option<&'a T>,
    pub(super) after: Option<&'a T>,
}

/// Writes the message into `out`, which it empties first. Without an image nothing is written.
pub(super) fn write_message<T: TableRow>(out: &mut Vec<u8>, place: &Place, images: &Images<'_, T>) {
    out.clear();
    let Some(row) = images.after.or(images.before) else { return };
    let kind = match (images.before, images.after) {
        (None, _) => "insert",
        (_, None) => "delete",
        _ => "update",
    };
    put(out, "{\"database\":\"shop\",\"table\":\"");
    put(out, T::TABLE);
    put(out, "\",\"type\":\"");
    put(out, kind);
    put(out, "\",\"ts\":");
    number(out, place.ts);
    put(out, ",\"xid\":");
    number(out, place.xid);
    if place.commit {
        put(out, ",\"commit\":true");
    } else {
        put(out, ",\"xoffset\":");
        number(out, place.xoffset);
    }
    write_ids(out, place);
    put(out, ",\"primary_key\":[");
    number(out, row.primary_key());
    put(out, "],\"data\":");
    write_columns(out, row, |_| true);
    if let (Some(before), Some(after)) = (images.before, images.after) {
        put(out, ",\"old\":");
        write_columns(out, before, |column| !before.same(after, column));
    }
    out.push(b'}');
}

fn write_ids(out: &mut Vec<u8>, place: &Place) {
    if !place.ids {
        return;
    }
    put(out, ",\"position\":\"binlog.");
    padded(out, place.file, 6);
    out.push(b':');
    number(out, place.position);
    out.push(b'"');
    if place.gtid {
        put(out, ",\"gtid\":\"");
        put(out, GTID_SOURCE);
        out.push(b':');
        number(out, place.xid - FIRST_XID + 1);
        out.push(b'"');
    }
    put(out, ",\"server_id\":");
    number(out, SERVER_ID);
}

fn write_columns<T: TableRow>(out: &mut Vec<u8>, row: &T, wanted: impl Fn(usize) -> bool) {
    let mut open = b'{';
    for (column, name) in T::COLUMNS.iter().enumerate() {
        if !wanted(column) {
            continue;
        }
        out.push(open);
        open = b',';
        out.push(b'"');
        put(out, name);
        put(out, "\":");
        row.value(column, out);
    }
    if open == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}
