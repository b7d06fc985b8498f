//! Runs one program and measures it from outside: wall time, CPU time, peak memory, bytes written.
//!
//! Figures that only Linux' `/proc` gives are `None` elsewhere. Peak memory and bytes are read every few milliseconds,
//! so what happens in the last ones may be missing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::shown;

const POLL: Duration = Duration::from_millis(20);
/// Clock ticks a second in `/proc` (USER_HZ; 100 on every Linux that Rust runs on).
const TICKS_PER_SECOND: f64 = 100.0;

/// What one run took.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// From start to exit.
    pub(crate) seconds: f64,
    /// User and system time of the program and its threads.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) peak_bytes: Option<u64>,
    /// Bytes it caused to be written to disk.
    pub(crate) written_bytes: Option<u64>,
    /// Its standard output.
    pub(crate) output: String,
}

/// Runs the command; its standard error stays on this terminal.
///
/// # Errors
/// It could not be started or did not succeed.
#[allow(clippy::disallowed_methods)] // measuring is what it is for
pub(crate) fn measure(command: &mut Command, output_file: &Path) -> Result<Measured> {
    let output =
        std::fs::File::create(output_file).with_context(|| format!("create {}", output_file.display()))?;
    let cpu_before = children_cpu_seconds();
    let start = Instant::now();
    let mut child =
        command.stdout(Stdio::from(output)).spawn().with_context(|| format!("start `{}`", shown(command)))?;
    let (mut peak_bytes, mut written_bytes) = (None, None);
    let status = loop {
        if let Some(peak) = proc_number(child.id(), "status", "VmHWM:") {
            peak_bytes = Some(peak * 1024);
        }
        if let Some(written) = proc_number(child.id(), "io", "write_bytes:") {
            written_bytes = Some(written);
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(POLL);
    };
    let seconds = start.elapsed().as_secs_f64();
    let output = std::fs::read_to_string(output_file)?;
    if !status.success() {
        bail!("`{}` failed ({status}); its output is in {}", shown(command), output_file.display());
    }
    let cpu_seconds = cpu_before.zip(children_cpu_seconds()).map(|(before, after)| after - before);
    Ok(Measured { seconds, cpu_seconds, peak_bytes, written_bytes, output })
}

fn proc_number(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// CPU time of a process that runs.
pub(crate) fn cpu_seconds_of(pid: u32) -> Option<f64> {
    cpu_seconds(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, 11)
}

/// CPU time of all children that have ended and been waited for.
fn children_cpu_seconds() -> Option<f64> {
    cpu_seconds(&std::fs::read_to_string("/proc/self/stat").ok()?, 13)
}

/// The sum of user and system time, which stand at `at` and behind it, counted from the name in parentheses (which may hold
/// spaces): utime and stime from 11, cutime and cstime from 13.
fn cpu_seconds(stat: &str, at: usize) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(at)? + ticks(at + 1)?) / TICKS_PER_SECOND)
}

/// The middle one of some figures.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
