//! `Idempotency-Key`: a write that is sent again with the same key is answered again, not done again.
//!
//! Kept in memory for a day, bounded in answers and bytes: the oldest go first. A restart forgets them; writes whose
//! repetition would do harm say so by `If-Match` besides. A key counts for one caller and one path, so nobody reads
//! another's answer.

use super::caller::Caller;
use super::error::ApiError;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The header.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key.
const KEY_BYTES_MAX: usize = 255;
/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Most answers, those under way included.
const ENTRIES_MAX: usize = 10_000;
/// Most bytes of all answers.
const BYTES_MAX: usize = 16 << 20;

/// An answer that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Status.
    pub status: StatusCode,
    /// What the handler said in headers.
    pub headers: HeaderMap,
    /// JSON.
    pub body: Bytes,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Ask {
    /// Nothing is asked: do it.
    Plain,
    /// It is new: do it, then say how it went.
    New(Doing),
    /// It was done: answer this.
    Again(Kept),
}

/// Answers by caller, route and key.
#[derive(Clone, Debug, Default)]
pub struct Idempotency {
    inner: Arc<Mutex<Inner>>,
}

type Id = [u8; 32];

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Id, Entry>,
    /// By age.
    order: BTreeMap<u64, Id>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// SHA-256 of what the request says beside its path.
    asked: [u8; 32],
    since: Instant,
    number: u64,
    kept: Option<Kept>,
}

/// A write under way. Dropped without an answer (it failed, or the caller went away) its key is free again.
#[derive(Debug)]
pub struct Doing {
    store: Idempotency,
    id: Id,
    number: u64,
}

impl Idempotency {
    /// Looks the request up.
    ///
    /// # Errors
    /// A key that does not read, one that stands for another body, or one whose first request is under way.
    pub fn ask(
        &self,
        caller: &Caller,
        path: &str,
        headers: &HeaderMap,
        (query, body): (&str, &[u8]),
        now: Instant,
    ) -> Result<Ask, ApiError> {
        let mut values = headers.get_all(&HEADER).iter();
        let Some(value) = values.next() else { return Ok(Ask::Plain) };
        let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
        let fits = (1..=KEY_BYTES_MAX).contains(&value.len()) && visible && values.next().is_none();
        let key = value.to_str().ok().filter(|_| fits);
        let key = key.ok_or_else(|| {
            ApiError::BadRequest(format!("idempotency-key: one, of 1 to {KEY_BYTES_MAX} visible characters"))
        })?;
        let who = match caller {
            Caller::Token { id, .. } => id.as_str(),
            Caller::Owner => "owner",
            Caller::Unasked | Caller::Nobody | Caller::Refused(_) => "",
        };
        let id = hash_of(&[who.as_bytes(), path.as_bytes(), key.as_bytes()]);
        let if_match = headers.get(header::IF_MATCH).map_or(&b""[..], HeaderValue::as_bytes);
        let asked = hash_of(&[query.as_bytes(), if_match, body]);
        let mut inner = self.lock();
        inner.forget_old(now);
        match inner.entries.get(&id) {
            Some(entry) if entry.asked != asked => Err(ApiError::KeyReused),
            Some(Entry { kept: Some(kept), .. }) => Ok(Ask::Again(kept.clone())),
            Some(_) => Err(ApiError::KeyBusy),
            None => {
                let number = inner.next;
                inner.next += 1;
                inner.entries.insert(id, Entry { asked, since: now, number, kept: None });
                inner.order.insert(number, id);
                inner.forget_above(ENTRIES_MAX, BYTES_MAX);
                Ok(Ask::New(Doing { store: self.clone(), id, number }))
            }
        }
    }

