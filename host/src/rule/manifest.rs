//! The manifest: what a rule says of itself, one JSON value in custom section `retag_1`, read without running code.

use retag_abi::column::Physical;
use serde::{Deserialize, Serialize};

use crate::decode::{ColumnType, PlannedColumn};

/// A rule's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `retag_1`.
    pub abi: String,
    /// Name of the rule.
    pub name: String,
    /// What its keys identify (`user`).
    pub entity: String,
    /// Version for people (semver of the crate).
    pub version: String,
    /// Version of the SDK that wrote it.
    #[serde(default)]
    pub sdk: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Who to ask.
    #[serde(default)]
    pub owner: String,
    /// Type of the keys: `u64`, `i64`, `text` or `bytes`.
    pub key: ValueType,
    /// Tables that `map` reads; their index is the `table` of a batch.
    pub tables: Vec<Table>,
    /// Aggregates; their index is their id.
    pub aggregates: Vec<Aggregate>,
    /// Labels; their index is their column in the label sets.
    pub labels: Vec<Label>,
    /// Parameters of the label side.
    #[serde(default)]
    pub params: Vec<Param>,
}

/// Type of a column, value, key or parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum ValueType {
    /// true or false.
    Bool,
    /// 64-bit signed.
    I64,
    /// 64-bit unsigned.
    U64,
    /// Fixed point.
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// 18 (8 bytes a value) or 38 (16 bytes).
        #[serde(default = "narrow")]
        digits: u8,
    },
    /// Raw bytes.
    Bytes,
    /// UTF-8.
    Text,
    /// Microseconds since 1970, the printed digits read as UTC.
    Timestamp,
    /// Days since 1970.
    Date,
}

fn narrow() -> u8 {
    18
}

/// A table that the rule reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// `database.table`.
    pub table: String,
    /// Column that is the key of a row.
    pub key: String,
    /// Columns in the order of the batch.
    pub columns: Vec<Column>,
}

/// A column that the rule reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name in the messages.
    pub name: String,
    /// Its type.
    #[serde(rename = "is")]
    pub value_type: ValueType,
    /// NULL is taken.
    #[serde(default)]
    pub nullable: bool,
    /// ABSENT is taken.
    #[serde(default)]
    pub absentable: bool,
}

/// An aggregate of the rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// Its index.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// `any`, `count`, `sum`, `min`, `max`, `distinct`; others are refused by name until they exist.
    pub kind: String,
    /// Type of the contributed value; none for `any` and `count`.
    #[serde(default)]
    pub value: Option<ValueType>,
    /// A business window; refused by name until windows exist.
    #[serde(default)]
    pub window: Option<serde_json::Value>,
}

/// A label of the rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// The names its value may have; empty for a flag.
    #[serde(default)]
    pub values: Vec<String>,
    /// For people.
    #[serde(default)]
    pub doc: String,
}

/// A parameter of the label side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "is")]
    pub value_type: ValueType,
    /// Its default, in the form in which the configuration gives a value: decimals as text.
    pub default: serde_json::Value,
    /// For people.
    #[serde(default)]
    pub doc: String,
}

impl ValueType {
    /// Layout of a column of this type.
    #[must_use]
    pub fn column_type(self) -> ColumnType {
        let (physical, scale) = match self {
            Self::Bool => (Physical::Bool, 0),
            Self::I64 => (Physical::I64, 0),
            Self::U64 => (Physical::U64, 0),
            Self::Decimal { scale, digits: 0..=18 } => (Physical::Decimal, scale),
            Self::Decimal { scale, .. } => (Physical::WideDecimal, scale),
            Self::Bytes => (Physical::Bytes, 0),
            Self::Text => (Physical::Text, 0),
            Self::Timestamp => (Physical::Timestamp, 0),
            Self::Date => (Physical::Date, 0),
        };
        ColumnType { physical, scale }
    }
}

impl Table {
    /// The columns as `decode` plans them, in manifest order.
    #[must_use]
    pub fn planned_columns(&self) -> Vec<PlannedColumn> {
        let plan =
            |c: &Column| PlannedColumn { name: c.name.clone(), column_type: c.value_type.column_type() };
        self.columns.iter().map(plan).collect()
    }

    /// Index of the key column.
    #[must_use]
    pub fn key_column(&self) -> Option<usize> {
        self.columns.iter().position(|c| c.name == self.key)
    }
}

impl Aggregate {
    /// Layout of the aggregate's reading, and whether it may be missing (min and max of nothing).
    #[must_use]
    pub fn reading(&self) -> (Physical, bool) {
        match (self.kind.as_str(), self.value) {
            ("any", _) => (Physical::Bool, false),
            ("count", _) => (Physical::I64, false),
            ("sum", _) => (Physical::WideDecimal, false),
            ("min" | "max", Some(value)) => (value.column_type().physical, true),
            _ => (Physical::U64, false),
        }
    }
}

impl Manifest {
    /// Everything of the manifest that gives `map` its meaning, as canonical JSON.
    #[must_use]
    pub fn map_side(&self) -> String {
        serde_json::json!([self.abi, self.entity, self.key, self.tables, self.aggregates]).to_string()
    }

    /// What the label side promises: labels with their values, parameters with their types.
    #[must_use]
    pub fn label_side(&self) -> String {
        let labels: Vec<_> = self.labels.iter().map(|l| (&l.name, &l.values)).collect();
        let params: Vec<_> = self.params.iter().map(|p| (&p.name, p.value_type)).collect();
        serde_json::json!([labels, params]).to_string()
    }
}
