//! Which of several certificates a client is shown.

use std::fmt;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The first certificate that is for the name that the client asks for and of a kind that it understands; else the
/// first of all, and the client may judge. As nats-server.
pub(crate) struct Picker {
    keys: Vec<Arc<CertifiedKey>>,
}

impl Picker {
    /// Fails if a certificate can't be read.
    pub(crate) fn new(keys: Vec<Arc<CertifiedKey>>) -> Result<Self, String> {
        for key in &keys {
            let leaf = key.end_entity_cert().and_then(ParsedCertificate::try_from);
            leaf.map_err(|error| format!("error parsing certificate: {error}"))?;
        }
        Ok(Self { keys })
    }
}

impl ResolvesServerCert for Picker {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let schemes = hello.signature_schemes();
        let fits = |key: &&Arc<CertifiedKey>| {
            key.key.choose_scheme(schemes).is_some() && name.as_ref().is_none_or(|name| is_for(key, name))
        };
        let picked = if self.keys.len() > 1 { self.keys.iter().find(fits) } else { None };
        picked.or(self.keys.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    leaf.is_ok_and(|leaf| verify_server_name(&leaf, name).is_ok())
}

impl fmt::Debug for Picker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picker of {} certificates", self.keys.len())
    }
}
