//! `retag get user/42`: the labels and aggregates of a key.

use super::ask::{Asker, segment};
use super::place::Common;
use super::print::{Form, Out, Table, cell, clean, or_dash};
use crate::api::labels::KeyLabels;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Entity and key, as user/42.
    #[arg(value_name = "ENTITY/KEY", value_parser = parse_key)]
    key: (String, String),
    #[command(flatten)]
    common: Common,
}

/// Everything after the first `/` is the key.
fn parse_key(text: &str) -> Result<(String, String), String> {
    let (entity, key) = text.split_once('/').ok_or("write it as ENTITY/KEY, for example user/42")?;
    Ok((entity.to_owned(), key.to_owned()))
}

/// Prints the key.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let asker = Asker::open(&args.common.place)?;
    let (entity, key) = &args.key;
    let path = format!("/v1/entities/{}/keys/{}/labels?metadata=true", segment(entity), segment(key));
    let answer: KeyLabels = asker.read(&path)?;
    let mut out = Out::new();
    match args.common.output {
        Form::Table => table(&answer, &mut out)?,
        form => out.json(&answer, form)?,
    }
    out.flush()
}

fn table(answer: &KeyLabels, out: &mut Out) -> anyhow::Result<()> {
    let key = clean(&format!("{}/{}", answer.entity, answer.key));
    let newest = answer.watermark.iter().map(|at| format!(", newest change of {at}")).collect::<String>();
    out.line(&format!("{key}  commit {} of {}{newest}\n", answer.commit, answer.time))?;
    let mut labels = Table::new(["LABEL", "VALUE", "STATUS", "RULE", "VALID UNTIL"]);
    for (label, about) in answer.metadata.iter().flatten() {
        let value = answer.labels.get(label).map_or_else(|| "-".to_owned(), cell);
        labels.row([
            label.clone(),
            value,
            cell(&serde_json::to_value(about.status)?),
            format!("{}@{}", about.rule, about.revision),
            or_dash(about.valid_until.as_deref()),
        ]);
    }
    labels.print(out)?;
    out.line("")?;
    let mut aggregates = Table::new(["AGGREGATE", "VALUE", "RULE"]);
    for (rule, values) in answer.aggregates.iter().flatten() {
        for (name, value) in values {
            aggregates.row([name.clone(), cell(value), rule.clone()]);
        }
    }
    aggregates.print(out)
}
