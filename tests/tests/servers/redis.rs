//! One Redis server and a cluster, asked by the crate `redis`.

use redis::TypedCommands as _;
use redis::cluster::ClusterClient;
use retag_servers::{Redis, RedisCluster, Service as _};

pub(crate) fn a_stopped_and_a_killed_server_come_back_with_port_and_data() {
    let mut server = Redis::start().unwrap();
    let url = server.url();
    let connect = || redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    connect().set("label", "gold").unwrap();
    server.restart().unwrap();
    assert_eq!(server.url(), url);
    assert_eq!(connect().get("label").unwrap().as_deref(), Some("gold"));
    connect().set("label", "silver").unwrap();
    server.kill().unwrap();
    assert!(server.command(&["PING"]).is_err());
    server.restart().unwrap();
    assert_eq!(connect().get("label").unwrap().as_deref(), Some("silver"));
    assert_eq!(server.command(&["FLUSHALL"]).unwrap(), "OK");
    assert_eq!(connect().get("label").unwrap(), None);
    assert!(server.command(&["NO-SUCH-COMMAND"]).unwrap_err().to_string().contains("unknown command"));
}

pub(crate) fn a_cluster_serves_all_slots_and_takes_back_a_killed_node() {
    let mut cluster = RedisCluster::start(3).unwrap();
    let keys: Vec<String> = (0..300).map(|n| format!("key {n}")).collect();
    let client = ClusterClient::new(cluster.urls()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for key in &keys {
        connection.set(key, format!("value of {key}")).unwrap();
    }
    let sizes = |cluster: &RedisCluster| -> Vec<usize> {
        cluster.nodes.iter().map(|node| node.command(&["DBSIZE"]).unwrap().parse().unwrap()).collect()
    };
    let before = sizes(&cluster);
    assert_eq!(before.iter().sum::<usize>(), 300);
    assert!(before.iter().all(|size| (50..150).contains(size)), "{before:?}");

    cluster.nodes[1].kill().unwrap();
    cluster.nodes[1].restart().unwrap();
    cluster.until_whole().unwrap();
    assert_eq!(sizes(&cluster), before);
    let mut connection = client.get_connection().unwrap();
    for key in &keys {
        assert_eq!(connection.get(key).unwrap(), Some(format!("value of {key}")));
    }
}
