//! Encryption of connections.

use std::path::PathBuf;
use std::time::Duration;

use crate::block::Block;
use crate::report::Report;
use crate::text;
use crate::value::Data;

/// A `tls` block. No file is opened here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates and their keys, PEM. Empty only where this side is a client.
    pub certificates: Vec<Certificate>,
    /// The authorities that the other side's certificate is checked against, PEM.
    pub ca_file: Option<PathBuf>,
    /// The other side must show a certificate. Default false; on with [`Self::map`].
    pub verify: bool,
    /// The certificate names the user. Default false.
    pub map: bool,
    /// As a client: believe any certificate. Default false.
    pub insecure: bool,
    /// How long a handshake may take. Default 2 s.
    pub timeout: Duration,
    /// Whether the handshake comes before INFO.
    pub handshake_first: HandshakeFirst,
    /// Certificates that are believed: SHA-256 of the public key's DER form, 64 small hex digits each. Empty: any.
    pub pinned_certs: Vec<String>,
    /// New connections a second; none: no ceiling.
    pub connection_rate_max: Option<u32>,
    /// The oldest version. Default 1.2.
    pub min_version: TlsVersion,
    /// Names of cipher suites. Empty: the library's choice.
    pub cipher_suites: Vec<String>,
    /// Names of curves. Empty: the library's choice.
    pub curve_preferences: Vec<String>,
}

/// A certificate and its key, as paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// Whether the TLS handshake comes before INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO in clear comes first, as clients expect.
    #[default]
    No,
    /// The handshake comes first.
    Yes,
    /// The handshake comes first if the client starts it in this time; else INFO. `auto` is 50 ms.
    Within(Duration),
}

/// A TLS version that is still safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    Tls12,
    /// 1.3.
    Tls13,
}

impl Tls {
    pub(crate) fn read(block: &Block<'_>, report: &mut Report) -> Self {
        let certificate = |block: &Block<'_>| {
            Some(Certificate { cert_file: block.path("cert_file")?, key_file: block.path("key_file")? })
        };
        let mut certificates: Vec<_> = certificate(block).into_iter().collect();
        if let Some(at) = block.at() {
            if block.has("cert_file") != block.has("key_file") {
                report.error(at, "error parsing tls config, 'cert_file' and 'key_file' come together");
            }
            if block.has("cert_file") && !block.blocks("certs").is_empty() {
                report.error(
                    at,
                    "error parsing tls config, cannot combine 'cert_file' option with 'certs' option",
                );
            }
        }
        if let Some(value) = block.get("verify_cert_and_check_known_urls")
            && value.data == Data::Bool(true)
        {
            report.error(&value.at, "verify_cert_and_check_known_urls not supported in this context");
        }
        for pair in block.blocks("certs") {
            match (certificate(&pair), pair.at()) {
                (None, Some(at)) => report.error(at, "both 'cert_file' and 'key_file' are required"),
                (pair, _) => certificates.extend(pair),
            }
        }
        for name in ["cipher_suites", "curve_preferences"] {
            if let Some(value) = block.get(name).filter(|_| block.texts(name).is_empty()) {
                report.error(&value.at, format!("error parsing tls config, '{name}' cannot be empty"));
            }
        }
        check_names(block, report);
        let pinned_certs: Vec<_> =
            block.texts("pinned_certs").iter().map(|digits| digits.to_ascii_lowercase()).collect();
        let is_hash = |hash: &String| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(value) = block.get("pinned_certs").filter(|_| !pinned_certs.iter().all(is_hash)) {
            report.error(&value.at, "'pinned_certs' takes SHA-256 hashes of public keys, 64 hex digits each");
        }
        let map = block.bool("verify_and_map").unwrap_or_default();
        Self {
            certificates,
            ca_file: block.path("ca_file"),
            verify: map || block.bool("verify").unwrap_or_default(),
            map,
            insecure: block.bool("insecure").unwrap_or_default(),
            timeout: block.seconds("timeout").unwrap_or(Self::default().timeout),
            handshake_first: HandshakeFirst::read(block),
            pinned_certs,
            connection_rate_max: block.nonzero("connection_rate_limit"),
            min_version: TlsVersion::read(block, report),
            cipher_suites: block.texts("cipher_suites"),
            curve_preferences: block.texts("curve_preferences"),
        }
    }
}

/// Refuses names that nats-server doesn't know, and suites that it takes only from those who insist.
fn check_names(block: &Block<'_>, report: &mut Report) {
    if let Some(value) = block.get("cipher_suites") {
        let suites = block.texts("cipher_suites");
        for name in &suites {
            if !SUITES.contains(&name.as_str()) && !INSECURE_SUITES.contains(&name.as_str()) {
                report.error(&value.at, format!("unrecognized cipher {name}"));
            }
        }
        let insecure: Vec<_> =
            suites.iter().filter(|name| INSECURE_SUITES.contains(&name.as_str())).cloned().collect();
        if !insecure.is_empty() && !block.bool("allow_insecure_cipher_suites").unwrap_or_default() {
            let names = insecure.join(", ");
            let text = "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set";
            report.error(&value.at, format!("{text}: {names}"));
        }
    }
    if let Some(value) = block.get("curve_preferences") {
        for name in block.texts("curve_preferences").iter().filter(|name| !CURVES.contains(&name.as_str())) {
            report.error(&value.at, format!("unrecognized curve preference {name}"));
        }
    }
}

/// Go's names of the cipher suites that it takes for safe.
const SUITES: [&str; 13] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Go's names of those that it doesn't.
const INSECURE_SUITES: [&str; 12] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Go's names of ways to exchange keys.
const CURVES: [&str; 7] = [
    "X25519MLKEM768",
    "SecP256r1MLKEM768",
    "SecP384r1MLKEM1024",
    "X25519",
    "CurveP256",
    "CurveP384",
    "CurveP521",
];

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            ca_file: None,
            verify: false,
            map: false,
            insecure: false,
            timeout: Duration::from_secs(2),
            handshake_first: HandshakeFirst::No,
            pinned_certs: Vec::new(),
            connection_rate_max: None,
            min_version: TlsVersion::Tls12,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
        }
    }
}

impl HandshakeFirst {
    fn read(block: &Block<'_>) -> Self {
        match block.get("handshake_first").map(|value| &value.data) {
            Some(Data::Bool(true)) => Self::Yes,
            Some(Data::Text(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "on" => Self::Yes,
                "auto" | "auto_fallback" => Self::Within(Duration::from_millis(50)),
                _ => text::duration(text).map(Self::Within).unwrap_or_default(),
            },
            _ => Self::No,
        }
    }
}

impl TlsVersion {
    fn read(block: &Block<'_>, report: &mut Report) -> Self {
        match block.text("min_version").as_deref() {
            None | Some("1.2") => Self::Tls12,
            Some("1.3") => Self::Tls13,
            Some(other) => {
                if let Some(value) = block.get("min_version") {
                    report.error(&value.at, format!("'min_version' is \"1.2\" or \"1.3\", got {other:?}"));
                }
                Self::Tls12
            }
        }
    }
}
