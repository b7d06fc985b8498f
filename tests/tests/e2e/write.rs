//! Writes that are safe to repeat and to race: `If-Match`, `Idempotency-Key`, and a command line that asks again.

use crate::harness::{Folder, Host};
use crate::message::{shop, told};
use crate::rules::change_rule;
use crate::socket::{ask, ask_with, send};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const REVISIONS: &str = "GET /v1/rules/payer/revisions";
const PARAMS: &str = "POST /v1/rules/payer/params";
const ROLLBACK: &str = "POST /v1/rules/payer/rollback?reason=noon";

fn running(folder: &Folder) -> Host {
    let mut host = folder.start(&["run"], &[]);
    host.until("the first labels", || (told(folder).len() == 2).then_some(()));
    host
}

fn body(minimum: &str) -> Vec<u8> {
    format!(r#"{{"params":{{"big_spender_min":"{minimum}"}}}}"#).into_bytes()
}

/// Commands in the audit.
fn audit(folder: &Folder) -> Vec<String> {
    let (_, audit) = ask(folder, "GET /v1/audit?limit=1000", b"");
    let lines = audit["lines"].as_array().expect("lines").iter();
    lines.map(|line| line["command"].as_str().expect("a command").to_owned()).collect()
}

fn settle(folder: &Folder, host: &mut Host, answer: &Value) {
    let Some(id) = answer["operation"].as_u64() else { return };
    let operation = format!("GET /v1/operations/{id}");
    host.until("the operation", || (ask(folder, &operation, b"").1["state"] == "done").then_some(()));
}

/// payer@2 is live, payer@1 kept.
fn switched(folder: &Folder, host: &mut Host) {
    let (_, prepared) = ask(folder, PARAMS, &body("3000.00"));
    settle(folder, host, &prepared);
    let (_, live) = ask(folder, "POST /v1/rules/payer/revisions/2/activate", b"");
    settle(folder, host, &live);
}

#[test]
fn a_write_with_a_stale_tag_is_refused_and_changes_nothing() {
    let folder = shop();
    let mut host = running(&folder);
    let seen = ask_with(&folder, REVISIONS, &[], b"");
    let first = seen.header("etag").expect("a tag").to_owned();
    let one = ask_with(&folder, "GET /v1/rules/payer/revisions/1", &[], b"");
    assert_eq!(one.header("etag"), Some(first.as_str()));
    let set = ask_with(&folder, PARAMS, &[("if-match", &first)], &body("3000.00"));
    assert_eq!(set.status, 202, "{set:?}");
    let second = set.header("etag").expect("a tag").to_owned();
    assert_ne!(first, second);
    settle(&folder, &mut host, &set.body);
    let before = audit(&folder);
    let activate = "POST /v1/rules/payer/revisions/2/activate";
    let stale = ask_with(&folder, activate, &[("if-match", &first)], b"");
    assert_eq!(stale.refusal(), (412, "changed"));
    assert!(stale.body["hint"].as_str().expect("a hint").contains("read"), "{stale:?}");
    for request in [PARAMS, ROLLBACK, "POST /v1/rules/payer/revisions/2/cancel"] {
        let sent = if request == PARAMS { body("1.00") } else { Vec::new() };
        assert_eq!(ask_with(&folder, request, &[("if-match", &first)], &sent).refusal(), (412, "changed"));
    }
    assert_eq!(audit(&folder), before);
    // The prepare has ended meanwhile: that is nobody's decision.
    let live = ask_with(&folder, activate, &[("if-match", &format!("{first}, {second}"))], b"");
    assert_eq!(live.status, 202, "{live:?}");
    let now = ask_with(&folder, REVISIONS, &[], b"");
    assert_eq!(now.header("etag"), live.header("etag"));
    assert_ne!(now.header("etag"), Some(second.as_str()));
    host.signal("INT");
    host.wait().assert_ok();
}

#[test]
fn a_repeated_write_is_answered_again_and_done_once() {
    let folder = shop();
    let mut host = running(&folder);
    let key = |key: &'static str| [("idempotency-key", key)];
    // An upload: the second one would be 200 without the key.
    change_rule(&folder, &[("\"never_paid\"", "\"never_paix\"")]);
    let file = std::fs::read(folder.path("payer.wasm")).unwrap();
    let push = "POST /v1/rules/payer/revisions";
    let pushed = ask_with(&folder, push, &key("push"), &file);
    let again = ask_with(&folder, push, &key("push"), &file);
    assert_eq!((pushed.status, again.status), (201, 201), "{again:?}");
    assert_eq!((&pushed.body, pushed.header("etag")), (&again.body, again.header("etag")));
    // Parameters, then a way back: a second one would go forward again.
    let prepared = ask_with(&folder, PARAMS, &key("set"), &body("3000.00"));
    settle(&folder, &mut host, &prepared.body);
    let repeated = ask_with(&folder, PARAMS, &key("set"), &body("3000.00"));
    assert_eq!((repeated.status, &repeated.body), (202, &prepared.body));
    assert_eq!(repeated.header("location"), prepared.header("location"));
    let (_, live) = ask(&folder, "POST /v1/rules/payer/revisions/3/activate", b"");
    settle(&folder, &mut host, &live);
    // Nobody reads the first answer. (Who leaves before the request is taken has asked nothing.)
    let unread = send(&folder, ROLLBACK, &key("back"), b"");
    host.until("the way back", || audit(&folder).contains(&"rollback".to_owned()).then_some(()));
    drop(unread);
    let back = host.until("the answer", || {
        let answer = ask_with(&folder, ROLLBACK, &key("back"), b"");
        (answer.refusal() != (409, "idempotency-key-busy")).then_some(answer)
    });
    assert_eq!((back.status, back.body["revision"].as_u64()), (202, Some(1)), "{back:?}");
    settle(&folder, &mut host, &back.body);
    assert_eq!(ask_with(&folder, ROLLBACK, &key("back"), b"").body, back.body);
    assert_eq!(audit(&folder), ["configure", "push", "params set", "activate", "rollback"]);
    // The key stands for that request only.
    let reused = |request: &str, body: &[u8]| ask_with(&folder, request, &key("set"), body).status;
    assert_eq!(reused(PARAMS, &body("1.00")), 422);
    assert_eq!(reused(&format!("{PARAMS}?reason=other"), &body("3000.00")), 422);
    let other_path = ask_with(&folder, "POST /v1/rules/payer/revisions/9/prepare", &key("set"), b"");
    assert_eq!(other_path.refusal(), (404, "unknown-revision"));
    // What was refused may be tried again under its key.
    let cancel = "POST /v1/rules/payer/revisions/2/cancel";
    assert_eq!(ask_with(&folder, cancel, &key("later"), b"").refusal(), (409, "not-cancellable"));
    let (_, prepared) = ask(&folder, "POST /v1/rules/payer/revisions/2/prepare", b"");
    settle(&folder, &mut host, &prepared);
    assert_eq!(ask_with(&folder, cancel, &key("later"), b"").status, 200);
    assert_eq!(ask_with(&folder, cancel, &key(""), b"").refusal(), (400, "bad-request"));
    host.signal("INT");
    host.wait().assert_ok();
}

/// Passes connections on to `to`; the first answers are read whole and thrown away.
fn lossy_way(to: String, lost: u64) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
    let (address, count) = (listener.local_addr().expect("an address"), Arc::new(AtomicU64::new(0)));
    let counted = count.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            pass_on(client, &to, number < lost);
        }
    });
    (format!("http://{address}"), count)
}

