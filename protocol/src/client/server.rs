//! What a client has to know of its server.

/// What INFO said that a client acts on. A member that was absent is false, or no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct Server {
    /// Bits, as [`HEADERS`] and those behind it name them.
    pub(super) flags: u8,
    /// To be signed by a client with an nkey.
    pub nonce: Nonce,
    /// 0: no limit.
    max_payload: u32,
}

// In the order in which `scan` has their names.
pub(super) const HEADERS: u8 = 0;
const AUTH_REQUIRED: u8 = 1;
const TLS_REQUIRED: u8 = 2;
const TLS_AVAILABLE: u8 = 3;
const LAME_DUCK: u8 = 4;

impl Server {
    /// The server takes headers.
    pub fn headers(&self) -> bool {
        self.has(HEADERS)
    }

    /// CONNECT must carry credentials.
    pub fn auth_required(&self) -> bool {
        self.has(AUTH_REQUIRED)
    }

    /// TLS must come before CONNECT.
    pub fn tls_required(&self) -> bool {
        self.has(TLS_REQUIRED)
    }

    /// TLS may come before CONNECT.
    pub fn tls_available(&self) -> bool {
        self.has(TLS_AVAILABLE)
    }

    /// The server is about to leave.
    pub fn lame_duck(&self) -> bool {
        self.has(LAME_DUCK)
    }

    fn has(&self, flag: u8) -> bool {
        self.flags >> flag & 1 != 0
    }

    /// Largest message that the server takes, header block and payload together, in bytes.
    pub fn max_payload(&self) -> u32 {
        // Zero, or no number: the server names no limit.
        if self.max_payload == 0 { u32::MAX } else { self.max_payload }
    }

    /// Forgets everything. The bytes of the nonce may stay.
    pub(super) fn clear(&mut self) {
        (self.max_payload, self.flags, self.nonce.len) = (0, 0, 0);
    }

    /// What no digit is makes it no limit, as do digits for more than 28 bits and one.
    pub(super) fn max_payload_digit(&mut self, byte: u8) {
        let digit = byte.wrapping_sub(b'0');
        self.max_payload = if digit > 9 || self.max_payload >> 28 != 0 {
            u32::MAX
        } else {
            self.max_payload.wrapping_mul(10).wrapping_add(u32::from(digit))
        };
    }
}

/// The bytes that a server asks a client to sign; at most [`Nonce::MAX`], none if there were more. nats-server sends 15.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Nonce {
    bytes: [u8; Self::MAX],
    /// [`TOO_LONG`] if they didn't fit.
    len: u8,
}

const TOO_LONG: u8 = Nonce::MAX as u8 + 1;

impl Nonce {
    /// Bytes that are kept.
    pub const MAX: usize = 18;

    /// The bytes as they stood in INFO.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(super) fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
        }
        self.len = self.len.saturating_add(1).min(TOO_LONG);
    }
}

impl PartialEq for Nonce {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Nonce {}
