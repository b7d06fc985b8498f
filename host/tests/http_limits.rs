//! Every limit of `[http]` is exceeded here: the answer names it, the metric counts it, the host goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod api_fixture;
mod http_fixture;

use axum::routing::post;
use http_fixture::{Answer, Served, read_all, serve, serve_with, until};
use retag_host::api::{self, Limit, Role, Upload};
use retag_host::clock::moment;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::time::Duration;

const ADMIN: Option<Role> = Some(Role::Admin);
const STATUS: &str = "GET /v1/status";
const BATCH: &str = "POST /v1/entities/user/labels:batchGet";

fn answers(served: &Served) {
    assert_eq!(served.ask(ADMIN, STATUS, b"").status, 200, "it goes on");
}

#[test]
fn connections_of_one_address() {
    let served = serve("connections_per_address_max = 2");
    let (one, _two) = (served.connect(), served.connect());
    served.until_connected(2);
    let refused = Answer::read(&mut served.connect());
    assert_eq!((refused.status, refused.code().as_str()), (503, "busy"));
    assert!(refused.header("retry-after").is_some());
    assert!(served.metrics.limited_count(Limit::ConnectionsPerAddress) >= 1);
    drop(one);
    served.until_connected(1);
    answers(&served);
}

#[test]
fn connections_in_all() {
    let served = serve("connections_max = 2");
    let (one, _two) = (served.connect(), served.connect());
    served.until_connected(2);
    assert_eq!(Answer::read(&mut served.connect()).status, 503);
    assert!(served.metrics.limited_count(Limit::Connections) >= 1);
    drop(one);
    served.until_connected(1);
    answers(&served);
}

/// The limit of the default, with many times as many.
#[test]
fn ten_thousand_connections() {
    let open = usize::try_from(open_files(12_000)).unwrap() - 2_000;
    assert!(open > 1_024, "the system lets a process open too few files for this test: `ulimit -Hn`");
    let served = serve("connections_per_address_max = 100000");
    let first: Vec<_> = (0..1_024).map(|_| served.connect()).collect();
    served.until_connected(1_024);
    let rest: Vec<_> = (first.len()..open.min(10_000)).map(|_| served.connect()).collect();
    served.until_limited(Limit::Connections, rest.len() as u64);
    for mut stream in rest.into_iter().step_by(97) {
        assert_eq!(Answer::read(&mut stream).status, 503);
    }
    let mut stream = first.into_iter().next_back().unwrap();
    let head = format!(
        "{STATUS} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        served.token(Role::Admin)
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200, "what was open before is served");
    served.until_connected(0);
    answers(&served);
}

/// Lets the process open so many files, or as many as it may.
fn open_files(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let may = limit.maximum.map_or(wanted, |most| wanted.min(most));
    let current = limit.current.map_or(may, |now| now.max(may));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum }).unwrap();
    current
}

#[test]
fn bytes_of_a_head() {
    let served = serve("header_bytes_max = 8192");
    let long = served.ask_with(&format!("x-long: {}\r\n", "x".repeat(9_000)), STATUS, b"");
    assert_eq!(long.status, 431);
    let query = served.ask(ADMIN, &format!("{STATUS}?{}", "x".repeat(9_000)), b"");
    assert!([414, 431].contains(&query.status), "{}", query.status);
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(served.ask_with(&many, STATUS, b"").status, 431);
    served.until_limited(Limit::HeaderBytes, 2);
    answers(&served);
}

#[test]
fn time_of_a_head() {
    // A byte now and then does not help: the whole head has one time.
    let served = serve("header_timeout_ms = 200");
    let mut slow = served.connect();
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    let begin = moment();
    while slow.write_all(b"x: y\r\n").is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is never closed");
        std::thread::sleep(Duration::from_millis(20));
    }
    served.until_limited(Limit::HeaderTimeout, 1);
    answers(&served);
}

#[test]
fn silence() {
    let served = serve("idle_timeout_ms = 200");
    let mut silent = served.connect();
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0, "closed");
    let mut kept = served.connect();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    read_all(&mut kept, &mut bytes);
    assert_eq!(Answer::parse(&bytes).status, 200, "answered, kept for a while, closed");
    served.until_limited(Limit::IdleTimeout, 2);
    answers(&served);
}

