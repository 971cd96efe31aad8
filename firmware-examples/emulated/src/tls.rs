//! TLS 1.3 upon TCP, with a check of who the broker is: embedded-tls.

use crate::Clock;
use crate::ethernet::{Network, READ_US, Tcp};
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use embedded_tls::blocking::TlsConnection;
use embedded_tls::pki::CertVerifier;
use embedded_tls::{
    Aes128GcmSha256, Certificate, CryptoProvider, CryptoRngCore, TlsClock, TlsConfig, TlsContext, TlsError,
    TlsVerifier,
};
use node::Records;
use node::blocking::Uplink;
use rand_core::{CryptoRng, RngCore};
use semihosting::experimental::time::SystemTime;
use semihosting::fs::File;
use semihosting::io::Read as _;
use smoltcp::phy::Device;

/// How long the broker may take for each step of the handshake.
const HANDSHAKE_US: u64 = 10_000_000;

/// Room for records, as they come and go, and for embedded-tls to work in. midged writes what it has to say at once into one
/// record: to a node, that are two messages at most.
pub struct Room {
    arriving: [u8; 4_096],
    leaving: [u8; 1_024],
    receive: [u8; 4_096],
    transmit: [u8; 1_024],
}

impl Room {
    /// All clear.
    pub const fn new() -> Self {
        Self { arriving: [0; 4_096], leaving: [0; 1_024], receive: [0; 4_096], transmit: [0; 1_024] }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

/// A network, and whom to trust.
pub struct Secure<'b, D, C> {
    network: Network<'b, D, C>,
    room: &'b mut Room,
    name: &'static str,
    authority: &'static [u8],
}

impl<'b, D: Device, C: Clock> Secure<'b, D, C> {
    /// The broker is `name`, and `authority` vouches for that: its certificate, DER, with a key on the curve P-256.
    pub fn new(
        network: Network<'b, D, C>,
        room: &'b mut Room,
        name: &'static str,
        authority: &'static [u8],
    ) -> Self {
        Self { network, room, name, authority }
    }
}

/// A connection before TLS.
pub struct Plain<'l, 'b, D, C> {
    tcp: Tcp<'l, 'b, D, C>,
    room: &'l mut Room,
    name: &'static str,
    authority: &'static [u8],
}

impl<'b, D: Device, C: Clock> Uplink for Secure<'b, D, C> {
    type Plain<'l>
        = Plain<'l, 'b, D, C>
    where
        Self: 'l;
    type Line<'l>
        = TlsConnection<'l, Records<'l, Tcp<'l, 'b, D, C>>, Aes128GcmSha256>
    where
        Self: 'l;

    fn connect(&mut self) -> Option<Self::Plain<'_>> {
        let tcp = self.network.dial()?;
        Some(Plain { tcp, room: self.room, name: self.name, authority: self.authority })
    }

    fn secure<'l>(plain: Self::Plain<'l>) -> Option<Self::Line<'l>>
    where
        Self: 'l,
    {
        let Plain { tcp, room, name, authority } = plain;
        // It can't be taken up again where a read has ended.
        let read_us = tcp.read_us();
        read_us.set(HANDSHAKE_US);
        let records = Records::new(tcp, &mut room.arriving, &mut room.leaving);
        let mut tls = TlsConnection::new(records, &mut room.receive, &mut room.transmit);
        let config = TlsConfig::new().with_server_name(name);
        let trust = Authority {
            random: HostRandom(File::open(c"/dev/urandom").ok()?),
            verifier: CertVerifier::new(Certificate::X509(authority)),
        };
        let done = tls.open(TlsContext::new(&config, trust));
        read_us.set(READ_US);
        done.ok().map(|()| tls)
    }

    fn rest(&mut self) {
        self.network.rest();
    }
}

impl<D, C> ErrorType for Plain<'_, '_, D, C> {
    type Error = ErrorKind;
}

impl<D: Device, C: Clock> Read for Plain<'_, '_, D, C> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        self.tcp.read(buffer)
    }
}

impl<D: Device, C: Clock> Write for Plain<'_, '_, D, C> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        self.tcp.flush()
    }
}

struct Authority {
    random: HostRandom,
    verifier: CertVerifier<'static, Aes128GcmSha256, HostClock, 1_024>,
}

impl CryptoProvider for Authority {
    type CipherSuite = Aes128GcmSha256;
    // Of a certificate of its own, which a node doesn't have.
    type Signature = &'static [u8];

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.random
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, TlsError> {
        Ok(&mut self.verifier)
    }
}

/// What year it is, from the host. A board of its own knows it from a clock with a battery, or not: `embedded_tls::NoClock`.
struct HostClock;

impl TlsClock for HostClock {
    fn now() -> Option<u64> {
        Some(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
    }
}

/// The host's random numbers. A board of its own has a generator.
struct HostRandom(File);

impl CryptoRng for HostRandom {}

impl RngCore for HostRandom {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        // Without random numbers there is no TLS, so better no node.
        self.0.read_exact(bytes).expect("the host has random numbers");
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
