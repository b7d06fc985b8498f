//! The HTTP side from outside: a real host with data, every operation of its OpenAPI document under schemathesis, labels
//! through a published OpenFeature provider.
//!
//! Both come from PyPI into a virtual environment under `target/api`. Where Python is absent the step is left out by name.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::compare::json_field;
use crate::process::{cargo, output, root, run as run_command, target_dir};
use crate::ready;

const EVENTS: &str = "20000";
const USERS: &str = "2000";
/// The rules of the host: one stands still and goes on, one goes, one is asked.
const RULES: [&str; 3] = ["payer", "red_packet", "senior"];
/// Users whose labels go through the provider.
const ASKED: usize = 60;
/// Longest wait for the host to read its stream.
const WAIT: Duration = Duration::from_secs(120);

/// Runs the checks.
///
/// # Errors
/// One of them failed, or the host did.
pub(crate) fn run() -> Result<()> {
    let python = ["python3", "python"].into_iter().find(|name| is_python(name));
    let Some(python) = python else {
        println!("no Python of 3.10 or newer: schemathesis and OFREP checks left out");
        return Ok(());
    };
    let dir = target_dir().join("api");
    let tools = tools(python, &dir)?;
    ready::wasm_target()?;
    run_command(&mut cargo(["build", "-p", "retag-host", "-p", "retag-tests"]))?;
    ready::rules()?;
    let mut host = Host::start(&dir.join("host"))?;
    let checked = check(&host, &tools);
    let stopped = host.stop();
    checked?;
    stopped
}

