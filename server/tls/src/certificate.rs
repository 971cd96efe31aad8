//! What a certificate says.
//!
//! Sources: RFC 5280; for the order of alternative names nats-server's mapping of certificates to users.

use std::fmt;

use sha2::{Digest, Sha256};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::subject::Subject;

/// A certificate that can be read. That it can be believed is another question.
pub struct Certificate {
    inner: x509_cert::Certificate,
    sha256: [u8; 32],
}

/// A certificate that isn't DER as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable(x509_cert::der::Error);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate can't be read: {}", self.0)
    }
}

impl std::error::Error for Unreadable {}

/// What is shown of a peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject, as in `CN=sensor-7,O=Attic`.
    pub subject: String,
    /// SHA-256 of the public key's DER form, by which certificates are pinned.
    pub key_sha256: [u8; 32],
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
}

impl Certificate {
    /// Reads DER.
    pub fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let inner = x509_cert::Certificate::from_der(der).map_err(Unreadable)?;
        Ok(Self { inner, sha256: Sha256::digest(der).into() })
    }

    /// What is shown of it.
    pub fn shown(&self) -> PeerCertificate {
        let subject = self.subject().to_string();
        PeerCertificate { subject, key_sha256: self.key_sha256(), sha256: self.sha256 }
    }

    /// Whose it is.
    pub fn subject(&self) -> Subject {
        Subject::read(&self.inner.tbs_certificate.subject)
    }

    /// When it ends, in seconds since the Unix epoch.
    pub fn not_after(&self) -> u64 {
        self.inner.tbs_certificate.validity.not_after.to_unix_duration().as_secs()
    }

    /// SHA-256 of the public key's DER form.
    pub fn key_sha256(&self) -> [u8; 32] {
        // What was decoded can be encoded, and DER has one encoding.
        let key = self.inner.tbs_certificate.subject_public_key_info.to_der().unwrap_or_default();
        Sha256::digest(key).into()
    }

    /// E-mail addresses, DNS names and URIs: the alternative names in the order in which they count.
    pub fn alternative_names(&self) -> Vec<String> {
        let extensions = self.inner.tbs_certificate.get::<SubjectAltName>();
        let Ok(Some((_, SubjectAltName(names)))) = extensions else { return Vec::new() };
        let pick = |wanted: fn(&GeneralName) -> Option<&str>| {
            names.iter().filter_map(wanted).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut all = pick(|name| match name {
            GeneralName::Rfc822Name(text) => Some(text.as_str()),
            _ => None,
        });
        all.extend(pick(|name| match name {
            GeneralName::DnsName(text) => Some(text.as_str()),
            _ => None,
        }));
        all.extend(pick(|name| match name {
            GeneralName::UniformResourceIdentifier(text) => Some(text.as_str()),
            _ => None,
        }));
        all
    }
}
