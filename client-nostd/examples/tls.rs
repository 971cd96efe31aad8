//! A device over TLS 1.3 that knows who may vouch for its server: embedded-tls over tokio's sockets here, over those of
//! embassy-net on a board.
//!
//! ```sh
//! cargo run -p midge-client --features std --example tls localhost:4222 ca.der     # the authority's certificate
//! ```

#![allow(clippy::expect_used, reason = "a program on a desk may end")]
#![allow(clippy::large_futures, reason = "they hold the buffers")]

#[path = "device/mod.rs"]
mod device;

use embedded_io_adapters::tokio_1::FromTokio;
use embedded_tls::pki::CertVerifier;
use embedded_tls::{
    Aes128GcmSha256, Certificate, CryptoProvider, CryptoRngCore, TlsConfig, TlsConnection, TlsContext,
    TlsError, TlsVerifier,
};
use midge_client::tcp::Clock;
use midge_client::{Client, Config, Connection, Event, Login, Records};
use rand_core::OsRng;
use std::error::Error;
use std::time::SystemTime;
use tokio::net::TcpStream;

#[allow(dead_code, reason = "tests call what it calls")]
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [_, server, ca] = std::env::args().collect::<Vec<_>>().try_into().expect("a server and a file");
    let ca = std::fs::read(ca).expect("the certificate can be read");
    let stream = TcpStream::connect(&*server).await.expect("there is a server");
    let name = server.rsplit_once(':').map_or(&*server, |(name, _)| name);
    run(FromTokio::new(stream), name, &ca, 5).await.expect("it works");
}

/// A device that publishes so many readings to the server `name`, for which the authority `ca` vouches, over `stream`.
pub(crate) async fn run<S: embedded_io_async::Read + embedded_io_async::Write>(
    stream: S,
    name: &str,
    ca: &[u8],
    rounds: usize,
) -> Result<(), Box<dyn Error>> {
    let clock = Clock::start();
    let (mut receive, mut transmit) = ([0; 256], [0; 256]);
    let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    client.subscribe("plant.attic.*", None)?;

    // The server greets before TLS, in the open, and says that it wants TLS.
    let mut connection = Connection::greet(&mut client, stream, clock.now());
    while !matches!(connection.next(clock.now()).await.map_err(text)?, Some(Event::Greeting { .. })) {}
    let stream = connection.into_transport();

    // Two buffers for what is encrypted on its way, two for embedded-tls to work in.
    let (mut records_in, mut records_out) = ([0; 4096], [0; 1024]);
    let (mut tls_in, mut tls_out) = ([0; 4096], [0; 512]);
    let records = Records::new(stream, &mut records_in, &mut records_out);
    let mut tls = TlsConnection::<_, Aes128GcmSha256>::new(records, &mut tls_in, &mut tls_out);
    let config = TlsConfig::new().with_server_name(name);
    // Give a handshake its time, and drop the transport if it takes longer: it can't be taken up again.
    tls.open(TlsContext::new(&config, Authority::new(ca))).await?;

    let mut connection = Connection::resume(&mut client, tls);
    connection.login(&Login::user("sensor", "secret"), clock.now()).await.map_err(text)?;
    device::converse(&mut connection, clock, rounds).await.map_err(text)
}

fn text(error: impl std::fmt::Debug) -> Box<dyn Error> {
    format!("{error:?}").into()
}

/// Who vouches for servers, and where random numbers come from. On a board: its generator, and `embedded_tls::NoClock` if it
/// doesn't know what year it is.
pub(crate) struct Authority<'a> {
    random: OsRng,
    verifier: CertVerifier<'a, Aes128GcmSha256, SystemTime, 2048>,
}

impl<'a> Authority<'a> {
    /// `ca`: its certificate, DER, with a key on the curve P-256.
    pub(crate) fn new(ca: &'a [u8]) -> Self {
        Self { random: OsRng, verifier: CertVerifier::new(Certificate::X509(ca)) }
    }
}

impl CryptoProvider for Authority<'_> {
    type CipherSuite = Aes128GcmSha256;
    // Of a client's own certificate, which this one doesn't have.
    type Signature = &'static [u8];

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.random
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, TlsError> {
        Ok(&mut self.verifier)
    }
}
