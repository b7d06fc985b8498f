//! Row images as typed column buffers, in the layout that rules read (ABI.md): what `decode` gives to `rule`.
//!
//! One [`ImageBatch`] holds images of one table, only the columns that live rules read. A row is one image (before or
//! after) of one change. A value that does not fit its column type is kept as a [`Fit`] that says why, so that each
//! rule can decide: NULL and ABSENT fit where the rule takes them, everything else quarantines the image for it.

use retag_abi::column::Physical;

/// Type of a planned column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ColumnType {
    /// Layout of the values.
    pub physical: Physical,
    /// Digits after the point of a decimal; 0 for all other types.
    pub scale: u8,
}

/// One column of a table's plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlannedColumn {
    /// Name in the messages.
    pub name: String,
    /// Type that a rule declares for it. Two rules may declare two types: then there are two planned columns.
    pub column_type: ColumnType,
}

/// The columns of one table that live rules read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// `database.table`.
    pub table: String,
    /// Without repetition.
    pub columns: Vec<PlannedColumn>,
    /// The source lists the table in `hidden_columns`: an update without `old` changed only columns that the producer
    /// hides (M05), so both images are equal.
    pub hidden_columns: bool,
}

/// How a value fits its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fit {
    /// The value is in the buffer.
    Value = 0,
    /// SQL NULL (a zero date reads as NULL).
    Null = 1,
    /// The message does not carry the column.
    Absent = 2,
    /// A number outside the type's range, or with too many digits.
    OutOfRange = 3,
    /// More decimals than the scale, and the surplus is not zero.
    TooManyDecimals = 4,
    /// Text that is not UTF-8, or bytes that are not base64.
    BadEncoding = 5,
    /// A JSON value of another shape (text where a number is expected, an object, …).
    WrongShape = 6,
}

/// Values of one column, one entry per row whatever its [`Fit`] (0 or empty where there is no value).
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// One byte per row, 0 or 1 (packed to bits when a batch is written for a rule).
    Bool(Vec<u8>),
    /// I64, Decimal (value × 10^scale), Timestamp (µs).
    I64(Vec<i64>),
    /// U64.
    U64(Vec<u64>),
    /// `WideDecimal`.
    I128(Vec<i128>),
    /// Date (days).
    I32(Vec<i32>),
    /// Bytes and Text: `ends[row]` is the end of the row's bytes in `heap`, its start is the end of the row before.
    Heap {
        /// Ends of the rows' bytes.
        ends: Vec<u32>,
        /// All rows' bytes.
        heap: Vec<u8>,
    },
}

/// One column of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnBuffer {
    /// Its type.
    pub column_type: ColumnType,
    /// Its values.
    pub values: Values,
    /// How each row's value fits.
    pub fits: Vec<Fit>,
}

/// Which image of a change a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The row before the change.
    Before,
    /// The row after the change.
    After,
}

/// Images of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBatch {
    /// Index of the table in the plan.
    pub table: usize,
    /// One buffer per planned column.
    pub columns: Vec<ColumnBuffer>,
    /// Which image each row is.
    pub sides: Vec<Side>,
    /// Index of each row's change in the decoded block's list of changes.
    pub changes: Vec<u32>,
}

/// End of a heap as an offset. Blocks are far smaller than 4 GiB, so this never saturates.
#[inline]
pub(super) fn end_of(heap: &[u8]) -> u32 {
    u32::try_from(heap.len()).unwrap_or(u32::MAX)
}

