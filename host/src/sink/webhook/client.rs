//! One connection to a receiver, kept between requests, each within a time limit. Redirects are not followed, so a secret
//! goes nowhere but where it was sent; of an answer only the beginning is read.

use super::target::Target;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

type Sender = SendRequest<Full<Bytes>>;

/// An answer.
pub(super) struct Got {
    pub(super) status: u16,
    /// Seconds that it asks for.
    pub(super) retry_after: Option<u64>,
    /// Its beginning, on one line; may hold secrets.
    pub(super) text: String,
    /// There was more of it.
    pub(super) is_cut: bool,
}

/// A client of one address.
pub(super) struct Client {
    pub(super) target: Target,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    connection: Option<Sender>,
}

impl Client {
    /// A client that is not connected; it trusts the authorities in `ca`, or else those of the system.
    pub(super) fn new(target: Target, ca: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = Some(runtime.map_err(|error| format!("no runtime: {error}"))?);
        let tls = target.https.then(|| -> Result<_, String> {
            let name = ServerName::try_from(target.host.clone());
            let name = name.map_err(|_| "url: its host is no name for TLS".to_owned())?;
            Ok((TlsConnector::from(Arc::new(trust(ca)?)), name))
        });
        Ok(Self { tls: tls.transpose()?, target, timeout, runtime, connection: None })
    }

    /// Posts a body, and reads the answer.
    pub(super) fn post(&mut self, headers: HeaderMap, body: Vec<u8>) -> Result<Got, String> {
        let Self { target, tls, timeout, runtime: Some(runtime), connection } = self else {
            return Err("it is being closed".into());
        };
        let request = (headers, Bytes::from(body));
        let exchange = async {
            let kept = connection.take();
            let (got, sender) = match kept {
                // One that was kept may have been closed meanwhile: then the same request goes over a new one.
                Some(sender) => match exchange(sender, target, request.clone()).await {
                    Ok(done) => done,
                    Err(_) => exchange(connect(target, tls.as_ref()).await?, target, request).await?,
                },
                None => exchange(connect(target, tls.as_ref()).await?, target, request).await?,
            };
            *connection = sender;
            Ok(got)
        };
        runtime.block_on(async {
            let within = tokio::time::timeout(*timeout, exchange).await;
            within.unwrap_or_else(|_| Err(format!("no answer within {} ms", timeout.as_millis())))
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // the look-up of a name may take longer than anybody waits
        }
    }
}

fn trust(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'static>> = match ca {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| format!("ca: {}: {error}", path.display()))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err("ca: no certificate authorities to trust; name a PEM file that has some".into());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("no TLS: {error}"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn connect(
    target: &Target,
    tls: Option<&(TlsConnector, ServerName<'static>)>,
) -> Result<Sender, String> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await;
    let stream = stream.map_err(|error| format!("no connection: {error}"))?;
    let _ = stream.set_nodelay(true); // it only costs time where that cannot be had
    let Some((connector, name)) = tls else { return handshake(stream).await };
    let stream = connector.connect(name.clone(), stream).await;
    handshake(stream.map_err(|error| format!("no TLS: {error}"))?).await
}

async fn handshake<S>(stream: S) -> Result<Sender, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(|error| format!("no connection: {error}"))?;
    tokio::spawn(connection); // ends with the sender
    Ok(sender)
}

/// Sends a request; the connection comes back where it may be used again.
async fn exchange(
    mut sender: Sender,
    target: &Target,
    (headers, body): (HeaderMap, Bytes),
) -> Result<(Got, Option<Sender>), String> {
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    sender.ready().await.map_err(broken)?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.path.clone();
    *request.headers_mut() = headers;
    let host = HeaderValue::try_from(target.authority.as_str()).map_err(|_| "url: no host".to_owned())?;
    request.headers_mut().insert(HOST, host);
    let agent = HeaderValue::from_static(concat!("retag/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().entry(USER_AGENT).or_insert(agent);
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status().as_u16();
    let retry_after = answer.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let (bytes, whole) = beginning(answer).await.map_err(broken)?;
    let text = String::from_utf8_lossy(&bytes);
    let text: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let text = text.join(" ").trim().to_owned();
    Ok((Got { status, retry_after, text, is_cut: !whole }, whole.then_some(sender)))
}

/// The first bytes of an answer, and whether that is all of it.
async fn beginning(answer: Response<Incoming>) -> Result<(Vec<u8>, bool), hyper::Error> {
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}
