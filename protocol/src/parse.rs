//! Bytes to operations. Form only: what a peer *may* do is decided elsewhere.
//!
//! A parser is called with everything that has arrived and not been used. It answers with an operation and the
//! number of bytes that it took, or with the number of bytes that it needs before it can say more, or with the rule
//! that was broken:
//!
//! ```text
//!   PUB a 5 CR LF h e l l o CR LF PING ...
//!   '-- control --' '-- body ---'
//!        line
//! ```
//!
//! A caller that waits until [`Step::Need`] is satisfied parses a control line twice at most, and a payload never:
//! it is skipped by its length. A wrong byte is found when it arrives, not when its line ends.
//!
//! Grammar (reference 3.1, observed on nats-server 2.15.1): verbs in any case; arguments separated by spaces or
//! tabs; a control line ends with LF, a CR before it is dropped; a payload ends with exactly CR LF.

use crate::error::Rule;
use crate::limits::{Limits, MAX_SIZE_DIGITS};
use crate::op::{ClientOp, Head, LeafOp, LeafSub, Message, Queues, ServerOp, Size, Sub, Unsub};

/// What became of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<Op> {
    /// Nothing can be said before the input has at least this many bytes, counted from its start. Always more than
    /// it has now.
    Need(usize),
    /// An operation, and how many bytes of the input it took.
    Op(Op, usize),
    /// The peer broke a rule. The rest of the input has no meaning.
    Bad(Rule),
}

/// Reads one operation of a client.
pub fn client_op<'a>(input: &'a [u8], limits: &Limits) -> Step<ClientOp<'a>> {
    // PUB first: it is nearly all that a busy server reads.
    if let [p, u, b, b' ', rest @ ..] = input
        && (p | 0x20, u | 0x20, b | 0x20) == (b'p', b'u', b'b')
    {
        return publish(input, rest, limits);
    }
    let Some(&first) = input.first() else { return Step::Need(1) };
    match first | 0x20 {
        b'p' => match input.get(1).map(|b| b | 0x20) {
            None => Step::Need(2),
            Some(b'u') => match verb(input, b"pub", Gap::Needed) {
                Verb::Args(rest) => publish(input, rest, limits),
                Verb::Other(step) => step,
            },
            Some(b'i') => bare(input, b"ping", limits, ClientOp::Ping),
            Some(b'o') => bare(input, b"pong", limits, ClientOp::Pong),
            Some(_) => Step::Bad(Rule::UnknownOperation),
        },
        b'h' => match verb(input, b"hpub", Gap::Needed) {
            Verb::Args(rest) => header_publish(input, rest, limits),
            Verb::Other(step) => step,
        },
        b's' => line(input, b"sub", Gap::Needed, limits, subscribe),
        b'u' => line(input, b"unsub", Gap::Needed, limits, unsubscribe),
        b'c' => line(input, b"connect", Gap::Optional, limits, |arg| Some(ClientOp::Connect(arg))),
        b'i' => line(input, b"info", Gap::Optional, limits, |arg| Some(ClientOp::Info(arg))),
        b'+' => bare(input, b"+ok", limits, ClientOp::Ok),
        b'-' => line(input, b"-err", Gap::Needed, limits, |arg| Some(ClientOp::Err(arg))),
        _ => Step::Bad(Rule::UnknownOperation),
    }
}

/// Reads one operation of a server. `limits` are the reader's own.
pub fn server_op<'a>(input: &'a [u8], limits: &Limits) -> Step<ServerOp<'a>> {
    let Some(&first) = input.first() else { return Step::Need(1) };
    match first | 0x20 {
        b'm' => match verb(input, b"msg", Gap::Needed) {
            Verb::Args(rest) => message(input, rest, limits, false),
            Verb::Other(step) => step,
        },
        b'h' => match verb(input, b"hmsg", Gap::Needed) {
            Verb::Args(rest) => message(input, rest, limits, true),
            Verb::Other(step) => step,
        },
        b'p' => match input.get(1).map(|b| b | 0x20) {
            None => Step::Need(2),
            Some(b'i') => bare(input, b"ping", limits, ServerOp::Ping),
            Some(b'o') => bare(input, b"pong", limits, ServerOp::Pong),
            Some(_) => Step::Bad(Rule::UnknownOperation),
        },
        b'i' => line(input, b"info", Gap::Needed, limits, |arg| Some(ServerOp::Info(arg.trim_ascii_end()))),
        b'+' => bare(input, b"+ok", limits, ServerOp::Ok),
        b'-' => line(input, b"-err", Gap::Needed, limits, |arg| Some(ServerOp::Err(unquoted(arg)))),
        _ => Step::Bad(Rule::UnknownOperation),
    }
}