fn pass_on(mut client: TcpStream, to: &str, lose: bool) {
    let mut host = TcpStream::connect(to).expect("the host");
    let (mut from, mut into) = (client.try_clone().unwrap(), host.try_clone().unwrap());
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut into); // ends with the connection
    });
    // One request: its answer has a length, and the host says nothing after it.
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !is_whole(&answer) {
        match host.read(&mut piece) {
            Ok(n) if n > 0 => answer.extend_from_slice(&piece[..n]),
            _ => break,
        }
    }
    if !lose {
        client.write_all(&answer).expect("the client");
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = host.shutdown(Shutdown::Both);
    up.join().expect("the way up");
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
    length.is_some_and(|n| body.len() >= n.trim().parse().unwrap_or(usize::MAX))
}

#[test]
fn the_command_line_asks_again_when_an_answer_breaks_off() {
    let folder = shop();
    folder.configure("listen = \"off\"", "listen = \"127.0.0.1:0\"\nauth = \"off\"");
    let mut host = running(&folder);
    switched(&folder, &mut host);
    let url = folder.read("data/http.url");
    let (way, connections) = lossy_way(url.trim().trim_start_matches("http://").to_owned(), 2);
    let back = folder.retag(&["rule", "rollback", "payer", "--url", &way]).assert_ok();
    assert!(back.out.contains("payer@1 is live"), "{}", back.out);
    assert_eq!(connections.load(Ordering::SeqCst), 4, "broken off twice, answered, asked what is kept");
    assert_eq!(audit(&folder).iter().filter(|command| *command == "rollback").count(), 1);
    host.signal("INT");
    host.wait().assert_ok();
}
