//! The generator and the model on the command line, for `cargo xtask demo` and `bench`.
//!
//! `shop make DIR [--events N] …` writes a stream; `shop recompute DIR FILES…` writes what must come out of it.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use retag_tests::model::{Model, PacketRow, Params, PayerRow, member_counts};
use retag_tests::shop::{Config, write_files};

const USAGE: &str = "usage:
  shop make DIR [--events N] [--users N] [--partitions N] [--seed N] [--resend-percent N]
                [--users-percent N] [--packets-percent N] [--gtid] [--no-ids] [--no-huge-ids]
                [--register-first N]
      writes DIR/shop.p0.json, …
  shop recompute DIR FILE… [--big-spender-min CENTS]
      reads the files, writes DIR/payer.csv and DIR/red_packet.csv (aggregates) and DIR/labels.csv (rule,label,value,members)";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("make") => make(arguments.get(1..).unwrap_or_default()),
        Some("recompute") => recompute(arguments.get(1..).unwrap_or_default()),
        _ => bail!("{USAGE}"),
    }
}

fn make(arguments: &[String]) -> Result<()> {
    let mut config = Config::default();
    let mut arguments = arguments.iter();
    let dir = PathBuf::from(arguments.next().context(USAGE)?);
    while let Some(name) = arguments.next() {
        let mut number = || -> Result<u64> {
            let text = arguments.next().with_context(|| format!("{name} wants a number"))?;
            text.parse().with_context(|| format!("{name} wants a number, not `{text}`"))
        };
        match name.as_str() {
            "--events" => config.events = number()?,
            "--users" => config.users = number()?,
            "--seed" => config.seed = number()?,
            "--register-first" => config.register_first = number()?,
            "--partitions" => config.partitions = u32::try_from(number()?)?,
            "--resend-percent" => config.resend_percent = u32::try_from(number()?)?,
            "--users-percent" => config.users_percent = u32::try_from(number()?)?,
            "--packets-percent" => config.packets_percent = u32::try_from(number()?)?,
            "--gtid" => config.gtid = true,
            "--no-ids" => config.ids = false,
            "--no-huge-ids" => config.huge_ids = false,
            other => bail!("unknown option {other}\n{USAGE}"),
        }
    }
    for path in write_files(&dir, &config)? {
        println!("{}", path.display());
    }
    Ok(())
}

fn recompute(arguments: &[String]) -> Result<()> {
    let mut params = Params::default();
    let mut files = Vec::new();
    let mut arguments = arguments.iter();
    let dir = PathBuf::from(arguments.next().context(USAGE)?);
    while let Some(argument) = arguments.next() {
        if argument == "--big-spender-min" {
            params.big_spender_min =
                arguments.next().context("--big-spender-min wants hundredths")?.parse()?;
        } else {
            files.push(PathBuf::from(argument));
        }
    }
    if files.is_empty() {
        bail!("no files to recompute from\n{USAGE}");
    }
    let mut model = Model::new();
    for file in &files {
        model.apply_file(file)?;
    }
    if let Err(reason) = model.settled() {
        eprintln!("note: {reason}");
    }
    std::fs::create_dir_all(&dir)?;
    write(&dir.join("payer.csv"), &PayerRow::to_csv(&model.payer()))?;
    write(&dir.join("red_packet.csv"), &PacketRow::to_csv(&model.red_packet()))?;
    let mut counts = member_counts(&model.payer_labels(&params));
    counts.extend(member_counts(&model.red_packet_labels(&params)));
    write(&dir.join("labels.csv"), &count_table(&counts))?;
    println!("{} messages, {} re-sent", model.messages(), model.duplicates());
    Ok(())
}

/// Labels that the example rules may give; those that nobody carries are counted too.
const LABELS: [(&str, &str, Option<&str>); 9] = [
    ("payer", "never_paid", None),
    ("payer", "big_spender", None),
    ("payer", "refunder", None),
    ("payer", "tier", Some("silver")),
    ("payer", "tier", Some("gold")),
    ("red_packet", "generous", None),
    ("red_packet", "only_takes", None),
    ("red_packet", "balance", Some("giver")),
    ("red_packet", "balance", Some("taker")),
];

fn count_table(counts: &BTreeMap<(&str, Option<&str>), u64>) -> String {
    let mut table = String::from("rule,label,value,members\n");
    for (rule, name, value) in LABELS {
        let count = counts.get(&(name, value)).copied().unwrap_or(0);
        table.push_str(&format!("{rule},{name},{},{count}\n", value.unwrap_or_default()));
    }
    table
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
