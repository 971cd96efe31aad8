//! The record layer of one connection, bytes to bytes.
//!
//! rustls' unbuffered connection does the work. It owns no buffers, so what a connection holds between two records is
//! decided here: nothing, unless a record has arrived or could be written only in part. (The buffered one is no faster
//! and keeps 4 KiB for each connection.)

use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{Error, ProtocolVersion, ServerConfig};

use crate::suites;
use crate::verifier::take_refused;

/// Keys, and what lies half done between peer and owner.
pub struct Record {
    connection: UnbufferedServerConnection,
    /// What has arrived of a record, or of a message of the handshake, that isn't whole. Whole ones never stay here.
    input: Vec<u8>,
    /// Decrypted, and not taken yet.
    plain: Vec<u8>,
    /// Encrypted, and not written yet.
    output: Vec<u8>,
    /// Bytes of plain text that count as sent once all of `output` is written.
    owed: usize,
    /// The peer said that nothing more comes.
    ended: bool,
    /// Keys and states are no longer in step with the peer's.
    failed: bool,
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It wants more.
    Handshaking,
    /// Messages may go both ways.
    Ready,
}

/// Why a record can't be believed, or a peer not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What rustls says.
    pub error: Error,
    /// The certificates that the peer showed, if it was refused for them.
    pub refused: Vec<CertificateDer<'static>>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, refused: Vec::new() }
    }
}

/// What encryption adds to the few records of a piece, about.
const RECORD_OVERHEAD: usize = 128;
/// Bytes of its peer that a connection holds back at most: one record, or the largest message of a handshake in
/// pieces, which rustls limits to 64 KiB, with the headers of those.
const INPUT_MAX: usize = 128 * 1024;

