//! A small HTTP client: one connection that is kept, one request at a time, answers read whole. Blocking.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest silence.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes both ways.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection.
pub struct Client {
    stream: Box<dyn Stream>,
    token: String,
    buffer: Vec<u8>,
    head: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("an answer: {}", self.text()))
    }

    /// The beginning of the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body.get(..600).unwrap_or(&self.body)).into_owned()
    }

    /// The code of a problem document; empty where it is none.
    #[must_use]
    pub fn code(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The same, if it is a success.
    ///
    /// # Errors
    /// Status and body, if not.
    pub fn success(self, asked: &str) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        bail!("{asked}: {} {}", self.status, self.text())
    }
}

impl Client {
    /// Over a Unix socket.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn unix(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| format!("connect to {}", path.display()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self::over(Box::new(stream), ""))
    }

    /// Over the network, with a token.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn tcp(address: SocketAddr, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self::over(Box::new(stream), token))
    }

    fn over(stream: Box<dyn Stream>, token: &str) -> Self {
        let token =
            if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        Self { stream, token, buffer: Vec::new(), head: Vec::new() }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// The connection broke off.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask("GET", path, None)
    }

    /// `POST path`.
    ///
    /// # Errors
    /// The connection broke off.
    pub fn post(&mut self, path: &str, body: &[u8], media: &str) -> Result<Answer> {
        self.ask("POST", path, Some((body, media)))
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<(&[u8], &str)>) -> Result<Answer> {
        self.head.clear();
        let (token, host) = (&self.token, "localhost");
        write!(self.head, "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{token}")?;
        if let Some((body, media)) = body {
            write!(self.head, "content-type: {media}\r\ncontent-length: {}\r\n\r\n", body.len())?;
            self.head.extend_from_slice(body);
        } else {
            self.head.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&self.head)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.more()?;
        };
        let head = std::str::from_utf8(&self.buffer[..end]).context("the head of an answer")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status line")?;
        let length = field(head, "content-length").and_then(|text| text.parse::<usize>().ok());
        let chunked =
            field(head, "transfer-encoding").is_some_and(|text| text.eq_ignore_ascii_case("chunked"));
        self.buffer.drain(..end + 4);
        let body = match length {
            Some(length) => self.exactly(length)?,
            None if chunked => self.chunks()?,
            None => Vec::new(),
        };
        Ok(Answer { status, body })
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    break end;
                }
                self.more()?;
            };
            let size = std::str::from_utf8(&self.buffer[..end])?.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).context("the size of a chunk")?;
            self.buffer.drain(..end + 2);
            body.extend(self.exactly(size)?);
            self.exactly(2)?; // its line end; after the last chunk the end of no trailers
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.more()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn more(&mut self) -> Result<()> {
        let mut piece = [0; 16 * 1024];
        let n = self.stream.read(&mut piece)?;
        if n == 0 {
            bail!("the connection was closed before the end of an answer");
        }
        self.buffer.extend_from_slice(&piece[..n]);
        Ok(())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, text)| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Answers that lie ready; what is asked is thrown away.
    struct Canned(Cursor<Vec<u8>>);
    impl Read for Canned {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let few = buffer.len().min(3);
            self.0.read(&mut buffer[..few])
        }
    }
    impl Write for Canned {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn answers_are_read_whole_one_behind_the_other() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 404 Not Found\r\n\
            transfer-encoding: chunked\r\n\r\n4\r\n{\"co\r\n9;x=y\r\nde\":\"no\"}\r\n0\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
        let mut client = Client::over(Box::new(Canned(Cursor::new(text.into()))), "");
        assert_eq!(client.get("/").unwrap(), Answer { status: 200, body: b"hello".to_vec() });
        let refused = client.post("/x", b"", "text/plain").unwrap();
        assert_eq!((refused.status, refused.code()), (404, "no".to_owned()));
        assert!(refused.success("/x").unwrap_err().to_string().contains("404"));
        assert_eq!(client.get("/").unwrap(), Answer { status: 204, body: Vec::new() });
        assert!(client.get("/").is_err(), "the end");
    }
}
