//! The real binary in a directory of its own: files to read, a configuration, runs with a time limit, and what came out.
//!
//! Nothing here sleeps for a guessed time: a wait looks for its event until it is there or a minute is over.

use retag_host::clock::moment;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The binary `retag`, built if it is older than its sources.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("the test's own path");
        let profile = test.parent().and_then(Path::parent).expect("a target directory").to_owned();
        let binary = profile.join(format!("retag{}", std::env::consts::EXE_SUFFIX));
        let built = binary.metadata().and_then(|m| m.modified()).ok();
        if built.is_none_or(|built| built < newest_source()) {
            let mut build = Command::new(env!("CARGO"));
            // With what the tests' own host has, which shares its folder.
            build.args(["build", "-q", "-p", "retag-host", "--bin", "retag", "--features", "kafka"]);
            build.current_dir(root());
            if profile.ends_with("release") {
                build.arg("--release");
            }
            let done = build.output().expect("cargo starts");
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "cargo build -p retag-host failed:\n{said}");
        }
        assert!(binary.exists(), "no {}: build it with `cargo build -p retag-host`", binary.display());
        binary
    })
}

/// The workspace.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// When a source of the host was changed last.
fn newest_source() -> std::time::SystemTime {
    let mut newest = std::time::SystemTime::UNIX_EPOCH;
    let mut folders = vec![root().join("host/src"), root().join("guest-sdk/abi/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
            let meta = entry.metadata().expect("a file's times");
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                newest = newest.max(meta.modified().expect("a file's times"));
            }
        }
    }
    newest
}

/// A directory with everything of one host in it.
pub(crate) struct Folder {
    dir: tempfile::TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Folder {
    /// A directory with the configuration of the README: two partitions, rule payer, an NDJSON sink.
    pub(crate) fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().expect("a directory") };
        for rule in ["payer", "red_packet", "senior"] {
            let wasm = root().join(format!("rules/{rule}/{rule}.wasm"));
            let to = folder.path(&format!("{rule}.wasm"));
            let copied = std::fs::copy(&wasm, to);
            assert!(copied.is_ok(), "{}: {copied:?}; build it with `cargo xtask test`", wasm.display());
        }
        folder.write("retag.toml", CONFIG);
        folder
    }

    /// A file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).expect("a file that can be written");
    }

    /// Writes at the end of a file.
    pub(crate) fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(self.path(name));
        file.expect("a file that opens").write_all(text.as_ref()).expect("a file that can be written");
    }

    /// A file's text; empty when there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Replaces a piece of the configuration, which must be in it.
    pub(crate) fn configure(&self, from: &str, to: &str) {
        let text = self.read("retag.toml");
        assert!(text.contains(from), "no `{from}` in the configuration:\n{text}");
        self.write("retag.toml", text.replacen(from, to, 1));
    }

    /// Starts `retag ARGS` in it.
    pub(crate) fn start(&self, args: &[&str], environment: &[(&str, &str)]) -> Host {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("RETAG_CONFIG").env_remove("RETAG_URL").envs(environment.iter().copied());
        let mut child = command.spawn().expect("the binary starts");
        let out = drain(child.stdout.take().expect("a pipe"));
        let err = drain(child.stderr.take().expect("a pipe"));
        Host { child: Ends(child), out, err, begin: moment() }
    }

    /// `retag ARGS` to its end.
    pub(crate) fn retag(&self, args: &[&str]) -> Ended {
        self.start(args, &[]).wait()
    }

    /// `retag run --until-end` to its end.
    pub(crate) fn run(&self) -> Ended {
        self.retag(&["run", "--config", "retag.toml", "--until-end"])
    }

    /// `retag run --until-end` with more arguments, to its end.
    pub(crate) fn run_with(&self, args: &[&str]) -> Ended {
        self.retag(&[&["run", "--config", "retag.toml", "--until-end"], args].concat())
    }
}

fn drain(mut pipe: impl std::io::Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes); // what came before the end counts
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A process that ends with the test, however that ends.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it has ended, or nobody waits for it any more
        let _ = self.0.wait();
    }
}

/// A host that runs.
pub(crate) struct Host {
    child: Ends,
    out: JoinHandle<String>,
    err: JoinHandle<String>,
    begin: Instant,
}

impl Host {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Sends a signal by its name (`INT`, `TERM`, `KILL`).
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Waits until `event` says something; fails when the host ends before.
    pub(crate) fn until<T>(&mut self, what: &str, mut event: impl FnMut() -> Option<T>) -> T {
        let begin = moment();
        loop {
            if let Some(found) = event() {
                return found;
            }
            let ended = self.child.0.try_wait().expect("a child's status");
            assert!(ended.is_none(), "the host ended ({ended:?}) before {what}");
            assert!(begin.elapsed() < LIMIT, "{what} did not come");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let waiting = moment();
        let status = loop {
            if let Some(status) = self.child.0.try_wait().expect("a child's status") {
                break status;
            }
            if waiting.elapsed() > LIMIT {
                let _ = self.child.0.kill(); // it is to end either way
                let _ = self.child.0.wait();
                panic!("no end within {LIMIT:?}; it said:\n{}", self.err.join().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.begin.elapsed();
        let text = |pipe: JoinHandle<String>| pipe.join().expect("a pipe that was read");
        Ended { status, out: text(self.out), err: text(self.err), took }
    }
}

impl Ended {
    /// It went well.
    #[track_caller]
    pub(crate) fn assert_ok(self) -> Self {
        assert!(self.status.success(), "{:?}: {}", self.status, self.err);
        self
    }

    /// It ended with this exit code and said all of this on standard error.
    #[track_caller]
    pub(crate) fn assert_error(self, code: i32, said: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(code), "standard error: {}", self.err);
        for piece in said {
            assert!(self.err.contains(piece), "`{piece}` is not in what it said:\n{}", self.err);
        }
        assert!(!self.err.contains("panicked"), "it panicked:\n{}", self.err);
        self
    }
}

/// The configuration of the README, with small commits.
const CONFIG: &str = r#"[state]
dir = "data"
[engine]
workers = 2
poll_ms = 10
[http]
listen = "off"
[sources.orders]
type = "files"
format = "maxwell"
paths = ["o.p0.json", "o.p1.json"]
history = "complete"
[rules.payer]
path = "payer.wasm"
params = { big_spender_min = "5000.00" }
[sinks.out]
type = "ndjson"
path = "labels.ndjson"
"#;
