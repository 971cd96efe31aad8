//! What a certificate says of its owner, in the words that nats-server uses.
//!
//! Sources: nats-server's mapping of certificates to users (auth.go, `checkClientTLSCertSubject`) for which names
//! count; Go's `crypto/x509/pkix` for how a subject is written; RFC 5280 for where they are.

use std::fmt::{self, Write};

use sha2::{Digest, Sha256};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{BmpString, ObjectIdentifier, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A certificate that can be read. That it can be believed is another question.
pub struct Certificate {
    inner: x509_cert::Certificate,
    sha256: [u8; 32],
    /// The subject's names in the order of the certificate; one set is usually one name.
    subject: Vec<Vec<Attribute>>,
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

/// One part of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its type's short name, where nats-server knows one: `CN`, `OU`, `DC` …
    pub name: Option<&'static str>,
    /// Its text, if it is one.
    pub value: Option<String>,
    oid: ObjectIdentifier,
    der: Vec<u8>,
}

impl Certificate {
    /// Reads DER.
    pub fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let inner = x509_cert::Certificate::from_der(der).map_err(Unreadable)?;
        let sets = &inner.tbs_certificate.subject.0;
        let subject = sets.iter().map(|set| set.0.iter().map(Attribute::read).collect()).collect();
        Ok(Self { inner, sha256: Sha256::digest(der).into(), subject })
    }

    /// What is shown of it.
    pub fn shown(&self) -> PeerCertificate {
        PeerCertificate { subject: self.subject(), key_sha256: self.key_sha256(), sha256: self.sha256 }
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

    /// The subject as RFC 2253 orders it, last set first. None if there is something in it that nats-server has no
    /// name for: such a subject is not compared part by part.
    pub fn distinguished_name(&self) -> Option<Vec<Vec<(&'static str, String)>>> {
        let sets = self.subject.iter().rev().filter(|set| !set.is_empty());
        sets.map(|set| {
            let parts = set.iter().rev();
            parts.map(|part| Some((part.name?, part.value.clone()?))).collect()
        })
        .collect()
    }

    /// The subject in one line, all of it.
    pub fn subject(&self) -> String {
        let rest = self.subject.iter().flatten().filter(|part| part.standard().is_none());
        let mut sets: Vec<_> = rest.map(|part| vec![part]).collect();
        sets.extend(self.standard_sets());
        line(&sets)
    }

    /// The subject in one line, of its standard parts only: `CN=sensor-7,OU=Attic,O=House`.
    pub fn standard_subject(&self) -> String {
        line(&self.standard_sets())
    }

    /// As [`Certificate::standard_subject`], followed by the domain components; none without those.
    pub fn subject_with_domain(&self) -> Option<String> {
        let mut text = self.standard_subject();
        let components = self.subject.iter().flatten().filter(|part| part.name == Some("DC"));
        let components: Vec<_> = components.filter_map(|part| part.value.as_deref()).collect();
        for component in &components {
            let _ = write!(text, ",DC={component}");
        }
        (!components.is_empty()).then_some(text)
    }

    /// The standard parts, each type's values in one set, in the order that Go has for types.
    fn standard_sets(&self) -> Vec<Vec<&Attribute>> {
        const ORDER: [&str; 9] = ["C", "O", "OU", "L", "ST", "STREET", "POSTALCODE", "CN", "SERIALNUMBER"];
        let of_type = |name: &str| {
            let parts = self.subject.iter().flatten();
            let parts = parts.filter(|part| part.standard() == Some(name) && part.value.is_some());
            let mut set: Vec<_> = parts.collect();
            if matches!(name, "CN" | "SERIALNUMBER") {
                // There is room for one, and the last one has it.
                set.drain(..set.len().saturating_sub(1));
                set.retain(|part| part.value.as_deref() != Some(""));
            }
            set
        };
        ORDER.into_iter().map(of_type).filter(|set| !set.is_empty()).collect()
    }
}

impl Attribute {
    fn read(part: &AttributeTypeAndValue) -> Self {
        let name = NAMES.iter().find(|(oid, _)| *oid == part.oid).map(|(_, name)| *name);
        let bytes = part.value.value();
        let value = match part.value.tag() {
            Tag::Utf8String => part.value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.to_string()),
            Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
                String::from_utf8(bytes.to_vec()).ok().filter(|text| text.is_ascii())
            }
            Tag::TeletexString => {
                part.value.decode_as::<TeletexStringRef<'_>>().ok().map(|text| text.as_str().to_owned())
            }
            Tag::BmpString => part.value.decode_as::<BmpString>().ok().map(|text| text.to_string()),
            _ => None,
        };
        let der = match &value {
            Some(text) => text_der(text),
            None => part.value.to_der().unwrap_or_default(),
        };
        Self { name, value, oid: part.oid, der }
    }

    /// The name, if it is one of those that Go has a field for.
    fn standard(&self) -> Option<&'static str> {
        self.name.filter(|name| *name != "DC")
    }
}

/// nats-server's short names of types.
const NAMES: [(ObjectIdentifier, &str); 10] = [
    (ObjectIdentifier::new_unwrap("2.5.4.3"), "CN"),
    (ObjectIdentifier::new_unwrap("2.5.4.5"), "SERIALNUMBER"),
    (ObjectIdentifier::new_unwrap("2.5.4.6"), "C"),
    (ObjectIdentifier::new_unwrap("2.5.4.7"), "L"),
    (ObjectIdentifier::new_unwrap("2.5.4.8"), "ST"),
    (ObjectIdentifier::new_unwrap("2.5.4.9"), "STREET"),
    (ObjectIdentifier::new_unwrap("2.5.4.10"), "O"),
    (ObjectIdentifier::new_unwrap("2.5.4.11"), "OU"),
    (ObjectIdentifier::new_unwrap("2.5.4.17"), "POSTALCODE"),
    (ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.25"), "DC"),
];

/// Sets in reverse, as RFC 2253 writes them.
fn line(sets: &[Vec<&Attribute>]) -> String {
    let mut text = String::new();
    for (n, set) in sets.iter().rev().enumerate() {
        if n > 0 {
            text.push(',');
        }
        for (n, part) in set.iter().enumerate() {
            if n > 0 {
                text.push('+');
            }
            match (part.standard(), &part.value) {
                (Some(name), Some(value)) => {
                    text.push_str(name);
                    text.push('=');
                    escape(value, &mut text);
                }
                _ => {
                    let _ = write!(text, "{}=#", part.oid);
                    for byte in &part.der {
                        let _ = write!(text, "{byte:02x}");
                    }
                }
            }
        }
    }
    text
}

fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, c) in value.char_indices() {
        let special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => at == 0 || at == last,
            '#' => at == 0,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        text.push(c);
    }
}

/// A text as Go would encode it: PrintableString if it can be one, else UTF8String.
fn text_der(text: &str) -> Vec<u8> {
    let printable = |byte: u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte);
    let tag = if text.bytes().all(printable) { 0x13 } else { 0x0c };
    let mut der = vec![tag];
    let len = text.len();
    if len < 0x80 {
        der.push(len as u8);
    } else {
        let bytes: Vec<u8> = len.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        der.push(0x80 | bytes.len() as u8);
        der.extend_from_slice(&bytes);
    }
    der.extend_from_slice(text.as_bytes());
    der
}
