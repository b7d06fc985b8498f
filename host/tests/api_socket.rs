//! The socket and the command line over a real directory: every route, equal answers with and without a host, errors by
//! name, bounds, and a quick end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod api_fixture;
mod chunked;

use api_fixture::{SHOPS, USERS, fill, user};
use chunked::dechunk;
use retag_host::api::{self, About, Api, Limits, ServerHandle};
use retag_host::clock::moment;
use retag_host::config::Config;
use retag_host::pipeline::parts::SharedView;
use retag_host::pipeline::setup::socket_path;
use retag_host::state::{FjallStore, StateDir};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

const CONFIG: &str = r#"
[state]
dir = "data"
[sources.orders]
type = "files"
format = "maxwell"
paths = ["orders.json"]
history = "complete"
[rules.payer]
path = "payer.wasm"
[sinks.out]
type = "ndjson"
path = "labels.ndjson"
"#;

/// A folder with a configuration and a state; the state is closed.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(place.config(), CONFIG).unwrap();
        std::fs::write(place.folder.path().join("orders.json"), b"0123456789").unwrap();
        place
    }

    fn filled() -> Self {
        let place = Self::new();
        let dir = place.open();
        fill(Arc::new(FjallStore::open(&dir.store_path()).unwrap()), 4);
        place
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("retag.toml")
    }

    fn open(&self) -> StateDir {
        // A process that another test starts holds what is open here until it runs its own program.
        let dir = self.folder.path().join("data");
        let opened = (0..500).find_map(|_| {
            let dir = StateDir::open(&dir).ok();
            if dir.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            dir
        });
        opened.unwrap_or_else(|| StateDir::open(&dir).unwrap())
    }

    fn socket(&self) -> PathBuf {
        socket_path(&self.folder.path().join("data"))
    }

    /// What a running host does: holds the directory, shows its view.
    fn serve(&self, limits: Limits) -> (ServerHandle, StateDir) {
        let dir = self.open();
        let store = Arc::new(FjallStore::open(&dir.store_path()).unwrap());
        let (_, view) = retag_host::state::StateWriter::open(store).unwrap();
        let about = About::new(&Config::read(&self.config()).unwrap(), &dir, true);
        let api = Api::new(SharedView::new(view), about);
        (api::serve_with(self.socket(), api, limits).unwrap(), dir)
    }

    fn retag(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retag"));
        command.args(args).arg("--config").arg(self.config());
        command
    }
}

/// An answer over the socket.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

fn ask(socket: &Path, request: &str, body: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!("{request} HTTP/1.1\r\nhost: retag\r\nconnection: close\r\n{length}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(body); // a refused body need not be taken whole
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let split = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..split].to_vec()).unwrap().to_lowercase();
    let mut body = bytes[split + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = dechunk(&body);
    }
    Answer { status: head[9..12].parse().unwrap(), head, body }
}

fn get(socket: &Path, path: &str) -> Answer {
    ask(socket, &format!("GET {path}"), b"")
}

