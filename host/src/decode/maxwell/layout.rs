//! The plan, compiled for looking things up in messages: table by name, slot by column name.
//!
//! A slot is one column name of a table; two rules may read one name as two types, then two planned columns share it.

use crate::decode::Plan;

/// Where a value's token stands in its block or line; [`Span::ABSENT`] where the message has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) const ABSENT: Self = Self { start: u32::MAX, end: u32::MAX };

    /// Blocks are far smaller than 4 GiB, so offsets fit; one that does not counts as absent.
    #[inline]
    pub(super) fn new(start: usize, end: usize) -> Self {
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => Self { start, end },
            _ => Self::ABSENT,
        }
    }

    #[inline]
    pub(super) fn is_absent(self) -> bool {
        self.start == u32::MAX
    }

    /// The token; `None` where absent.
    #[inline]
    pub(super) fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        bytes.get(self.start as usize..self.end as usize)
    }
}

/// Tokens of the planned columns of one message, by slot.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) data: Vec<Span>,
    pub(super) old: Vec<Span>,
}

impl Spans {
    /// All absent, for a table with `slots` slots.
    #[inline]
    pub(super) fn reset(&mut self, slots: usize) {
        for spans in [&mut self.data, &mut self.old] {
            spans.clear();
            spans.resize(slots, Span::ABSENT);
        }
    }
}

/// One planned table.
#[derive(Debug)]
pub(super) struct TableLayout {
    /// `database.table`.
    pub(super) name: String,
    /// Column names; the index is the slot.
    pub(super) slots: Vec<String>,
    /// Slot of each planned column, in the plan's order.
    pub(super) columns: Vec<usize>,
    /// See `TablePlan::hidden_columns`.
    pub(super) hidden_columns: bool,
}

impl TableLayout {
    #[inline]
    pub(super) fn slot(&self, column: &[u8]) -> Option<usize> {
        self.slots.iter().position(|name| same(name.as_bytes(), column))
    }
}

/// All planned tables, in the plan's order.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) tables: Vec<TableLayout>,
}

impl Layout {
    pub(super) fn new(plan: &Plan) -> Self {
        let tables = plan.tables.iter().map(|table| {
            let mut slots: Vec<String> = Vec::new();
            let columns = table.columns.iter().map(|column| {
                slots.iter().position(|name| *name == column.name).unwrap_or_else(|| {
                    slots.push(column.name.clone());
                    slots.len() - 1
                })
            });
            let columns = columns.collect();
            TableLayout { name: table.table.clone(), slots, columns, hidden_columns: table.hidden_columns }
        });
        Self { tables: tables.collect() }
    }

    /// Index in the plan of the table `database.table`.
    #[inline]
    pub(super) fn find(&self, database: &[u8], table: &[u8]) -> Option<usize> {
        self.tables.iter().position(|layout| {
            let name = layout.name.as_bytes();
            match name.split_at_checked(database.len()) {
                Some((first, [b'.', rest @ ..])) => same(rest, table) && same(first, database),
                _ => false,
            }
        })
    }
}

/// Whether two names are equal. Names are short: comparing words in place beats a call of `memcmp`.
#[inline]
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let word = u64::from_ne_bytes;
    let (Some(a_tail), Some(b_tail)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) else {
        return a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0;
    };
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    words.fold(word(*a_tail) ^ word(*b_tail), |differ, (a, b)| differ | (word(*a) ^ word(*b))) == 0
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn names_are_the_same_only_if_all_bytes_are() {
        for length in 0..40 {
            let name = vec![b'n'; length];
            assert!(same(&name, &name.clone()));
            assert!(!same(&name, &[name.as_slice(), b"n"].concat()));
            for at in 0..length {
                let mut other = name.clone();
                other[at] = b'm';
                assert!(!same(&name, &other), "{length} {at}");
            }
        }
    }
}
