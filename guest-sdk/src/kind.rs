//! Aggregate kinds as a rule sees them: a manifest entry, a write handle for `map`, a reading for `label`. The host
//! alone does arithmetic; a new kind is one more `impl Kind` here.

use core::marker::PhantomData;

use retag_abi::column::Physical;

use crate::{Column, Date, Decimal, Timestamp, To, ValueType, WideDecimal};

/// A kind of aggregate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    label = "not an aggregate",
    note = "aggregates are Any, Count, Sum<T>, Min<T>, Max<T> and Distinct<T>"
)]
pub trait Kind {
    /// Its name in the manifest.
    const NAME: &'static str;
    /// Type of the contributed value.
    const VALUE: Option<ValueType>;
    /// Column in which the host hands its readings over.
    type Column: for<'a> Column<'a>;
    /// What `label` reads.
    type Read;
    /// What `map` writes to.
    type Add<'a>;
    /// The handle of aggregate `id`.
    fn handle(to: To<'_>, id: u16) -> Self::Add<'_>;
    /// A reading.
    fn read(column: Self::Column) -> Self::Read;
}

/// An aggregate of a rule, for the test harness.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Type of the contributed value.
    pub value: Option<ValueType>,
    /// Type of the reading.
    pub reading: ValueType,
}

/// The write handle of one aggregate of kind `K`.
pub struct Add1<'a, K: ?Sized> {
    to: To<'a>,
    id: u16,
    kind: PhantomData<K>,
}

impl<K: ?Sized> core::fmt::Debug for Add1<'_, K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "aggregate {}", self.id)
    }
}

macro_rules! handle {
    () => {
        type Add<'a> = Add1<'a, Self>;
        #[inline]
        fn handle(to: To<'_>, id: u16) -> Self::Add<'_> {
            Add1 { to, id, kind: PhantomData }
        }
    };
}

/// Whether anything contributed: reads `bool`.
#[derive(Debug)]
pub struct Any;

impl Kind for Any {
    const NAME: &'static str = "any";
    const VALUE: Option<ValueType> = None;
    type Column = bool;
    type Read = bool;
    handle!();
    #[inline]
    fn read(column: bool) -> bool {
        column
    }
}

impl Add1<'_, Any> {
    /// This image is a reason.
    #[inline]
    pub fn yes(&self) {
        self.to.push(self.id, 1);
    }
}

/// How many: reads `i64`.
#[derive(Debug)]
pub struct Count;

impl Kind for Count {
    const NAME: &'static str = "count";
    const VALUE: Option<ValueType> = None;
    type Column = i64;
    type Read = i64;
    handle!();
    #[inline]
    fn read(column: i64) -> i64 {
        column
    }
}

impl Add1<'_, Count> {
    /// This image counts once.
    #[inline]
    pub fn one(&self) {
        self.to.push(self.id, 1);
    }

    /// This image counts `n` times.
    #[inline]
    pub fn add(&self, n: u32) {
        self.to.push(self.id, i64::from(n));
    }
}

/// A value that `map` can contribute.
pub trait Contributed {
    /// Its type.
    const TYPE: ValueType;
    /// Contributes it to aggregate `id`.
    fn push(self, to: To<'_>, id: u16);
}

macro_rules! contributed {
    ([$($generics:tt)*] $type:ty, $value_type:expr, |$this:ident| $value:expr) => {
        impl<$($generics)*> Contributed for $type {
            const TYPE: ValueType = $value_type;
            #[inline]
            fn push(self, to: To<'_>, id: u16) {
                let $this = self;
                to.push(id, $value);
            }
        }
    };
}

contributed!([] i64, ValueType::of(Physical::I64), |v| v);
contributed!([] u64, ValueType::of(Physical::U64), |v| v.cast_signed());
contributed!([] Timestamp, ValueType::of(Physical::Timestamp), |v| v.micros());
contributed!([] Date, ValueType::of(Physical::Date), |v| i64::from(v.days()));
contributed!([const S: u8] Decimal<S>, ValueType::decimal(S), |v| narrow(v.units()));

#[inline]
fn narrow(units: i128) -> i64 {
    match i64::try_from(units) {
        Ok(units) => units,
        Err(_) => too_wide(),
    }
}

#[cold]
#[inline(never)]
#[allow(clippy::panic)] // the image is refused with this message
fn too_wide() -> ! {
    panic!("a Decimal beyond 18 digits: declare the aggregate with WideDecimal")
}

impl<const S: u8> Contributed for WideDecimal<S> {
    const TYPE: ValueType = ValueType::wide(S);
    fn push(self, to: To<'_>, id: u16) {
        to.push_bytes(id, &self.value().units().to_le_bytes());
    }
}

impl Contributed for &str {
    const TYPE: ValueType = ValueType::of(Physical::Text);
    fn push(self, to: To<'_>, id: u16) {
        to.push_bytes(id, self.as_bytes());
    }
}

impl Contributed for &[u8] {
    const TYPE: ValueType = ValueType::of(Physical::Bytes);
    fn push(self, to: To<'_>, id: u16) {
        to.push_bytes(id, self);
    }
}

/// A type that can be summed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be summed",
    note = "sums are of i64, u64, Decimal<S> or WideDecimal<S>; a float never enters a sum"
)]
pub trait Summand: Contributed {
    /// The sum in Rust.
    type Total;
    /// The sum on the wire.
    type Column: for<'a> Column<'a>;
    /// The sum.
    fn total(column: Self::Column) -> Self::Total;
}