#[test]
fn every_route_answers() {
    let place = Place::filled();
    let (server, _dir) = place.serve(Limits::default());
    let read = |path: &str| {
        let answer = get(server.path(), path);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer
    };
    let labels = read("/v1/entities/user/keys/5/labels").json();
    assert_eq!(labels["labels"], json!({"never_paid": true, "tier": "gold"}));
    assert_eq!((&labels["commit"], labels.get("metadata")), (&json!(2), None));
    let labels = read("/v1/entities/user/keys/5/labels?metadata=true").json();
    assert_eq!(labels["metadata"]["tier"]["status"], "PRESENT");
    assert_eq!(labels["aggregates"]["payer"]["merchants"], 0);
    assert_eq!(read("/v1/entities/shop/keys/a%2Fb/labels").json()["labels"], json!({"busy": true}));

    let body = json!({"keys": ["5", "six", "999999"], "metadata": true}).to_string();
    let batch = ask(server.path(), "POST /v1/entities/user/labels:batchGet", body.as_bytes()).json();
    assert_eq!(batch["items"][0]["labels"]["tier"], "gold");
    assert_eq!(batch["items"][1]["code"], "bad-key");
    assert_eq!(batch["items"][2]["metadata"]["tier"]["status"], "UNKNOWN_KEY");

    let members = read("/v1/labels/never_paid/members?limit=7").json();
    assert_eq!(members["members"].as_array().unwrap().len(), 7);
    let next = members["next"].as_str().unwrap();
    let more = read(&format!("/v1/labels/never_paid/members?limit=7&cursor={next}")).json();
    assert_ne!(more["members"], members["members"]);
    assert_eq!(read("/v1/labels/never_paid/count").json()["count"], USERS / 5);
    assert_eq!(read("/v1/labels/tier/count?value=gold").json()["values"], json!({"gold": USERS / 3}));
    let sample = read("/v1/labels/never_paid/sample?size=3&seed=9").json();
    assert_eq!(sample["members"].as_array().unwrap().len(), 3);
    assert_eq!(read("/v1/rules").json()["rules"][0]["rule"], "payer");
    assert_eq!(read("/v1/rules/payer/held?status=pending").json()["count"], 1);
    let csv = read("/v1/rules/payer/aggregates");
    assert!(csv.head.contains("text/csv") && csv.head.contains("retag-commit: 2"), "{}", csv.head);
    assert_eq!(csv.body.iter().filter(|b| **b == b'\n').count() as u64, USERS + 1);
    let ndjson = read("/v1/rules/shopper/aggregates?format=ndjson");
    assert_eq!(ndjson.body.iter().filter(|b| **b == b'\n').count(), SHOPS.len());
    assert_eq!(read("/v1/status").json()["running"], true);
    assert_eq!(read("/v1/quarantine?rule=payer").json()["entries"].as_array().unwrap().len(), 2);
    assert_eq!(read("/v1/quarantine?order=oldest").json()["entries"][0]["id"], "1-0");
    assert_eq!(read("/v1/quarantine?values=true").json()["entries"][0]["values"]["amount"], "\"much\"");
    assert_eq!(read("/v1/quarantine/1-1").json()["rule"], "shopper");
    assert_eq!(read("/v1/quarantine/1-2").json()["values"]["amount"], "<text>");
    assert_eq!(read("/v1/quarantine/1-2?values=true").json()["values"]["amount"], "\"much\"");
    assert_eq!(read("/healthz").body, b"ok\n");
    assert_eq!(read("/readyz").json(), json!({"ready": true, "commit": 2}));
}

