//! What an answer means: taken, refused for what is in the request, or to be tried again.
//!
//! A status that speaks of the address and not of what was sent (a redirect, no right, no such path) refuses no message:
//! it is tried again until somebody mends the one or the other.

use crate::sink::batch::Answer;

/// Longest that a receiver may ask to be left alone, seconds.
const RETRY_AFTER_MAX_S: u64 = 300;

/// What `status` means, with the header `retry-after` and the beginning of the answer's body.
pub(super) fn of(status: u16, retry_after: Option<u64>, text: &str) -> Answer {
    let said = if text.is_empty() { String::new() } else { format!(": {text}") };
    let later = |what: &str| {
        let after = retry_after.unwrap_or(0).min(RETRY_AFTER_MAX_S);
        let after_us = i64::try_from(after).unwrap_or(0) * 1_000_000;
        Answer::Later { reason: format!("{what} ({status}){said}"), after_us }
    };
    match status {
        200..=299 => Answer::Taken,
        300..=399 => later("it redirects, which is not followed; name the address itself"),
        401 | 403 | 407 => later("it wants other rights; look at `headers` and `secret`"),
        404 | 405 | 410 => later("nothing takes webhooks at this address"),
        402 | 411 | 415 | 421 | 426 | 431 => later("it does not take such requests"),
        408 | 409 | 423 | 425 => later("not now"),
        429 => later("too many requests"),
        400..=499 => Answer::Refused { status, reason: format!("refused ({status}){said}") },
        _ => later("it fails"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_message_is_refused() {
        let kind = |status| match of(status, None, "") {
            Answer::Taken => "taken",
            Answer::Refused { .. } => "refused",
            Answer::Later { .. } => "later",
        };
        for (statuses, expect) in [
            (&[200, 201, 202, 204][..], "taken"),
            (&[400, 406, 413, 418, 422, 451], "refused"),
            (&[101, 301, 302, 307, 308, 401, 403, 404, 405, 408, 409, 410, 415, 421, 425, 429], "later"),
            (&[500, 502, 503, 504, 599, 999], "later"),
        ] {
            statuses.iter().for_each(|status| assert_eq!(kind(*status), expect, "{status}"));
        }
    }

    #[test]
    fn it_is_left_alone_for_as_long_as_it_asks_within_reason() {
        let after = |seconds| match of(429, seconds, "slow down") {
            Answer::Later { after_us, reason } => (after_us, reason),
            other => panic!("{other:?}"),
        };
        assert_eq!(after(Some(7)), (7_000_000, "too many requests (429): slow down".into()));
        assert_eq!((after(None).0, after(Some(u64::MAX)).0), (0, 300_000_000));
    }
}
