//! Who may do what: the table in docs/security.md row by row against the host, tokens from first to last, and what must
//! never be said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod api_fixture;
mod http_fixture;

use http_fixture::{Answer, Served, serve, serve_in};
use retag_host::api::{self, Access, Limit, Role};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

const SECURITY: &str = include_str!("../../docs/security.md");
const ADMIN: Option<Role> = Some(Role::Admin);
const STATUS: &str = "GET /v1/status";

/// Rows of the table: who may use each route, without a token and by role.
fn table() -> BTreeMap<String, Vec<bool>> {
    let rows = SECURITY.lines().filter(|line| line.starts_with("| `GET ") || line.starts_with("| `POST "));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let may = cells[1..].iter().map(|cell| *cell == "yes").collect();
        (cells[0].trim_matches('`').to_owned(), may)
    };
    rows.map(row).collect()
}

/// A request that the route takes.
fn example(route: &str) -> (String, Vec<u8>) {
    let path = route
        .replace("{entity}", "user")
        .replace("{key}", "5")
        .replace("{label}", if route.contains("/v1/labels") { "tier" } else { "never_paid" })
        .replace("{rule}", "payer")
        .replace("{revision}", "1");
    let path = match route {
        "GET /v1/rules/{rule}/held" => format!("{path}?status=pending"),
        "GET /v1/quarantine/{id}" => path.replace("{id}", "1-1"),
        "GET /v1/rules/{rule}/revisions/{revision}/diff" => format!("{path}?to=2"),
        "POST /v1/rules/{rule}/revisions/{revision}/adopt" => format!("{path}?reason=test"),
        "GET /v1/transitions" => format!("{path}?follow=false"),
        "GET /v1/operations/{id}" => path.replace("{id}", "1"),
        "POST /v1/tokens/{id}/revoke" => path.replace("{id}", "000000000000"),
        _ => path,
    };
    let body = match route {
        "POST /v1/entities/{entity}/labels:batchGet" => json!({"keys": ["5"]}),
        "POST /v1/sinks/{sink}/resync" => json!({}),
        "POST /v1/tokens" => json!({"role": "viewer"}),
        "POST /v1/rules/{rule}/params" => json!({"params": {}}),
        _ if route.starts_with("POST /ofrep") => json!({"context": {"targetingKey": "5"}}),
        _ => return (path, Vec::new()),
    };
    (path, body.to_string().into_bytes())
}

#[test]
fn every_route_is_for_whom_the_table_says() {
    let served = serve("");
    let table = table();
    let routes = api::routes();
    let names: Vec<String> = routes.iter().map(api::Route::name).collect();
    assert_eq!(table.keys().cloned().collect::<Vec<_>>(), {
        let mut sorted = names.clone();
        sorted.sort();
        sorted
    });
    let callers = [None, Some(Role::Viewer), Some(Role::Operator), Some(Role::Deployer), ADMIN];
    for route in &routes {
        let name = route.name();
        let row = &table[&name];
        let (request, body) = example(&name);
        for (caller, may) in callers.into_iter().zip(row) {
            let answer = served.ask(caller, &request, &body);
            let refused = matches!(answer.status, 401 | 403);
            assert_eq!(refused, !may, "{name} as {caller:?}: {}", answer.status);
            let by_code = match (route.access(), caller) {
                (Access::Role(_), None) => true,
                (Access::Role(needed), Some(role)) => role < needed,
                (Access::Open, _) => false,
            };
            assert_eq!(refused, by_code, "{name} as {caller:?}");
            if !refused {
                // The registry here knows no revisions, and nobody takes commands.
                let of_registry = [
                    "/revisions",
                    "/operations/",
                    "/rollback",
                    "/params",
                    "/pause",
                    "/resume",
                    "/remove",
                    "{rule}/plan",
                    "/sinks/",
                ];
                let known = answer.status < 300
                    || name.ends_with("/revoke") && answer.status == 404
                    || of_registry.iter().any(|part| name.contains(part))
                        && matches!(answer.status, 404 | 409 | 422 | 503);
                assert!(known, "{name} as {caller:?}: {} {}", answer.status, answer.text());
            }
        }
    }
}

