//! From SQL statements to labels: MariaDB, Maxwell and Kafka in front of a host; what it computes is what the database itself
//! answers to `SELECT … GROUP BY`, though everything in between is killed and started again.

use super::host::{end, ends, folder, follow, read_up_to, status};
use crate::harness::{Folder, Host};
use retag_host::clock::moment;
use retag_servers::{Kafka, MariaDb, Maxwell, Service as _};
use retag_tests::simulation::Random;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

const TABLES: &str = "CREATE DATABASE shop; CREATE TABLE shop.users (user_id BIGINT UNSIGNED PRIMARY KEY, note VARCHAR(20)); \
    CREATE TABLE shop.orders (order_id BIGINT UNSIGNED PRIMARY KEY, user_id BIGINT UNSIGNED, merchant_id BIGINT NOT NULL, \
    state INT NOT NULL, amount DECIMAL(12,2) NOT NULL)";

/// What rule payer counts, asked of the database.
const SUMS: &str = "SELECT k.user_id, \
    (SELECT COUNT(*) FROM shop.orders o WHERE o.user_id = k.user_id AND state BETWEEN 1 AND 3), \
    (SELECT COALESCE(SUM(amount), 0.00) FROM shop.orders o WHERE o.user_id = k.user_id AND state BETWEEN 1 AND 3), \
    (SELECT COUNT(*) FROM shop.orders o WHERE o.user_id = k.user_id AND state = 6), \
    (SELECT COUNT(DISTINCT merchant_id) FROM shop.orders o WHERE o.user_id = k.user_id AND state BETWEEN 1 AND 3), \
    EXISTS (SELECT 1 FROM shop.users u WHERE u.user_id = k.user_id) \
    FROM (SELECT user_id FROM shop.users UNION SELECT user_id FROM shop.orders \
    WHERE user_id IS NOT NULL AND (state BETWEEN 1 AND 3 OR state = 6)) k";

/// Statements of every kind, at random.
fn statements(random: &mut Random, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        let (order, user) = (random.below(400), random.below(60));
        let (merchant, state, cents) = (random.below(9), random.below(8), random.below(900_000));
        let amount = format!("{}.{:02}", cents / 100, cents % 100);
        let values = format!("({order}, {user}, {merchant}, {state}, {amount})");
        let two = format!("{values}, ({}, {user}, {merchant}, 2, 1.00)", 1_000 + order);
        let line = match random.below(12) {
            0 => format!("INSERT IGNORE INTO shop.users VALUES ({user}, NULL)"),
            1 => format!("DELETE FROM shop.users WHERE user_id = {user}"),
            2 => format!("UPDATE shop.users SET user_id = user_id + 1000, note = 'x' WHERE user_id = {user}"),
            3 => format!("REPLACE INTO shop.orders VALUES {two}"),
            4 => format!(
                "INSERT INTO shop.orders VALUES {values} ON DUPLICATE KEY UPDATE state = {state}, amount = amount + 1"
            ),
            5 => format!("UPDATE shop.orders SET state = {state} WHERE user_id = {user}"),
            6 => format!("UPDATE shop.orders SET user_id = {user} WHERE order_id = {order}"),
            7 => format!("UPDATE shop.orders SET order_id = order_id + 5000 WHERE order_id = {order}"),
            8 => format!("DELETE FROM shop.orders WHERE order_id = {order}"),
            9 => format!(
                "BEGIN; REPLACE INTO shop.orders VALUES {two}; DELETE FROM shop.users WHERE user_id = {user}; ROLLBACK"
            ),
            10 => format!(
                "BEGIN; REPLACE INTO shop.orders VALUES {values}; INSERT IGNORE INTO shop.users VALUES ({user}, 'y'); COMMIT"
            ),
            _ => format!("INSERT IGNORE INTO shop.orders VALUES {two}"),
        };
        // A key that is taken already is no error here.
        let _ = writeln!(
            text,
            "{};",
            line.replacen("UPDATE", "UPDATE IGNORE", usize::from(line.starts_with("UPDATE")))
        );
    }
    text
}

/// The sums of the host, as the database prints its own; a row for each user, in no order.
fn sums(folder: &Folder) -> BTreeSet<String> {
    let csv = folder.retag(&["export", "aggregates", "payer", "-o", "csv"]).assert_ok().out;
    csv.lines().skip(1).map(|line| line.replace(',', "\t")).collect()
}

/// Waits until the host has what the database has; Maxwell tells nothing of how far it is.
fn equal(host: &mut Host, folder: &Folder, database: &MariaDb) {
    let expect: BTreeSet<String> = database.sql(SUMS).unwrap().lines().map(str::to_owned).collect();
    let begin = moment();
    let mut found = BTreeSet::new();
    while found != expect {
        let differ: Vec<_> = expect.symmetric_difference(&found).collect();
        assert!(begin.elapsed() < Duration::from_secs(60), "the database and the host differ in {differ:#?}");
        found = host.until("sums", || Some(sums(folder)));
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub(crate) fn sums_are_those_of_the_database() {
    let database = MariaDb::start().unwrap();
    let mut kafka = Kafka::start().unwrap();
    kafka.create_topic("shop", 1, &[]).unwrap();
    database.sql(TABLES).unwrap();
    let mut maxwell = Maxwell::start(&database, &kafka, "shop", &[]).unwrap();
    let folder = folder(&kafka, &["shop"], "");
    let mut random = Random(7);
    let mut host = follow(&folder);
    for round in 0..4 {
        database.sql(&statements(&mut random, 400)).unwrap();
        match round {
            0 => {
                host.signal("KILL");
                host.wait();
                host = follow(&folder);
            }
            1 => kafka.restart().unwrap(),
            2 => {
                maxwell.kill().unwrap();
                maxwell.restart().unwrap();
            }
            _ => {}
        }
    }
    equal(&mut host, &folder, &database);
    // What Maxwell sends again after a kill is recognised.
    let resent = |folder: &Folder| status(folder).unwrap()["totals"]["resent"].as_u64();
    for _ in 0..5 {
        let behind = ends(&kafka, "shop", 1)[0];
        database.sql(&statements(&mut random, 100)).unwrap();
        host.until("new messages", || (ends(&kafka, "shop", 1)[0] > behind).then_some(()));
        maxwell.kill().unwrap();
        maxwell.restart().unwrap();
        equal(&mut host, &folder, &database);
        if resent(&folder) > Some(0) {
            break;
        }
    }
    assert!(resent(&folder) > Some(0), "nothing was sent again");
    read_up_to(&mut host, &folder, &ends(&kafka, "shop", 1));
    let totals = &status(&folder).unwrap()["totals"];
    println!("{} changes, {} of them sent again", totals["changes"], totals["resent"]);
    assert!(totals["changes"].as_u64() > Some(1_000), "{totals}");
    end(host);
}
