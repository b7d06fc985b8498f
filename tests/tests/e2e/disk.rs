//! The state directory and the disk below it: owned by another process, not writable, full; and a sink's file that is
//! not this state's.

use crate::harness::{Folder, binary};
use crate::message::{SHOP_TOLD, shop, told, user};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

#[test]
fn a_second_host_on_the_same_directory_is_told_who_has_it() {
    let folder = shop();
    let mut host = folder.start(&["run", "--config", "retag.toml"], &[]);
    host.until("both labels", || (told(&folder).len() == 2).then_some(()));
    let pid = host.pid().to_string();
    folder.run().assert_error(1, &["state-in-use", "data", &pid, "stop it"]);
    folder.append("o.p1.json", user(4, 4));
    host.until("a label after that", || (told(&folder).len() == 3).then_some(()));
    host.signal("INT");
    host.wait().assert_ok();
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&SHOP_TOLD[..], &["4 never_paid"]].concat());
}

#[test]
fn a_killed_host_leaves_no_lock_behind() {
    let folder = shop();
    let mut host = folder.start(&["run", "--config", "retag.toml"], &[]);
    host.until("both labels", || (told(&folder).len() == 2).then_some(()));
    host.signal("KILL");
    assert!(!host.wait().status.success());
    folder.run().assert_ok();
    assert_eq!(told(&folder), SHOP_TOLD);
}

#[test]
fn a_sink_file_of_another_state_is_refused_and_left_as_it_is() {
    let (ours, other) = (shop(), shop());
    other.run().assert_ok();
    let text = other.read("labels.ndjson");
    ours.write("labels.ndjson", &text);
    ours.run().assert_error(1, &["out", "labels.ndjson", "another state", "move the file away"]);
    assert_eq!(ours.read("labels.ndjson"), text);
    ours.write("labels.ndjson", "my notes\n");
    ours.run().assert_error(1, &["out", "labels.ndjson", "move the file away"]);
    assert_eq!(ours.read("labels.ndjson"), "my notes\n");
    std::fs::remove_file(ours.path("labels.ndjson")).unwrap();
    ours.run().assert_ok();
    assert_eq!(told(&ours), SHOP_TOLD);
}

#[test]
fn a_sink_in_a_missing_folder_is_named() {
    let folder = shop();
    folder.configure("\"labels.ndjson\"", "\"gone/labels.ndjson\"");
    folder.run().assert_error(1, &["out", "gone/labels.ndjson", "make the folder"]);
}

#[test]
fn a_file_where_the_state_should_be_is_named() {
    let folder = shop();
    folder.write("data", "a file");
    folder.run().assert_error(1, &["state-io", "data", "`[state] dir`"]);
    assert_eq!(folder.read("data"), "a file");
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// As a user who may only read here; who runs the tests as root needs another one for that.
fn run_as_nobody(folder: &Folder) -> Output {
    let mut command = Command::new(binary());
    command.args(["run", "--config", "retag.toml", "--until-end"]).current_dir(folder.path("."));
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if root {
        command.uid(65_534);
    }
    command.output().expect("the binary starts")
}

#[test]
fn a_state_directory_that_may_not_be_written_is_named() {
    let folder = shop();
    folder.run().assert_ok();
    folder.append("o.p1.json", user(4, 4));
    for name in ["data/lock", "data/format"] {
        mode(&folder.path(name), 0o444);
    }
    mode(&folder.path("data"), 0o555);
    mode(&folder.path("."), 0o755);
    let ended = run_as_nobody(&folder);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    if said.is_empty() && ended.status.code().is_none_or(|code| code > 1) {
        // The binary itself lies where another user may not go.
        println!("skipped: another user cannot start the binary here ({:?})", ended.status);
    } else {
        assert_eq!(ended.status.code(), Some(1), "{said}");
        for piece in ["state-io", "data", "right to write"] {
            assert!(said.contains(piece), "`{piece}` is not in what it said:\n{said}");
        }
    }
    mode(&folder.path("data"), 0o755);
    for name in ["data/lock", "data/format"] {
        mode(&folder.path(name), 0o644);
    }
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&SHOP_TOLD[..], &["4 never_paid"]].concat());
}

/// A small file system of its own is mounted on `full` for the life of a shell; prints the exit code of each run.
const FULL_DISK: &str = r#"
set -u
mount -t tmpfs -o size=$SIZE tmpfs full || exit 99
"$RETAG" run --config retag.toml --until-end 2> first.err; echo "first $?"
mount -o remount,size=500m full || exit 99
"$RETAG" run --config retag.toml --until-end 2> second.err; echo "second $?"
cp full/labels.ndjson . 2> copy.err
exit 0
"#;

/// Many users register while what lies in folder `full` has room for `size` (as `mount` takes it); `said` is what the
/// host must say of it. Then there is room again.
fn full_disk(folder: &Folder, size: &str, said: &[&str]) {
    const USERS: u64 = 60_000;
    folder.write("o.p0.json", "");
    folder.write("o.p1.json", (1..=USERS).map(|n| user(n, n)).collect::<String>());
    folder.configure("[engine]", "[engine]\ncycle_bytes_max = 400000\nblock_bytes = 50000");
    std::fs::create_dir(folder.path("full")).unwrap();
    let done = ["-m", "-rm"].into_iter().find_map(|flags| {
        let mut shell = Command::new("unshare");
        shell.args([flags, "sh", "-c", FULL_DISK]).current_dir(folder.path("."));
        shell.env("RETAG", binary()).env("SIZE", size);
        shell.output().ok().filter(|done| done.status.success())
    });
    let Some(done) = done else {
        println!("skipped: no file system can be mounted here (unshare -m and -rm are refused)");
        return;
    };
    let codes = String::from_utf8_lossy(&done.stdout).into_owned();
    let (first, second) = (folder.read("first.err"), folder.read("second.err"));
    assert_eq!(codes, "first 1\nsecond 0\n", "first: {first}\nsecond: {second}");
    for piece in said {
        assert!(first.contains(piece), "`{piece}` is not in what it said:\n{first}");
    }
    let expect: Vec<String> = (1..=USERS).map(|n| format!("{n} never_paid")).collect();
    let mut told = told(folder);
    told.sort_by_key(|one| one.split(' ').next().and_then(|key| key.parse::<u64>().ok()));
    assert!(told == expect, "{} transitions of {USERS} were told, or some twice", told.len());
}

#[test]
fn a_full_disk_below_the_state_is_named_and_nothing_is_lost_when_there_is_room_again() {
    let folder = Folder::new();
    folder.configure("dir = \"data\"", "dir = \"full/data\"");
    full_disk(&folder, "1m", &["full/data", "free some space", "nothing is lost"]);
}

#[test]
fn a_full_disk_below_a_sink_is_named_and_nothing_is_lost_when_there_is_room_again() {
    let folder = Folder::new();
    folder.configure("\"labels.ndjson\"", "\"full/labels.ndjson\"");
    full_disk(&folder, "1m", &["sink out", "full/labels.ndjson", "nothing is lost"]);
}
