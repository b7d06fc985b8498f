//! `If-Match` and `If-None-Match` (RFC 9110, section 13): a write that only happens to what its writer has seen, a read
//! that is only answered when something is new.

use axum::http::{HeaderMap, HeaderName, header};
use sha2::{Digest, Sha256};

/// The strong entity tag of some bytes.
#[must_use]
pub fn etag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let mut tag = String::from("\"");
    for byte in digest.iter().take(16) {
        tag.push_str(&format!("{byte:02x}"));
    }
    tag.push('"');
    tag
}

/// The tags that `If-Match` names; none = nothing is asked. Weak ones match nothing, `*` is left to who knows what there is.
#[must_use]
pub fn if_match(headers: &HeaderMap) -> Option<Vec<String>> {
    let asked: Vec<String> = tags(headers, &header::IF_MATCH).map(str::to_owned).collect();
    (!asked.is_empty()).then_some(asked)
}

/// Whether `If-None-Match` names `current`: the reader has it already. Weak tags match too.
#[must_use]
pub fn is_known(headers: &HeaderMap, current: &str) -> bool {
    let plain = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    tags(headers, &header::IF_NONE_MATCH).any(|tag| tag == "*" || plain(tag) == plain(current))
}

/// The tags of a header; a value that does not read is one tag that matches nothing.
fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or("?"));
    // A tag may hold a comma only inside its quotes; ours never do, and no other can match.
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn writers_name_what_they_have_seen() {
        let check = |values: &[&str], expect: Option<&[&str]>| {
            let read = if_match(&headers(header::IF_MATCH, values));
            assert_eq!(read, expect.map(|tags| tags.iter().map(|t| (*t).to_owned()).collect()), "{values:?}");
        };
        check(&[], None);
        check(&["\"a\""], Some(&["\"a\""]));
        check(&["\"b\", \"a\""], Some(&["\"b\"", "\"a\""]));
        check(&["\"b\"", "\"a\""], Some(&["\"b\"", "\"a\""]));
        check(&["W/\"a\""], Some(&["W/\"a\""]));
        check(&["*"], Some(&["*"]));
        check(&[""], Some(&[""]));
    }

    #[test]
    fn readers_are_told_what_is_new() {
        let known = |value: &str| is_known(&headers(header::IF_NONE_MATCH, &[value]), "\"a\"");
        assert!(known("\"a\"") && known("W/\"a\"") && known("*") && known("\"b\", \"a\""));
        assert!(!known("\"b\"") && !known("") && !known("a"));
    }

    #[test]
    fn tags_follow_the_bytes() {
        assert_eq!(etag(b"x"), etag(b"x"));
        assert_ne!(etag(b"x"), etag(b"y"));
        assert_eq!(etag(b"x").len(), 34);
    }
}
