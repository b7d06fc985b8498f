//! Text → [`Scenario`]. The parser plays the database: it keeps every table's rows, so that `-` and `~` name a row by
//! a few columns and the change still carries the whole row before and after.

use serde_json::Value;
use std::collections::HashMap;

use crate::{Row, Scenario, Step, line};

/// A line that does not read, with what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Error {
    /// Line in the file, from 1.
    pub line: usize,
    /// What was expected, and what was found.
    pub message: String,
}

/// Parses a scenario file.
///
/// # Errors
/// The first line that does not read, names no stored row or more than one, or is never checked by a `=>`.
pub fn parse(text: &str) -> Result<Scenario, Error> {
    let mut parser = Parser::default();
    for (n, text) in text.lines().enumerate() {
        let at = n + 1;
        parser.line(at, text.trim()).map_err(|message| Error { line: at, message })?;
    }
    match parser.scenario.steps.last() {
        Some(Step::Change { line, .. } | Step::Advance { line, .. }) => Err(Error {
            line: *line,
            message: "nothing checks this: end the file with `=> KEY label` or `=> nothing`".to_owned(),
        }),
        _ => Ok(parser.scenario),
    }
}

#[derive(Default)]
struct Parser {
    scenario: Scenario,
    rows: HashMap<String, Vec<Row>>,
    /// The open block has a `=> nothing`.
    nothing: bool,
}

impl Parser {
    fn line(&mut self, at: usize, text: &str) -> Result<(), String> {
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        if let Some(rest) = text.strip_prefix("=>") {
            return self.expect(at, rest);
        }
        match line::word(text) {
            ("param", rest) => self.param(rest),
            ("+", rest) => self.insert(at, rest),
            ("-", rest) => self.delete(at, rest),
            ("~", rest) => self.update(at, rest),
            ("@", rest) => self.advance(at, rest),
            (other, _) => Err(format!("expected `param`, `+`, `-`, `~`, `@`, `=>` or `#`, found `{other}`")),
        }
    }

    fn param(&mut self, rest: &str) -> Result<(), String> {
        let (name, rest) = line::word(rest);
        let value = rest.trim_start().strip_prefix('=').filter(|_| !name.is_empty());
        let value = value.ok_or("expected `param NAME = VALUE`")?;
        let (value, rest) = line::json(value, "a JSON value behind `=`")?;
        line::end(rest)?;
        if !self.scenario.steps.is_empty() {
            return Err(
                "expected `param` lines before the first row: parameters hold for the whole file".to_owned()
            );
        }
        if self.scenario.params.iter().any(|(known, _)| known == name) {
            return Err(format!("parameter `{name}` is given twice"));
        }
        self.scenario.params.push((name.to_owned(), value));
        Ok(())
    }

    fn insert(&mut self, at: usize, rest: &str) -> Result<(), String> {
        let (table, rest) = table(rest)?;
        let (row, rest) = line::object(rest, "a row `{\"column\": value, …}`")?;
        line::end(rest)?;
        self.rows.entry(table.to_owned()).or_default().push(row.clone());
        self.change(at, table, None, Some(row));
        Ok(())
    }

    fn delete(&mut self, at: usize, rest: &str) -> Result<(), String> {
        let (table, rest) = table(rest)?;
        let (wanted, rest) = line::object(rest, "columns of the row `{\"column\": value, …}`")?;
        line::end(rest)?;
        let before = self.take(table, &wanted)?;
        self.change(at, table, Some(before), None);
        Ok(())
    }

    fn update(&mut self, at: usize, rest: &str) -> Result<(), String> {
        let (table, rest) = table(rest)?;
        let (wanted, mut rest) = line::object(rest, "columns of the row `{\"column\": value, …}`")?;
        let mut assignments = Vec::new();
        while line::end(rest).is_err() {
            let ((column, value), left) = line::assignment(rest)?;
            assignments.push((column.to_owned(), value));
            rest = left;
        }
        if assignments.is_empty() {
            return Err("expected column=value behind the row".to_owned());
        }
        let before = self.take(table, &wanted)?;
        let mut after = before.clone();
        after.extend(assignments);
        self.rows.entry(table.to_owned()).or_default().push(after.clone());
        self.change(at, table, Some(before), Some(after));
        Ok(())
    }

    fn advance(&mut self, at: usize, rest: &str) -> Result<(), String> {
        let (duration, rest) = line::word(rest);
        let micros = duration.strip_prefix('+').and_then(line::duration_micros);
        let micros = micros.ok_or_else(|| format!("expected `@ +8d` (s, m, h or d), found `{duration}`"))?;
        line::end(rest)?;
        self.scenario.steps.push(Step::Advance { line: at, micros });
        Ok(())
    }

    fn expect(&mut self, at: usize, rest: &str) -> Result<(), String> {
        if !matches!(self.scenario.steps.last(), Some(Step::Expect { .. })) {
            self.scenario.steps.push(Step::Expect { line: at, transitions: Vec::new() });
            self.nothing = false;
        } else if self.nothing {
            return Err("expected no other `=>` line beside `=> nothing`".to_owned());
        }
        let Some(Step::Expect { transitions, .. }) = self.scenario.steps.last_mut() else { return Ok(()) };
        match line::expectation(rest)? {
            None if transitions.is_empty() => self.nothing = true,
            None => return Err("expected no `=> nothing` beside other `=>` lines".to_owned()),
            Some((key, _)) if transitions.iter().any(|(known, _)| *known == key) => {
                return Err(format!("key {key} is listed twice: write its entries in one line"));
            }
            Some(entry) => transitions.push(entry),
        }
        Ok(())
    }

