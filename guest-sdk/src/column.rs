//! Column types: how each stands in the manifest, is opened once per batch and read per row. A new type is one more
//! `impl` here. `Option` takes NULL, `Absentable` takes ABSENT; without them the host never hands such a row over.

use retag_abi::column::Physical;

use crate::batch::{Batch, Bits, Fixed, Heap, malformed};
#[cfg(not(target_family = "wasm"))]
use crate::testing::Cell;
use crate::{Date, Decimal, Timestamp, ValueType, WideDecimal};

/// A type that a field of a row may have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a column type",
    label = "not a column type",
    note = "columns are bool, i64, u64, Decimal<S>, WideDecimal<S>, &str, &[u8], Timestamp or Date; \
            Option<T> takes NULL, Absentable<T> takes a column that the message does not carry"
)]
pub trait Column<'a>: Sized {
    /// Its type in the manifest.
    const TYPE: ValueType;
    /// NULL is taken.
    const NULLABLE: bool = false;
    /// ABSENT is taken.
    const ABSENTABLE: bool = false;
    /// The column's buffers.
    type Open: Copy;
    /// Finds the buffers of column `index`.
    fn open(batch: &Batch<'a>, index: usize) -> Self::Open;
    /// The value of `row`.
    fn get(open: &Self::Open, row: usize) -> Self;
    /// The value as the test harness stores it.
    #[cfg(not(target_family = "wasm"))]
    fn cell(&self) -> Cell;
}

/// A column of fixed length: type, layout, length on the wire, bytes → value, value → cell.
macro_rules! fixed {
    ([$($generics:tt)*] $type:ty, $value_type:expr, $len:literal, |$bytes:ident| $value:expr, |$this:ident| $cell:expr) => {
        impl<'a, $($generics)*> Column<'a> for $type {
            const TYPE: ValueType = $value_type;
            type Open = Fixed<'a, $len>;
            fn open(batch: &Batch<'a>, index: usize) -> Self::Open {
                batch.fixed(index, Self::TYPE.physical)
            }
            #[inline]
            fn get(open: &Self::Open, row: usize) -> Self {
                let $bytes = open.at(row);
                $value
            }
            #[cfg(not(target_family = "wasm"))]
            fn cell(&self) -> Cell {
                let $this = *self;
                Cell::Number($cell)
            }
        }
        impl<$($generics)*> Plain for $type {}
    };
}

fixed!([] i64, ValueType::of(Physical::I64), 8, |b| i64::from_le_bytes(b), |v| v.into());
fixed!([] u64, ValueType::of(Physical::U64), 8, |b| u64::from_le_bytes(b), |v| v.into());
fixed!([] Timestamp, ValueType::of(Physical::Timestamp), 8,
    |b| Timestamp::from_micros(i64::from_le_bytes(b)), |v| v.micros().into());
fixed!([] Date, ValueType::of(Physical::Date), 4,
    |b| Date::from_days(i32::from_le_bytes(b)), |v| v.days().into());
fixed!([const S: u8] Decimal<S>, ValueType::decimal(S), 8,
    |b| Decimal::from_units(i64::from_le_bytes(b) as i128), |v| v.units());
fixed!([const S: u8] WideDecimal<S>, ValueType::wide(S), 16,
    |b| Decimal::from_units(i128::from_le_bytes(b)).into(), |v| v.value().units());

impl<'a> Column<'a> for bool {
    const TYPE: ValueType = ValueType::of(Physical::Bool);
    type Open = Bits<'a>;
    fn open(batch: &Batch<'a>, index: usize) -> Self::Open {
        batch.bits(index)
    }
    #[inline]
    fn get(open: &Self::Open, row: usize) -> Self {
        open.at(row)
    }
    #[cfg(not(target_family = "wasm"))]
    fn cell(&self) -> Cell {
        Cell::Number(i128::from(*self))
    }
}
impl Plain for bool {}

impl<'a> Column<'a> for &'a [u8] {
    const TYPE: ValueType = ValueType::of(Physical::Bytes);
    type Open = Heap<'a>;
    fn open(batch: &Batch<'a>, index: usize) -> Self::Open {
        batch.heap(index, Physical::Bytes)
    }
    #[inline]
    fn get(open: &Self::Open, row: usize) -> Self {
        open.bytes.get(open.range(row)).unwrap_or_else(|| malformed("offsets"))
    }
    #[cfg(not(target_family = "wasm"))]
    fn cell(&self) -> Cell {
        Cell::Bytes((*self).into())
    }
}
impl Plain for &[u8] {}

impl<'a> Column<'a> for &'a str {
    const TYPE: ValueType = ValueType::of(Physical::Text);
    // The heap is checked once as a whole; a row then only has to fall on character boundaries.
    type Open = (Heap<'a>, &'a str);
    fn open(batch: &Batch<'a>, index: usize) -> Self::Open {
        let heap = batch.heap(index, Physical::Text);
        let text = core::str::from_utf8(heap.bytes).unwrap_or_else(|_| malformed("text that is not UTF-8"));
        (heap, text)
    }
    #[inline]
    fn get((heap, text): &Self::Open, row: usize) -> Self {
        text.get(heap.range(row)).unwrap_or_else(|| malformed("offsets"))
    }
    #[cfg(not(target_family = "wasm"))]
    fn cell(&self) -> Cell {
        Cell::Bytes(self.as_bytes().into())
    }
}
impl Plain for &str {}

