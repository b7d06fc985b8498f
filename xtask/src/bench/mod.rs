//! The whole host and the hand-written program on one stream, by turns; medians, and every run checked for exactness.
//!
//! The host's clock runs from the start of its process to its end, when everything is durable and delivered; the native
//! program's own clock leaves out its start and the writing of its table. So the ratio is never flattering.

pub(crate) mod kafka;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::compare::{equal_tables, grouped, json_field};
use crate::measure::{Measured, measure, median};
use crate::process::{cargo, output, release_binary, root, run as run_command, target_dir};
use crate::ready;

const USAGE: &str = "usage: cargo xtask bench [--events N] [--users N] [--runs N] [--seed N] [--bar RATIO]";

struct Settings {
    events: u64,
    users: u64,
    runs: u64,
    seed: u64,
    bar: f64,
}

fn settings(arguments: &[String]) -> Result<Settings> {
    // Another stream each time, unless a seed is given: the process number is random enough for that.
    let seed = u64::from(std::process::id());
    let mut settings = Settings { events: 5_000_000, users: 1_000_000, runs: 3, seed, bar: 0.2 };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} wants a value\n{USAGE}"))?;
        let number = || value.parse().with_context(|| format!("{name} wants a number, not `{value}`"));
        match name.as_str() {
            "--events" => settings.events = number()?,
            "--users" => settings.users = number()?,
            "--runs" => settings.runs = number()?,
            "--seed" => settings.seed = number()?,
            "--bar" => settings.bar = value.parse().context("--bar wants a ratio")?,
            other => bail!("unknown option {other}\n{USAGE}"),
        }
    }
    if settings.runs == 0 || settings.events == 0 {
        bail!("--runs and --events must be at least 1");
    }
    Ok(settings)
}

/// One run of one program.
struct Run {
    events_per_second: f64,
    measured: Measured,
}

/// Runs the bench.
///
/// # Errors
/// A run failed, a result was not exact, or the ratio fell below `--bar`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let settings = settings(arguments)?;
    ready::wasm_target()?;
    run_command(&mut cargo([
        "build",
        "--release",
        "-p",
        "retag-host",
        "-p",
        "retag-tests",
        "-p",
        "retag-native",
    ]))?;
    ready::rules_by(&release_binary("retag"))?;
    let bench = Bench { dir: target_dir().join("bench"), events: settings.events };
    let files = bench.prepare(&settings)?;
    let (mut natives, mut hosts) = (Vec::new(), Vec::new());
    for turn in 1..=settings.runs {
        println!("== run {turn} of {}", settings.runs);
        natives.push(bench.native(&files)?);
        hosts.push(bench.host()?);
    }
    bench.report(&natives, &hosts);
    let ratio = ratio(&natives, &hosts);
    if ratio < settings.bar {
        bail!("the ratio {ratio:.3} is below the bar {}", settings.bar);
    }
    Ok(())
}

fn ratio(natives: &[Run], hosts: &[Run]) -> f64 {
    median(hosts.iter().map(|run| run.events_per_second))
        / median(natives.iter().map(|run| run.events_per_second))
}

/// A shop's stream without re-sent messages.
struct Stream {
    partitions: u32,
    events: u64,
    users: u64,
    seed: u64,
}

/// Makes a folder anew, with a stream, what must come out of it (`expected`) and rule `payer`; the stream's files.
fn stream(dir: &Path, stream: Stream) -> Result<Vec<PathBuf>> {
    let Stream { partitions, events, users, seed } = stream;
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir)?;
    println!("== a stream of {} changes, {} users, seed {seed}", grouped(events), grouped(users));
    let mut make = Command::new(release_binary("shop"));
    make.args(["make", "stream", "--resend-percent", "0", "--no-huge-ids"]);
    make.args(["--partitions", &partitions.to_string(), "--events", &events.to_string()]);
    make.args(["--users", &users.to_string(), "--seed", &seed.to_string()]).current_dir(dir);
    let files: Vec<PathBuf> = output(&mut make)?.lines().map(|name| dir.join(name)).collect();
    let mut recompute = Command::new(release_binary("shop"));
    recompute.args(["recompute", "expected"]).args(&files).current_dir(dir);
    print!("recomputed: {}", output(&mut recompute)?);
    let wasm = root().join("rules/payer/payer.wasm");
    std::fs::copy(&wasm, dir.join("payer.wasm")).with_context(|| format!("copy {}", wasm.display()))?;
    Ok(files)
}