#[test]
fn a_reader_that_takes_nothing() {
    // An endless answer: what the system buffers is soon full.
    let endless = |api| {
        let bytes = axum::body::Bytes::from(vec![b'x'; 64 << 20]);
        api::router(api).route("/endless", axum::routing::get(move || async move { bytes }))
    };
    let served = serve_with("idle_timeout_ms = 200", endless);
    let mut deaf = served.connect();
    let token = served.token(Role::Admin);
    let head = format!("GET /endless HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    deaf.write_all(head.as_bytes()).unwrap();
    served.until_limited(Limit::IdleTimeout, 1);
    answers(&served);
}

#[test]
fn time_of_a_body() {
    let served = serve("request_timeout_ms = 300");
    let mut slow = served.connect();
    let token = served.token(Role::Viewer);
    let head = format!(
        "{BATCH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 1000\r\n\
         connection: close\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).unwrap();
    let answer = Answer::read(&mut slow);
    assert_eq!((answer.status, answer.code().as_str()), (408, "slow-body"));
    assert!(served.metrics.limited_count(Limit::RequestTimeout) >= 1);
    answers(&served);
}

#[test]
fn a_body_of_a_gigabyte() {
    let served = serve("");
    const FILE: &str = "POST /v1/rules/payer/revisions";
    for (route, role, limit, takes) in [
        (BATCH, Role::Viewer, Limit::BodyBytes, "application/json"),
        (FILE, Role::Deployer, Limit::UploadBytes, "application/wasm"),
    ] {
        let token = served.token(role);
        // Said beforehand: refused before a byte is read.
        let headers = format!(
            "authorization: Bearer {token}\r\ncontent-type: {takes}\r\ncontent-length: 1073741824\r\n"
        );
        let answer = served.ask_with(&headers, route, b"");
        assert_eq!((answer.status, answer.code().as_str()), (413, "too-large"), "{route}");
        // Not said: refused when the limit is reached; the client hears it although it still sends.
        let mut stream = served.connect();
        let head = format!(
            "{route} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: {takes}\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        let mut sent = 0_u64;
        while sent < 1 << 30 && stream.write_all(&chunk).is_ok() {
            sent += 0x10000;
        }
        assert!(sent < 1 << 29, "{sent} bytes were taken by {route}");
        let mut bytes = Vec::new();
        read_all(&mut stream, &mut bytes);
        assert_eq!(Answer::parse(&bytes).status, 413, "{route}");
        served.until_limited(limit, 2);
        answers(&served);
    }
}

#[test]
fn an_upload_that_is_too_large() {
    let upload = |api: std::sync::Arc<api::Api>| {
        let take = |upload: Result<Upload, api::ApiError>| async move {
            upload.map(|upload| upload.bytes.len().to_string())
        };
        let own = axum::Router::new().route("/upload", post(take)).with_state(api.clone());
        api::router(api).merge(own)
    };
    let served = serve_with("upload_bytes_max = 2_000_000\nbody_bytes_max = 2048", upload);
    let fits = served.ask(None, "POST /upload", &vec![1; 2_000_000]);
    assert_eq!((fits.status, fits.text().as_str()), (200, "2000000"), "more than another body may have");
    let large = served.ask(None, "POST /upload", &vec![1; 2_000_001]);
    assert_eq!((large.status, large.code().as_str()), (413, "too-large"));
    assert_eq!(served.metrics.limited_count(Limit::UploadBytes), 1);
    // Two that stand still have all the places there are.
    let slow = || {
        let mut stream = served.connect();
        stream.write_all(b"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx").unwrap();
        stream
    };
    let slow = [slow(), slow()];
    until("both places are taken", || served.ask(None, "POST /upload", b"12").code_or_empty() == "busy");
    drop(slow);
    until("a place", || served.ask(None, "POST /upload", b"12").status == 200);
    assert_eq!(served.metrics.limited_count(Limit::BodyBytes), 0);
}

#[test]
fn requests_a_second() {
    let served = serve("rate_per_second = 1\nrate_burst = 5");
    let viewer = |n: usize| {
        let answers = (0..n).map(|_| served.ask(Some(Role::Viewer), STATUS, b""));
        answers.collect::<Vec<_>>()
    };
    let asked = viewer(12);
    let limited: Vec<_> = asked.iter().filter(|answer| answer.status == 429).collect();
    assert!(limited.len() >= 4 && limited[0].code() == "rate-limited", "{}", limited.len());
    let after: u64 = limited[0].header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&after));
    assert_eq!(served.ask(ADMIN, STATUS, b"").status, 200, "another token has its own rate");
    assert_eq!(served.ask(None, "GET /healthz", b"").status, 200, "and so has the address");
    assert!(served.metrics.limited_count(Limit::Rate) >= 4);
}

#[test]
fn exports_at_once() {
    let served = serve("exports_max = 1\nbody_bytes_max = 2048");
    let mut open = served.connect();
    let token = served.token(Role::Viewer);
    let head = format!(
        "GET /v1/rules/payer/aggregates HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    // Ten exports on one connection whose answers nobody reads: the first stands still with its place.
    for _ in 0..40 {
        open.write_all(head.as_bytes()).unwrap();
    }
    let begin = moment();
    let answer = loop {
        let answer = served.ask(ADMIN, "GET /v1/rules/payer/aggregates", b"");
        if answer.status == 503 || begin.elapsed() > Duration::from_secs(20) {
            break answer;
        }
    };
    assert_eq!((answer.status, answer.code().as_str()), (503, "busy"));
    assert!(served.metrics.limited_count(Limit::Exports) >= 1);
    drop(open);
    answers(&served);
}

#[test]
fn streams_at_once() {
    let mut served = serve("streams_max = 1\nheartbeat_ms = 10");
    let token = served.token(Role::Viewer);
    let mut open = served.connect();
    let head = format!("GET /v1/transitions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    open.write_all(head.as_bytes()).unwrap();
    // Nothing happens in this state: it says so again and again.
    let (mut bytes, mut piece) = (Vec::new(), [0; 1024]);
    while String::from_utf8_lossy(&bytes).matches("event: commit").count() < 3 {
        let n = open.read(&mut piece).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&piece[..n]);
    }
    let refused = served.ask(ADMIN, "GET /v1/transitions", b"");
    assert_eq!((refused.status, refused.code().as_str()), (503, "busy"));
    assert_eq!(served.metrics.limited_count(Limit::Streams), 1);
    let metrics = served.ask(ADMIN, "GET /metrics", b"").text();
    assert!(metrics.contains("\nretag_http_streams_count 1\n"));
    // A stopping host ends it as a whole answer.
    served.stop();
    open.read_to_end(&mut bytes).unwrap();
    assert!(bytes.ends_with(b"\r\n0\r\n\r\n"), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(served.metrics.limited_count(Limit::StopTimeout), 0);
    drop(open);

    let served = serve("streams_max = 1");
    drop(served.connect().write_all(head.as_bytes()));
    answers(&served);
    let again = || served.ask(ADMIN, "GET /v1/transitions?follow=false", b"").status == 200;
    until("the place of a stream whose client went away", again);
}

#[test]
fn time_to_stop() {
    let mut served = serve("stop_timeout_ms = 200");
    let mut slow = served.connect();
    let token = served.token(Role::Viewer);
    let head =
        format!("{BATCH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 9\r\n\r\n");
    slow.write_all(head.as_bytes()).unwrap();
    served.until_in_flight();
    served.stop();
    assert_eq!(served.metrics.limited_count(Limit::StopTimeout), 1);
}

#[test]
fn a_stop_lets_running_requests_finish() {
    let mut served = serve("");
    let mut open = served.connect();
    let token = served.token(Role::Viewer);
    let body = br#"{"keys":["5"]}"#;
    let head = format!(
        "{BATCH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    open.write_all(head.as_bytes()).unwrap();
    open.write_all(&body[..3]).unwrap();
    served.until_in_flight();
    let idle = served.connect();
    let stopping = std::thread::spawn(move || {
        served.stop();
        served
    });
    // The listening side is gone, the request is not.
    open.write_all(&body[3..]).unwrap();
    let answer = Answer::read(&mut open);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["items"][0]["labels"]["tier"], "gold");
    let served = stopping.join().unwrap();
    assert_eq!(served.metrics.limited_count(Limit::StopTimeout), 0);
    drop(idle);
}
