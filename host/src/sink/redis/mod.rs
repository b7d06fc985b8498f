//! Redis as a state sink: the labels of a key in one round trip, who carries a label, and nothing ever turned back.
//!
//! A record carries the version that it holds as of; a script stores it unless a newer one is there, and changes the sets of
//! members with it. A bucket that is gone (`FLUSHALL`) or behind what it had (a failover that lost writes) is noticed at the next
//! write to it and filled again.

mod connection;
mod layout;
mod listing;
mod script;

use super::label_set::{LabelSet, Stored, text_of};
use super::{Owner, SinkError, StateSink, Version};
use crate::config::RedisConfig;
use connection::{Connection, Sent, Target};
use layout::{Facts, Layout, stored};
use listing::Listing;
use script::{GET, MARK, PUT};
use std::collections::{BTreeMap, HashMap};

/// Number of buckets where none is configured.
pub const BUCKETS: u16 = 256;
/// Most keys in one run of a script: Redis serves nobody else meanwhile.
const KEYS_PER_RUN: usize = 500;

/// The sink.
pub struct Redis {
    target: Target,
    layout: Layout,
    connection: Option<Connection>,
    owner: Owner,
    /// By bucket: the last commit that it has for sure; none = it is not whole.
    held: Vec<Option<u64>>,
    /// Buckets that the fill under way brings: what they get counts before they are whole.
    filling: Vec<bool>,
    /// Buckets that held nothing when the fill under way began: there is nothing in them that should not be.
    fresh: Vec<bool>,
    /// What buckets being filled were given last: Redis stores it while the next is made.
    sent: Option<(Vec<Run>, Sent<Answer>)>,
    /// The state's last commit, as far as it is known here: nothing newer is ours.
    last: u64,
    listing: Listing,
}

/// A bucket and the commit as of which something is stored in it.
type Run = (u16, u64);
/// What a script says: a word, and what it found.
type Answer = (String, String);