struct Bench {
    dir: PathBuf,
    events: u64,
}

impl Bench {
    /// Makes the stream, what must come out of it, and the configuration.
    fn prepare(&self, settings: &Settings) -> Result<Vec<PathBuf>> {
        let Settings { events, users, seed, .. } = *settings;
        let files = stream(&self.dir, Stream { partitions: 2, events, users, seed })?;
        std::fs::write(
            self.dir.join("retag.toml"),
            "[state]\ndir = \"data\"\n\n[http]\nlisten = \"off\"\n\n[sources.shop]\ntype = \"files\"\nformat = \"maxwell\"\n\
             paths = [\"stream/shop.p0.json\", \"stream/shop.p1.json\"]\nhistory = \"complete\"\n\n\
             [rules.payer]\npath = \"payer.wasm\"\n\n[sinks.out]\ntype = \"ndjson\"\npath = \"labels.ndjson\"\n",
        )?;
        Ok(files)
    }

    fn native(&self, files: &[PathBuf]) -> Result<Run> {
        let csv = self.dir.join("native.csv");
        let mut command = Command::new(release_binary("retag-native"));
        command.args(["run", "--threads", "2", "--with", "spec", "--out"]).arg(&csv).args(files);
        let measured = measure(&mut command, &self.dir.join("native.out"))?;
        equal_tables(&self.expected(), &csv)?;
        let events_per_second = json_field(&measured.output, "events_per_second")
            .and_then(|text| text.parse().ok())
            .context("the native program printed no events_per_second")?;
        println!("native: {} events/s, EXACT", rate(events_per_second));
        Ok(Run { events_per_second, measured })
    }

    fn host(&self) -> Result<Run> {
        let data = self.dir.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        let _ = std::fs::remove_file(self.dir.join("labels.ndjson"));
        let config = self.dir.join("retag.toml");
        let mut command = Command::new(release_binary("retag"));
        command.args(["run", "--until-end", "--stats", "--config"]).arg(&config);
        let measured = measure(&mut command, &self.dir.join("retag.out"))?;
        let csv = self.dir.join("retag.csv");
        let mut export = Command::new(release_binary("retag"));
        export.args(["export", "aggregates", "payer", "-o", "csv", "--config"]).arg(&config);
        std::fs::write(&csv, output(&mut export)?)?;
        equal_tables(&self.expected(), &csv)?;
        // From the start of the command until everything is durable; not what the process takes to give its memory back.
        let seconds = stat(&measured, "seconds").context("retag printed no statistics with seconds")?;
        let events_per_second = self.events as f64 / seconds;
        println!("retag:  {} events/s, EXACT", rate(events_per_second));
        Ok(Run { events_per_second, measured })
    }

    fn expected(&self) -> PathBuf {
        self.dir.join("expected").join("payer.csv")
    }

    fn report(&self, natives: &[Run], hosts: &[Run]) {
        println!("\n| | native | retag |\n|---|---|---|");
        let row = |name: &str, figure: &dyn Fn(&[Run]) -> String| {
            println!("| {name} | {} | {} |", figure(natives), figure(hosts));
        };
        row("events/s, median", &|runs| rate(median(runs.iter().map(|r| r.events_per_second))));
        row("ratio to native", &|runs| format!("{:.3}", ratio(natives, runs)));
        row("CPU ns an event", &|runs| {
            medians(of(runs), |m| m.cpu_seconds, |s| format!("{:.0}", s * 1e9 / self.events as f64))
        });
        row("seconds of the whole process", &|runs| {
            medians(of(runs), |m| Some(m.seconds), |s| format!("{s:.2}"))
        });
        row("peak memory, MB", &|runs| medians(of(runs), |m| m.peak_bytes.map(|b| b as f64), megabytes));
        row("written to disk, MB", &|runs| {
            medians(of(runs), |m| m.written_bytes.map(|b| b as f64), megabytes)
        });
        for (name, field, shown) in STORE_ROWS {
            let figures: Option<Vec<f64>> = hosts.iter().map(|run| stat(&run.measured, field)).collect();
            let figure =
                figures.map_or_else(|| "not known here".to_owned(), |figures| shown(median(figures)));
            println!("| {name} | – | {figure} |");
        }
        println!("\nstream: {} MB on disk", self.stream_bytes() / 1_000_000);
        match hosts.last().and_then(|run| stats_line(&run.measured.output)) {
            Some(line) => self.report_stages(line),
            None => println!("retag printed no line of statistics"),
        }
    }

