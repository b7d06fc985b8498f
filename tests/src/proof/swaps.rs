//! Swaps of every kind under a steady stream, some of them killed on the way, each held against the model.
//!
//! A round is a state of its own. The log is read again for every new map side while it grows, so a round's length is
//! bounded by its number of turns, not the whole run's.

use super::figures::lowest_rate;
use super::flow::{Flow, Kept};
use super::host::{Host, LIMIT, SOCKET_ONLY, Setup};
use super::judge::{Compared, Judge, live_revision};
use super::kill::{Draw, Kind, Step, plan};
use super::options::Options;
use super::report::{self, Bars, Done};
use super::variant::{MAP_EDITS, Variant, Workshop};
use super::watch::{Pieces, Watcher};
use crate::shop::{Config, Live};
use anyhow::{Context, Result, bail};
use retag_host::clock::moment;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the stream flows before a swap begins, and after it has ended.
const BEFORE: Duration = Duration::from_millis(1_300);
const AFTER: Duration = Duration::from_millis(1_200);
/// What counts for a swap's throughput after its switch.
const SETTLING: Duration = Duration::from_millis(500);
/// Windows of throughput.
const WINDOW: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug)]
struct Plan {
    retag: PathBuf,
    dir: PathBuf,
    /// Where the stream's files lie; none = in `dir`.
    stream_dir: Option<PathBuf>,
    rate: u64,
    turns: u64,
    rounds: u64,
    kills: u64,
    users: u64,
    history: u64,
    keys: u64,
    key_swaps: u64,
    check_every: u64,
    grace_s: u64,
    seed: u64,
}

/// Runs the proof.
///
/// # Errors
/// Something differs from the model, a swap did not end, or a bar was not held.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut options = Options::read(arguments)?;
    let swaps: u64 = options.take("swaps", 20)?;
    let rounds: u64 = options.take("rounds", 5)?;
    let plan = Plan {
        retag: options.take("retag", PathBuf::new())?,
        dir: options.take("dir", PathBuf::new())?,
        stream_dir: Some(options.take("stream-dir", PathBuf::new())?)
            .filter(|dir| !dir.as_os_str().is_empty()),
        rate: options.take("rate", 100_000)?,
        turns: swaps.div_ceil(rounds.max(1)),
        rounds,
        kills: options.take("kills", 0)?,
        users: options.take("users", 100_000)?,
        history: options.take("history", 300_000)?,
        keys: options.take("keys", 1_000_000)?,
        key_swaps: options.take("key-swaps", 3)?,
        check_every: options.take("check-every", 1)?,
        grace_s: options.take("grace-s", 60)?,
        seed: options.take("seed", u64::from(std::process::id()))?,
    };
    let bars = Bars {
        slice_ms: options.take("slice-bar-ms", 5.0)?,
        ready_s: options.take("ready-bar-s", 3.0)?,
        flip_ms: options.take("flip-bar-ms", 50.0)?,
    };
    options.end()?;
    if plan.rounds == 0 || plan.rate == 0 || plan.check_every == 0 {
        bail!("--rounds, --rate and --check-every are at least 1");
    }
    if plan.turns > MAP_EDITS {
        bail!("a round has at most {MAP_EDITS} turns: give more --rounds");
    }
    println!(
        "== seed {}: {} rounds of {} turns at {} messages/s",
        plan.seed, plan.rounds, plan.turns, plan.rate
    );
    let workshop = Workshop::open(&plan.retag, &plan.dir.join("rules"))?;
    for variant in (0..plan.turns.max(plan.key_swaps)).map(Variant::labels) {
        workshop.build(&variant)?;
    }
    for n in 0..plan.turns {
        workshop.build(&Variant::aggregates(n)?)?;
    }
    let mut all = Report::default();
    if plan.turns > 0 {
        plan.all_rounds(&workshop, &mut all)?;
    }
    if plan.key_swaps > 0 {
        plan.many_keys(&workshop, &mut all)?;
    }
    report::print(&mut all, &bars, plan.rate)
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// All swaps under load.
    pub swaps: Vec<Done>,
    /// Label-only swaps over many keys.
    pub many: Vec<Done>,
    /// Keys that those went over.
    pub keys: u64,
    /// Pieces of swaps by part.
    pub pieces: Pieces,
    /// The stream's schedule.
    pub kept: Kept,
    /// Times of restarts after kills.
    pub restarts: Vec<Duration>,
    /// Comparisons, and what the last one of each round compared.
    pub checks: u64,
    /// Changes that all rounds held.
    pub changes: u64,
}