#[test]
fn refusals_say_how_to_authenticate_and_no_more() {
    let served = serve("");
    let check = |headers: &str, status: u16, code: &str, challenge: &str| {
        let answer = served.ask_with(headers, STATUS, b"");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{headers}");
        assert!(answer.header("www-authenticate").unwrap().contains(challenge), "{}", answer.head);
        answer
    };
    check("", 401, "unauthorized", "bearer realm=\"retag\"");
    let secret = "retag_0123456789ab_c2VjcmV0c2VjcmV0";
    for wrong in [secret, "", "x", "retag_"] {
        let answer =
            check(&format!("authorization: Bearer {wrong}\r\n"), 401, "unauthorized", "invalid_token");
        assert!(!answer.text().contains("c2VjcmV0") && !answer.head.contains("c2vjcmv0"));
    }
    check("authorization: Basic eDp5\r\n", 401, "unauthorized", "invalid_token");
    let token = served.token(Role::Viewer);
    let twice = format!("authorization: Bearer {token}\r\nauthorization: Bearer {token}\r\n");
    check(&twice, 401, "unauthorized", "invalid_token");
    let answer = served.ask(Some(Role::Viewer), "GET /v1/quarantine", b"");
    assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"));
    assert!(answer.header("www-authenticate").unwrap().contains("scope=\"operator\""));
    // What is not there is not there for anybody.
    assert_eq!(served.ask(None, "GET /v1/nothing", b"").status, 404);
    assert_eq!(served.ask(None, "DELETE /v1/status", b"").status, 405);
}

