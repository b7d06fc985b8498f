//! The projecting scanner: one forward pass over the usual message, which notes where the planned tokens stand and
//! steps over the rest. It answers `None` for anything unusual, and then the strict reader decides.
//!
//! It checks all punctuation, names, numbers and literals on its way; inside strings that no rule reads it looks for
//! their end only. What it learns (which name stands in which place) is compared byte for byte with each message, so
//! it makes the scan faster and never different.

use super::foreign::CAMEL_CASE;
use super::layout::{Layout, Span, Spans, TableLayout, same};
use super::message::{self, Identity, Kind, Message, Shape};
use crate::decode::{number, text, wide};

/// Containers nested deeper than this are left to the strict reader.
const DEPTH_MAX: usize = 64;
/// Most names learnt for one object.
const PLACES_MAX: usize = 1024;
/// Longest name learnt, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// What stands under a name that nobody reads.
const UNREAD: usize = usize::MAX;

/// Scans messages; keeps what it learns between them.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    envelope: Places,
    /// One per planned table.
    data: Vec<Places>,
}

/// A row message as found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) message: Message<'a>,
    pub(super) table: Option<usize>,
}

/// The names of an object by place, two candidates for each (`commit` or `xoffset`), the last seen first.
#[derive(Debug, Default)]
struct Places {
    names: Vec<[Name; 2]>,
}

/// `"name":` and what it stands for.
#[derive(Debug, Default)]
struct Name {
    literal: Vec<u8>,
    /// Its first eight bytes, as far as it has them.
    head: u64,
    /// Ones over the bytes that `head` has.
    mask: u64,
    slot: usize,
}

impl Name {
    #[inline]
    fn starts(&self, bytes: &[u8]) -> bool {
        let length = self.literal.len();
        match bytes.first_chunk::<8>() {
            Some(head) if (u64::from_le_bytes(*head) ^ self.head) & self.mask != 0 => false,
            Some(_) if length <= 8 => length != 0,
            _ => length != 0 && bytes.get(..length).is_some_and(|bytes| same(bytes, &self.literal)),
        }
    }

    fn set(&mut self, name: &[u8], slot: usize) {
        self.slot = slot;
        self.literal.clear();
        self.literal.push(b'"');
        self.literal.extend_from_slice(name);
        self.literal.extend_from_slice(b"\":");
        let backwards = self.literal.iter().take(8).rev();
        (self.head, self.mask) =
            backwards.fold((0, 0), |(head, mask), byte| (head << 8 | u64::from(*byte), mask << 8 | 0xff));
    }
}

impl Places {
    #[inline]
    fn known(&mut self, place: usize, bytes: &[u8]) -> Option<&Name> {
        let pair = self.names.get_mut(place)?;
        if !pair[0].starts(bytes) {
            if !pair[1].starts(bytes) {
                return None;
            }
            pair.swap(0, 1);
        }
        Some(&pair[0])
    }

    fn learn(&mut self, place: usize, name: &[u8], slot: usize) {
        if name.len() > NAME_BYTES_MAX {
            return;
        }
        if place == self.names.len() && place < PLACES_MAX {
            self.names.push(Default::default());
        }
        if let Some(pair) = self.names.get_mut(place) {
            pair.swap(0, 1);
            pair[0].set(name, slot);
        }
    }
}

impl Scanner {
    pub(super) fn new(layout: &Layout) -> Self {
        Self { envelope: Places::default(), data: layout.tables.iter().map(|_| Places::default()).collect() }
    }

    /// Reads a row message; the planned tokens go to `spans`. `None` = let the strict reader decide.
    #[inline]
    pub(super) fn scan<'a>(
        &mut self,
        layout: &Layout,
        line: &'a [u8],
        spans: &mut Spans,
    ) -> Option<Found<'a>> {
        let mut cursor = Cursor { line, at: 0 };
        cursor.space();
        let mut fields = Fields::default();
        let envelope = &mut self.envelope;
        let mut target = Target { layout, places: &mut self.data, spans };
        cursor.members(|cursor, place| {
            let slot = cursor.name(place, envelope, envelope_slot)?;
            fields.take(slot, cursor, &mut target)
        })?;
        cursor.space();
        if cursor.at != line.len() {
            return None;
        }
        fields.finish(target.spans)
    }
}

/// Index in [`message::FIELDS`]; `None` for names that only the strict reader judges.
fn envelope_slot(name: &[u8]) -> Option<usize> {
    let is = |known: &&str| same(known.as_bytes(), name);
    if CAMEL_CASE.iter().any(is) || is(&"isDdl") || is(&"encrypted") {
        return None;
    }
    Some(message::FIELDS.iter().position(is).unwrap_or(UNREAD))
}

/// Where the planned columns' tokens go, and what was learnt about where they stand.
struct Target<'t> {
    layout: &'t Layout,
    places: &'t mut [Places],
    spans: &'t mut Spans,
}

/// What the envelope has shown so far.
#[derive(Default)]
struct Fields<'a> {
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
    old: Option<Shape>,
}