impl Plan {
    fn all_rounds(&self, workshop: &Workshop, all: &mut Report) -> Result<()> {
        let mut draw = Draw(self.seed);
        let per_turn = Kind::TURN.len() as u64;
        let kills = plan(self.turns * self.rounds, self.kills, &mut draw);
        for round in 0..self.rounds {
            println!("\n== round {} of {}", round + 1, self.rounds);
            let config = (self.users, self.history, self.seed.wrapping_add(round));
            let mut run = Round::open(self, workshop, config)?;
            for swap in 0..self.turns * per_turn {
                let kind = Kind::TURN[(swap % per_turn) as usize];
                let kill = kills.get(&(round * self.turns * per_turn + swap)).copied();
                let done = run.swap(kind, swap / per_turn, (kill, &mut draw))?;
                println!("{}", report::line(&done));
                all.swaps.push(done);
                if (swap + 1) % self.check_every == 0 {
                    run.check()?;
                }
            }
            run.close(all)?;
        }
        Ok(())
    }

    fn many_keys(&self, workshop: &Workshop, all: &mut Report) -> Result<()> {
        println!("\n== label-only swaps over {} keys", self.keys);
        let mut draw = Draw(self.seed);
        let mut run = Round::open(self, workshop, (self.keys, 0, self.seed ^ 1))?;
        for n in 0..self.key_swaps {
            let done = run.swap(Kind::Labels, n, (None, &mut draw))?;
            println!("{}", report::line(&done));
            all.many.push(done);
        }
        all.keys = run.close(all)?.keys;
        Ok(())
    }
}

/// One state with its stream.
struct Round<'a> {
    plan: &'a Plan,
    workshop: &'a Workshop,
    host: Host,
    watcher: Watcher,
    /// Either it flows or it rests.
    flow: Option<Flow>,
    rest: Option<Live>,
    judge: Judge,
    /// By revision.
    variants: BTreeMap<u64, Variant>,
    kept: Kept,
    restarts: Vec<Duration>,
    /// The kill of the swap under way came too late for its step.
    late: bool,
}

impl<'a> Round<'a> {
    fn open(plan: &'a Plan, workshop: &'a Workshop, (users, history, seed): (u64, u64, u64)) -> Result<Self> {
        let dir = plan.dir.join("round");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        let config = Config {
            seed,
            events: u64::MAX,
            users,
            register_first: users,
            huge_ids: false,
            ..Config::default()
        };
        let stream = dir.join("stream");
        if let Some(apart) = &plan.stream_dir {
            if apart.exists() {
                std::fs::remove_dir_all(apart).with_context(|| format!("empty {}", apart.display()))?;
            }
            std::fs::create_dir_all(apart).and_then(|()| std::fs::create_dir_all(&dir))?;
            std::os::unix::fs::symlink(apart, &stream)
                .with_context(|| format!("link {}", apart.display()))?;
        }
        let mut live = Live::create(&stream, config, Some(997))?;
        live.append(users + history)?;
        let judge = Judge::new(live.paths());
        let setup = Setup { http: SOCKET_ONLY, grace_s: plan.grace_s, workers: 0, more: "" };
        let host = Host::start(&plan.retag, &dir, workshop, setup)?;
        let watcher = Watcher::start(&host.socket());
        let variants = BTreeMap::from([(1, Variant::base())]);
        let mut round = Self {
            plan,
            workshop,
            host,
            watcher,
            flow: None,
            rest: Some(live),
            judge,
            variants,
            kept: Kept::default(),
            restarts: Vec::new(),
            late: false,
        };
        round.check()?;
        Ok(round)
    }

