//! A sink's time at the brokers: it takes over, learns how far the topic is, and writes until something fails; then it begins
//! again. Nothing is concluded from an outcome that is not known: what the brokers hold is asked.
//!
//! Of two processes on copies of one state the one that came last shuts the other out. That one looks who has written since:
//! nobody, then it was the brokers themselves, after a pause too long for a transaction, and it takes over again; another
//! process, then it stays out for good, and never fights.

use super::link::{Link, Outgoing};
use super::marker::{Marker, Reached};
use super::target::{ANSWER, Deadline, Target};
use crate::failpoint::{self, Step};
use crate::sink::{Owner, SinkError};
use crate::source::kafka::IDS_TIMEOUT;
use crate::state::this_process;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::time::Duration;

/// The sink at the brokers.
pub(super) struct Session {
    pub(super) target: Target,
    pub(super) owner: Owner,
    pub(super) link: Option<Link>,
    /// Who this process is.
    pub(super) host: String,
    /// The marker as it was read or written last.
    known: Option<Marker>,
    shut_out: ShutOut,
    /// How long the brokers may take to tell the topic's id.
    pub(super) patience: Duration,
}

/// Whether another producer has this one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutOut {
    No,
    /// By whom is not known yet.
    Perhaps,
    ForGood,
}

/// What is found at the brokers.
pub(super) struct Found {
    pub(super) marker: Option<Marker>,
    pub(super) partitions: i32,
    pub(super) topic_id: Option<String>,
}

impl Session {
    pub(super) fn new(target: Target) -> Self {
        let (owner, host) = (Owner::default(), this_process());
        Self { target, owner, link: None, host, known: None, shut_out: ShutOut::No, patience: IDS_TIMEOUT }
    }

    /// Begins anew: what an earlier producer left open is over afterwards.
    pub(super) fn open(&mut self, owner: &Owner) -> Result<Found, SinkError> {
        self.owner = owner.clone();
        if let Some(host) = owner.hosts.last() {
            self.host.clone_from(host);
        }
        self.link = None;
        if self.shut_out == ShutOut::ForGood {
            return Err(self.fenced());
        }
        let deadline = Deadline::of_call();
        let link = Link::open(&self.target, owner)?;
        let partitions = link.partitions(&self.target, deadline)?;
        let topic_id = link.topic_id(&self.target, deadline.left(self.patience));
        // Little at first (see `topic_ids`), more where the way is long: each time it is a new connection.
        self.patience = if topic_id.is_ok() { IDS_TIMEOUT } else { ANSWER.min(self.patience * 2) };
        let topic_id = topic_id?;
        let marker = if self.target.transactional { self.take_over(&link, deadline)? } else { None };
        self.link = Some(link);
        Ok(Found { marker, partitions, topic_id })
    }

    fn take_over(&mut self, link: &Link, deadline: Deadline) -> Result<Option<Marker>, SinkError> {
        let means = |error: KafkaError| link.means(&self.target, &error);
        if self.shut_out == ShutOut::Perhaps {
            let found = link.committed(&self.target, deadline).map_err(means)?;
            let is_ours = found.as_ref().is_some_and(|marker| marker.host == self.host);
            if !is_ours && found != self.known {
                self.shut_out = ShutOut::ForGood;
                return Err(self.fenced());
            }
        }
        link.take_over(deadline).map_err(means)?;
        let marker = link.committed(&self.target, deadline).map_err(means)?;
        if let Some(marker) = marker.as_ref().filter(|marker| marker.epoch > self.owner.epoch) {
            return Err(self.newer(marker.epoch));
        }
        // The other one, if it runs, finds that nobody has written since, and takes over again.
        if marker.as_ref().is_some_and(|marker| self.is_of_a_copy(marker)) {
            self.shut_out = ShutOut::ForGood;
            return Err(self.fenced());
        }
        self.shut_out = ShutOut::No;
        self.known.clone_from(&marker);
        Ok(marker)
    }

