use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::TransportError;

/// Whom https and wss trust: the system's certificates, and those added here.
///
/// ```
/// use erlmcp_shm_client::transport::Tls;
///
/// assert!(Tls::default().with_pem(b"no certificate").is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tls {
    roots: Vec<CertificateDer<'static>>,
}

impl Tls {
    /// Trusts the certificates of a PEM file too, for servers that carry one of their own.
    ///
    /// # Errors
    ///
    /// [`TransportError::Tls`] where the text holds no certificate.
    ///
    /// ```no_run
    /// use erlmcp_shm_client::transport::Tls;
    ///
    /// let tls = Tls::default().with_pem(&std::fs::read("server.pem")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_pem(mut self, pem: &[u8]) -> Result<Self, TransportError> {
        let before = self.roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.roots
                .push(certificate.map_err(|error| TransportError::Tls(error.to_string()))?);
        }
        if self.roots.len() == before {
            return Err(TransportError::Tls(
                "the PEM text holds no certificate".into(),
            ));
        }
        Ok(self)
    }

    /// The configuration for one connection. Reading the system's certificates takes milliseconds, so a
    /// connection that is not `secure` does without them.
    pub(super) fn config(&self, secure: bool) -> Result<ClientConfig, TransportError> {
        let unusable = |error: rustls::Error| TransportError::Tls(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in &self.roots {
            roots.add(certificate.clone()).map_err(unusable)?;
        }
        if secure {
            // Some of a system's certificates are too old for rustls; the others serve.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}
