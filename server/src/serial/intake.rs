//! What a device says over a serial line: its bytes to whole operations, and the noise between them.
//!
//! Over TCP, bytes that mean nothing end a connection. On a line they are what a plug does when it is pulled, so they are
//! skipped, and what comes after them counts again:
//!
//! ```text
//!   PUB a 2 CR LF 21 CR LF   PU# a 2 CR LF 22 CR LF   PUB a 2 CR LF 23 CR LF
//!   '--- an operation ---'   '-- noise --' '-----'    '--- an operation ---'
//!                                           noise: a line that begins with no verb
//! ```
//!
//! As text, an operation is lost from the first line end in it on, and reading goes on behind that line end. So a payload
//! whose control line was damaged is read as if it were control lines, and damage within a payload goes unnoticed unless
//! it changes its length. In frames neither can happen: see [`midge_protocol::frame`].

use midge_config::{Framing, Parity, SerialLine};
use midge_protocol::connect::Connect;
use midge_protocol::emit::Sink;
use midge_protocol::error::Rule;
use midge_protocol::frame::{self, Decode};
use midge_protocol::limits::Limits;
use midge_protocol::op::ClientOp;
use midge_protocol::parse::{self, client_op};

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// One whole operation.
    Operation(&'a [u8]),
    /// The device has just begun and wants to be greeted.
    Hello,
    /// So many bytes mean nothing.
    Noise(usize, &'static str),
}

/// The bytes of a line that aren't done with.
#[derive(Debug)]
pub(crate) struct Intake {
    limits: Limits,
    /// In text, what there is of an operation; else what there is of a frame.
    partial: Vec<u8>,
    /// Bytes that `partial` needs to hold before there is more to say.
    need: usize,
    /// What comes up to the next line end belongs to what was skipped.
    skips: bool,
    /// In frames, not as text.
    frames: Option<Decode>,
    /// The kernel marks bytes with a wrong parity.
    marks: Option<Mark>,
}

/// How far a mark of the kernel's is read: FF 00 before a damaged byte, FF FF for FF.
#[derive(Clone, Copy, Debug)]
enum Mark {
    None,
    Escaped,
    Damaged,
}

const SILENCE: &str = "silence in the middle of an operation";
const PARITY: &str = "a byte with a wrong parity";

impl Intake {
    pub(crate) fn new(line: &SerialLine) -> Self {
        Self {
            limits: Limits { max_payload: line.payload_bytes_max, ..Limits::default() },
            partial: Vec::new(),
            need: 1,
            skips: false,
            frames: (line.framing == Framing::Crc).then(Decode::default),
            marks: (line.parity != Parity::None).then_some(Mark::None),
        }
    }

    /// True in the middle of something: silence now means that the rest is lost.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.partial.is_empty() || self.skips || self.frames.as_ref().is_some_and(|decode| !decode.is_idle())
    }

    /// Takes what has arrived.
    pub(crate) fn receive(&mut self, input: &[u8], mut heard: impl FnMut(Heard<'_>)) {
        let Some(mut mark) = self.marks else { return self.take(input, &mut heard) };
        let mut clean = Vec::with_capacity(input.len());
        for byte in input {
            mark = match (mark, byte) {
                (Mark::None, 0xFF) => Mark::Escaped,
                (Mark::Escaped, 0) => Mark::Damaged,
                (Mark::None | Mark::Escaped, byte) => {
                    clean.push(*byte);
                    Mark::None
                }
                (Mark::Damaged, _) => {
                    self.take(&clean, &mut heard);
                    clean.clear();
                    self.damage(&mut heard);
                    Mark::None
                }
            };
        }
        self.marks = Some(mark);
        self.take(&clean, &mut heard);
    }

    /// Nothing has come for a while: gives up what [`Intake::is_waiting`] for its rest.
    pub(crate) fn silence(&mut self, mut heard: impl FnMut(Heard<'_>)) {
        match &mut self.frames {
            Some(decode) => {
                let bytes = decode.abandon();
                self.partial = Vec::new();
                heard(Heard::Noise(bytes as usize, SILENCE));
            }
            None => {
                self.skips = false;
                self.read(true, &mut heard);
            }
        }
    }

    /// A byte came that is known to be wrong.
    fn damage(&mut self, heard: &mut impl FnMut(Heard<'_>)) {
        if self.frames.is_none() {
            let lost = std::mem::take(&mut self.partial).len() + 1;
            (self.need, self.skips) = (1, true);
            heard(Heard::Noise(lost, PARITY));
        } else {
            // Any byte will do: the checksum is over the right one.
            self.take(b"?", heard);
        }
    }

    fn take(&mut self, input: &[u8], heard: &mut impl FnMut(Heard<'_>)) {
        if self.frames.is_some() {
            return self.take_frames(input, heard);
        }
        let mut input = input;
        if self.skips {
            let end = input.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            let (skipped, rest) = input.split_at(end.unwrap_or(input.len()));
            self.skips = end.is_none();
            if !skipped.is_empty() {
                heard(Heard::Noise(skipped.len(), "the rest of a line"));
            }
            input = rest;
        }
        self.partial.extend_from_slice(input);
        if self.partial.len() >= self.need {
            self.read(false, heard);
        }
    }

    /// Reads the operations that are there. `last`: nothing more will come of the one that isn't whole.
    fn read(&mut self, last: bool, heard: &mut impl FnMut(Heard<'_>)) {
        let partial = std::mem::take(&mut self.partial);
        let mut rest = &partial[..];
        self.need = 1;
        loop {
            // Empty lines are what a terminal, or a device that wants to end an unknown line, says.
            while let [b'\r' | b'\n' | b' ' | b'\t' | 0, tail @ ..] = rest {
                rest = tail;
            }
            if rest.is_empty() {
                return;
            }
            let why = match client_op(rest, &self.limits) {
                parse::Step::Op(op, len) => {
                    let (whole, tail) = rest.split_at(len);
                    heard(judge(&op, whole));
                    rest = tail;
                    continue;
                }
                parse::Step::Need(need) if !last => {
                    self.need = need;
                    self.partial = rest.to_vec();
                    return;
                }
                parse::Step::Need(_) => SILENCE,
                parse::Step::Bad(rule) => name(rule),
            };
            let end = rest.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            self.skips = end.is_none() && !last;
            let (noise, tail) = rest.split_at(end.unwrap_or(rest.len()));
            heard(Heard::Noise(noise.len(), why));
            rest = tail;
        }
    }

    fn take_frames(&mut self, input: &[u8], heard: &mut impl FnMut(Heard<'_>)) {
        let Some(decode) = &mut self.frames else { return };
        let most = self.limits.max_payload.saturating_add(self.limits.max_control_line) as usize;
        let mut frame = Capped { bytes: std::mem::take(&mut self.partial), most };
        for byte in input {
            match decode.byte(*byte, &mut frame) {
                frame::Step::More => {}
                frame::Step::Whole => {
                    let mut rest = &frame.bytes[..];
                    while !rest.is_empty() {
                        let parse::Step::Op(op, len) = client_op(rest, &self.limits) else {
                            heard(Heard::Noise(rest.len(), "a frame that holds no whole operation"));
                            break;
                        };
                        let (whole, tail) = rest.split_at(len);
                        heard(judge(&op, whole));
                        rest = tail;
                    }
                    frame.bytes = Vec::new();
                }
                frame::Step::Damaged(bytes) => {
                    heard(Heard::Noise(bytes as usize, "a damaged frame"));
                    frame.bytes = Vec::new();
                }
            }
        }
        self.partial = frame.bytes;
    }
}

/// Whether an operation is one that a device has reason to say.
fn judge<'a>(op: &ClientOp<'_>, whole: &'a [u8]) -> Heard<'a> {
    match op {
        ClientOp::Info(argument) if matches!(argument.trim_ascii(), b"" | b"{}") => Heard::Hello,
        ClientOp::Connect(argument) if Connect::parse(argument).is_err() => {
            Heard::Noise(whole.len(), "CONNECT is not understood")
        }
        // An echo of our own, most likely.
        ClientOp::Info(_) | ClientOp::Ok | ClientOp::Err(_) => {
            Heard::Noise(whole.len(), "only a server says that")
        }
        _ => Heard::Operation(whole),
    }
}

fn name(rule: Rule) -> &'static str {
    match rule {
        Rule::UnknownOperation => "no operation",
        Rule::Arguments => "an operation with wrong arguments",
        Rule::ControlLine => "a line that is too long",
        Rule::Payload { .. } => "a message that is too large",
        Rule::Headers => "headers",
    }
}

/// A vector with a ceiling.
struct Capped {
    bytes: Vec<u8>,
    most: usize,
}

impl Sink for Capped {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn room(&self) -> usize {
        self.most.saturating_sub(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use midge_config::{MemoryFiles, World, load_text};
    use midge_protocol::frame::Encode;

    fn intake(keys: &str) -> Intake {
        let text = format!("serial {{ device: /dev/ttyUSB0, {keys} }}");
        let world = World { files: &MemoryFiles::new(), environment: &|_| None };
        let (options, _) = load_text("test.conf", text.as_bytes(), world).expect("a configuration");
        Intake::new(&options.serial[0])
    }

    /// Operations as text, `hello`, and the bytes of noise.
    fn note(seen: &mut Vec<String>, heard: &Heard<'_>) {
        match heard {
            Heard::Operation(op) => seen.push(String::from_utf8_lossy(op).into_owned()),
            Heard::Hello => seen.push("hello".to_owned()),
            Heard::Noise(bytes, _) => match seen.last_mut().and_then(|last| last.strip_prefix('#')) {
                Some(before) => {
                    let sum = before.parse::<usize>().expect("a number") + bytes;
                    *seen.last_mut().expect("it is there") = format!("#{sum}");
                }
                None => seen.push(format!("#{bytes}")),
            },
        }
    }

    fn hear(intake: &mut Intake, input: &[u8], piece: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for input in input.chunks(piece) {
            intake.receive(input, |heard| note(&mut seen, &heard));
        }
        seen
    }

    #[test]
    fn noise_costs_the_line_that_it_hits() {
        for (line, want) in [
            ("PUB a 2\r\n21\r\nPUB a 2\r\n22\r\n", &["PUB a 2\r\n21\r\n", "PUB a 2\r\n22\r\n"][..]),
            // A verb, a size too small, a size too large, a byte that is missing, a byte too many.
            ("PU# a 2\r\n21\r\nPUB a 2\r\n22\r\n", &["#13", "PUB a 2\r\n22\r\n"]),
            ("PUB a 1\r\n21\r\nPUB a 2\r\n22\r\n", &["#13", "PUB a 2\r\n22\r\n"]),
            ("PUB a 9\r\n21\r\nPUB a 2\r\n22\r\nPING\r\n", &["#13", "PUB a 2\r\n22\r\n", "PING\r\n"]),
            ("PUB a 2\r\n2\r\nPUB a 2\r\n22\r\n", &["#12", "PUB a 2\r\n22\r\n"]),
            ("PUB a 2\r\n211\r\nPUB a 2\r\n22\r\n", &["#14", "PUB a 2\r\n22\r\n"]),
            // A line end.
            ("PUB a 2~21\r\nPUB a 2\r\n22\r\n", &["#12", "PUB a 2\r\n22\r\n"]),
            ("PUB a 2\r\n21PUB a 2\r\n22\r\nPING\r\n", &["#24", "PING\r\n"]),
            ("\u{0}\u{1f}\u{3}PING\r\nPING\r\n", &["#8", "PING\r\n"]),
            ("\r\n\r\n  PING\r\n\r\nPONG\r\n", &["PING\r\n", "PONG\r\n"]),
            // Too large, and what follows isn't lost with it.
            ("PUB a 4097\r\nPING\r\n", &["#12", "PING\r\n"]),
        ] {
            for piece in [1, 2, 3, 7, line.len()] {
                assert_eq!(hear(&mut intake(""), line.as_bytes(), piece), want, "{line:?} by {piece}");
            }
        }
    }

    #[test]
    fn silence_ends_what_was_begun() {
        let mut intake = intake("");
        let begun = "PUB a 99\r\n21\r\nPUB a 2\r\n22\r\nPUB a 2\r\n2";
        assert_eq!(hear(&mut intake, begun.as_bytes(), 5), Vec::<String>::new());
        assert!(intake.is_waiting());
        let mut seen = Vec::new();
        intake.silence(|heard| note(&mut seen, &heard));
        assert_eq!(seen, ["#14", "PUB a 2\r\n22\r\n", "#10"]);
        assert!(!intake.is_waiting());
        assert_eq!(hear(&mut intake, b"PING\r\n", 6), ["PING\r\n"]);
    }

    #[test]
    fn what_a_device_has_no_reason_to_say_is_noise() {
        for line in ["+OK\r\n", "-ERR 'x'\r\n", "INFO {\"server_id\":\"N\"}\r\n", "CONNECT {\"a\":\r\n"] {
            assert_eq!(hear(&mut intake(""), line.as_bytes(), 4), [format!("#{}", line.len())], "{line}");
        }
        assert_eq!(hear(&mut intake(""), b"\r\nINFO {}\r\nCONNECT {}\r\n", 3), ["hello", "CONNECT {}\r\n"]);
    }

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let frame = |ops: &str| Encode::new(ops.as_bytes()).collect::<Vec<u8>>();
        let mut damaged = frame("PUB a 2\r\n21\r\n");
        damaged[8] ^= 1;
        let line =
            [&b"garbage"[..], &frame("INFO {}\r\n"), &damaged, &frame("PUB a 2\r\n22\r\nPING\r\n")].concat();
        for piece in [1, 3, line.len()] {
            let mut intake = intake("framing: crc");
            let seen = hear(&mut intake, &line, piece);
            assert_eq!(seen, ["#7", "hello", "#18", "PUB a 2\r\n22\r\n", "PING\r\n"]);
            assert!(!intake.is_waiting());
        }
        assert_eq!(hear(&mut intake("framing: crc"), &frame("PUB a 2\r\n2"), 4), ["#10"]);
        let large = frame(&format!("PUB a 9000\r\n{}\r\n", "x".repeat(9000)));
        let seen = hear(&mut intake("framing: crc"), &[large.clone(), frame("PONG\r\n")].concat(), 64);
        assert_eq!(seen, [format!("#{}", large.len() - 2), "PONG\r\n".to_owned()]);
    }

    #[test]
    fn bytes_of_wrong_parity_count_for_nothing() {
        let mut intake = intake("parity: even");
        let line = b"PUB a 3\r\n2\xff\xff1\r\nPUB a 2\r\n2\xff\0\x31\r\nPUB a 2\r\n22\r\n";
        for piece in [1, 4, line.len()] {
            let mut seen = Vec::new();
            for input in line.chunks(piece) {
                intake.receive(input, |heard| {
                    seen.push(match heard {
                        Heard::Operation(op) => op.to_vec(),
                        _ => b"#".to_vec(),
                    });
                });
            }
            seen.dedup();
            assert_eq!(seen, [&b"PUB a 3\r\n2\xff1\r\n"[..], b"#", b"PUB a 2\r\n22\r\n"]);
        }
    }
}
