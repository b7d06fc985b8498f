//! A row message → its change and images, or a named refusal: the one place where Maxwell's rows get their meaning.
//! Both scanners end here, so that they differ in reading only.

use super::identity::{self, LogCursor, RawId};
use super::layout::{Layout, Span, Spans, TableLayout};
use super::message::{Kind, Message, Shape};
use crate::decode::text::Malformed;
use crate::decode::{Change, Decoded, IdForm, ImageBatch, Side, value};

/// Why a message is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A named refusal: code and what to do.
    Refuse(&'static str, String),
    /// A string that is no JSON inside; only the strict reader can say what is wrong.
    Malformed,
}

impl From<Malformed> for Stop {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

pub(super) fn refuse<T>(code: &'static str, message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Refuse(code, message.into()))
}

/// Adds changes to a block.
#[derive(Debug, Default)]
pub(super) struct Judge {
    logs: LogCursor,
    scratch: Vec<u8>,
}

/// A message with the place of its table in the plan and its planned tokens.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) message: &'a Message<'a>,
    pub(super) table: Option<usize>,
    /// What the spans are places in.
    pub(super) bytes: &'a [u8],
    pub(super) spans: &'a Spans,
    /// Offset in the partition.
    pub(super) position: u64,
}

impl Judge {
    /// Begins a block.
    pub(super) fn reset(&mut self) {
        self.logs.reset();
    }

    /// Adds the row's change and images to `out`; adds nothing where it stops.
    #[inline]
    pub(super) fn apply(&mut self, layout: &Layout, row: Row<'_>, out: &mut Decoded) -> Result<(), Stop> {
        let Some(ts) = row.message.ts else {
            return refuse(
                "missing-ts",
                "the row has no whole number in `ts`; Maxwell always writes one: find out what rewrites its messages",
            );
        };
        let id = identity::read(&row.message.identity);
        let form = check_form(id.as_ref(), out.form)?;
        if let Some(table) = row.table
            && let (Some(batch), Some(layout)) = (out.batches.get_mut(table), layout.tables.get(table))
        {
            let rows = batch.rows();
            let change = u32::try_from(out.changes.len()).unwrap_or(u32::MAX);
            self.images(layout, row, change, batch).inspect_err(|_| batch.truncate(rows))?;
        }
        out.form = Some(form);
        let id = id.map(|id| self.logs.intern(&id, &mut out.logs));
        let table = row.table.and_then(|table| u32::try_from(table).ok());
        out.changes.push(Change { position: row.position, id, table, ts });
        Ok(())
    }

    fn images(
        &mut self,
        layout: &TableLayout,
        row: Row<'_>,
        change: u32,
        batch: &mut ImageBatch,
    ) -> Result<(), Stop> {
        if !matches!(row.message.data, Shape::Object | Shape::Empty) {
            return refuse(
                "not-a-change",
                "the row has no object `data`; check what writes this topic or file",
            );
        }
        let side = match row.message.kind {
            Kind::Insert => Side::After,
            Kind::Delete if row.message.key_only => {
                return refuse(
                    "incomplete-image",
                    "the delete carries its key columns only (binlog_row_image=MINIMAL), so the row that left is \
                     unknown; set binlog_row_image=FULL on the server and in all sessions, and rebuild",
                );
            }
            Kind::Delete => Side::Before,
            Kind::Update => return self.update(layout, row, change, batch),
        };
        for (column, slot) in batch.columns.iter_mut().zip(&layout.columns) {
            self.push(token(&row.spans.data, *slot, row.bytes), column)?;
        }
        batch.sides.push(side);
        batch.changes.push(change);
        Ok(())
    }

