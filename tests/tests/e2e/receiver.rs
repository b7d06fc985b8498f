//! A receiver of webhooks: a real server on a port of this machine, with or without TLS, that answers as it is told and
//! remembers what came. It verifies every signature itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{HMAC_SHA256, Key, verify};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The secret that it knows.
pub(crate) const SECRET: &str = "whsec_c2VjcmV0LW9mLXRoZS13ZWJob29rLXRlc3Rz";

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) path: String,
    pub(crate) messages: Vec<Value>,
    /// How it was answered; none where the connection was broken off.
    pub(crate) status: Option<u16>,
}

impl Got {
    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// Ids of its messages.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.messages.iter().map(id_of).collect()
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.status.is_some_and(|status| status < 300)
    }
}

/// Id of a message.
pub(crate) fn id_of(message: &Value) -> String {
    message["id"].as_str().expect("an id").to_owned()
}

/// How a request is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// 0 = the connection is broken off.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) delay: Duration,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

type Answers = Box<dyn FnMut(&Got) -> Reply + Send>;

struct Shared {
    answers: Mutex<Answers>,
    got: Mutex<Vec<Got>>,
    is_over: AtomicBool,
    /// Requests carry the signature of [`SECRET`].
    is_signed: bool,
}

/// The receiver; it ends when it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    /// Listens on a free port for signed requests.
    pub(crate) fn start(answers: impl FnMut(&Got) -> Reply + Send + 'static) -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap(), None, true, answers)
    }

    /// Listens where it is told.
    pub(crate) fn listen(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        is_signed: bool,
        answers: impl FnMut(&Got) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            answers: Mutex::new(Box::new(answers)),
            got: Mutex::default(),
            is_over: AtomicBool::new(false),
            is_signed,
        });
        let accepting = {
            let shared = shared.clone();
            std::thread::spawn(move || accept(&listener, tls.as_ref(), &shared))
        };
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Answers otherwise from now on.
    pub(crate) fn answer(&self, answers: impl FnMut(&Got) -> Reply + Send + 'static) {
        *self.shared.answers.lock().unwrap() = Box::new(answers);
    }

    /// What came.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    /// Messages that it took, each as often as it took it.
    pub(crate) fn taken(&self) -> Vec<Value> {
        self.got().into_iter().filter(Got::is_taken).flat_map(|got| got.messages).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes it up
        self.accepting.take().map(std::thread::JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        let (shared, tls) = (shared.clone(), tls.cloned());
        std::thread::spawn(move || {
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            // What breaks off is the matter of who sends.
            let _ = match tls {
                None => serve(stream, &shared),
                Some(tls) => serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &shared),
            };
        });
    }
}

/// Reads as a blocking stream does, until the receiver ends.
struct Patient<'a, S>(S, &'a Shared);

impl<S: Read> Read for Patient<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.1.is_over.load(Ordering::SeqCst) {
                        return Ok(0);
                    }
                }
                done => return done,
            }
        }
    }
}

fn serve<S: Read + Write>(stream: S, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(Patient(stream, shared));
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words[0], words[2]), ("POST", "HTTP/1.1\r\n"));
        let path = words[1].to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            let before = headers.insert(name.to_lowercase(), value.trim().to_owned());
            assert_eq!(before, None, "{name} comes twice");
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body)?;
        let got = check(path, headers, &body, shared.is_signed);
        let reply = (shared.answers.lock().unwrap())(&got);
        std::thread::sleep(reply.delay);
        let status = Some(reply.status).filter(|status| *status > 0);
        shared.got.lock().unwrap().push(Got { status, ..got });
        let Some(status) = status else { return Ok(()) };
        let Reply { head, body, .. } = reply;
        let answer = format!("HTTP/1.1 {status} x\r\n{head}content-length: {}\r\n\r\n{body}", body.len());
        reader.get_mut().0.write_all(answer.as_bytes())?;
        reader.get_mut().0.flush()?;
    }
}

/// What every request must be, whatever it says.
fn check(path: String, headers: BTreeMap<String, String>, body: &[u8], is_signed: bool) -> Got {
    let (id, seconds) = (&headers["webhook-id"], &headers["webhook-timestamp"]);
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let signed = [format!("{id}.{seconds}.").as_bytes(), body].concat();
    let is_right = |signature: &str| {
        let tag =
            signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        verify(&Key::new(HMAC_SHA256, &key), &signed, &tag).is_ok()
    };
    let signatures = headers.get("webhook-signature").map_or("", String::as_str);
    assert_eq!(signatures.split(' ').any(is_right), is_signed, "{headers:?}");
    assert_eq!(&headers["idempotency-key"], id);
    assert_eq!(headers["content-type"], "application/json");
    let body: Value = serde_json::from_slice(body).unwrap();
    let messages = body["messages"].as_array().unwrap().clone();
    assert!(!messages.is_empty());
    Got { headers, path, messages, status: None }
}
