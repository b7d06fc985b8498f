//! Parameters as `label` gets them: 16 bytes each, typed by the rule's own struct.

use retag_abi::bytes::i128_at;
use retag_abi::column::Physical;
use retag_abi::label::PARAM_LEN;

use crate::batch::malformed;
use crate::{Decimal, Duration, Timestamp, ValueType};

/// A type that a parameter may have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a parameter type",
    label = "not a parameter type",
    note = "parameters are bool, i64, u64, Decimal<S>, Timestamp or Duration"
)]
pub trait ParamType: Sized {
    /// Its type in the manifest.
    const TYPE: ValueType;
    /// The value with these bits.
    fn from_raw(raw: i128) -> Self;
}

macro_rules! param {
    ([$($generics:tt)*] $type:ty, $value_type:expr, |$raw:ident| $value:expr) => {
        impl<$($generics)*> ParamType for $type {
            const TYPE: ValueType = $value_type;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the host keeps to the type's range
            fn from_raw($raw: i128) -> Self {
                $value
            }
        }
    };
}

param!([] bool, ValueType::of(Physical::Bool), |raw| raw != 0);
param!([] i64, ValueType::of(Physical::I64), |raw| raw as i64);
param!([] u64, ValueType::of(Physical::U64), |raw| raw as u64);
param!([] Timestamp, ValueType::of(Physical::Timestamp), |raw| Timestamp::from_micros(raw as i64));
// The manifest has no type for spans: seconds with six decimals are exact, and people can write them.
param!([] Duration, ValueType::decimal(6), |raw| Duration::from_micros(raw as i64));
param!([const S: u8] Decimal<S>, ValueType::decimal(S), |raw| Decimal::from_units(raw));

/// The parameters in the input of `label`.
#[derive(Clone, Copy, Debug)]
pub struct Slots<'a>(pub(crate) &'a [u8]);

impl Slots<'_> {
    /// Parameter `n`.
    #[must_use]
    pub fn get<T: ParamType>(&self, n: usize) -> T {
        T::from_raw(i128_at(self.0, n * PARAM_LEN).unwrap_or_else(|| malformed("a parameter is missing")))
    }
}

/// A parameter of a rule, for the test harness.
#[derive(Clone, Copy, Debug)]
pub struct ParamInfo {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub value_type: ValueType,
    /// The bits of its default.
    pub default: i128,
}

/// A struct that derives `Params`.
pub trait ParamSet: Sized {
    /// Its parameters as JSON.
    const JSON: &'static str;
    /// Its parameters.
    const PARAMS: &'static [ParamInfo];
    /// Reads them.
    fn read(slots: &Slots<'_>) -> Self;
    /// Their defaults.
    fn defaults() -> Self;
}

/// A rule without parameters.
impl ParamSet for () {
    const JSON: &'static str = "[]";
    const PARAMS: &'static [ParamInfo] = &[];
    fn read(_: &Slots<'_>) -> Self {}
    fn defaults() -> Self {}
}
