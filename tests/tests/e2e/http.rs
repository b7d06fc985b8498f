//! The listening side of the real binary: where it listens and what it says when it cannot, tokens from the first on, a
//! flood of connections, and an end that lets nobody down.

use crate::harness::{Ended, Folder, Host};
use crate::message::user;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Connections of the flood, as far as the system lets this process have them.
const FLOOD: usize = 10_000;

fn folder(listen: &str) -> Folder {
    let folder = Folder::new();
    folder.configure("listen = \"off\"", listen);
    folder.write("o.p0.json", user(1, 42));
    folder.write("o.p1.json", "");
    folder
}

/// A host that listens, and where.
fn start(folder: &Folder) -> (Host, SocketAddr) {
    let mut host = folder.start(&["run", "--config", "retag.toml"], &[]);
    let url = host.until("an address", || Some(folder.read("data/http.url")).filter(|url| !url.is_empty()));
    let address = url.trim().trim_start_matches("http://").parse().expect("an address");
    (host, address)
}

/// A token that the socket's owner makes.
fn token(folder: &Folder, role: &str) -> String {
    let made = folder.retag(&["token", "create", "--role", role, "--name", role, "--config", "retag.toml"]);
    made.assert_ok().out.trim().to_owned()
}

fn get(address: SocketAddr, path: &str, token: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn stop(host: Host) -> Ended {
    host.signal("TERM");
    host.wait().assert_ok()
}

#[test]
fn tokens_open_the_network_from_the_first_on_and_survive_a_restart() {
    let folder = folder("listen = \"127.0.0.1:0\"");
    let (host, address) = start(&folder);
    let viewer = token(&folder, "viewer");
    let url = format!("http://{address}");
    let asked = folder.start(&["get", "user/42", "--url", &url], &[("RETAG_TOKEN", &viewer)]).wait();
    assert!(asked.assert_ok().out.contains("never_paid"));
    let asked = folder.start(&["get", "user/42", "--url", &url], &[("RETAG_TOKEN", "")]).wait();
    asked.assert_error(1, &["unauthorized", "retag token create"]);
    let ended = stop(host);
    assert!(ended.err.contains(&url) && !ended.err.contains(&viewer), "{}", ended.err);
    assert!(ended.err.contains("401") && !ended.err.contains("user/42"), "{}", ended.err);
    assert_eq!(folder.read("data/http.url"), "", "it goes with the host");

    // Stopped, the owner makes and revokes as before; a restart remembers both.
    let operator = token(&folder, "operator");
    let list = folder.retag(&["token", "ls", "-o", "ndjson", "--config", "retag.toml"]).assert_ok().out;
    let id = |token: &str| token.split('_').nth(1).unwrap_or_default().to_owned();
    assert!(list.contains(&id(&viewer)) && !list.contains(&viewer), "{list}");
    folder.retag(&["token", "revoke", &id(&viewer), "--config", "retag.toml"]).assert_ok();
    let (host, address) = start(&folder);
    assert!(get(address, "/v1/status", &viewer).unwrap().contains("401"));
    assert!(get(address, "/v1/quarantine", &operator).unwrap().contains("200 OK"));
    stop(host);
}

#[test]
fn an_address_that_is_taken_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = folder(&format!("listen = \"{address}\""));
    folder.run().assert_error(1, &[&address.to_string(), "listen", "[http]", "off"]);
}

#[test]
fn the_default_address_is_no_reason_not_to_run() {
    let folder = folder("");
    // Taken by this test, or by whoever has it already.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let ended = folder.run().assert_ok();
    assert!(ended.err.contains("127.0.0.1:8080") && ended.err.contains("socket only"), "{}", ended.err);
    assert!(folder.read("labels.ndjson").contains("never_paid"));
}

#[test]
fn wrong_sections_are_named() {
    for (text, said) in [
        ("listen = \"0.0.0.0:0\"\nauth = \"off\"", "http.auth"),
        ("listen = \"nonsense\"", "http.listen"),
        ("listen = \"off\"\nconnections_max = 0", "http.connections_max"),
        ("listen = \"off\"\nlisen = 1", "did you mean `listen`"),
    ] {
        folder(text).run().assert_error(1, &[said]);
    }
    let missing = folder("listen = \"127.0.0.1:0\"\ntls = { cert = \"no.pem\", key = \"no.pem\" }");
    missing.run().assert_error(1, &["http.tls.cert", "no.pem"]);
}

#[test]
fn ten_thousand_connections_leave_the_host_answering() {
    let folder = folder("listen = \"127.0.0.1:0\"\nconnections_max = 1000\nheader_timeout_ms = 60000");
    let (host, address) = start(&folder);
    let viewer = token(&folder, "viewer");
    let mut held = Vec::new();
    let mut refused = 0;
    while held.len() + refused < FLOOD {
        match TcpStream::connect(address) {
            Ok(mut stream) => {
                // Half a head each: nobody is idle, nobody asks.
                let _ = stream.write_all(b"GET / HTTP/1.1\r\n");
                held.push(stream);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => refused += 1,
            Err(error) => {
                println!("{} connections, then: {error}", held.len());
                break;
            }
        }
    }
    assert!(held.len() > 500, "{} connections", held.len());
    // The owner's socket is served all the while.
    folder.retag(&["get", "user/42", "--config", "retag.toml"]).assert_ok();
    drop(held);
    let metrics = (0..200).find_map(|_| {
        let text = get(address, "/metrics", &viewer).filter(|text| text.contains("200 OK"));
        if text.is_none() {
            std::thread::sleep(Duration::from_millis(50));
        }
        text
    });
    let metrics = metrics.expect("an answer after the flood");
    let limited = |limit: &str| {
        let series = format!("retag_http_limited_total{{limit=\"{limit}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or("0");
        line.parse::<u64>().unwrap()
    };
    assert!(limited("connections_per_address_max") > 100, "{metrics}");
    stop(host);
}