impl Record {
    /// A connection of which nothing has arrived.
    pub fn new(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(Arc::clone(config))?,
            input: Vec::new(),
            plain: Vec::new(),
            output: Vec::new(),
            owed: 0,
            ended: false,
            failed: false,
        })
    }

    /// What arrived and isn't used up. The caller puts it in front of what it gives to [`Record::receive`].
    pub fn unused(&self) -> &[u8] {
        &self.input
    }

    /// Works on `input`, which begins with [`Record::unused`] and is overwritten. What comes of it is in
    /// [`Record::plain`], and for the peer, an alert too, in [`Record::flush`]. After an error the connection is of no
    /// more use.
    pub fn receive(&mut self, input: &mut [u8]) -> Result<Progress, Failure> {
        let mut used = 0;
        let mut result = self.process(input, &mut used);
        let rest = input.get_mut(used..).unwrap_or_default();
        if result.is_ok() && rest.len() > INPUT_MAX {
            result = Err(Error::General("a message of the handshake is too long".to_owned()));
        }
        match result {
            Ok(progress) if rest.is_empty() => {
                // Idle connections hold nothing.
                self.input = Vec::new();
                Ok(progress)
            }
            Ok(progress) => {
                self.input.clear();
                self.input.extend_from_slice(rest);
                Ok(progress)
            }
            Err(error) => {
                self.failed = true;
                self.alert(rest);
                self.input = Vec::new();
                Err(Failure { error, refused: take_refused() })
            }
        }
    }

    fn process(&mut self, input: &mut [u8], used: &mut usize) -> Result<Progress, Error> {
        loop {
            let rest = input.get_mut(*used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(rest);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    *used += discard;
                    return Err(error);
                }
            };
            let done = match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(&mut self.output, 0, |room| data.encode(room).map_err(too_small))?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::PeerClosed => {
                    self.ended = true;
                    None
                }
                ConnectionState::Closed => {
                    self.ended = true;
                    Some(Progress::Ready)
                }
                ConnectionState::BlockedHandshake => Some(Progress::Handshaking),
                // WriteTraffic. Early data, the only other state, is never offered.
                _ => Some(Progress::Ready),
            };
            *used += discard;
            if let Some(progress) = done {
                return Ok(progress);
            }
        }
    }

    /// After an error: rustls may have an alert for the peer. It is asked once, because beyond that it would look at
    /// what is left of the input again.
    fn alert(&mut self, rest: &mut [u8]) {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(rest);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = state {
            // Without an alert the peer learns by the end of the stream that something is wrong.
            let _ = append(&mut self.output, 0, |room| data.encode(room).map_err(too_small));
        }
    }

    /// Decrypted bytes that were not taken.
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Takes the first `n` bytes of [`Record::plain`].
    pub fn take_plain(&mut self, n: usize) {
        if n < self.plain.len() {
            self.plain.drain(..n);
        } else {
            self.plain = Vec::new();
        }
    }

    /// Takes all of [`Record::plain`].
    pub fn take_all_plain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    /// True if the peer said that nothing more comes.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Gives to `write`, which says how much it takes, what is encrypted and not written. Returns the bytes of plain
    /// text that count as sent only now. After an error of `write` the rest is kept for the next time.
    pub fn flush(&mut self, write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        self.flush_own(write)?;
        Ok(std::mem::take(&mut self.owed))
    }

    /// As [`Record::flush`], for who has no plain text to account for: that is left for the next flush to return.
    pub fn flush_own(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let mut written = 0;
        let result = write_all(&self.output, &mut written, &mut write);
        if result.is_ok() {
            // Idle connections hold nothing.
            self.output = Vec::new();
        } else {
            self.output.drain(..written);
        }
        result
    }

    /// Encrypts `plain` and gives it to `write`. It counts as sent once all of it is written: if `write` takes only a
    /// part, that is an error, the rest is kept, and the later [`Record::flush`] returns the length of `plain`. To be
    /// called when there is nothing to flush. `scratch` is overwritten.
    pub fn send(
        &mut self,
        plain: &[u8],
        scratch: &mut Vec<u8>,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        scratch.clear();
        self.encrypt(Some(plain), scratch).map_err(io::Error::other)?;
        let mut written = 0;
        let result = write_all(scratch, &mut written, &mut write);
        if result.is_err() {
            self.output.extend_from_slice(scratch.get(written..).unwrap_or_default());
            self.owed += plain.len();
        }
        result
    }

    /// Tells the peer that nothing more comes, if all before that is written and `write` takes it.
    pub fn close(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        self.flush_own(&mut write)?;
        let mut farewell = Vec::new();
        self.encrypt(None, &mut farewell).map_err(io::Error::other)?;
        write_all(&farewell, &mut 0, &mut write)
    }

    /// Appends `plain`, encrypted, or the word that nothing more comes.
    fn encrypt(&mut self, plain: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.failed {
            return Err(Error::General("the connection has failed".to_owned()));
        }
        loop {
            // What isn't used up is shown again: rustls may be in the middle of it, and counts from its start.
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.input);
            let done = match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let guess = plain.map_or(0, |plain| plain.len()) + RECORD_OVERHEAD;
                    append(out, guess, |room| match plain {
                        Some(plain) => traffic.encrypt(plain, room).map_err(exhausted),
                        None => traffic.queue_close_notify(room).map_err(exhausted),
                    })?;
                    true
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(out, 0, |room| data.encode(room).map_err(too_small))?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    self.ended = true;
                    false
                }
                _ => return Err(Error::General("the connection is closed".to_owned())),
            };
            self.input.drain(..discard.min(self.input.len()));
            if done {
                return Ok(());
            }
        }
    }

    /// `1.2` or `1.3`, after the handshake.
    pub fn version(&self) -> &'static str {
        match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        }
    }

    /// The registry's name of the cipher suite, after the handshake.
    pub fn cipher_suite(&self) -> &'static str {
        self.connection.negotiated_cipher_suite().map_or("unknown", suites::name_of)
    }

    /// The certificates that the peer showed, its own first; they are verified.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }
}

fn write_all(
    bytes: &[u8],
    written: &mut usize,
    write: &mut impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    while let Some(rest @ [_, ..]) = bytes.get(*written..) {
        match write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => *written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Why rustls didn't write.
enum Shortage {
    /// It needs this much room.
    Room(usize),
    /// The keys have done all that they safely can.
    Keys,
}

fn exhausted(error: EncryptError) -> Shortage {
    match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
            Shortage::Room(required_size)
        }
        EncryptError::EncryptExhausted => Shortage::Keys,
    }
}

fn too_small(error: EncodeError) -> Shortage {
    match error {
        EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => {
            Shortage::Room(required_size)
        }
        EncodeError::AlreadyEncoded => Shortage::Keys,
    }
}

/// Lets `write` append to `out`, with as much room as it asks for; `room` is a guess.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Shortage>,
) -> Result<(), Error> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(n) => {
                out.truncate(start + n);
                return Ok(());
            }
            Err(Shortage::Room(n)) if n > room => room = n,
            Err(_) => {
                out.truncate(start);
                return Err(Error::EncryptError);
            }
        }
    }
}