/// Reads one operation of a server that is a leaf node, or has them. `limits` are the reader's own.
pub fn leaf_op<'a>(input: &'a [u8], limits: &Limits) -> Step<LeafOp<'a>> {
    let Some(&first) = input.first() else { return Step::Need(1) };
    let msg = |verb| match verb {
        Verb::Args(rest) => leaf_message(input, rest, limits, first | 0x20 == b'h'),
        Verb::Other(step) => step,
    };
    match first | 0x20 {
        b'l' => match input.get(1).map(|b| b | 0x20) {
            None => Step::Need(2),
            Some(b'm') => msg(verb(input, b"lmsg", Gap::Needed)),
            Some(b's') => match input.get(2) {
                None => Step::Need(3),
                Some(b'+') => line(input, b"ls+", Gap::Needed, limits, leaf_subscribe),
                Some(b'-') => line(input, b"ls-", Gap::Needed, limits, leaf_unsubscribe),
                Some(_) => Step::Bad(Rule::UnknownOperation),
            },
            Some(_) => Step::Bad(Rule::UnknownOperation),
        },
        b'h' => msg(verb(input, b"hmsg", Gap::Needed)),
        b'p' => match input.get(1).map(|b| b | 0x20) {
            None => Step::Need(2),
            Some(b'i') => bare(input, b"ping", limits, LeafOp::Ping),
            Some(b'o') => bare(input, b"pong", limits, LeafOp::Pong),
            Some(_) => Step::Bad(Rule::UnknownOperation),
        },
        b'c' => line(input, b"connect", Gap::Optional, limits, |arg| Some(LeafOp::Connect(arg))),
        b'i' => line(input, b"info", Gap::Needed, limits, |arg| Some(LeafOp::Info(arg.trim_ascii_end()))),
        b'+' => bare(input, b"+ok", limits, LeafOp::Ok),
        b'-' => line(input, b"-err", Gap::Needed, limits, |arg| Some(LeafOp::Err(unquoted(arg)))),
        _ => Step::Bad(Rule::UnknownOperation),
    }
}

/// The text of -ERR.
fn unquoted(arg: &[u8]) -> &[u8] {
    let text = arg.trim_ascii();
    text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'")).unwrap_or(text)
}

/// Whether white space must stand between a verb and its argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    Needed,
    Optional,
}

enum Verb<'a, Op> {
    /// What follows the verb.
    Args(&'a [u8]),
    Other(Step<Op>),
}

/// Checks that `input` begins with `verb` (lower case), as far as it goes.
fn verb<'a, Op>(input: &'a [u8], verb: &[u8], gap: Gap) -> Verb<'a, Op> {
    let unknown = Verb::Other(Step::Bad(Rule::UnknownOperation));
    if !input.iter().zip(verb).all(|(a, b)| a.to_ascii_lowercase() == *b) {
        return unknown;
    }
    match input.get(verb.len()..) {
        None | Some([]) => Verb::Other(Step::Need(input.len().saturating_add(1))),
        Some([b' ' | b'\t', rest @ ..]) => Verb::Args(rest),
        Some(rest) if gap == Gap::Optional => Verb::Args(rest),
        Some(_) => unknown,
    }
}

/// A verb without arguments. Whatever stands before the end of its line is ignored, as nats-server does.
fn bare<Op>(input: &[u8], name: &[u8], limits: &Limits, op: Op) -> Step<Op> {
    // What is thrown away anyway has a ceiling of its own, however low the one for arguments is.
    let max_control_line = limits.max_control_line.max(crate::limits::MAX_CONTROL_LINE);
    let limits = Limits { max_control_line, ..*limits };
    match verb(input, name, Gap::Optional) {
        Verb::Other(step) => step,
        Verb::Args(rest) => match control_line(input, rest, &limits) {
            Line::Whole(_, used) => Step::Op(op, used),
            Line::Need(total) => Step::Need(total),
            Line::TooLong => Step::Bad(Rule::ControlLine),
        },
    }
}

