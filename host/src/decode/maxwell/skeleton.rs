//! Skeletons: messages of one table and kind from one producer share everything but their values: names, order,
//! punctuation. A skeleton is learnt from a message and then only compared, byte for byte, from value to value.
//!
//! A message that differs in one byte of it is read by the general scan, so skeletons make decoding faster and never
//! different.

use super::layout::{Layout, Span, Spans, TableLayout};
use super::message::{self, Kind, Shape};
use super::scan::{Cursor, Fields, Found, UNREAD, column_slot, envelope_slot, object};
use crate::decode::wide;

/// Most skeletons kept.
const KEPT_MAX: usize = 64;
/// Most forms of `old` kept for one skeleton.
const OLD_MAX: usize = 16;
/// Longest text between two values that is learnt, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// Most values of a message that is learnt.
const VALUES_MAX: usize = 2048;
/// Messages that must fit before a skeleton is learnt in the place of another: where nothing repeats, nothing is learnt.
const FITS_PER_LEARNT: u32 = 16;

/// What was learnt; a skeleton that fits moves halfway to the front.
#[derive(Debug, Default)]
pub(super) struct Skeletons {
    kept: Vec<Skeleton>,
    /// Messages that fitted since a skeleton last took another's place.
    fits: u32,
}

/// A kind of message: its fixed text, cut at its values.
#[derive(Debug)]
struct Skeleton {
    table: Option<usize>,
    kind: Kind,
    /// Fields of the envelope that it has, as bits.
    seen: u32,
    form: Form,
    /// Forms that the object `old` has had.
    old: Vec<Form>,
}

/// Values, and the text around them.
#[derive(Debug)]
struct Form {
    /// Text before the first value.
    open: Text,
    values: Vec<Value>,
}

#[derive(Debug)]
struct Value {
    take: Take,
    /// Text between this value and the next, or behind the last.
    behind: Text,
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
enum Take {
    /// Nobody reads it.
    Nothing,
    /// The value of a planned column, by slot.
    Column(usize),
    /// A field of the envelope, by its number in [`message::FIELDS`].
    Field(usize),
    /// The object `old`.
    Old,
}

/// Text to compare with, in windows of sixteen bytes. The last window comes first: texts that differ, differ there.
#[derive(Debug)]
struct Text {
    last: Window,
    /// The windows before it.
    before: Vec<Window>,
    length: usize,
}

#[derive(Debug)]
struct Window {
    /// Where it begins in the text.
    at: usize,
    bytes: [u8; 16],
    /// Ones for the bytes that count.
    mask: u32,
}

impl Window {
    fn new(at: usize, text: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        Self { at, bytes, mask: if text.len() < 16 { (1 << text.len()) - 1 } else { 0xffff } }
    }

    /// Whether `bytes` has it, for a text that begins at `start`. `false` where fewer than sixteen bytes are left.
    #[inline(always)]
    fn stands(&self, bytes: &[u8], start: usize) -> bool {
        let window = bytes.get(start + self.at..).and_then(|rest| rest.first_chunk::<16>());
        window.is_some_and(|window| wide::equal(window, &self.bytes) & self.mask == self.mask)
    }
}

impl Text {
    fn new(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let last = text.len().saturating_sub(16);
        let (before, behind) = text.split_at_checked(last)?;
        let before = before.chunks(16).enumerate().map(|(n, chunk)| Window::new(n * 16, chunk)).collect();
        Some(Self { last: Window::new(last, behind), before, length: text.len() })
    }

    /// Steps over it where it stands at the cursor.
    #[inline(always)]
    fn pass(&self, cursor: &mut Cursor<'_, '_>) -> Option<()> {
        let stands = self.last.stands(cursor.bytes, cursor.at)
            && self.before.iter().all(|window| window.stands(cursor.bytes, cursor.at));
        if !stands {
            return None;
        }
        cursor.at += self.length;
        Some(())
    }
}

impl Skeletons {
    /// Reads the message from the cursor to `end` with a skeleton that fits it; `None` where none does.
    #[inline]
    pub(super) fn read<'a>(
        &mut self,
        layout: &Layout,
        cursor: Cursor<'a, '_>,
        end: usize,
        spans: &mut Spans,
    ) -> Option<Found<'a>> {
        for at in 0..self.kept.len() {
            let skeleton = self.kept.get_mut(at)?;
            let mut cursor = cursor;
            if skeleton.form.open.pass(&mut cursor).is_none() {
                continue;
            }
            if let Some(found) = skeleton.read(layout, cursor, end, spans) {
                self.kept.swap(at, at / 2);
                self.fits = self.fits.saturating_add(1);
                return Some(found);
            }
        }
        None
    }

    /// Learns from a message that the general scan took.
    #[cold]
    pub(super) fn learn(&mut self, layout: &Layout, cursor: Cursor<'_, '_>, end: usize, found: &Found<'_>) {
        if cursor.bytes.len() < end + 16 {
            return; // perhaps known, but too near the end of the block to be compared
        }
        if self.kept.len() == KEPT_MAX {
            if self.fits < FITS_PER_LEARNT {
                return;
            }
            self.fits = 0;
            self.kept.pop();
        }
        if let Some(skeleton) = Skeleton::learn(layout, cursor, found) {
            self.kept.insert(0, skeleton);
        }
    }
}

