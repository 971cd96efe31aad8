//! A client over TLS by hand, line by line.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use midge_tests::daemon::PATIENCE;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::Value;

use crate::pki::{Pair, Pki};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An encrypted connection.
pub(crate) struct Peer(BufReader<Tls>);

/// What a client believes and shows.
pub(crate) fn config(pki: &Pki, shown: Option<&Pair>) -> Arc<ClientConfig> {
    config_of(pki, shown, rustls::ALL_VERSIONS)
}

pub(crate) fn config_of(
    pki: &Pki,
    shown: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.root()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(chain(&pair.cert), key(&pair.key))
            .expect("a certificate and its key"),
    })
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).expect("a file").map(|cert| cert.expect("a certificate")).collect()
}

fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).expect("a key")
}

/// A socket whose reads end.
pub(crate) fn socket(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream.set_write_timeout(Some(PATIENCE)).expect("a limit");
    stream
}

/// Reads the greeting in the clear: what it says.
pub(crate) fn greeting(stream: &mut TcpStream) -> Value {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).expect("a greeting");
        line.push(byte[0]);
    }
    info(&String::from_utf8_lossy(&line))
}

fn info(line: &str) -> Value {
    let json = line.strip_prefix("INFO ").unwrap_or_else(|| panic!("no INFO but {line:?}"));
    serde_json::from_str(json).expect("JSON")
}

impl Peer {
    /// Begins a handshake behind the greeting.
    pub(crate) fn upgrade(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let mut stream = socket(address);
        greeting(&mut stream);
        Self::over(stream, config, "localhost")
    }

    /// Shakes hands over `stream`.
    pub(crate) fn over(mut stream: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let name = name.to_owned().try_into().map_err(io::Error::other)?;
        let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Self(BufReader::new(StreamOwned::new(session, stream))))
    }

    pub(crate) fn send(&mut self, text: &str) -> io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())?;
        self.0.get_mut().flush()
    }

    /// The next line without its end, or none if the server has closed. A PING is answered and is no line.
    pub(crate) fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line)? {
                0 => return Ok(None),
                _ if line == "PING\r\n" => self.send("PONG\r\n")?,
                _ => return Ok(Some(line.trim_end().to_owned())),
            }
        }
    }

    pub(crate) fn info(&mut self) -> Value {
        info(&self.line().expect("a line").expect("no end"))
    }

    /// Says CONNECT with these options and waits until the server has done what that takes.
    pub(crate) fn connect(&mut self, options: &str) -> io::Result<Option<String>> {
        self.send(&format!("CONNECT {{\"verbose\":false{options}}}\r\nPING\r\n"))?;
        self.line()
    }

    /// The server has let this client in.
    pub(crate) fn fence(&mut self) {
        self.send("PING\r\n").expect("a write");
        assert_eq!(self.line().expect("a line").as_deref(), Some("PONG"));
    }

    /// The server's own certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let shown = self.0.get_ref().conn.peer_certificates().expect("certificates");
        shown.first().expect("a certificate").clone().into_owned()
    }

    pub(crate) fn session(&mut self) -> &mut ClientConnection {
        &mut self.0.get_mut().conn
    }

    pub(crate) fn stream(&mut self) -> &mut Tls {
        self.0.get_mut()
    }

    /// For reads that should end soon.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.0.get_ref().sock.set_read_timeout(Some(patience)).expect("a limit");
    }
}
