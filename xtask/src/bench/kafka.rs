//! `bench kafka`: the host reads one stream from files, then from a topic of four partitions, plain and compressed, with the
//! broker on the same machine; every run is checked for exactness. What it costs beside a file is the price of Kafka.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use retag_servers::{Kafka, Service as _};

use super::{Stream, medians, rate, stat, stream};
use crate::compare::equal_tables;
use crate::measure::{Measured, cpu_seconds_of, measure, median};
use crate::process::{cargo, output, release_binary, run as run_command, target_dir};
use crate::{ready, servers};

const USAGE: &str = "usage: cargo xtask bench kafka [--events N] [--users N] [--runs N] [--seed N]";
const PARTITIONS: u32 = 4;
/// Events a second at least, and µs of the host's CPU an event that Kafka may cost at most.
const BARS: (f64, f64) = (700_000.0, 0.5);
/// Large batches, as a busy producer sends them.
const PRODUCER: [(&str, &str); 3] =
    [("linger.ms", "50"), ("batch.size", "131072"), ("buffer.memory", "67108864")];

struct Settings {
    events: u64,
    users: u64,
    runs: u64,
    seed: u64,
}

impl Settings {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut settings = Self { events: 5_000_000, users: 1_000_000, runs: 3, seed: 1 };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} wants a value\n{USAGE}"))?;
            let number = value.parse().with_context(|| format!("{name} wants a number, not `{value}`"))?;
            match name.as_str() {
                "--events" => settings.events = number,
                "--users" => settings.users = number,
                "--runs" => settings.runs = number,
                "--seed" => settings.seed = number,
                other => bail!("unknown option {other}\n{USAGE}"),
            }
        }
        ensure!(settings.runs > 0 && settings.events > 0, "--runs and --events must be at least 1");
        Ok(settings)
    }
}

/// One run of the host.
struct Run {
    events_per_second: f64,
    host: Measured,
    broker_cpu_seconds: f64,
}

/// Where the host reads from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Files,
    Topic(&'static str),
}

/// Runs the bench.
///
/// # Errors
/// A run failed, a result was not exact, or a bar was not held.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let settings = Settings::parse(arguments)?;
    ready::wasm_target()?;
    servers::run(&["install".to_owned(), "kafka".to_owned()])?;
    run_command(&mut cargo(["build", "--release", "-p", "retag-host", "--features", "kafka-tls"]))?;
    run_command(&mut cargo(["build", "--release", "-p", "retag-tests", "--bin", "shop"]))?;
    ready::rules_by(&release_binary("retag"))?;
    let mut bench =
        Bench { dir: target_dir().join("bench-kafka"), events: settings.events, kafka: Kafka::start()? };
    let Settings { events, users, seed, .. } = settings;
    let files = stream(&bench.dir, Stream { partitions: PARTITIONS, events, users, seed })?;
    let ways = [From::Files, From::Topic("none"), From::Topic("lz4")];
    for way in ways {
        bench.fill(way, &files)?;
    }
    let mut runs: Vec<Vec<Run>> = ways.iter().map(|_| Vec::new()).collect();
    for turn in 1..=settings.runs {
        println!("== run {turn} of {}", settings.runs);
        for (way, runs) in ways.iter().zip(&mut runs) {
            runs.push(bench.host(*way)?);
        }
    }
    bench.report(&ways, &runs)
}

impl From {
    fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Topic("none") => "Kafka, not compressed",
            Self::Topic(_) => "Kafka, lz4",
        }
    }
}

struct Bench {
    dir: PathBuf,
    events: u64,
    kafka: Kafka,
}

impl Bench {
    /// Writes the stream to the topic of that way, and the way's configuration.
    fn fill(&self, way: From, files: &[PathBuf]) -> Result<()> {
        let source = match way {
            From::Files => {
                let paths: Vec<String> =
                    files.iter().map(|path| format!("{:?}", path.to_string_lossy())).collect();
                format!("type = \"files\"\npaths = [{}]", paths.join(", "))
            }
            From::Topic(compression) => {
                println!("== written to a topic, compression {compression}");
                self.kafka.create_topic(compression, i32::try_from(PARTITIONS)?, &[])?;
                let mut settings = PRODUCER.to_vec();
                settings.push(("compression.type", compression));
                for file in files {
                    self.kafka.produce_lines(compression, file, &settings)?;
                }
                format!(
                    "type = \"kafka\"\nbootstrap_servers = \"{}\"\ntopics = [\"{compression}\"]",
                    self.kafka.bootstrap()
                )
            }
        };
        let text = format!(
            "[state]\ndir = \"data\"\n\n[http]\nlisten = \"off\"\n\n[sources.shop]\n{source}\nformat = \"maxwell\"\n\
             history = \"complete\"\n\n[rules.payer]\npath = \"payer.wasm\"\n\n\
             [sinks.out]\ntype = \"ndjson\"\npath = \"labels.ndjson\"\n"
        );
        std::fs::write(self.config(way), text)?;
        Ok(())
    }