#[test]
fn a_stream_ends_when_its_token_is_revoked() {
    let served = serve("heartbeat_ms = 10");
    let token = served.token(Role::Viewer);
    let mut open = served.connect();
    let head = format!("GET /v1/transitions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    open.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut read_until = |end: &str| {
        let mut piece = [0; 1024];
        while !String::from_utf8_lossy(&bytes).contains(end) {
            let n = open.read(&mut piece).unwrap();
            assert!(n > 0, "{}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&piece[..n]);
        }
    };
    read_until("event: commit");
    let id = token.split('_').nth(1).unwrap();
    assert_eq!(served.ask(ADMIN, &format!("POST /v1/tokens/{id}/revoke"), b"").status, 200);
    read_until("\r\n0\r\n\r\n"); // a whole answer
}

#[test]
fn a_token_is_made_used_and_revoked_over_http() {
    let served = serve("");
    let body = br#"{"role": "operator", "name": "night shift", "expires_s": 3600}"#;
    let made = served.ask(ADMIN, "POST /v1/tokens", body);
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert!(made["created_by"].as_str().unwrap().ends_with("(admin)"), "{made}");
    let header = format!("authorization: Bearer {token}\r\n");
    assert_eq!(served.ask_with(&header, "GET /v1/quarantine", b"").status, 200);
    let own = served.token(Role::Admin).split('_').nth(1).unwrap();
    assert_eq!(served.ask(ADMIN, &format!("POST /v1/tokens/{own}/revoke"), b"").code(), "own-token");
    let list = served.ask(ADMIN, "GET /v1/tokens", b"");
    assert!(!list.text().contains(token) && list.text().contains("night shift"));
    assert_eq!(served.ask(ADMIN, &format!("POST /v1/tokens/{id}/revoke"), b"").json()["state"], "revoked");
    assert_eq!(served.ask_with(&header, "GET /v1/quarantine", b"").status, 401);
    let audit = std::fs::read_to_string(served.dir().join("data/access.ndjson")).unwrap();
    let events = audit.lines().filter(|line| line.contains(id)).count();
    assert!(events == 2 && !audit.contains(token), "{audit}");
    let whole = served.ask(ADMIN, "POST /v1/tokens", br#"{"role": "viewer", "expires_s": 60.0}"#);
    assert_eq!(whole.status, 201, "60.0 is a whole number in JSON");
    for wrong in [
        &br#"{"role":"king"}"#[..],
        br#"{"role":"viewer","expires_s":0}"#,
        br#"{"role":"viewer","expires_s":60.5}"#,
        br#"{"role":"viewer","expires_s":1e300}"#,
        br#"{"name":"x"}"#,
    ] {
        assert_eq!(served.ask(ADMIN, "POST /v1/tokens", wrong).code(), "bad-request");
    }
}

#[test]
fn without_tokens_only_this_machine_may_ask() {
    let served = serve("auth = \"off\"");
    assert_eq!(served.ask(None, STATUS, b"").status, 200);
    assert_eq!(served.ask_with("origin: http://localhost:3000\r\n", STATUS, b"").status, 200);
    for foreign in ["host: evil.example\r\n", "origin: https://evil.example\r\n", "origin: null\r\n"] {
        let answer = served.ask_with(foreign, STATUS, b"");
        assert_eq!((answer.status, answer.code().as_str()), (403, "foreign"), "{foreign}");
    }
    // What a foreign page may send without being asked about first is no JSON.
    let plain = served.ask_with("content-type: text/plain\r\n", "POST /v1/tokens", b"{\"role\":\"admin\"}");
    assert_eq!((plain.status, plain.code().as_str()), (415, "bad-media-type"));
}

#[test]
fn every_answer_is_protected_and_has_an_id() {
    let served = serve("");
    for request in [STATUS, "GET /healthz", "GET /nothing", "DELETE /v1/status"] {
        let answer = served.ask(ADMIN, request, b"");
        for header in [
            "x-content-type-options: nosniff",
            "content-security-policy: default-src 'none'",
            "cache-control: no-store",
            "referrer-policy: no-referrer",
            "x-request-id: ",
        ] {
            assert!(answer.head.contains(header), "{request}: {header}");
        }
        assert!(!answer.head.contains("access-control-"), "{request}");
        assert!(answer.header("strict-transport-security").is_none());
    }
    let own = served.ask_with("x-request-id: my-id.7\r\n", "GET /healthz", b"");
    assert_eq!(own.header("x-request-id"), Some("my-id.7"));
    for strange in ["a b", "a;b", &"x".repeat(65), "<script>"] {
        let answer = served.ask_with(&format!("x-request-id: {strange}\r\n"), "GET /healthz", b"");
        assert_ne!(answer.header("x-request-id"), Some(strange));
    }
}

#[test]
fn strange_paths_reach_no_file() {
    let served = serve("");
    for path in [
        "/../../etc/passwd",
        "/v1/../../../etc/passwd",
        "/v1/rules/..%2F..%2Fetc%2Fpasswd/aggregates",
        "/v1/quarantine/..%2f..%2faccess.ndjson",
        "/v1/entities/user/keys/%2e%2e%2f%2e%2e/labels",
        "/%00",
        "//v1//status",
    ] {
        let answer = served.ask(ADMIN, &format!("GET {path}"), b"");
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("root:") && !answer.text().contains("sha256"), "{path}");
    }
}

#[test]
fn two_lengths_are_no_request() {
    let served = serve("");
    let smuggle = |headers: &str| {
        let mut stream = served.connect();
        let token = served.token(Role::Viewer);
        let head = format!(
            "POST /v1/entities/user/labels:batchGet HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             {headers}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let answer = Answer::read(&mut stream);
        assert!(answer.status >= 400, "{headers}: {}", answer.status);
        assert!(!answer.text().contains("ok\n"), "{headers}: a second request was read");
    };
    smuggle("content-length: 5\r\ncontent-length: 6\r\n");
    smuggle("content-length: +5\r\n");
    smuggle("transfer-encoding: gzip\r\n");
}

#[test]
fn tls_carries_requests_and_plain_text_is_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let http = "tls = { cert = \"cert.pem\", key = \"key.pem\" }\nheader_timeout_ms = 500";
    let served = serve_in(folder, http, api::router);
    let _silent = served.connect();
    let answer = over_tls(&served, made.cert.der());
    assert_eq!(answer.status, 200);
    assert!(answer.header("strict-transport-security").is_some());

    let mut plain = served.connect();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    http_fixture::read_all(&mut plain, &mut bytes);
    assert!(!String::from_utf8_lossy(&bytes).contains("HTTP/1.1"));
    served.until_limited(Limit::HeaderTimeout, 1); // a handshake that never begins
    assert_eq!(over_tls(&served, made.cert.der()).status, 200, "it goes on");
}

fn over_tls(served: &Served, cert: &CertificateDer<'static>) -> Answer {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = served.connect();
    let mut tls = rustls::Stream::new(&mut client, &mut stream);
    let token = served.token(Role::Viewer);
    let head = format!(
        "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).unwrap();
    Answer::read(&mut tls)
}

/// `retag ARGS` with a file of contexts of its own.
fn retag(served: &Served, args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_retag"));
    for name in ["RETAG_URL", "RETAG_TOKEN", "RETAG_CONFIG"] {
        command.env_remove(name);
    }
    command
        .args(args)
        .current_dir(served.dir())
        .env("RETAG_CONTEXTS", served.dir().join("own/contexts.toml"));
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn commands_ask_over_the_network_as_they_do_on_the_socket() {
    let served = serve("");
    let url = format!("http://{}", served.address);
    let token = served.token(Role::Operator).to_owned();
    let with_token = [("RETAG_TOKEN", token.as_str())];
    for args in [
        &["get", "user/5", "-o", "json"][..],
        &["members", "tier=gold", "--count"],
        &["export", "aggregates", "payer"],
        &["quarantine", "ls"],
        &["status"],
    ] {
        let (code, out, err) = retag(&served, &[args, &["--url", &url]].concat(), &with_token);
        assert_eq!(code, Some(0), "{args:?}: {err}");
        assert!(!out.is_empty());
        let by_variable = [("RETAG_TOKEN", token.as_str()), ("RETAG_URL", url.as_str())];
        assert_eq!(retag(&served, args, &by_variable).1, out, "{args:?}");
    }
    let (code, out, err) = retag(&served, &["status", "--url", &url], &[]);
    assert!(code == Some(1) && out.is_empty() && err.contains("unauthorized"), "{err}");
    let (code, _, err) = retag(&served, &["token", "ls", "--url", &url], &with_token);
    assert!(code == Some(1) && err.contains("forbidden") && !err.contains(&token), "{err}");
    let (code, _, err) = retag(&served, &["status", "--url", "http://192.0.2.1"], &with_token);
    assert!(code == Some(1) && err.contains("unencrypted") && !err.contains(&token), "{err}");
    assert_eq!(retag(&served, &["status", "--url", &url, "--config", "x"], &[]).0, Some(64));
}

#[test]
fn contexts_name_hosts_and_where_their_tokens_are() {
    use std::os::unix::fs::PermissionsExt;
    let served = serve("");
    let url = format!("http://{}", served.address);
    let file = served.dir().join("token");
    std::fs::write(&file, format!("{}\n", served.token(Role::Viewer))).unwrap();
    let run = |args: &[&str]| retag(&served, args, &[]);
    let add = ["context", "add", "shop", &url, "--token-file", file.to_str().unwrap()];
    assert_eq!(run(&add).0, Some(0));
    let contexts = served.dir().join("own/contexts.toml");
    assert_eq!(std::fs::metadata(&contexts).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&contexts).unwrap().contains("retag_"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = run(&["get", "user/5"]);
    assert!(code == Some(1) && err.contains("chmod 600"), "{err}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (code, out, err) = run(&["get", "user/5"]);
    assert!(code == Some(0) && out.contains("never_paid"), "the first is in use: {err}");
    assert_eq!(run(&["get", "user/5", "--url", "shop"]).0, Some(0));
    assert!(run(&["get", "user/5", "--url", "shp"]).2.contains("no context `shp`"));
    assert_eq!(run(&["context", "add", "other", "https://retag.example", "--token-env", "T"]).0, Some(0));
    assert_eq!(run(&["context", "use", "other"]).0, Some(0));
    let list = run(&["context", "ls"]).1;
    assert!(list.contains("shop") && list.contains("$T") && list.contains("yes"), "{list}");
    assert!(run(&["get", "user/5"]).2.contains("no variable T"));
    assert_eq!(run(&["context", "rm", "other"]).0, Some(0));
    assert!(run(&["context", "use", "other"]).2.contains("there are: shop"));
    assert_eq!(run(&["context", "use", "--none"]).0, Some(0));
    assert!(run(&["context", "add", "x", "shop.example"]).2.contains("http"));
}

#[test]
fn commands_speak_tls_and_trust_whom_they_are_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let served = serve_in(folder, "tls = { cert = \"cert.pem\", key = \"key.pem\" }", api::router);
    let url = format!("https://localhost:{}", served.address.port());
    let environment = [("RETAG_TOKEN", served.token(Role::Viewer))];
    let (code, _, err) = retag(&served, &["status", "--url", &url], &environment);
    assert!(code == Some(1) && err.contains("TLS") || err.contains("authorities"), "{err}");
    assert_eq!(retag(&served, &["context", "add", "tls", &url, "--ca", "cert.pem"], &[]).0, Some(0));
    let (code, out, err) = retag(&served, &["status", "--url", "tls"], &environment);
    assert!(code == Some(0) && out.contains("payer"), "{err}");
}

#[test]
fn completions_are_printed_for_each_shell() {
    let served = serve("");
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = retag(&served, &["completions", shell], &[]);
        assert!(code == Some(0) && out.contains("quarantine") && out.contains("context"), "{shell}");
    }
}