impl ColumnBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new(column_type: ColumnType) -> Self {
        let values = match column_type.physical {
            Physical::Bool => Values::Bool(Vec::new()),
            Physical::I64 | Physical::Decimal | Physical::Timestamp => Values::I64(Vec::new()),
            Physical::U64 => Values::U64(Vec::new()),
            Physical::WideDecimal => Values::I128(Vec::new()),
            Physical::Date => Values::I32(Vec::new()),
            Physical::Bytes | Physical::Text => Values::Heap { ends: Vec::new(), heap: Vec::new() },
        };
        Self { column_type, values, fits: Vec::new() }
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.fits.clear();
        match &mut self.values {
            Values::Bool(v) => v.clear(),
            Values::I64(v) => v.clear(),
            Values::U64(v) => v.clear(),
            Values::I128(v) => v.clear(),
            Values::I32(v) => v.clear(),
            Values::Heap { ends, heap } => {
                ends.clear();
                heap.clear();
            }
        }
    }

    /// Adds a row without a value.
    #[inline]
    pub fn push_empty(&mut self, fit: Fit) {
        self.fits.push(fit);
        match &mut self.values {
            Values::Bool(v) => v.push(0),
            Values::I64(v) => v.push(0),
            Values::U64(v) => v.push(0),
            Values::I128(v) => v.push(0),
            Values::I32(v) => v.push(0),
            Values::Heap { ends, heap } => ends.push(end_of(heap)),
        }
    }

    /// Adds the row added last once more; NULL in an empty buffer.
    #[inline]
    pub fn push_copy_of_last(&mut self) {
        self.fits.push(self.fits.last().copied().unwrap_or(Fit::Null));
        match &mut self.values {
            Values::Bool(v) => v.push(v.last().copied().unwrap_or(0)),
            Values::I64(v) => v.push(v.last().copied().unwrap_or(0)),
            Values::U64(v) => v.push(v.last().copied().unwrap_or(0)),
            Values::I128(v) => v.push(v.last().copied().unwrap_or(0)),
            Values::I32(v) => v.push(v.last().copied().unwrap_or(0)),
            Values::Heap { ends, heap } => {
                let start = if ends.len() < 2 { 0 } else { ends.get(ends.len() - 2).copied().unwrap_or(0) };
                let start = (start as usize).min(heap.len());
                heap.extend_from_within(start..);
                ends.push(end_of(heap));
            }
        }
    }

    /// Whether the two rows added last are equal, in value and in fit.
    #[must_use]
    #[inline]
    pub fn last_two_equal(&self) -> bool {
        fn same<T: PartialEq>(values: &[T]) -> bool {
            matches!(values, [.., a, b] if a == b)
        }
        same(&self.fits)
            && match &self.values {
                Values::Bool(v) => same(v),
                Values::I64(v) => same(v),
                Values::U64(v) => same(v),
                Values::I128(v) => same(v),
                Values::I32(v) => same(v),
                Values::Heap { ends, .. } => {
                    ends.len() >= 2 && self.heap_row(ends.len() - 1) == self.heap_row(ends.len() - 2)
                }
            }
    }

    /// Drops all rows from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        self.fits.truncate(rows);
        match &mut self.values {
            Values::Bool(v) => v.truncate(rows),
            Values::I64(v) => v.truncate(rows),
            Values::U64(v) => v.truncate(rows),
            Values::I128(v) => v.truncate(rows),
            Values::I32(v) => v.truncate(rows),
            Values::Heap { ends, heap } => {
                ends.truncate(rows);
                heap.truncate(ends.last().map_or(0, |end| *end as usize));
            }
        }
    }

    /// Bytes of row `row` of a heap column; empty for other columns and past the end.
    #[must_use]
    pub fn heap_row(&self, row: usize) -> &[u8] {
        let Values::Heap { ends, heap } = &self.values else { return &[] };
        let start = if row == 0 { 0 } else { ends.get(row - 1).copied().unwrap_or(0) };
        let end = ends.get(row).copied().unwrap_or(start);
        heap.get(start as usize..end as usize).unwrap_or(&[])
    }
}

impl ImageBatch {
    /// An empty batch for table `table` of the plan.
    #[must_use]
    pub fn new(table: usize, plan: &TablePlan) -> Self {
        let columns = plan.columns.iter().map(|c| ColumnBuffer::new(c.column_type)).collect();
        Self { table, columns, sides: Vec::new(), changes: Vec::new() }
    }

    /// Number of images.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.sides.len()
    }

    /// Drops all images from `rows` on, half-written columns too.
    pub fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
        self.sides.truncate(rows);
        self.changes.truncate(rows);
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.columns.iter_mut().for_each(ColumnBuffer::clear);
        self.sides.clear();
        self.changes.clear();
    }
}
