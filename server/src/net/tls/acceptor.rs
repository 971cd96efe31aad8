//! What new connections are offered: certificates, versions, and when the handshake comes.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use midge_config::{Certificate, HandshakeFirst, Options, Tls, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};

/// How handshakes go, by one configuration.
pub(crate) struct Acceptor {
    pub(super) config: Arc<ServerConfig>,
    /// Whether the handshake comes before INFO.
    pub(super) first: HandshakeFirst,
    /// Clients may do without.
    pub(super) mixed: bool,
    /// Time for a handshake.
    pub(super) timeout: Duration,
}

impl Acceptor {
    /// Reads the files that the configuration names. None without a `tls` block. Errors are for the operator.
    pub(crate) fn new(options: &Options) -> Result<Option<Self>, String> {
        let Some(tls) = &options.tls else { return Ok(None) };
        Ok(Some(Self {
            config: Arc::new(server_config(tls)?),
            first: tls.handshake_first,
            mixed: options.allow_non_tls,
            timeout: tls.timeout,
        }))
    }

    /// True if INFO goes out in the clear, as clients expect, before anything else.
    pub(in crate::net) fn greets(&self) -> bool {
        self.first == HandshakeFirst::No
    }
}

fn server_config(tls: &Tls) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match tls.min_version {
        TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::Tls13 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let verifier = match tls.verify {
        false => Arc::new(NoClientAuth),
        true => {
            let roots = Arc::new(roots(tls.ca_file.as_deref())?);
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| format!("client certificates can't be verified: {error}"))?
        }
    };
    let builder = builder.with_client_cert_verifier(verifier);
    let [certificate] = tls.certificates.as_slice() else {
        return Err("the tls block must name one certificate".to_owned());
    };
    let key = certified_key(certificate, &provider)?;
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certified_key(certificate: &Certificate, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let (cert, key) = (certificate.cert_file.display(), certificate.key_file.display());
    let chain = certificates(&certificate.cert_file)?;
    let private = PrivateKeyDer::from_pem_file(&certificate.key_file)
        .map_err(|error| format!("error parsing X509 certificate/key pair: {key}: {error}"))?;
    CertifiedKey::from_der(chain, private, provider)
        .map_err(|error| format!("error parsing X509 certificate/key pair: {cert}, {key}: {error}"))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let path = ca_file.ok_or("client certificates can't be verified without a ca_file")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let list: Vec<_> = read.map_err(|error| format!("{}: {error}", path.display()))?;
    if list.is_empty() {
        return Err(format!("{}: {}", path.display(), io::Error::other("there is no certificate in it")));
    }
    Ok(list)
}

/// The acceptor in force. Connections keep the one that they began with.
#[derive(Default)]
pub(crate) struct Keeper(Mutex<Option<Arc<Acceptor>>>);

impl Keeper {
    pub(crate) fn new(acceptor: Option<Acceptor>) -> Self {
        Self(Mutex::new(acceptor.map(Arc::new)))
    }

    /// What the next connection is offered.
    pub(crate) fn current(&self) -> Option<Arc<Acceptor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After a reload.
    pub(crate) fn replace(&self, acceptor: Option<Acceptor>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = acceptor.map(Arc::new);
    }
}
