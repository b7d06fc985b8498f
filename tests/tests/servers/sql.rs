//! A shop in a database: statements of every kind at random, and what the database itself answers about sums and labels.

use retag_servers::MariaDb;
use retag_tests::simulation::{LabelSets, Random};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Its tables. The columns are of types that Maxwell carries truthfully; rules read some of them.
pub(crate) const TABLES: &str = "CREATE DATABASE shop; USE shop; \
    CREATE TABLE users (user_id BIGINT UNSIGNED PRIMARY KEY, note VARCHAR(20), born DATE, kind SET('a','b','c')); \
    CREATE TABLE orders (order_id BIGINT UNSIGNED PRIMARY KEY, user_id BIGINT UNSIGNED, merchant_id BIGINT NOT NULL, \
    state INT NOT NULL, amount DECIMAL(12,2) NOT NULL, ctime DATETIME NOT NULL, mtime TIMESTAMP NULL, \
    weight DOUBLE, flags BIT(3), memo TEXT, KEY (user_id)); \
    CREATE TABLE red_packets (packet_id BIGINT UNSIGNED PRIMARY KEY, sender_id BIGINT UNSIGNED NOT NULL, \
    receiver_id BIGINT UNSIGNED, amount DECIMAL(12,2) NOT NULL, state ENUM('SENT','OPENED','RETURNED') NOT NULL, \
    KEY (sender_id), KEY (receiver_id))";

/// What rules count, by rule, asked of the database: rows as exports print them, but for the header and the separator.
const SUMS: [(&str, &str); 3] = [
    (
        "payer",
        "SELECT user_id, SUM(paid), SUM(IF(paid, amount, 0.00)), SUM(refunded), COUNT(DISTINCT IF(paid, merchant_id, NULL)), \
        MAX(registered) FROM (SELECT user_id, state BETWEEN 1 AND 3 paid, amount, state = 6 refunded, merchant_id, \
        0 registered FROM shop.orders WHERE user_id IS NOT NULL AND (state BETWEEN 1 AND 3 OR state = 6) UNION ALL \
        SELECT user_id, 0, 0.00, 0, NULL, 1 FROM shop.users) k GROUP BY user_id",
    ),
    (
        "red_packet",
        "SELECT user_id, SUM(sent), SUM(received), SUM(sent_count), SUM(received_count) FROM (\
        SELECT sender_id user_id, amount sent, 0.00 received, 1 sent_count, 0 received_count FROM shop.red_packets \
        WHERE state <> 'RETURNED' UNION ALL SELECT receiver_id, 0.00, amount, 0, 1 FROM shop.red_packets \
        WHERE state <> 'RETURNED' AND receiver_id IS NOT NULL) k GROUP BY user_id",
    ),
    (
        "senior",
        "SELECT user_id, DATE_FORMAT(MIN(ctime), '%Y-%m-%d %H:%i:%s.000000') FROM shop.orders WHERE user_id IS NOT NULL \
        GROUP BY user_id",
    ),
];

/// Labels that follow from the sums, by rule: columns user, label, value.
const LABELS: [(&str, &[&str], &str); 3] = [
    (
        "payer",
        &["user_id", "paid", "spent", "refunded", "merchants", "registered"],
        "SELECT user_id, 'never_paid', NULL FROM sums WHERE registered AND paid = 0 \
        UNION ALL SELECT user_id, 'big_spender', NULL FROM sums WHERE spent >= 5000.00 \
        UNION ALL SELECT user_id, 'refunder', NULL FROM sums WHERE refunded > 0 \
        UNION ALL SELECT user_id, 'tier', IF(spent >= 10000.00, 'gold', 'silver') FROM sums WHERE spent >= 2000.00",
    ),
    (
        "red_packet",
        &["user_id", "sent", "received", "sent_count", "received_count"],
        "SELECT user_id, 'generous', NULL FROM sums WHERE sent >= 200.00 \
        UNION ALL SELECT user_id, 'only_takes', NULL FROM sums WHERE received_count > 0 AND sent_count = 0 \
        UNION ALL SELECT user_id, 'balance', IF(sent > received, 'giver', 'taker') FROM sums WHERE sent <> received",
    ),
    (
        "senior",
        &["user_id", "first"],
        "SELECT user_id, 'senior', NULL FROM sums WHERE first < UTC_TIMESTAMP() - INTERVAL 7 DAY",
    ),
];

