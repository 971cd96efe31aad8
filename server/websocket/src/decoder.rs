//! A peer's frames.
//!
//! ```text
//!          ┌────────┐ data   ┌─────────┐ payload to the room, until the frame ends
//!   ──────>│  Head  ├───────>│ Payload ├──────┐
//!          │        │<───────┴─────────┘      │ last frame of a compressed message
//!          │        │<──────┐          ┌──────▼──┐
//!          └─┬────▲─┘       └──────────┤   End   │ what is left in the decompressor
//!     control│    │ an event           └─────────┘
//!          ┌─▼────┴──┐
//!          │ Control │
//!          └─────────┘
//! ```

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use crate::status::is_sendable;
use crate::{COMPRESSED, CONTROL_BYTES_MAX, FINAL, MASKED, RESERVED, TAIL};

/// Takes frames apart. Holds no more than a header, a control frame's payload and, within a compressed message, what it
/// takes to decompress it: 43 KB.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The peer must mask what it sends.
    masked: bool,
    /// The peer may compress.
    compressed: bool,
    /// A message has begun that isn't whole.
    within: bool,
    /// For a message that is compressed.
    inflater: Option<Box<Inflater>>,
    /// Bytes of a control frame.
    control: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Head {
        bytes: [u8; HEAD_MAX],
        len: usize,
    },
    Payload {
        left: u64,
        last: bool,
        mask: Mask,
    },
    Control {
        kind: Kind,
        left: usize,
        mask: Mask,
    },
    /// So many bytes of [`TAIL`] are used.
    End {
        used: usize,
    },
}

const HEAD_MAX: usize = 14;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Close,
    Ping,
    Pong,
}

/// A masking key, turned so that its first byte is for the next one.
#[derive(Clone, Copy, Debug)]
struct Mask([u8; 4]);

impl Mask {
    /// Copies and unmasks as much as fits. Returns how much.
    fn copy(&mut self, from: &[u8], to: &mut [u8]) -> usize {
        let n = from.len().min(to.len());
        let (from, to) = (&from[..n], &mut to[..n]);
        to.copy_from_slice(from);
        if self.0 != [0; 4] {
            let [a, b, c, d] = self.0;
            let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
            let (words, rest) = to.as_chunks_mut::<8>();
            for word in words {
                *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
            }
            rest.iter_mut().zip(self.0.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
            self.turn(n);
        }
        n
    }

    /// Goes on by `n` bytes.
    fn turn(&mut self, n: usize) {
        self.0.rotate_left(n % 4);
    }
}

/// What [`Decoder::decode`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are done with.
    pub used: usize,
    /// Bytes of payload in the room.
    pub filled: usize,
    /// A control frame that came behind that payload.
    pub event: Option<Event>,
}

/// A control frame that wants something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Wants a pong with this payload.
    Ping(Vec<u8>),
    /// The peer is done. It is answered with a close frame of this status and text, or an empty one.
    Close(Option<(u16, String)>),
}

/// A rule that the peer broke; the text is for its close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

fn broke<T>(rule: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(rule.into()))
}

impl Decoder {
    /// For a peer that must mask its frames if `masked`, and may compress its messages if `compressed`.
    pub fn new(masked: bool, compressed: bool) -> Self {
        Self {
            state: State::Head { bytes: [0; HEAD_MAX], len: 0 },
            masked,
            compressed,
            within: false,
            inflater: None,
            control: Vec::new(),
        }
    }

    /// True if there may be payload without more input.
    pub fn owes(&self) -> bool {
        matches!(self.state, State::End { .. })
    }