impl Skeleton {
    /// Reads what is behind the text `open`.
    #[inline]
    fn read<'a>(
        &mut self,
        layout: &Layout,
        mut cursor: Cursor<'a, '_>,
        end: usize,
        spans: &mut Spans,
    ) -> Option<Found<'a>> {
        let planned = self.table.and_then(|table| layout.tables.get(table));
        spans.reset(planned.map_or(0, |planned| planned.slots.len()));
        let mut fields = Fields::known(self.seen, self.kind, self.table);
        for Value { take, behind } in &self.form.values {
            let start = cursor.at;
            match *take {
                Take::Nothing => cursor.value(0)?,
                Take::Column(slot) => *spans.data.get_mut(slot)? = cursor.scalar()?,
                Take::Field(slot) => {
                    cursor.value(0)?;
                    fields.set(slot, cursor.bytes.get(start..cursor.at)?, Span::new(start, cursor.at))?;
                }
                Take::Old => fields.old = Some(read_old(&mut self.old, &mut cursor, planned?, spans)?),
            }
            behind.pass(&mut cursor)?;
        }
        if cursor.at != end { None } else { fields.finish(spans) }
    }

    fn learn(layout: &Layout, mut cursor: Cursor<'_, '_>, found: &Found<'_>) -> Option<Self> {
        let planned = found.table.and_then(|table| layout.tables.get(table));
        let (mut seen, mut cut) = (0, Cut::new(cursor.at));
        cursor.space();
        cursor.members(|cursor| {
            let slot = envelope_slot(cursor.any_name()?)?;
            cursor.space();
            if slot == UNREAD {
                return cut.value(cursor, Take::Nothing);
            }
            seen |= 1 << slot;
            match slot {
                // The same in all messages that share the skeleton: part of its text.
                message::DATABASE | message::TABLE | message::TYPE => cursor.value(0),
                message::DATA => cut.columns(cursor, planned),
                message::OLD if planned.is_some() => cut.value(cursor, Take::Old),
                message::OLD => cut.value(cursor, Take::Nothing),
                _ => cut.value(cursor, Take::Field(slot)),
            }
        })?;
        let form = cut.form(&cursor)?;
        Some(Self { table: found.table, kind: found.message.kind, seen, form, old: Vec::new() })
    }
}

/// Reads the object `old`.
#[inline]
fn read_old(
    known: &mut Vec<Form>,
    cursor: &mut Cursor<'_, '_>,
    planned: &TableLayout,
    spans: &mut Spans,
) -> Option<Shape> {
    for at in 0..known.len() {
        let mut trial = *cursor;
        if known.get(at)?.read(&mut trial, &mut spans.old).is_some() {
            known.swap(at, at / 2);
            *cursor = trial;
            return Some(Shape::Object);
        }
        spans.old.fill(Span::ABSENT);
    }
    let start = *cursor;
    let shape = object(cursor, planned, &mut spans.old)?;
    if known.len() < OLD_MAX {
        known.extend(Form::learn(start, planned));
    }
    Some(shape)
}

impl Form {
    /// Reads an object of columns.
    #[inline]
    fn read(&self, cursor: &mut Cursor<'_, '_>, spans: &mut [Span]) -> Option<()> {
        self.open.pass(cursor)?;
        for Value { take, behind } in &self.values {
            match *take {
                Take::Column(slot) => *spans.get_mut(slot)? = cursor.scalar()?,
                _ => cursor.value(0)?,
            }
            behind.pass(cursor)?;
        }
        Some(())
    }

    #[cold]
    fn learn(mut cursor: Cursor<'_, '_>, planned: &TableLayout) -> Option<Self> {
        let mut cut = Cut::new(cursor.at);
        cut.columns(&mut cursor, Some(planned))?;
        cut.form(&cursor)
    }
}

/// Cuts a message that was found good into text and values.
struct Cut {
    /// Where the text before the next value starts.
    from: usize,
    texts: Vec<Text>,
    takes: Vec<Take>,
}

impl Cut {
    fn new(from: usize) -> Self {
        Self { from, texts: Vec::new(), takes: Vec::new() }
    }

    /// The value at the cursor, and the text before it.
    fn value(&mut self, cursor: &mut Cursor<'_, '_>, take: Take) -> Option<()> {
        self.text(cursor)?;
        self.takes.push(take);
        cursor.value(0)?;
        self.from = cursor.at;
        (self.takes.len() <= VALUES_MAX).then_some(())
    }

    /// The values of an object of columns, which is not empty.
    fn columns(&mut self, cursor: &mut Cursor<'_, '_>, planned: Option<&TableLayout>) -> Option<()> {
        let members = cursor.members(|cursor| {
            let slot = column_slot(planned, cursor.any_name()?);
            cursor.space();
            self.value(cursor, if slot == UNREAD { Take::Nothing } else { Take::Column(slot) })
        })?;
        (members > 0).then_some(())
    }

