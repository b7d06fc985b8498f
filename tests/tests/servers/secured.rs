//! Brokers that ask who comes, with and without TLS: source and sink read and write there, and a wrong password is said to be one
//! and never shown.

use super::client::produce;
use super::host::{Stream, ready};
use super::topic::{Read, read_all};
use crate::harness::Folder;
use retag_servers::Kafka;
use std::process::Command;

const PASSWORD: &str = "not-to-be-shown";

/// A folder whose source and sink are at the broker's second listener, with these settings.
fn folder(kafka: &Kafka, settings: &[(&str, &str)]) -> Folder {
    ready();
    let folder = Folder::new();
    let mut librdkafka: Vec<String> =
        settings.iter().map(|(key, value)| format!("{key:?} = {value:?}")).collect();
    librdkafka.push("\"sasl.username\" = \"retag\"".into());
    librdkafka.push("\"sasl.password\" = { file = \"password\" }".into());
    let of_broker =
        format!("bootstrap_servers = {:?}\nlibrdkafka = {{ {} }}", kafka.secured(), librdkafka.join(", "));
    folder.configure("type = \"files\"", "type = \"kafka\"");
    folder.configure("paths = [\"o.p0.json\", \"o.p1.json\"]", &format!("topics = [\"shop\"]\n{of_broker}"));
    folder
        .append("retag.toml", format!("[sinks.topic]\ntype = \"kafka\"\ntopic = \"labels\"\n{of_broker}\n"));
    folder
}

/// With a wrong password nothing is read, with the right one everything is read and told.
fn read_and_written(kafka: &Kafka, folder: &Folder, refusal: &str) {
    for topic in ["shop", "labels"] {
        kafka.create_topic(topic, 2, &[]).unwrap();
    }
    let mut stream = Stream::new(11);
    produce(&kafka.bootstrap(), "shop", "lz4", &stream.next(2_000, 2));
    folder.write("password", format!("{PASSWORD}-at-all"));
    folder.run().assert_error(1, &["kafka-unreachable", refusal]);
    folder.write("password", PASSWORD);
    let run = folder.run().assert_ok();
    assert!(!run.err.contains(PASSWORD), "{}", run.err);
    super::host::assert_model(folder, &stream.messages, &["payer"]);
    let lines = folder.read("labels.ndjson").lines().count();
    let told = read_all(&kafka.bootstrap(), "labels", 2, Read::Committed);
    assert!(lines > 100 && told.len() == lines, "{} messages, {lines} lines", told.len());
}

pub(crate) fn a_broker_that_asks_for_a_password_is_read_and_written() {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let users = format!("{module} required user_retag=\"{PASSWORD}\";");
    let kafka = Kafka::start_secured(
        "SASL_PLAINTEXT",
        &[
            ("listener.name.secured.sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.secured.plain.sasl.jaas.config", &users),
        ],
    )
    .unwrap();
    let folder = folder(&kafka, &[("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "PLAIN")]);
    read_and_written(&kafka, &folder, "uthentication");
}

/// Why TLS cannot be tried; none where the binary has it.
pub(crate) fn tls_is_missing() -> Option<String> {
    ready();
    let folder = Folder::new();
    folder.configure("type = \"files\"", "type = \"kafka\"");
    let tls = "bootstrap_servers = \"127.0.0.1:1\"\ntopics = [\"t\"]\nlibrdkafka = { \"security.protocol\" = \"ssl\" }";
    folder.configure("paths = [\"o.p0.json\", \"o.p1.json\"]", tls);
    let said = folder.retag(&["config", "check"]).err;
    said.contains("kafka-setting")
        .then(|| "the binary was built without TLS (`--features kafka-tls`)".to_owned())
}

pub(crate) fn a_broker_behind_tls_is_read_and_written() {
    let keys = tempfile::tempdir().unwrap();
    let (store, certificate) = (keys.path().join("broker.p12"), keys.path().join("broker.pem"));
    let keytool = |arguments: &[&str]| {
        let mut command = Command::new("keytool");
        command.args(arguments).arg("-keystore").arg(&store).args([
            "-storepass",
            "broker-secret",
            "-alias",
            "broker",
        ]);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    };
    let names = ["-dname", "CN=broker", "-ext", "SAN=IP:127.0.0.1", "-storetype", "PKCS12"];
    keytool(&[&["-genkeypair", "-keyalg", "RSA", "-keysize", "2048", "-validity", "2"], &names[..]].concat());
    keytool(&["-exportcert", "-rfc", "-file", certificate.to_str().unwrap()]);
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let kafka = Kafka::start_secured(
        "SASL_SSL",
        &[
            ("listener.name.secured.sasl.enabled.mechanisms", "SCRAM-SHA-512"),
            ("listener.name.secured.scram-sha-512.sasl.jaas.config", module),
            ("listener.name.secured.ssl.keystore.type", "PKCS12"),
            ("listener.name.secured.ssl.keystore.location", store.to_str().unwrap()),
            ("listener.name.secured.ssl.keystore.password", "broker-secret"),
        ],
    )
    .unwrap();
    let user = format!("SCRAM-SHA-512=[password={PASSWORD}]");
    let user = ["--alter", "--add-config", &user, "--entity-type", "users", "--entity-name", "retag"];
    kafka.tool("kafka.admin.ConfigCommand", &user, "").unwrap();
    let settings = |more: &[(&'static str, &'static str)]| {
        [&[("security.protocol", "sasl_ssl"), ("sasl.mechanism", "SCRAM-SHA-512")], more].concat()
    };
    // A broker whose certificate nobody vouches for is not talked to.
    let stranger = folder(&kafka, &settings(&[]));
    stranger.write("password", PASSWORD);
    stranger.run().assert_error(1, &["kafka-unreachable", "certificate"]);
    let known = folder(
        &kafka,
        &[settings(&[]).as_slice(), &[("ssl.ca.location", certificate.to_str().unwrap())]].concat(),
    );
    read_and_written(&kafka, &known, "uthentication");
}