    /// Works on `input` until it is used up, `room` is full, or a control frame came.
    pub fn decode(&mut self, input: &[u8], room: &mut [u8]) -> Result<Decoded, Violation> {
        let mut done = Decoded::default();
        loop {
            let (rest, free) = (&input[done.used..], &mut room[done.filled..]);
            match &mut self.state {
                State::Head { bytes, len } => {
                    let Some(wanted) = wanted(&bytes[..*len]) else {
                        let head = bytes[..*len].to_vec();
                        self.begin(&head)?;
                        continue;
                    };
                    let n = wanted.min(rest.len());
                    if n == 0 {
                        return Ok(done);
                    }
                    bytes[*len..*len + n].copy_from_slice(&rest[..n]);
                    *len += n;
                    done.used += n;
                    // A peer that breaks a rule learns it before it has sent the rest.
                    if *len == 2 {
                        let first = [bytes[0], bytes[1]];
                        self.check(first)?;
                    }
                }
                State::Payload { left: 0, last, .. } => {
                    self.state = match (*last, self.inflater.is_some()) {
                        (true, true) => State::End { used: 0 },
                        _ => State::Head { bytes: [0; HEAD_MAX], len: 0 },
                    };
                }
                State::Payload { left, mask, .. } => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    if n == 0 || free.is_empty() {
                        return Ok(done);
                    }
                    let (used, filled) = match &mut self.inflater {
                        None => {
                            let n = mask.copy(&rest[..n], free);
                            (n, n)
                        }
                        Some(inflater) => inflater.inflate_masked(&rest[..n], mask, free)?,
                    };
                    *left -= used as u64;
                    done.used += used;
                    done.filled += filled;
                }
                State::Control { kind, left: 0, .. } => {
                    let (kind, payload) = (*kind, std::mem::take(&mut self.control));
                    self.state = State::Head { bytes: [0; HEAD_MAX], len: 0 };
                    done.event = match kind {
                        Kind::Close => Some(Event::Close(closing(&payload)?)),
                        Kind::Ping => Some(Event::Ping(payload)),
                        Kind::Pong => continue,
                    };
                    return Ok(done);
                }
                State::Control { left, mask, .. } => {
                    let n = (*left).min(rest.len());
                    if n == 0 {
                        return Ok(done);
                    }
                    let begin = self.control.len();
                    self.control.resize(begin + n, 0);
                    mask.copy(&rest[..n], &mut self.control[begin..]);
                    *left -= n;
                    done.used += n;
                }
                State::End { used } => {
                    let Some(inflater) = self.inflater.as_mut().filter(|_| !free.is_empty()) else {
                        return Ok(done);
                    };
                    let (taken, filled) = inflater.inflate(&TAIL[*used..], free)?;
                    *used += taken;
                    done.filled += filled;
                    // Room that is left doesn't tell that nothing is held back: a decompressor stops where its window ends.
                    if (taken, filled) == (0, 0) {
                        self.inflater = None;
                        self.state = State::Head { bytes: [0; HEAD_MAX], len: 0 };
                    }
                }
            }
        }
    }

    /// What the first two bytes tell.
    fn check(&self, [first, second]: [u8; 2]) -> Result<(), Violation> {
        let (last, compressed, len) = (first & FINAL != 0, first & COMPRESSED != 0, second & !MASKED);
        if first & RESERVED != 0 {
            return broke("RSV2 and RSV3 must be clear");
        }
        if compressed && !self.compressed {
            return broke("compressed frame received without negotiated permessage-deflate");
        }
        if self.masked && second & MASKED == 0 {
            return broke("mask bit missing");
        }
        match first & 0xf {
            8..=10 if usize::from(len) > CONTROL_BYTES_MAX => {
                broke("control frame length bigger than maximum allowed of 125 bytes")
            }
            8..=10 if !last => broke("control frame does not have final bit set"),
            8..=10 if compressed => broke("control frame must not be compressed"),
            1 | 2 if self.within => {
                broke("new message started before final frame for previous message was received")
            }
            0 if !self.within || compressed => broke("invalid continuation frame"),
            0..=2 | 8..=10 => Ok(()),
            opcode => broke(format!("unknown opcode {opcode}")),
        }
    }

    /// A whole header, whose first bytes were checked.
    fn begin(&mut self, head: &[u8]) -> Result<(), Violation> {
        let &[first, second, ref rest @ ..] = head else { return broke("no header") };
        let (last, short) = (first & FINAL != 0, second & !MASKED);
        let (left, key) = match (short, rest) {
            (126, [a, b, key @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), key),
            (127, [a, b, c, d, e, f, g, h, key @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), key)
            }
            (short, key) => (u64::from(short), key),
        };
        if left >> 63 != 0 {
            return broke("invalid 64-bit payload length");
        }
        let mask = Mask(key.try_into().unwrap_or_default());
        let control = match first & 0xf {
            8 => Some(Kind::Close),
            9 => Some(Kind::Ping),
            10 => Some(Kind::Pong),
            _ => None,
        };
        self.state = match control {
            Some(kind) => State::Control { kind, left: usize::from(short), mask },
            None => {
                if first & 0xf != 0 {
                    self.inflater = (first & COMPRESSED != 0).then(Box::default);
                }
                self.within = !last;
                State::Payload { left, last, mask }
            }
        };
        Ok(())
    }
}

/// How many bytes a header needs beyond these; `None`: it is whole.
fn wanted(head: &[u8]) -> Option<usize> {
    let whole = match head {
        [] | [_] => 2,
        [_, second, ..] => {
            let length = match second & !MASKED {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            2 + length + if second & MASKED != 0 { 4 } else { 0 }
        }
    };
    (head.len() < whole).then(|| whole - head.len())
}

/// What a close frame says, to be said back.
fn closing(payload: &[u8]) -> Result<Option<(u16, String)>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => broke("close frame payload cannot be 1 byte"),
        [high, low, text @ ..] => {
            let status = u16::from_be_bytes([*high, *low]);
            if !is_sendable(status) {
                return broke(format!("invalid close status code {status}"));
            }
            Ok(Some(match std::str::from_utf8(text) {
                Ok(text) => (status, text.to_owned()),
                Err(_) => {
                    (crate::Status::InvalidPayload as u16, "invalid utf8 body in close frame".to_owned())
                }
            }))
        }
    }
}

