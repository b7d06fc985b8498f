//! TLS of the listening side: a certificate and its key from PEM files, TLS 1.2 and 1.3, HTTP/1.1.

use super::error::ApiError;
use crate::config::{Config, TlsConfig};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Reads the files and checks that they belong together.
pub(super) fn acceptor(config: &Config, files: &TlsConfig) -> Result<TlsAcceptor, ApiError> {
    let (cert, key) = (config.resolve(&files.cert), config.resolve(&files.key));
    let failed = |name: &'static str, path: &Path, reason: String| ApiError::Tls {
        key: name,
        path: path.to_owned(),
        reason,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&cert).and_then(Iterator::collect);
    let chain = chain.map_err(|e| failed("cert", &cert, e.to_string()))?;
    if chain.is_empty() {
        return Err(failed("cert", &cert, "no certificate in it".into()));
    }
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|e| failed("key", &key, e.to_string()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed("cert", &cert, e.to_string()))?;
    let mut server = builder
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| failed("key", &key, format!("certificate and key do not fit: {e}")))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}
