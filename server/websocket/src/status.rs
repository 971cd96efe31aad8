//! Why a connection ends, as frames say it.

use crate::CONTROL_BYTES_MAX;

/// The codes that a server ends connections with. Source: RFC 6455, section 7.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// All is said.
    Normal = 1000,
    /// The server ends, or lost the peer.
    GoingAway = 1001,
    /// The peer broke a rule.
    ProtocolError = 1002,
    /// A text is no UTF-8.
    InvalidPayload = 1007,
    /// The peer is not welcome, or does more than it may.
    PolicyViolation = 1008,
    /// A message was too long.
    TooBig = 1009,
    /// The server failed.
    Internal = 1011,
}

/// The payload of a close frame. A text that is too long for one is cut, with dots at its end.
pub fn close_payload(status: u16, text: &str) -> Vec<u8> {
    let mut payload = status.to_be_bytes().to_vec();
    if text.len() <= CONTROL_BYTES_MAX - 2 {
        payload.extend_from_slice(text.as_bytes());
    } else {
        let cut = text.floor_char_boundary(CONTROL_BYTES_MAX - 5);
        payload.extend_from_slice(&text.as_bytes()[..cut]);
        payload.extend_from_slice(b"...");
    }
    payload
}

/// Whether a peer may send this code.
pub(crate) fn is_sendable(status: u16) -> bool {
    matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(close_payload(1000, "bye"), b"\x03\xe8bye");
        let long = close_payload(1002, &"é".repeat(100));
        assert_eq!(long.len(), 125);
        assert!(std::str::from_utf8(&long[2..]).unwrap().ends_with("é..."));
    }

    #[test]
    fn codes_that_mean_silence_are_not_sent() {
        for status in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert!(!is_sendable(status), "{status}");
        }
        for status in [1000, 1003, 1007, 1011, 1012, 3000, 4999] {
            assert!(is_sendable(status), "{status}");
        }
    }
}