/// Decompresses one message.
#[derive(Debug)]
struct Inflater {
    state: Decompress,
    /// Its last block came: what follows is nothing.
    ended: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Decompress::new(false), ended: false }
    }
}

impl Inflater {
    /// Decompresses masked bytes. Returns how many are used, and how many came of them.
    fn inflate_masked(
        &mut self,
        input: &[u8],
        mask: &mut Mask,
        room: &mut [u8],
    ) -> Result<(usize, usize), Violation> {
        let (mut used, mut filled) = (0, 0);
        let mut clear = [0; 1024];
        while used < input.len() && filled < room.len() {
            let mut ahead = *mask;
            let n = ahead.copy(&input[used..], &mut clear);
            let (taken, made) = self.inflate(&clear[..n], &mut room[filled..])?;
            mask.turn(taken);
            used += taken;
            filled += made;
            if taken == 0 && made == 0 {
                return broke("compressed data is invalid");
            }
        }
        Ok((used, filled))
    }

    fn inflate(&mut self, input: &[u8], room: &mut [u8]) -> Result<(usize, usize), Violation> {
        if self.ended {
            return Ok((input.len(), 0));
        }
        let (taken, made) = (self.state.total_in(), self.state.total_out());
        match self.state.decompress(input, room, FlushDecompress::Sync) {
            Ok(Status::Ok | Status::BufError) => {}
            Ok(Status::StreamEnd) => self.ended = true,
            Err(_) => return broke("compressed data is invalid"),
        }
        let moved = |before: u64, after: u64| usize::try_from(after.saturating_sub(before)).unwrap_or(0);
        Ok((moved(taken, self.state.total_in()), moved(made, self.state.total_out())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Encoder, Opcode};

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            len @ 0..=125 => out.push(0x80 | len as u8),
            len @ ..=65535 => {
                out.push(0x80 | 126);
                out.extend((len as u16).to_be_bytes());
            }
            len => {
                out.push(0x80 | 127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        let key = [0xa1, 0xb2, 0xc3, 0xd4];
        out.extend(key);
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        out
    }

    /// All that comes of `input` that arrives in pieces of `step` bytes, with room for `room` at once.
    fn read(
        decoder: &mut Decoder,
        input: &[u8],
        step: usize,
        room: usize,
    ) -> Result<(Vec<u8>, Vec<Event>), Violation> {
        let (mut payload, mut events) = (Vec::new(), Vec::new());
        let mut buffer = vec![0; room];
        for piece in input.chunks(step.max(1)) {
            let mut at = 0;
            loop {
                let done = decoder.decode(&piece[at..], &mut buffer)?;
                at += done.used;
                payload.extend_from_slice(&buffer[..done.filled]);
                let more = done.event.is_some() || done.filled == room;
                events.extend(done.event);
                if at == piece.len() && !more && !decoder.owes() {
                    break;
                }
            }
        }
        Ok((payload, events))
    }

    fn broken(input: &[u8]) -> String {
        read(&mut Decoder::new(true, false), input, 1, 9).unwrap_err().0
    }

    #[test]
    fn rules_have_names() {
        assert_eq!(broken(&frame(0xa2, b"")), "RSV2 and RSV3 must be clear");
        assert_eq!(
            broken(&frame(0xc2, b"")),
            "compressed frame received without negotiated permessage-deflate"
        );
        assert_eq!(broken(&[0x82, 0]), "mask bit missing");
        assert_eq!(broken(&frame(0x09, b"")), "control frame does not have final bit set");
        assert_eq!(
            broken(&frame(0x89, &[0; 126])),
            "control frame length bigger than maximum allowed of 125 bytes"
        );
        assert_eq!(broken(&frame(0x80, b"")), "invalid continuation frame");
        assert_eq!(broken(&frame(0x83, b"")), "unknown opcode 3");
        let again = [frame(0x02, b"a"), frame(0x82, b"b")].concat();
        assert_eq!(
            broken(&again),
            "new message started before final frame for previous message was received"
        );
        assert_eq!(broken(&frame(0x88, b"1")), "close frame payload cannot be 1 byte");
        assert_eq!(broken(&frame(0x88, b"\x03\xed")), "invalid close status code 1005");
        let huge = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(broken(&huge), "invalid 64-bit payload length");
        let mut compressing = Decoder::new(true, true);
        let ping = read(&mut compressing, &frame(0xc9, b""), 99, 9);
        assert_eq!(ping.unwrap_err().0, "control frame must not be compressed");
    }

    #[test]
    fn a_close_frame_is_answered_in_its_own_words() {
        let closed = |payload: &[u8]| {
            read(&mut Decoder::new(true, false), &frame(0x88, payload), 3, 9).unwrap().1.remove(0)
        };
        assert_eq!(closed(b""), Event::Close(None));
        assert_eq!(closed(b"\x03\xe8bye"), Event::Close(Some((1000, "bye".into()))));
        let text = "invalid utf8 body in close frame".to_owned();
        assert_eq!(closed(b"\x03\xe8\xff"), Event::Close(Some((1007, text))));
    }

    #[test]
    fn what_does_not_decompress_is_refused() {
        let mut decoder = Decoder::new(true, true);
        let result = read(&mut decoder, &frame(0xc2, &[0xff; 64]), 99, 99);
        assert_eq!(result.unwrap_err().0, "compressed data is invalid");
    }

    #[test]
    fn a_compressed_message_may_end_itself() {
        // One stored block, the last of its stream.
        let input = [frame(0xc2, b"\x01\x02\x00\xfd\xffhi"), frame(0x82, b"!")].concat();
        assert_eq!(read(&mut Decoder::new(true, true), &input, 4, 9).unwrap().0, b"hi!");
    }

    #[test]
    fn a_small_message_may_become_a_large_one_piece_by_piece() {
        let mut packed = Vec::new();
        Encoder { compressed: true, browser: false }.message(&[7; 1_000_000], &mut packed);
        assert!(packed.len() < 10_000);
        // Not masked, as servers send.
        let (payload, _) = read(&mut Decoder::new(false, true), &packed, 4096, 1000).unwrap();
        assert_eq!(payload, [7; 1_000_000]);
    }

    #[test]
    fn what_is_held_back_at_the_end_of_a_window_comes() {
        for room in 1..40 {
            let mut packed = Vec::new();
            let message = [11; 2 * (1 << 15) + 67];
            Encoder { compressed: true, browser: false }.message(&message, &mut packed);
            let (payload, _) = read(&mut Decoder::new(false, true), &packed, 25, room).unwrap();
            assert_eq!(payload, message, "{room}");
        }
    }

    fn messages() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
        let bytes = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            (any::<u8>(), 0_usize..70_000).prop_map(|(byte, len)| vec![byte; len]),
        ];
        proptest::collection::vec((bytes, any::<bool>()), 0..6)
    }

    proptest! {
        #[test]
        fn payload_comes_out_as_it_went_in(
            messages in messages(), step in 1_usize..5000, room in 1_usize..5000, cut in 1_usize..200,
        ) {
            let (mut input, mut payload, mut pings) = (Vec::new(), Vec::new(), 0);
            for (message, whole) in &messages {
                payload.extend_from_slice(message);
                if *whole || message.is_empty() {
                    input.extend(frame(0x80 | Opcode::Text as u8, message));
                    continue;
                }
                let pieces: Vec<_> = message.chunks(message.len().div_ceil(cut).max(1)).collect();
                for (n, piece) in pieces.iter().enumerate() {
                    let opcode = if n == 0 { Opcode::Binary } else { Opcode::Continuation };
                    let last = if n + 1 == pieces.len() { 0x80 } else { 0 };
                    input.extend(frame(last | opcode as u8, piece));
                    input.extend(frame(0x80 | Opcode::Ping as u8, b"?"));
                    pings += 1;
                }
            }
            let (read, events) = read(&mut Decoder::new(true, false), &input, step, room).unwrap();
            prop_assert_eq!(read, payload);
            prop_assert_eq!(events, vec![Event::Ping(b"?".to_vec()); pings]);
        }

        #[test]
        fn what_we_compress_decompresses(message in messages(), step in 1_usize..5000, room in 1_usize..5000) {
            let (mut input, mut payload) = (Vec::new(), Vec::new());
            for (message, browser) in &message {
                payload.extend_from_slice(message);
                Encoder { compressed: true, browser: *browser }.message(message, &mut input);
            }
            prop_assert_eq!(read(&mut Decoder::new(false, true), &input, step, room).unwrap().0, payload);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(input in proptest::collection::vec(any::<u8>(), 0..500), compressed: bool) {
            let mut decoder = Decoder::new(true, compressed);
            let mut room = [0; 64];
            let mut at = 0;
            while let Ok(done) = decoder.decode(&input[at..], &mut room) {
                at += done.used;
                if done.used == 0 && done.filled == 0 && done.event.is_none() {
                    break;
                }
            }
            prop_assert!(at <= input.len());
        }
    }
}
