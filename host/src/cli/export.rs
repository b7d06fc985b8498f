//! `retag export aggregates RULE`: the sums of all keys of a rule, from one commit.

use super::ask::{Asker, segment};
use super::place::PlaceArgs;
use super::print::Out;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The aggregates of a rule: the key, then the aggregates in the manifest's order.
    Aggregates {
        /// Name of the rule.
        rule: String,
        /// Form of the rows.
        #[arg(short, long, value_parser = ["csv", "ndjson"], default_value = "csv")]
        output: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Prints the export.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let What::Aggregates { rule, output, place } = &args.what;
    let asker = Asker::open(place)?;
    let mut out = Out::new();
    let path = format!("/v1/rules/{}/aggregates?format={output}", segment(rule));
    asker.stream(&path, &mut |piece| out.write(piece))?;
    out.flush()
}
