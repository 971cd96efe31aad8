//! What is asked of a server, where this side is the client.

use std::sync::Arc;

use midge_config::Tls;
use rustls::{ClientConfig, RootCertStore};

use crate::server::{certificates, certified_key, versions};
use crate::suites;

/// How connections are made by one `tls` block.
#[derive(Debug)]
pub struct ClientTls {
    /// For the handshakes.
    pub config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Reads the files that `tls` names. Without a `ca_file` the machine's authorities are believed. An error is a line
    /// for the operator.
    pub fn load(tls: Option<&Tls>) -> Result<Self, String> {
        let standard = Tls::default();
        let tls = tls.unwrap_or(&standard);
        if tls.insecure {
            return Err(
                "midge believes no certificate that it can't verify: 'insecure' is not served".to_owned()
            );
        }
        let provider = Arc::new(suites::provider(tls, &mut Vec::new())?);
        let mut roots = RootCertStore::empty();
        match &tls.ca_file {
            Some(path) => {
                for root in certificates(path)? {
                    let wrong = |error| format!("failed to parse root ca certificate: {error}");
                    roots.add(root).map_err(wrong)?;
                }
            }
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if roots.is_empty() {
            return Err("this machine knows no authorities: name them with 'ca_file'".to_owned());
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions(tls.min_version))
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match tls.certificates.first() {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let key = certified_key(files, &provider)
                    .map_err(|error| format!("error parsing X509 certificate/key pair: {error}"))?;
                let key = rustls::sign::SingleCertAndKey::from(key);
                builder.with_client_cert_resolver(Arc::new(key))
            }
        };
        Ok(Self { config: Arc::new(config) })
    }
}
