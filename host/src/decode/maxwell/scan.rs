//! The projecting scanner: one forward pass over the usual message, which notes where the planned tokens stand and
//! steps over the rest. It answers `None` for anything unusual, and then the strict reader decides.
//!
//! It checks all punctuation, names, numbers and literals on its way; inside strings that no rule reads it looks for
//! their end only. A message whose skeleton is known is compared with that instead of being read member by member.

use super::foreign::CAMEL_CASE;
use super::layout::{Layout, Span, Spans, TableLayout, same};
use super::marks::Marks;
use super::message::{self, Identity, Kind, Message, Shape};
use super::skeleton::Skeletons;
use crate::decode::{number, text, wide};
use std::ops::Range;

/// Containers nested deeper than this are left to the strict reader.
const DEPTH_MAX: usize = 64;
/// What stands under a name that nobody reads.
pub(super) const UNREAD: usize = usize::MAX;

/// Scans messages; keeps the skeletons it learns.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    pub(super) skeletons: Skeletons,
}

/// A row message as found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) message: Message<'a>,
    pub(super) table: Option<usize>,
}

impl Scanner {
    /// Reads the row message that stands in `block` at `at`; the planned tokens go to `spans`. `None` = let the strict
    /// reader decide.
    ///
    /// What stands behind the message is looked at, so that comparing sixteen bytes is never out of reach before its
    /// end, but nothing of it counts: a message is taken only if it ends where it should.
    #[inline]
    pub(super) fn scan<'a>(
        &mut self,
        layout: &Layout,
        block: &'a [u8],
        at: Range<usize>,
        marks: &Marks,
        spans: &mut Spans,
    ) -> Option<Found<'a>> {
        let cursor = Cursor { bytes: block, at: at.start, marks };
        let known = self.skeletons.read(layout, cursor, at.end, spans);
        if known.is_some() {
            return known;
        }
        let found = scan(layout, cursor, at.end, spans)?;
        self.skeletons.learn(layout, cursor, at.end, &found);
        Some(found)
    }
}

/// The general scan: any order of members, any space between them.
#[inline(never)]
fn scan<'a>(layout: &Layout, mut cursor: Cursor<'a, '_>, end: usize, spans: &mut Spans) -> Option<Found<'a>> {
    cursor.space();
    let mut fields = Fields::default();
    cursor.members(|cursor| {
        let slot = envelope_slot(cursor.any_name()?)?;
        cursor.space();
        fields.take(slot, cursor, layout, spans)
    })?;
    cursor.space();
    if cursor.at != end {
        return None;
    }
    fields.finish(spans)
}

/// Index in [`message::FIELDS`]; `None` for names that only the strict reader judges.
pub(super) fn envelope_slot(name: &[u8]) -> Option<usize> {
    let is = |known: &&str| same(known.as_bytes(), name);
    if CAMEL_CASE.iter().any(is) || is(&"isDdl") || is(&"encrypted") {
        return None;
    }
    Some(message::FIELDS.iter().position(is).unwrap_or(UNREAD))
}

/// The slot of a column; [`UNREAD`] for one that no rule reads.
#[inline]
pub(super) fn column_slot(planned: Option<&TableLayout>, name: &[u8]) -> usize {
    planned.and_then(|planned| planned.slot(name)).unwrap_or(UNREAD)
}

/// What the envelope has shown so far.
#[derive(Default)]
pub(super) struct Fields<'a> {
    /// Bit n: field n of [`message::FIELDS`] was there.
    seen: u32,
    database: &'a [u8],
    table_name: &'a [u8],
    kind: Option<Kind>,
    ts: Option<i64>,
    identity: Identity<'a>,
    xid: Option<Span>,
    gtid: Option<Span>,
    /// Known from `data` on.
    table: Option<Option<usize>>,
    data: Option<Shape>,
    pub(super) old: Option<Shape>,
}

impl<'a> Fields<'a> {
    /// Those of a message whose skeleton is known.
    #[inline]
    pub(super) fn known(seen: u32, kind: Kind, table: Option<usize>) -> Self {
        let data = (seen >> message::DATA & 1 == 1).then_some(Shape::Object);
        Self { seen, kind: Some(kind), table: Some(table), data, ..Self::default() }
    }

