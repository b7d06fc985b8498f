//! Labels as a rule writes them: flags (`bool`) and values (`Option` of an enum), one u16 each in the set of a key.

/// An enum whose variants are a label's values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a label value",
    note = "derive LabelValue on an enum without fields"
)]
pub trait LabelValue: Copy {
    /// Names of the values, in the order of their numbers.
    const VALUES: &'static [&'static str];
    /// The same as JSON.
    const JSON: &'static str;
    /// Number of this value.
    fn index(self) -> u16;
}

/// A field of a struct of labels.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a label",
    label = "not a label",
    note = "a label is a bool, or an Option of an enum that derives LabelValue"
)]
pub trait LabelField {
    /// Names of the label's values; empty for a flag.
    const VALUES: &'static [&'static str];
    /// The same as JSON.
    const JSON: &'static str;
    /// A label that is not carried.
    const NONE: Self;
    /// Its number in a label set.
    fn slot(&self) -> u16;
}

impl LabelField for bool {
    const VALUES: &'static [&'static str] = &[];
    const JSON: &'static str = "[]";
    const NONE: Self = false;
    #[inline]
    fn slot(&self) -> u16 {
        u16::from(*self)
    }
}

impl<T: LabelValue> LabelField for Option<T> {
    const VALUES: &'static [&'static str] = T::VALUES;
    const JSON: &'static str = T::JSON;
    const NONE: Self = None;
    #[inline]
    fn slot(&self) -> u16 {
        self.map_or(0, |value| value.index() + 1)
    }
}

/// A label of a rule, for the test harness.
#[derive(Clone, Copy, Debug)]
pub struct LabelInfo {
    /// Its name.
    pub name: &'static str,
    /// The names of its values; empty for a flag.
    pub values: &'static [&'static str],
}

/// A struct that derives `Labels`.
pub trait LabelSet {
    /// Its labels as JSON.
    const JSON: &'static str;
    /// Its labels.
    const LABELS: &'static [LabelInfo];
    /// No label is carried.
    const NONE: Self;
    /// Appends one u16 per label.
    fn write(&self, set: &mut alloc::vec::Vec<u16>);
}
