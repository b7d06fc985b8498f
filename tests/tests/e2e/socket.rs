//! Requests on the host's socket in the state directory, as the directory's owner.

use crate::harness::Folder;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, in small letters.
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
    }

    /// Status and stable code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }
}

/// One request: status and answer.
pub(crate) fn ask(folder: &Folder, request: &str, body: &[u8]) -> (u16, Value) {
    let answer = ask_with(folder, request, &[], body);
    (answer.status, answer.body)
}

/// One request with headers.
pub(crate) fn ask_with(folder: &Folder, request: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let text = read(send(folder, request, headers, body));
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.get(9..12).and_then(|s| s.parse().ok()).expect("a status line");
    Answer { status, head: head.to_lowercase(), body: serde_json::from_str(body).unwrap_or_default() }
}

/// The answer as it comes, head and body.
pub(crate) fn text(folder: &Folder, request: &str) -> String {
    read(send(folder, request, &[], b""))
}

fn read(mut stream: UnixStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request, and does not look for its answer.
pub(crate) fn send(folder: &Folder, request: &str, headers: &[(&str, &str)], body: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(folder.path("data/retag.sock")).expect("the socket");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: retag\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("a request");
    let _ = stream.write_all(body); // refused before it was read to its end
    stream
}
