//! Transitions back to text: the difference between what a file expects and what a run gave, and `--bless`, which
//! writes the latter into the file. Everything that is not a `=>` line stays as it is, byte for byte.

use crate::{Transitions, line};

/// The order in which blocks are compared and written: text keys, then numbers in their order; labels set before labels unset.
#[must_use]
pub fn sorted(transitions: &Transitions) -> Transitions {
    let mut sorted = transitions.clone();
    for (_, entries) in &mut sorted {
        entries.sort_by(|a, b| (a.starts_with('-'), a).cmp(&(b.starts_with('-'), b)));
    }
    sorted.sort_by(|(a, _), (b, _)| (a.parse::<i128>().ok(), a).cmp(&(b.parse::<i128>().ok(), b)));
    sorted
}

/// One transition as a `=>` line writes it: `label`, `label=value`, or `-label` where it is unset.
#[must_use]
pub fn entry(label: &str, set: bool, value: Option<&str>) -> String {
    match (set, value) {
        (false, _) => format!("-{label}"),
        (true, None) => label.to_owned(),
        (true, Some(value)) => format!("{label}={value}"),
    }
}

/// What differs between `expected` and `actual`, a line per key; `None` when they agree. Order does not matter.
#[must_use]
pub fn difference(expected: &Transitions, actual: &Transitions) -> Option<String> {
    let (expected, actual) = (sorted(expected), sorted(actual));
    let only = |sign: char, these: &Transitions, those: &Transitions| {
        let lines = these.iter().filter(|entry| !those.contains(entry));
        lines.map(|entry| format!("  {sign} {}\n", render(entry))).collect::<String>()
    };
    let text = only('-', &expected, &actual) + &only('+', &actual, &expected);
    (!text.is_empty()).then(|| format!("expected (-), got (+):\n{text}"))
}

/// Rewrites `text` so that its i-th block of `=>` lines says `actual[i]`; blocks without an entry stay.
///
/// Indentation is kept, and so is each comment: behind the line it stood on, or on a line of its own.
#[must_use]
pub fn bless(text: &str, actual: &[Transitions]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blocks = actual.iter();
    let mut open: Option<Block> = None;
    for full in text.split_inclusive('\n') {
        let trimmed = full.trim();
        if let Some(rest) = trimmed.strip_prefix("=>") {
            if open.is_none() {
                let indent = full.split("=>").next().unwrap_or("").to_owned();
                open = Some(Block::new(blocks.next(), indent));
            }
            if let Some(block) = &mut open {
                block.line(&mut out, full, line::comment(rest).1.trim_end());
            }
        } else {
            if !trimmed.is_empty() && !trimmed.starts_with('#') {
                close(&mut open, &mut out);
            } else if let Some(block) = &mut open {
                block.flush(&mut out);
            }
            out.push_str(full);
        }
    }
    close(&mut open, &mut out);
    out
}

fn close(open: &mut Option<Block>, out: &mut String) {
    if let Some(mut block) = open.take() {
        block.flush(out);
    }
}

/// A block of `=>` lines being rewritten.
struct Block {
    /// Lines still to be written, last first; `None` where the old ones stay.
    lines: Option<Vec<String>>,
    indent: String,
}

impl Block {
    fn new(actual: Option<&Transitions>, indent: String) -> Self {
        let lines = actual.map(|transitions| {
            let mut lines: Vec<String> = sorted(transitions).iter().map(render).collect();
            if lines.is_empty() {
                lines.push("nothing".to_owned());
            }
            lines.reverse();
            lines
        });
        Self { lines, indent }
    }

    fn line(&mut self, out: &mut String, old: &str, comment: &str) {
        let Some(lines) = &mut self.lines else {
            out.push_str(old);
            return;
        };
        let gap = if comment.is_empty() { "" } else { "  " };
        match lines.pop() {
            Some(line) => out.push_str(&format!("{}=> {line}{gap}{comment}\n", self.indent)),
            None if comment.is_empty() => {}
            None => out.push_str(&format!("{}{comment}\n", self.indent)),
        }
    }

    /// Writes what has no old line to stand on.
    fn flush(&mut self, out: &mut String) {
        for line in self.lines.iter_mut().flat_map(|lines| lines.drain(..).rev()) {
            out.push_str(&format!("{}=> {line}\n", self.indent));
        }
    }
}

/// `42 big_spender, -never_paid`, the key quoted where it would not read back.
fn render((key, entries): &(String, Vec<String>)) -> String {
    let plain = !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || "\"#,".contains(c));
    let key = if plain { key.clone() } else { serde_json::Value::from(key.as_str()).to_string() };
    format!("{key} {}", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Step, parse};

    fn block(lines: &[(&str, &[&str])]) -> Transitions {
        lines
            .iter()
            .map(|(key, entries)| ((*key).to_owned(), entries.iter().map(|e| (*e).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn blocks_are_replaced_and_all_else_stays() {
        let text = "# top\n+ a.b {\"x\":1}   # row\n\n  => 1 old  # why\n  # between\n  => 2 old\n@ +1d\n  => nothing\n\n@ +1s\n  => 9 kept\n";
        let actual = [block(&[("10", &["-b", "a"]), ("9", &["tier=gold"]), ("a key", &["x"])]), block(&[])];
        let blessed = bless(text, &actual);
        let wanted = "# top\n+ a.b {\"x\":1}   # row\n\n  => \"a key\" x  # why\n  => 9 tier=gold\n  => 10 a, -b\n  # between\n@ +1d\n  => nothing\n\n@ +1s\n  => 9 kept\n";
        assert_eq!(blessed, wanted);
        assert_eq!(bless(&blessed, &actual), blessed, "a second bless changes nothing");
    }

    #[test]
    fn a_blessed_file_reads_back_as_what_was_given() {
        let text = "+ a.b {\"x\":1}\n=> nothing\n+ a.b {\"x\":2}\n  => 1 a  # one\n  => 2 b  # two";
        let actual = [block(&[("1", &["a"]), ("2", &["b", "-c"]), ("é #", &["x"])]), block(&[])];
        let parsed = parse(&bless(text, &actual)).unwrap();
        let blocks: Vec<Transitions> = parsed
            .steps
            .into_iter()
            .filter_map(|step| match step {
                Step::Expect { transitions, .. } => Some(transitions),
                _ => None,
            })
            .collect();
        assert_eq!(blocks, actual.iter().map(sorted).collect::<Vec<_>>());
        assert!(bless(text, &actual).contains("# two"));
    }

    #[test]
    fn the_difference_ignores_order_and_names_both_sides() {
        let expected = block(&[("42", &["a", "-b"]), ("7", &["c"])]);
        assert_eq!(difference(&expected, &block(&[("7", &["c"]), ("42", &["-b", "a"])])), None);
        let text = difference(&expected, &block(&[("42", &["a"]), ("7", &["c"])])).unwrap();
        assert_eq!(text, "expected (-), got (+):\n  - 42 a, -b\n  + 42 a\n");
    }
}
