//! The driver for real: a thread per part, a channel to each. The coordinator runs on the calling thread.
//!
//! Channels need no bound of their own: the coordinator hands out a bounded number of blocks, one cycle and one commit
//! at a time, and every other part only answers.

use super::coordinator::Pipeline;
use super::failure::Failure;
use super::message::{Actor, Address, Envelope, Message};
use crate::clock;
use crate::priority::stand_back;
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The parts beside the coordinator.
pub type Parts = Vec<(Address, Box<dyn Actor>)>;

/// The coordinator's letter box; commands may be put into it before it runs.
pub type Mailbox = (Sender<Message>, Receiver<Message>);

/// What the driver is told from outside while it runs.
pub struct Watch<'a> {
    /// True = finish the open cycle and stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Called about every tick and at the end.
    pub progress: &'a mut dyn FnMut(&Pipeline),
    /// How far the parts' threads stand back behind those that answer readers: a label is read between two blocks, not behind them.
    pub nice: u8,
}

/// Runs the engine to its end.
///
/// # Errors
/// Why it stopped, if not because it was told to or reached the end.
pub fn run(
    mut pipeline: Pipeline,
    parts: Parts,
    tick: Duration,
    (to_pipeline, inbox): Mailbox,
    mut watch: Watch<'_>,
) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let mut senders: HashMap<Address, Sender<Message>> = HashMap::new();
        let mut inboxes = Vec::new();
        for (address, part) in parts {
            let (sender, receiver) = channel();
            senders.insert(address, sender);
            inboxes.push((address, part, receiver));
        }
        for (address, part, receiver) in inboxes {
            let post = Post { own: senders.get(&address).cloned(), pipeline: to_pipeline.clone() };
            let named = std::thread::Builder::new().name(name(address));
            let nice = i32::from(watch.nice);
            let work = move || {
                stand_back(nice);
                serve(address, part, &receiver, &post);
            };
            named
                .spawn_scoped(scope, work)
                .map_err(|error| Failure::Internal(format!("a thread cannot be started: {error}")))?;
        }
        drop(to_pipeline);
        let result = coordinate(&mut pipeline, &inbox, &senders, tick, &mut watch);
        for sender in senders.values() {
            let _ = sender.send(Message::Stop); // a part that failed is gone already
        }
        (watch.progress)(&pipeline);
        result
    })
}

fn coordinate(
    pipeline: &mut Pipeline,
    inbox: &Receiver<Message>,
    senders: &HashMap<Address, Sender<Message>>,
    tick: Duration,
    watch: &mut Watch<'_>,
) -> Result<(), Failure> {
    let mut out = Vec::new();
    let mut last_tick = clock::moment();
    let mut message = Message::Tick;
    let (mut stopped, mut ticked) = (false, false);
    loop {
        pipeline.step(message, clock::wall_us(), &mut out);
        for envelope in out.drain(..) {
            let lost = senders.get(&envelope.to).is_some_and(|s| s.send(envelope.message).is_err());
            if lost && !pipeline.ended() {
                return Err(Failure::Internal(format!("{} has ended", name(envelope.to))));
            }
        }
        if let Some(outcome) = pipeline.outcome() {
            return outcome;
        }
        if !stopped && (watch.stop)() {
            stopped = true;
            message = Message::Stop;
            continue;
        }
        let wait = tick.saturating_sub(last_tick.elapsed());
        // A tick comes in time however much there is to do, but never twice before a look into the inbox.
        let due = wait.is_zero() && !ticked;
        let received = if due { Err(RecvTimeoutError::Timeout) } else { inbox.recv_timeout(wait) };
        ticked = received.is_err();
        message = match received {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => {
                last_tick = clock::moment();
                (watch.progress)(pipeline);
                Message::Tick
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Internal("all parts have ended".into()));
            }
        };
    }
}

/// Where a part's messages go: to the coordinator or to itself.
struct Post {
    own: Option<Sender<Message>>,
    pipeline: Sender<Message>,
}

impl Post {
    fn send(&self, address: Address, envelope: Envelope) {
        let sender = if envelope.to == address { self.own.as_ref() } else { Some(&self.pipeline) };
        // Nobody listens any more only when the engine has ended.
        let _ = sender.map(|sender| sender.send(envelope.message));
    }
}

fn serve(address: Address, mut part: Box<dyn Actor>, inbox: &Receiver<Message>, post: &Post) {
    let mut out = Vec::new();
    while let Ok(message) = inbox.recv() {
        if matches!(message, Message::Stop) {
            break;
        }
        let step = std::panic::AssertUnwindSafe(|| part.step(message, clock::wall_us(), &mut out));
        if std::panic::catch_unwind(step).is_err() {
            let failure = Failure::Internal(format!("{} failed", name(address)));
            post.send(address, Message::Failed(Box::new(failure)).to(Address::Pipeline));
            break;
        }
        for envelope in out.drain(..) {
            post.send(address, envelope);
        }
    }
}

fn name(address: Address) -> String {
    match address {
        Address::Pipeline => "pipeline".into(),
        Address::Source(n) => format!("source-{n}"),
        Address::Worker(n) => format!("worker-{n}"),
        Address::Committer => "committer".into(),
        Address::Sink(n) => format!("sink-{n}"),
    }
}