/// A verb whose operation is one control line.
fn line<'a, Op>(
    input: &'a [u8],
    name: &[u8],
    gap: Gap,
    limits: &Limits,
    read: impl FnOnce(&'a [u8]) -> Option<Op>,
) -> Step<Op> {
    match verb(input, name, gap) {
        Verb::Other(step) => step,
        Verb::Args(rest) => match control_line(input, rest, limits) {
            Line::Whole(arg, used) => read(arg).map_or(Step::Bad(Rule::Arguments), |op| Step::Op(op, used)),
            Line::Need(total) => Step::Need(total),
            Line::TooLong => Step::Bad(Rule::ControlLine),
        },
    }
}

enum Line<'a> {
    /// The argument without the white space around it, and the length of the whole line with its end.
    Whole(&'a [u8], usize),
    Need(usize),
    TooLong,
}

/// Finds the end of the control line; `rest` is the part of `input` behind the verb.
fn control_line<'a>(input: &'a [u8], rest: &'a [u8], limits: &Limits) -> Line<'a> {
    let mut arg = rest;
    while let [b' ' | b'\t', tail @ ..] = arg {
        arg = tail;
    }
    let before = input.len().saturating_sub(arg.len());
    let max = limits.max_control_line as usize;
    let end = arg.iter().position(|b| *b == b'\n');
    // The CR counts for nobody: neither for the limit nor for the argument.
    let text = end.and_then(|end| arg.get(..end)).unwrap_or(arg);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.len() > max {
        return Line::TooLong;
    }
    match end {
        Some(end) => Line::Whole(text, before.saturating_add(end).saturating_add(1)),
        None => Line::Need(input.len().saturating_add(1)),
    }
}

/// Up to `N` arguments, separated as `PUB` does (`\r` is part of an argument). `None` if there are more.
fn split<const N: usize>(arg: &[u8], is_gap: impl Fn(u8) -> bool) -> Option<([&[u8]; N], usize)> {
    let mut args = [[].as_slice(); N];
    let mut count = 0usize;
    for word in arg.split(|b| is_gap(*b)).filter(|word| !word.is_empty()) {
        *args.get_mut(count)? = word;
        count = count.saturating_add(1);
    }
    Some((args, count))
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_blank_or_line_end(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn subscribe(arg: &[u8]) -> Option<ClientOp<'_>> {
    let sub = match split::<3>(arg, is_blank_or_line_end)? {
        ([subject, sid, _], 2) => Sub { subject, queue: None, sid },
        ([subject, queue, sid], 3) => Sub { subject, queue: Some(queue), sid },
        _ => return None,
    };
    Some(ClientOp::Sub(sub))
}

fn unsubscribe(arg: &[u8]) -> Option<ClientOp<'_>> {
    let unsub = match split::<2>(arg, is_blank_or_line_end)? {
        ([sid, _], 1) => Unsub { sid, max: None },
        // A maximum that isn't a number ends the subscription now, as nats-server does.
        ([sid, max], 2) => Unsub { sid, max: size(max).map(|max| max.value) },
        _ => return None,
    };
    Some(ClientOp::Unsub(unsub))
}

fn publish<'a>(input: &'a [u8], rest: &'a [u8], limits: &Limits) -> Step<ClientOp<'a>> {
    with_body(input, rest, limits, |arg| {
        let (subject, reply, total) = match split::<3>(arg, is_blank)? {
            ([subject, total, _], 2) => (subject, None, total),
            ([subject, reply, total], 3) => (subject, Some(reply), total),
            _ => return None,
        };
        Some(Head { sid: &[], subject, reply, header_size: None, size: size(total)? })
    })
    .map_op(|_, message| ClientOp::Pub(message))
}

