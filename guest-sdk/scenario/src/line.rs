//! Pieces of one scenario line: words, JSON values, assignments, keys. Takes the rest of a line, gives a piece and what
//! is left; a message says what was expected instead.

use serde_json::Value;

/// A piece of a line and the rest behind it, or what was expected.
pub(crate) type Piece<'a, T> = Result<(T, &'a str), String>;

/// The text up to the next blank.
pub(crate) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// A JSON value at the start of `text`. Fractions are refused: they would pass through a float.
pub(crate) fn json<'a>(text: &'a str, expected: &str) -> Piece<'a, Value> {
    let text = text.trim_start();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match stream.next() {
        Some(Ok(value)) => {
            let rest = text.get(stream.byte_offset()..).unwrap_or("");
            exact(&value)?;
            Ok((value, rest))
        }
        Some(Err(error)) => Err(format!("expected {expected}; the JSON does not parse: {error}")),
        None => Err(format!("expected {expected}, found the end of the line")),
    }
}

/// A row or a match, `{"column": value, …}`.
pub(crate) fn object<'a>(text: &'a str, expected: &str) -> Piece<'a, super::Row> {
    match json(text, expected)? {
        (Value::Object(row), rest) => Ok((row, rest)),
        (other, _) => Err(format!("expected {expected}, found {other}")),
    }
}

fn exact(value: &Value) -> Result<(), String> {
    let fraction = |value: &Value| value.is_f64();
    let found = match value {
        Value::Object(row) => row.values().find(|v| fraction(v)),
        other => Some(other).filter(|v| fraction(v)),
    };
    match found {
        Some(number) => {
            Err(format!("{number} would pass through a float: write decimals as text, \"{number}\""))
        }
        None => Ok(()),
    }
}

/// `column=value`, the value a JSON literal or a bare word.
pub(crate) fn assignment(text: &str) -> Piece<'_, (&str, Value)> {
    let text = text.trim_start();
    let bad = || format!("expected column=value, found `{}`", word(text).0);
    let (column, rest) = text.split_once('=').ok_or_else(bad)?;
    if column.is_empty() || column.contains(char::is_whitespace) {
        return Err(bad());
    }
    if rest.starts_with(['"', '{', '[']) {
        let (value, rest) = json(rest, "a JSON value behind `=`")?;
        return Ok(((column, value), rest));
    }
    let (bare, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    if bare.is_empty() {
        return Err(format!("expected a value behind `{column}=`; the empty text is {column}=\"\""));
    }
    let value = serde_json::from_str(bare).unwrap_or_else(|_| Value::String(bare.to_owned()));
    exact(&value)?;
    Ok(((column, value), rest))
}

/// Nothing more but a comment.
pub(crate) fn end(text: &str) -> Result<(), String> {
    match text.trim_start() {
        "" => Ok(()),
        rest if rest.starts_with('#') => Ok(()),
        rest => Err(format!("expected the end of the line, found `{rest}`")),
    }
}

/// The line without its comment, and the comment with its `#`. A `#` counts where a word begins, outside quotes.
pub(crate) fn comment(text: &str) -> (&str, &str) {
    let (mut quoted, mut escaped, mut before) = (false, false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '#' if !quoted && before.is_whitespace() => return text.split_at(at),
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        before = c;
    }
    (text, "")
}

/// What stands behind `=>`: a key and its entries, or `None` for `nothing`.
pub(crate) fn expectation(text: &str) -> Result<Option<(String, Vec<String>)>, String> {
    let text = comment(text).0.trim();
    if text == "nothing" {
        return Ok(None);
    }
    let (key, rest) = if text.starts_with('"') {
        match json(text, "a key")? {
            (Value::String(key), rest) => (key, rest),
            (other, _) => return Err(format!("expected a key, found {other}")),
        }
    } else {
        let (key, rest) = word(text);
        (key.to_owned(), rest)
    };
    let entries: Vec<String> = rest.split(',').map(|entry| entry.trim().to_owned()).collect();
    if key.is_empty() || entries.iter().any(|entry| entry.is_empty() || entry.contains(char::is_whitespace)) {
        return Err("expected `=> KEY label, -label, label=value` or `=> nothing`".to_owned());
    }
    Ok(Some((key, entries)))
}

/// `8d` and the like in microseconds.
pub(crate) fn duration_micros(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
    i64::from(number).checked_mul(seconds * 1_000_000)
}
