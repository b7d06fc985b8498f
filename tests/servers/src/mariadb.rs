//! One MariaDB server that writes a binlog of whole rows, as Maxwell wants it.
//!
//! User `adm` may do everything, user `repl` only read and follow the binlog; both have password `pw`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cache::Server;
use crate::folder;
use crate::install::debs;
use crate::port::Port;
use crate::process::{Process, Service};

/// What every server is started with. No fsync: what is tested here is not the disk. But what was committed survives a kill
/// of the process, in the tables as in the binlog.
const OPTIONS: [&str; 15] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--performance-schema=OFF",
    "--server-id=1",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=NO_LOG",
    "--old-mode=",
    "--gtid-strict-mode=ON",
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=4M",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
];

/// A server.
pub struct MariaDb {
    process: Process,
    port: Port,
    installed: PathBuf,
}

/// Somebody who gives it statements.
#[derive(Clone, Debug)]
pub struct MariaDbClient {
    port: u16,
    installed: PathBuf,
}

/// `mariadbd` with the paths of where it was unpacked.
pub(crate) fn program(installed: &Path) -> Command {
    let mut command = Command::new(installed.join("usr/sbin/mariadbd"));
    command.env("LD_LIBRARY_PATH", debs::libraries(installed)).arg("--no-defaults");
    if rustix::process::geteuid().is_root() {
        command.arg("--user=root");
    }
    let at = |option: &str, path: &str| format!("--{option}={}", installed.join(path).display());
    command.arg(at("basedir", "usr")).arg(at("lc-messages-dir", "usr/share/mysql"));
    command.arg(at("plugin-dir", "usr/lib/mysql/plugin"));
    command
}

impl MariaDb {
    /// Starts one with empty databases.
    ///
    /// # Errors
    /// It is not installed or does not come up; the message ends with its log.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with options of its own, for example `--binlog-row-metadata=FULL`; the last of an option counts.
    ///
    /// # Errors
    /// As for [`MariaDb::start`].
    pub fn start_with(own: &[&str]) -> Result<Self> {
        let installed = Server::MariaDb.installed()?;
        let (home, port) = (folder::temporary("mariadb")?, Port::reserve()?);
        let at = |name: &str| home.path().join(name);
        folder::copy(&installed.join("seed"), &at("data"))?;
        std::fs::create_dir(at("temporary"))?;
        let mut command = program(&installed);
        for (option, name) in [
            ("datadir", "data"),
            ("tmpdir", "temporary"),
            ("socket", "socket"),
            ("pid-file", "pid"),
            ("log-bin", "data/bin"),
        ] {
            command.arg(format!("--{option}={}", at(name).display()));
        }
        command.arg(format!("--port={}", port.number)).args(OPTIONS).args(own);
        let process = Process::new("mariadb", home, command)?;
        let mut server = Self { process, port, installed };
        server.restart()?;
        Ok(server)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// A client of it, for another thread.
    #[must_use]
    pub fn client(&self) -> MariaDbClient {
        MariaDbClient { port: self.port.number, installed: self.installed.clone() }
    }

    /// As [`MariaDbClient::sql`].
    ///
    /// # Errors
    /// As of that.
    pub fn sql(&self, statements: &str) -> Result<String> {
        self.client().sql(statements)
    }
}

impl MariaDbClient {
    /// Runs statements, separated by `;`, as user `adm`. What the queries among them give: a line a row, columns separated
    /// by tabs, without names.
    ///
    /// # Errors
    /// The first statement that fails, with the server's message; those before it stay done.
    pub fn sql(&self, statements: &str) -> Result<String> {
        let mut command = Command::new(self.installed.join("usr/bin/mariadb"));
        command.env("LD_LIBRARY_PATH", debs::libraries(&self.installed));
        command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=adm", "--password=pw"]);
        command.args(["--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4"]);
        command.arg(format!("--port={}", self.port));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start the client of mariadb")?;
        // Written beside the reading: either side may fill its pipe.
        let (input, text) = (child.stdin.take(), statements.to_owned());
        let writer = std::thread::spawn(move || input.map_or(Ok(()), |mut i| i.write_all(text.as_bytes())));
        let output = child.wait_with_output()?;
        // That it did not take all of the input is told by what it says.
        let _ = writer.join();
        if !output.status.success() {
            bail!("mariadb: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("the result is not UTF-8")
    }
}

impl Service for MariaDb {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn answers(&mut self) -> Result<()> {
        self.sql("SELECT 1").map(drop)
    }
}
