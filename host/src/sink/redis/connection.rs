//! A connection to one server or to a cluster, and the scripts that it runs.

use super::script::{SCRIPTS, Script};
use crate::sink::SinkError;
use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{Cmd, Connection as Single, ErrorKind, FromRedisValue, RedisError, Value};
use std::time::Duration;

/// How long a connection may take to come about, and an answer to come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a cluster's client looks for the node of a slot by itself.
const CLUSTER_RETRIES: u32 = 3;

/// Where the servers are.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) sink: String,
    /// `redis://…`, with their secrets.
    pub(super) urls: Vec<String>,
    pub(super) cluster: bool,
    /// The same for people.
    pub(super) shown: String,
}

/// The connection.
pub(super) struct Connection {
    target: Target,
    link: Link,
}

/// Commands on their way to a server, which works on them meanwhile.
pub(super) struct Sent<T> {
    commands: Vec<Cmd>,
    /// Of a cluster, which is waited for at once.
    answers: Option<Vec<T>>,
}

enum Link {
    Single(Box<Single>),
    Cluster(Box<ClusterConnection>),
}

impl Target {
    pub(super) fn away(&self, reason: impl ToString) -> SinkError {
        SinkError::Away {
            sink: self.sink.clone(),
            target: format!("Redis at {}", self.shown),
            reason: reason.to_string(),
        }
    }

    pub(super) fn refused(&self, code: &'static str, message: String) -> SinkError {
        SinkError::Refused { sink: self.sink.clone(), code, message }
    }

    /// What an error of the client means.
    pub(super) fn error(&self, error: &RedisError) -> SinkError {
        // The server's words may name the user, never the password.
        match code(error).as_str() {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => {
                let why = "set user and password of `url` (a secret: { env = \"NAME\" }), and the rights of docs/redis.md";
                self.refused("redis-auth", format!("Redis at {} refuses: {error}; {why}", self.shown))
            }
            "WRONGTYPE" => self.refused(
                "redis-foreign",
                format!(
                    "Redis at {} has something else under names of this sink: {error}; set another `prefix`",
                    self.shown
                ),
            ),
            _ if error.kind() == ErrorKind::AuthenticationFailed => self.refused(
                "redis-auth",
                format!("Redis at {} refuses the user or password of `url`; mend it", self.shown),
            ),
            _ => self.away(error),
        }
    }
}

impl Connection {
    /// Connects, and brings the scripts.
    pub(super) fn open(target: &Target) -> Result<Self, SinkError> {
        let link = if target.cluster { cluster(target) } else { single(target) };
        let link = link.map_err(|error| target.error(&error))?;
        let mut connection = Self { target: target.clone(), link };
        connection.bring_scripts()?;
        Ok(connection)
    }

    fn bring_scripts(&mut self) -> Result<(), SinkError> {
        for script in SCRIPTS {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script.text);
            let done = match &mut self.link {
                Link::Single(single) => load.query::<Value>(single).map(|_| ()),
                Link::Cluster(cluster) => {
                    let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                    cluster.route_command(&load, all).map(|_| ())
                }
            };
            done.map_err(|error| self.target.error(&error))?;
        }
        Ok(())
    }

    /// Runs commands at once; their answers in their order.
    pub(super) fn run<T: FromRedisValue>(&mut self, commands: &[Cmd]) -> Result<Vec<T>, SinkError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let answers = match self.ask(commands) {
            // A server that was started anew, or has joined, does not know the scripts; commands may be run again.
            Err(error) if code(&error) == "NOSCRIPT" => {
                self.bring_scripts()?;
                self.ask(commands)
            }
            answers => answers,
        };
        answers.map_err(|error| self.target.error(&error))
    }

    /// Sends commands; nothing else may be run before they are received.
    pub(super) fn send<T: FromRedisValue>(&mut self, commands: Vec<Cmd>) -> Result<Sent<T>, SinkError> {
        let Link::Single(single) = &mut self.link else {
            let answers = self.run(&commands)?;
            return Ok(Sent { commands, answers: Some(answers) });
        };
        let mut bytes = Vec::new();
        for command in &commands {
            bytes.append(&mut command.get_packed_command());
        }
        single.send_packed_command(&bytes).map_err(|error| self.target.error(&error))?;
        Ok(Sent { commands, answers: None })
    }

    /// The answers to what was sent, in their order.
    pub(super) fn receive<T: FromRedisValue>(&mut self, sent: Sent<T>) -> Result<Vec<T>, SinkError> {
        let Sent { commands, answers } = sent;
        let answers: Result<Vec<Value>, RedisError> = match (answers, &mut self.link) {
            (Some(answers), _) => return Ok(answers),
            (None, Link::Cluster(_)) => return self.run(&commands),
            // Where one answer does not come, no further one does: the connection is given up.
            (None, Link::Single(single)) => commands.iter().map(|_| single.recv_response()).collect(),
        };
        let answers = answers.and_then(|answers| {
            let read = |answer: Value| Ok(T::from_redis_value(answer.extract_error()?)?);
            answers.into_iter().map(read).collect()
        });
        match answers {
            Err(error) if code(&error) == "NOSCRIPT" => self.run(&commands),
            answers => answers.map_err(|error| self.target.error(&error)),
        }
    }

    fn ask<T: FromRedisValue>(&mut self, commands: &[Cmd]) -> Result<Vec<T>, RedisError> {
        match &mut self.link {
            Link::Single(single) => {
                let mut pipe = redis::Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipe.add_command(command.clone());
                }
                pipe.query(single)
            }
            Link::Cluster(cluster) => {
                let mut pipe = cluster_pipe();
                for command in commands {
                    pipe.add_command(command.clone());
                }
                pipe.query(cluster)
            }
        }
    }
}

/// The code of the first error that the server answered; empty where it answered none.
fn code(error: &RedisError) -> String {
    let errors = error.clone().into_server_errors();
    let first = errors.as_ref().and_then(|errors| errors.first());
    first.map_or_else(String::new, |(_, error)| error.code().to_owned())
}

impl Script {
    /// The command that runs it.
    pub(super) fn on(&self, keys: &[&str]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.digest()).arg(keys.len());
        for key in keys {
            command.arg(*key);
        }
        command
    }
}

fn single(target: &Target) -> Result<Link, RedisError> {
    let mut last = None;
    for url in &target.urls {
        let opened = redis::Client::open(url.as_str())
            .and_then(|client| client.get_connection_with_timeout(CONNECT_TIMEOUT));
        match opened {
            Ok(connection) => {
                connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                return Ok(Link::Single(Box::new(connection)));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| RedisError::from((ErrorKind::InvalidClientConfig, "no url"))))
}

fn cluster(target: &Target) -> Result<Link, RedisError> {
    let client = ClusterClient::builder(target.urls.iter().map(String::as_str))
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(ANSWER_TIMEOUT)
        .retries(CLUSTER_RETRIES)
        .build()?;
    Ok(Link::Cluster(Box::new(client.get_connection()?)))
}
