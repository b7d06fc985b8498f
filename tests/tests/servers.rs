//! Tests with real servers. The ground that they stand on: each server starts, serves real clients, is stopped, killed and
//! started again on the same port with its data, and leaves nothing behind. And a host that reads a real broker's topics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

#[path = "servers/away.rs"]
mod away;
#[path = "e2e/builds.rs"]
mod builds;
#[path = "servers/client.rs"]
mod client;
#[path = "servers/database.rs"]
mod database;
#[path = "servers/dist.rs"]
mod dist;
#[path = "e2e/following.rs"]
mod following;
#[allow(dead_code)] // this binary needs only a part of it
#[path = "e2e/harness.rs"]
mod harness;
#[path = "servers/host.rs"]
mod host;
#[path = "servers/kafka.rs"]
mod kafka;
#[path = "servers/mariadb.rs"]
mod mariadb;
#[path = "servers/maxwell.rs"]
mod maxwell;
#[allow(dead_code)] // this binary needs only a part of it
#[path = "e2e/message.rs"]
mod message;
#[path = "servers/processes.rs"]
mod processes;
#[path = "servers/redis.rs"]
mod redis;
#[path = "servers/secured.rs"]
mod secured;
#[path = "servers/sink_kafka.rs"]
mod sink_kafka;
#[path = "servers/sink_kafka_state.rs"]
mod sink_kafka_state;
#[path = "servers/sink_redis.rs"]
mod sink_redis;
#[path = "servers/sink_replay.rs"]
mod sink_replay;
#[path = "servers/source.rs"]
mod source;
#[path = "servers/source_refusals.rs"]
mod source_refusals;
#[path = "servers/sql.rs"]
mod sql;
#[path = "servers/topic.rs"]
mod topic;

use libtest_mimic::Trial;
use retag_tests::trial::{Server, needing_more, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    if processes::is_holder() {
        return processes::hold();
    }
    let mut trials = retag_tests::trials![
        source::what_is_read_is_what_the_model_says_and_a_restart_goes_on: Kafka;
        source::a_killed_host_goes_on_where_its_last_commit_was: Kafka;
        source::a_broker_that_is_away_is_waited_for: Kafka;
        source::messages_of_every_shape_are_read: Kafka;
        source::history_and_gaps_are_read_again_beside_the_stream: Kafka;
        source::a_recompiled_rule_is_compared_on_what_the_topics_hold: Kafka;
        source_refusals::topics_that_cannot_be_read_are_named: Kafka;
        source_refusals::a_topic_that_is_removed_while_it_is_read_is_named: Kafka;
        source_refusals::a_log_that_lost_its_beginning_makes_sums_approximate: Kafka;
        source_refusals::an_offset_that_is_gone_stops_the_source_for_good: Kafka;
        source_refusals::what_a_rule_missed_may_be_gone_from_its_topic: Kafka;
        source_refusals::a_topic_that_grows_is_refused_until_somebody_takes_it: Kafka;
        source_refusals::a_refused_message_is_named_by_its_offset_and_passed_when_mended: Kafka;
        source_refusals::a_damaged_message_stops_the_source_and_is_not_passed_over: Kafka;
        source_refusals::a_copy_of_a_state_is_refused_while_the_other_host_is_there: Kafka;
        source_refusals::without_any_broker_a_new_source_says_so: Kafka;
        sink_kafka::each_message_is_told_once_wherever_the_host_is_killed: Kafka;
        sink_kafka::what_the_brokers_refuse_is_taken_back_and_told_once_it_may_be: Kafka;
        sink_kafka::a_broker_that_is_away_or_killed_is_waited_for: Kafka;
        sink_kafka::a_group_that_was_forgotten_is_made_up_for_by_the_messages: Kafka;
        sink_kafka::of_two_hosts_on_copies_of_a_state_one_is_shut_out: Kafka;
        sink_kafka::who_is_started_again_behind_a_copy_is_refused: Kafka;
        sink_kafka::what_cannot_be_is_refused_by_name: Kafka;
        sink_kafka::without_rights_the_sink_says_so: Kafka;
        sink_kafka::at_least_once_tells_again_under_the_same_ids: Kafka;
        sink_kafka::a_switch_is_one_message_without_a_key: Kafka;
        sink_kafka_state::the_topic_holds_the_labels_wherever_the_host_is_killed: Kafka;
        sink_kafka_state::a_topic_or_group_that_was_lost_is_filled_again: Kafka;
        sink_kafka_state::a_comparison_tells_what_others_have_changed_and_a_resync_mends_it: Kafka;
        sink_kafka_state::topics_that_do_not_fit_are_refused_by_name: Kafka;
        sink_kafka_state::the_sink_says_what_it_holds: Kafka;
        sink_kafka_state::who_was_shut_out_by_a_host_that_wrote_stays_out: Kafka;
        sink_redis::labels_are_there_however_the_host_is_killed: Redis;
        sink_redis::a_cluster_holds_the_same_however_host_and_nodes_are_killed: Redis;
        sink_redis::a_server_that_is_away_holds_back_nothing_but_its_own: Redis;
        sink_redis::what_is_lost_comes_again_by_itself: Redis;
        sink_redis::a_resync_makes_right_what_others_have_changed: Redis;
        sink_redis::buckets_that_lost_only_their_facts_are_not_taken_for_empty_ones: Redis;
        sink_redis::what_is_not_ours_is_refused_by_name: Redis;
        sink_replay::whatever_is_sent_again_no_value_turns_back: Redis;
        away::servers_that_are_away_cost_little_and_get_everything_soon_after: Kafka, Redis;
        secured::a_broker_that_asks_for_a_password_is_read_and_written: Kafka;
        dist::the_packed_configuration_runs: Kafka, Redis;
        database::sums_and_labels_are_those_of_the_database: Kafka, MariaDb, Maxwell, Redis;
        database::rows_spread_by_their_keys_are_those_of_the_database: Kafka, MariaDb, Maxwell, Redis;
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
    ];
    trials.push(behind_tls());
    run(trials)
}

fn behind_tls() -> Trial {
    needing_more(
        "secured::a_broker_behind_tls_is_read_and_written",
        &[Server::Kafka],
        secured::tls_is_missing,
        secured::a_broker_behind_tls_is_read_and_written,
    )
}
