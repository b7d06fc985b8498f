//! The projecting scanner: one forward pass over the usual message, which notes where the planned tokens stand and
//! steps over the rest. It answers `None` for anything unusual, and then the strict reader decides.
//!
//! It checks all punctuation, names, numbers and literals on its way; inside strings that no rule reads it looks for
//! their end only. What it learns (which name stands in which place) is compared byte for byte with each message, so
//! it makes the scan faster and never different.

use super::foreign::CAMEL_CASE;
use super::layout::{Layout, Span, Spans, TableLayout, same};
use super::message::{self, Identity, Kind, Message, Shape};
use super::quotes::Quotes;
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
    quotes: Quotes,
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
#[derive(Clone, Debug)]
struct Name {
    /// The first sixteen bytes, as far as there are so many.
    head: u128,
    /// Ones over the bytes that `head` has.
    mask: u128,
    /// The bytes behind them.
    tail: Vec<u8>,
    length: usize,
    slot: usize,
}

impl Name {
    fn new(name: &[u8], slot: usize) -> Self {
        let literal = [b"\"", name, b"\":"].concat();
        let backwards = literal.iter().take(16).rev();
        let (head, mask) =
            backwards.fold((0, 0), |(head, mask), byte| (head << 8 | u128::from(*byte), mask << 8 | 0xff));
        let tail = literal.get(16..).unwrap_or(&[]).to_vec();
        Self { head, mask, tail, length: literal.len(), slot }
    }

    /// Whether `rest` starts with it; `window` is the first sixteen bytes of `rest`.
    #[inline(always)]
    fn starts(&self, window: u128, rest: &[u8]) -> bool {
        (window ^ self.head) & self.mask == 0
            && (self.tail.is_empty() || rest.get(16..self.length).is_some_and(|rest| same(rest, &self.tail)))
    }
}

impl Places {
    /// The name that was seen in this place before and stands at the start of `rest` now.
    #[inline(always)]
    fn known(&mut self, place: usize, rest: &[u8]) -> Option<(usize, usize)> {
        let window = u128::from_le_bytes(*rest.first_chunk()?);
        let pair = self.names.get_mut(place)?;
        if !pair[0].starts(window, rest) {
            if !pair[1].starts(window, rest) {
                return None;
            }
            pair.swap(0, 1);
        }
        Some((pair[0].length, pair[0].slot))
    }

    /// The name at the start of `rest` among those from place `from` on, and the place behind it.
    #[inline]
    fn find(&self, from: usize, rest: &[u8]) -> Option<(&Name, usize)> {
        let window = u128::from_le_bytes(*rest.first_chunk()?);
        let later = self.names.get(from..)?;
        let step = later.iter().position(|pair| pair[0].starts(window, rest))?;
        Some((&later.get(step)?[0], from + step + 1))
    }

    fn learn(&mut self, place: usize, name: &[u8], slot: usize) {
        if name.len() > NAME_BYTES_MAX {
            return;
        }
        let name = Name::new(name, slot);
        if let Some(pair) = self.names.get_mut(place) {
            pair.swap(0, 1);
            pair[0] = name;
        } else if place == self.names.len() && place < PLACES_MAX {
            self.names.push([name.clone(), name]);
        }
    }
}

impl Scanner {
    pub(super) fn new(layout: &Layout) -> Self {
        let data = layout.tables.iter().map(|_| Places::default()).collect();
        Self { quotes: Quotes::default(), envelope: Places::default(), data }
    }

