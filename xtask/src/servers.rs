//! The real servers that tests use: brought into the user's cache, or looked at. How each is installed stands in
//! `tests/servers`.

use anyhow::{Result, bail};
use retag_servers::Server;
use retag_servers::install::{Outcome, check, install};

const USAGE: &str = "usage: cargo xtask servers install|check [NAME…]";

/// `servers install` or `servers check`, all of them or those named. One that fails does not keep the others from theirs.
///
/// # Errors
/// The arguments are none of these, or a server could not be installed or is not whole; each is named with the reason.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some((command, names)) = arguments.split_first() else { bail!("{USAGE}") };
    let mut chosen = names.iter().map(|name| Server::parse(name)).collect::<Result<Vec<_>>>()?;
    if chosen.is_empty() {
        chosen.extend(Server::ALL);
    }
    let attempt = match command.as_str() {
        "install" => installed,
        "check" => checked,
        other => bail!("unknown command `{other}`\n{USAGE}"),
    };
    let failed = each(&chosen, attempt);
    if !failed.is_empty() {
        bail!("{} of {} servers are missing: {}", failed.len(), chosen.len(), failed.join(", "));
    }
    Ok(())
}

/// Installs what tests use. What cannot be had is named here, and again in the line of each test that is skipped for it.
pub(crate) fn ready() {
    each(&Server::ALL, installed);
}

/// Tries each and prints what came of it; the names of those that failed.
fn each(servers: &[Server], attempt: fn(Server) -> Result<String>) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for server in servers {
        let name = server.name();
        match attempt(*server) {
            Ok(state) => println!("{name}: {state}"),
            Err(error) => {
                println!("{name}: {error:#}");
                failed.push(name);
            }
        }
    }
    failed
}

fn installed(server: Server) -> Result<String> {
    Ok(match install(server)? {
        Outcome::Present => "present".to_owned(),
        Outcome::Installed => format!("installed in {}", server.folder()?.display()),
    })
}

fn checked(server: Server) -> Result<String> {
    Ok(format!("{}, in {}", check(server)?, server.folder()?.display()))
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn what_is_no_command_or_no_server_is_told() {
        let error = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            run(&words).unwrap_err().to_string()
        };
        assert!(error(&[]).starts_with("usage:"));
        assert!(error(&["install", "kafak"]).contains("there are: kafka, mariadb"));
        assert!(error(&["instal"]).contains("unknown command `instal`"));
    }
}
