//! Sinks against their state: one that is taken out, one that two hosts write to, one that knows more than a state that
//! was put back, and paths that are no files.

use crate::harness::binary;
use crate::message::{SHOP_TOLD, shop, told, user};
use std::path::Path;
use std::process::Command;

const SECOND: &str = "[sinks.second]\ntype = \"ndjson\"\npath = \"second.ndjson\"\n";

#[test]
fn a_sink_that_is_taken_out_is_refused_until_it_may_be_dropped() {
    let folder = shop();
    let with_one = folder.read("retag.toml");
    folder.write("retag.toml", with_one.clone() + SECOND);
    // Killed behind the first delivery: the state does not know yet what the sinks have.
    let run = ["run", "--config", "retag.toml", "--until-end"];
    let killed = folder.start(&run, &[("RETAG_FAILPOINT", "delivery:1")]).wait();
    assert!(killed.status.code().is_none(), "it ended by itself: {}", killed.err);
    let (out, second) = (folder.read("labels.ndjson"), folder.read("second.ndjson"));
    assert!(!(out + &second).is_empty(), "nothing was delivered");
    let second = folder.read("second.ndjson");
    folder.write("retag.toml", with_one);
    for _ in 0..2 {
        folder.run().assert_error(1, &["sink-missing", "second", "--drop-sink second"]);
    }
    folder.run_with(&["--drop-sink", "out"]).assert_error(1, &["sink-missing", "second"]);
    folder.run_with(&["--drop-sink", "second"]).assert_ok();
    folder.run().assert_ok();
    assert_eq!(told(&folder), SHOP_TOLD);
    assert_eq!(folder.read("second.ndjson"), second);
    for (name, why) in [("secnod", "not known to the state"), ("out", "is configured")] {
        let ended = folder.run_with(&["--drop-sink", name]).assert_ok();
        assert!(ended.err.contains(&format!("sink {name} ")) && ended.err.contains(why), "{}", ended.err);
    }
}

#[test]
fn two_sinks_with_one_file_are_both_named() {
    for path in ["labels.ndjson", "./labels.ndjson", "link.ndjson"] {
        let folder = shop();
        std::os::unix::fs::symlink("labels.ndjson", folder.path("link.ndjson")).unwrap();
        let second = SECOND.replace("second.ndjson", path);
        folder.configure("[sinks.out]", &format!("{second}[sinks.out]"));
        folder.run().assert_error(1, &["sinks out and second", "labels.ndjson", "a file of its own"]);
    }
}

#[test]
fn a_sink_that_has_everything_may_be_taken_out_unasked() {
    let folder = shop();
    let with_one = folder.read("retag.toml");
    folder.write("retag.toml", with_one.clone() + SECOND);
    folder.run().assert_ok();
    folder.write("retag.toml", with_one);
    folder.append("o.p1.json", user(4, 4));
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&SHOP_TOLD[..], &["4 never_paid"]].concat());
    assert_eq!(folder.read("second.ndjson").lines().count(), SHOP_TOLD.len());
}

#[test]
fn a_sink_file_that_another_host_writes_is_refused() {
    let (ours, other) = (shop(), shop());
    let mut host = ours.start(&["run", "--config", "retag.toml"], &[]);
    host.until("both labels", || (told(&ours).len() == 2).then_some(()));
    let path = ours.path("labels.ndjson").display().to_string();
    other.configure("labels.ndjson", &path);
    other.run().assert_error(1, &["sink out", &path, "another process", "a file of its own"]);
    ours.append("o.p1.json", user(4, 4));
    host.until("a label after that", || (told(&ours).len() == 3).then_some(()));
    host.signal("INT");
    host.wait().assert_ok();
    assert_eq!(told(&ours), [&SHOP_TOLD[..], &["4 never_paid"]].concat());
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(done.is_ok_and(|status| status.success()), "cp -r");
}

#[test]
fn an_older_state_that_was_put_back_is_refused_by_a_newer_sink() {
    let folder = shop();
    folder.run().assert_ok();
    copy(&folder.path("data"), &folder.path("saved"));
    folder.append("o.p1.json", user(4, 4));
    folder.run().assert_ok();
    let before = folder.read("labels.ndjson");
    std::fs::rename(folder.path("data"), folder.path("newer")).unwrap();
    copy(&folder.path("saved"), &folder.path("data"));
    folder.run().assert_error(1, &["an older copy of the state was put back", "move the sink's file away"]);
    assert_eq!(folder.read("labels.ndjson"), before);
    std::fs::remove_dir_all(folder.path("data")).unwrap();
    std::fs::rename(folder.path("newer"), folder.path("data")).unwrap();
    folder.run().assert_ok();
    assert_eq!(folder.read("labels.ndjson"), before);
}

#[test]
fn a_sink_path_that_is_no_file_is_refused() {
    let folder = shop();
    std::fs::create_dir(folder.path("a-folder")).unwrap();
    let made = Command::new("mkfifo").arg(folder.path("a-pipe")).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    let mut last = "labels.ndjson";
    for path in ["a-folder", "a-pipe", "/dev/null", "/dev/full"] {
        folder.configure(&format!("\"{last}\""), &format!("\"{path}\""));
        folder.run().assert_error(1, &["sink out", path, "is no file", "type = \"stdout\""]);
        last = path;
    }
    folder.configure(&format!("\"{last}\""), "\"labels.ndjson\"");
    folder.run().assert_ok();
    assert_eq!(told(&folder), SHOP_TOLD);
    let checked = Command::new(binary()).args(["config", "check"]).current_dir(folder.path(".")).output();
    assert!(checked.is_ok_and(|done| done.status.success()));
}