#[test]
fn wrong_requests_are_problems_with_code_and_hint() {
    let place = Place::filled();
    let (server, _dir) = place.serve(Limits::default());
    let check = |request: &str, body: &[u8], status: u16, code: &str| {
        let answer = ask(server.path(), request, body);
        assert!(answer.head.contains("application/problem+json"), "{request}: {}", answer.head);
        let problem = answer.json();
        assert_eq!((answer.status, problem["code"].as_str()), (status, Some(code)), "{request}: {problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
    };
    check("GET /v1/entities/usr/keys/5/labels", b"", 404, "unknown-entity");
    check("GET /v1/entities/user/keys/five/labels", b"", 404, "bad-key");
    check("GET /v1/entities/user/keys/%FF/labels", b"", 400, "bad-request");
    check("GET /v1/entities/user/keys/5/labels?metadat=true", b"", 400, "bad-request");
    check("GET /v1/labels/nope/members", b"", 404, "unknown-label");
    check("GET /v1/labels/tier/count?value=bronze", b"", 404, "unknown-value");
    check("GET /v1/labels/tier/members?cursor=1-2-3", b"", 409, "bad-cursor");
    check("GET /v1/labels/tier/members?limit=-1", b"", 400, "bad-request");
    check("GET /v1/rules/nope/aggregates", b"", 404, "unknown-rule");
    check("GET /v1/rules/payer/aggregates?format=xml", b"", 400, "bad-request");
    check("GET /v1/quarantine/7-7", b"", 404, "unknown-entry");
    check("GET /v1/quarantine?order=best", b"", 400, "bad-request");
    check("GET /v2/status", b"", 404, "unknown-route");
    check("DELETE /v1/status", b"", 405, "bad-method");
    check("GET /v1/status?verbose=true", b"", 400, "bad-request");
    let batch = "POST /v1/entities/user/labels:batchGet";
    check(batch, b"{", 400, "bad-request");
    check(batch, br#"{"keys":["1"],"metadat":true}"#, 400, "bad-request");
    check(batch, br#"[["1"]]"#, 400, "bad-request"); // members by place are no object
    check("POST /v1/entities/usr/labels:batchGet", br#"{"keys":["1"]}"#, 404, "unknown-entity");
    let many = json!({ "keys": vec!["1"; 1001] }).to_string();
    check(batch, many.as_bytes(), 400, "bad-request");
    let large = format!("{{\"keys\":[\"{}\"]}}", "1".repeat(1 << 20));
    check(batch, large.as_bytes(), 413, "too-large");
}

/// Commands whose answers must not depend on whether a host runs.
const QUESTIONS: &[&[&str]] = &[
    &["get", "user/5"],
    &["get", "user/42", "-o", "json"],
    &["get", "user/999999", "-o", "ndjson"],
    &["get", "shop/a/b"],
    &["get", "shop/quo\"te, comma"],
    &["get", "shop/"],
    &["members", "never_paid"],
    &["members", "tier", "--limit", "12"],
    &["members", "tier", "--value", "gold", "-o", "ndjson"],
    &["members", "tier=silver", "--count"],
    &["members", "tier", "--count", "-o", "json"],
    &["members", "tier", "-o", "json"],
    &["members", "payer", "--held", "pending"],
    &["members", "payer", "--held", "error", "--count"],
    &["export", "aggregates", "payer"],
    &["export", "aggregates", "payer", "-o", "ndjson"],
    &["export", "aggregates", "shopper", "-o", "csv"],
    &["quarantine", "ls"],
    &["quarantine", "ls", "--limit", "1", "-o", "json"],
    &["quarantine", "ls", "--rule", "shopper", "-o", "ndjson"],
    &["quarantine", "ls", "--oldest-first", "--limit", "2"],
    &["quarantine", "show", "1-2"],
    &["quarantine", "show", "1-2", "--values"],
    &["quarantine", "show", "1-1", "-o", "json"],
    // Refusals.
    &["get", "usr/5"],
    &["get", "user/five"],
    &["members", "nope"],
    &["members", "tier", "--value", "bronze"],
    &["export", "aggregates", "nope"],
    &["quarantine", "show", "9-9"],
    &["quarantine", "ls", "--after", "nonsense"],
];

#[test]
fn a_running_and_a_stopped_host_give_the_same_bytes() {
    let place = Place::filled();
    let (server, dir) = place.serve(Limits::default());
    let running: Vec<Output> = QUESTIONS.iter().map(|args| place.retag(args)).collect();
    let status_running = place.retag(&["status", "-o", "json"]);
    server.stop();
    drop(dir);
    for (args, running) in QUESTIONS.iter().zip(&running) {
        let stopped = place.retag(args);
        let shown = |output: &Output| {
            (
                output.status.code(),
                output.stdout.clone(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        };
        assert_eq!(shown(running), shown(&stopped), "{args:?}");
    }
    let text = |n: usize| String::from_utf8(running[n].stdout.clone()).unwrap();
    assert!(text(0).contains("never_paid") && text(0).contains("PRESENT"), "{}", text(0));
    assert!(text(2).contains("UNKNOWN_KEY"));
    assert_eq!(text(6).lines().count() as u64, USERS / 5);
    assert!(text(6).lines().all(|line| user(line["user/".len()..].parse().unwrap()).never_paid));
    assert_eq!(text(7).lines().count(), 12);
    assert_eq!(text(9).trim(), (USERS / 3).to_string());
    assert_eq!(text(12).trim(), "user/77");
    for (args, output) in QUESTIONS.iter().zip(&running) {
        let refused =
            args.iter().any(|a| ["usr/5", "user/five", "nope", "bronze", "9-9", "nonsense"].contains(a));
        assert_eq!(output.status.code(), Some(i32::from(refused)), "{args:?}");
        assert_eq!(output.stdout.is_empty(), refused, "{args:?}");
    }

    let status = |output: &Output| {
        let mut value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let running = value["running"].take();
        value["problems"].as_array_mut().unwrap().retain(|problem| problem["code"] != "stopped");
        for rule in value["rules"].as_array_mut().unwrap() {
            let run_state = rule["run_state"].take();
            assert_eq!(run_state, if running == true { "running" } else { "stopped" });
        }
        (running, value)
    };
    let (running, one) = status(&status_running);
    let (stopped, other) = status(&place.retag(&["status", "-o", "json"]));
    assert_eq!((running, stopped), (json!(true), json!(false)));
    assert_eq!(one, other);
    let table = String::from_utf8(place.retag(&["status"]).stdout).unwrap();
    assert!(table.starts_with("error: rule payer failed on 1 keys"), "{table}");
    assert!(table.contains("next: retag members --held error payer"), "{table}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let place = Place::filled();
    for args in [&["export", "aggregates", "payer"][..], &["members", "tier"]] {
        let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        // The reader goes away with what it has buffered.
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{args:?}");
    }
}

#[test]
fn usage_and_missing_states_are_named() {
    let place = Place::new();
    let shown = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let none = place.retag(&["get", "user/5"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(shown(&none).contains("no state in") && shown(&none).contains("retag run"), "{}", shown(&none));
    assert!(!place.folder.path().join("data").exists(), "a read makes no directory");
    for wrong in
        [&["get", "user42"][..], &["members"], &["export", "rows", "payer"], &["status", "-o", "xml"]]
    {
        assert_eq!(place.retag(wrong).status.code(), Some(64), "{wrong:?}");
    }
    let gone = Command::new(env!("CARGO_BIN_EXE_retag"))
        .args(["status", "--config", "no-such-file.toml"])
        .output()
        .unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(shown(&gone).contains("no-such-file.toml"));
}

#[test]
fn a_directory_in_use_without_a_socket_is_named() {
    let place = Place::filled();
    let dir = place.open();
    let output = place.retag(&["get", "user/5"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("state-in-use") && text.contains(&std::process::id().to_string()), "{text}");
    assert!(text.contains("does not answer"), "{text}");
    drop(dir);
    assert_eq!(place.retag(&["get", "user/5"]).status.code(), Some(0));
}

#[test]
fn the_socket_is_the_owners_and_ends_with_the_server() {
    let place = Place::filled();
    let (server, dir) = place.serve(Limits::default());
    let mode = std::fs::metadata(place.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // An idle connection and an export that nobody reads on must not hold the end up.
    let idle = UnixStream::connect(place.socket()).unwrap();
    let mut export = UnixStream::connect(place.socket()).unwrap();
    export.write_all(b"GET /v1/rules/payer/aggregates HTTP/1.1\r\nhost: retag\r\n\r\n").unwrap();
    export.read_exact(&mut [0; 12]).unwrap();
    let begin = moment();
    server.stop();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(!place.socket().exists());
    drop((idle, export, dir));

    // A socket left over by a host that was killed is replaced.
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
    assert!(place.socket().exists());
    let (server, _dir) = place.serve(Limits::default());
    assert_eq!(get(server.path(), "/healthz").status, 200);
}

#[test]
fn slow_headers_and_too_many_connections_are_bounded() {
    let place = Place::filled();
    let limits = Limits { connections: 2, header_timeout: Duration::from_millis(300), ..Limits::default() };
    let (server, _dir) = place.serve(limits);
    let begin = moment();
    let mut slow = UnixStream::connect(server.path()).unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nho").unwrap();
    let mut idle = UnixStream::connect(server.path()).unwrap();
    assert_eq!(get(server.path(), "/healthz").status, 200);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    assert_eq!(idle.read(&mut [0; 64]).unwrap(), 0, "a connection that asks nothing is closed");
    let mut kept = UnixStream::connect(server.path()).unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: retag\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    kept.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "answered, kept for a while, closed");
}

#[test]
fn idle_connections_give_up_their_places_the_oldest_first() {
    let place = Place::filled();
    let begin = moment();
    let limits = Limits { connections: 8, header_timeout: Duration::from_secs(600), ..Limits::default() };
    let (server, _dir) = place.serve(limits);
    let ask = |stream: &mut UnixStream| {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: retag\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| answer == *b"HTTP/1.1 200")
    };
    let connect = || UnixStream::connect(server.path()).unwrap();
    // Some never ask, some have asked once, one sends half a header.
    let mut silent: Vec<_> = (0..20).map(|_| connect()).collect();
    let mut asked = connect();
    assert!(ask(&mut asked).unwrap());
    silent.last_mut().unwrap().write_all(b"GET /he").unwrap();
    for _ in 0..30 {
        assert_eq!(get(server.path(), "/healthz").status, 200);
    }
    assert_eq!(silent.first_mut().unwrap().read(&mut [0; 1]).unwrap(), 0, "the oldest is closed");
    // The latest keeps its place: each of those readers left by itself.
    let mut latest = connect();
    assert!(ask(&mut latest).unwrap());
    assert_eq!(get(server.path(), "/healthz").status, 200);
    latest.write_all(b"GET /healthz HTTP/1.1\r\nhost: retag\r\n\r\n").unwrap();
    let mut rest = [0; 4096];
    assert!(latest.read(&mut rest).unwrap() > 0, "a connection in use was closed");
    assert!(begin.elapsed() < Duration::from_secs(300), "{:?}: nobody gave a place up", begin.elapsed());
}
