//! The real binary from the command line to files and exit codes: what works, and what it says when something does not.
//!
//! One binary of tests with a directory per test; each failure must say what is wrong, where and what to do, and leave
//! everything as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

#[path = "e2e/adopt.rs"]
mod adopt;
#[path = "e2e/apply.rs"]
mod apply;
#[path = "e2e/apply_managed.rs"]
mod apply_managed;
#[path = "e2e/aside.rs"]
mod aside;
#[path = "e2e/backfill.rs"]
mod backfill;
#[path = "e2e/builds.rs"]
mod builds;
#[path = "e2e/config.rs"]
mod config;
#[path = "e2e/dead_letters.rs"]
mod dead_letters;
#[path = "e2e/dev.rs"]
mod dev;
#[path = "e2e/disk.rs"]
mod disk;
#[allow(dead_code)] // this binary needs only a part of it
#[path = "e2e/following.rs"]
mod following;
#[path = "e2e/format.rs"]
mod format;
#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/held.rs"]
mod held;
#[path = "e2e/http.rs"]
mod http;
#[path = "e2e/input.rs"]
mod input;
#[path = "e2e/lag.rs"]
mod lag;
#[path = "e2e/message.rs"]
mod message;
#[path = "e2e/man.rs"]
mod man;
#[path = "e2e/new_rule.rs"]
mod new_rule;
#[path = "e2e/pause.rs"]
mod pause;
#[path = "e2e/quarantine.rs"]
mod quarantine;
#[path = "e2e/read.rs"]
mod read;
#[path = "e2e/receiver.rs"]
mod receiver;
#[path = "e2e/rebuild.rs"]
mod rebuild;
#[path = "e2e/rules.rs"]
mod rules;
#[path = "e2e/refusal.rs"]
mod refusal;
#[path = "e2e/release.rs"]
mod release;
#[path = "e2e/run.rs"]
mod run;
#[path = "e2e/sink.rs"]
mod sink;
#[path = "e2e/socket.rs"]
mod socket;
#[path = "e2e/transitions.rs"]
mod transitions;
#[path = "e2e/write.rs"]
mod write;
#[path = "e2e/webhook.rs"]
mod webhook;
#[path = "e2e/webhook_secrets.rs"]
mod webhook_secrets;