impl<'a> Fields<'a> {
    #[inline]
    fn has(&self, slot: usize) -> bool {
        self.seen >> slot & 1 == 1
    }

    /// Reads the value of field `slot`.
    #[inline]
    fn take(&mut self, slot: usize, cursor: &mut Cursor<'a>, target: &mut Target<'_>) -> Option<()> {
        if slot == UNREAD {
            return cursor.value(0).map(drop);
        }
        let bit = 1 << slot;
        if self.seen & bit != 0 {
            return None;
        }
        self.seen |= bit;
        match slot {
            message::DATA | message::OLD => {
                return self.image(slot == message::DATA, cursor, target);
            }
            _ => {}
        }
        let span = cursor.value(0)?;
        let token = span.of(cursor.line)?;
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
    #[inline]
    fn image(&mut self, is_data: bool, cursor: &mut Cursor<'a>, target: &mut Target<'_>) -> Option<()> {
        let Target { layout, places, spans } = target;
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
            return cursor.value(0).map(drop);
        };
        let planned = layout.tables.get(table)?;
        let shape = if is_data {
            let places = places.get_mut(table)?;
            object(cursor, planned, &mut spans.data, |cursor, place| {
                cursor.name(place, places, |name| Some(planned.slot(name).unwrap_or(UNREAD)))
            })
        } else {
            object(cursor, planned, &mut spans.old, |cursor, _| {
                Some(planned.slot(cursor.any_name()?).unwrap_or(UNREAD))
            })
        };
        *(if is_data { &mut self.data } else { &mut self.old }) = Some(shape?);
        Some(())
    }

    fn finish(self, spans: &Spans) -> Option<Found<'a>> {
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
#[inline]
fn object<'a>(
    cursor: &mut Cursor<'a>,
    planned: &TableLayout,
    spans: &mut [Span],
    mut name: impl FnMut(&mut Cursor<'a>, usize) -> Option<usize>,
) -> Option<Shape> {
    debug_assert_eq!(planned.slots.len(), spans.len());
    let members = cursor.members(|cursor, place| {
        let slot = name(cursor, place)?;
        let first = cursor.peek();
        let token = cursor.value(0)?;
        if let Some(span) = spans.get_mut(slot) {
            // A name twice, or a container where a value is read: the strict reader decides.
            if !span.is_absent() || matches!(first, Some(b'{' | b'[')) {
                return None;
            }
            *span = token;
        }
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

/// A place in a line.
struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
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

    /// Steps over an object; `member` reads name and value of each member, given its place. Gives their number.
    #[inline]
    fn members(&mut self, mut member: impl FnMut(&mut Self, usize) -> Option<()>) -> Option<usize> {
        self.expect(b'{')?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Some(0);
        }
        let mut place = 0;
        loop {
            member(self, place)?;
            place += 1;
            self.space();
            let next = self.peek();
            self.at += 1;
            match next {
                Some(b',') => self.space(),
                Some(b'}') => return Some(place),
                _ => return None,
            }
        }
    }

    /// Steps over a name and its colon to the value. Gives the name's slot, learnt or found.
    #[inline]
    fn name(
        &mut self,
        place: usize,
        places: &mut Places,
        find: impl Fn(&[u8]) -> Option<usize>,
    ) -> Option<usize> {
        if let Some(known) = places.known(place, self.line.get(self.at..)?) {
            self.at += known.literal.len();
            self.space();
            return Some(known.slot);
        }
        let name = self.any_name()?;
        let slot = find(name)?;
        places.learn(place, name, slot);
        Some(slot)
    }

    /// Steps over a name and its colon to the value. Names with escapes or control characters are unusual.
    fn any_name(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.string()?;
        let name = text::content(self.line.get(start..self.at)?)?;
        let odd = |byte: &u8| *byte < 0x20 || *byte == b'\\';
        if !wide::is_plain(name) && (name.iter().any(odd) || simdutf8::basic::from_utf8(name).is_err()) {
            return None;
        }
        self.space();
        self.expect(b':')?;
        self.space();
        Some(name)
    }

    /// Steps over a string.
    #[inline(always)]
    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            self.at += wide::string_end(self.line.get(self.at..)?)?;
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Some(());
            }
            self.at += 2;
        }
    }

    /// Steps over a value; gives its place.
    #[inline(always)]
    fn value(&mut self, depth: usize) -> Option<Span> {
        let start = self.at;
        match self.peek()? {
            b'"' => self.string()?,
            b'0'..=b'9' | b'-' => self.at += number::token_len(self.line.get(start..)?)?,
            b'n' => self.literal(b"null")?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'{' | b'[' => self.container(depth)?,
            _ => return None,
        }
        Some(Span::new(start, self.at))
    }

    #[inline]
    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        if !self.line.get(self.at..)?.starts_with(literal) {
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
                .members(|cursor, _| {
                    cursor.string()?;
                    cursor.space();
                    cursor.expect(b':')?;
                    cursor.space();
                    cursor.value(depth + 1).map(drop)
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