    /// Reads a row message, the first `length` bytes of `bytes`; the planned tokens go to `spans`. `None` = let the
    /// strict reader decide.
    ///
    /// What stands behind the message is looked at, so that comparing sixteen bytes is never out of reach before its
    /// end, but nothing of it counts: a message is taken only if it ends where it should.
    #[inline]
    pub(super) fn scan<'a>(
        &mut self,
        layout: &Layout,
        bytes: &'a [u8],
        length: usize,
        spans: &mut Spans,
    ) -> Option<Found<'a>> {
        self.quotes.mark(bytes, length);
        let mut cursor = Cursor { line: bytes, at: 0, quotes: &self.quotes };
        cursor.space();
        let mut fields = Fields::default();
        let envelope = &mut self.envelope;
        let mut target = Target { layout, places: &mut self.data, spans };
        cursor.members(|cursor, place| {
            let slot = cursor.name(place, envelope, envelope_slot)?;
            cursor.space();
            fields.take(slot, cursor, &mut target)
        })?;
        cursor.space();
        if cursor.at != length {
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
    fn take(&mut self, slot: usize, cursor: &mut Cursor<'a, '_>, target: &mut Target<'_>) -> Option<()> {
        if slot == UNREAD {
            return cursor.value(0);
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
        let start = cursor.at;
        cursor.value(0)?;
        let token = cursor.line.get(start..cursor.at)?;
        let span = Span::new(start, cursor.at);
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
    fn image(&mut self, is_data: bool, cursor: &mut Cursor<'a, '_>, target: &mut Target<'_>) -> Option<()> {
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
            return cursor.value(0);
        };
        let planned = layout.tables.get(table)?;
        let places = places.get_mut(table)?;
        let shape = if is_data {
            object(cursor, planned, &mut spans.data, |cursor, place| {
                cursor.name(place, places, |name| Some(planned.slot(name).unwrap_or(UNREAD)))
            })
        } else {
            // `old` has some of the columns of `data`, in the same order.
            let mut from = 0;
            object(cursor, planned, &mut spans.old, |cursor, _| {
                if let Some((name, behind)) = places.find(from, cursor.line.get(cursor.at..)?) {
                    from = behind;
                    cursor.at += name.length;
                    return Some(name.slot);
                }
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
    cursor: &mut Cursor<'a, '_>,
    planned: &TableLayout,
    spans: &mut [Span],
    mut name: impl FnMut(&mut Cursor<'a, '_>, usize) -> Option<usize>,
) -> Option<Shape> {
    debug_assert_eq!(planned.slots.len(), spans.len());
    let members = cursor.members(|cursor, place| {
        let slot = name(cursor, place)?;
        cursor.space();
        let start = cursor.at;
        cursor.value(0)?;
        if let Some(span) = spans.get_mut(slot) {
            // A name twice, or a container where a value is read: the strict reader decides.
            if !span.is_absent() || matches!(cursor.line.get(start), Some(b'{' | b'[')) {
                return None;
            }
            *span = Span::new(start, cursor.at);
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
struct Cursor<'a, 'q> {
    line: &'a [u8],
    at: usize,
    quotes: &'q Quotes,
}

impl<'a> Cursor<'a, '_> {
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
    #[inline(always)]
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
            if self.peek() != Some(b',') {
                self.space();
            }
            let next = self.peek();
            self.at += 1;
            match next {
                Some(b',') => {}
                Some(b'}') => return Some(place),
                _ => return None,
            }
        }
    }

    /// Steps over a name and its colon. Gives the name's slot, learnt or found.
    #[inline(always)]
    fn name(
        &mut self,
        place: usize,
        places: &mut Places,
        find: impl Fn(&[u8]) -> Option<usize>,
    ) -> Option<usize> {
        if let Some((length, slot)) = places.known(place, self.line.get(self.at..)?) {
            self.at += length;
            return Some(slot);
        }
        self.new_name(place, places, find)
    }

    #[cold]
    #[inline(never)]
    fn new_name(
        &mut self,
        place: usize,
        places: &mut Places,
        find: impl Fn(&[u8]) -> Option<usize>,
    ) -> Option<usize> {
        let name = self.any_name()?;
        let slot = find(name)?;
        places.learn(place, name, slot);
        Some(slot)
    }

    /// Steps over a name and its colon, white space around them too. Names with escapes or control characters are
    /// unusual.
    fn any_name(&mut self) -> Option<&'a [u8]> {
        self.space();
        let start = self.at;
        self.string()?;
        let name = text::content(self.line.get(start..self.at)?)?;
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
        self.at = self.quotes.next(self.at)? + 1;
        Some(())
    }

    /// Steps over a value.
    #[inline(always)]
    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'0'..=b'9' | b'-' => {
                self.at += number::token_len(self.line.get(self.at..)?)?;
                Some(())
            }
            _ => self.other_value(depth),
        }
    }

    fn other_value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'n' => self.literal(b"null"),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'{' | b'[' => self.container(depth),
            _ => None,
        }
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
