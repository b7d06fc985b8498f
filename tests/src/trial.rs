//! The harness of tests that need real servers: where one is not installed, a test is skipped in its own line, with the
//! reason, and counted. In everything else such a binary behaves like one of `#[test]`s (filters, `--list`, `--exact`).
//!
//! A test fails by panicking: servers that are dropped in a panic leave their log behind.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

pub use retag_servers::Server;

/// A test that is skipped unless all of `needs` are installed.
#[must_use]
pub fn needing(name: &str, needs: &[Server], test: fn()) -> Trial {
    needing_more(name, needs, || None, test)
}

/// A test that is skipped unless all of `needs` are installed and `missing` names no reason against it.
#[must_use]
pub fn needing_more(name: &str, needs: &[Server], missing: fn() -> Option<String>, test: fn()) -> Trial {
    let needs = needs.to_vec();
    Trial::ignorable_test(name, move || {
        if let Some(reason) = needs.into_iter().find_map(Server::missing).or_else(missing) {
            return Ok(Completion::ignored_with(reason));
        }
        test();
        Ok(Completion::Completed)
    })
}

/// Runs the tests that the command line asks for.
#[must_use]
pub fn run(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Tests with the servers that they need: `trials![maxwell::changes_arrive: Kafka, MariaDb, Maxwell; …]`.
#[macro_export]
macro_rules! trials {
    ($($test:path: $($server:ident),+;)+) => {
        vec![$($crate::trial::needing(stringify!($test), &[$($crate::trial::Server::$server),+], $test)),+]
    };
}