fn header_publish<'a>(input: &'a [u8], rest: &'a [u8], limits: &Limits) -> Step<ClientOp<'a>> {
    if !limits.headers {
        // Known only once the line is there: nats-server reads it before it looks.
        return match control_line(input, rest, limits) {
            Line::Whole(..) => Step::Bad(Rule::Headers),
            Line::Need(total) => Step::Need(total),
            Line::TooLong => Step::Bad(Rule::ControlLine),
        };
    }
    with_body(input, rest, limits, |arg| {
        let (subject, reply, head, total) = match split::<4>(arg, is_blank)? {
            ([subject, head, total, _], 3) => (subject, None, head, total),
            ([subject, reply, head, total], 4) => (subject, Some(reply), head, total),
            _ => return None,
        };
        Some(Head { sid: &[], subject, reply, header_size: Some(size(head)?), size: size(total)? })
    })
    .map_op(|_, message| ClientOp::Pub(message))
}

fn message<'a>(input: &'a [u8], rest: &'a [u8], limits: &Limits, with_header: bool) -> Step<ServerOp<'a>> {
    with_body(input, rest, limits, |arg| message_head(arg, with_header))
        .map_op(|sid, message| ServerOp::Msg { sid, message })
}

fn leaf_subscribe(arg: &[u8]) -> Option<LeafOp<'_>> {
    let sub = match split::<3>(arg, is_blank_or_line_end)? {
        ([subject, ..], 1) => LeafSub { subject, queue: None },
        // A weight that isn't a number counts as one, and so does none.
        ([subject, queue, weight], 3) => {
            let weight = size(weight).map_or(1, |weight| weight.value.max(1));
            LeafSub { subject, queue: Some((queue, weight)) }
        }
        _ => return None,
    };
    Some(LeafOp::Sub(sub))
}

fn leaf_unsubscribe(arg: &[u8]) -> Option<LeafOp<'_>> {
    match split::<2>(arg, is_blank_or_line_end)? {
        ([subject, _], 1) => Some(LeafOp::Unsub { subject, queue: None }),
        ([subject, queue], 2) => Some(LeafOp::Unsub { subject, queue: Some(queue) }),
        _ => None,
    }
}

fn leaf_message<'a>(input: &'a [u8], rest: &'a [u8], limits: &Limits, with_header: bool) -> Step<LeafOp<'a>> {
    with_body(input, rest, limits, |arg| leaf_head(arg, with_header))
        .map_op(|queues, message| LeafOp::Msg { queues: Queues(queues), message })
}

/// `subject [reply] [header size] size`, or with queue groups `subject | queue… …` or `subject + reply queue… …`. The
/// groups stand in the place of the sid.
fn leaf_head(arg: &[u8], with_header: bool) -> Option<Head<'_>> {
    let (rest, total) = last_word(arg)?;
    let total = size(total)?;
    let (rest, header_size) = if with_header {
        let (rest, header) = last_word(rest)?;
        (rest, Some(size(header)?))
    } else {
        (rest, None)
    };
    let (subject, rest) = first_word(rest)?;
    let (reply, queues) = match first_word(rest) {
        None => (None, &[][..]),
        Some((reply, rest)) => match (reply, first_word(rest)) {
            (reply, None) => (Some(reply), &[][..]),
            (b"|", Some(_)) => (None, rest),
            (b"+", Some((reply, queues))) if first_word(queues).is_some() => (Some(reply), queues),
            _ => return None,
        },
    };
    Some(Head { sid: queues.trim_ascii(), subject, reply, header_size, size: total })
}

/// The first word, and what follows it.
fn first_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| is_blank(*byte)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(word, _)| !word.is_empty())
}

/// What stands before the last word, and the last word.
fn last_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_end();
    let start = text.iter().rposition(|byte| is_blank(*byte)).map_or(0, |at| at.saturating_add(1));
    text.split_at_checked(start).filter(|(_, word)| !word.is_empty())
}

fn message_head(arg: &[u8], with_header: bool) -> Option<Head<'_>> {
    let (args, mut count) = split::<5>(arg, is_blank)?;
    let mut next_back = || {
        count = count.checked_sub(1)?;
        args.get(count).copied()
    };
    let total = size(next_back()?)?;
    let header_size = if with_header { Some(size(next_back()?)?) } else { None };
    let (subject, sid, reply) = match (args, count) {
        ([subject, sid, ..], 2) => (subject, sid, None),
        ([subject, sid, reply, ..], 3) => (subject, sid, Some(reply)),
        _ => return None,
    };
    if header_size.is_some_and(|header| header.value > total.value) {
        return None;
    }
    Some(Head { sid, subject, reply, header_size, size: total })
}

