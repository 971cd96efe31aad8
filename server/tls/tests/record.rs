//! The record layer in memory, against rustls' own client: whatever the pieces, what one side says the other hears.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use midge_config::{Certificate, Tls};
use midge_tls::{Progress, Record, ServerTls};
use proptest::prelude::*;
use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::CertificateDer;
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore,
    ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

/// A server's configuration, and what a client needs to believe it.
struct Pki {
    server: Arc<ServerConfig>,
    root: CertificateDer<'static>,
}

impl Pki {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let [cert_file, key_file] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
        fs::write(&cert_file, made.cert.pem()).expect("a file");
        fs::write(&key_file, made.signing_key.serialize_pem()).expect("a file");
        let tls = Tls { certificates: vec![Certificate { cert_file, key_file }], ..Tls::default() };
        let loaded = ServerTls::load(&tls).expect("a configuration");
        Self { server: loaded.tls.clients, root: made.cert.der().clone() }
    }

    fn pair(&self, version: &'static SupportedProtocolVersion) -> Pair {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        Pair { client, record: Record::new(&self.server).expect("a server"), heard: Vec::new() }
    }
}

/// A client, the record layer, and what came through to the server.
struct Pair {
    client: ClientConnection,
    record: Record,
    heard: Vec<u8>,
}

impl Pair {
    /// What the client has to send.
    fn outgoing(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).expect("memory");
        }
        bytes
    }

    /// Gives bytes to the record layer, as a socket does.
    fn arrive(&mut self, bytes: &[u8]) -> Result<Progress, midge_tls::Failure> {
        let mut input = [self.record.unused(), bytes].concat();
        let progress = self.record.receive(&mut input)?;
        self.heard.extend_from_slice(self.record.plain());
        self.record.take_plain(usize::MAX);
        Ok(progress)
    }

    /// What the record layer has to send, of which a socket takes this much.
    fn flush(&mut self, most: usize) -> (Vec<u8>, usize) {
        let mut taken = Vec::new();
        let done = self.record.flush(|bytes| take(&mut taken, bytes, most));
        (taken, done.unwrap_or(0))
    }

    /// Gives bytes to the client.
    fn answer(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut said = Vec::new();
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).expect("memory");
            self.client.process_new_packets().expect("records that are in order");
            match self.client.reader().read_to_end(&mut said) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => panic!("{error}"),
                _ => {}
            }
        }
        said
    }

    fn shake_hands(&mut self, piece: usize) {
        let mut progress = Progress::Handshaking;
        for _ in 0..10 {
            for bytes in self.outgoing().chunks(piece) {
                progress = self.arrive(bytes).expect("a handshake");
            }
            let (bytes, _) = self.flush(usize::MAX);
            self.answer(&bytes);
        }
        assert!(progress == Progress::Ready && !self.client.is_handshaking());
    }
}

/// A socket that takes `most` bytes and then no more.
fn take(taken: &mut Vec<u8>, bytes: &[u8], most: usize) -> io::Result<usize> {
    let room = most.saturating_sub(taken.len()).min(bytes.len());
    if room == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    taken.extend_from_slice(&bytes[..room]);
    Ok(room)
}

static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

#[derive(Clone, Debug)]
enum Step {
    /// The client says so many bytes, which arrive in pieces of this size.
    Client(usize, usize),
    /// The server says so many bytes, of whose encryption the socket takes this many, and then all.
    Server(usize, usize),
    /// The client takes new keys, and asks for the same.
    Rekey,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40_000_usize, 1..20_000_usize).prop_map(|(len, piece)| Step::Client(len, piece)),
        (1..70_000_usize, 0..80_000_usize).prop_map(|(len, most)| Step::Server(len, most)),
        Just(Step::Rekey),
    ]
}

