//! While a rule reads its history anew the state is served as it was.

use crate::harness::Folder;
use crate::run::{assert_rules, shop};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// Status and JSON of a route on the host's socket; none while nobody listens.
fn read(folder: &Folder, path: &str) -> Option<(u16, Value)> {
    let mut stream = UnixStream::connect(folder.path("data/retag.sock")).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: retag\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

#[test]
fn a_rebuild_serves_the_state_of_before_and_says_how_far_it_is() {
    let folder = Folder::new();
    let messages = shop(&folder, 20_000);
    folder.run().assert_ok();
    let ask = |args: &[&str]| folder.retag(&[args, &["--config", "retag.toml"]].concat());
    let count = ask(&["members", "never_paid", "--count"]).assert_ok().out;
    // A commit for nearly every message: it is stopped long before the end.
    folder.configure("[engine]", "[engine]\ncycle_bytes_max = 64\nblock_bytes = 64");
    folder.configure("[sinks.out]", "[rules.red_packet]\npath = \"red_packet.wasm\"\n[sinks.out]");
    let mut host = folder.start(&["run", "--config", "retag.toml", "--rebuild", "red_packet"], &[]);
    let rebuild = host.until("a rebuild that has read something", || {
        let (status, answer) = read(&folder, "/v1/status")?;
        assert_eq!(status, 200, "{answer}");
        Some(answer["rebuild"].clone())
            .filter(|rebuild| rebuild["rows"].as_u64().is_some_and(|rows| rows > 0))
    });
    assert_eq!(rebuild["rule"], "red_packet");
    assert!(rebuild["percent"].as_u64().is_some_and(|percent| percent < 100), "{rebuild}");
    assert!(rebuild["rows_per_second"].is_u64() && rebuild["seconds_left"].is_u64(), "{rebuild}");
    let said = ask(&["status"]).assert_ok().out;
    assert!(said.contains("rebuilding red_packet: ") && said.contains(" rows/s, about "), "{said}");
    // What was there before reads as before; what is being read anew is refused with the way out.
    assert_eq!(ask(&["members", "never_paid", "--count"]).assert_ok().out, count);
    assert_eq!(read(&folder, "/v1/rules").unwrap().1["rules"].as_array().unwrap().len(), 1);
    for path in ["/v1/rules/red_packet/aggregates", "/v1/labels/generous/count"] {
        let (status, problem) = read(&folder, path).unwrap();
        assert_eq!((status, problem["code"].as_str()), (503, Some("rebuilding")), "{path}: {problem}");
        assert!(problem["hint"].as_str().unwrap().contains("retag status"), "{problem}");
    }
    ask(&["export", "aggregates", "red_packet"])
        .assert_error(1, &["rebuilding", "red_packet", "retag status"]);
    host.signal("INT");
    host.wait().assert_error(75, &["goes on where this one was"]);
    folder.configure("cycle_bytes_max = 64\nblock_bytes = 64", "");
    folder.run_with(&["--rebuild", "red_packet"]).assert_ok();
    assert_rules(&folder, messages, &["payer", "red_packet"]);
    assert_eq!(ask(&["members", "never_paid", "--count"]).assert_ok().out, count);
}
