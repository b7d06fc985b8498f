//! The table of the swaps, and the bars.

use super::figures::percentile;
use super::kill::{Kind, Step};
use super::swaps::Report;
use anyhow::{Result, bail};
use std::time::Duration;

/// One swap.
#[derive(Clone, Debug)]
pub struct Done {
    /// What was swapped.
    pub kind: Kind,
    /// Where it was killed; figures of killed ones are not counted.
    pub kill: Option<Step>,
    /// It was too quick for that: the kill fell behind it.
    pub late: bool,
    /// From the command to prepare, or to resume, until it is ready, or has caught up.
    pub ready: Option<Duration>,
    /// From the command to switch, or to pause, until its answer.
    pub flip: Option<Duration>,
    /// How far the rate of applied changes fell below the stream's, 0 to 1, in the worst half second.
    pub dip: Option<f64>,
    /// The most that waited to be read.
    pub lag_bytes: u64,
}

/// What must be held.
#[derive(Clone, Copy, Debug)]
pub struct Bars {
    /// Worker time of a piece of a swap, p99.
    pub slice_ms: f64,
    /// Ready, over many keys.
    pub ready_s: f64,
    /// Flip, over many keys.
    pub flip_ms: f64,
}

/// A swap in a line.
#[must_use]
pub fn line(done: &Done) -> String {
    let seconds = |time: Option<Duration>| time.map_or("–".into(), |t| format!("{:.3} s", t.as_secs_f64()));
    format!(
        "{}: ready {}, flip {}, dip {}, at most {} KiB waiting",
        done.kind.name(),
        seconds(done.ready),
        seconds(done.flip),
        done.dip.map_or("–".into(), |dip| format!("{:.0} %", dip * 100.0)),
        done.lag_bytes / 1_024
    )
}

/// Median and worst of some times, in ms.
fn millis(times: impl Iterator<Item = Duration>) -> String {
    let mut micros: Vec<u64> = times.map(|t| t.as_micros() as u64).collect();
    if micros.is_empty() {
        return "–".into();
    }
    let [median, worst] = [500, 1_000].map(|p| percentile(&mut micros, p) as f64 / 1_000.0);
    format!("{median:.1} / {worst:.1}")
}

fn row(name: &str, swaps: &[&Done]) {
    let mut dips: Vec<u64> =
        swaps.iter().filter_map(|s| s.dip).map(|d| (d.max(0.0) * 1_000.0) as u64).collect();
    let dip = if dips.is_empty() {
        "–".to_owned()
    } else {
        let [median, worst] = [500, 1_000].map(|p| percentile(&mut dips, p) / 10);
        format!("{median} / {worst}")
    };
    let killed = swaps.iter().filter(|s| s.kill.is_some()).count();
    let ready = millis(swaps.iter().filter_map(|s| s.ready));
    let flip = millis(swaps.iter().filter_map(|s| s.flip));
    let lag = swaps.iter().map(|s| s.lag_bytes).max().unwrap_or(0) / 1_024;
    println!("| {name} | {} | {killed} | {ready} | {flip} | {dip} | {lag} |", swaps.len());
}

/// Prints everything and judges the bars.
///
/// # Errors
/// The bars that were not held.
pub fn print(all: &mut Report, bars: &Bars, rate: u64) -> Result<()> {
    println!(
        "\n{} changes at {rate}/s, {} comparisons with the model: 0 changes lost\n",
        all.changes, all.checks
    );
    println!(
        "| swap | swaps | killed | ready, ms: median / worst | flip, ms | dip, % | waiting, KiB |\n|---|---|---|---|---|---|---|"
    );
    for kind in [Kind::Labels, Kind::Parameters, Kind::Aggregates, Kind::Rollback, Kind::Pause] {
        let of: Vec<&Done> = all.swaps.iter().filter(|s| s.kind == kind).collect();
        if !of.is_empty() {
            row(kind.name(), &of);
        }
    }
    if !all.many.is_empty() {
        row(&format!("labels only, {} keys", all.keys), &all.many.iter().collect::<Vec<_>>());
    }
    println!(
        "\n| piece on a worker | clock | pieces | p50, ms ≤ | p99, ms ≤ | max, ms |\n|---|---|---|---|---|---|"
    );
    let mut missed = Vec::new();
    for ((part, is_cpu), pieces) in &all.pieces {
        let [p50, p99] = [500, 990].map(|p| pieces.percentile_us(p) as f64 / 1_000.0);
        let (clock, max) = (if *is_cpu { "processor" } else { "wall" }, pieces.max_us as f64 / 1_000.0);
        println!("| {part} | {clock} | {} | {p50} | {p99} | {max} |", pieces.total());
        if *is_cpu && p99 > bars.slice_ms {
            let bar = bars.slice_ms;
            missed.push(format!("a piece of {part} takes {p99} ms of a worker at p99, the bar is {bar} ms"));
        }
    }
    println!("\n| killed in | times |\n|---|---|");
    let killed = |step| all.swaps.iter().filter(|s| s.kill == Some(step) && !s.late).count();
    let all_kills = all.swaps.iter().filter(|s| s.kill.is_some()).count();
    for (name, step) in Step::ALL {
        println!("| {name} | {} |", killed(step));
        if killed(step) == 0 && all_kills >= Step::ALL.len() {
            missed.push(format!("no kill fell into {name}"));
        }
    }
    if !all.restarts.is_empty() {
        println!(
            "\nanswers again after a kill, ms (median / worst): {}",
            millis(all.restarts.iter().copied())
        );
    }
    println!("{}", all.kept.line());
    for done in &all.many {
        let ready = done.ready.map_or(f64::MAX, |t| t.as_secs_f64());
        let flip = done.flip.map_or(f64::MAX, |t| t.as_secs_f64() * 1_000.0);
        if ready > bars.ready_s {
            missed.push(format!(
                "{} keys are ready after {ready:.2} s, the bar is {} s",
                all.keys, bars.ready_s
            ));
        }
        if flip > bars.flip_ms {
            missed.push(format!(
                "{} keys are switched in {flip:.1} ms, the bar is {} ms",
                all.keys, bars.flip_ms
            ));
        }
    }
    if missed.is_empty() { Ok(()) } else { bail!("bars that were not held: {}", missed.join("; ")) }
}
