//! A certificate for servers on loopback, and what clients need to trust it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// Made for one run of this program.
pub(crate) struct Certificate {
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
    /// For clients.
    pub(crate) trusted: Arc<ClientConfig>,
}

/// The name that it is made out to.
pub(crate) const NAME: &str = "localhost";

impl Certificate {
    /// P-256, as most certificates on small boards.
    pub(crate) fn new() -> Result<Self, String> {
        let certificate =
            rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(|error| error.to_string())?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.cert.der().clone()).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusted = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { certificate, trusted: Arc::new(trusted) })
    }

    /// Writes the certificate and its key into `directory`, in this order.
    pub(crate) fn write(&self, directory: &Path) -> Result<[PathBuf; 2], String> {
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| directory.join(name));
        fs::write(&cert, self.certificate.cert.pem()).map_err(|error| error.to_string())?;
        fs::write(&key, self.certificate.signing_key.serialize_pem()).map_err(|error| error.to_string())?;
        Ok([cert, key])
    }
}