/// Names of the rules.
pub(crate) fn rules() -> impl Iterator<Item = &'static str> {
    SUMS.iter().map(|(rule, _)| *rule)
}

/// The sums of a rule, one row a user, columns separated by tabs.
pub(crate) fn sums(database: &MariaDb, rule: &str) -> BTreeSet<String> {
    let (_, query) = SUMS.iter().find(|(name, _)| *name == rule).unwrap();
    database.sql(query).unwrap().lines().map(str::to_owned).collect()
}

/// The labels of all users that have some.
pub(crate) fn labels(database: &MariaDb) -> LabelSets {
    let mut sets = LabelSets::new();
    for ((_, sums), (_, columns, query)) in SUMS.iter().zip(&LABELS) {
        let query = format!("WITH sums ({}) AS ({sums}) {query}", columns.join(", "));
        for line in database.sql(&query).unwrap().lines() {
            let [user, label, value] = *line.split('\t').collect::<Vec<_>>() else { panic!("{line}") };
            let value = (value != "NULL").then(|| value.to_owned());
            let set = sets.entry(("user".to_owned(), user.to_owned())).or_default();
            set.insert(label.to_owned(), value);
        }
    }
    sets
}

/// Statements of every kind, at random, and how many of each there were.
pub(crate) struct Workload {
    random: Random,
    /// Size of the shop.
    users: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Workload {
    pub(crate) fn new(seed: u64, users: u64) -> Self {
        Self { random: Random(seed), users, counts: BTreeMap::new() }
    }

    /// The next statements. A key that is taken already is no error in them.
    pub(crate) fn next(&mut self, count: usize) -> String {
        let mut text = String::from("USE shop;\n");
        for _ in 0..count {
            let kind = self.random.below(24);
            let (name, statement) = match kind {
                0..=4 => self.of_users(kind),
                5..=14 => self.of_orders(kind),
                15..=19 => self.of_packets(kind),
                _ => self.transaction(kind),
            };
            *self.counts.entry(name).or_default() += 1;
            let _ = writeln!(text, "{statement};");
        }
        text
    }

    fn user(&mut self) -> u64 {
        self.random.below(self.users)
    }

    fn order(&mut self) -> u64 {
        self.random.below(self.users * 7)
    }

    fn money(&mut self, most_cents: u64) -> String {
        let cents = self.random.below(most_cents);
        format!("{}.{:02}", cents / 100, cents % 100)
    }

    /// Values of an order; its time is years ago or within the last days.
    fn order_values(&mut self, order: u64) -> String {
        let (user, merchant, state) = (self.user(), self.random.below(9), self.random.below(8));
        let (amount, minutes) = (self.money(400_000), self.random.below(2_000));
        let user = if self.random.below(40) == 0 { "NULL".to_owned() } else { user.to_string() };
        let ctime = match self.random.below(3) {
            0 => format!("'2020-02-29 23:59:59' + INTERVAL {minutes} MINUTE"),
            _ => format!("UTC_TIMESTAMP() - INTERVAL {minutes} MINUTE"),
        };
        let memo = ["NULL", "''", "'it''s \\\"quoted\\\" \\\\ and \\n a line'", "'café ☕ 漢'"]
            [(minutes % 4) as usize];
        format!(
            "({order}, {user}, {merchant}, {state}, {amount}, {ctime}, NULL, {minutes} / 7, b'101', {memo})"
        )
    }

    fn of_users(&mut self, kind: u64) -> (&'static str, String) {
        let user = self.user();
        match kind {
            0 => ("insert", format!("INSERT IGNORE INTO users VALUES ({user}, NULL, '1999-12-31', 'a,c')")),
            1 => (
                "insert-rows",
                format!("INSERT IGNORE INTO users (user_id) VALUES ({user}), ({}), ({})", user + 1, user + 2),
            ),
            2 => ("delete", format!("DELETE FROM users WHERE user_id = {user}")),
            3 => (
                "key-change",
                format!(
                    "UPDATE IGNORE users SET user_id = user_id + {}, note = 'moved' WHERE user_id = {user}",
                    self.users
                ),
            ),
            _ => ("no-op", format!("UPDATE users SET note = note WHERE user_id = {user}")),
        }
    }

    fn of_orders(&mut self, kind: u64) -> (&'static str, String) {
        let (order, user, state) = (self.order(), self.user(), self.random.below(8));
        let (first, second) = (self.order_values(order), self.order_values(order + 1));
        match kind {
            5 | 6 => ("insert-rows", format!("INSERT IGNORE INTO orders VALUES {first}, {second}")),
            7 => ("replace", format!("REPLACE INTO orders VALUES {first}, {second}")),
            8 => (
                "on-duplicate-key",
                format!(
                    "INSERT INTO orders VALUES {first}, {second} ON DUPLICATE KEY UPDATE state = {state}, amount = amount + 1"
                ),
            ),
            9 => ("update", format!("UPDATE orders SET state = {state} WHERE order_id = {order}")),
            10 => (
                "update-rows",
                format!("UPDATE orders SET state = {state}, memo = 'x' WHERE user_id = {user}"),
            ),
            11 => ("owner-change", format!("UPDATE orders SET user_id = {user} WHERE order_id = {order}")),
            12 => (
                "key-change",
                format!(
                    "UPDATE IGNORE orders SET order_id = order_id + {} WHERE order_id = {order}",
                    self.users * 7
                ),
            ),
            13 => (
                "delete-rows",
                format!("DELETE FROM orders WHERE user_id = {user} ORDER BY order_id LIMIT 2"),
            ),
            _ => (
                "join-update",
                format!(
                    "UPDATE orders o JOIN users u USING (user_id) SET o.amount = o.amount + 0.01, u.note = 'both' \
                    WHERE u.user_id = {user}"
                ),
            ),
        }
    }

    fn of_packets(&mut self, kind: u64) -> (&'static str, String) {
        let (packet, sender, receiver) = (self.order(), self.user(), self.user());
        let amount = self.money(9_000);
        match kind {
            15 => (
                "replace",
                format!("REPLACE INTO red_packets VALUES ({packet}, {sender}, NULL, {amount}, 'SENT')"),
            ),
            16 => (
                "update",
                format!(
                    "UPDATE red_packets SET receiver_id = {receiver}, state = 'OPENED' WHERE packet_id = {packet}"
                ),
            ),
            17 => (
                "update-rows",
                format!("UPDATE red_packets SET state = 'RETURNED' WHERE sender_id = {sender}"),
            ),
            18 => ("delete-rows", format!("DELETE FROM red_packets WHERE receiver_id = {receiver}")),
            _ => (
                "insert-select",
                format!(
                    "INSERT IGNORE INTO red_packets SELECT order_id, COALESCE(user_id, 0), {receiver}, amount, 'OPENED' \
                    FROM orders WHERE user_id = {sender}"
                ),
            ),
        }
    }

    fn transaction(&mut self, kind: u64) -> (&'static str, String) {
        let (order, user) = (self.order(), self.user());
        let (first, second) = (self.order_values(order), self.order_values(order + 3));
        let replace = format!("REPLACE INTO orders VALUES {first}, {second}");
        let rest = format!("DELETE FROM users WHERE user_id = {user}");
        match kind {
            20 => ("rollback", format!("BEGIN; {replace}; {rest}; ROLLBACK")),
            21 => (
                "savepoint",
                format!(
                    "BEGIN; {replace}; SAVEPOINT s; {rest}; ROLLBACK TO s; DELETE FROM orders WHERE order_id = {order}; COMMIT"
                ),
            ),
            22 => (
                "there-and-back",
                format!(
                    "BEGIN; UPDATE orders SET amount = amount + 5 WHERE order_id = {order}; \
                    UPDATE orders SET amount = amount - 5 WHERE order_id = {order}; COMMIT"
                ),
            ),
            _ => (
                "transaction",
                format!("BEGIN; {replace}; INSERT IGNORE INTO users (user_id) VALUES ({user}); COMMIT"),
            ),
        }
    }
}
