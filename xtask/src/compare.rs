//! Are two tables equal? And the few readings of text that the chores need.

use std::cmp::Ordering;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Compares two CSV files: equal headers, and equal lines in whatever order. Returns how many lines both have.
///
/// # Errors
/// The first lines that only one of them has.
pub(crate) fn equal_tables(expected: &Path, found: &Path) -> Result<u64> {
    let read =
        |path: &Path| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    equal_lines(&read(expected)?, &read(found)?)
        .with_context(|| format!("{} differs from the recomputation {}", found.display(), expected.display()))
}

fn equal_lines(expected: &str, found: &str) -> Result<u64> {
    let (expected_header, expected) = expected.split_once('\n').unwrap_or((expected, ""));
    let (found_header, found) = found.split_once('\n').unwrap_or((found, ""));
    if expected_header.trim_end() != found_header.trim_end() {
        bail!("the header is `{found_header}`, not `{expected_header}`");
    }
    let sorted = |text: &'_ str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let (expected, found) = (sorted(expected), sorted(found));
    if expected != found {
        let (missing, surplus) = differences(&expected, &found);
        bail!("missing lines:{}\nlines too many:{}", shown(&missing), shown(&surplus));
    }
    if expected.is_empty() {
        bail!("there is nothing in it");
    }
    Ok(expected.len() as u64)
}

/// Lines of only one of two sorted lists: those of the first, those of the second.
fn differences<'a>(first: &'a [String], second: &'a [String]) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut a, mut b) = (first.iter().peekable(), second.iter().peekable());
    let (mut only_first, mut only_second) = (Vec::new(), Vec::new());
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return (only_first, only_second),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(x), Some(y)) => x.cmp(y),
        };
        let (left, right) = (
            if order == Ordering::Greater { None } else { a.next() },
            if order == Ordering::Less { None } else { b.next() },
        );
        match (left, right) {
            (Some(line), None) => only_first.push(line.as_str()),
            (None, Some(line)) => only_second.push(line.as_str()),
            _ => {}
        }
    }
}

fn shown(lines: &[&str]) -> String {
    let first: String = lines.iter().take(5).map(|line| format!("\n  {line}")).collect();
    format!(" {}{first}", lines.len())
}

/// The value of a top-level field of a flat JSON line, as it stands (text without its quotes); no escapes.
pub(crate) fn json_field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let start = line.find(&format!("\"{name}\":"))? + name.len() + 3;
    let rest = line.get(start..)?.trim_start();
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}', ']']).next().map(str::trim),
    }
}

/// `1234567` → `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{equal_lines, grouped, json_field};

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        assert_eq!(equal_lines("h\n1\n2\n", "h\n1\n2").unwrap(), 2);
        assert_eq!(equal_lines("h\n1\n2\n", "h\r\n2\r\n1\r\n").unwrap(), 2, "order and line ends aside");
        let error = equal_lines("h\n1\n2\n5\n", "h\n1\n3\n5\n").unwrap_err().to_string();
        assert_eq!(error, "missing lines: 1\n  2\nlines too many: 1\n  3");
        for found in ["h\n1\n3\n", "h\n1\n", "h\n1\n2\n3\n", "", "h\n1\n2\n2\n", "x\n1\n2\n"] {
            assert!(equal_lines("h\n1\n2\n", found).is_err(), "{found}");
        }
        assert!(equal_lines("h\n", "h\n").is_err(), "an empty result proves nothing");
    }

    #[test]
    fn fields_and_numbers() {
        let line = r#"{"key":"42","op":"set","value":null,"commit":17,"previous":"silver"}"#;
        let fields = ["key", "op", "value", "commit", "previous", "none"].map(|name| json_field(line, name));
        assert_eq!(fields, [Some("42"), Some("set"), Some("null"), Some("17"), Some("silver"), None]);
        assert_eq!([7, 1_000, 1_234_567].map(grouped), ["7", "1,000", "1,234,567"]);
    }
}
