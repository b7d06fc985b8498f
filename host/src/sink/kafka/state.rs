//! The state topic: compacted, the whole label set of a key as one message, none left where it has no labels.
//!
//! It is one part: whole when the marker in its group says so, for the topic that the host remembers. A topic that was made anew,
//! a group that is gone, or an older marker than the state remembers means that something is lost, and it is filled again.

use super::link::Outgoing;
use super::listing::{Held, Listing};
use super::marker::{Marker, Reached};
use super::record;
use super::session::{Found, Portion, Session};
use super::target::{Deadline, Target};
use crate::clock;
use crate::sink::label_set::Stored;
use crate::sink::{LabelSet, Owner, SinkError, StateSink};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How often it is looked whether the topic is the one that it was.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The sink.
pub(super) struct State {
    session: Session,
    topic: Topic,
    /// Everything is there, or the fill under way brings it.
    whole: bool,
    filling: bool,
    /// The last commit of which something was stored.
    commit: u64,
    portion: Portion,
    looked: Option<Instant>,
    policy_is_right: bool,
    listing: Option<Listing>,
    held: Option<Held>,
    /// Nothing has failed: a call was ended so that others get their turn.
    goes_on: bool,
}

/// What the topic was when it was looked at last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Topic {
    name: String,
    /// Its id, where the brokers tell it.
    id: Option<String>,
    partitions: i32,
}

/// What the host remembers.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    topic: Topic,
    /// The last commit that it has for sure; none = it is not whole.
    commit: Option<u64>,
}

impl State {
    pub(super) fn new(target: Target) -> Self {
        Self {
            session: Session::new(target),
            topic: Topic::default(),
            whole: false,
            filling: false,
            commit: 0,
            portion: Portion::default(),
            looked: None,
            policy_is_right: false,
            listing: None,
            held: None,
            goes_on: false,
        }
    }

    /// A topic that is not compacted would lose label sets, or keep all of them for ever.
    fn check_policy(&mut self) -> Result<(), SinkError> {
        let target = &self.session.target;
        let Some(policy) = target.policy()? else { return Ok(()) };
        if policy != "compact" {
            return Err(target.refused(
                "topic-not-compacted",
                format!(
                    "{} has cleanup.policy={policy} and loses label sets, or keeps all that ever were; set \
                     cleanup.policy=compact, or name another topic",
                    target.shown()
                ),
            ));
        }
        self.policy_is_right = true;
        Ok(())
    }

    /// What the marker says, as far as it stops the sink.
    fn check(&self, marker: &Marker, last: u64) -> Result<(), SinkError> {
        if marker.epoch == self.session.owner.epoch && marker.commit > last {
            let target = &self.session.target;
            return Err(target.refused(
                "sink-ahead",
                format!(
                    "{} holds commit {}, and the state's last one is {last}: an older copy of the state was put back; put the \
                     newer one back, or name another topic and sink",
                    target.shown(),
                    marker.commit
                ),
            ));
        }
        Ok(())
    }

    /// Whether it is the topic that it was.
    fn is_same(&self, before: &Topic, now: &Topic) -> Result<bool, SinkError> {
        let is_other = matches!((&before.id, &now.id), (Some(before), Some(now)) if before != now);
        if is_other || before.name != now.name {
            return Ok(false);
        }
        if before.partitions != now.partitions {
            let target = &self.session.target;
            return Err(target.refused(
                "partitions-changed",
                format!(
                    "{} has {} partitions and had {}: what lies in the old ones of keys that now belong to others would stay \
                     there for ever; make the topic anew, it is filled again",
                    target.shown(),
                    now.partitions,
                    before.partitions
                ),
            ));
        }
        Ok(true)
    }

    /// Takes what the brokers hold as what there is.
    fn take(&mut self, found: Found, memory: Option<&Memory>) -> Result<(), SinkError> {
        let name = self.session.target.topic.clone();
        let now = Topic { name, id: found.topic_id, partitions: found.partitions };
        let before = if self.topic.partitions == 0 { memory.map(|m| &m.topic) } else { Some(&self.topic) };
        let same = before.map_or(Ok(true), |before| self.is_same(before, &now))?;
        // What this process saw counts more than what the last one did.
        let seen = self.commit.max(memory.and_then(|memory| memory.commit).unwrap_or(0));
        let marker = found.marker.filter(|m| same && m.epoch == self.session.owner.epoch);
        let is_kept = marker.as_ref().is_some_and(|marker| marker.commit >= seen);
        let reached = marker.as_ref().map(|marker| marker.reached);
        let is_mine = marker.as_ref().is_some_and(|marker| marker.host == self.session.host);
        self.whole = is_kept && reached == Some(Reached::Whole);
        self.filling &= is_kept && is_mine && reached == Some(Reached::Filling);
        self.commit = marker.map_or(0, |marker| marker.commit);
        if !same {
            (self.listing, self.held) = (None, None);
        }
        self.topic = now;
        Ok(())
    }

