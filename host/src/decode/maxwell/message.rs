//! A row message as both scanners see it: its envelope, and where the planned columns' tokens stand.

use super::identity;
use super::layout::Span;
use crate::decode::number;

/// What happened to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Insert,
    Update,
    Delete,
}

impl Kind {
    pub(super) fn from_type(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"insert" => Self::Insert,
            b"update" => Self::Update,
            b"delete" => Self::Delete,
            _ => return None,
        })
    }
}

/// JSON shape of `data` and `old`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// No such field, or null.
    Missing,
    /// `{}`.
    Empty,
    /// An object with members.
    Object,
    /// Anything else.
    Other,
}

/// What a change id is made of (M21).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Identity<'a> {
    pub(super) gtid: Option<&'a [u8]>,
    /// `file:position`.
    pub(super) position: Option<&'a [u8]>,
    /// The number's token.
    pub(super) server: Option<&'a [u8]>,
    pub(super) xoffset: Option<u32>,
    /// `commit: true`: the last row of its transaction.
    pub(super) commit: bool,
}

/// A message of type insert, update or delete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    /// Seconds since 1970.
    pub(super) ts: Option<i64>,
    pub(super) identity: Identity<'a>,
    /// Token of the gtid, else of the xid: equal in all messages of one transaction.
    pub(super) transaction: Span,
    pub(super) data: Shape,
    pub(super) old: Shape,
    /// A delete that carries its key columns only (M12).
    pub(super) key_only: bool,
}

/// `ts` of a row: a whole number (seconds in rows; only DDL counts milliseconds, M18).
#[inline]
pub(super) fn ts(token: &[u8]) -> Option<i64> {
    if !matches!(token.first(), Some(b'0'..=b'9' | b'-')) {
        return None;
    }
    number::quick(token, 0).or_else(|| i64::try_from(number::scaled(token, 0).ok()?).ok())
}

/// `xoffset`: the row's number in its transaction.
#[inline]
pub(super) fn xoffset(token: &[u8]) -> Option<u32> {
    u32::try_from(identity::unsigned(token)?).ok()
}

/// Whether a token is a whole number of digits only.
#[inline]
pub(super) fn is_whole(token: &[u8]) -> bool {
    identity::unsigned(token).is_some()
}

/// Names of the envelope's fields that are read, each at its number below; each may stand in a message once.
pub(super) const FIELDS: [&str; 12] = [
    "database",
    "table",
    "type",
    "ts",
    "xid",
    "xoffset",
    "commit",
    "position",
    "gtid",
    "server_id",
    "data",
    "old",
];
pub(super) const DATABASE: usize = 0;
pub(super) const TABLE: usize = 1;
pub(super) const TYPE: usize = 2;
pub(super) const TS: usize = 3;
pub(super) const XID: usize = 4;
pub(super) const XOFFSET: usize = 5;
pub(super) const COMMIT: usize = 6;
pub(super) const POSITION: usize = 7;
pub(super) const GTID: usize = 8;
pub(super) const SERVER_ID: usize = 9;
pub(super) const DATA: usize = 10;
pub(super) const OLD: usize = 11;
