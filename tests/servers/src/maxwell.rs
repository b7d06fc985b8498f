//! Maxwell, which reads the binlog of a [`MariaDb`] and writes messages to a topic of a [`Kafka`].
//!
//! It keeps where it is in database `maxwell` of the server, so a new one goes on where another was killed.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::cache::{Server, java};
use crate::folder;
use crate::kafka::{JAVA_OPTIONS, Kafka};
use crate::mariadb::MariaDb;
use crate::process::{Process, Service};

/// Messages carry change ids (`position`, `server_id`, `xoffset` or `commit`) and primary keys, and none is dropped when the
/// broker is away.
const SETTINGS: &str = "host=127.0.0.1\nuser=adm\npassword=pw\nreplica_server_id=6379\nproducer=kafka\n\
    kafka.acks=all\nkafka.retries=10\nignore_producer_error=false\noutput_binlog_position=true\n\
    output_server_id=true\noutput_xoffset=true\noutput_primary_keys=true\n";
/// What it writes when it follows the binlog.
const READY: &str = "Binlog connected";

/// A running Maxwell.
pub struct Maxwell {
    process: Process,
}

impl Maxwell {
    /// Starts one that writes to `topic`, which must be there. `own` are further settings of its configuration file, such as
    /// `("output_ddl", "true")` or `("kafka.compression.type", "lz4")`; the last of a name counts.
    ///
    /// # Errors
    /// It is not installed or does not come up; the message ends with its log.
    pub fn start(database: &MariaDb, kafka: &Kafka, topic: &str, own: &[(&str, &str)]) -> Result<Self> {
        let installed = Server::Maxwell.installed()?;
        let home = folder::temporary("maxwell")?;
        let settings = home.path().join("settings");
        let mut text = format!(
            "{SETTINGS}port={}\nkafka.bootstrap.servers={}\nkafka_topic={topic}\n",
            database.port(),
            kafka.bootstrap()
        );
        text.extend(own.iter().map(|(name, value)| format!("{name}={value}\n")));
        std::fs::write(&settings, text)?;
        let mut command = Command::new(java("java"));
        command.arg("-Xmx256m").args(JAVA_OPTIONS).arg("-cp");
        command.arg(format!("{0}/stub:{0}/lib/*", installed.display()));
        command.arg("com.zendesk.maxwell.Maxwell").arg(format!("--config={}", settings.display()));
        let mut maxwell = Self { process: Process::new("maxwell", home, command)? };
        maxwell.restart()?;
        Ok(maxwell)
    }
}

impl Service for Maxwell {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// It has no port to ask: its log says it. (The server's list of connections would not do: it still shows one that was
    /// killed.)
    fn answers(&mut self) -> Result<()> {
        ensure!(self.process.log().contains(READY), "it does not follow the binlog yet");
        Ok(())
    }
}
