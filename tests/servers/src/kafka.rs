//! One Kafka broker that is its own controller (KRaft). Topics are not made by themselves.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cache::{Server, java};
use crate::folder;
use crate::port::Port;
use crate::process::{self, Process, Service};
use crate::wire;

const SETTINGS: &str = include_str!("../kafka/server.properties");
const LOGGING: &str = include_str!("../kafka/log4j2.properties");
/// Fast to start rather than fast at its peak.
pub(crate) const JAVA_OPTIONS: [&str; 2] = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
/// Loaded classes of a broker, in its folder.
const CLASSES: &str = "classes.jsa";

/// Settings of a broker that listens on `port` and keeps its data in `data`.
pub(crate) fn settings(port: u16, data: &Path) -> String {
    format!(
        "{SETTINGS}listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:0\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\n",
        data.display()
    )
}

/// The settings with a listener `SECURED` more.
fn with_listener(settings: &str, port: u16, protocol: &str) -> String {
    let lines = settings.lines().map(|line| match line.split_once('=') {
        Some(("listeners" | "advertised.listeners", _)) => format!("{line},SECURED://127.0.0.1:{port}\n"),
        Some(("listener.security.protocol.map", _)) => format!("{line},SECURED:{protocol}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// `java` with Kafka's jars, a heap of at most `heap_mb`.
pub(crate) fn program(installed: &Path, heap_mb: u32) -> Command {
    let mut command = Command::new(java("java"));
    command.arg(format!("-Xmx{heap_mb}m")).args(JAVA_OPTIONS).arg("-cp").arg(installed.join("lib/*"));
    command
}

/// A broker.
pub struct Kafka {
    process: Process,
    port: Port,
    /// Of the listener that asks who comes.
    secured: Option<Port>,
    installed: PathBuf,
}

impl Kafka {
    /// Starts one with an empty log.
    ///
    /// # Errors
    /// It is not installed or does not come up; the message ends with its log.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with settings of its own, for example `("message.max.bytes", "1000")`.
    ///
    /// # Errors
    /// As for [`Kafka::start`].
    pub fn start_with(own: &[(&str, &str)]) -> Result<Self> {
        Self::start_listening(own, None)
    }

    /// Starts one that listens on a second port with `protocol` (`SASL_PLAINTEXT`, `SASL_SSL`), whose settings are named
    /// `listener.name.secured.…`.
    ///
    /// # Errors
    /// As for [`Kafka::start`].
    pub fn start_secured(protocol: &str, own: &[(&str, &str)]) -> Result<Self> {
        Self::start_listening(own, Some(protocol))
    }

    fn start_listening(own: &[(&str, &str)], protocol: Option<&str>) -> Result<Self> {
        let installed = Server::Kafka.installed()?;
        // Where it is not there, or another Java made it, classes are loaded as ever.
        let classes = format!("-XX:SharedArchiveFile={}", installed.join(CLASSES).display());
        Self::up(installed, own, &classes, protocol)
    }

    /// Starts and stops one so that later ones find their classes loaded: a start then takes two thirds of the time.
    pub(crate) fn archive_classes(installed: &Path) -> Result<()> {
        let (unfinished, finished) = (installed.join("unfinished.jsa"), installed.join(CLASSES));
        let classes = format!("-XX:ArchiveClassesAtExit={}", unfinished.display());
        Self::up(installed.to_owned(), &[], &classes, None)?.stop()?;
        std::fs::rename(unfinished, finished).context("no archive of classes")
    }

    fn up(
        installed: PathBuf,
        own: &[(&str, &str)],
        java_option: &str,
        protocol: Option<&str>,
    ) -> Result<Self> {
        let (home, port) = (folder::temporary("kafka")?, Port::reserve()?);
        let data = home.path().join("data");
        folder::copy(&installed.join("seed"), &data)?;
        let (properties, logging) = (home.path().join("properties"), home.path().join("log4j2.properties"));
        let mut text = settings(port.number, &data);
        let secured = protocol.map(|_| Port::reserve()).transpose()?;
        if let (Some(protocol), Some(secured)) = (protocol, &secured) {
            text = with_listener(&text, secured.number, protocol);
        }
        text.extend(own.iter().map(|(name, value)| format!("{name}={value}\n")));
        std::fs::write(&properties, text)?;
        std::fs::write(&logging, LOGGING)?;
        let mut command = Command::new(java("java"));
        command.args(["-Xms64m", "-Xmx512m"]).args(JAVA_OPTIONS).arg(java_option);
        command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
        command.arg("-cp").arg(installed.join("lib/*")).arg("kafka.Kafka").arg(&properties);
        let process = Process::new("kafka", home, command)?;
        let mut kafka = Self { process, port, secured, installed };
        kafka.restart()?;
        Ok(kafka)
    }

    /// `bootstrap.servers` for clients.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port.number)
    }

    /// `bootstrap.servers` for clients that say who they are; that of everybody where nobody is asked.
    #[must_use]
    pub fn secured(&self) -> String {
        format!("127.0.0.1:{}", self.secured.as_ref().unwrap_or(&self.port).number)
    }

    /// The log of a partition, as it lies on the disk from its first message on.
    #[must_use]
    pub fn log(&self, topic: &str, partition: i32) -> Option<PathBuf> {
        let of_partition = format!("data/{topic}-{partition}/00000000000000000000.log");
        Some(self.process.folder()?.join(of_partition))
    }

    /// Makes a topic with topic settings such as `("cleanup.policy", "compact")`, and waits until clients can use it.
    ///
    /// # Errors
    /// The broker refuses, with its own reason, or does not answer.
    pub fn create_topic(&self, name: &str, partitions: i32, own: &[(&str, &str)]) -> Result<()> {
        wire::create_topic(self.port.number, name, partitions, own)?;
        self.until_partitions(name, partitions)
    }

    /// Removes a topic, and waits until no client sees it any more.
    ///
    /// # Errors
    /// The broker refuses or does not answer.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        wire::delete_topic(self.port.number, name)?;
        self.until_partitions(name, 0)
    }

    /// How many partitions with a leader a topic has; 0 where there is none.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn partitions(&self, name: &str) -> Result<i32> {
        Ok(wire::metadata(self.port.number, &[name])?.partitions)
    }

    fn until_partitions(&self, name: &str, wanted: i32) -> Result<()> {
        process::until(&format!("topic {name} has {wanted} partitions"), || {
            Ok(self.partitions(name)? == wanted)
        })
    }

    /// Writes a file's lines as messages without keys, spread over the partitions, with settings of the producer such as
    /// `("compression.type", "lz4")`.
    ///
    /// # Errors
    /// The producer fails; the message holds what it wrote.
    pub fn produce_lines(&self, topic: &str, file: &Path, own: &[(&str, &str)]) -> Result<()> {
        let mut command = program(&self.installed, 256);
        command.arg("org.apache.kafka.tools.ConsoleProducer").args(["--bootstrap-server", &self.bootstrap()]);
        command.args(["--topic", topic]);
        for (name, value) in own {
            command.arg("--producer-property").arg(format!("{name}={value}"));
        }
        let input = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
        process::output(command.stdin(input)).map(drop)
    }

    /// A consumer that prints the committed messages of partition 0 from the first on, each value on a line, until it is killed.
    #[must_use]
    pub fn follow(&self, topic: &str) -> Command {
        let mut command = program(&self.installed, 256);
        command.arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
        command.args(["--bootstrap-server", &self.bootstrap(), "--topic", topic, "--partition", "0"]);
        command.args(["--offset", "earliest", "--isolation-level", "read_committed"]);
        command
    }

    /// Runs one of Kafka's own tools, for example `org.apache.kafka.tools.TopicCommand` with `["--list"]`; the address of
    /// the broker is added. `input` is its standard input. What it prints.
    ///
    /// # Errors
    /// It fails; the message holds what it wrote.
    pub fn tool(&self, class: &str, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = program(&self.installed, 128);
        command.arg(class).args(["--bootstrap-server", &self.bootstrap()]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {class}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).with_context(|| format!("write to {class}"))?;
        }
        let output = child.wait_with_output()?;
        let [said, complained] =
            [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
        if !output.status.success() {
            // The reason comes first, behind it much help.
            let reason: Vec<&str> = complained.lines().chain(said.lines()).take(10).collect();
            bail!("{class} failed ({}): {}", output.status, reason.join("\n"));
        }
        Ok(said)
    }
}

impl Service for Kafka {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn answers(&mut self) -> Result<()> {
        // A broker that starts answers before it is one: it then knows of no broker.
        if wire::metadata(self.port.number, &[])?.brokers == 0 {
            bail!("the broker has not joined yet");
        }
        Ok(())
    }
}