impl Summand for i64 {
    type Total = i128;
    type Column = WideDecimal<0>;
    #[inline]
    fn total(column: WideDecimal<0>) -> i128 {
        column.value().units()
    }
}

impl Summand for u64 {
    type Total = i128;
    type Column = WideDecimal<0>;
    #[inline]
    fn total(column: WideDecimal<0>) -> i128 {
        column.value().units()
    }
}

impl<const S: u8> Summand for Decimal<S> {
    type Total = Decimal<S>;
    type Column = WideDecimal<S>;
    #[inline]
    fn total(column: WideDecimal<S>) -> Decimal<S> {
        column.value()
    }
}

impl<const S: u8> Summand for WideDecimal<S> {
    type Total = Decimal<S>;
    type Column = WideDecimal<S>;
    #[inline]
    fn total(column: WideDecimal<S>) -> Decimal<S> {
        column.value()
    }
}

/// A sum: reads `i128` for integers, `Decimal<S>` for decimals.
#[derive(Debug)]
pub struct Sum<T>(PhantomData<T>);

impl<T: Summand> Kind for Sum<T> {
    const NAME: &'static str = "sum";
    const VALUE: Option<ValueType> = Some(T::TYPE);
    type Column = T::Column;
    type Read = T::Total;
    type Add<'a> = Add1<'a, Sum<T>>;
    #[inline]
    fn handle(to: To<'_>, id: u16) -> Self::Add<'_> {
        Add1 { to, id, kind: PhantomData }
    }
    #[inline]
    fn read(column: T::Column) -> T::Total {
        T::total(column)
    }
}

impl<T: Summand> Add1<'_, Sum<T>> {
    /// Adds `value` to the sum.
    #[inline]
    pub fn add(&self, value: T) {
        value.push(self.to, self.id);
    }
}

/// A type with a least and a greatest value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no Min or Max",
    note = "Min and Max are of i64, u64, Decimal<S>, Timestamp or Date"
)]
pub trait Ordered: Contributed + for<'a> Column<'a> + crate::column::Plain {}
impl Ordered for i64 {}
impl Ordered for u64 {}
impl Ordered for Timestamp {}
impl Ordered for Date {}
impl<const S: u8> Ordered for Decimal<S> {}

macro_rules! extreme {
    ($kind:ident, $name:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug)]
        pub struct $kind<T>(PhantomData<T>);

        impl<T: Ordered> Kind for $kind<T> {
            const NAME: &'static str = $name;
            const VALUE: Option<ValueType> = Some(<T as Contributed>::TYPE);
            type Column = Option<T>;
            type Read = Option<T>;
            handle!();
            #[inline]
            fn read(column: Option<T>) -> Option<T> {
                column
            }
        }

        impl<T: Ordered> Add1<'_, $kind<T>> {
            /// Puts `value` into the set.
            #[inline]
            pub fn insert(&self, value: T) {
                value.push(self.to, self.id);
            }
        }
    };
}

extreme!(Min, "min", "The least value: reads `Option<T>`.");
extreme!(Max, "max", "The greatest value: reads `Option<T>`.");

/// A type whose distinct values can be counted.
#[diagnostic::on_unimplemented(
    message = "distinct values of `{Self}` cannot be counted",
    note = "Distinct is of i64, u64, Decimal<S>, Timestamp, Date, str or [u8]"
)]
pub trait Entry {
    /// What `insert` takes.
    type Given<'g>: Contributed;
}

macro_rules! entry {
    ($([$($generics:tt)*] $type:ty => $given:ty),* $(,)?) => {
        $(impl<$($generics)*> Entry for $type {
            type Given<'g> = $given;
        })*
    };
}

entry!(
    [] i64 => i64,
    [] u64 => u64,
    [] Timestamp => Timestamp,
    [] Date => Date,
    [const S: u8] Decimal<S> => Decimal<S>,
    [] str => &'g str,
    [] [u8] => &'g [u8],
    [] &'static str => &'g str,
    [] &'static [u8] => &'g [u8],
);

/// How many distinct values: reads `u64`, exact.
#[derive(Debug)]
pub struct Distinct<T: ?Sized>(PhantomData<T>);

impl<T: Entry + ?Sized> Kind for Distinct<T> {
    const NAME: &'static str = "distinct";
    const VALUE: Option<ValueType> = Some(<T::Given<'static> as Contributed>::TYPE);
    type Column = u64;
    type Read = u64;
    handle!();
    #[inline]
    fn read(column: u64) -> u64 {
        column
    }
}

impl<T: Entry + ?Sized> Add1<'_, Distinct<T>> {
    /// Puts `value` into the set.
    #[inline]
    pub fn insert(&self, value: T::Given<'_>) {
        value.push(self.to, self.id);
    }
}
