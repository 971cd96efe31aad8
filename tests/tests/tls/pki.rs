//! Certificates, made when a test asks for them and gone with it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use tempfile::TempDir;

use crate::der;

/// An authority in a directory of its own, with whatever it signs.
pub(crate) struct Pki {
    directory: TempDir,
    /// The authority's common name. No two have the same, unless asked to.
    name: String,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// SHA-256 of the public key's DER form, as `pinned_certs` takes it.
    pub(crate) pin: String,
}

impl Pair {
    /// The keys of a `tls` block.
    pub(crate) fn keys(&self) -> String {
        format!("cert_file: '{}', key_file: '{}'", self.cert.display(), self.key.display())
    }

    /// Puts these files where the others are, as an administrator renews a certificate.
    pub(crate) fn replace(&self, old: &Self) {
        fs::copy(&self.cert, &old.cert).expect("a copy");
        fs::copy(&self.key, &old.key).expect("a copy");
    }
}

/// Sets of types and values in the certificate's order.
pub(crate) type Subject<'a> = &'a [&'a [(&'a str, &'a str)]];

/// What a client's certificate says.
#[derive(Default)]
pub(crate) struct Names<'a> {
    pub(crate) subject: Subject<'a>,
    pub(crate) email: &'a [&'a str],
    pub(crate) dns: &'a [&'a str],
    pub(crate) uri: &'a [&'a str],
}

impl Pki {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("midge-pki-").tempdir().expect("a directory");
        let name = format!("The authority in {}", directory.path().display());
        Self::named(name, directory)
    }

    /// An authority that has the other's name, and a key of its own.
    pub(crate) fn namesake(other: &Self) -> Self {
        let directory = tempfile::Builder::new().prefix("midge-pki-").tempdir().expect("a directory");
        Self::named(other.name.clone(), directory)
    }

    fn named(name: String, directory: TempDir) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        fs::write(directory.path().join("ca.pem"), authority.pem()).expect("a file");
        Self { directory, name, authority }
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The authority's certificate, as DER.
    pub(crate) fn root(&self) -> rustls::pki_types::CertificateDer<'static> {
        self.authority.der().clone()
    }

    /// The key of a `tls` block for it.
    pub(crate) fn ca_key(&self) -> String {
        format!("ca_file: '{}'", self.ca().display())
    }

    /// A server's certificate for `localhost` and 127.0.0.1.
    pub(crate) fn server(&self, name: &str) -> Pair {
        self.server_for(name, &["localhost", "127.0.0.1"])
    }

    /// A server's certificate for these names.
    pub(crate) fn server_for(&self, name: &str, names: &[&str]) -> Pair {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(name, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate with nothing but a common name, which is also that of the files.
    pub(crate) fn client(&self, name: &str) -> Pair {
        self.client_of(name, &Names { subject: &[&[("CN", name)]], ..Names::default() })
    }

    /// A client's certificate with these names.
    pub(crate) fn client_of(&self, file: &str, names: &Names<'_>) -> Pair {
        self.client_for(file, names, ["200101000000Z", "490101000000Z"])
    }

    /// A client's certificate of last century.
    pub(crate) fn expired_client(&self, name: &str) -> Pair {
        let names = Names { subject: &[&[("CN", name)]], ..Names::default() };
        self.client_for(name, &names, ["980101000000Z", "990101000000Z"])
    }

    fn client_for(&self, file: &str, names: &Names<'_>, period: der::Period) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = der::certificate(names, period, &key, &self.name, self.authority.key());
        self.write(file, &pem(&certificate), &key)
    }

    fn sign(&self, name: &str, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Pair {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        self.write(name, &certificate.pem(), &key)
    }

    fn write(&self, name: &str, pem: &str, key: &KeyPair) -> Pair {
        let (cert, key_file) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        fs::write(&cert, pem).expect("a file");
        fs::write(&key_file, key.serialize_pem()).expect("a file");
        Pair { cert, key: key_file, pin: hex(&sha256(&key.subject_public_key_info())) }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: String =
        text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