    fn change(&mut self, line: usize, table: &str, before: Option<Row>, after: Option<Row>) {
        self.scenario.steps.push(Step::Change { line, table: table.to_owned(), before, after });
    }

    /// Takes the one stored row of `table` that has all `wanted` values.
    fn take(&mut self, table: &str, wanted: &Row) -> Result<Row, String> {
        let rows = self.rows.get_mut(table).ok_or_else(|| format!("no row of {table} was inserted above"))?;
        let matches = |row: &Row| wanted.iter().all(|(column, value)| row.get(column) == Some(value));
        let mut found = rows.iter().enumerate().filter(|(_, row)| matches(row));
        let shown = || Value::Object(wanted.clone());
        let (at, first) = found.next().ok_or_else(|| format!("no row of {table} matches {}", shown()))?;
        if found.any(|(_, other)| other != first) {
            return Err(format!("several rows of {table} match {}: name more columns", shown()));
        }
        Ok(rows.remove(at))
    }
}

fn table(rest: &str) -> Result<(&str, &str), String> {
    match line::word(rest) {
        (name, rest) if name.contains('.') && !name.starts_with('{') => Ok((name, rest)),
        (other, _) => Err(format!("expected a table `database.table`, found `{other}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const EXAMPLE: &str = r#"
# The example of the design.
param big_spender_min = "100.00"
+ shop.users  {"user_id":42}
  => 42 never_paid
+ shop.orders {"order_id":1,"user_id":42,"state":1,"amount":"120.00","merchant_id":18446744073709551615}
  => 42 big_spender, -never_paid   # and a comment
~ shop.orders {"order_id":1} state=6 note="a # b" channel=app
  => 42 refunder, never_paid, -big_spender
  => "a key" tier=gold
@ +8d
  => nothing
- shop.orders {"order_id":1}
  => nothing
"#;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn changes_carry_full_images() {
        let scenario = parse(EXAMPLE).unwrap();
        assert_eq!(scenario.params, [("big_spender_min".to_owned(), json!("100.00"))]);
        assert_eq!(scenario.steps.len(), 10);
        let before =
            row(json!({"order_id":1,"user_id":42,"state":1,"amount":"120.00","merchant_id":u64::MAX}));
        let mut after = before.clone();
        after.extend(row(json!({"state":6,"note":"a # b","channel":"app"})));
        assert_eq!(
            scenario.steps[4],
            Step::Change {
                line: 8,
                table: "shop.orders".to_owned(),
                before: Some(before),
                after: Some(after.clone())
            }
        );
        let refunded = vec!["refunder".to_owned(), "never_paid".to_owned(), "-big_spender".to_owned()];
        let keyed = ("a key".to_owned(), vec!["tier=gold".to_owned()]);
        assert_eq!(
            scenario.steps[5],
            Step::Expect { line: 9, transitions: vec![("42".to_owned(), refunded), keyed] }
        );
        assert_eq!(scenario.steps[6], Step::Advance { line: 11, micros: 8 * 86_400_000_000 });
        assert_eq!(scenario.steps[7], Step::Expect { line: 12, transitions: vec![] });
        let Step::Change { before: Some(deleted), after: None, .. } = &scenario.steps[8] else { panic!() };
        assert_eq!(*deleted, after);
    }

    #[test]
    fn errors_name_the_line_and_what_was_expected() {
        let check = |text: &str, line: usize, part: &str| {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.message.contains(part), "{error}");
        };
        check("\n! x", 2, "expected `param`, `+`");
        check("param x 1", 1, "`param NAME = VALUE`");
        check("param x = ", 1, "a JSON value");
        check("param x = 1\nparam x = 2", 2, "twice");
        check("+ a.b {}\n=> nothing\nparam x = 2", 3, "before the first row");
        check("+ orders {}", 1, "database.table");
        check("+ a.b [1]", 1, "a row");
        check("+ a.b {\"x\":}", 1, "does not parse");
        check("+ a.b {} y", 1, "the end of the line");
        check("+ a.b {\"amount\":1.50}", 1, "write decimals as text");
        check("- a.b {}", 1, "no row of a.b");
        check("+ a.b {\"x\":1}\n- a.b {\"x\":2}", 2, "no row of a.b matches");
        check("+ a.b {\"x\":1}\n+ a.b {\"x\":2}\n- a.b {}", 3, "several rows");
        check("+ a.b {\"x\":1}\n~ a.b {\"x\":1}", 2, "column=value");
        check("+ a.b {\"x\":1}\n~ a.b {\"x\":1} y", 2, "column=value");
        check("+ a.b {\"x\":1}\n~ a.b {\"x\":1} y= z=1", 2, "behind `y=`");
        check("@ 8d", 1, "`@ +8d`");
        check("@ +8w", 1, "`@ +8d`");
        check("=> 42", 1, "`=> KEY label");
        check("=> 42 a b", 1, "`=> KEY label");
        check("=> 42 a\n=> 42 b", 2, "twice");
        check("=> nothing\n=> 42 b", 2, "no other");
        check("=> 42 b\n=> nothing", 2, "no `=> nothing`");
        check("+ a.b {}", 1, "nothing checks this");
    }

    #[test]
    fn no_text_makes_it_panic() {
        let pieces = [
            "param",
            " ",
            "=",
            "=>",
            "+",
            "-",
            "~",
            "@",
            "a.b",
            "{\"x\":1}",
            "\"",
            "#",
            ",",
            "é",
            "\n",
            "\\",
        ];
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..seed % 12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            seed ^= seed >> 29;
            let _ = parse(&text);
        }
    }
}
