//! The real binary in a folder of its own: started, asked over its socket, killed, started again.

use super::client::{Answer, Client};
use super::variant::{Variant, Workshop};
use anyhow::{Context, Result, bail};
use retag_host::clock::moment;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longest that anything here may take.
pub const LIMIT: Duration = Duration::from_secs(300);

/// `[http]` of a host that has no way in from the network; over the socket nothing is limited.
pub const SOCKET_ONLY: &str = "listen = \"off\"";

/// A host that runs.
pub struct Host {
    retag: PathBuf,
    /// Its folder: configuration, stream, state, sink.
    pub dir: PathBuf,
    child: Child,
    client: Option<Client>,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// `[http]`, as it stands there.
    pub http: &'static str,
    /// How long what was replaced is kept.
    pub grace_s: u64,
    /// `engine.workers`; 0 = the host's default.
    pub workers: u64,
    /// Further sections.
    pub more: &'a str,
}

impl Host {
    /// Writes the configuration with rule payer as it is, and starts.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(retag: &Path, dir: &Path, workshop: &Workshop, setup: Setup<'_>) -> Result<Self> {
        Self::start_with(retag, dir, &[("payer".to_owned(), workshop.build(&Variant::base())?)], setup)
    }

    /// The same with these rules, by name.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_with(
        retag: &Path,
        dir: &Path,
        rules: &[(String, Vec<u8>)],
        setup: Setup<'_>,
    ) -> Result<Self> {
        let mut text = format!(
            "[state]\ndir = \"data\"\n\n[http]\n{}\n\n[registry]\ngrace_s = {}\n\n[sources.shop]\ntype = \"files\"\n\
             format = \"maxwell\"\npaths = [\"stream/shop.p*.json\"]\nhistory = \"complete\"\n\n\
             [sinks.out]\ntype = \"ndjson\"\npath = \"labels.ndjson\"\n\n{}",
            setup.http, setup.grace_s, setup.more
        );
        if setup.workers > 0 {
            text += &format!("\n[engine]\nworkers = {}\n", setup.workers);
        }
        for (name, wasm) in rules {
            std::fs::write(dir.join(name).with_extension("wasm"), wasm)?;
            text += &format!("\n[rules.{name}]\npath = \"{name}.wasm\"\n");
        }
        std::fs::write(dir.join("retag.toml"), text)?;
        let child = spawn(retag, dir)?;
        let mut host = Self { retag: retag.to_owned(), dir: dir.to_owned(), child, client: None };
        host.wait_ready()?;
        Ok(host)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("data/retag.sock")
    }

    fn wait_ready(&mut self) -> Result<()> {
        let begin = moment();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the host ended ({status}); it said:\n{}", self.said());
            }
            let answer = Client::unix(&self.socket()).and_then(|mut c| c.get("/readyz"));
            if answer.is_ok_and(|a| a.status == 200) {
                return Ok(());
            }
            if begin.elapsed() > LIMIT {
                bail!("the host is not ready after {LIMIT:?}; it said:\n{}", self.said());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The end of what it said on standard error.
    #[must_use]
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("retag.err")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// kill -9.
    ///
    /// # Errors
    /// It had ended by itself.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the host ended by itself ({status}); it said:\n{}", self.said());
        }
        self.client = None;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts again after a kill; how long until it answered.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart(&mut self) -> Result<Duration> {
        let begin = moment();
        self.child = spawn(&self.retag, &self.dir)?;
        self.wait_ready()?;
        Ok(begin.elapsed())
    }

    /// Ctrl-C, and waits for the end.
    ///
    /// # Errors
    /// It did not end well.
    pub fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status()?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the host ended with {status}; it said:\n{}", self.said());
        }
        Ok(())
    }

    /// Asks over the kept connection; once more over a new one where that is gone (the host was killed, or it was idle).
    fn ask(&mut self, mut ask: impl FnMut(&mut Client) -> Result<Answer>) -> Result<Answer> {
        if let Some(client) = &mut self.client
            && let Ok(answer) = ask(client)
        {
            return Ok(answer);
        }
        let mut client = Client::unix(&self.socket())?;
        let answer = ask(&mut client)?;
        self.client = Some(client);
        Ok(answer)
    }

    /// `GET path`, whatever it answers.
    ///
    /// # Errors
    /// It does not answer.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask(|client| client.get(path)).with_context(|| format!("GET {path}; it said:\n{}", self.said()))
    }

    /// `GET path` as JSON.
    ///
    /// # Errors
    /// Anything but success.
    pub fn read(&mut self, path: &str) -> Result<Value> {
        self.get(path)?.success(path)?.json()
    }

    /// `POST path` on a connection of its own, so that it is never sent twice.
    ///
    /// # Errors
    /// It does not answer.
    pub fn post(&mut self, path: &str, body: &[u8], media: &str) -> Result<Answer> {
        Client::unix(&self.socket())?.post(path, body, media)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended already, or nobody needs it any more
        let _ = self.child.wait();
    }
}

fn spawn(retag: &Path, dir: &Path) -> Result<Child> {
    let log = std::fs::OpenOptions::new().append(true).create(true).open(dir.join("retag.err"))?;
    let mut command = Command::new(retag);
    command.args(["run", "--config", "retag.toml"]).current_dir(dir);
    command.env_remove("RETAG_CONFIG").env_remove("RETAG_URL").env_remove("RETAG_FAILPOINT");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().with_context(|| format!("start {}", retag.display()))
}
