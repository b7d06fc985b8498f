//! `retag members LABEL`: who carries a label, or how many. All members come in pages; of a running host each page is
//! of its latest commit.

use super::ask::{Asker, segment};
use super::place::Common;
use super::print::{Form, Out, clean};
use crate::api::members::{Count, Member, Members};

/// Members asked for at once.
const PAGE: usize = 10_000;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Label, or LABEL=VALUE; with --held the rule.
    label: String,
    /// Only with this value.
    #[arg(long, conflicts_with = "held")]
    value: Option<String>,
    /// Print only how many there are.
    #[arg(long, conflicts_with = "limit")]
    count: bool,
    /// Print at most so many; default: all.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print the keys whose labels a rule holds instead: a count is negative, the rule failed on them, or they have too
    /// many different values.
    #[arg(long, value_name = "WHY", value_parser = ["pending", "error", "overflow"])]
    held: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Prints members.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let asker = Asker::open(&args.common.place)?;
    let (label, value) = match (args.label.split_once('='), &args.value) {
        (Some((label, value)), None) => (label, Some(value)),
        (_, value) => (args.label.as_str(), value.as_deref()),
    };
    let base = match &args.held {
        Some(why) => format!("/v1/rules/{}/held?status={why}&", segment(label)),
        None => format!("/v1/labels/{}/members?", segment(label)),
    };
    let only = value.map_or_else(String::new, |value| format!("value={}&", segment(value)));
    let mut out = Out::new();
    if !args.count {
        print_all(args, &asker, &format!("{base}{only}"), &mut out)?;
    } else if args.held.is_some() {
        let answer: Members = asker.read(&format!("{base}limit=1"))?;
        match args.common.output {
            Form::Table => out.line(&answer.count.to_string())?,
            form => out.json(&serde_json::json!({ "commit": answer.commit, "count": answer.count }), form)?,
        }
    } else {
        let answer: Count = asker.read(&format!("/v1/labels/{}/count?{only}", segment(label)))?;
        match args.common.output {
            Form::Table => out.line(&answer.count.to_string())?,
            form => out.json(&answer, form)?,
        }
    }
    out.flush()
}

fn print_all(args: &Args, asker: &Asker, base: &str, out: &mut Out) -> anyhow::Result<()> {
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut cursor = String::new();
    let mut whole: Option<Members> = None;
    loop {
        let answer: Members = asker.read(&format!("{base}limit={}{cursor}", left.clamp(1, PAGE)))?;
        let Members { members, next, .. } = &answer;
        let shown = members.get(..members.len().min(left)).unwrap_or_default();
        left -= shown.len();
        match args.common.output {
            Form::Json => {}
            Form::Table => shown.iter().try_for_each(|member| out.line(&text(&answer.entity, member)))?,
            form @ Form::Ndjson => shown.iter().try_for_each(|member| out.json(member, form))?,
        }
        let next = next.as_ref().filter(|_| left > 0).map(|next| format!("&cursor={}", segment(next)));
        match (&mut whole, args.common.output) {
            (Some(whole), Form::Json) => whole.members.extend_from_slice(shown),
            (whole, Form::Json) => {
                let members = shown.to_vec();
                *whole = Some(Members { members, ..answer });
            }
            _ => {}
        }
        let Some(next) = next else { break };
        cursor = next;
    }
    whole.map_or(Ok(()), |whole| out.json(&Members { next: None, ..whole }, Form::Json))
}

/// `user/42`, and the value behind it where there is one.
fn text(entity: &str, member: &Member) -> String {
    let value = member.value.as_ref().map_or_else(String::new, |value| format!("  {value}"));
    clean(&format!("{entity}/{}{value}", member.key))
}
