//! How each server is put together, and how one sees that it is whole.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::jars::Jars;
use super::{debs, need};
use crate::cache::{Server, java};
use crate::process::output;
use crate::{kafka, mariadb};

const KAFKA: Jars =
    Jars { pom: include_str!("../../kafka/pom.xml"), sums: include_str!("../../kafka/jars.sha256") };
const MAXWELL: Jars =
    Jars { pom: include_str!("../../maxwell/pom.xml"), sums: include_str!("../../maxwell/jars.sha256") };
/// A class of Java's former JavaScript engine that Maxwell loads and does not use.
const STUB: &str = include_str!("../../maxwell/ScriptObjectMirror.java");
/// Any id of a Kafka cluster.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";
const MARIADB: [&str; 5] =
    ["libaio1|libaio1t64", "liburing2", "libmariadb3", "mariadb-server-core", "mariadb-client-core"];
const REDIS: [&str; 4] = ["libjemalloc2", "liblzf1", "redis-server", "redis-tools"];
/// Before and after the statements that come with the server: one a line.
const SEED_HEAD: &str = "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n\
    SET @skip_auth_anonymous=1;\n";
const SEED_TAIL: &str = "FLUSH PRIVILEGES;\n\
    CREATE USER repl@'%' IDENTIFIED BY 'pw';\n\
    GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT ON *.* TO repl@'%';\n\
    CREATE USER adm@'%' IDENTIFIED BY 'pw';\n\
    GRANT ALL ON *.* TO adm@'%' WITH GRANT OPTION;\n";

/// Puts a server together in an empty folder, which it will not stay in.
pub(super) fn fill(server: Server, folder: &Path) -> Result<()> {
    match server {
        Server::Kafka => {
            need(&java("java"), "-version", "Java 17 or newer (`java`)")?;
            KAFKA.fetch(&folder.join("lib"))?;
            kafka_seed(folder)
        }
        Server::Maxwell => {
            need(&java("javac"), "-version", "a Java development kit, 17 or newer (`javac`)")?;
            MAXWELL.fetch(&folder.join("lib"))?;
            let source = folder.join("ScriptObjectMirror.java");
            std::fs::write(&source, STUB)?;
            let mut compile = Command::new(java("javac"));
            compile.arg("-d").arg(folder.join("stub")).arg(&source);
            output(&mut compile).context("compile a class that Maxwell lacks")?;
            Ok(())
        }
        Server::MariaDb => {
            debs::fetch(&MARIADB, folder)?;
            mariadb_seed(folder)
        }
        Server::Redis => debs::fetch(&REDIS, folder),
    }
}

/// Checks a folder that is in its place; the version.
pub(super) fn check(server: Server, folder: &Path) -> Result<String> {
    let version = |program: &str| {
        let mut command = Command::new(folder.join(program));
        let said = output(command.env("LD_LIBRARY_PATH", debs::libraries(folder)).arg("--version"))?;
        let words: Vec<&str> = said.split_whitespace().skip(1).collect();
        Ok::<_, anyhow::Error>(words.join(" "))
    };
    match server {
        Server::Kafka => {
            KAFKA.check(&folder.join("lib"))?;
            std::fs::read_dir(folder.join("seed"))?;
            Ok("4.3.1".to_owned())
        }
        Server::Maxwell => {
            MAXWELL.check(&folder.join("lib"))?;
            std::fs::read_dir(folder.join("stub"))?;
            Ok("1.22.6".to_owned())
        }
        Server::MariaDb => {
            std::fs::read_dir(folder.join("seed"))?;
            version("usr/bin/mariadb")?;
            version("usr/sbin/mariadbd")
        }
        Server::Redis => {
            version("usr/bin/redis-cli")?;
            version("usr/bin/redis-server")
        }
    }
}

/// The formatted log folder that every broker begins with.
fn kafka_seed(folder: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let properties = work.path().join("properties");
    std::fs::write(&properties, kafka::settings(0, &folder.join("seed")))?;
    let mut format = kafka::program(folder, 128);
    format
        .args(["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER_ID, "-c"])
        .arg(&properties);
    output(&mut format).context("format a log folder for Kafka")?;
    Ok(())
}

/// The data folder that every server begins with: system tables and users.
fn mariadb_seed(folder: &Path) -> Result<()> {
    let (seed, work) = (folder.join("seed"), tempfile::tempdir()?);
    std::fs::create_dir_all(seed.join("mysql"))?;
    let mut statements = SEED_HEAD.to_owned();
    for name in ["mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"] {
        let path = folder.join("usr/share/mysql").join(name);
        statements += &std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    }
    let input = work.path().join("seed.sql");
    std::fs::write(&input, statements + SEED_TAIL)?;
    let mut bootstrap = mariadb::program(folder);
    bootstrap.args(["--bootstrap", "--skip-name-resolve", "--log-warnings=0", "--enforce-storage-engine="]);
    bootstrap.arg("--innodb-log-file-size=4M").arg(format!("--datadir={}", seed.display()));
    bootstrap.arg(format!("--tmpdir={}", work.path().display()));
    bootstrap.stdin(Stdio::from(std::fs::File::open(&input)?));
    output(&mut bootstrap).context("make the system tables of MariaDB")?;
    Ok(())
}
