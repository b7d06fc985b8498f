//! The process of a server: started in a group of its own, asked until it answers, stopped, killed, started again.
//!
//! It never outlives its value: `drop` kills the group. Nor does it outlive the process that holds the value: a watchdog
//! waits for the end of a pipe that only that process holds, then kills the group and removes the folder.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// Longest that a start or a stop may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a start is tried anew where somebody else has the port for a moment.
const STARTS: usize = 10;
/// What all servers write when their port is taken.
const TAKEN: &str = "Address already in use";
/// Lines of the log in an error.
const SHOWN: usize = 25;
/// Kills group `$1` and removes folder `$2` when its standard input ends.
const WATCHDOG: &str = r#"read -r line; kill -s KILL -- "-$1"; rm -rf -- "$2""#;

/// A server's process, its folder and its log.
pub struct Process {
    name: &'static str,
    /// Removed with this value, but for the log where a test failed.
    folder: Option<TempDir>,
    log: PathBuf,
    /// Where in the log this run began.
    log_begin: usize,
    command: Command,
    running: Option<Running>,
}

struct Running {
    child: Child,
    watchdog: Child,
    /// Open as long as this process lives: its end wakes the watchdog.
    _pipe: Option<ChildStdin>,
}

/// The time, for waits.
pub(crate) fn now() -> Instant {
    #[allow(clippy::disallowed_methods)] // these are processes of the real world
    Instant::now()
}

/// A command's standard output.
///
/// # Errors
/// It does not start or fails; the message holds what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start `{program}`"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        bail!("`{program}` failed ({}): {}", output.status, last_lines(&said.concat()).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{program}`"))
}

/// The end of a long text.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
}

/// Waits until something is so.
///
/// # Errors
/// It is not after a minute, or asking failed to the end.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = now();
    loop {
        let answer = is_so();
        if let Ok(true) = answer {
            return Ok(());
        }
        if begin.elapsed() > LIMIT {
            let error = answer.err().unwrap_or_else(|| anyhow!("it stayed otherwise"));
            return Err(error.context(format!("waited {LIMIT:?} until {what}")));
        }
        std::thread::sleep(PAUSE);
    }
}

impl Process {
    /// What `command` will run, with its outputs in `folder/log`. Nothing is started yet.
    pub(crate) fn new(name: &'static str, folder: TempDir, mut command: Command) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let log = folder.path().join("log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        Ok(Self { name, folder: Some(folder), log, log_begin: 0, command, running: None })
    }

    /// What it keeps lies here; none once it was forgotten.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }

    /// What this run has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.log_begin..).unwrap_or_default()).into_owned()
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// It runs. One that has ended by itself may be started again.
    pub fn runs(&mut self) -> bool {
        self.check_runs().is_ok()
    }

    fn spawn(&mut self) -> Result<()> {
        use std::os::unix::process::CommandExt as _;
        self.log_begin = std::fs::metadata(&self.log).map_or(0, |m| usize::try_from(m.len()).unwrap_or(0));
        let child = self.command.spawn().with_context(|| {
            format!("start {} ({})", self.name, Path::new(self.command.get_program()).display())
        })?;
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "watchdog", &child.id().to_string()]);
        watchdog.args(self.folder.iter().map(TempDir::path));
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        match watchdog.spawn() {
            Ok(mut watchdog) => {
                let pipe = watchdog.stdin.take();
                self.running = Some(Running { child, watchdog, _pipe: pipe });
                Ok(())
            }
            Err(error) => {
                signal(&child, Signal::KILL);
                Err(anyhow!(error).context(format!("start the watchdog of {}", self.name)))
            }
        }
    }

    /// Ends with an error if the process has ended.
    fn check_runs(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else { bail!("{} is not running", self.name) };
        if let Some(status) = running.child.try_wait()? {
            self.forget();
            bail!("{} ended by itself ({status}); its log ends:\n{}", self.name, last_lines(&self.log()));
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    fn stop(&mut self) -> Result<()> {
        self.check_runs()?;
        let Some(running) = &mut self.running else { return Ok(()) };
        signal(&running.child, Signal::TERM);
        let begin = now();
        while running.child.try_wait()?.is_none() {
            if begin.elapsed() > LIMIT {
                self.forget();
                bail!("{} had not stopped after {LIMIT:?}: killed", self.name);
            }
            std::thread::sleep(PAUSE);
        }
        self.forget();
        Ok(())
    }

    /// kill -9, and waits for the end.
    fn kill(&mut self) -> Result<()> {
        self.check_runs()?;
        self.forget();
        Ok(())
    }

    /// Kills whatever of the group is left. The watchdog goes first: it must not outlive the group's number.
    fn forget(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.watchdog.kill(); // it has ended already, or waits
            let _ = running.watchdog.wait();
            signal(&running.child, Signal::KILL);
            let _ = running.child.wait();
        }
    }

    /// Leaves the log alone in its folder and says where it is.
    fn keep_log(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        let folder = folder.keep();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let _ = std::fs::remove_dir_all(entry.path()); // what stays is only in the way
            }
        }
        let mut text = format!("{}: the log is {}, its end:\n", self.name, self.log.display());
        let _ = writeln!(text, "{}", last_lines(&self.log())); // to a string
        #[allow(clippy::print_stderr)] // a failed test's output
        {
            eprintln!("{text}");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.forget();
        if std::thread::panicking() {
            self.keep_log();
        }
    }
}

/// A signal to the group that a child leads. That there is none any more is what most signals are for.
fn signal(child: &Child, signal: Signal) {
    let _ = kill_process_group(Pid::from_child(child), signal);
}

/// A server that runs, on the same port and with the same data however often it is started again.
pub trait Service {
    /// Its process.
    fn process(&mut self) -> &mut Process;

    /// Asks it once whether it serves.
    ///
    /// # Errors
    /// Not yet, or not any more.
    fn answers(&mut self) -> Result<()>;

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It was not running, or had to be killed.
    fn stop(&mut self) -> Result<()> {
        self.process().stop()
    }

    /// kill -9, and waits for the end.
    ///
    /// # Errors
    /// It was not running.
    fn kill(&mut self) -> Result<()> {
        self.process().kill()
    }

    /// Starts it, after a stop if it runs, and waits until it answers.
    ///
    /// # Errors
    /// It does not come up; the message ends with its log.
    fn restart(&mut self) -> Result<()> {
        if self.process().running.is_some() {
            self.stop()?;
        }
        let mut starts = 1;
        loop {
            self.process().spawn()?;
            match wait(self) {
                // Somebody's outgoing connection has the port: it goes by.
                Err(_) if starts < STARTS && self.process().log().contains(TAKEN) => {
                    self.process().forget();
                    std::thread::sleep(PAUSE * 10);
                    starts += 1;
                }
                result => return result,
            }
        }
    }
}

/// Waits until a process that was started answers.
fn wait<S: Service + ?Sized>(service: &mut S) -> Result<()> {
    let begin = now();
    loop {
        let answer = service.answers();
        // Whoever answered, it was not a process that has ended.
        service.process().check_runs()?;
        let Err(error) = answer else { return Ok(()) };
        if begin.elapsed() > LIMIT {
            let process = service.process();
            process.forget();
            let log = last_lines(&process.log());
            return Err(error.context(format!(
                "{} does not answer after {LIMIT:?}: killed; its log ends:\n{log}",
                process.name
            )));
        }
        std::thread::sleep(PAUSE);
    }
}