fn is_python(name: &str) -> bool {
    let check = "import sys, venv; sys.exit(sys.version_info < (3, 10))";
    let mut command = Command::new(name);
    command.args(["-c", check]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Folder of the programs of a virtual environment with what is needed; made once.
fn tools(python: &str, dir: &Path) -> Result<PathBuf> {
    let (environment, wanted) = (dir.join("python"), root().join("xtask/api/requirements.txt"));
    let (bin, done) = (environment.join("bin"), environment.join("requirements.txt"));
    let text = std::fs::read_to_string(&wanted).with_context(|| format!("read {}", wanted.display()))?;
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == text) {
        return Ok(bin);
    }
    std::fs::create_dir_all(dir)?;
    run_command(Command::new(python).args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut install = Command::new(bin.join("python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&wanted);
    run_command(&mut install)?;
    std::fs::write(&done, text)?;
    Ok(bin)
}

fn check(host: &Host, tools: &Path) -> Result<()> {
    let token = host.retag(&["token", "create", "--role", "admin", "--name", "checks"])?;
    let token = token.trim();
    println!("\n== labels through an OpenFeature provider\n");
    let mut lines = String::new();
    let members = host.retag(&["members", "tier", "--limit", &(ASKED / 2).to_string()])?;
    let others = host.retag(&["members", "never_paid", "--limit", &(ASKED / 2).to_string()])?;
    for user in members.lines().chain(others.lines()).filter_map(|line| line.split_whitespace().next()) {
        lines.push_str(&host.retag(&["get", user, "-o", "ndjson"])?);
    }
    let asked = host.dir.join("asked.ndjson");
    std::fs::write(&asked, lines)?;
    let mut provider = Command::new(tools.join("python"));
    provider.arg(root().join("xtask/api/ofrep.py")).arg(&host.url).arg(token);
    let done = provider.stdin(std::fs::File::open(&asked)?).status().context("start the provider")?;
    ensure!(done.success(), "labels through the provider are not those of the host");

    println!("\n== schemathesis over every operation\n");
    // From a file: schemathesis leaves out the operation that it has the document from.
    let fetch = "import sys, urllib.request as r; r.urlretrieve(sys.argv[1], sys.argv[2])";
    let document = host.dir.join("openapi.json");
    let mut fetching = Command::new(tools.join("python"));
    run_command(fetching.args(["-c", fetch, &format!("{}/openapi.json", host.url)]).arg(&document))?;
    for (settings, seed) in [("schemathesis.toml", "1"), ("known.toml", "2")] {
        let mut checks = Command::new(tools.join("schemathesis"));
        checks.arg("--config-file").arg(root().join("xtask/api").join(settings)).arg("run").arg(&document);
        checks.args(["--url", &host.url, "--checks", "all", "--seed", seed, "--workers", "1"]);
        checks.args(["--phases", "examples,coverage,fuzzing,stateful"]);
        checks.arg("--header").arg(format!("Authorization: Bearer {token}"));
        // Not shown as it was typed: the token is in it.
        let done = checks.current_dir(&host.dir).env("COLUMNS", "120").status();
        ensure!(done.context("start schemathesis")?.success(), "schemathesis found failures, see above");
    }
    // Had a check revoked the token, every later answer would have been a 401 that proves nothing.
    let still = host.retag(&["token", "ls", "-o", "ndjson"])?;
    let own = still.lines().find(|line| line.contains("\"checks\"")).unwrap_or_default();
    ensure!(own.contains("\"state\":\"valid\""), "the checks revoked their own token");
    Ok(())
}

/// A host with data.
struct Host {
    dir: PathBuf,
    url: String,
    child: Child,
}

/// Whether every message of the stream was applied or known.
fn is_read(status: &str) -> bool {
    let totals = status.split_once("\"totals\"").map_or("", |(_, totals)| totals);
    let figure = |name| json_field(totals, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    figure("changes") + figure("resent") >= EVENTS.parse().unwrap_or(u64::MAX)
}

impl Host {
    fn start(dir: &Path) -> Result<Self> {
        if dir.exists() {
            std::fs::remove_dir_all(dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        std::fs::create_dir_all(dir)?;
        for rule in RULES {
            let file = format!("{rule}.wasm");
            std::fs::copy(root().join("rules").join(rule).join(&file), dir.join(&file)).context(rule)?;
        }
        let mut make = Command::new(binary("shop"));
        make.args(["make", "stream", "--events", EVENTS, "--users", USERS]).current_dir(dir);
        let files: Vec<String> = output(&mut make)?.lines().map(|path| format!("{path:?}")).collect();
        let config = format!(
            "[state]\ndir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [sources.shop]\ntype = \"files\"\nformat = \"maxwell\"\npaths = [{}]\nhistory = \"complete\"\n\
             {}[sinks.out]\ntype = \"ndjson\"\npath = \"labels.ndjson\"\n",
            files.join(", "),
            RULES.map(|rule| format!("[rules.{rule}]\npath = \"{rule}.wasm\"\n")).concat()
        );
        std::fs::write(dir.join("retag.toml"), config)?;
        let log = std::fs::File::create(dir.join("host.log"))?;
        let mut start = Command::new(binary("retag"));
        start.args(["run", "--config", "retag.toml"]).current_dir(dir).stdin(Stdio::null()).stderr(log);
        let child = start.spawn().context("start the host")?;
        let mut host = Self { dir: dir.to_owned(), url: String::new(), child };
        if let Err(error) = host.until_read() {
            let _ = host.child.kill(); // it is of no use any more
            return Err(error);
        }
        Ok(host)
    }

    /// Waits until it listens and has read its stream.
    fn until_read(&mut self) -> Result<()> {
        #[allow(clippy::disallowed_methods)] // a chore waits
        let begin = std::time::Instant::now();
        while begin.elapsed() < WAIT {
            if let Some(ended) = self.child.try_wait()? {
                bail!("the host ended: {ended}; see {}", self.dir.join("host.log").display());
            }
            let url = std::fs::read_to_string(self.dir.join("data/http.url")).unwrap_or_default();
            url.trim().clone_into(&mut self.url);
            let read = !self.url.is_empty()
                && self.retag(&["status", "-o", "ndjson"]).is_ok_and(|status| is_read(&status));
            if read {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the host has not read its stream within {WAIT:?}")
    }

    fn retag(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binary("retag"));
        output(command.args(arguments).args(["--config", "retag.toml"]).current_dir(&self.dir))
    }

    fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        run_command(Command::new("kill").args(["-TERM", &pid]))?;
        let ended = self.child.wait()?;
        let log = std::fs::read_to_string(self.dir.join("host.log")).unwrap_or_default();
        ensure!(ended.success() && !log.contains("panicked"), "the host ended with {ended}:\n{log}");
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill(); // gone already where it was stopped
    }
}

/// A program of the development build.
fn binary(name: &str) -> PathBuf {
    target_dir().join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