/// Reads a control line that announces a body, and the body.
fn with_body<'a>(
    input: &'a [u8],
    rest: &'a [u8],
    limits: &Limits,
    head: impl FnOnce(&'a [u8]) -> Option<Head<'a>>,
) -> Step<(&'a [u8], Message<'a>)> {
    let (arg, line) = match control_line(input, rest, limits) {
        Line::Whole(arg, line) => (arg, line),
        Line::Need(total) => return Step::Need(total),
        Line::TooLong => return Step::Bad(Rule::ControlLine),
    };
    let Some(Head { sid, subject, reply, header_size, size }) = head(arg) else {
        return Step::Bad(Rule::Arguments);
    };
    if header_size.is_some_and(|header| header.value > size.value) {
        return Step::Bad(Rule::Arguments);
    }
    if size.value > limits.max_payload {
        return Step::Bad(Rule::Payload { size: size.value });
    }
    let payload_end = line.saturating_add(size.value as usize);
    match input.get(payload_end..) {
        Some([b'\r', b'\n', ..]) => {}
        Some([b'\r']) => return Step::Need(payload_end.saturating_add(2)),
        None | Some([]) => return Step::Need(payload_end.saturating_add(1)),
        Some(_) => return Step::Bad(Rule::UnknownOperation),
    }
    let used = payload_end.saturating_add(2);
    let body = input.get(line..used).unwrap_or_default();
    Step::Op((sid, Message { subject, reply, header_size, size, body }), used)
}

impl<'a> Step<(&'a [u8], Message<'a>)> {
    fn map_op<Op>(self, make: impl FnOnce(&'a [u8], Message<'a>) -> Op) -> Step<Op> {
        match self {
            Step::Op((sid, message), used) => Step::Op(make(sid, message), used),
            Step::Need(total) => Step::Need(total),
            Step::Bad(rule) => Step::Bad(rule),
        }
    }
}

