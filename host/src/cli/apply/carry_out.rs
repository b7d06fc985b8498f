//! Does what differs. All files are pushed before anything is prepared, so a host that is killed in between starts again with
//! this configuration; and what can be is prepared before anything goes live, so a rule that cannot be prepared leaves everything
//! as it was. What is ready by then stays so for the next time. A rule that waits for a label of another one comes behind.

use super::plan::{Action, Step};
use crate::api::release::Pushed;
use crate::cli::ask::{refusal_code, segment};
use crate::cli::print::{Form, Out};
use crate::cli::rule::release::{RevisionArg, Session, revisions};
use crate::registry::command::Done;
use anyhow::Context;
use serde_json::json;
use std::time::Duration;

/// How often a rule is asked for that is busy.
const TRIES: u32 = 50;
/// Between two of them.
const AGAIN: Duration = Duration::from_millis(100);

/// A step that waits for a label which another rule still has, with the refusal.
type Waiting<'a> = (&'a mut Step, anyhow::Error);

/// Does all steps.
pub(super) fn all(session: &Session, steps: &mut [Step], announce: bool) -> anyhow::Result<()> {
    for step in steps.iter_mut().filter(|step| step.is_brought_in()) {
        push(session, step)?;
    }
    for step in steps.iter_mut() {
        for revision in &step.cancels {
            let revision = RevisionArg { rule: step.rule.clone(), revision: *revision };
            let done: Done = session.post(&revision.path("/cancel"), Vec::new())?;
            say(session, &format!("{}@{} is no longer prepared", done.rule, done.revision));
            step.commit = Some(done.commit);
        }
    }
    let (removals, others): (Vec<&mut Step>, Vec<&mut Step>) =
        steps.iter_mut().partition(|step| step.action == Action::Remove);
    let brought = others.into_iter().filter(|step| step.is_brought_in());
    let mut waiting = bring_in(session, brought.collect(), announce)?;
    for step in removals {
        remove(session, step)?;
    }
    // A label that one rule gives up, another one may take now.
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting = bring_in(session, waiting.into_iter().map(|(step, _)| step).collect(), announce)?;
        if waiting.len() == before {
            return waiting.into_iter().next().map_or(Ok(()), |(_, refusal)| Err(refusal));
        }
    }
    Ok(())
}

/// Prepares all, then makes all live; those that wait for a label.
fn bring_in<'a>(
    session: &Session,
    steps: Vec<&'a mut Step>,
    announce: bool,
) -> anyhow::Result<Vec<Waiting<'a>>> {
    let (mut ready, mut waiting) = (Vec::new(), Vec::new());
    for step in steps {
        match prepare(session, step) {
            Ok(revision) => ready.push((step, revision)),
            Err(refusal) if is_taken(&refusal) => waiting.push((step, refusal)),
            Err(error) => return Err(error),
        }
    }
    for (step, revision) in ready {
        match activate(session, &revision, announce) {
            Ok(commit) => step.commit = Some(commit),
            Err(refusal) if is_taken(&refusal) => waiting.push((step, refusal)),
            Err(error) => return Err(error),
        }
    }
    Ok(waiting)
}

fn is_taken(refusal: &anyhow::Error) -> bool {
    refusal_code(refusal) == Some("label-taken")
}

fn push(session: &Session, step: &mut Step) -> anyhow::Result<()> {
    let wanted = step.wanted.as_ref().context("internal: a step without its file")?;
    let path = format!("{}?{}", revisions(&step.rule), wanted.query()?);
    let pushed: Pushed = session.post(&path, wanted.file.clone())?;
    step.revision = Some(pushed.revision.revision);
    Ok(())
}

fn prepare(session: &Session, step: &mut Step) -> anyhow::Result<RevisionArg> {
    let number = step.revision.context("internal: a step without its revision")?;
    let revision = RevisionArg { rule: step.rule.clone(), revision: number };
    session.wait_until_settled(&step.rule)?;
    let done = when_free(session, &step.rule, || session.post(&revision.path("/prepare"), Vec::new()))?;
    if let Some(id) = done.operation {
        let name = format!("{}@{}", revision.rule, revision.revision);
        let operation = session.wait_until_ready(id, &name)?;
        say(session, &format!("{name} is ready, {} keys evaluated", operation.keys));
    }
    Ok(revision)
}

/// Asks until nothing on the rule is under way any more: what is told last is put away a moment later.
fn when_free(session: &Session, rule: &str, ask: impl Fn() -> anyhow::Result<Done>) -> anyhow::Result<Done> {
    for _ in 1..TRIES {
        match ask() {
            Err(refusal) if refusal_code(&refusal) == Some("operation-under-way") => {
                session.wait_until_settled(rule)?;
                std::thread::sleep(AGAIN);
            }
            answer => return answer,
        }
    }
    ask()
}

fn activate(session: &Session, revision: &RevisionArg, announce: bool) -> anyhow::Result<u64> {
    let body = serde_json::to_vec(&json!({ "announce": announce }))?;
    let done: Done = session.post(&revision.path("/activate"), body)?;
    say(session, &format!("{}@{} is live since commit {}", done.rule, done.revision, done.commit));
    Ok(done.commit)
}

fn remove(session: &Session, step: &mut Step) -> anyhow::Result<()> {
    session.wait_until_settled(&step.rule)?;
    let done: Done = session.post(&format!("/v1/rules/{}/remove", segment(&step.rule)), Vec::new())?;
    say(session, &format!("{} is gone since commit {}", done.rule, done.commit));
    step.commit = Some(done.commit);
    Ok(())
}

/// Says what was done, to people only. A reader that went away does not end what was begun.
fn say(session: &Session, line: &str) {
    if session.form == Form::Table {
        let mut out = Out::new();
        let _ = out.line(line).and_then(|()| out.flush());
    }
}