    fn text(&mut self, cursor: &Cursor<'_, '_>) -> Option<()> {
        self.texts.push(Text::new(cursor.bytes.get(self.from..cursor.at)?)?);
        Some(())
    }

    /// The form that ends at the cursor.
    fn form(mut self, cursor: &Cursor<'_, '_>) -> Option<Form> {
        self.text(cursor)?;
        let mut texts = self.texts.into_iter();
        let open = texts.next()?;
        let values = self.takes.into_iter().zip(texts).map(|(take, behind)| Value { take, behind }).collect();
        Some(Form { open, values })
    }
}

#[cfg(test)]
mod tests {
    use super::super::marks::Marks;
    use super::super::scan::Scanner;
    use super::*;
    use crate::decode::{ColumnType, Plan, PlannedColumn, TablePlan};
    use retag_abi::column::Physical;

    fn layout() -> Layout {
        let column_type = ColumnType { physical: Physical::I64, scale: 0 };
        let columns = ["id", "v"].map(|name| PlannedColumn { name: name.into(), column_type }).to_vec();
        Layout::new(&Plan {
            tables: vec![TablePlan { table: "shop.t".into(), columns, hidden_columns: false }],
        })
    }

    /// What the skeletons alone make of each line, and what they learn: `None` = the general scan has to read it.
    fn read(lines: &[&str]) -> Vec<Option<(String, String)>> {
        let layout = layout();
        let block = format!("{}\n{:20}", lines.join("\n"), "");
        let mut marks = Marks::default();
        marks.mark(block.as_bytes());
        let (mut scanner, mut start) = (Scanner::default(), 0);
        let mut all = Vec::new();
        for line in lines {
            let (mut spans, end) = (Spans::default(), start + line.len());
            let cursor = Cursor { bytes: block.as_bytes(), at: start, marks: &marks };
            let known = scanner.skeletons.read(&layout, cursor, end, &mut spans);
            let text = |spans: &[Span]| {
                let texts =
                    spans.iter().map(|s| s.of(block.as_bytes()).map_or("-".into(), String::from_utf8_lossy));
                texts.collect::<Vec<_>>().join(" ")
            };
            all.push(known.map(|_| (text(&spans.data), text(&spans.old))));
            let found = scanner.scan(&layout, block.as_bytes(), start..end, &marks, &mut spans);
            assert!(found.is_some(), "{line}");
            start = end + 1;
        }
        all
    }

    fn row(data: &str, behind: &str) -> String {
        format!(
            r#"{{"database":"shop","table":"t","type":"update","ts":17,"xid":5,"data":{{{data}}}{behind}}}"#
        )
    }

    #[test]
    fn text_of_any_length_is_compared_to_its_last_byte() {
        for length in 1..70 {
            let text: Vec<u8> = (0..length).map(|n| b'a' + n % 26).collect();
            let known = Text::new(&text).unwrap();
            let pass = |bytes: &[u8]| {
                let mut cursor = Cursor { bytes, at: 3, marks: &Marks::default() };
                known.pass(&mut cursor).map(|()| cursor.at)
            };
            let block = [b"{{{", &text[..], &[b'x'; 16]].concat();
            assert_eq!(pass(&block), Some(3 + text.len()), "{length}");
            for at in 3..3 + text.len() {
                let mut other = block.clone();
                other[at] ^= 1;
                assert_eq!(pass(&other), None, "{length} {at}");
            }
            for end in 0..3 + text.len() {
                assert_eq!(pass(&block[..end]), None, "{length} {end}");
            }
        }
        assert!(Text::new(&[b'a'; TEXT_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn the_second_message_of_a_kind_is_read_by_its_skeleton() {
        let lines = [
            row(r#""id":1,"x":"a","v":2"#, r#","old":{"v":1}"#),
            row(r#""id":20,"x":"\"}","v":-3"#, r#","old":{"v":null}"#),
            row(r#""id":20,"x":null,"v":0"#, r#","old":{"x":"b","v":7}"#),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let two = |data: &str, old: &str| Some((data.to_owned(), old.to_owned()));
        assert_eq!(read(&lines), [None, two("20 -3", "- null"), two("20 0", "- 7")]);
    }

    #[test]
    fn one_other_byte_is_for_the_general_scan() {
        let first = row(r#""id":1,"x":"a","v":2"#, "");
        for other in [
            row(r#""id":1,"y":"a","v":2"#, ""),
            row(r#""id":1, "x":"a","v":2"#, ""),
            row(r#""id":1,"x":"a","v":2"#, r#","more":1"#),
            row(r#""id":1,"x":"a""#, ""),
            row(r#""id":1,"x":"a","v":2,"z":3"#, ""),
            first.replace("update", "insert"),
            first.replace(r#""shop""#, r#""shap""#),
        ] {
            assert_eq!(read(&[&first, &other])[1], None, "{other}");
            assert!(read(&[&first, &other, &first])[2].is_some(), "{other}");
        }
    }
}