fn text(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + seed * 7) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_hears_what_the_other_says(
        steps in prop::collection::vec(step(), 1..12), version in 0..2_usize, piece in 1..400_usize,
    ) {
        let mut pair = Pki::new().pair(VERSIONS[version]);
        pair.shake_hands(piece);
        for (seed, step) in steps.into_iter().enumerate() {
            match step {
                Step::Client(len, piece) => {
                    let said = text(len, seed);
                    pair.heard.clear();
                    for part in said.chunks(30_000) {
                        pair.client.writer().write_all(part).expect("room");
                        for bytes in pair.outgoing().chunks(piece) {
                            pair.arrive(bytes).expect("records that are in order");
                        }
                    }
                    prop_assert!(pair.heard == said);
                    prop_assert!(pair.record.unused().is_empty(), "nothing is held between records");
                }
                Step::Server(len, most) => {
                    let said = text(len, seed);
                    let (mut taken, mut scratch) = (Vec::new(), Vec::new());
                    let sent = pair.record.send(&said, &mut scratch, |bytes| take(&mut taken, bytes, most));
                    let mut heard = pair.answer(&taken);
                    let (rest, done) = pair.flush(usize::MAX);
                    // What the socket didn't take at once counts only now.
                    prop_assert_eq!(if sent.is_ok() { 0 } else { len }, done);
                    heard.extend(pair.answer(&rest));
                    prop_assert!(heard == said);
                }
                Step::Rekey if version == 0 => {
                    pair.client.refresh_traffic_keys().expect("keys");
                    let bytes = pair.outgoing();
                    pair.arrive(&bytes).expect("a record that is in order");
                    let (bytes, _) = pair.flush(usize::MAX);
                    pair.answer(&bytes);
                }
                Step::Rekey => {}
            }
        }
    }

    /// A peer may send anything at any time, and others write meanwhile.
    #[test]
    fn nonsense_is_an_error(
        version in 0..2_usize, shaken: bool, spoilt in 0..600_usize, by in 1..=255_u8, cut in 1..600_usize,
        nonsense in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut pair = Pki::new().pair(VERSIONS[version]);
        if shaken {
            pair.shake_hands(100);
            pair.client.writer().write_all(&text(500, 1)).expect("room");
        }
        let mut bytes = pair.outgoing();
        if let Some(byte) = bytes.get_mut(spoilt) {
            *byte ^= by;
        }
        let whole = [&bytes[..cut.min(bytes.len())], &nonsense].concat();
        let mut scratch = Vec::new();
        for piece in whole.chunks(97) {
            let failed = pair.arrive(piece).is_err();
            let sent = pair.record.send(b"hello", &mut scratch, |bytes| Ok(bytes.len()));
            prop_assert!(!failed || sent.is_err(), "nothing is said with keys that failed");
            let _ = pair.flush(usize::MAX);
            if failed {
                break;
            }
        }
    }
}

/// A message of the handshake may come in pieces behind the handshake, too, and the server may have something to say
/// between them.
#[test]
fn half_a_message_does_not_stop_the_other_side() {
    let mut pair = Pki::new().pair(&rustls::version::TLS13);
    pair.shake_hands(100);
    let Pair { client, mut record, .. } = pair;
    let Some(SupportedCipherSuite::Tls13(suite)) = client.negotiated_cipher_suite() else {
        panic!("TLS 1.3")
    };
    let secrets = client.dangerous_extract_secrets().expect("keys");
    let (mut number, keys) = secrets.tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = keys
    else {
        panic!("keys of a suite that is offered")
    };
    let mut encrypter = suite.aead_alg.encrypter(key, iv);
    let mut encrypt = |typ, payload: &[u8]| {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(payload),
        };
        number += 1;
        encrypter.encrypt(message, number - 1).expect("a record").encode()
    };
    // A KeyUpdate that asks for nothing, cut behind its second byte.
    let (first, second) = ([24, 0], [0, 1, 0]);
    let receive = |record: &mut Record, bytes: &[u8]| {
        let mut input = [record.unused(), bytes].concat();
        record.receive(&mut input).map(drop)
    };
    receive(&mut record, &encrypt(ContentType::Handshake, &first)).expect("half a message");
    assert!(!record.unused().is_empty());
    let mut scratch = Vec::new();
    for _ in 0..3 {
        record.send(b"meanwhile", &mut scratch, |bytes| Ok(bytes.len())).expect("a write");
    }
    receive(&mut record, &encrypt(ContentType::Handshake, &second)).expect("the other half");
    assert!(record.unused().is_empty());
    record.send(b"behind it", &mut scratch, |bytes| Ok(bytes.len())).expect("a write");
}

#[test]
fn a_certificate_of_nonsense_is_unreadable() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let der = made.cert.der();
    let good = midge_tls::Certificate::read(der).expect("a certificate");
    assert_eq!(good.alternative_names(), ["localhost"]);
    assert_eq!(good.shown().subject, "CN=rcgen self signed cert");
    let mut read = 0;
    for at in 0..der.len() {
        assert!(midge_tls::Certificate::read(&der[..at]).is_err(), "cut at {at}");
        let mut spoilt = der.to_vec();
        spoilt[at] ^= 0x55;
        // Whether it can be read depends on what was spoilt; what can be read can be shown.
        if let Ok(certificate) = midge_tls::Certificate::read(&spoilt) {
            read += usize::from(certificate.shown().subject.len() < 10_000);
            certificate.alternative_names();
            certificate.subject().distinguished_name();
        }
    }
    assert!((1..der.len()).contains(&read));
}