    fn reached(&self) -> Reached {
        if self.whole { Reached::Whole } else { Reached::Filling }
    }

    /// Looks whether the topic is the one that it was: one that was made anew takes messages like any other.
    fn look_at_topic(&mut self, deadline: Deadline) {
        let Some(link) = &self.session.link else { return };
        let id = link.topic_id(&self.session.target, deadline.left(self.session.patience)).ok().flatten();
        self.looked = Some(clock::moment());
        if matches!((&self.topic.id, &id), (Some(before), Some(now)) if before != now) {
            self.topic.id = id;
            (self.whole, self.filling) = (false, false);
            (self.listing, self.held) = (None, None);
        }
    }

    fn mark(&mut self, reached: Reached) -> Result<(), SinkError> {
        self.session.send(std::iter::empty(), (self.commit, reached))
    }
}

impl StateSink for State {
    fn resume(&mut self, owner: &Owner, memory: Option<&Value>, last: u64) -> Result<(), SinkError> {
        if std::mem::take(&mut self.goes_on) && self.session.link.is_some() {
            return Ok(());
        }
        let found = self.session.open(owner)?;
        if !self.policy_is_right {
            self.check_policy()?;
        }
        if let Some(marker) = &found.marker {
            self.check(marker, last)?;
        }
        let memory: Option<Memory> = memory.and_then(|memory| serde_json::from_value(memory.clone()).ok());
        let taken = self.take(found, memory.as_ref());
        if taken.is_err() {
            self.session.link = None;
        }
        self.looked = Some(clock::moment());
        taken
    }

    fn is_whole(&self) -> bool {
        self.whole && !self.filling
    }

    fn lacks(&self, _: &str, _: &str) -> bool {
        self.filling
    }

    fn begin_fill(&mut self, _: bool) -> Result<(), SinkError> {
        self.mark(Reached::Filling)?;
        (self.whole, self.filling) = (false, true);
        (self.listing, self.held) = (None, None);
        Ok(())
    }

    fn put(&mut self, sets: &[LabelSet<'_>], _: bool) -> Result<(), SinkError> {
        if self.looked.is_none_or(|looked| looked.elapsed() > LOOK_EVERY) {
            self.look_at_topic(Deadline::of_call());
        }
        let mut rest = sets;
        while let Some(sets) = rest.chunks(self.portion.size()).next() {
            let messages: Vec<Outgoing> = sets.iter().map(record::outgoing).collect();
            let commit = sets.iter().map(|set| set.version.commit).fold(self.commit, u64::max);
            let sent = self.session.send(messages.iter(), (commit, self.reached()));
            self.portion.learn(&sent);
            sent?;
            rest = rest.get(sets.len()..).unwrap_or_default();
            self.commit = commit;
            for set in sets {
                if let Some(listing) = &mut self.listing {
                    listing.is_put(set);
                }
                if let Some(held) = &mut self.held {
                    held.is_put(set);
                }
            }
        }
        Ok(())
    }

    fn end_fill(&mut self) -> Result<(), SinkError> {
        (self.listing, self.held) = (None, None);
        // One that was lost meanwhile is filled again.
        if self.filling {
            self.mark(Reached::Whole)?;
            (self.whole, self.filling) = (true, false);
        }
        Ok(())
    }

    fn look(&mut self, last: u64) -> Result<(), SinkError> {
        let deadline = Deadline::of_call();
        self.look_at_topic(deadline);
        match self.session.look(deadline)? {
            Some(marker) => self.check(&marker, last),
            // The group has forgotten it.
            None => {
                (self.whole, self.filling) = (false, false);
                Ok(())
            }
        }
    }

    fn get(&mut self, keys: &[(&str, &str)]) -> Result<Vec<Option<Stored>>, SinkError> {
        let Session { target, link, .. } = &mut self.session;
        let Some(link) = link else { return Err(target.away("not connected")) };
        let held = self.held.get_or_insert_default();
        if !held.read(link, target, self.topic.partitions)? {
            self.goes_on = true;
            let reason = format!("it is read to compare, {} messages so far", held.messages());
            return Err(target.away(reason));
        }
        Ok(keys.iter().map(|(entity, key)| held.of_key(entity, key)).collect())
    }

    fn list(&mut self, first: bool, _: bool) -> Result<Option<Vec<Stored>>, SinkError> {
        if first {
            self.listing = None;
        }
        let Session { target, link, .. } = &mut self.session;
        let Some(link) = link else { return Err(target.away("not connected")) };
        let listing = self.listing.get_or_insert_default();
        let listed = listing.next(link, target, self.topic.partitions)?;
        if listed.is_none() {
            (self.listing, self.held) = (None, None);
        }
        Ok(listed)
    }

    fn memory(&self) -> Value {
        let memory = Memory { topic: self.topic.clone(), commit: self.is_whole().then_some(self.commit) };
        serde_json::to_value(memory).unwrap_or_default() // text and numbers always become JSON
    }
}
