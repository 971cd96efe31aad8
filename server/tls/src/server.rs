//! What handshakes are offered.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use midge_config::{Certificate as Files, Tls, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ALL_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use crate::certificate::Certificate;
use crate::picker::Picker;
use crate::suites;
use crate::verifier::Verifier;

/// What the listeners of one configuration offer.
#[derive(Debug)]
pub struct ServerTls {
    /// For clients of the protocol.
    pub clients: Arc<ServerConfig>,
    /// For monitoring, where nobody is asked for a certificate.
    pub monitoring: Arc<ServerConfig>,
    /// When the first certificate ends, in seconds since the Unix epoch.
    pub not_after: u64,
    /// The certificates as they were read, to tell whether a reload changes something.
    chains: Vec<Vec<CertificateDer<'static>>>,
    roots: Vec<CertificateDer<'static>>,
}

/// A [`ServerTls`], and what the operator should know of it.
#[derive(Debug)]
pub struct Loaded {
    /// What is offered.
    pub tls: ServerTls,
    /// What rustls can't honour of the configuration, a line each.
    pub warnings: Vec<String>,
}

impl ServerTls {
    /// Reads the files that `tls` names. An error is a line for the operator.
    ///
    /// Without client certificates a session can be resumed with a ticket, which the server doesn't remember. With
    /// them each connection shows its certificate again, so that none is believed longer than it is valid.
    pub fn load(tls: &Tls) -> Result<Loaded, String> {
        let mut warnings = Vec::new();
        let provider = Arc::new(suites::provider(tls, &mut warnings)?);
        let mut keys = Vec::new();
        for (number, files) in tls.certificates.iter().enumerate() {
            let which = match tls.certificates.len() {
                1 => String::new(),
                count => format!(" {}/{count}", number + 1),
            };
            let key = certified_key(files, &provider)
                .map_err(|error| format!("error parsing X509 certificate/key pair{which}: {error}"))?;
            keys.push(Arc::new(key));
        }
        let Some(first) = keys.first().and_then(|key| key.cert.first()) else {
            return Err("missing 'cert_file' and 'key_file' in TLS configuration".to_owned());
        };
        let not_after = Certificate::read(first).map(|certificate| certificate.not_after());
        let not_after = not_after.map_err(|error| format!("error parsing certificate: {error}"))?;
        let chains = keys.iter().map(|key| key.cert.clone()).collect();
        let roots = match &tls.ca_file {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        let verifier = tls.verify.then(|| verifier(&roots, &provider)).transpose()?;
        let picker = Arc::new(Picker::new(keys)?);
        let config = |verifier: Option<Arc<dyn ClientCertVerifier>>| -> Result<_, String> {
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(versions(tls.min_version))
                .map_err(|error| error.to_string())?;
            let verified = verifier.is_some();
            let builder = match verifier {
                Some(verifier) => builder.with_client_cert_verifier(verifier),
                None => builder.with_no_client_auth(),
            };
            let mut config = builder.with_cert_resolver(Arc::clone(&picker) as _);
            // What is cheap here costs most: see `suites::provider`.
            config.ignore_client_order = true;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = usize::from(!verified);
            if !verified {
                config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| error.to_string())?;
            }
            Ok(Arc::new(config))
        };
        let tls = Self { clients: config(verifier)?, monitoring: config(None)?, not_after, chains, roots };
        Ok(Loaded { tls, warnings })
    }

    /// True if both were read from the same certificates.
    pub fn same_certificates(&self, other: &Self) -> bool {
        self.chains == other.chains && self.roots == other.roots
    }
}

static TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];

pub(crate) fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::Tls12 => ALL_VERSIONS,
        TlsVersion::Tls13 => TLS13,
    }
}

fn verifier(
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    if roots.is_empty() {
        // nats-server would take the system's authorities: whoever has a web site could come in.
        return Err("client certificates can't be verified without 'ca_file'".to_owned());
    }
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| format!("failed to parse root ca certificate: {error}"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|error| format!("client certificates can't be verified: {error}"))?;
    Ok(Arc::new(Verifier(verifier)))
}

pub(crate) fn certified_key(files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = certificates(&files.cert_file)?;
    let key = read(&files.key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| format!("{}: no private key that can be used: {error}", files.key_file.display()))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| format!("{}, {}: {error}", files.cert_file.display(), files.key_file.display()))
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match list {
        Ok(list) if list.is_empty() => Err(format!("{}: no certificate in it", path.display())),
        Ok(list) => Ok(list),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("open {}: {error}", path.display()))
}
