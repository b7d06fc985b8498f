//! Restarts with many rules: what they add to a start over one rule on the same stream.

use super::host::{Host, SOCKET_ONLY, Setup};
use super::options::Options;
use super::variant::{Variant, Workshop};
use crate::rule_file::changed;
use crate::shop::{Config, Live};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs the measurement.
///
/// # Errors
/// A host that does not come up, or a bar that was not held.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut options = Options::read(arguments)?;
    let retag: PathBuf = options.take("retag", PathBuf::new())?;
    let dir: PathBuf = options.take("dir", PathBuf::new())?;
    let rules: u64 = options.take("rules", 200)?;
    let restarts: u64 = options.take("restarts", 5)?;
    let bar_s: f64 = options.take("bar-s", 1.0)?;
    options.end()?;
    if rules == 0 || restarts == 0 {
        bail!("--rules and --restarts are at least 1");
    }
    let workshop = Workshop::open(&retag, &dir.join("rules"))?;
    let wasm = workshop.build(&Variant::base())?;
    println!("== {rules} rules of {} bytes, {restarts} restarts", wasm.len());
    let all: Vec<(String, Vec<u8>)> = (0..rules).map(|n| named(&wasm, n)).collect();
    let one = measure(&retag, &dir.join("one"), &all[..1], restarts)?;
    let many = measure(&retag, &dir.join("many"), &all, restarts)?;
    println!("\n| rules | first start, s | restart, s: median |\n|---|---|---|");
    for (rules, (first, restart)) in [(1, one), (rules, many)] {
        println!("| {rules} | {:.3} | {:.3} |", first.as_secs_f64(), restart.as_secs_f64());
    }
    let added = many.1.saturating_sub(one.1).as_secs_f64();
    println!("\n{rules} rules add {added:.3} s to a restart");
    if added > bar_s {
        bail!("{rules} rules add {added:.3} s, the bar is {bar_s} s");
    }
    Ok(())
}

/// Rule payer under another name, with labels of other names.
fn named(wasm: &[u8], n: u64) -> (String, Vec<u8>) {
    let name = format!("p{n}");
    let file = changed(wasm, |manifest| {
        manifest["name"] = name.as_str().into();
        for (label, place) in manifest["labels"].as_array_mut().into_iter().flatten().zip(b'a'..) {
            label["name"] = format!("{}{n}", char::from(place)).into();
        }
    });
    (name, file)
}

/// Until the first start answers, and the median of restarts.
fn measure(
    retag: &Path,
    dir: &Path,
    rules: &[(String, Vec<u8>)],
    restarts: u64,
) -> Result<(Duration, Duration)> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("empty {}", dir.display()))?;
    }
    let config = Config { seed: 1, events: u64::MAX, users: 1_000, ..Config::default() };
    Live::create(&dir.join("stream"), config, None)?.append(10_000)?;
    let begin = retag_host::clock::moment();
    let mut host =
        Host::start_with(retag, dir, rules, Setup { http: SOCKET_ONLY, grace_s: 10, workers: 0, more: "" })?;
    let first = begin.elapsed();
    // The first start may still read; what is measured are starts that have nothing to do.
    while host.read("/v1/status")?["sources"][0]["partitions"]
        .as_array()
        .is_none_or(|all| all.iter().any(|p| p["lag_bytes"] != 0))
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut times = Vec::new();
    for _ in 0..restarts {
        host.kill()?;
        times.push(host.restart()?);
    }
    host.stop()?;
    times.sort();
    std::fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    Ok((first, times.get(times.len() / 2).copied().unwrap_or_default()))
}