    /// Lets the stream flow, if it does not.
    fn flows(&mut self) {
        if let Some(live) = self.rest.take() {
            self.flow = Some(Flow::start(live, self.plan.rate));
            std::thread::sleep(BEFORE);
        }
    }

    /// The stream stands still and everything is compared.
    fn check(&mut self) -> Result<Compared> {
        if let Some(flow) = self.flow.take() {
            let (live, kept) = flow.stop()?;
            self.kept.add(&kept);
            self.rest = Some(live);
        }
        let begin = moment();
        let (number, big_spender_min) = live_revision(&mut self.host)?;
        let variant = self.variants.get(&number).with_context(|| format!("payer@{number} is live"))?;
        let compared = self.judge.check(&mut self.host, (variant, big_spender_min));
        let name = &variant.name;
        let compared =
            compared.with_context(|| format!("payer@{number} ({name}, {big_spender_min}) is live"))?;
        let Compared { keys, labels, changes } = compared;
        println!(
            "   EXACT: payer@{number} ({name}), {changes} changes, {keys} keys, {labels} labels, sink; {:.1} s",
            begin.elapsed().as_secs_f64()
        );
        Ok(compared)
    }

    fn close(mut self, all: &mut Report) -> Result<Compared> {
        let compared = self.check()?;
        for (part, histogram) in self.watcher.seen().pieces() {
            all.pieces.entry(part).or_default().add(&histogram);
        }
        all.kept.add(&self.kept);
        all.restarts.append(&mut self.restarts);
        all.checks += self.judge.checks;
        all.changes += compared.changes;
        drop(self.watcher);
        let dir = self.host.dir.clone();
        self.host.stop()?;
        for dir in [Some(&dir), self.plan.stream_dir.as_ref()].into_iter().flatten() {
            std::fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        Ok(compared)
    }

    /// One swap of `kind`, the `turn`-th of this round, with a kill in a step or none.
    fn swap(&mut self, kind: Kind, turn: u64, (kill, draw): (Option<Step>, &mut Draw)) -> Result<Done> {
        self.flows();
        self.late = false;
        let (live, _) = live_revision(&mut self.host)?;
        let begin;
        let (ready, switch) = match kind {
            Kind::Pause => {
                begin = self.watcher.now();
                let (ready, flip) = self.pause_and_resume((kill, draw))?;
                return Ok(self.done((kind, kill), (Some(ready), flip), begin));
            }
            Kind::Rollback => {
                begin = self.watcher.now();
                (None, "/v1/rules/payer/rollback".to_owned())
            }
            Kind::Parameters => {
                begin = self.watcher.now();
                let min = 100_000 + draw.below(900_000);
                let body =
                    json!({ "params": { "big_spender_min": format!("{}.{:02}", min / 100, min % 100) } });
                let path = "/v1/rules/payer/params";
                let (number, took) = self.prepare(path, body.to_string().as_bytes(), (kill, draw))?;
                let variant = self.variants.get(&live).context("a live revision that was not pushed")?;
                self.variants.insert(number, variant.clone());
                (Some(took), activation(number))
            }
            Kind::Labels | Kind::Aggregates => {
                let labels = kind == Kind::Labels;
                let variant = if labels { Variant::labels(turn) } else { Variant::aggregates(turn)? };
                let file = self.workshop.build(&variant)?;
                let pushed = self.host.post("/v1/rules/payer/revisions", &file, "application/wasm")?;
                let pushed = pushed.success("push")?.json()?;
                let number = pushed["revision"]["revision"].as_u64().context("a revision's number")?;
                let expected = if labels { "labels" } else { "aggregates" };
                if pushed["plan"]["kind"] != expected {
                    bail!("the plan of {} is {}, not {expected}", variant.name, pushed["plan"]);
                }
                self.variants.insert(number, variant);
                begin = self.watcher.now();
                let path = format!("/v1/rules/payer/revisions/{number}/prepare");
                let (number, took) = self.prepare(&path, b"", (kill, draw))?;
                (Some(took), activation(number))
            }
        };
        let flip = self.switch(&switch, live, (kill, draw))?;
        if kill == Some(Step::GraceFeed) {
            std::thread::sleep(Duration::from_millis(draw.below(500)));
            self.kill()?;
        }
        Ok(self.done((kind, kill), (ready, flip), begin))
    }

    /// What is noted of a swap that began at `begin` and has just ended.
    fn done(
        &self,
        (kind, kill): (Kind, Option<Step>),
        (ready, flip): (Option<Duration>, Option<Duration>),
        begin: Duration,
    ) -> Done {
        let end = self.watcher.now() + SETTLING;
        std::thread::sleep(AFTER);
        let seen = self.watcher.seen();
        let lowest = lowest_rate(&seen.samples, (begin, end), WINDOW);
        let during = seen.samples.iter().filter(|s| s.at >= begin && s.at <= end);
        let lag_bytes = during.map(|s| s.lag_bytes).max().unwrap_or(0);
        let [ready, flip] = [ready, flip].map(|took| took.filter(|_| kill.is_none()));
        let dip = lowest.map(|rate| 1.0 - rate / self.plan.rate as f64).filter(|_| kill.is_none());
        Done { kind, kill, late: self.late, ready, flip, dip, lag_bytes }
    }

    /// Lets the rule stand still while the stream flows, and catch up: how long that took, and the command to pause.
    fn pause_and_resume(
        &mut self,
        (kill, draw): (Option<Step>, &mut Draw),
    ) -> Result<(Duration, Option<Duration>)> {
        let (pause, resume) = ("/v1/rules/payer/pause", "/v1/rules/payer/resume");
        if kill == Some(Step::Pause) {
            self.post_and_kill(pause, b"", draw.below(25))?;
        }
        let (_, begin) = self.insist(pause, b"")?;
        let flip = begin.elapsed();
        std::thread::sleep(Duration::from_millis(200 + draw.below(1_500)));
        if kill == Some(Step::Resume) {
            self.post_and_kill(resume, b"", draw.below(25))?;
        }
        let (answer, begin) = self.insist(resume, b"")?;
        if kill == Some(Step::CatchUp) {
            std::thread::sleep(Duration::from_millis(draw.below(300)));
            self.kill()?;
        }
        let Some(id) = answer["operation"].as_u64() else { return Ok((begin.elapsed(), Some(flip))) };
        let path = format!("/v1/operations/{id}");
        loop {
            let operation = self.host.read(&path)?;
            match operation["state"].as_str() {
                Some("done") => return Ok((begin.elapsed(), Some(flip))),
                Some("running") if begin.elapsed() < LIMIT => std::thread::sleep(Duration::from_millis(4)),
                _ => bail!("the rule has not caught up: {operation}; the host said:\n{}", self.host.said()),
            }
        }
    }

    /// Asks for a revision to be prepared and waits until it is ready: its number, and how long that took.
    fn prepare(
        &mut self,
        path: &str,
        body: &[u8],
        (kill, draw): (Option<Step>, &mut Draw),
    ) -> Result<(u64, Duration)> {
        if kill == Some(Step::Prepare) {
            self.post_and_kill(path, body, draw.below(40))?;
        }
        let (answer, begin) = self.insist(path, body)?;
        let number = answer["revision"].as_u64().context("a revision's number")?;
        // Where in the history, or among the keys, the kill falls.
        let percent = draw.below(90);
        let mut kill = kill.filter(|step| matches!(step, Step::CatchUp | Step::Sweep));
        let waiting = moment();
        loop {
            let revision = self.host.read(&format!("/v1/rules/payer/revisions/{number}"))?;
            let operation = &revision["operation"];
            let there = match kill {
                Some(Step::CatchUp) => operation["stage"] == "history",
                Some(Step::Sweep) => operation["stage"] == "keys",
                _ => false,
            };
            match revision["release"].as_str() {
                Some("ready") if kill.is_none() => return Ok((number, begin.elapsed())),
                // Too quick to be met on the way.
                Some("ready") => {
                    println!("   ready before the kill in {kill:?}: killed now, which does not count");
                    self.kill()?;
                    (kill, self.late) = (None, true);
                }
                Some("preparing") if there && operation["percent"].as_u64() >= Some(percent) => {
                    self.kill()?;
                    kill = None;
                }
                Some("preparing") => {}
                _ => {
                    let operations = self.host.read("/v1/operations")?;
                    bail!("payer@{number} is {}, not on its way: {operations}", revision["release"]);
                }
            }
            if waiting.elapsed() > LIMIT {
                bail!(
                    "payer@{number} is not ready after {LIMIT:?}: {operation}; the host said:\n{}",
                    self.host.said()
                );
            }
            std::thread::sleep(Duration::from_millis(4));
        }
    }

    /// Makes another revision live than `live`: how long the command took, unless a kill took its answer.
    fn switch(
        &mut self,
        path: &str,
        live: u64,
        (kill, draw): (Option<Step>, &mut Draw),
    ) -> Result<Option<Duration>> {
        let killed = matches!(kill, Some(Step::Flip | Step::Rollback));
        if killed {
            self.post_and_kill(path, b"{}", draw.below(25))?;
            if live_revision(&mut self.host)?.0 != live {
                println!("   killed behind the switch");
                return Ok(None);
            }
            println!("   killed before the switch");
        }
        let (answer, begin) = self.insist(path, b"{}")?;
        let took = begin.elapsed();
        let (now, _) = live_revision(&mut self.host)?;
        if now == live || answer["revision"].as_u64() != Some(now) {
            bail!("payer@{now} is live after {answer}, payer@{live} was before");
        }
        Ok(Some(took))
    }

    /// Posts until it is not refused for what is still under way; the answer, and when the last try began.
    fn insist(&mut self, path: &str, body: &[u8]) -> Result<(Value, std::time::Instant)> {
        let first = moment();
        loop {
            let begin = moment();
            let answer = self.host.post(path, body, "application/json")?;
            let busy = answer.status == 409
                && matches!(answer.code().as_str(), "operation-under-way" | "too-many-revisions");
            if !busy || first.elapsed() > LIMIT {
                return Ok((answer.success(path)?.json()?, begin));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Posts, and kills the host `ms` later, whether it has answered or not.
    fn post_and_kill(&mut self, path: &str, body: &[u8], ms: u64) -> Result<()> {
        let (socket, path, body) = (self.host.socket(), path.to_owned(), body.to_vec());
        let post = std::thread::spawn(move || post_once(&socket, &path, &body));
        std::thread::sleep(Duration::from_millis(ms));
        self.kill()?;
        let answered = post.join().is_ok_and(|answer| answer.is_ok());
        println!("   kill -9 after {ms} ms, {} the answer", if answered { "behind" } else { "before" });
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.host.kill()?;
        self.watcher.end_life();
        let took = self.host.restart()?;
        println!("   kill -9; answers again after {:.2} s", took.as_secs_f64());
        self.restarts.push(took);
        Ok(())
    }
}

fn activation(number: u64) -> String {
    format!("/v1/rules/payer/revisions/{number}/activate")
}

fn post_once(socket: &Path, path: &str, body: &[u8]) -> Result<Value> {
    super::client::Client::unix(socket)?.post(path, body, "application/json")?.success(path)?.json()
}