    fn update(
        &mut self,
        layout: &TableLayout,
        row: Row<'_>,
        change: u32,
        batch: &mut ImageBatch,
    ) -> Result<(), Stop> {
        check_old(layout, row)?;
        if row.spans.old.iter().all(|span| span.is_absent()) {
            return Ok(());
        }
        let mut equal = true;
        for (column, slot) in batch.columns.iter_mut().zip(&layout.columns) {
            self.push(token(&row.spans.data, *slot, row.bytes), column)?;
            match token(&row.spans.old, *slot, row.bytes) {
                None => column.push_copy_of_last(),
                old => {
                    self.push(old, column)?;
                    equal &= column.last_two_equal();
                }
            }
        }
        if equal {
            batch.truncate(batch.rows());
            return Ok(());
        }
        batch.sides.extend([Side::After, Side::Before]);
        batch.changes.extend([change, change]);
        Ok(())
    }

    #[inline]
    fn push(
        &mut self,
        token: Option<&[u8]>,
        column: &mut crate::decode::ColumnBuffer,
    ) -> Result<(), Malformed> {
        match token {
            Some(token) => value::push(token, column, &mut self.scratch),
            None => {
                column.push_empty(crate::decode::Fit::Absent);
                Ok(())
            }
        }
    }
}

#[inline]
fn token<'a>(spans: &[Span], slot: usize, bytes: &'a [u8]) -> Option<&'a [u8]> {
    spans.get(slot).and_then(|span| span.of(bytes))
}

/// The form that the block has with this id; a form never changes within a producer (design section 7).
#[inline]
fn check_form(id: Option<&RawId<'_>>, known: Option<IdForm>) -> Result<IdForm, Stop> {
    let form = id.map_or(IdForm::None, |id| id.form);
    match known {
        Some(IdForm::Gtid | IdForm::Position) if form == IdForm::None => refuse(
            "missing-id",
            "the change has no id though others of this source have one, so a re-send of it could not be told apart; \
             set output_xoffset, output_commit_info and output_gtid_position (or output_binlog_position and \
             output_server_id), and bootstrapper=none or sync",
        ),
        Some(known) if known != form => refuse(
            "id-form-changed",
            format!(
                "ids of this source were {} and are now {}; a change already counted could not be told apart: go on \
                 with the old settings of Maxwell, or rebuild from the whole history",
                form_name(known),
                form_name(form)
            ),
        ),
        _ => Ok(form),
    }
}

/// An id form in words.
fn form_name(form: IdForm) -> &'static str {
    match form {
        IdForm::Gtid => "gtid + row",
        IdForm::Position => "server + binlog position + row",
        IdForm::None => "absent",
    }
}

/// The before image of an update must be known exactly (M05–M09).
#[inline]
fn check_old(layout: &TableLayout, row: Row<'_>) -> Result<(), Stop> {
    match row.message.old {
        Shape::Object => {
            let mut pairs = layout.slots.iter().zip(row.spans.old.iter().zip(&row.spans.data));
            match pairs.find(|(_, (old, data))| !old.is_absent() && data.is_absent()) {
                Some((column, _)) => refuse(
                    "key-only-in-old",
                    format!(
                        "column `{column}` stands in `old` and not in `data`: output_nulls=false leaves NULLs out, \
                         and then changes from NULL cannot be seen at all; set output_nulls=true and rebuild"
                    ),
                ),
                None => Ok(()),
            }
        }
        Shape::Empty => refuse(
            "empty-old",
            "the update has `old: {}`: output_nulls=false hides changes from NULL, so the row before is unknown; \
             set output_nulls=true and rebuild",
        ),
        Shape::Other => refuse("not-a-change", "`old` is no object; check what writes this topic or file"),
        Shape::Missing => {
            let absent = layout.slots.iter().zip(&row.spans.data).find(|(_, span)| span.is_absent());
            match absent {
                Some((column, _)) => refuse(
                    "update-without-old",
                    format!(
                        "the update has no `old`, and `data` lacks column `{column}`: binlog_row_image=MINIMAL, the \
                         row before is unknown; set binlog_row_image=FULL on the server and in all sessions, \
                         and rebuild"
                    ),
                ),
                None if layout.hidden_columns => Ok(()),
                None => refuse(
                    "update-without-old",
                    "the update has no `old` though `data` is whole: either only columns that exclude_columns hides \
                     were changed (then list the table in `hidden_columns` of the source), or the row before is \
                     unknown",
                ),
            }
        }
    }
}
