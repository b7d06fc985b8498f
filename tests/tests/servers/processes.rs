//! What is left of a server when it is killed, when it is dropped, when its test fails, and when the process that holds it
//! dies: nothing but the log of a failed test.

use retag_host::clock::moment;
use retag_servers::{Redis, Service as _};
use rustix::process::{Pid, test_kill_process_group};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const HOLDER: &str = "RETAG_TEST_HOLDS_A_SERVER";

/// The number of the group of a server's processes.
fn group(server: &mut Redis) -> Pid {
    Pid::from_raw(server.process().id().unwrap().try_into().unwrap()).unwrap()
}

/// The folder of a server, which is where it runs.
fn folder(server: &mut Redis) -> PathBuf {
    let directory = server.command(&["CONFIG", "GET", "dir"]).unwrap();
    Path::new(directory.lines().last().unwrap()).parent().unwrap().to_owned()
}

pub(crate) fn kill_leaves_no_process_of_the_group() {
    let mut server = Redis::start().unwrap();
    let group = group(&mut server);
    test_kill_process_group(group).unwrap();
    server.kill().unwrap();
    assert!(test_kill_process_group(group).is_err());
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
}

pub(crate) fn a_dropped_server_leaves_nothing() {
    let mut server = Redis::start().unwrap();
    let (group, folder, port) = (group(&mut server), folder(&mut server), server.port());
    assert!(folder.join("log").is_file());
    drop(server);
    assert!(test_kill_process_group(group).is_err());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!folder.exists());
}

pub(crate) fn a_failed_test_keeps_the_log() {
    let mut server = Redis::start().unwrap();
    let (group, folder) = (group(&mut server), folder(&mut server));
    let failed = std::thread::spawn(move || {
        let _server = server;
        std::panic::resume_unwind(Box::new("as a test that fails, but without its message"));
    });
    assert!(failed.join().is_err());
    assert!(test_kill_process_group(group).is_err());
    assert!(std::fs::read_to_string(folder.join("log")).unwrap().contains("Ready to accept connections"));
    assert!(!folder.join("data").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

pub(crate) fn a_server_that_cannot_start_says_why() {
    let error = Redis::start_with(&["--no-such-option", "1"]).err().unwrap().to_string();
    assert!(error.contains("redis ended by itself") && error.contains("no-such-option"), "{error}");
}

pub(crate) fn a_port_that_is_taken_for_a_moment_is_waited_for() {
    let mut server = Redis::start().unwrap();
    let (log, port) = (folder(&mut server).join("log"), server.port());
    server.stop().unwrap();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let giver = std::thread::spawn(move || {
        let begin = moment();
        while !std::fs::read_to_string(&log).unwrap().contains("Address already in use") {
            assert!(begin.elapsed() < Duration::from_secs(20), "the start did not fail");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(taken);
    });
    server.restart().unwrap();
    giver.join().unwrap();
    assert_eq!((server.command(&["PING"]).unwrap().as_str(), server.port()), ("PONG", port));
}

/// Whether this process is the one that [`the_death_of_its_holder_ends_a_server`] starts and kills.
pub(crate) fn is_holder() -> bool {
    std::env::var_os(HOLDER).is_some()
}

/// Holds a server until it is killed.
pub(crate) fn hold() -> ExitCode {
    let mut server = Redis::start().unwrap();
    println!("{} {}", server.port(), folder(&mut server).display());
    let _ = std::io::stdin().read(&mut [0]); // the test never writes
    ExitCode::FAILURE
}

pub(crate) fn the_death_of_its_holder_ends_a_server() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut holder = command.env(HOLDER, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (port, folder) = line.trim().split_once(' ').unwrap();
    let address = format!("127.0.0.1:{port}");
    TcpStream::connect(&address).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let begin = moment();
    while TcpStream::connect(&address).is_ok() || Path::new(folder).exists() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the server of a dead process lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}
