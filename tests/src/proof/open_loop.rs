//! Requests that come due whatever became of those before them, over many connections from one thread: what the client takes of
//! the machine is the system calls of a request, not threads that are woken twice for each.

use super::figures::moment_of;
use anyhow::{Context, Result, bail};
use retag_host::clock::moment;
use retag_host::priority::answer_at_once;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest silence while answers are to come.
const SILENCE: Duration = Duration::from_secs(60);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where to, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Schedule<'a> {
    /// The host.
    pub address: SocketAddr,
    /// A token of it.
    pub token: &'a str,
    /// Connections that are kept, with one request at a time on each.
    pub connections: u64,
    /// Requests a second.
    pub rate: u64,
    /// Requests in all.
    pub total: u64,
}

/// A request that was answered.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Its number, from 0.
    pub number: u64,
    /// From the moment at which it was due to the one at which it was sent, µs.
    pub late_us: u64,
    /// From the first of these to its answer, µs.
    pub took_us: u64,
    /// Status code and body, or why there is none.
    pub answer: std::result::Result<(u16, &'a [u8]), String>,
}

/// A request under way.
#[derive(Clone, Copy)]
struct Asked {
    number: u64,
    due: Instant,
    late_us: u64,
}

struct Connection {
    stream: TcpStream,
    asked: Option<Asked>,
    read: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, asked: None, read: Vec::new() })
    }

    /// Reads what is there; true when the answer is whole.
    fn receive(&mut self) -> std::result::Result<bool, String> {
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err("the host closed the connection".to_owned()),
                Ok(n) => self.read.extend_from_slice(piece.get(..n).unwrap_or(&[])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.to_string()),
            }
            if self.read.len() > ANSWER_BYTES_MAX {
                return Err("an answer without end".to_owned());
            }
            if split(&self.read)?.is_some() {
                return Ok(true);
            }
        }
    }
}

/// Status and body of a whole answer; none while there is more to come.
fn split(read: &[u8]) -> std::result::Result<Option<(u16, &[u8])>, String> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(read.get(..end).unwrap_or(&[]));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(length)) = (status, length) else { return Err(format!("an answer: {head}")) };
    Ok(read.get(end + 4..end + 4 + length).map(|body| (status, body)))
}

/// Sends all requests, each for the path that `path` gives for its number, and shows the answers to `take`.
///
/// # Errors
/// The host cannot be reached, or is silent.
pub fn run(
    schedule: Schedule<'_>,
    mut path: impl FnMut(u64) -> String,
    mut take: impl FnMut(&Answered<'_>),
) -> Result<()> {
    answer_at_once(); // else its own waits for a core are taken for the host's
    let Schedule { address, token, rate, total, .. } = schedule;
    let open = |_| Connection::open(address);
    let mut all = (0..schedule.connections).map(open).collect::<Result<Vec<_>>>()?;
    let begin = moment() + Duration::from_millis(50);
    let (mut next, mut answered, mut heard) = (0, 0, begin);
    while answered < total {
        let mut due = begin + moment_of(next, rate);
        for connection in all.iter_mut().filter(|c| c.asked.is_none()) {
            if next == total || due > moment() {
                break;
            }
            let request = format!(
                "GET {} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n",
                path(next)
            );
            let late_us = due.elapsed().as_micros() as u64;
            // A request is smaller than the room that a connection without one has.
            connection.stream.write_all(request.as_bytes()).context("send a request")?;
            connection.asked = Some(Asked { number: next, due, late_us });
            next += 1;
            due = begin + moment_of(next, rate);
        }
        let is_free = all.iter().any(|c| c.asked.is_none()) && next < total;
        let wait = if is_free { due.saturating_duration_since(moment()) } else { SILENCE };
        let events = ready(&all, wait)?;
        for (connection, _) in all.iter_mut().zip(events).filter(|(_, ready)| *ready) {
            let Some(Asked { number, due, late_us }) = connection.asked else {
                *connection = Connection::open(address)?; // the host ends connections that have lived long
                continue;
            };
            let received = connection.receive();
            if received == Ok(false) {
                continue;
            }
            let whole = received.and_then(|_| split(&connection.read));
            let answer = whole.and_then(|whole| whole.ok_or_else(String::new));
            let failed = answer.is_err();
            take(&Answered { number, late_us, took_us: due.elapsed().as_micros() as u64, answer });
            (answered, heard) = (answered + 1, moment());
            connection.asked = None;
            connection.read.clear();
            if failed {
                *connection = Connection::open(address)?;
            }
        }
        if next > answered && heard.elapsed() > SILENCE {
            bail!("{} requests have no answer after {SILENCE:?}", next - answered);
        }
    }
    Ok(())
}

/// Waits for answers; which connections have something to read.
fn ready(all: &[Connection], wait: Duration) -> Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = all.iter().map(|c| PollFd::new(&c.stream, PollFlags::IN)).collect();
    let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    match poll(&mut polled, Some(&wait)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error).context("wait for answers"),
    }
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        assert_eq!(split(answer), Ok(Some((200, b"{}".as_slice()))));
        assert_eq!((split(&answer[..30]), split(&answer[..answer.len() - 1])), (Ok(None), Ok(None)));
        assert!(split(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