impl Redis {
    /// A sink that is not connected yet.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn new(sink: &str, config: &RedisConfig, urls: Vec<String>) -> Result<Self, SinkError> {
        if urls.len() > 1 && !config.cluster {
            return Err(SinkError::Refused {
                sink: sink.to_owned(),
                code: "redis-url",
                message: "`url` names several addresses, and only the first would be asked; set `cluster = true` if they are nodes \
                          of one cluster, or name one"
                    .into(),
            });
        }
        let mut shown = Vec::new();
        for url in &urls {
            let read: Result<redis::ConnectionInfo, _> =
                redis::IntoConnectionInfo::into_connection_info(url.as_str());
            // The text may hold a password: it is not shown.
            let read = read.map_err(|_| SinkError::Refused {
                sink: sink.to_owned(),
                code: "redis-url",
                message: "`url` is no address of Redis; write it as redis://HOST:PORT, with a user and password as \
                          redis://USER:PASSWORD@HOST:PORT (a secret: { env = \"NAME\" })"
                    .into(),
            })?;
            shown.push(read.addr().to_string());
        }
        let target = Target { sink: sink.to_owned(), urls, cluster: config.cluster, shown: shown.join(", ") };
        let buckets = usize::from(config.buckets);
        Ok(Self {
            target,
            layout: Layout { prefix: config.prefix.clone(), buckets: config.buckets },
            connection: None,
            owner: Owner::default(),
            held: vec![None; buckets],
            filling: vec![false; buckets],
            fresh: vec![false; buckets],
            sent: None,
            last: 0,
            listing: Listing::default(),
        })
    }

    fn connection(&mut self) -> Result<&mut Connection, SinkError> {
        let target = &self.target;
        self.connection.as_mut().ok_or_else(|| target.away("not connected"))
    }

    /// What a script says of its bucket: true = done, false = the bucket is lost.
    fn is_done(&self, (word, found): &Answer) -> Result<bool, SinkError> {
        match word.as_str() {
            "ok" => Ok(true),
            "lost" => Ok(false),
            "foreign" => Err(self.foreign(found)),
            _ => Err(self.newer(found)),
        }
    }

    fn foreign(&self, found: &str) -> SinkError {
        let (shown, prefix) = (&self.target.shown, &self.layout.prefix);
        self.target.refused(
            "redis-foreign",
            format!(
                "Redis at {shown} holds labels of another state ({found}, this one is {}) under the prefix {prefix}; set \
                 another `prefix`, or delete the keys that begin with {{{prefix}:",
                self.owner.state_id
            ),
        )
    }

    fn newer(&self, found: &str) -> SinkError {
        self.target.refused(
            "sink-newer",
            format!(
                "Redis at {} holds labels of epoch {found} of this state, which is in epoch {}: it was restored elsewhere; run \
                 that copy, or set another `prefix`",
                self.target.shown, self.owner.epoch
            ),
        )
    }

    /// What a bucket says of itself, as far as it stops the sink.
    fn check(&self, facts: &Facts, last: u64) -> Result<(), SinkError> {
        let Some(state) = &facts.state else { return Ok(()) };
        if *state != self.owner.state_id {
            return Err(self.foreign(state));
        }
        let epoch = facts.epoch.unwrap_or(0);
        if epoch > self.owner.epoch {
            return Err(self.newer(&epoch.to_string()));
        }
        if epoch == self.owner.epoch && facts.commit > last {
            return Err(self.target.refused(
                "sink-ahead",
                format!(
                    "Redis at {} holds commit {}, and the state's last one is {last}: an older copy of the state was put back; \
                     put the newer one back, or set another `prefix`",
                    self.target.shown, facts.commit
                ),
            ));
        }
        if facts.buckets.is_some_and(|buckets| buckets != self.layout.buckets) {
            return Err(self.target.refused(
                "redis-buckets",
                format!(
                    "Redis at {} has {} buckets under the prefix {}, and `buckets` is {}; set it as it was, or another `prefix`",
                    self.target.shown,
                    facts.buckets.unwrap_or(0),
                    self.layout.prefix,
                    self.layout.buckets
                ),
            ));
        }
        Ok(())
    }

    /// Marks buckets, all at once.
    fn mark(&mut self, buckets: &[u16], whole: bool) -> Result<(), SinkError> {
        let (owner, layout) = (self.owner.clone(), self.layout.clone());
        let command = |bucket: &u16| {
            let mut command = MARK.on(&[&layout.facts(*bucket)]);
            command.arg(&owner.state_id).arg(owner.epoch).arg(layout.buckets).arg(u8::from(whole));
            command
        };
        let commands: Vec<_> = buckets.iter().map(command).collect();
        self.hear()?;
        let answers: Vec<Answer> = self.connection()?.run(&commands)?;
        for (bucket, answer) in buckets.iter().zip(&answers) {
            let done = self.is_done(answer)?;
            let bucket = usize::from(*bucket);
            if let (Some(filling), Some(held), Some(fresh)) =
                (self.filling.get_mut(bucket), self.held.get_mut(bucket), self.fresh.get_mut(bucket))
            {
                if whole {
                    (*filling, *fresh) = (false, false);
                    *held = held.filter(|_| done);
                } else {
                    (*filling, *held, *fresh) = (true, Some(0), answer.1 == "empty");
                }
            }
        }
        Ok(())
    }

    /// Counts what buckets say that they were given.
    fn count(&mut self, runs: &[Run], answers: &[Answer]) -> Result<(), SinkError> {
        for ((bucket, commit), answer) in runs.iter().zip(answers) {
            let done = self.is_done(answer)?;
            let bucket = usize::from(*bucket);
            if let (Some(held), Some(filling), Some(fresh)) =
                (self.held.get_mut(bucket), self.filling.get_mut(bucket), self.fresh.get_mut(bucket))
            {
                *held = held.map(|held| held.max(*commit)).filter(|_| done);
                *filling &= done;
                *fresh &= answer.1 != "found";
            }
        }
        Ok(())
    }

    /// Waits for the answers to what was sent. The fill has gone on since, so where they do not come their buckets are not
    /// whole, and are filled once more.
    fn hear(&mut self) -> Result<(), SinkError> {
        let Some((runs, sent)) = self.sent.take() else { return Ok(()) };
        let heard = self.connection().and_then(|connection| connection.receive(sent));
        let heard = heard.and_then(|answers| self.count(&runs, &answers));
        if heard.is_err() {
            self.lose(&runs);
        }
        heard
    }

    fn lose(&mut self, runs: &[Run]) {
        for (bucket, _) in runs {
            let bucket = usize::from(*bucket);
            if let (Some(held), Some(filling)) = (self.held.get_mut(bucket), self.filling.get_mut(bucket)) {
                (*held, *filling) = (None, false);
            }
        }
    }

    /// Asks all buckets what they hold.
    fn survey(&mut self, memory: Option<&serde_json::Value>, last: u64) -> Result<(), SinkError> {
        let command = |bucket| {
            let mut command = redis::cmd("HMGET");
            command.arg(self.layout.facts(bucket)).arg(&Facts::FIELDS);
            command
        };
        let commands: Vec<_> = (0..self.layout.buckets).map(command).collect();
        self.hear()?;
        let found: Vec<Vec<Option<String>>> = self.connection()?.run(&commands)?;
        let remembered = |bucket: usize| memory?.get("held")?.get(bucket)?.as_u64();
        let mut held = Vec::new();
        for (bucket, fields) in found.iter().enumerate() {
            let facts = Facts::read(fields);
            self.check(&facts, last)?;
            let filling = self.filling.get_mut(bucket);
            let is_filling = filling.as_ref().is_some_and(|filling| **filling);
            let is_kept = facts.whole || is_filling;
            let is_there = facts.state.is_some() && facts.epoch == Some(self.owner.epoch) && is_kept;
            // What this process saw counts more than what the last one did.
            let seen = self.held.get(bucket).copied().flatten().max(remembered(bucket)).unwrap_or(0);
            let found = Some(facts.commit).filter(|commit| is_there && *commit >= seen);
            if let Some(filling) = filling {
                *filling &= found.is_some();
            }
            held.push(found);
        }
        self.held = held;
        Ok(())
    }

    fn buckets(&self, which: impl Fn(usize) -> bool) -> Vec<u16> {
        (0..self.layout.buckets).filter(|bucket| which(usize::from(*bucket))).collect()
    }

    /// One run of the script for up to [`KEYS_PER_RUN`] sets of an entity, bucket and commit.
    fn put_command<'s>(
        &self,
        (bucket, entity, commit): (u16, &str, u64),
        sets: impl Iterator<Item = &'s LabelSet<'s>>,
        repair: bool,
    ) -> redis::Cmd {
        let (layout, owner) = (&self.layout, &self.owner);
        let held = self.held.get(usize::from(bucket)).copied().flatten().unwrap_or(0);
        let mut command = PUT.on(&[&layout.facts(bucket), &layout.records(bucket, entity)]);
        command.arg(&owner.state_id).arg(owner.epoch).arg(held).arg(commit).arg(u8::from(repair));
        command.arg(layout.members(bucket, entity)).arg(entity);
        // Most keys have the labels that others have too: each is sent, and read there, once.
        let (mut different, mut numbers) = (Vec::new(), HashMap::new());
        let mut number_of = |labels| {
            *numbers.entry(labels).or_insert_with(|| {
                different.push(labels);
                different.len()
            })
        };
        let of_keys: Vec<(&str, usize)> =
            sets.map(|set| (set.key.as_str(), number_of(&set.labels))).collect();
        command.arg(different.len());
        for labels in different {
            command.arg(text_of(labels));
        }
        for (key, number) in of_keys {
            command.arg(key).arg(number);
        }
        command
    }
}

