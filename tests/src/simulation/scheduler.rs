//! Which message is delivered next: any of the oldest ones between two parts, by seed.

use retag_host::pipeline::command::{Outcome, Submitted};
use retag_host::pipeline::coordinator::Pipeline;
use retag_host::pipeline::failure::Failure;
use retag_host::pipeline::message::{Actor, Address, Envelope, Message};
use retag_host::pipeline::program::Code;
use retag_host::pipeline::threads::Parts;
use retag_host::registry::command::{Asker, Command};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, channel};

/// A small random generator (splitmix64), so that runs do not change with a library.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.number() % n.max(1)
    }
}

/// The parts with their letter boxes.
pub struct Schedule {
    pipeline: Pipeline,
    parts: BTreeMap<Address, Box<dyn Actor>>,
    boxes: BTreeMap<(Address, Address), VecDeque<Message>>,
    /// Engine time in µs.
    pub now: i64,
    /// Most µs between two steps.
    pub pace_us: u64,
    /// Steps taken.
    pub steps: u64,
}

impl Schedule {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(pipeline: Pipeline, parts: Parts, now: i64) -> Self {
        Self {
            pipeline,
            parts: parts.into_iter().collect(),
            boxes: BTreeMap::new(),
            now,
            pace_us: 1000,
            steps: 0,
        }
    }

    /// Times that the stream stood back for a switch.
    #[must_use]
    pub fn stood_back(&self) -> u64 {
        self.pipeline.stats()["stood_back"].as_u64().unwrap_or_default()
    }

    /// Delivers one message; the outcome, once the engine has ended.
    pub fn step(&mut self, random: &mut Random) -> Option<Result<(), Failure>> {
        self.steps += 1;
        self.now += i64::try_from(random.below(self.pace_us)).unwrap_or(0);
        let waiting: Vec<_> = self.boxes.iter().filter(|(_, b)| !b.is_empty()).map(|(k, _)| *k).collect();
        let mut out = Vec::new();
        // A tick now and then; always when nothing else is on its way.
        if waiting.is_empty() || random.below(20) == 0 {
            self.pipeline.step(Message::Tick, self.now, &mut out);
            self.post(Address::Pipeline, out);
        } else {
            let place = waiting[random.below(waiting.len() as u64) as usize];
            let message = self.boxes.get_mut(&place).and_then(VecDeque::pop_front).expect("a message");
            let (_, to) = place;
            if to == Address::Pipeline {
                self.pipeline.step(message, self.now, &mut out);
            } else if let Some(part) = self.parts.get_mut(&to) {
                part.step(message, self.now, &mut out);
            }
            self.post(to, out);
        }
        self.pipeline.outcome()
    }

    /// Asks something of the engine; the answer comes when it is durable.
    pub fn ask(&mut self, command: Command, code: Option<Code>) -> Receiver<Outcome> {
        let (reply, answer) = channel();
        let asker = Asker { by: "script".into(), ..Asker::default() };
        let submitted = Submitted { command, code, asker, reply: Some(reply) };
        let inbox = self.boxes.entry((Address::Pipeline, Address::Pipeline)).or_default();
        inbox.push_back(Message::Command(Box::new(submitted)));
        answer
    }

    /// Tells the engine to finish the open cycle and stop.
    pub fn stop(&mut self) {
        let inbox = self.boxes.entry((Address::Pipeline, Address::Pipeline)).or_default();
        inbox.push_back(Message::Stop);
    }

    fn post(&mut self, from: Address, out: Vec<Envelope>) {
        for envelope in out {
            self.boxes.entry((from, envelope.to)).or_default().push_back(envelope.message);
        }
    }
}
