//! One MariaDB server, asked through its own client.

use retag_servers::{MariaDb, Service as _};

pub(crate) fn a_stopped_and_a_killed_server_come_back_with_port_and_data() {
    let mut server = MariaDb::start().unwrap();
    let port = server.port();
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(20))").unwrap();
    server.sql("INSERT INTO shop.t VALUES (1, 'café'), (2, NULL)").unwrap();
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(server.sql("SELECT * FROM shop.t ORDER BY id").unwrap(), "1\tcafé\n2\tNULL\n");
    server.sql("UPDATE shop.t SET name = 'two' WHERE id = 2").unwrap();
    server.kill().unwrap();
    assert!(server.sql("SELECT 1").is_err());
    server.restart().unwrap();
    assert_eq!(server.sql("SELECT * FROM shop.t ORDER BY id").unwrap(), "1\tcafé\n2\ttwo\n");
    let settings = "SELECT @@binlog_format, @@binlog_row_image, @@log_bin, @@port";
    assert_eq!(server.sql(settings).unwrap(), format!("ROW\tFULL\t1\t{port}\n"));
}

pub(crate) fn a_statement_that_fails_is_told() {
    let server = MariaDb::start_with(&["--binlog-row-metadata=FULL"]).unwrap();
    assert_eq!(server.sql("SELECT @@binlog_row_metadata").unwrap(), "FULL\n");
    let error = server.sql("SELECT 1; SELECT * FROM nowhere.nothing; SELECT 2").unwrap_err().to_string();
    assert!(error.contains("ERROR 1146") && error.contains("nowhere.nothing"), "{error}");
    // More than a pipe holds, both ways.
    let many = format!("SELECT '{}';\n", "x".repeat(1000)).repeat(2000);
    assert_eq!(server.sql(&many).unwrap().lines().count(), 2000);
}