impl StateSink for Redis {
    fn resume(
        &mut self,
        owner: &Owner,
        memory: Option<&serde_json::Value>,
        last: u64,
    ) -> Result<(), SinkError> {
        self.owner = owner.clone();
        self.last = last;
        self.connection = None;
        if let Some((runs, _)) = self.sent.take() {
            self.lose(&runs);
        }
        self.fresh.fill(false); // what happened while nobody was connected is not known
        self.connection = Some(Connection::open(&self.target)?);
        self.survey(memory, last)
    }

    fn is_whole(&self) -> bool {
        self.held.iter().all(Option::is_some) && !self.filling.iter().any(|filling| *filling)
    }

    fn lacks(&self, _: &str, key: &str) -> bool {
        let bucket = usize::from(self.layout.bucket(key));
        self.filling.get(bucket).is_none_or(|filling| *filling)
    }

    fn begin_fill(&mut self, everything: bool) -> Result<(), SinkError> {
        let buckets = self.buckets(|bucket| everything || self.held.get(bucket).copied().flatten().is_none());
        self.mark(&buckets, false)
    }

    fn put(&mut self, sets: &[LabelSet<'_>], repair: bool) -> Result<(), SinkError> {
        self.hear()?;
        self.last = sets.iter().map(|set| set.version.commit).fold(self.last, u64::max);
        // What a lost bucket lacks comes with its fill.
        let is_held = |bucket: u16| self.held.get(usize::from(bucket)).copied().flatten().is_some();
        let placed =
            sets.iter().map(|set| ((self.layout.bucket(&set.key), set.entity, set.version.commit), set));
        let mut placed: Vec<_> = placed.filter(|((bucket, ..), _)| is_held(*bucket)).collect();
        placed.sort_unstable_by_key(|(place, _)| *place);
        let mut runs = Vec::new();
        let mut commands = Vec::new();
        for sets in placed.chunk_by(|(before, _), (next, _)| before == next) {
            for sets in sets.chunks(KEYS_PER_RUN) {
                let Some((place, _)) = sets.first() else { continue };
                runs.push((place.0, place.2));
                commands.push(self.put_command(*place, sets.iter().map(|(_, set)| *set), repair));
            }
        }
        let is_filling = |(bucket, _): &Run| self.filling.get(usize::from(*bucket)) == Some(&true);
        if runs.is_empty() {
            return Ok(()); // their buckets are all lost
        }
        if repair && runs.iter().all(is_filling) {
            let sent = self.connection()?.send(commands)?;
            self.sent = Some((runs, sent));
            return Ok(());
        }
        let answers: Vec<Answer> = self.connection()?.run(&commands)?;
        self.count(&runs, &answers)
    }

    fn end_fill(&mut self) -> Result<(), SinkError> {
        let buckets = self.buckets(|bucket| self.filling.get(bucket).is_some_and(|filling| *filling));
        self.mark(&buckets, true)
    }

    fn look(&mut self, last: u64) -> Result<(), SinkError> {
        self.last = last;
        self.survey(None, last)
    }

    fn get(&mut self, keys: &[(&str, &str)]) -> Result<Vec<Option<Stored>>, SinkError> {
        let mut of_buckets: BTreeMap<(u16, &str), Vec<usize>> = BTreeMap::new();
        for (n, (entity, key)) in keys.iter().enumerate() {
            of_buckets.entry((self.layout.bucket(key), entity)).or_default().push(n);
        }
        let runs = of_buckets
            .iter()
            .flat_map(|(place, numbers)| numbers.chunks(KEYS_PER_RUN).map(move |numbers| (place, numbers)));
        let runs: Vec<(&(u16, &str), &[usize])> = runs.collect();
        let command = |((bucket, entity), numbers): &(&(u16, &str), &[usize])| {
            let mut command = GET.on(&[&self.layout.records(*bucket, entity)]);
            command.arg(self.layout.members(*bucket, entity));
            for (_, key) in numbers.iter().filter_map(|n| keys.get(*n)) {
                command.arg(*key);
            }
            command
        };
        let commands: Vec<_> = runs.iter().map(command).collect();
        self.hear()?;
        let answers: Vec<Vec<(Option<Vec<u8>>, bool)>> = self.connection()?.run(&commands)?;
        let mut found = vec![None; keys.len()];
        for ((_, numbers), answers) in runs.iter().zip(answers) {
            for (n, (record, agrees)) in numbers.iter().zip(answers) {
                if let (Some(place), Some((entity, key)), Some(record)) =
                    (found.get_mut(*n), keys.get(*n), record)
                {
                    let mut stored = stored(entity, key, &record);
                    // A set of members that does not have the key is as wrong as a record without the label.
                    if !agrees {
                        stored.labels.clear();
                    }
                    *place = Some(stored);
                }
            }
        }
        Ok(found)
    }

    fn list(&mut self, first: bool, mends: bool) -> Result<Option<Vec<Stored>>, SinkError> {
        if first {
            self.listing = Listing::default();
        }
        self.hear()?;
        let skips: &[bool] = if mends { &self.fresh } else { &[] };
        let target = &self.target;
        let connection = self.connection.as_mut().ok_or_else(|| target.away("not connected"))?;
        let newest = Version { epoch: self.owner.epoch, commit: self.last };
        self.listing.next(connection, (&self.layout, skips), (newest, mends))
    }

    fn memory(&self) -> serde_json::Value {
        let held = self.held.iter().zip(&self.filling).map(|(held, filling)| held.filter(|_| !filling));
        serde_json::json!({ "held": held.collect::<Vec<_>>() })
    }
}