    #[inline]
    fn has(&self, slot: usize) -> bool {
        self.seen >> slot & 1 == 1
    }

    /// Reads the value of field `slot`.
    fn take(
        &mut self,
        slot: usize,
        cursor: &mut Cursor<'a, '_>,
        layout: &Layout,
        spans: &mut Spans,
    ) -> Option<()> {
        if slot == UNREAD {
            return cursor.value(0);
        }
        let bit = 1 << slot;
        if self.seen & bit != 0 {
            return None;
        }
        self.seen |= bit;
        if matches!(slot, message::DATA | message::OLD) {
            return self.image(slot == message::DATA, cursor, layout, spans);
        }
        let start = cursor.at;
        cursor.value(0)?;
        self.set(slot, cursor.bytes.get(start..cursor.at)?, Span::new(start, cursor.at))
    }

    /// Notes that field `slot` has the value `token`, which stands at `span`.
    #[inline]
    pub(super) fn set(&mut self, slot: usize, token: &'a [u8], span: Span) -> Option<()> {
        match slot {
            message::DATABASE => self.database = plain(token)?,
            message::TABLE => self.table_name = plain(token)?,
            message::TYPE => self.kind = Some(Kind::from_type(text::content(token)?)?),
            message::TS => self.ts = message::ts(token),
            message::XID => self.xid = Some(span).filter(|_| token != b"null"),
            message::XOFFSET => self.identity.xoffset = message::xoffset(token),
            message::COMMIT => self.identity.commit = token == b"true",
            message::POSITION if token.first() == Some(&b'"') => self.identity.position = Some(plain(token)?),
            message::GTID if token.first() == Some(&b'"') => {
                self.identity.gtid = Some(plain(token)?);
                self.gtid = Some(span);
            }
            message::SERVER_ID => self.identity.server = Some(token).filter(|token| message::is_whole(token)),
            _ => {}
        }
        Some(())
    }

    /// Reads `data` or `old`.
    fn image(
        &mut self,
        is_data: bool,
        cursor: &mut Cursor<'a, '_>,
        layout: &Layout,
        spans: &mut Spans,
    ) -> Option<()> {
        let table = match self.table {
            Some(table) => table,
            None if self.has(message::DATABASE) && self.has(message::TABLE) => {
                let table = layout.find(self.database, self.table_name);
                spans.reset(
                    table.and_then(|table| layout.tables.get(table)).map_or(0, |table| table.slots.len()),
                );
                *self.table.insert(table)
            }
            None => return None,
        };
        let Some(table) = table else {
            if cursor.peek() == Some(b'[') {
                return None; // an array of rows is not Maxwell's
            }
            return cursor.value(0);
        };
        let planned = layout.tables.get(table)?;
        if is_data {
            self.data = Some(object(cursor, planned, &mut spans.data)?);
        } else {
            self.old = Some(object(cursor, planned, &mut spans.old)?);
        }
        Some(())
    }

    #[inline]
    pub(super) fn finish(self, spans: &Spans) -> Option<Found<'a>> {
        // A missing field, Maxwell's own tables and an incomplete delete are for the strict reader to judge.
        if !(self.has(message::DATABASE) && self.has(message::TABLE))
            || self.ts.is_none()
            || self.database == b"maxwell"
        {
            return None;
        }
        let table = self.table?;
        let kind = self.kind?;
        if table.is_some()
            && (self.data.is_none()
                || (kind == Kind::Delete && spans.data.iter().any(|span| span.is_absent())))
        {
            return None;
        }
        let message = Message {
            kind,
            ts: self.ts,
            identity: self.identity,
            transaction: self.gtid.or(self.xid).unwrap_or(Span::ABSENT),
            data: self.data.unwrap_or(Shape::Missing),
            old: self.old.unwrap_or(Shape::Missing),
            key_only: false,
        };
        Some(Found { message, table })
    }
}

