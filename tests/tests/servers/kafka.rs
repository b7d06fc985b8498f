//! One broker, asked by librdkafka and by its own tools.

use super::client::{Message, message, produce, read_until, settings};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use retag_servers::{Kafka, Service as _};
use std::time::Duration;

fn messages(from: usize, to: usize) -> Vec<Message> {
    (from..to).map(|n| message(&format!("key {n}"), &format!("payload {n} é"))).collect()
}

pub(crate) fn a_stopped_and_a_killed_broker_come_back_with_port_and_data() {
    let mut kafka = Kafka::start().unwrap();
    let bootstrap = kafka.bootstrap();
    kafka.create_topic("kept", 1, &[]).unwrap();
    produce(&bootstrap, "kept", "lz4", &messages(0, 100));

    let process = kafka.process().id().unwrap();
    kafka.restart().unwrap();
    assert_ne!(kafka.process().id().unwrap(), process);
    assert_eq!(kafka.bootstrap(), bootstrap);
    assert_eq!(read_until(&bootstrap, "kept", 1, |read| read.len() >= 100), messages(0, 100));

    produce(&bootstrap, "kept", "zstd", &messages(100, 200));
    kafka.kill().unwrap();
    assert!(kafka.kill().unwrap_err().to_string().contains("kafka is not running"));
    assert!(kafka.partitions("kept").is_err());
    kafka.restart().unwrap();
    produce(&bootstrap, "kept", "gzip", &messages(200, 300));
    assert_eq!(read_until(&bootstrap, "kept", 1, |read| read.len() >= 300), messages(0, 300));
}

pub(crate) fn lines_go_through_the_brokers_own_tools() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topic("lines", 1, &[]).unwrap();
    assert_eq!(kafka.tool("org.apache.kafka.tools.TopicCommand", &["--list"], "").unwrap().trim(), "lines");
    let lines = "one\n{\"two\":2}\ndrei ü\n";
    kafka.tool("org.apache.kafka.tools.ConsoleProducer", &["--topic", "lines"], lines).unwrap();
    let consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    let arguments = ["--topic", "lines", "--from-beginning", "--max-messages", "3", "--timeout-ms", "20000"];
    assert_eq!(kafka.tool(consumer, &arguments, "").unwrap(), lines);
    let error = kafka.tool(consumer, &["--no-such-option"], "").unwrap_err().to_string();
    assert!(error.contains("no-such-option"), "{error}");
}

pub(crate) fn topics_are_made_with_settings_and_removed() {
    let kafka = Kafka::start_with(&[("message.max.bytes", "2000")]).unwrap();
    kafka.create_topic("orders", 4, &[("cleanup.policy", "compact")]).unwrap();
    let error = kafka.create_topic("orders", 4, &[]).unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
    let error = kafka.create_topic("other", 1, &[("cleanup.policy", "maybe")]).unwrap_err().to_string();
    assert!(error.contains("cleanup.policy"), "{error}");

    let described =
        kafka.tool("org.apache.kafka.tools.TopicCommand", &["--describe", "--topic", "orders"], "").unwrap();
    assert!(
        described.contains("PartitionCount: 4") && described.contains("cleanup.policy=compact"),
        "{described}"
    );
    assert!(described.contains("max.message.bytes=2000"), "{described}");

    let partitions = |topic: &str| {
        let consumer: BaseConsumer = settings(&kafka.bootstrap()).create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
        metadata.topics()[0].partitions().len()
    };
    assert_eq!(partitions("orders"), 4);
    kafka.delete_topic("orders").unwrap();
    assert_eq!((partitions("orders"), kafka.partitions("orders").unwrap()), (0, 0));
    let error = kafka.delete_topic("orders").unwrap_err().to_string();
    assert!(error.contains("topic orders (error 3)"), "{error}");
}
