//! Webhooks and what must stay secret: TLS with an authority of one's own, secrets by reference, none of them in any text or
//! file, and configurations that cannot be.

use crate::following::{Shop, follow};
use crate::harness::Folder;
use crate::receiver::{Receiver, Reply, SECRET};
use crate::webhook::{USERS, folder, hook, read, waits};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// An authority, as PEM, and a server that it vouches for.
fn authority() -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (authority.pem(), Arc::new(config))
}

#[test]
fn webhook_over_tls_trusts_the_authority_that_is_named() {
    let ((pem, tls), (other, _)) = (authority(), authority());
    let receiver = Receiver::listen("127.0.0.1:0".parse().unwrap(), Some(tls), true, |_| 204.into());
    let folder = folder(&format!("https://{}/", receiver.address), "ca = \"ca.pem\"");
    Shop::new(51, USERS).write(&folder, 200);
    folder.run().assert_error(1, &["webhook-config", "sink hook", "ca: ", "ca.pem"]);
    folder.write("ca.pem", &other);
    let mut host = follow(&folder);
    let said = waits(&mut host, &folder);
    assert!(said.contains("no TLS") && said.contains("https://127.0.0.1"), "{said}");
    host.signal("TERM");
    host.wait().assert_ok();
    assert!(receiver.got().is_empty());
    folder.write("ca.pem", &pem);
    folder.run().assert_ok();
    assert_eq!(receiver.taken().len(), folder.read("labels.ndjson").lines().count());
}

/// Everything that a folder's state holds, as text.
fn state(folder: &Folder) -> String {
    let mut text = String::new();
    let mut folders = vec![folder.path("data")];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap().flatten() {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => {
                    text.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()));
                }
                _ => {}
            }
        }
    }
    text
}

#[test]
fn webhook_secrets_are_sent_and_never_told() {
    // It repeats all that it was sent, as servers do that help to find mistakes.
    let receiver = Receiver::start(|got| {
        let body = format!("{:?} {}", got.headers, got.path);
        let refused = got.messages.iter().any(|message| message["key"].as_str().unwrap().ends_with('3'));
        Reply { status: if refused { 422 } else { 503 }, body, ..Reply::default() }
    });
    let more = "headers = { Authorization = { env = \"HOOK_TOKEN\" }, X-Team = \"shop\" }";
    let folder = folder(&format!("http://{}/hooks?sig=hunter3", receiver.address), more);
    Shop::new(52, USERS).write(&folder, 300);
    let environment = [("HOOK_TOKEN", "Bearer hunter2")];
    let mut host = folder.start(&["run"], &environment);
    let mut texts: Vec<String> = vec![host.until("what it waits for", || {
        let told = folder.retag(&["status"]).out;
        told.contains("sink hook waits for").then_some(told)
    })];
    texts.push(folder.retag(&["status", "-o", "json"]).out);
    texts.push(folder.retag(&["sink", "ls", "-o", "json"]).out);
    texts.push(folder.retag(&["sink", "dead", "ls", "hook", "-o", "json"]).out);
    host.signal("TERM");
    let ended = host.wait().assert_ok();
    texts.extend([ended.out, ended.err]);
    let checked = folder.start(&["config", "check"], &environment).wait().assert_ok();
    assert!(checked.out.contains("/hooks?…"), "{}", checked.out);
    texts.extend([checked.out, checked.err, state(&folder)]);
    for secret in [SECRET, "hunter2", "hunter3"] {
        assert!(texts.iter().all(|text| !text.contains(secret)), "{secret} is told");
    }
    let got = receiver.got().pop().unwrap();
    assert_eq!(got.headers["authorization"], "Bearer hunter2");
    assert_eq!((got.headers["x-team"].as_str(), got.path.as_str()), ("shop", "/hooks?sig=hunter3"));
    let run = |value: &str| folder.start(&["run", "--until-end"], &[("HOOK_TOKEN", value)]).wait();
    let refused = run("hunter2\nhunter2").assert_error(1, &["webhook-config", "headers.Authorization"]);
    assert!(!refused.err.contains("hunter2"), "{}", refused.err);
    folder.run().assert_error(1, &["webhook-config", "headers.Authorization", "HOOK_TOKEN"]);
    folder.write("secret", "hunter2");
    let refused = run("hunter2").assert_error(1, &["webhook-config", "secret: ", "whsec_"]);
    assert!(!refused.err.contains("hunter2"), "{}", refused.err);
}

#[test]
fn webhook_configurations_that_cannot_be_are_named_by_their_key() {
    let folder = folder("http://127.0.0.1:1/", "");
    let right = folder.read("retag.toml");
    for (from, to, said) in [
        ("url = \"http://127.0.0.1:1/\"", "url = \"127.0.0.1:1\"", "sinks.hook.url"),
        ("url = \"http://127.0.0.1:1/\"", "url = \"http://u:hunter2@h/\"", "sinks.hook.url"),
        ("secret = { file = \"secret\" }", "secret = \"whsec_hunter2\"", "sinks.hook.secret"),
        (
            "deliver = \"all\"",
            "headers = { Authorization = \"hunter2\" }",
            "sinks.hook.headers.Authorization",
        ),
        ("deliver = \"all\"", "deliver = \"some\"", "unknown variant"),
        ("deliver = \"all\"", "batch_max = 0", "sinks.hook.batch_max"),
        ("deliver = \"all\"", "batchmax = 5", "batchmax"),
        ("deliver = \"all\"", "when_full = \"refill\"", "sinks.hook.when_full"),
    ] {
        folder.write("retag.toml", right.replacen(from, to, 1));
        for command in [&["run", "--until-end"][..], &["config", "check"]] {
            let ended = folder.retag(command).assert_error(1, &["retag.toml", said]);
            assert!(!ended.err.contains("hunter2"), "{}", ended.err);
        }
    }
}

#[test]
fn webhook_without_a_secret_is_not_signed_and_hears_changes_alone() {
    let receiver = Receiver::listen("127.0.0.1:0".parse().unwrap(), None, false, |_| 204.into());
    let folder = folder(&format!("http://{}", receiver.address), "");
    folder.configure("secret = { file = \"secret\" }\n", "");
    folder.configure("deliver = \"all\"\n", "");
    let mut shop = Shop::new(53, USERS);
    shop.write(&folder, 300);
    let mut host = follow(&folder);
    read(&mut host, &folder);
    let first =
        host.until("the end of the first reading", || Some(receiver.taken()).filter(|t| !t.is_empty()));
    let before = folder.read("labels.ndjson").lines().count();
    assert!(first.iter().all(|message| message["op"] == "switch"), "{first:?}");
    shop.write(&folder, 300);
    host.until("more to read", || (folder.read("labels.ndjson").lines().count() > before).then_some(()));
    let written = read(&mut host, &folder);
    host.until("all changes", || (receiver.taken().len() >= first.len() + written - before).then_some(()));
    let changes = receiver.taken().split_off(first.len());
    assert!(changes.len() > 10 && changes.iter().all(|message| message["cause"] == "change"), "{changes:?}");
    assert_eq!(hook(&folder).unwrap()["type"], "webhook");
    host.signal("TERM");
    host.wait().assert_ok();
}
