//! The configuration that is packed for machines (`dist/retag.toml`) runs as it is, but for its places.

use super::host::{Stream, ready};
use super::sink_redis::{held, single};
use crate::following::{end, follow};
use crate::harness::{self, Folder};
use retag_servers::{Kafka, Redis};

pub(crate) fn the_packed_configuration_runs() {
    let (kafka, redis) = (Kafka::start().unwrap(), Redis::start().unwrap());
    kafka.create_topic("maxwell", 2, &[]).unwrap();
    ready();
    let folder = Folder::new();
    let mut text = std::fs::read_to_string(harness::root().join("dist/retag.toml")).unwrap();
    let (bootstrap, url) = (kafka.bootstrap(), redis.url());
    for (packed, here) in [
        ("/var/lib/retag", "data"),
        ("127.0.0.1:8080", "127.0.0.1:0"),
        ("kafka:9092", bootstrap.as_str()),
        ("/usr/local/share/retag/rules/", ""),
        ("redis://redis:6379", url.as_str()),
    ] {
        assert!(text.contains(packed), "{packed}");
        text = text.replace(packed, here);
    }
    folder.write("retag.toml", text);
    folder.retag(&["config", "check"]).assert_ok();
    let mut host = follow(&folder);
    Stream::new(3).write(&kafka, "maxwell", 500);
    host.until("labels in Redis", || (!held(&mut single(&redis)).is_empty()).then_some(()));
    end(host);
}
