//! The ground that tests with real servers stand on: each server starts, serves real clients, is stopped, killed and started
//! again on the same port with its data, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

#[path = "servers/client.rs"]
mod client;
#[path = "servers/kafka.rs"]
mod kafka;
#[path = "servers/mariadb.rs"]
mod mariadb;
#[path = "servers/maxwell.rs"]
mod maxwell;
#[path = "servers/processes.rs"]
mod processes;
#[path = "servers/redis.rs"]
mod redis;

use std::process::ExitCode;

fn main() -> ExitCode {
    if processes::is_holder() {
        return processes::hold();
    }
    retag_tests::trial::run(retag_tests::trials![
        maxwell::changes_of_the_database_arrive_on_the_topic: Kafka, MariaDb, Maxwell;
        kafka::a_stopped_and_a_killed_broker_come_back_with_port_and_data: Kafka;
        kafka::lines_go_through_the_brokers_own_tools: Kafka;
        kafka::topics_are_made_with_settings_and_removed: Kafka;
        mariadb::a_stopped_and_a_killed_server_come_back_with_port_and_data: MariaDb;
        mariadb::a_statement_that_fails_is_told: MariaDb;
        redis::a_stopped_and_a_killed_server_come_back_with_port_and_data: Redis;
        redis::a_cluster_serves_all_slots_and_takes_back_a_killed_node: Redis;
        processes::kill_leaves_no_process_of_the_group: Redis;
        processes::a_dropped_server_leaves_nothing: Redis;
        processes::a_failed_test_keeps_the_log: Redis;
        processes::a_server_that_cannot_start_says_why: Redis;
        processes::a_port_that_is_taken_for_a_moment_is_waited_for: Redis;
        processes::the_death_of_its_holder_ends_a_server: Redis;
    ])
}
