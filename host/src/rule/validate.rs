//! Checks of a manifest against itself and the limits: what passes here can be run and stored.
//!
//! Unknown kinds and features are refused by name, so that the ABI can grow.

use retag_abi::{ABI_NAME, LABEL_VALUES_MAX};

use super::error::RuleError;
use super::manifest::{Aggregate, Manifest, Table, ValueType};
use super::value;

const TABLES_MAX: usize = 64;
const COLUMNS_MAX: usize = 256;
const AGGREGATES_MAX: usize = 64;
const LABELS_MAX: usize = 64;
const PARAMS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;

/// Kinds that ABI.md describes and this host does not run yet.
const LATER_KINDS: [&str; 10] = [
    "avg",
    "variance",
    "first",
    "last",
    "histogram",
    "quantile",
    "top_k",
    "most_frequent",
    "distinct_approx",
    "smallest",
];

impl Manifest {
    /// Checks names, types, kinds and counts.
    ///
    /// # Errors
    /// `manifest-invalid` or `unsupported-feature`, with the field.
    pub fn validate(&self) -> Result<(), RuleError> {
        self.check().and_then(|()| self.check_supported()).map_err(|problem| match problem {
            Problem::Invalid(message) => RuleError::Manifest { rule: self.name.clone(), message },
            Problem::Unsupported(message) => RuleError::Unsupported { rule: self.name.clone(), message },
        })
    }

    fn check(&self) -> Result<(), Problem> {
        if self.abi != ABI_NAME {
            let message = format!("abi `{}`: this host speaks `{ABI_NAME}`. Build it with its SDK", self.abi);
            return Err(Problem::Unsupported(message));
        }
        name("name", &self.name)?;
        name("entity", &self.entity)?;
        if !matches!(self.key, ValueType::U64 | ValueType::I64 | ValueType::Text | ValueType::Bytes) {
            return invalid("key: its type may be u64, i64, text or bytes");
        }
        count("tables", self.tables.len(), 1, TABLES_MAX)?;
        count("aggregates", self.aggregates.len(), 1, AGGREGATES_MAX)?;
        count("labels", self.labels.len(), 0, LABELS_MAX)?;
        count("params", self.params.len(), 0, PARAMS_MAX)?;
        unique("tables", self.tables.iter().map(|t| t.table.as_str()))?;
        unique("aggregates", self.aggregates.iter().map(|a| a.name.as_str()))?;
        unique("labels", self.labels.iter().map(|l| l.name.as_str()))?;
        unique("params", self.params.iter().map(|p| p.name.as_str()))?;
        self.tables.iter().try_for_each(|table| self.check_table(table))?;
        for (index, aggregate) in self.aggregates.iter().enumerate() {
            if usize::from(aggregate.id) != index {
                return invalid(format!("aggregate `{}`: its id must be its index {index}", aggregate.name));
            }
            name("aggregate", &aggregate.name)?;
            aggregate.value.map_or(Ok(()), |t| value_type(&aggregate.name, t))?;
        }
        for label in &self.labels {
            name("label", &label.name)?;
            count(&format!("values of label `{}`", label.name), label.values.len(), 0, LABEL_VALUES_MAX)?;
            unique(&format!("values of label `{}`", label.name), label.values.iter().map(String::as_str))?;
            label.values.iter().try_for_each(|v| name("label value", v))?;
        }
        self.params.iter().try_for_each(|param| {
            name("param", &param.name)?;
            value_type(&param.name, param.value_type)?;
            value::parse(param.value_type, &param.default)
                .map(|_| ())
                .map_err(|what| Problem::Invalid(format!("param `{}`: its default {what}", param.name)))
        })
    }

    fn check_table(&self, table: &Table) -> Result<(), Problem> {
        let named = |message: String| Problem::Invalid(format!("table `{}`: {message}", table.table));
        let parts: Vec<&str> = table.table.split('.').collect();
        if parts.len() != 2 || parts.iter().any(|part| part.is_empty()) || table.table.len() > 129 {
            return Err(named("its name must be `database.table`".into()));
        }
        count(&format!("columns of `{}`", table.table), table.columns.len(), 1, COLUMNS_MAX)?;
        unique(&format!("columns of `{}`", table.table), table.columns.iter().map(|c| c.name.as_str()))?;
        for column in &table.columns {
            if column.name.is_empty() || column.name.len() > NAME_BYTES_MAX {
                return Err(named(format!("a column's name has 1 to {NAME_BYTES_MAX} bytes")));
            }
            value_type(&column.name, column.value_type)?;
        }
        let key = table.key_column().and_then(|at| table.columns.get(at));
        let key = key.ok_or_else(|| named(format!("its key `{}` is not one of its columns", table.key)))?;
        if key.value_type != self.key {
            return Err(named(format!("its key `{}` has another type than the rule's keys", table.key)));
        }
        if key.absentable {
            return Err(named(format!("its key `{}` may not be absent", table.key)));
        }
        Ok(())
    }

    fn check_supported(&self) -> Result<(), Problem> {
        self.aggregates.iter().try_for_each(check_kind)
    }
}

fn check_kind(aggregate: &Aggregate) -> Result<(), Problem> {
    let Aggregate { name, kind, value, .. } = aggregate;
    if aggregate.window.is_some() {
        return unsupported(format!("aggregate `{name}`: windows are not in this version of the host"));
    }
    let fits = match (kind.as_str(), value) {
        ("any" | "count", value) => value.is_none(),
        ("sum", Some(ValueType::I64 | ValueType::U64 | ValueType::Decimal { .. })) => true,
        ("min" | "max", Some(value)) => *value != ValueType::Bool,
        ("distinct", Some(_)) => true,
        ("sum" | "min" | "max" | "distinct", _) => false,
        (later, _) if LATER_KINDS.contains(&later) => {
            return unsupported(format!(
                "aggregate `{name}`: kind `{later}` is not in this version of the host"
            ));
        }
        (unknown, _) => return unsupported(format!("aggregate `{name}`: unknown kind `{unknown}`")),
    };
    if fits {
        Ok(())
    } else {
        invalid(format!("aggregate `{name}`: kind `{kind}` does not take this value type"))
    }
}

enum Problem {
    Invalid(String),
    Unsupported(String),
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Invalid(message.into()))
}

fn unsupported<T>(message: String) -> Result<T, Problem> {
    Err(Problem::Unsupported(message))
}

fn name(what: &str, name: &str) -> Result<(), Problem> {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_lowercase());
    let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if first && rest && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    invalid(format!("{what} `{name}`: a name is [a-z][a-z0-9_]*, at most {NAME_BYTES_MAX} bytes"))
}

fn value_type(of: &str, value_type: ValueType) -> Result<(), Problem> {
    match value_type {
        ValueType::Decimal { scale, digits: digits @ (18 | 38) } if scale <= digits => Ok(()),
        ValueType::Decimal { .. } => {
            invalid(format!("`{of}`: a decimal has 18 or 38 digits and at most as many decimals"))
        }
        _ => Ok(()),
    }
}

fn count(what: &str, n: usize, min: usize, max: usize) -> Result<(), Problem> {
    if (min..=max).contains(&n) {
        Ok(())
    } else {
        invalid(format!("{what}: {n}, allowed are {min} to {max}"))
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Problem> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return invalid(format!("{what}: `{name}` stands there twice"));
        }
    }
    Ok(())
}
