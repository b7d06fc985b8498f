//! Maxwell's JSON: one block of lines → changes and images.
//!
//! Two readers, one judge: `scan` projects the usual message in one forward pass, `strict` reads anything with a
//! JSON library; both end in `judge`. What `scan` takes, `strict` would have taken with the same result, or it would
//! have found malformed JSON inside a value that no rule reads.
//! Not to be seen in a message, and so on the operator: JavaScript filters that touch one image only (M31), filters by
//! column value (M32), TRUNCATE (M19), columns that changed from NULL under output_nulls=false beside others (M08).

mod ddl;
mod foreign;
mod identity;
mod judge;
mod layout;
mod marks;
mod message;
mod scan;
mod skeleton;
mod strict;
mod tokens;

use std::ops::Range;
use std::sync::Arc;

use judge::{Judge, Row, Stop};
use layout::{Layout, Spans, same};
use marks::Marks;
use message::Message;
use scan::{Found, Scanner};
use strict::{Envelope, Reading};

pub(super) use tokens::tokens;

use super::{Decoded, MESSAGE_BYTES_MAX, OF_THE_LOG, Plan, Refusal, Skip};

/// Decodes Maxwell's messages; one per worker and plan. What it learns makes it faster, never different.
#[derive(Debug)]
pub struct MaxwellDecoder {
    plan: Arc<Plan>,
    layout: Layout,
    judge: Judge,
    marks: Marks,
    spans: Spans,
    scanner: Scanner,
    strict_only: bool,
    puts_aside: bool,
}

/// What a message says of its transaction.
#[derive(Clone, Copy)]
struct Seen<'a> {
    /// Token of the gtid, else of the xid.
    transaction: Option<&'a [u8]>,
    /// It is the transaction's last row.
    commit: bool,
}

impl<'a> Seen<'a> {
    const NOTHING: Self = Self { transaction: None, commit: false };

    /// `bytes` is what the message's tokens stand in.
    fn of(message: &Message<'_>, bytes: &'a [u8]) -> Self {
        Self { transaction: message.transaction.of(bytes), commit: message.identity.commit }
    }
}

impl MaxwellDecoder {
    /// A decoder that has learnt nothing yet.
    #[must_use]
    pub fn new(plan: Arc<Plan>) -> Self {
        let layout = Layout::new(&plan);
        Self {
            plan,
            layout,
            judge: Judge::default(),
            marks: Marks::default(),
            spans: Spans::default(),
            scanner: Scanner::default(),
            strict_only: false,
            puts_aside: false,
        }
    }

    /// A decoder that never projects: the reference that the fast one is compared with.
    #[must_use]
    pub fn strict(plan: Arc<Plan>) -> Self {
        Self { strict_only: true, ..Self::new(plan) }
    }

    /// See [`super::Decoder::putting_aside`].
    #[must_use]
    pub fn putting_aside(self, on: bool) -> Self {
        Self { puts_aside: on, ..self }
    }

    /// Decodes a block of whole lines; only the last line of a partition may lack its end. `base` is the offset of the
    /// first byte in the partition. `out` is cleared first.
    pub fn decode(&mut self, block: &[u8], base: u64, out: &mut Decoded) {
        self.decode_without(block, base, &[], out);
    }

    /// As [`decode`](Self::decode), but passes over the messages at the offsets `skip` (ascending): known duplicates.
    pub fn decode_without(&mut self, block: &[u8], base: u64, skip: &[u64], out: &mut Decoded) {
        out.prepare(&self.plan);
        self.judge.reset();
        self.marks.mark(block);
        out.end = base;
        let mut transaction: Option<&[u8]> = None;
        let mut start = 0;
        while start < block.len() {
            let newline = self.marks.line_end(start);
            let (end, next) = newline.map_or((block.len(), block.len()), |at| (at, at + 1));
            let position = base + start as u64;
            let behind = base + next as u64;
            if !skip.is_empty() && skip.binary_search(&position).is_ok() {
                out.count_skip(Skip::Duplicate);
                (start, out.end) = (next, behind);
                continue;
            }
            match self.line(block, start..end, newline.is_some(), position, out) {
                Ok(seen) => {
                    if let (Some(next), Some(last)) = (seen.transaction, transaction)
                        && !same(next, last)
                    {
                        out.transaction_end = Some(position);
                    }
                    if seen.commit {
                        out.transaction_end = Some(behind);
                    }
                    transaction = seen.transaction.or(transaction);
                }
                Err(refusal) if self.puts_aside && !OF_THE_LOG.contains(&refusal.code) => {
                    out.count_skip(Skip::Refused);
                    out.aside.push(refusal);
                }
                Err(refusal) => {
                    out.refusal = Some(refusal);
                    return;
                }
            }
            (start, out.end) = (next, behind);
        }
    }

    /// Decodes the line that stands in `block` at `at`.
    fn line<'a>(
        &mut self,
        block: &'a [u8],
        at: Range<usize>,
        ended: bool,
        position: u64,
        out: &mut Decoded,
    ) -> Result<Seen<'a>, Refusal> {
        if !self.strict_only
            && at.len() <= MESSAGE_BYTES_MAX
            && let Some(Found { message, table }) =
                self.scanner.scan(&self.layout, block, at.clone(), &self.marks, &mut self.spans)
        {
            let row = Row { message: &message, table, bytes: block, spans: &self.spans, position };
            if self.judge.apply(&self.layout, row, out).is_ok() {
                return Ok(Seen::of(&message, block));
            }
        }
        // Unusual, or to be refused: the strict reader has the last word, so that refusals are the same on both ways.
        self.strict_line(block.get(at).unwrap_or(&[]), ended, position, out)
    }

    fn strict_line<'a>(
        &mut self,
        line: &'a [u8],
        ended: bool,
        position: u64,
        out: &mut Decoded,
    ) -> Result<Seen<'a>, Refusal> {
        let refusal = |code, table: String, message| Refusal { code, position, table, message };
        if line.len() > MESSAGE_BYTES_MAX {
            let message = format!(
                "the message has {} bytes, and no setting takes more than {MESSAGE_BYTES_MAX}: look whether the file has one \
                 message a line; if it has, cut large columns at the producer (exclude_columns)",
                line.len()
            );
            return Err(refusal("message-too-large", String::new(), message));
        }
        let text = strict::readable(line);
        let envelope = match Envelope::read(&text) {
            Ok(Some(envelope)) => envelope,
            Ok(None) => {
                out.count_skip(Skip::Empty);
                return Ok(Seen::NOTHING);
            }
            Err(error) => {
                let (code, message) = strict::unreadable(&error, ended);
                return Err(refusal(code, String::new(), message));
            }
        };
        let named = |stop| match stop {
            Stop::Refuse(code, message) => refusal(code, envelope.table_name(), message),
            Stop::Malformed => {
                refusal("not-json", envelope.table_name(), "a string is malformed inside".to_owned())
            }
        };
        match strict::classify(&envelope, &self.layout).map_err(named)? {
            Reading::Skip(skip) => {
                out.count_skip(skip);
                Ok(envelope.seen(line))
            }
            Reading::Row(kind) => {
                let owned = strict::Owned::read(&envelope);
                let table = self.layout.find(owned.database.as_bytes(), owned.table.as_bytes());
                let planned = table.and_then(|table| self.layout.tables.get(table));
                let message =
                    strict::message(&envelope, &owned, kind, planned, &mut self.spans).map_err(named)?;
                let row = Row { message: &message, table, bytes: line, spans: &self.spans, position };
                self.judge.apply(&self.layout, row, out).map_err(named)?;
                Ok(Seen::of(&message, line))
            }
        }
    }
}
