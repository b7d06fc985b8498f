//! The events topic: every transition as a message, keyed by the key, and in the same transaction how far they go.
//!
//! Where the group has forgotten that (it keeps offsets for some days only), the last messages on the topic say it.

use super::link::Outgoing;
use super::marker::Reached;
use super::session::{Found, Portion, Session};
use super::tail;
use super::target::Target;
use crate::label::outbox::Place;
use crate::sink::message::{Message, Summary};
use crate::sink::{Owner, Sink, SinkError};
use rdkafka::message::{Header, OwnedHeaders};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The sink.
pub(super) struct Events {
    session: Session,
    /// Something was written.
    has_told: bool,
    /// Id of the topic that it was written to, where that is known.
    topic_id: Option<String>,
    portion: Portion,
    policy_is_right: bool,
}

/// What the host remembers once something was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    topic: String,
    /// Id of the topic, where the brokers tell it.
    topic_id: Option<String>,
}

impl Events {
    pub(super) fn new(target: Target) -> Self {
        let (session, portion) = (Session::new(target), Portion::default());
        Self { session, has_told: false, topic_id: None, portion, policy_is_right: false }
    }

    /// A topic that is compacted keeps of each key its last message only.
    fn check_policy(&mut self) -> Result<(), SinkError> {
        let target = &self.session.target;
        let Some(policy) = target.policy()? else { return Ok(()) };
        if policy.contains("compact") {
            return Err(target.refused(
                "topic-compacted",
                format!(
                    "{} has cleanup.policy={policy} and would keep the last message of each key only; set \
                     cleanup.policy=delete, name another topic, or let the sink hold label sets (`form = \"state\"`)",
                    target.shown()
                ),
            ));
        }
        self.policy_is_right = true;
        Ok(())
    }

    /// The last message that is there, where the group does not say it.
    fn looked_up(&mut self, found: &Found) -> Result<Option<Place>, SinkError> {
        // A topic that was made anew has nothing of this sink.
        let is_new = matches!((&self.topic_id, &found.topic_id), (Some(before), Some(now)) if before != now);
        let has_told = self.has_told && !is_new;
        let Session { target, owner, link, .. } = &mut self.session;
        let Some(link) = link else { return Err(target.away("not connected")) };
        let last = tail::last_told(link, (target, owner), found.partitions, has_told)?;
        if let Some(epoch) = last.newer {
            return Err(self.session.newer(epoch));
        }
        match last.place {
            Some(place) if last.is_sure => Ok(Some(place)),
            None if !has_told => Ok(None),
            _ => Err(self.session.target.refused(
                "sink-offset-gone",
                format!(
                    "group {} has no offset any more, and the ends of {} do not say what was delivered: going on might \
                     tell a few messages twice; name another sink (what the outbox still has is then told from its \
                     beginning), or make the topic anew",
                    self.session.target.group(&self.session.owner),
                    self.session.target.shown()
                ),
            )),
        }
    }

    /// Messages with their places, in order.
    fn send(&mut self, messages: &[(Place, Outgoing)]) -> Result<(), SinkError> {
        let mut rest = messages;
        while let (sent, Some(Place { commit, index })) = self.portion_of(rest) {
            let (portion, behind) = rest.split_at(sent);
            let outgoing = portion.iter().map(|(_, message)| message);
            let done = self.session.send(outgoing, (commit, Reached::Index(index)));
            self.portion.learn(&done);
            done?;
            self.has_told = true;
            rest = behind;
        }
        Ok(())
    }

    /// How many messages go together next, and the place of the last of them.
    fn portion_of(&self, rest: &[(Place, Outgoing)]) -> (usize, Option<Place>) {
        let portion = rest.chunks(self.portion.size()).next().unwrap_or_default();
        (portion.len(), portion.last().map(|(place, _)| *place))
    }

    fn json(&self, value: &impl Serialize) -> Result<Vec<u8>, SinkError> {
        // Text and numbers always become JSON.
        serde_json::to_vec(value).map_err(|error| self.session.target.away(error.to_string()))
    }
}

impl Sink for Events {
    fn remember(&mut self, memory: &Value) {
        if let Ok(Told { topic, topic_id }) = serde_json::from_value(memory.clone())
            && topic == self.session.target.topic
        {
            (self.has_told, self.topic_id) = (true, topic_id);
        }
    }

    fn memory(&self) -> Option<Value> {
        let told = Told { topic: self.session.target.topic.clone(), topic_id: self.topic_id.clone() };
        self.has_told.then(|| serde_json::to_value(told).ok()).flatten()
    }

    fn resume(&mut self, owner: &Owner) -> Result<Option<Place>, SinkError> {
        let found = self.session.open(owner)?;
        if !self.policy_is_right {
            self.check_policy()?;
        }
        let last = match &found.marker {
            _ if !self.session.target.transactional => None,
            // Of an earlier epoch: that state was put back as it was before.
            Some(marker) if marker.epoch < owner.epoch => None,
            Some(marker) if marker.place().is_some() => marker.place(),
            _ => self.looked_up(&found)?,
        };
        // What is delivered from here on goes to this topic.
        self.has_told |= last.is_some();
        self.topic_id = found.topic_id;
        Ok(last)
    }

    fn deliver<'m>(&mut self, messages: &mut dyn Iterator<Item = Message<'m>>) -> Result<(), SinkError> {
        let mut outgoing = Vec::new();
        for message in messages {
            let place = Place { commit: message.commit, index: message.index };
            let value = Some(self.json(&message)?);
            let headers =
                Some(headers(message.rule, message.revision, message.cause, message.commit, &message.id));
            outgoing.push((place, Outgoing { key: Some(message.key), value, headers }));
        }
        self.send(&outgoing)
    }

    fn summarize(&mut self, summary: &Summary<'_>) -> Result<(), SinkError> {
        let Summary { rule, revision, cause, commit, index, .. } = *summary;
        let headers = Some(headers(rule, revision, cause, commit, &summary.id));
        let outgoing = Outgoing { key: None, value: Some(self.json(summary)?), headers };
        self.send(&[(Place { commit, index }, outgoing)])
    }
}

/// What readers may want to know before they parse a message.
fn headers(rule: &str, revision: u32, cause: &str, commit: u64, id: &str) -> OwnedHeaders {
    let (revision, commit) = (revision.to_string(), commit.to_string());
    let texts = [
        (tail::ID, id),
        ("rule", rule),
        ("revision", revision.as_str()),
        ("cause", cause),
        ("commit", commit.as_str()),
    ];
    texts.into_iter().fold(OwnedHeaders::new_with_capacity(5), |headers, (key, text)| {
        headers.insert(Header { key, value: Some(text) })
    })
}