    /// Keys that are kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// None is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each part with its length before it, so that no two join to the same.
fn hash_of(parts: &[&[u8]]) -> Id {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Inner {
    fn forget(&mut self, number: u64) {
        let Some(id) = self.order.remove(&number) else { return };
        if let Some(entry) = self.entries.remove(&id) {
            self.bytes -= entry.kept.map_or(0, |kept| kept.body.len());
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((number, id)) = self.order.first_key_value().map(|(number, id)| (*number, *id)) {
            let old = self.entries.get(&id).is_none_or(|e| now.saturating_duration_since(e.since) >= KEPT);
            if !old {
                return;
            }
            self.forget(number);
        }
    }

    fn forget_above(&mut self, entries: usize, bytes: usize) {
        while self.order.len() > entries || self.bytes > bytes {
            let Some(number) = self.order.keys().next().copied() else { return };
            self.forget(number);
        }
    }
}

impl Doing {
    /// It was done: this is the answer from now on.
    pub fn done(self, kept: Kept) {
        let mut inner = self.store.lock();
        let bytes = kept.body.len();
        if let Some(entry) = inner.entries.get_mut(&self.id).filter(|entry| entry.number == self.number) {
            entry.kept = Some(kept);
            inner.bytes += bytes;
        }
        inner.forget_above(ENTRIES_MAX, BYTES_MAX);
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        let mut inner = self.store.lock();
        let unanswered = |entry: &Entry| entry.number == self.number && entry.kept.is_none();
        if inner.entries.get(&self.id).is_some_and(unanswered) {
            inner.forget(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Role;
    use crate::clock::moment;

    fn caller(id: &str) -> Caller {
        Caller::Token { id: id.into(), name: String::new(), role: Role::Deployer }
    }

    fn headers(key: &str) -> HeaderMap {
        HeaderMap::from_iter([(HEADER, HeaderValue::from_str(key).unwrap())])
    }

    fn kept(bytes: usize) -> Kept {
        Kept { status: StatusCode::CREATED, headers: HeaderMap::new(), body: vec![b'x'; bytes].into() }
    }

    fn ask(store: &Idempotency, who: &str, key: &str, body: &str, now: Instant) -> Result<Ask, ApiError> {
        store.ask(&caller(who), "/v1/x", &headers(key), ("", body.as_bytes()), now)
    }

    fn new(store: &Idempotency, key: &str, now: Instant) -> Doing {
        match ask(store, "a", key, "b", now).unwrap() {
            Ask::New(doing) => doing,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_done_is_answered_again_and_only_to_its_caller() {
        let (store, now) = (Idempotency::default(), moment());
        let doing = new(&store, "k", now);
        assert!(matches!(ask(&store, "a", "k", "b", now), Err(ApiError::KeyBusy)));
        doing.done(kept(3));
        assert!(matches!(ask(&store, "a", "k", "b", now), Ok(Ask::Again(again)) if again == kept(3)));
        assert!(matches!(ask(&store, "a", "k", "other", now), Err(ApiError::KeyReused)));
        assert!(matches!(ask(&store, "b", "k", "b", now), Ok(Ask::New(_))), "another caller");
        let other_query = store.ask(&caller("a"), "/v1/x", &headers("k"), ("reason=x", b"b"), now);
        assert!(matches!(other_query, Err(ApiError::KeyReused)));
        let mut other_tag = headers("k");
        other_tag.insert(header::IF_MATCH, HeaderValue::from_static("*"));
        let other_tag = store.ask(&caller("a"), "/v1/x", &other_tag, ("", b"b"), now);
        assert!(matches!(other_tag, Err(ApiError::KeyReused)));
        let other_path = store.ask(&caller("a"), "/v1/y", &headers("k"), ("", b"b"), now);
        assert!(matches!(other_path, Ok(Ask::New(_))));
        let plain = store.ask(&caller("a"), "/v1/x", &HeaderMap::new(), ("", b"b"), now);
        assert!(matches!(plain, Ok(Ask::Plain)));
    }

    #[test]
    fn what_failed_may_be_tried_again_and_what_is_old_is_forgotten() {
        let (store, now) = (Idempotency::default(), moment());
        drop(new(&store, "k", now));
        new(&store, "k", now).done(kept(1));
        assert!(matches!(ask(&store, "a", "k", "b", now + KEPT / 2), Ok(Ask::Again(_))));
        let doing = new(&store, "k", now + KEPT);
        // The entry of a doing that was forgotten is another's: it neither answers nor frees it.
        let second = new(&store, "l", now + KEPT + KEPT);
        drop(doing);
        second.done(kept(1));
        let inner = store.lock();
        assert_eq!((inner.entries.len(), inner.bytes), (1, 1));
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        let (store, now) = (Idempotency::default(), moment());
        for n in 0..ENTRIES_MAX + 100 {
            new(&store, &n.to_string(), now).done(kept(0));
        }
        let counts = |inner: &Inner| (inner.entries.len(), inner.order.len());
        assert_eq!(counts(&store.lock()), (ENTRIES_MAX, ENTRIES_MAX));
        for n in 0..40 {
            new(&store, &format!("large-{n}"), now).done(kept(1 << 20));
        }
        assert_eq!(store.lock().bytes, BYTES_MAX);
        assert!(matches!(ask(&store, "a", "large-39", "b", now), Ok(Ask::Again(_))), "the newest stay");
    }

    #[test]
    fn keys_that_do_not_read_are_refused() {
        let (store, now) = (Idempotency::default(), moment());
        assert!(matches!(ask(&store, "a", "", "b", now), Err(ApiError::BadRequest(_))));
        assert!(matches!(ask(&store, "a", &"k".repeat(256), "b", now), Err(ApiError::BadRequest(_))));
        assert!(matches!(ask(&store, "a", "k l", "b", now), Err(ApiError::BadRequest(_))));
        assert!(matches!(ask(&store, "a", "k\tl", "b", now), Err(ApiError::BadRequest(_))));
        let mut twice = headers("k");
        twice.append(HEADER, HeaderValue::from_static("l"));
        let asked = store.ask(&caller("a"), "/v1/x", &twice, ("", b"b"), now);
        assert!(matches!(asked, Err(ApiError::BadRequest(_))));
    }
}