    /// A process wrote it that never had this state's directory: it ran on a copy of it.
    fn is_of_a_copy(&self, marker: &Marker) -> bool {
        let Owner { epoch, hosts, .. } = &self.owner;
        !hosts.is_empty() && marker.epoch == *epoch && !hosts.contains(&marker.host)
    }

    /// Messages, with how far they go; all of them or none, where there are transactions.
    pub(super) fn send<'o>(
        &mut self,
        messages: impl Iterator<Item = &'o Outgoing>,
        (commit, reached): (u64, Reached),
    ) -> Result<(), SinkError> {
        let deadline = Deadline::of_call();
        let Some(link) = &self.link else { return Err(self.target.away("not connected")) };
        if !self.target.transactional {
            let produced = link.produce(&self.target, messages, deadline);
            produced.map_err(|error| link.means(&self.target, &error))?;
            failpoint::hit(Step::Produce);
            return Ok(());
        }
        let marker = Marker { epoch: self.owner.epoch, commit, reached, host: self.host.clone() };
        let Err(error) = link.transact(&self.target, (messages, &marker), deadline) else {
            self.known = Some(marker);
            return Ok(());
        };
        if link.is_shut_out(&error) {
            self.shut_out = ShutOut::Perhaps;
            self.link = None;
            return Err(self.taken_over());
        }
        if is_undone(&error) {
            link.abort();
        }
        let meant = link.means(&self.target, &error);
        self.link = None;
        Err(meant)
    }

    /// The marker as it is now; one that another process wrote shuts this one out.
    pub(super) fn look(&mut self, deadline: Deadline) -> Result<Option<Marker>, SinkError> {
        let Some(link) = &self.link else { return Err(self.target.away("not connected")) };
        let found = link.committed(&self.target, deadline);
        let found = found.map_err(|error| link.means(&self.target, &error))?;
        if found.as_ref().is_some_and(|marker| marker.host != self.host) && found != self.known {
            self.shut_out = ShutOut::Perhaps;
            self.link = None;
            return Err(self.taken_over());
        }
        Ok(found)
    }

    fn taken_over(&self) -> SinkError {
        self.target.away("another producer has taken over; it is looked up which")
    }

    pub(super) fn newer(&self, epoch: u64) -> SinkError {
        self.target.refused(
            "sink-newer",
            format!(
                "{} has messages of epoch {epoch} of this state, which is in epoch {}: it was restored elsewhere; run that \
                 copy, or name another topic and sink",
                self.target.shown(),
                self.owner.epoch
            ),
        )
    }

    fn fenced(&self) -> SinkError {
        self.target.refused(
            "sink-fenced",
            format!(
                "another process on a copy of this state (id {}), or on this one before an older copy was put back, writes or \
                 wrote to {}, and what it tells is not what this one would have told; go on with that copy and stop this one \
                 for good, or name another topic and sink here",
                self.owner.state_id,
                self.target.shown()
            ),
        )
    }
}

/// The brokers are there and have said no: it can be taken back at once.
fn is_undone(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.txn_requires_abort(),
        KafkaError::MessageProduction(code) => {
            !matches!(code, Code::MessageTimedOut | Code::OperationTimedOut | Code::QueueFull)
        }
        _ => false,
    }
}

/// Messages in one transaction: fewer after a failure, so that slow brokers, as those with quotas are, take some in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion(usize);

impl Portion {
    const LEAST: usize = 10;
    const MOST: usize = 5_000;

    pub(super) fn size(self) -> usize {
        self.0
    }

    /// What became of such a portion.
    pub(super) fn learn<T>(&mut self, sent: &Result<T, SinkError>) {
        self.0 = match sent {
            Ok(_) => (self.0 * 2).min(Self::MOST),
            Err(_) => (self.0 / 4).max(Self::LEAST),
        };
    }
}

impl Default for Portion {
    fn default() -> Self {
        Self(Self::MOST)
    }
}
