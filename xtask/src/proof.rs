//! `bench swaps`, `bench reads`, `bench redis`, `bench topic` and `bench rules`: builds the host and the program that drives it, and runs it.
//! What is measured and how it is judged stands in `tests/src/proof`; docs/performance.md says how to read it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{binary, cargo, run as run_command, target_dir};
use crate::{ready, servers};

/// Proofs, by their names.
const NAMES: [&str; 5] = ["swaps", "reads", "redis", "topic", "rules"];

/// Runs a proof. `--dev` among the arguments takes the binaries of the dev profile, whose figures say nothing.
///
/// # Errors
/// It does not build, something differs from the model, or a bar was not held.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<()> {
    if !NAMES.contains(&name) {
        bail!("unknown bench `{name}`: there are kafka, {}, and the one without a name", NAMES.join(", "));
    }
    let (is_dev, rest) = without_dev(arguments);
    ready::wasm_target()?;
    let mut build = cargo(["build", "-p", "retag-host", "-p", "retag-tests", "--bins"]);
    if name == "topic" {
        build.args(["--features", "retag-host/kafka"]);
    }
    if !is_dev {
        build.arg("--release");
    }
    run_command(&mut build)?;
    let server = match name {
        "redis" => Some("redis"),
        "topic" => Some("kafka"),
        _ => None,
    };
    if let Some(server) = server {
        servers::run(&["install".to_owned(), server.to_owned()])?;
    }
    let profile = if is_dev { "debug" } else { "release" };
    let dir = target_dir().join(format!("bench-{name}"));
    std::fs::create_dir_all(&dir)?;
    let mut proof = Command::new(binary(profile, "proof"));
    proof.arg(name).arg("--retag").arg(binary(profile, "retag")).arg("--dir").arg(&dir).args(rest);
    run_command(&mut proof)?;
    if is_dev {
        println!("\nof the dev profile: no figure here says anything about the host");
    }
    Ok(())
}

/// Whether `--dev` is there, and the other arguments.
fn without_dev(arguments: &[String]) -> (bool, Vec<&String>) {
    let rest: Vec<&String> = arguments.iter().filter(|argument| *argument != "--dev").collect();
    (rest.len() < arguments.len(), rest)
}

#[cfg(test)]
mod tests {
    use super::{run, without_dev};

    #[test]
    fn dev_is_a_switch_and_names_are_known() {
        let arguments = ["--rate", "7", "--dev"].map(str::to_owned);
        let (is_dev, rest) = without_dev(&arguments);
        assert!(is_dev);
        assert_eq!(rest, ["--rate", "7"]);
        assert!(!without_dev(&arguments[..2]).0);
        assert!(run("swap", &[]).unwrap_err().to_string().contains("swaps, reads, redis, topic, rules"));
    }
}
