//! The record layer of one connection.
//!
//! rustls' unbuffered connection does the work; it owns no buffers, so what a connection holds between two records is
//! decided here: nothing, unless a record has arrived or could be written only in part.

use tokio::io::ReadBuf;

use rustls::CommonState;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};

pub(super) struct Record {
    connection: UnbufferedServerConnection,
    /// What has arrived of a record, or of a message of the handshake, that isn't whole. Whole ones never stay here.
    input: Vec<u8>,
    /// Decrypted, and not asked for yet.
    plain: Vec<u8>,
    /// Encrypted, and not taken by the socket yet.
    pub(super) output: Vec<u8>,
    /// Bytes of the queue that `output` ends with the encryption of.
    pub(super) owed: usize,
    /// The peer said that nothing more comes.
    ended: bool,
    /// Keys and states are no longer in step with the peer's.
    failed: bool,
}

/// What [`Record::receive`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The handshake wants more.
    Handshaking,
    /// Messages may go both ways.
    Ready,
}

/// What a record may hold back of its peer's bytes: one record, or the largest message of a handshake in pieces.
const INPUT_MAX: usize = 128 * 1024;

impl Record {
    pub(super) fn new(connection: UnbufferedServerConnection) -> Self {
        Self {
            connection,
            input: Vec::new(),
            plain: Vec::new(),
            output: Vec::new(),
            owed: 0,
            ended: false,
            failed: false,
        }
    }

    /// What came before and isn't used up. The caller puts it in front of what it gives to [`Record::receive`].
    pub(super) fn unused(&self) -> &[u8] {
        &self.input
    }

    /// What was agreed on.
    pub(super) fn common(&self) -> &CommonState {
        &self.connection
    }

    /// True if the peer said that nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Works on `input`, which begins with [`Record::unused`] and is overwritten. Plain text is gathered for
    /// [`Record::deliver`]; what the peer must get, an alert of our own too, in `output`. After an error the
    /// connection is of no more use.
    pub(super) fn receive(&mut self, input: &mut [u8]) -> Result<Progress, rustls::Error> {
        let mut used = 0;
        let result = self.process(input, &mut used);
        let rest = input.get_mut(used..).unwrap_or_default();
        if result.is_err() {
            self.failed = true;
            self.alert(rest);
        } else if rest.len() > INPUT_MAX {
            self.failed = true;
            return Err(rustls::Error::General("a message of the handshake is too long".to_owned()));
        } else if !rest.is_empty() {
            self.input.clear();
            self.input.extend_from_slice(rest);
            return result;
        }
        // Idle connections hold nothing.
        self.input = Vec::new();
        result
    }

    fn process(&mut self, input: &mut [u8], used: &mut usize) -> Result<Progress, rustls::Error> {
        loop {
            let rest = input.get_mut(*used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(rest);
            let done = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(&mut self.output, |room| data.encode(room).map_err(too_small))?;
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

    /// After an error: rustls has an alert for the peer.
    fn alert(&mut self, rest: &mut [u8]) {
        while let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.connection.process_tls_records(rest).state
        {
            if append(&mut self.output, |room| data.encode(room).map_err(too_small)).is_err() {
                return;
            }
        }
    }

    /// Gives plain text, as much as there is room for.
    pub(super) fn deliver(&mut self, buffer: &mut ReadBuf<'_>) {
        let n = self.plain.len().min(buffer.remaining());
        buffer.put_slice(&self.plain[..n]);
        if n == self.plain.len() {
            self.plain = Vec::new();
        } else {
            self.plain.drain(..n);
        }
    }

    /// True if there is something to [`Record::deliver`].
    pub(super) fn has_plain(&self) -> bool {
        !self.plain.is_empty()
    }

    /// Appends `plain`, encrypted, to `out`.
    pub(super) fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        self.write(Some(plain), out)
    }

    /// Appends the announcement that we say nothing more.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        self.write(None, out)
    }

    fn write(&mut self, plain: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        if self.failed {
            return Err(rustls::Error::General("the connection has failed".to_owned()));
        }
        loop {
            // What isn't used up is shown again: rustls may be in the middle of it.
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.input);
            let done = match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    append(out, |room| match plain {
                        Some(plain) => traffic.encrypt(plain, room).map_err(exhausted),
                        None => traffic.queue_close_notify(room).map_err(exhausted),
                    })?;
                    true
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(out, |room| data.encode(room).map_err(too_small))?;
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
                _ => return Err(rustls::Error::General("the connection is closed".to_owned())),
            };
            self.input.drain(..discard);
            if done {
                return Ok(());
            }
        }
    }
}

enum Shortage {
    Bytes(usize),
    Keys,
}

fn exhausted(error: EncryptError) -> Shortage {
    match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
            Shortage::Bytes(required_size)
        }
        EncryptError::EncryptExhausted => Shortage::Keys,
    }
}

fn too_small(error: EncodeError) -> Shortage {
    match error {
        EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => {
            Shortage::Bytes(required_size)
        }
        EncodeError::AlreadyEncoded => Shortage::Bytes(0),
    }
}

/// Lets `write` append to `out`, with as much room as it asks for.
fn append(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Shortage>,
) -> Result<(), rustls::Error> {
    let start = out.len();
    let mut room = out.capacity() - start;
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(n) => {
                out.truncate(start + n);
                return Ok(());
            }
            Err(Shortage::Bytes(n)) if n > room => room = n,
            Err(_) => {
                out.truncate(start);
                return Err(rustls::Error::EncryptError);
            }
        }
    }
}