/// Reads an object of columns; tokens of planned ones go to `spans`.
pub(super) fn object(
    cursor: &mut Cursor<'_, '_>,
    planned: &TableLayout,
    spans: &mut [Span],
) -> Option<Shape> {
    debug_assert_eq!(planned.slots.len(), spans.len());
    let members = cursor.members(|cursor| {
        let slot = column_slot(Some(planned), cursor.any_name()?);
        cursor.space();
        let Some(span) = spans.get_mut(slot) else {
            return cursor.value(0);
        };
        if !span.is_absent() {
            return None; // a name twice
        }
        *span = cursor.scalar()?;
        Some(())
    })?;
    Some(if members == 0 { Shape::Empty } else { Shape::Object })
}

/// The content of a string of printable ASCII without escapes.
#[inline]
fn plain(token: &[u8]) -> Option<&[u8]> {
    let content = text::content(token)?;
    if wide::is_plain(content) { Some(content) } else { None }
}

/// A place in a block.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a, 'm> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) marks: &'m Marks,
}

impl<'a> Cursor<'a, '_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(super) fn space(&mut self) {
        if self.peek().is_none_or(|byte| byte <= b' ') {
            self.skip_space();
        }
    }

    #[cold]
    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        if self.peek() != Some(byte) {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Steps over an object; `member` reads name and value of each member. Gives their number.
    #[inline(always)]
    pub(super) fn members(&mut self, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<usize> {
        self.expect(b'{')?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Some(0);
        }
        let mut members = 0;
        loop {
            member(self)?;
            members += 1;
            if self.peek() != Some(b',') {
                self.space();
            }
            let next = self.peek();
            self.at += 1;
            match next {
                Some(b',') => {}
                Some(b'}') => return Some(members),
                _ => return None,
            }
        }
    }

    /// Steps over a name and its colon, white space around them too. Names with escapes or control characters are
    /// unusual.
    pub(super) fn any_name(&mut self) -> Option<&'a [u8]> {
        self.space();
        let start = self.at;
        self.string()?;
        let name = text::content(self.bytes.get(start..self.at)?)?;
        let odd = |byte: &u8| *byte < 0x20 || *byte == b'\\';
        if !wide::is_plain(name) && (name.iter().any(odd) || simdutf8::basic::from_utf8(name).is_err()) {
            return None;
        }
        self.space();
        self.expect(b':')?;
        Some(name)
    }

    /// Steps over a string.
    #[inline(always)]
    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.at = self.marks.quote(self.at)? + 1;
        Some(())
    }

    /// Steps over a value.
    #[inline(always)]
    pub(super) fn value(&mut self, depth: usize) -> Option<()> {
        let window = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<16>());
        match window {
            Some([b'"', ..]) => {
                self.at = self.marks.quote(self.at + 1)? + 1;
                Some(())
            }
            Some(window @ [b'0'..=b'9', ..]) if let Some(length) = number::short_len(window) => {
                self.at += length;
                Some(())
            }
            _ => self.other_value(depth),
        }
    }

    /// Steps over a value that is no object and no array. Says where it stands.
    #[inline(always)]
    pub(super) fn scalar(&mut self) -> Option<Span> {
        if matches!(self.peek()?, b'{' | b'[') {
            return None;
        }
        let start = self.at;
        self.value(0)?;
        Some(Span::new(start, self.at))
    }

    #[inline(never)]
    fn other_value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'0'..=b'9' | b'-' => {
                self.at += number::token_len(self.bytes.get(self.at..)?)?;
                Some(())
            }
            b'n' => self.literal(b"null"),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'{' | b'[' => self.container(depth),
            _ => None,
        }
    }

    #[inline]
    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        if !self.bytes.get(self.at..)?.starts_with(literal) {
            return None;
        }
        self.at += literal.len();
        Some(())
    }

    /// Steps over an object or array.
    #[inline(never)]
    fn container(&mut self, depth: usize) -> Option<()> {
        if depth == DEPTH_MAX {
            return None;
        }
        if self.peek() == Some(b'{') {
            return self
                .members(|cursor| {
                    cursor.space();
                    cursor.string()?;
                    cursor.space();
                    cursor.expect(b':')?;
                    cursor.space();
                    cursor.value(depth + 1)
                })
                .map(drop);
        }
        self.expect(b'[')?;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
            self.space();
        }
    }
}
