//! Our frames.

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress};

use crate::{COMPRESSED, CONTROL_BYTES_MAX, FINAL, Opcode, TAIL};

/// Messages of no more bytes aren't worth compressing. Source: nats-server's `wsCompressThreshold`.
const COMPRESS_MIN: usize = 64;
/// Browsers do better with frames of so many bytes. Source: nats-server's `wsFrameSizeForBrowsers`.
const BROWSER_FRAME_BYTES: usize = 4096;

thread_local! {
    /// Each message is compressed by itself, so all connections of a thread can share this.
    static COMPRESSOR: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

/// How a peer wants its frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoder {
    /// Compressed, where that is worth it.
    pub compressed: bool,
    /// Short.
    pub browser: bool,
}

impl Encoder {
    /// Appends `payload` to `out` as one message, or, for browsers, as some.
    pub fn message(&self, payload: &[u8], out: &mut Vec<u8>) {
        if self.compressed && payload.len() > COMPRESS_MIN && compress(payload, out) {
            return;
        }
        let most = if self.browser { BROWSER_FRAME_BYTES } else { payload.len().max(1) };
        for piece in payload.chunks(most) {
            header(FINAL | Opcode::Binary as u8, piece.len(), out);
            out.extend_from_slice(piece);
        }
    }
}

/// Appends a control frame, with at most [`CONTROL_BYTES_MAX`] bytes of `payload`.
pub fn control(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let payload = payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload);
    header(FINAL | opcode as u8, payload.len(), out);
    out.extend_from_slice(payload);
}

/// What a server sends is not masked.
fn header(first: u8, len: usize, out: &mut Vec<u8>) {
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..=125), _) => out.extend_from_slice(&[first, len]),
        (_, Ok(len)) => {
            out.extend_from_slice(&[first, 126]);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends `payload` as a compressed message. False, with nothing appended, if that failed.
fn compress(payload: &[u8], out: &mut Vec<u8>) -> bool {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = slot.get_or_insert_with(|| Compress::new(Compression::fast(), false));
        compressor.reset();
        // What doesn't get shorter gets a little longer.
        let mut packed = Vec::with_capacity(payload.len() + payload.len() / 64 + 64);
        let done = loop {
            let taken = usize::try_from(compressor.total_in()).unwrap_or(usize::MAX);
            let rest = payload.get(taken..).unwrap_or_default();
            if compressor.compress_vec(rest, &mut packed, FlushCompress::Sync).is_err() {
                break false;
            }
            if packed.len() < packed.capacity() {
                break compressor.total_in() == payload.len() as u64 && packed.ends_with(&TAIL);
            }
            packed.reserve(1024);
        };
        if done {
            packed.truncate(packed.len() - TAIL.len());
            header(FINAL | COMPRESSED | Opcode::Binary as u8, packed.len(), out);
            out.extend_from_slice(&packed);
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_little_as_they_can() {
        let encoder = Encoder::default();
        for (len, head) in [
            (0, vec![]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65535, vec![0x82, 126, 255, 255]),
            (65536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            encoder.message(&vec![7; len], &mut out);
            assert_eq!(out.len(), head.len() + len);
            assert_eq!(&out[..head.len()], head);
        }
    }

    #[test]
    fn browsers_get_short_frames() {
        let mut out = Vec::new();
        Encoder { browser: true, ..Encoder::default() }.message(&[7; 5000], &mut out);
        assert_eq!(&out[..4], [0x82, 126, 0x10, 0]);
        assert_eq!(&out[4100..4104], [0x82, 126, 0x03, 0x88]);
        assert_eq!(out.len(), 5008);
    }

    #[test]
    fn control_frames_stay_short() {
        let mut out = Vec::new();
        control(Opcode::Pong, &[1; 200], &mut out);
        assert_eq!((out[0], out[1], out.len()), (0x8a, 125, 127));
    }
}
