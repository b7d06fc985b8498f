//! `retag sink ls|resync|verify|dead`: how far sinks are, making those that hold label sets right, and what receivers refused.

use super::ask::{Asker, segment};
use super::dead;
use super::interrupt::Noted;
use super::place::{Changing, Common};
use super::print::{Form, Out, Table};
use crate::api::sinks::{Sink, Sinks};
use crate::sink::progress::{Doing, Shown, Verified};
use anyhow::{Context, bail, ensure};
use std::io::IsTerminal;
use std::time::Duration;

/// Between two looks at a sink.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks between two lines on how far it is, where nobody watches a terminal: 10 s.
const LOOKS_PER_LINE: u32 = 100;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List sinks: what each has, does and waits for.
    Ls(Common),
    /// Bring everything to a sink that holds label sets, and take away what should not be there; it goes on beside what changes.
    Resync {
        /// Its name.
        sink: String,
        /// Only keys that carry this label, here or there.
        #[arg(long)]
        label: Option<String>,
        /// Do not wait for the end.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        changing: Changing,
    },
    /// Compare what a sink holds with the state. Exit code 1 where something is not right.
    Verify {
        /// Its name.
        sink: String,
        #[command(flatten)]
        common: Common,
    },
    /// Messages that a sink's receiver refused: list them, send them again, drop them.
    Dead(dead::Args),
}

/// Lists, or asks and waits.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Ls(common) => list(common),
        What::Dead(args) => dead::run(args),
        What::Resync { sink, label, no_wait, changing: Changing { reason, common } } => {
            let asker = Asker::open(&common.place)?;
            let body = serde_json::json!({ "label": label });
            let before: Sink = asker.write(&path(sink, "resync", reason), &body)?;
            if *no_wait {
                return print(
                    common,
                    &before,
                    &[format!("sink {sink} is being resynced; `retag sink ls` says how far it is")],
                );
            }
            let after = wait(&asker, &before, |now| now.resyncs)?;
            let keys = after.now.as_ref().map_or(0, |now| now.keys);
            print(
                common,
                &after,
                &[format!("sink {sink} holds what the state says; {keys} keys were gone over")],
            )
        }
        What::Verify { sink, common } => {
            let asker = Asker::open(&common.place)?;
            let before: Sink = asker.post(&path(sink, "verify", ""), Vec::new())?;
            let after = wait(&asker, &before, |now| now.comparisons)?;
            let verified = after.now.as_ref().and_then(|now| now.verified.clone());
            let verified = verified
                .with_context(|| format!("sink {sink} was not compared: something else came between"))?;
            print(common, &after, &words(sink, &verified))?;
            ensure!(verified.is_right(), "sink {sink} is not right; `retag sink resync {sink}` mends it");
            Ok(())
        }
    }
}

fn words(sink: &str, verified: &Verified) -> Vec<String> {
    let Verified { commit, compared, missing, differing, extra, .. } = verified;
    let mut lines = vec![format!(
        "sink {sink} at commit {commit}: {compared} keys compared, {missing} missing, {differing} differing, {extra} too many"
    )];
    lines.extend(verified.samples.iter().map(|key| format!("not right: {key}")));
    lines
}

/// The route by which something is asked of a sink.
pub(super) fn path(sink: &str, what: &str, reason: &str) -> String {
    let path = format!("/v1/sinks/{}/{what}", segment(sink));
    if reason.is_empty() { path } else { format!("{path}?reason={}", segment(reason)) }
}

/// Waits until what was asked has ended.
pub(super) fn wait(asker: &Asker, before: &Sink, ended: fn(&Shown) -> u64) -> anyhow::Result<Sink> {
    let terminal = std::io::stderr().is_terminal();
    let interrupt = Noted::begin()?;
    let ended_before = before.now.as_ref().map_or(0, ended);
    for look in 1_u32.. {
        let sink: Sink = asker.read(&format!("/v1/sinks/{}", segment(&before.sink)))?;
        let now = sink.now.clone().unwrap_or_default();
        if terminal {
            eprint!("\r\x1b[K{}", doing(&now));
        } else if look % LOOKS_PER_LINE == 0 {
            eprintln!("{}", doing(&now));
        }
        if ended(&now) > ended_before && now.doing == Doing::Delivering && !now.asked {
            if terminal {
                eprintln!();
            }
            return Ok(sink);
        }
        if interrupt.is_seen() {
            eprintln!("interrupted: the host goes on; `retag sink ls` says how far it is");
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    drop(interrupt); // ends the program
    bail!("the host goes on without this command")
}

/// What a sink does, in words.
pub(super) fn doing(now: &Shown) -> String {
    let mut text = match now.doing {
        Doing::Delivering => String::new(),
        Doing::Resyncing => format!("is resynced ({} keys so far)", now.keys),
        Doing::Verifying => format!("is compared ({} keys so far)", now.keys),
        Doing::Replaying => "is sent dead letters again".to_owned(),
    };
    if let Some(what) = &now.waits_for {
        text = [text.as_str(), "waits for "].join(if text.is_empty() { "" } else { ", " }) + what;
    } else if now.whole == Some(false) && now.doing == Doing::Delivering {
        text.push_str("needs resync");
    }
    if text.is_empty() { "delivers".to_owned() } else { text }
}

fn list(common: &Common) -> anyhow::Result<()> {
    let asker = Asker::open(&common.place)?;
    let answer: Sinks = asker.read("/v1/sinks")?;
    let mut out = Out::new();
    match common.output {
        Form::Table => {
            let mut table = Table::new(["SINK", "TYPE", "NEXT COMMIT", "DROPPED", "DEAD", "STATE"]);
            for sink in &answer.sinks {
                let state = match &sink.now {
                    Some(now) => doing(now),
                    None if sink.configured => "no host runs".to_owned(),
                    None => "not configured".to_owned(),
                };
                let next = sink.next.map_or_else(|| "–".to_owned(), |place| place.commit.to_string());
                let kind = sink.kind.clone().unwrap_or_else(|| "–".to_owned());
                let (dropped, dead) = (sink.dropped.to_string(), sink.dead_letters.to_string());
                table.row([sink.sink.clone(), kind, next, dropped, dead, state]);
            }
            table.print(&mut out)?;
        }
        Form::Json => out.json(&answer, Form::Json)?,
        Form::Ndjson => answer.sinks.iter().try_for_each(|sink| out.json(sink, Form::Ndjson))?,
    }
    out.flush()
}

/// Prints lines for people, or the sink.
pub(super) fn print(common: &Common, sink: &Sink, lines: &[String]) -> anyhow::Result<()> {
    let mut out = Out::new();
    match common.output {
        Form::Table => lines.iter().try_for_each(|line| out.line(line))?,
        form => out.json(sink, form)?,
    }
    out.flush()
}
