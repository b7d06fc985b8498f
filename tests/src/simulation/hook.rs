//! A receiver of batches that outlives crashes, and is not reliable: it is away, fails after it took something, and refuses some
//! messages for good. It holds every batch against what came before under its id.

use retag_host::pipeline::dead_letters;
use retag_host::sink::SinkError;
use retag_host::sink::batch::{Answer, BatchSink, Item};
use retag_host::state::View;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Name of the sink.
pub const HOOK: &str = "hook";

/// What it saw.
#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    /// Ids of messages by id of their batch.
    batches: BTreeMap<String, Vec<String>>,
    /// The batch of more than one that a message was in.
    batch_of: BTreeMap<String, String>,
    /// Ids of messages that it took, in order, each as often as it took it.
    taken: Vec<String>,
}

/// The receiver. Clones share what they saw.
#[derive(Clone, Debug, Default)]
pub struct Hook {
    seen: Arc<Mutex<Seen>>,
    /// Of so many calls one is not answered, and another one breaks off after the batch was taken; 0 = it is reliable.
    pub fails_every: u64,
    /// What it takes is answered every time.
    pub answers: bool,
    /// Of so many keys it refuses one; 0 = none.
    pub refuses_every: u64,
}

impl Hook {
    /// One that saw nothing yet.
    #[must_use]
    pub fn new(fails_every: u64, refuses_every: u64) -> Self {
        Self { fails_every, refuses_every, ..Self::default() }
    }

    /// The same, which refuses nothing any more.
    #[must_use]
    pub fn willing(&self) -> Self {
        Self { refuses_every: 0, ..self.clone() }
    }

    fn is_refused(&self, json: &[u8]) -> bool {
        let message: serde_json::Value = serde_json::from_slice(json).expect("a message");
        let key = message["key"].as_str().and_then(|key| key.parse::<u64>().ok());
        self.refuses_every > 0 && key.is_some_and(|key| key.is_multiple_of(self.refuses_every))
    }

    /// Messages that it took, each once, in the order in which it took them first.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    #[must_use]
    pub fn taken(&self) -> Vec<String> {
        let mut known = BTreeSet::new();
        let seen = self.seen.lock().expect("no panic");
        seen.taken.iter().filter(|id| known.insert((*id).clone())).cloned().collect()
    }

    /// Ids of the messages that are dead letters in a view.
    ///
    /// # Panics
    /// When they do not read, or are not as many as the state says.
    #[must_use]
    pub fn dead(view: &View) -> Vec<String> {
        let letters = dead_letters::behind(view, HOOK, None, usize::MAX).expect("letters that read");
        let id = |letter: dead_letters::Letter| letter.message["id"].as_str().expect("an id").to_owned();
        letters.into_iter().map(|(_, letter)| id(letter)).collect()
    }
}

impl BatchSink for Hook {
    fn target(&self) -> String {
        "the hook".into()
    }

    fn send(&mut self, id: &str, items: &[Item], _: i64) -> Result<Answer, SinkError> {
        let ids: Vec<String> = items
            .iter()
            .map(|item| {
                let message: serde_json::Value = serde_json::from_slice(&item.json).expect("a message");
                message["id"].as_str().expect("an id").to_owned()
            })
            .collect();
        let mut seen = self.seen.lock().expect("no panic");
        seen.calls += 1;
        let before = seen.batches.entry(id.to_owned()).or_insert_with(|| ids.clone());
        assert_eq!(*before, ids, "other messages under the id of a batch");
        if ids.len() > 1 {
            for message in &ids {
                let batch = seen.batch_of.entry(message.clone()).or_insert_with(|| id.to_owned());
                assert_eq!(batch, id, "{message} is in two batches");
            }
        }
        let later = |after_us| Ok(Answer::Later { reason: "away".into(), after_us });
        let fails = self.fails_every > 0;
        if fails && seen.calls % self.fails_every == 1 {
            return later(5_000);
        }
        if items.iter().any(|item| self.is_refused(&item.json)) {
            return Ok(Answer::Refused { status: 400, reason: "no".into() });
        }
        seen.taken.extend(ids);
        if fails && !self.answers && seen.calls % self.fails_every == 2 {
            later(0)
        } else {
            Ok(Answer::Taken)
        }
    }
}
