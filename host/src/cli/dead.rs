//! `retag sink dead ls|replay|drop`: messages that a sink's receiver refused.

use super::ask::{Asker, segment};
use super::place::{Changing, Common};
use super::print::{Form, Out, Table};
use super::sink::{path, print, wait};
use crate::api::dead_letters::{DeadLetters, ListedLetter};
use crate::api::sinks::Sink;
use crate::clock::rfc3339;
use crate::sink::progress::Worked;
use anyhow::{bail, ensure};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List dead letters, the oldest first.
    Ls {
        /// Name of the sink.
        sink: String,
        /// Print at most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Go on behind this id.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Send dead letters again, one by one, and wait for the end. Those that are taken are kept no longer.
    /// Exit code 1 where one was not taken.
    Replay {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        changing: Changing,
    },
    /// Drop dead letters: nobody is told what they say.
    Drop {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        changing: Changing,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Name of the sink.
    sink: String,
    /// Ids, from `ls`.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that there are.
    #[arg(long)]
    all: bool,
}

/// Lists, or asks and waits.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Ls { sink, limit, after, common } => list(sink, (*limit, after.as_deref()), common),
        What::Replay { which, changing } => {
            let Worked { taken, refused, broke_off, .. } = work(which, "replay", changing)?;
            let sink = &which.sink;
            if let Some(why) = broke_off {
                bail!("{sink} is not there: {why}; {taken} were taken, the others are kept");
            }
            ensure!(refused == 0, "{refused} were refused again; `retag sink dead ls {sink}` says why");
            Ok(())
        }
        What::Drop { which, changing } => work(which, "drop", changing).map(drop),
    }
}

/// Asks, waits for the end, and says what came of it.
fn work(
    Which { sink, ids, all }: &Which,
    what: &str,
    Changing { reason, common }: &Changing,
) -> anyhow::Result<Worked> {
    let asker = Asker::open(&common.place)?;
    let body = if *all { serde_json::json!({ "all": true }) } else { serde_json::json!({ "ids": ids }) };
    let before: Sink = asker.write(&path(sink, &format!("dead-letters/{what}"), reason), &body)?;
    let after = wait(&asker, &before, |now| now.letters.ended)?;
    let worked = after.now.as_ref().map(|now| now.letters.clone()).unwrap_or_default();
    let Worked { taken, refused, dropped, .. } = &worked;
    let kept = after.dead_letters;
    let line = match what {
        "drop" => format!("{dropped} dead letters of sink {sink} dropped, {kept} are kept"),
        _ => format!("{taken} dead letters of sink {sink} taken, {refused} refused again, {kept} are kept"),
    };
    print(common, &after, &[line])?;
    Ok(worked)
}

fn list(sink: &str, (limit, after): (usize, Option<&str>), common: &Common) -> anyhow::Result<()> {
    let asker = Asker::open(&common.place)?;
    let mut path = format!("/v1/sinks/{}/dead-letters?limit={limit}", segment(sink));
    if let Some(after) = after {
        path.push_str(&format!("&cursor={}", segment(after)));
    }
    let answer: DeadLetters = asker.read(&path)?;
    let mut out = Out::new();
    match common.output {
        Form::Table => table(sink, &answer, &mut out)?,
        Form::Json => out.json(&answer, Form::Json)?,
        Form::Ndjson => answer.letters.iter().try_for_each(|letter| out.json(letter, Form::Ndjson))?,
    }
    out.flush()
}

fn table(sink: &str, answer: &DeadLetters, out: &mut Out) -> anyhow::Result<()> {
    if answer.letters.is_empty() {
        return out.line(&format!("sink {sink} has no dead letters"));
    }
    let mut table = Table::new(["ID", "REFUSED", "TIMES", "KEY", "MESSAGE", "REASON"]);
    for ListedLetter { id, letter } in &answer.letters {
        let of = |name: &str| letter.message.get(name).and_then(|value| value.as_str()).unwrap_or("–");
        let what = [of("op"), of("label"), of("value")].into_iter().filter(|text| *text != "–");
        table.row([
            id.clone(),
            rfc3339(letter.time_us),
            letter.refusals.to_string(),
            format!("{}/{}", of("entity"), of("key")),
            what.collect::<Vec<_>>().join(" "),
            letter.reason.clone(),
        ]);
    }
    table.print(out)?;
    if let Some(next) = &answer.next {
        out.line(&format!("\nmore: --after {next}"))?;
    }
    Ok(())
}
