//! `retag quarantine ls|show`: row images that rules refused.

use super::ask::{Asker, segment};
use super::place::Common;
use super::print::{Form, Out, Table, cell};
use crate::api::quarantine::{BadImages, ListedImage};
use serde_json::Value;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List refused images, newest first.
    Ls {
        /// Only of this rule.
        #[arg(long)]
        rule: Option<String>,
        /// The oldest first.
        #[arg(long)]
        oldest_first: bool,
        /// Print at most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Go on behind this id.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one refused image: where it stands, why it was refused, and what the rule's columns held.
    Show {
        /// Its id, from `ls`.
        id: String,
        /// Show the values of the row, as the message spells them. Without it only what kind they are of.
        #[arg(long)]
        values: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Prints entries.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = Out::new();
    match &args.what {
        What::Ls { rule, oldest_first, limit, after, common: Common { output, place } } => {
            let asker = Asker::open(place)?;
            let order = if *oldest_first { "oldest" } else { "newest" };
            let mut path = format!("/v1/quarantine?limit={limit}&order={order}");
            for (name, value) in [("rule", rule), ("cursor", after)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", segment(value)));
                }
            }
            let answer: BadImages = asker.read(&path)?;
            match output {
                Form::Table => table(&answer, &mut out)?,
                Form::Json => out.json(&answer, Form::Json)?,
                Form::Ndjson => answer.entries.iter().try_for_each(|e| out.json(e, Form::Ndjson))?,
            }
        }
        What::Show { id, values, common: Common { output, place } } => {
            let asker = Asker::open(place)?;
            let answer: ListedImage =
                asker.read(&format!("/v1/quarantine/{}?values={values}", segment(id)))?;
            match output {
                Form::Table => {
                    entry(&answer, *values).print(&mut out)?;
                }
                form => out.json(&answer, *form)?,
            }
        }
    }
    out.flush()
}

/// A row per fact, then a row per column.
fn entry(answer: &ListedImage, values: bool) -> Table {
    let mut table = Table::new(["ID", &answer.id]);
    for (name, value) in &answer.image {
        match (name.as_str(), value) {
            ("values", Value::Object(_)) | ("sign", _) => {}
            ("image", image) => {
                let sign = match answer.image.get("sign").and_then(Value::as_i64) {
                    Some(0) => "",
                    Some(-1) => " (sign −)",
                    _ => " (sign +)",
                };
                table.row([name.clone(), format!("{}{sign}", cell(image))]);
            }
            _ => table.row([name.clone(), cell(value)]),
        }
    }
    for (column, value) in answer.image.get("values").and_then(Value::as_object).into_iter().flatten() {
        let value = if value.is_null() { "absent".to_owned() } else { cell(value) };
        table.row([format!("column {column}"), value]);
    }
    if !values && answer.image.contains_key("values") {
        table.row(["".to_owned(), "(--values shows the values)".to_owned()]);
    }
    table
}

fn table(answer: &BadImages, out: &mut Out) -> anyhow::Result<()> {
    let mut table = Table::new(["ID", "RULE", "CODE", "TABLE", "SOURCE", "POSITION", "IMAGE", "MESSAGE"]);
    for entry in &answer.entries {
        let of = |name: &str| entry.image.get(name).map_or_else(|| "-".to_owned(), cell);
        table.row([
            entry.id.clone(),
            of("rule"),
            of("code"),
            of("table"),
            of("source"),
            format!("{}:{}", of("partition"), of("position")),
            of("image"),
            of("message"),
        ]);
    }
    if table.is_empty() {
        return out.line("nothing is in quarantine");
    }
    table.print(out)?;
    if let Some(next) = &answer.next {
        out.line(&format!("\nmore: --after {next}"))?;
    }
    let dropped = match answer.dropped {
        0 => String::new(),
        dropped => format!("; {dropped} older entries were dropped (state.quarantine_entries_max)"),
    };
    let (images, messages) = (answer.bad_images, answer.messages_aside);
    out.line(&format!(
        "\n{images} images refused, {messages} messages put aside since the state was made{dropped}"
    ))
}
