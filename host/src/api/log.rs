//! Lines about requests on standard error: with the request's id and route, never with a key, a value or a token; at most
//! a few in a while, then how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most lines in one [`EVERY`].
const LINES_MAX: u32 = 20;
const EVERY: Duration = Duration::from_secs(10);

/// Counts lines.
#[derive(Debug, Default)]
pub(super) struct Log {
    inner: Mutex<Option<Span>>,
}

#[derive(Debug)]
struct Span {
    begin: Instant,
    lines: u32,
}

impl Log {
    /// Prints a line, if not too many were.
    pub(super) fn line(&self, now: Instant, text: &str) {
        for line in self.admit(now, text) {
            eprintln!("retag: {line}");
        }
    }

    fn admit(&self, now: Instant, text: &str) -> Vec<String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        if inner.as_ref().is_none_or(|span| now.saturating_duration_since(span.begin) >= EVERY) {
            let left_out = inner.as_ref().map_or(0, |span| span.lines.saturating_sub(LINES_MAX));
            if left_out > 0 {
                out.push(format!("http: {left_out} lines about requests were left out"));
            }
            *inner = Some(Span { begin: now, lines: 0 });
        }
        if let Some(span) = inner.as_mut() {
            span.lines = span.lines.saturating_add(1);
            if span.lines <= LINES_MAX {
                out.push(text.to_owned());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_left_out_and_counted() {
        let (log, begin) = (Log::default(), crate::clock::moment());
        let lines: usize = (0..100).map(|_| log.admit(begin, "x").len()).sum();
        assert_eq!(lines, LINES_MAX as usize);
        let later = log.admit(begin + EVERY, "y");
        assert_eq!(later, ["http: 80 lines about requests were left out", "y"]);
    }
}
