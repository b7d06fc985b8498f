//! A host on the network: one connection a question, with TLS where the URL says so. Redirects are not followed, so a
//! token goes nowhere but where it was sent.

use super::ask::BrokenOff;
use super::place::Remote;
use anyhow::{Context, bail};
use axum::body::Body;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest wait for a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

impl Remote {
    /// What goes into `Host`.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    /// Sends a request.
    pub(super) async fn send(&self, request: Request<Body>) -> anyhow::Result<Response<Body>> {
        let at = self.authority();
        let connecting =
            tokio::time::timeout(CONNECT_WAIT, TcpStream::connect((self.host.as_str(), self.port)));
        let stream = connecting
            .await
            .with_context(|| format!("{at} does not answer"))?
            .with_context(|| format!("cannot reach {at}; is the host running, and is it `http.listen`?"))?;
        if !self.https {
            return exchange(stream, request).await;
        }
        let name =
            ServerName::try_from(self.host.clone()).with_context(|| format!("{at} is no name for TLS"))?;
        let connector = TlsConnector::from(Arc::new(self.trust()?));
        let stream = tokio::time::timeout(CONNECT_WAIT, connector.connect(name, stream)).await;
        let stream = stream.with_context(|| format!("{at} does not answer"))?;
        let no_tls = |error: &std::io::Error| match error.to_string() {
            // What `openssl req -x509` makes, if nothing else is said.
            said if said.contains("CaUsedAsEndEntity") => format!(
                "no TLS with {at}: its certificate is marked as an authority's; make one with basicConstraints=CA:FALSE, and \
                 name it, or who signed it, with `retag context add --ca`"
            ),
            _ => format!("no TLS with {at}"),
        };
        exchange(
            stream.map_err(|error| {
                let said = no_tls(&error);
                anyhow::Error::new(error).context(said)
            })?,
            request,
        )
        .await
    }

    fn trust(&self) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let certificates: Vec<CertificateDer<'static>> = match &self.ca {
            Some(path) => CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .with_context(|| format!("authorities in {}", path.display()))?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            bail!("no certificate authorities to trust; name a PEM file with `retag context add --ca`");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(config)
    }
}

async fn exchange<S>(stream: S, request: Request<Body>) -> anyhow::Result<Response<Body>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await.context(BrokenOff)?.map(Body::new))
}