    fn stream_bytes(&self) -> u64 {
        let sizes = std::fs::read_dir(self.dir.join("stream")).into_iter().flatten().flatten();
        sizes.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
    }

    /// The host's own times in the last run.
    fn report_stages(&self, line: &str) {
        println!("\n| stage (summed over threads) | ns an event |\n|---|---|");
        for (stage, nanos) in stages(line) {
            println!("| {stage} | {:.1} |", nanos / self.events as f64);
        }
    }
}

/// Row of the table, field in the host's line of statistics, and how it is shown.
type StoreRow = (&'static str, &'static str, fn(f64) -> String);

/// What the native program has nothing of.
const STORE_ROWS: [StoreRow; 4] = [
    ("commits", "commits", rate),
    ("fsyncs of the store", "fsyncs", rate),
    ("written to the store, MB", "bytes", megabytes),
    ("store on disk at the end, MB", "disk_bytes", megabytes),
];

fn megabytes(bytes: f64) -> String {
    format!("{:.0}", bytes / 1e6)
}

/// A figure of the host's own in one run.
fn stat(measured: &Measured, field: &str) -> Option<f64> {
    json_field(stats_line(&measured.output)?, field)?.parse().ok()
}

/// Events a second for people.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, far below 2^53, and shown rounded
fn rate(events_per_second: f64) -> String {
    grouped(events_per_second.round() as u64)
}

fn of(runs: &[Run]) -> impl Iterator<Item = &Measured> {
    runs.iter().map(|run| &run.measured)
}

/// The median of a figure where every run has it.
fn medians<'a>(
    runs: impl Iterator<Item = &'a Measured>,
    figure: impl Fn(&Measured) -> Option<f64>,
    shown: impl Fn(f64) -> String,
) -> String {
    let figures: Option<Vec<f64>> = runs.map(figure).collect();
    figures.map_or_else(|| "not known here".to_owned(), |figures| shown(median(figures)))
}

/// The last line of output that holds `stage_ns`.
fn stats_line(output: &str) -> Option<&str> {
    output.lines().rev().find(|line| line.contains("\"stage_ns\""))
}

/// `"name": number`.
fn member(text: &str) -> Option<(&str, f64)> {
    let (name, number) = text.split_once(':')?;
    Some((name.trim().trim_matches('"'), number.trim().parse().ok()?))
}

/// Members of the object `stage_ns`.
fn stages(line: &str) -> Vec<(&str, f64)> {
    let Some((_, rest)) = line.split_once("\"stage_ns\":{") else { return Vec::new() };
    let inside = rest.split('}').next().unwrap_or_default();
    inside.split(',').filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::{stages, stats_line};
    use crate::measure::median;

    #[test]
    fn the_hosts_own_figures_are_read() {
        let output = "done\n{\"stage_ns\":{\"decode\":1200,\"rule\": 80.5},\"commits\":21,\"fsyncs\":22,\"bytes\":9}\n";
        let line = stats_line(output).unwrap();
        assert_eq!(stages(line), [("decode", 1_200.0), ("rule", 80.5)]);
        assert_eq!(crate::compare::json_field(line, "fsyncs"), Some("22"));
        assert_eq!(stats_line("done"), None);
    }

    #[test]
    fn medians_are_the_middle_ones() {
        assert_eq!(median([3.0, 1.0, 2.0]).to_bits(), 2.0f64.to_bits());
        assert!(median([]).is_nan());
    }
}
