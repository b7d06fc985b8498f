//! `retag quarantine ls|show`: row images that rules refused.

use super::ConfigArg;
use super::ask::{Asker, segment};
use super::print::{Form, Out, Table, cell};
use crate::api::quarantine::{BadImages, ListedImage};
use crate::config::Config;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List refused images, oldest first.
    Ls {
        /// Only of this rule.
        #[arg(long)]
        rule: Option<String>,
        /// Print at most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Go on behind this id.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// Form of the answer.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show one refused image.
    Show {
        /// Its id, from `ls`.
        id: String,
        /// Form of the answer.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Prints entries.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = Out::new();
    match &args.what {
        What::Ls { rule, limit, after, output, config } => {
            let asker = Asker::open(&Config::read(&config.config)?)?;
            let mut path = format!("/v1/quarantine?limit={limit}");
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
        What::Show { id, output, config } => {
            let asker = Asker::open(&Config::read(&config.config)?)?;
            let answer: ListedImage = asker.read(&format!("/v1/quarantine/{}", segment(id)))?;
            match output {
                Form::Table => {
                    let mut table = Table::new(["ID", &answer.id]);
                    answer.image.iter().for_each(|(name, value)| table.row([name.clone(), cell(value)]));
                    table.print(&mut out)?;
                }
                form => out.json(&answer, *form)?,
            }
        }
    }
    out.flush()
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
    out.line(&format!("\n{} images refused since the state was made", answer.bad_images))
}