/// Decimal digits, [`MAX_SIZE_DIGITS`] at most.
fn size(text: &[u8]) -> Option<Size<'_>> {
    if text.is_empty() || text.len() > MAX_SIZE_DIGITS {
        return None;
    }
    let mut value = 0u32;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u32::from(digit))?;
    }
    Some(Size { value, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const LIMITS: Limits = Limits { max_control_line: 64, max_payload: 100, headers: true };

    /// Reads `input` as a connection would when it arrives in pieces of `piece` bytes, and notes what it read.
    fn read(input: &[u8], piece: usize) -> Vec<std::string::String> {
        let (mut seen, mut out, mut used, mut need) = (0, Vec::new(), 0, 1);
        while seen < input.len() {
            seen = (seen + piece).min(input.len());
            while seen - used >= need {
                match client_op(&input[used..seen], &LIMITS) {
                    Step::Need(total) => {
                        assert!(total > seen - used, "asks for no more than it has");
                        need = total;
                    }
                    Step::Op(op, n) => {
                        out.push(std::format!("{op:?}"));
                        used += n;
                        need = 1;
                    }
                    Step::Bad(rule) => {
                        out.push(std::format!("{rule:?}"));
                        return out;
                    }
                }
            }
        }
        out
    }

    #[test]
    fn pieces_make_no_difference() {
        let input = b"CONNECT {\"verbose\":false}\r\nPING\r\nsub a.* q 1\nSUB b\t2\r\nPUB a.b 5\r\nhello\r\n\
            HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPUB a _R 0\r\n\r\nUNSUB 1 3\r\nunsub 2\r\npong\r\n+OK\r\nINFO {}\r\n-ERR 'x'\r\n";
        let whole = read(input, input.len());
        assert_eq!(whole.len(), 13);
        for piece in 1..input.len() {
            assert_eq!(read(input, piece), whole, "pieces of {piece}");
        }
    }

    #[test]
    fn messages() {
        let Step::Op(ClientOp::Pub(m), used) =
            client_op(b"HPUB  a.b\tr 12  0014 \r\nNATS/1.0\r\n\r\nhi\r\nPING", &LIMITS)
        else {
            panic!()
        };
        assert_eq!(
            (m.subject, m.reply, m.header(), m.payload()),
            (&b"a.b"[..], Some(&b"r"[..]), &b"NATS/1.0\r\n\r\n"[..], &b"hi"[..])
        );
        assert_eq!((m.size.text, m.payload_crlf(), used), (&b"0014"[..], &b"hi\r\n"[..], 39));

        let Step::Op(ServerOp::Msg { sid, message: m }, _) = server_op(b"MSG a 1 r 2\r\nhi\r\n", &LIMITS)
        else {
            panic!()
        };
        assert_eq!((sid, m.reply, m.payload()), (&b"1"[..], Some(&b"r"[..]), &b"hi"[..]));
        let Step::Op(ServerOp::Msg { sid, message: m }, _) =
            server_op(b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", &LIMITS)
        else {
            panic!()
        };
        assert_eq!((sid, m.reply, m.header().len(), m.payload()), (&b"1"[..], None, 12, &b"hi"[..]));
        assert_eq!(
            server_op(b"-ERR 'Stale Connection'\r\n", &LIMITS),
            Step::Op(ServerOp::Err(b"Stale Connection"), 25)
        );
        assert_eq!(server_op(b"INFO {} \r\n", &LIMITS), Step::Op(ServerOp::Info(b"{}"), 10));
    }

    #[test]
    fn wrong_bytes_are_found_when_they_arrive() {
        for (input, rule) in [
            (&b"B"[..], Rule::UnknownOperation),
            (b"\r\n", Rule::UnknownOperation),
            (b"PX", Rule::UnknownOperation),
            (b"PUBX", Rule::UnknownOperation),
            (b"PUB\r", Rule::UnknownOperation),
            (b"SUBS", Rule::UnknownOperation),
            (b"MSG", Rule::UnknownOperation),
            (b"RS+ a b\r\n", Rule::UnknownOperation),
            (b"PUB a 2\r\nhix", Rule::UnknownOperation),
            (b"PUB a 2\r\nhi\n", Rule::UnknownOperation),
            (b"PUB a 2\r\nhi\rx", Rule::UnknownOperation),
            (b"PUB a\r\n", Rule::Arguments),
            (b"PUB a b c 1\r\n", Rule::Arguments),
            (b"PUB a abc\r\n", Rule::Arguments),
            (b"PUB a -1\r\n", Rule::Arguments),
            (b"PUB a 1234567890\r\n", Rule::Arguments),
            (b"PUB a 101\r\n", Rule::Payload { size: 101 }),
            (b"HPUB a 12 3\r\n", Rule::Arguments),
            (b"HPUB a 12\r\n", Rule::Arguments),
            (b"SUB a\r\n", Rule::Arguments),
            (b"SUB a b c d\r\n", Rule::Arguments),
            (b"UNSUB \r\n", Rule::Arguments),
            (b"UNSUB 1 2 3\r\n", Rule::Arguments),
        ] {
            assert_eq!(client_op(input, &LIMITS), Step::Bad(rule), "{:?}", core::str::from_utf8(input));
        }
        let no_headers = Limits { headers: false, ..LIMITS };
        assert_eq!(client_op(b"HPUB a 12 14\r\n", &no_headers), Step::Bad(Rule::Headers));
    }

    fn leaf(input: &[u8]) -> std::string::String {
        let text = |bytes: &[u8]| std::string::String::from_utf8_lossy(bytes).into_owned();
        match leaf_op(input, &LIMITS) {
            Step::Op(op, used) => {
                assert_eq!(used, input.len(), "{}", text(input));
                match op {
                    LeafOp::Sub(LeafSub { subject, queue }) => std::format!(
                        "+ {} {:?}",
                        text(subject),
                        queue.map(|(queue, weight)| (text(queue), weight))
                    ),
                    LeafOp::Unsub { subject, queue } => {
                        std::format!("- {} {:?}", text(subject), queue.map(text))
                    }
                    LeafOp::Msg { queues, message } => std::format!(
                        "{} {:?} {:?} {:?} {:?}",
                        text(message.subject),
                        message.reply.map(text),
                        queues.iter().map(text).collect::<Vec<_>>(),
                        text(message.header()),
                        text(message.payload()),
                    ),
                    op => std::format!("{op:?}"),
                }
            }
            step => std::format!("{step:?}"),
        }
    }

    #[test]
    fn what_leaf_nodes_say() {
        for (input, read) in [
            ("LS+ a.>\r\n", "+ a.> None"),
            ("ls+ a q 3\r\n", "+ a Some((\"q\", 3))"),
            ("LS+ a q x\r\n", "+ a Some((\"q\", 1))"),
            ("LS- a\r\n", "- a None"),
            ("LS- a q\r\n", "- a Some(\"q\")"),
            ("LMSG a 2\r\nhi\r\n", "a None [] \"\" \"hi\""),
            ("LMSG a r 2\r\nhi\r\n", "a Some(\"r\") [] \"\" \"hi\""),
            ("LMSG a | q 2\r\nhi\r\n", "a None [\"q\"] \"\" \"hi\""),
            ("LMSG  a | q1  q2 0\r\n\r\n", "a None [\"q1\", \"q2\"] \"\" \"\""),
            ("LMSG a + r q1 q2 2\r\nhi\r\n", "a Some(\"r\") [\"q1\", \"q2\"] \"\" \"hi\""),
            ("HMSG a 2 4\r\nhdhi\r\n", "a None [] \"hd\" \"hi\""),
            ("HMSG a r 2 4\r\nhdhi\r\n", "a Some(\"r\") [] \"hd\" \"hi\""),
            ("HMSG a + r q 2 4\r\nhdhi\r\n", "a Some(\"r\") [\"q\"] \"hd\" \"hi\""),
            ("PING\r\n", "Ping"),
            ("pong\r\n", "Pong"),
        ] {
            assert_eq!(leaf(input.as_bytes()), read, "{input:?}");
        }
        assert_eq!(leaf_op(b"-ERR 'gone'\r\n", &LIMITS), Step::Op(LeafOp::Err(b"gone"), 13));
        assert_eq!(leaf_op(b"INFO {} \r\n", &LIMITS), Step::Op(LeafOp::Info(b"{}"), 10));
    }

    #[test]
    fn what_leaf_nodes_may_not_say() {
        for input in [
            "LS+ a q\r\n",
            "LS+ a q 1 2\r\n",
            "LS+ \r\n",
            "LS- a b c\r\n",
            "LMSG a\r\n",
            "LMSG 2\r\n",
            "LMSG a b c 2\r\nhi\r\n",
            "LMSG a + r 2\r\nhi\r\n",
            "LMSG a r -1\r\n",
            "HMSG a 2\r\n",
            "HMSG a 4 2\r\n",
        ] {
            assert_eq!(leaf_op(input.as_bytes(), &LIMITS), Step::Bad(Rule::Arguments), "{input:?}");
        }
        for input in ["SUB a 1\r\n", "PUB a 0\r\n\r\n", "MSG a 1 0\r\n\r\n", "LX", "LS=", "LMSGS a"] {
            assert_eq!(leaf_op(input.as_bytes(), &LIMITS), Step::Bad(Rule::UnknownOperation), "{input:?}");
        }
        assert_eq!(leaf_op(b"LMSG a 101\r\n", &LIMITS), Step::Bad(Rule::Payload { size: 101 }));
        for input in ["", "L", "LS", "LS+", "LS+ a", "LMSG a 2\r\nh"] {
            assert!(matches!(leaf_op(input.as_bytes(), &LIMITS), Step::Need(_)), "{input:?}");
        }
    }

    #[test]
    fn control_lines_are_bounded() {
        for length in [64, 65] {
            let mut input = b"SUB ".to_vec();
            input.resize(4 + length, b'a');
            let partial = client_op(&input, &LIMITS);
            assert_eq!(partial == Step::Bad(Rule::ControlLine), length == 65, "partial line of {length}");
        }
        let mut input = b"SUB a ".to_vec();
        input.resize(4 + 64, b'1');
        input.extend_from_slice(b"\r\n");
        assert!(matches!(client_op(&input, &LIMITS), Step::Op(ClientOp::Sub(_), 70)));
    }

    #[test]
    fn a_payload_is_waited_for_not_scanned() {
        assert_eq!(client_op(b"PUB a 50\r\n", &LIMITS), Step::Need(61));
        assert_eq!(client_op(b"PUB a 2\r\nhi\r", &LIMITS), Step::Need(13));
    }
}
