//! Certificates, made when a test asks for them and gone with it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// A directory with an authority's certificate in it, and whatever the authority signs.
pub(crate) struct Pki {
    directory: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("midge-pki-").tempdir().expect("a directory");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "An authority for one test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        fs::write(directory.path().join("ca.pem"), authority.pem()).expect("a file");
        Self { directory, authority }
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A server's certificate for `localhost` and 127.0.0.1.
    pub(crate) fn server(&self, name: &str) -> Pair {
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        self.sign(name, params.expect("good names"), ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn sign(&self, name: &str, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Pair {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        let pair = Pair { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        fs::write(&pair.cert, certificate.pem()).expect("a file");
        fs::write(&pair.key, key.serialize_pem()).expect("a file");
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }
}
