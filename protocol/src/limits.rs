//! What a parser accepts, in numbers, with nats-server's defaults (reference 3.1).

/// Longest argument of a control line, in bytes, unless configured.
pub const MAX_CONTROL_LINE: u32 = 4096;
/// Largest header block and payload together, in bytes, unless configured.
pub const MAX_PAYLOAD: u32 = 1024 * 1024;
/// More digits than this are not a size.
pub const MAX_SIZE_DIGITS: usize = 9;

/// The ceilings that parsing itself checks, because a peer that breaks them must be stopped before its bytes are
/// kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest argument of a control line, in bytes.
    pub max_control_line: u32,
    /// Largest header block and payload together, in bytes.
    pub max_payload: u32,
    /// Whether HPUB is understood: both sides must have said so.
    pub headers: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_control_line: MAX_CONTROL_LINE, max_payload: MAX_PAYLOAD, headers: true }
    }
}