    fn config(&self, way: From) -> PathBuf {
        let name = match way {
            From::Files => "files",
            From::Topic(compression) => compression,
        };
        self.dir.join(name).with_extension("toml")
    }

    fn host(&mut self, way: From) -> Result<Run> {
        let data = self.dir.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        let _ = std::fs::remove_file(self.dir.join("labels.ndjson")); // there is none before the first run
        let broker = self.kafka.process().id().and_then(cpu_seconds_of);
        let mut command = Command::new(release_binary("retag"));
        command.args(["run", "--until-end", "--stats", "--config"]).arg(self.config(way));
        let host = measure(&mut command, &self.dir.join("retag.out"))?;
        let broker_after = self.kafka.process().id().and_then(cpu_seconds_of);
        let broker_cpu_seconds = broker_after.zip(broker).map_or(f64::NAN, |(after, before)| after - before);
        self.check(way)?;
        let seconds = stat(&host, "seconds").context("retag printed no statistics with seconds")?;
        let events_per_second = self.events as f64 / seconds;
        println!("{}: {} events/s, EXACT", way.name(), rate(events_per_second));
        Ok(Run { events_per_second, host, broker_cpu_seconds })
    }

    fn check(&self, way: From) -> Result<()> {
        let csv: &Path = &self.dir.join("retag.csv");
        let mut export = Command::new(release_binary("retag"));
        export.args(["export", "aggregates", "payer", "-o", "csv", "--config"]).arg(self.config(way));
        std::fs::write(csv, output(&mut export)?)?;
        equal_tables(&self.dir.join("expected").join("payer.csv"), csv).map(drop)
    }

    fn report(&self, ways: &[From], runs: &[Vec<Run>]) -> Result<()> {
        let (events, micros) = (self.events as f64, |seconds: f64, events: f64| seconds * 1e6 / events);
        println!(
            "\n| read from | events/s, median | host CPU µs an event | broker CPU µs an event | peak memory, MB |\n|---|---|---|---|---|"
        );
        let (mut rates, mut costs) = (Vec::new(), Vec::new());
        for (way, runs) in ways.iter().zip(runs) {
            let per_second = median(runs.iter().map(|run| run.events_per_second));
            let cost = median(runs.iter().filter_map(|run| run.host.cpu_seconds).map(|s| micros(s, events)));
            let broker = median(runs.iter().map(|run| micros(run.broker_cpu_seconds, events)));
            let memory = medians(
                runs.iter().map(|r| &r.host),
                |m| m.peak_bytes.map(|b| b as f64),
                |b| format!("{:.0}", b / 1e6),
            );
            println!("| {} | {} | {cost:.2} | {broker:.2} | {memory} |", way.name(), rate(per_second));
            rates.push(per_second);
            costs.push(cost);
        }
        let (least, most) = BARS;
        let file_cost = costs.first().copied().unwrap_or(f64::NAN);
        for ((way, per_second), cost) in ways.iter().zip(&rates).zip(&costs).skip(1) {
            ensure!(
                *per_second >= least,
                "{}: {} events/s, the bar is {}",
                way.name(),
                rate(*per_second),
                rate(least)
            );
            let more = cost - file_cost;
            ensure!(
                more <= most,
                "{}: {more:.2} µs of CPU an event more than from files, the bar is {most}",
                way.name()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{From, Settings};

    #[test]
    fn options_are_numbers_and_ways_have_names() {
        let parse =
            |words: &[&str]| Settings::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&["--events", "7"]).unwrap().events, 7);
        for wrong in [&["--events"][..], &["--event", "1"], &["--runs", "0"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(From::Topic("lz4").name(), "Kafka, lz4");
    }
}