/// A column that is neither `Option` nor `Absentable`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand inside Option",
    note = "a column that may be NULL and may be missing is Absentable<Option<T>>"
)]
pub trait Plain {}

impl<'a, T: Column<'a> + Plain> Column<'a> for Option<T> {
    const TYPE: ValueType = T::TYPE;
    const NULLABLE: bool = true;
    type Open = (T::Open, Option<Bits<'a>>);
    fn open(batch: &Batch<'a>, index: usize) -> Self::Open {
        (T::open(batch, index), batch.validity(index, T::TYPE.physical))
    }
    #[inline]
    fn get((values, validity): &Self::Open, row: usize) -> Self {
        validity.is_none_or(|bits| bits.at(row)).then(|| T::get(values, row))
    }
    #[cfg(not(target_family = "wasm"))]
    fn cell(&self) -> Cell {
        self.as_ref().map_or(Cell::Null, T::cell)
    }
}

/// A column that a message may not carry: ABSENT is not NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Absentable<T> {
    /// The message does not carry the column.
    Absent,
    /// It does.
    Present(T),
}

impl<T> Absentable<T> {
    /// The value, if the message carried it.
    pub fn present(self) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Present(value) => Some(value),
        }
    }
}

/// A column that is not itself `Absentable`.
#[diagnostic::on_unimplemented(message = "`{Self}` cannot stand inside Absentable")]
pub trait Carried {}
impl<T: Plain> Carried for T {}
impl<T: Plain> Carried for Option<T> {}

impl<'a, T: Column<'a> + Carried> Column<'a> for Absentable<T> {
    const TYPE: ValueType = T::TYPE;
    const NULLABLE: bool = T::NULLABLE;
    const ABSENTABLE: bool = true;
    type Open = (T::Open, Option<Bits<'a>>);
    fn open(batch: &Batch<'a>, index: usize) -> Self::Open {
        (T::open(batch, index), batch.absent(index, T::TYPE.physical))
    }
    #[inline]
    fn get((values, absent): &Self::Open, row: usize) -> Self {
        match absent {
            Some(bits) if bits.at(row) => Self::Absent,
            _ => Self::Present(T::get(values, row)),
        }
    }
    #[cfg(not(target_family = "wasm"))]
    fn cell(&self) -> Cell {
        match self {
            Self::Absent => Cell::Absent,
            Self::Present(value) => value.cell(),
        }
    }
}

/// A column that may be the key of a row: an image whose key is NULL contributes nothing to it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "not a key type",
    note = "keys are u64, i64, &str or &[u8], or an Option of one of them"
)]
pub trait KeyColumn {}
impl KeyColumn for u64 {}
impl KeyColumn for i64 {}
impl KeyColumn for &str {}
impl KeyColumn for &[u8] {}
impl<T: KeyColumn + Plain> KeyColumn for Option<T> {}

/// A key that `map` computes: a number's bits, or bytes.
#[derive(Clone, Copy, Debug)]
pub enum Key<'k> {
    /// An integer key.
    Bits(u64),
    /// A text or bytes key.
    Bytes(&'k [u8]),
}

/// The key type with a tag: what `add.at(…)` takes in a rule whose rows have such a key.
pub struct KeyTag<const PHYSICAL: u8>;

/// Key type of a [`KeyTag`].
pub trait KeyKind {
    /// The type in Rust.
    type Key<'k>: Into<Key<'k>>;
}

macro_rules! key {
    ($physical:ident, $type:ty, |$key:ident| $value:expr) => {
        impl KeyKind for KeyTag<{ Physical::$physical as u8 }> {
            type Key<'k> = $type;
        }
        impl<'k> From<$type> for Key<'k> {
            #[inline]
            fn from($key: $type) -> Self {
                $value
            }
        }
    };
}

key!(U64, u64, |key| Key::Bits(key));
key!(I64, i64, |key| Key::Bits(key.cast_unsigned()));
key!(Text, &'k str, |key| Key::Bytes(key.as_bytes()));
key!(Bytes, &'k [u8], |key| Key::Bytes(key));

// Other types are refused by `KeyColumn`, at the column; these keep that the only message.
macro_rules! no_key {
    ($($physical:ident)*) => {
        $(impl KeyKind for KeyTag<{ Physical::$physical as u8 }> {
            type Key<'k> = core::convert::Infallible;
        })*
    };
}

no_key!(Bool Decimal WideDecimal Timestamp Date);

impl From<core::convert::Infallible> for Key<'_> {
    fn from(key: core::convert::Infallible) -> Self {
        match key {}
    }
}
