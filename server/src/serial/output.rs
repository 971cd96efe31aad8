//! What a session says to a device, as the line carries it.

use midge_config::Framing;
use midge_protocol::frame::Encode;
use midge_protocol::limits::Limits;
use midge_protocol::parse::{Step, server_op};

/// Longest operation that is put into a frame, in bytes. The server's largest message isn't known here, and a device that
/// takes as much is no microcontroller.
const OPERATION_MAX: usize = 256 * 1024;

/// The bytes of a session that aren't done with.
#[derive(Debug)]
pub(crate) struct Output {
    framing: Framing,
    /// What there is of an operation.
    partial: Vec<u8>,
    need: usize,
    /// Bytes that belong to an operation which is too large.
    skips: usize,
}

impl Output {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, partial: Vec::new(), need: 1, skips: 0 }
    }

    /// What `said` becomes on the line. The second value is how many messages were too large for it.
    pub(crate) fn encode(&mut self, said: &[u8]) -> (Vec<u8>, usize) {
        if self.framing == Framing::Text {
            return (said.to_vec(), 0);
        }
        let (_, said) = said.split_at(said.len().min(self.skip(said.len())));
        self.partial.extend_from_slice(said);
        let (mut line, mut lost) = (Vec::new(), 0);
        if self.partial.len() < self.need {
            return (line, lost);
        }
        let partial = std::mem::take(&mut self.partial);
        let mut rest = &partial[..];
        self.need = 1;
        // Ours is the other end: there is nothing to be protected from.
        let limits = Limits { max_control_line: u32::MAX, max_payload: u32::MAX, headers: true };
        while !rest.is_empty() {
            match server_op(rest, &limits) {
                Step::Op(_, len) if len > OPERATION_MAX => {
                    lost += 1;
                    rest = rest.get(len..).unwrap_or_default();
                }
                Step::Op(_, len) => {
                    let (whole, tail) = rest.split_at(len);
                    line.extend(Encode::new(whole));
                    rest = tail;
                }
                Step::Need(need) if need > OPERATION_MAX => {
                    lost += 1;
                    // The parser asks for the byte behind the payload first: CR, and LF behind it.
                    self.skips = need + 1;
                    rest = rest.get(self.skip(rest.len())..).unwrap_or_default();
                }
                Step::Need(need) => {
                    self.need = need;
                    break;
                }
                // A session says nothing else.
                Step::Bad(_) => break,
            }
        }
        self.partial = rest.to_vec();
        (line, lost)
    }

    /// How many of `len` bytes are to be skipped; they are, then.
    fn skip(&mut self, len: usize) -> usize {
        let skipped = self.skips.min(len);
        self.skips -= skipped;
        skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(operations: &[&str]) -> Vec<u8> {
        operations.iter().flat_map(|op| Encode::new(op.as_bytes())).collect()
    }

    #[test]
    fn each_operation_is_a_frame() {
        let said = "INFO {\"a\":1}\r\nPING\r\nMSG a.b 1 5\r\nhello\r\nHMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n-ERR 'x'\r\n+OK\r\n";
        let want = frames(&[
            "INFO {\"a\":1}\r\n",
            "PING\r\n",
            "MSG a.b 1 5\r\nhello\r\n",
            "HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            "-ERR 'x'\r\n",
            "+OK\r\n",
        ]);
        for piece in [1, 5, 64, said.len()] {
            let mut output = Output::new(Framing::Crc);
            let line: Vec<u8> =
                said.as_bytes().chunks(piece).flat_map(|said| output.encode(said).0).collect();
            assert_eq!(line, want, "pieces of {piece}");
        }
        let mut output = Output::new(Framing::Text);
        assert_eq!(output.encode(said.as_bytes()), (said.as_bytes().to_vec(), 0));
    }

    #[test]
    fn what_is_too_large_is_left_out() {
        let large = format!("MSG a 1 {OPERATION_MAX}\r\n{}\r\n", "x".repeat(OPERATION_MAX));
        let said = format!("PING\r\n{large}PONG\r\n");
        for piece in [997, 4096, said.len()] {
            let mut output = Output::new(Framing::Crc);
            let (mut line, mut lost) = (Vec::new(), 0);
            for said in said.as_bytes().chunks(piece) {
                let (more, missed) = output.encode(said);
                line.extend(more);
                lost += missed;
            }
            assert!(line == frames(&["PING\r\n", "PONG\r\n"]) && lost == 1, "pieces of {piece}: {lost}");
        }
    }
}
